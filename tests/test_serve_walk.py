"""The walk through a network that `xpnet serve` shows: its numbers against the model's own, and against differences."""

from __future__ import annotations

import json
import math
import threading

import numpy as np
import pytest

from xpnet import nn
from xpnet.nn import Layer

pytest.importorskip("fastapi", reason="the extra `web` is not installed")
pytest.importorskip("httpx2", reason="FastAPI's test client needs it")

from fastapi.testclient import TestClient
from small_server import pixels, reader

from xpnet.serve import maps, question, walk, walk_routes
from xpnet.serve.app import create_app
from xpnet.serve.reader import QuestionError
from xpnet.serve.unit import at_unit
from xpnet.serve.walk import at_layer, overview

TARGET = 4
SHARED = nn.Linear(12)
NETWORKS = {
    "mlp": (nn.Standardize(33.0, 79.0), nn.mlp([784, 16, 10])),
    "cnn": (nn.Standardize(33.0, 79.0), nn.cnn((28, 28), 10, channels=(3, 4), hidden=8, dropout=0.5)),
    "resnet": (nn.Standardize(33.0, 79.0), nn.resnet((28, 28), 10, depth=8, width=2)),
    "parallel": (
        nn.Reshape(28, 28, 1),
        nn.Conv2d(2, 5, stride=4),
        nn.Parallel(nn.Sequential(nn.Conv2d(3, 3, padding="same"), nn.ReLU()), nn.Dropout(0.5), nn.Conv2d(2, 1)),
        nn.Flatten(),
        nn.Linear(10),
    ),
    "one layer used twice": (nn.Flatten(), nn.Linear(12), SHARED, nn.ReLU(), SHARED, nn.Linear(10)),
}


@pytest.fixture(params=NETWORKS)
def served(request):
    layers = [layer.copy() for layer in nn.Sequential(*NETWORKS[request.param]).copy().layers]
    if request.param == "one layer used twice":
        layers[4] = layers[2]
    about = reader(*layers, shape=(784,) if request.param == "mlp" else (28, 28))
    rng = np.random.default_rng(3)
    for name, p in about.model.parameters.items():  # a BatchNorm that has seen something, and biases that are not 0
        if p.data.ndim == 1:
            p.data[...] = rng.uniform(0.5, 1.5, p.shape) if "var" in name else rng.normal(0, 0.3, p.shape)
    return about


@pytest.fixture(scope="module")
def client():
    with TestClient(create_app(reader(), "tiny"), "http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


def loss_of(model, target=TARGET, image=None):
    image = np.array(pixels(), np.float64) if image is None else image
    return -np.log(model.probabilities(image.reshape(1, *model.input_shape))[0, target])


def slope(of, array, at, step=1e-5):
    """The central difference of `of()` by array[at]."""
    old = array[at]
    array[at] = old + step
    high = of()
    array[at] = old - step
    low = of()
    array[at] = old
    return (high - low) / (2 * step)


def some_units(about, number, count=3):
    shape = at_layer(about, pixels(), number)["values"]["shape"]
    rng = np.random.default_rng(number)
    return [[int(rng.integers(n)) for n in shape] for _ in range(count)]


def total(parts):
    return parts["bias"] + sum(term["product"] for term in parts["terms"]) + parts["rest"]


# The numbers --------------------------------------------------------------------------------------------------


def test_the_way_is_all_layers_in_order_up_to_what_the_model_answers(served):
    whole, model = overview(served, pixels(), TARGET), served.model
    kinds = [type(layer).__name__ for _, layer in model.network.walk() if not any(layer.children())]
    paths = [s["path"] for s in whole["stations"]]
    assert sorted(s["kind"] for s in whole["stations"] if s["kind"] not in ("Residual", "Parallel")) == sorted(kinds)
    assert paths[0] == "layers.0"
    assert whole["stations"][0]["sources"] == [walk.IMAGE]
    image = np.array(pixels(), np.float64).reshape(1, *model.input_shape)
    np.testing.assert_allclose(whole["outputs"], model.predict(image)[0], rtol=1e-5)
    np.testing.assert_allclose(whole["probabilities"], model.probabilities(image)[0], rtol=1e-4)
    assert whole["loss"] == pytest.approx(loss_of(model), rel=1e-5)
    assert (whole["target"], whole["answer"]) == (TARGET, int(np.argmax(whole["outputs"])))
    last = at_layer(served, pixels(), len(paths) - 1, TARGET)
    assert last["values"]["numbers"] == [[whole["outputs"]]]
    difference = np.array(whole["probabilities"]) - (np.arange(10) == TARGET)
    np.testing.assert_allclose(last["gradient"]["numbers"][0][0], difference, atol=1e-5)


def test_every_number_is_the_sum_of_what_is_said_of_it(served):
    n_several = 0
    for number in range(len(overview(served, pixels())["stations"])):
        for unit in some_units(served, number):
            found = at_unit(served, pixels(), number, unit, TARGET)
            parts = found["forward"]
            assert parts["exact"]
            size = 1 + abs(parts["rest"]) + sum(abs(term["product"]) for term in parts["terms"])
            assert total(parts) == pytest.approx(found["value"], rel=1e-5, abs=3e-6 * size)
            products = [term["number"] * term["weight"] for term in parts["terms"]]
            assert products == pytest.approx([term["product"] for term in parts["terms"]], rel=1e-4)
            n_several += parts["n_terms"] > len(parts["terms"]) and parts["rest"] != 0
            others = parts["n_terms"] - len(parts["terms"])
            assert len(parts["terms"]) <= 12
            smallest = min((abs(term["product"]) for term in parts["terms"]), default=0)
            assert abs(parts["rest"]) <= others * smallest + 3e-6 * size
    assert n_several >= 2


def test_every_gradient_is_the_sum_of_those_that_it_comes_from(served):
    stations = overview(served, pixels(), TARGET)["stations"]
    exact = 0
    for number in range(len(stations) - 1):
        for unit in some_units(served, number):
            found = at_unit(served, pixels(), number, unit, TARGET)
            parts = found["backward"]
            if parts["exact"]:
                exact += 1
                assert total(parts) == pytest.approx(found["gradient"], rel=1e-4, abs=1e-7)
            else:
                assert stations[number + 1]["kind"] == "MaxPool2d"  # a step can make another one the largest
    assert exact > 2 * len(stations)


def test_the_numbers_of_a_layer_are_those_at_their_places(served):
    for number in range(len(overview(served, pixels())["stations"])):
        whole = at_layer(served, pixels(), number, TARGET)
        for unit in some_units(served, number, 1):
            found = at_unit(served, pixels(), number, unit, TARGET)
            m, row, column = unit
            assert whole["values"]["numbers"][m][row][column] == found["value"]
            assert whole["gradient"]["numbers"][m][row][column] == found["gradient"]


def test_the_gradient_by_the_image_is_a_difference_of_losses(served):
    gradient = np.array(overview(served, pixels(), TARGET)["gradient"]["numbers"][0])
    image = np.array(pixels(), np.float64)
    for at in ((3, 5), (14, 14), (20, 9)):
        found = 255 * slope(lambda: loss_of(served.model, image=image), image, at, 1e-4)
        assert gradient[at] == pytest.approx(found, rel=1e-3, abs=1e-7)


def test_the_gradients_of_weights_and_outputs_are_differences_of_losses():
    about = reader(nn.Standardize(33.0, 79.0), nn.Flatten(), nn.Linear(12), nn.Tanh(), nn.Linear(10))
    linear = about.model.network.layers[2]
    of = lambda: loss_of(about.model)
    found = at_unit(about, pixels(), 2, [0, 0, 5], TARGET)
    assert found["gradient"] == pytest.approx(slope(of, linear.b.data, 5), rel=1e-4)
    for row, column in ((2, 3), (14, 14)):
        difference = slope(of, linear.W.data, (28 * row + column, 5))
        assert found["weights_gradient"]["numbers"][0][row][column] == pytest.approx(difference, rel=1e-4)
    steep = found["steepest"][0]
    _, row, column = steep["place"]
    assert steep["gradient"] == found["weights_gradient"]["numbers"][0][row][column]
    assert steep["weight"] == found["weights"]["numbers"][0][row][column]
    assert abs(steep["gradient"]) == np.abs(found["weights_gradient"]["numbers"]).max()


def test_the_gradient_is_of_the_class_that_is_asked_for(client):
    ask = lambda **more: client.post("/api/walk", json={"pixels": pixels(), **more}).json()
    assert ask(target=4)["gradient"] != ask(target=5)["gradient"]
    assert ask()["target"] == ask()["answer"]
    assert ask(target=4)["loss"] == pytest.approx(-np.log(ask()["probabilities"][4]), rel=1e-4)


@pytest.mark.parametrize("last", [nn.Softmax, nn.Sigmoid])
def test_the_probabilities_of_a_network_that_gives_them_are_its_own(last):
    about = reader(nn.Standardize(33.0, 79.0), nn.Flatten(), nn.Linear(12), nn.Tanh(), nn.Linear(10), last())
    p = about.model.predict(np.array([pixels()]))[0]
    whole = overview(about, pixels(), TARGET)
    np.testing.assert_allclose(whole["probabilities"], p, rtol=1e-5)
    assert whole["probabilities"] == whole["outputs"]  # as the page tells such a network from others
    assert whole["loss"] == pytest.approx(-np.log(p[TARGET]), rel=1e-5)
    np.testing.assert_allclose(about.explain(pixels())["probabilities"], p, atol=1e-5)
    bias = about.model.network.layers[4].b.data
    for place in (TARGET, 7):
        difference = slope(lambda: -np.log(about.model.predict(np.array([pixels()]))[0, TARGET]), bias, place)
        assert at_unit(about, pixels(), 4, [0, 0, place], TARGET)["gradient"] == pytest.approx(difference, abs=1e-5)


def test_the_loss_of_a_probability_of_0_is_a_number():
    about = reader(nn.Flatten(), nn.Linear(10), nn.Softmax())
    about.model.network.layers[1].b.data[TARGET] = -1e5
    whole = overview(about, pixels(), TARGET)
    assert whole["probabilities"][TARGET] == 0
    assert np.isfinite([whole["loss"], *(station["gradient_rms"] for station in whole["stations"])]).all()


def test_the_weights_behind_a_unit_are_a_map_where_its_input_is_the_image():
    about = reader(*NETWORKS["mlp"], shape=(784,))
    W = about.model.parameters["layers.1.layers.0.W"].data
    found = at_unit(about, pixels(), 1, [0, 0, 7])
    np.testing.assert_allclose(found["weights"]["numbers"][0], W[:, 7].reshape(28, 28), rtol=1e-5)
    np.testing.assert_allclose(found["inputs"]["numbers"][0], (np.array(pixels()) - 33) / 79, rtol=1e-4, atol=1e-5)
    assert at_unit(about, pixels(), 3, [0, 0, 7])["weights"]["shape"] == [1, 1, 16]


def test_the_weights_behind_a_feature_map_are_its_kernels():
    convolutions = nn.Conv2d(3, 5), nn.Conv2d(4, 3)
    about = reader(nn.Standardize(33.0, 79.0), nn.Reshape(28, 28, 1), *convolutions, nn.Flatten(), nn.Linear(10))
    W = about.model.network.layers[3].W.data
    found = at_unit(about, pixels(), 3, [2, 6, 9])
    np.testing.assert_allclose(found["weights"]["numbers"], W[..., 2].transpose(2, 0, 1), rtol=1e-5)
    before = np.array(at_layer(about, pixels(), 2)["values"]["numbers"])
    np.testing.assert_allclose(found["inputs"]["numbers"], before[:, 6:9, 9:12], rtol=1e-5)
    dense = at_unit(about, pixels(), 5, [0, 0, 1])
    assert dense["weights"]["shape"] == [4, 22, 22]  # as the maps that were flattened


def test_a_value_that_is_no_weighted_sum_is_marked_as_not_exact():
    tanh = at_unit(reader(), pixels(), 3, [0, 0, 0])
    assert not tanh["forward"]["exact"]
    assert tanh["value"] == pytest.approx(np.tanh(tanh["before"]), rel=1e-5)
    [term] = tanh["forward"]["terms"]
    assert term["weight"] == pytest.approx(1 - tanh["value"] ** 2, rel=1e-4)


def test_a_shortcut_is_a_source_of_the_sum():
    about = reader(*NETWORKS["resnet"])
    stations = overview(about, pixels())["stations"]
    sums = [i for i, s in enumerate(stations) if s["kind"] == "Residual"]
    plain = next(i for i in sums if i - min(stations[i]["sources"]) > 4)
    assert stations[plain]["sources"] == [plain - 1, plain - 6]
    terms = at_unit(about, pixels(), plain, [1, 2, 3])["forward"]["terms"]
    assert sorted(term["layer"] for term in terms) == sorted(stations[plain]["sources"])
    assert all(term["place"] == [1, 2, 3] for term in terms)
    before = [at_layer(about, pixels(), t["layer"])["values"]["numbers"][1][2][3] for t in terms]
    assert before == pytest.approx([t["number"] for t in terms], abs=1e-5)


def test_what_is_joined_comes_from_the_end_of_each_branch():
    """In the order of the branches, one of which gives what it is given."""
    about = reader(*NETWORKS["parallel"])
    stations = overview(about, pixels())["stations"]
    kinds = ["Reshape", "Conv2d", "Conv2d", "ReLU", "Dropout", "Conv2d", "Parallel", "Flatten", "Linear"]
    assert [s["kind"] for s in stations] == kinds
    assert [s["sources"] for s in stations] == [[-1], [0], [1], [2], [1], [1], [3, 4, 5], [6], [7]]
    for channel, source, before in [(0, 3, 0), (2, 3, 2), (3, 4, 0), (4, 4, 1), (5, 5, 0), (6, 5, 1)]:
        found = at_unit(about, pixels(), 6, [channel, 2, 3])
        [term] = found["forward"]["terms"]
        assert (term["layer"], term["place"], term["weight"]) == (source, [before, 2, 3], 1)
        assert term["number"] == found["value"]
    assert {term["layer"] for term in at_unit(about, pixels(), 1, [1, 2, 3], TARGET)["backward"]["terms"]} == {2, 4, 5}
    [term] = at_unit(about, pixels(), 4, [1, 2, 3], TARGET)["backward"]["terms"]
    assert (term["layer"], term["place"]) == (6, [4, 2, 3])


def test_a_branch_may_be_used_elsewhere_too():
    shared = nn.Linear(12)
    join = nn.Parallel(shared, nn.ReLU())
    about = reader(nn.Flatten(), nn.Linear(12), shared, join, nn.Linear(12), shared, nn.Linear(10))
    stations = overview(about, pixels())["stations"]
    assert [s["sources"] for s in stations] == [[-1], [0], [1], [2], [2], [3, 4], [5], [6], [7]]


class Doubled(Layer):
    """Computes something between its two layers. The first gives its input on."""

    def __init__(self):
        self.first, self.last = nn.Dropout(0.5), nn.Linear(12)

    def build(self, shape):
        return self.last.built(self.first.built(shape))

    def forward(self, x, backend):
        y, backward_first = self.first(x, backend)
        y, backward_last = self.last(2 * y, backend)
        return y, lambda dy, need_dx=True: backward_first(2 * backward_last(dy))


def test_a_layer_that_computes_between_its_layers_is_one_station():
    """Its first layer gives on what the other branch takes too."""
    about = reader(nn.Flatten(), nn.Linear(12), nn.Parallel(Doubled(), nn.Linear(5)), nn.Linear(10))
    stations = overview(about, pixels(), TARGET)["stations"]
    assert [s["kind"] for s in stations] == ["Flatten", "Linear", "Doubled", "Linear", "Parallel", "Linear"]
    assert [s["sources"] for s in stations] == [[-1], [0], [1], [1], [2, 3], [4]]
    assert [p["name"] for p in stations[2]["parameters"]] == ["last.W", "last.b"]
    assert all(p["gradient_rms"] > 0 for p in stations[2]["parameters"])
    found = at_unit(about, pixels(), 2, [0, 0, 7], TARGET)
    assert found["forward"]["exact"]
    assert found["forward"]["n_terms"] == 12
    assert found["forward"]["terms"][0]["layer"] == 1
    whole = at_unit(about, pixels(), 1, [0, 0, 7], TARGET)
    assert {term["layer"] for term in whole["backward"]["terms"]} == {2, 3}
    assert total(whole["backward"]) == pytest.approx(whole["gradient"], rel=1e-4)


def test_attention_is_one_station_and_shows_what_it_reads():
    layers = (
        nn.Standardize(33.0, 79.0),
        nn.Residual(nn.LayerNorm(), nn.MultiHeadAttention(4)),
        nn.Flatten(),
        nn.Linear(10),
    )
    about = reader(*layers)
    stations = overview(about, pixels())["stations"]
    assert [s["kind"] for s in stations] == [
        "Standardize", "LayerNorm", "MultiHeadAttention", "Residual", "Flatten", "Linear"
    ]  # fmt: skip
    assert [s["sources"] for s in stations] == [[-1], [0], [1], [2, 0], [3], [4]]
    assert [p["name"] for p in stations[2]["parameters"]] == ["qkv.W", "qkv.b", "out.W", "out.b"]
    assert stations[3]["parameters"] == []
    given = np.array(at_layer(about, pixels(), 1)["values"]["numbers"])
    read = at_layer(about, pixels(), 2)["attention"]
    assert read["shape"] == [4, 28, 28]
    p = about.model.network.layers[1].layers[1].weights(given, about.model.backend)[0]
    np.testing.assert_allclose(read["numbers"], p, rtol=1e-4)
    assert at_layer(about, pixels(), 1)["attention"] is None
    found = at_unit(about, pixels(), 2, [0, 3, 5])["forward"]
    assert not found["exact"]
    assert found["terms"][0]["layer"] == 1
    kinds = ["Standardize", "LayerNorm", "MultiHeadAttention", "Flatten", "Linear"]
    assert [layer["kind"] for layer in about.explain(pixels())["layers"]] == kinds
    paths = ["layers.0", "layers.1.layers.0", "layers.1.layers.1", "layers.2", "layers.3"]
    assert [layer["path"] for layer in about.about()["layers"]] == paths


def test_the_parameters_of_a_recurrent_layer_are_listed():
    about = reader(nn.LSTM(4, layers=2), nn.Flatten(), nn.Linear(10))
    [lstm, _, _] = overview(about, pixels())["stations"]
    names = [f"cells.{i}.{name}" for i in (0, 1) for name in ("W", "U", "b")]
    assert [p["name"] for p in lstm["parameters"]] == names


def test_inputs_of_0_are_terms_too():
    linear = nn.Linear(3)
    about = reader(nn.Flatten(), nn.Linear(5), nn.ReLU(), linear, nn.Linear(10))
    about.model.network.layers[1].b.data[...] = -1e6
    parts = at_unit(about, pixels(), 3, [0, 0, 1])["forward"]
    assert (parts["n_terms"], [term["number"] for term in parts["terms"]]) == (5, [0] * 5)
    linear.W.data[2, 1] = 0
    parts = at_unit(about, pixels(), 3, [0, 0, 1])["forward"]
    assert (parts["n_terms"], [term["place"][2] for term in parts["terms"]]) == (4, [0, 1, 3, 4])


class Twice(Layer):
    def build(self, shape):
        return (shape, shape)

    def forward(self, x, backend):
        return (x, x), lambda dy, need_dx=True: dy[0] + dy[1]


class Both(Layer):
    def build(self, shape):
        return shape[0]

    def forward(self, x, backend):
        return x[0] + x[1], lambda dy, need_dx=True: (dy, dy)


def test_the_formula_goes_up_to_the_shapes():
    assert walk.formula(nn.Linear(3)) == "y = x W + b over the last axis."
    assert walk.formula(nn.LSTM(3)) == "c_t = f c_{t-1} + i n,  h_t = o tanh(c_t)."


def test_layers_of_several_arrays_are_stations_but_are_not_worked_out():
    about = reader(nn.Flatten(), Twice(), Both(), nn.Linear(10))
    assert [s["kind"] for s in overview(about, pixels())["stations"]] == ["Flatten", "Twice", "Both", "Linear"]
    assert at_layer(about, pixels(), 1)["values"]["shape"] == [1, 1, 784]
    for number in (1, 2):
        with pytest.raises(QuestionError, match="several arrays"):
            at_unit(about, pixels(), number, [0, 0, 0])
    assert at_unit(about, pixels(), 3, [0, 0, 0])["forward"]["exact"]
    assert at_unit(about, pixels(), 0, [0, 3, 3])["backward"]["n_terms"] == 0


def test_walking_leaves_the_model_as_it_was(served):
    before = served.model.data.copy()
    for ask in (lambda: overview(served, pixels()), lambda: at_unit(served, pixels(), 1, [0, 0, 0])):
        assert ask() == ask()
    assert not served.model.grad.any()
    assert (served.model.data == before).all()


# Limits -------------------------------------------------------------------------------------------------------


def test_the_answers_of_a_large_model_are_small():
    large = nn.Reshape(128, 128, 1), nn.Conv2d(80, 3, padding="same"), nn.AvgPool2d(16), nn.Flatten(), nn.Linear(10)
    about = reader(*large, shape=(128, 128))
    image = np.random.default_rng(0).integers(0, 256, (128, 128)).tolist()
    size = lambda answer: len(json.dumps(answer))
    assert size(overview(about, image)) < 60_000
    assert size(about.explain(image)) < 1_500_000  # of which the two maps of pixels are a third
    wide = at_layer(about, image, 1)
    assert wide["values"]["shape"] == [80, 128, 128]
    assert wide["values"]["block"] == 4
    assert np.shape(wide["values"]["numbers"]) == (16, 32, 32)
    assert size(wide) < 500_000
    flat = at_layer(about, image, 3)["values"]["numbers"]
    assert len(flat) == 64
    assert size(at_unit(about, image, 4, [0, 0, 0])) < 500_000


def test_an_explanation_shows_so_many_numbers_of_all_layers_together(monkeypatch):
    monkeypatch.setattr("xpnet.serve.reader.LAYER_NUMBERS", 2000)
    layers = reader().explain(pixels())["layers"]
    assert [np.size(layer["values"]["numbers"]) for layer in layers] == [784, 400, 12, 12, 10]


def test_numbers_have_six_digits_and_no_more():
    rng = np.random.default_rng(0)
    values = rng.standard_normal((5, 20, 30)) * 10.0 ** rng.integers(-10, 12, (5, 20, 30))
    got = maps.rounded(values)
    assert np.array(got).tolist() == [[[float(f"{v:.6g}") for v in row] for row in part] for part in values.tolist()]
    ends = [0.0, 1.25e-290, 1e-320, -2.5e22, 9999995.0, math.inf, math.nan]
    assert str(maps.rounded(np.array(ends))) == str([0.0, 1.25e-290, 1e-320, -2.5e22, 1e7, math.inf, math.nan])
    assert [maps.rounded(x) for x in (1 / 3, np.float32(0.1), np.zeros((2, 0)))] == [0.333333, 0.1, [[], []]]
    assert type(maps.rounded(np.array(2))) is float


def test_of_large_maps_each_cell_is_the_mean_of_a_block():
    values = np.random.default_rng(0).normal(size=(70, 45, 2))
    shown = maps.shown(values)
    assert (shown["shape"], shown["block"]) == ([2, 70, 45], 3)
    assert np.shape(shown["numbers"]) == (2, 24, 15)
    assert shown["numbers"][1][2][4] == pytest.approx(values[6:9, 12:15, 1].mean(), rel=1e-5)
    assert shown["numbers"][0][23][0] == pytest.approx(values[69:, :3, 0].mean(), rel=1e-5)


def test_of_a_long_list_the_first_numbers_are_shown():
    shown = maps.shown(np.arange(50_000.0))
    assert shown["shape"] == [1, 1, 50_000]
    assert shown["numbers"] == [[list(map(float, range(maps.NUMBERS)))]]


@pytest.mark.parametrize("shape", [(5,), (3, 4), (3, 4, 5), (2, 3, 4, 5)])
def test_a_place_and_its_number_belong_together(shape):
    values = np.random.default_rng(0).normal(size=shape)
    for at in (0, 4, values.size - 1):
        found = maps.place(at, shape)
        assert maps.flat(found, shape) == at
        assert maps.arranged(values)[tuple(found)] == values.ravel()[at]


def test_a_network_of_too_many_layers_is_refused_and_the_next_question_answered(monkeypatch):
    about = reader()
    monkeypatch.setattr(walk, "STATIONS", 4)
    with pytest.raises(QuestionError, match="has 5 layers: the page walks through at most 4"):
        overview(about, pixels())
    monkeypatch.setattr(walk, "STATIONS", 5)
    assert len(overview(about, pixels())["stations"]) == 5
    assert not about.model.grad.any()


@pytest.mark.parametrize(
    ("path", "more", "line"),
    [
        ("", {"target": 10}, "0 to 9, not 10"),
        ("", {"target": "4"}, "integer"),
        ("", {"pixels": [[0] * 28]}, "28 rows of 28"),
        ("/layer", {}, "layer: Field required"),
        ("/layer", {"layer": 5}, "layer must be a number from 0 to 4, not 5"),
        ("/layer", {"layer": -1}, "0 to 4"),
        ("/layer", {"layer": 1.5}, "integer"),
        ("/unit", {"layer": 2}, "unit: Field required"),
        ("/unit", {"layer": 2, "unit": [0, 0, 12]}, "of 1 x 1 x 12; not [0, 0, 12]"),
        ("/unit", {"layer": 2, "unit": [0, 0, -1]}, "1 x 1 x 12"),
        ("/unit", {"layer": 2, "unit": [0, 0]}, "1 x 1 x 12"),
        ("/unit", {"layer": 2, "unit": [0] * 1000}, "at most 3"),
        ("/unit", {"layer": 2, "unit": [0, 0, True]}, "integer"),
    ],
)
def test_a_bad_question_gives_one_clear_line(client, path, more, line):
    response = client.post(f"/api/walk{path}", json={"pixels": pixels(), **more})
    assert response.status_code == 422
    assert line in response.json()["error"]


def test_questions_are_parsed_and_answers_written_off_the_event_loop(client, monkeypatch):
    names = []
    for part in ("question", "answer"):
        real = getattr(walk_routes, part)
        seen = lambda *a, real=real: names.append(threading.current_thread().name) or real(*a)
        monkeypatch.setattr(walk_routes, part, seen)
    for path, more in {"": {}, "/layer": {"layer": 0}, "/unit": {"layer": 0, "unit": [0, 0, 0]}}.items():
        assert client.post(f"/api/walk{path}", json={"pixels": pixels(), **more}).status_code == 200
    assert len(names) == 6
    assert all(name.startswith("xpnet") for name in names)


def test_the_answers_are_what_their_description_says(client):
    ask = lambda path, **more: client.post(f"/api/walk{path}", json={"pixels": pixels(), **more}).json()
    walk_routes.WalkResponse.model_validate(ask(""), strict=True, extra="forbid")
    walk_routes.LayerResponse.model_validate(ask("/layer", layer=1), strict=True, extra="forbid")
    for number in (0, 2, 3):
        found = ask("/unit", layer=number, unit=[0, 0, 3])
        walk_routes.UnitResponse.model_validate(found, strict=True, extra="forbid")


def test_answers_are_json_whatever_they_hold():
    """Shapes, texts and numbers as Python's own module writes them; what is not finite has no place in JSON."""
    values = {
        "shape": [2, 3],
        "numbers": [[0.1, -2.5e22, 1e-320], [1e7, 0.123457, -0.0]],
        "kind": "Größe\n",
        "none": None,
    }
    response = question.answer(values | {"ends": [math.inf, -math.inf, math.nan]})
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.body) == values | {"ends": [None, None, None]}
