"""Sizes of activations and gradients by layer: the numbers against a pass by hand, when they are taken, the plot."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import data, losses, nn, optim, select, train
from xpnet.backend import Backend
from xpnet.verify.strict import StrictBackend


def rms(*arrays: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.concatenate([np.ravel(a).astype(float) for a in arrays]) ** 2)))


def samples() -> data.Dataset:
    rng = np.random.default_rng(0)
    return data.Dataset(rng.standard_normal((12, 4), np.float32), rng.integers(0, 3, 12))


def model(backend: Backend) -> nn.Model:
    layers = nn.Linear(5), nn.Residual(nn.Tanh()), nn.Linear(3)
    return nn.Model(nn.Sequential(*layers), (4,), backend, classes=("0", "1", "2"))


def fit(built: nn.Model, sizes: train.LayerSizes | None, **options) -> train.Result:
    options = {"epochs": 1, "batch_size": 12, "quiet": True, **options}
    return train.fit(built, losses.SoftmaxCrossEntropy(), optim.SGD(built, 0.5), samples(), watch=sizes, **options)


@pytest.mark.parametrize("kind", [Backend, StrictBackend])
@pytest.mark.parametrize("loss", [losses.SoftmaxCrossEntropy(), losses.SoftmaxCrossEntropy(reduction="sum")])
@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 12)])
def test_gradients_of_a_batch_in_parts_are_those_of_the_whole(kind, loss, weights):
    rows = []
    for parts in (1, 3):
        built = model(kind("float64"))
        sizes = train.LayerSizes(built, every=1)
        shown = data.Dataset(samples().x.astype(float), samples().y, weights=weights)
        options = {"epochs": 2, "batch_size": 12, "quiet": True, "watch": sizes}
        train.fit(built, loss, optim.SGD(built, 0.01), shown, accumulate=parts, **options)
        rows.append([{k: v for k, v in row.items() if k not in ("layer", "kind")} for row in sizes.rows])
    for one, several in zip(*rows, strict=True):
        assert several == pytest.approx(one, rel=1e-9)


def test_a_step_in_parts_leaves_nothing_for_the_next():
    built = model(Backend("float64"))
    loss, optimizer, sizes = losses.SoftmaxCrossEntropy(), optim.SGD(built, 0.0), train.LayerSizes(built, every=1)
    x, y = samples().x.astype(float), samples().y
    with built.backend.observed_by(sizes):
        for step, parts in enumerate((2, 1)):
            train.train_step(built, loss, optimizer, x, y, accumulate=parts)
            sizes.step_done(step)
    first, second = ([row["gradient"] for row in sizes.rows if row["step"] == step] for step in (1, 2))
    assert second == pytest.approx(first, rel=1e-9)


@pytest.mark.parametrize("kind", [Backend, StrictBackend])
def test_sizes_are_those_of_a_pass_by_hand(kind):
    built = model(kind())
    W1, b1, W2, b2 = (built.tensors()[f"layers.{name}"] for name in ("0.W", "0.b", "2.W", "2.b"))
    sizes = train.LayerSizes(built)
    fit(built, sizes)

    x, y = samples().x, samples().y
    first = x @ W1 + b1
    tanh = np.tanh(first)
    out = (first + tanh) @ W2 + b2
    p = np.exp(out) / np.exp(out).sum(axis=1, keepdims=True)
    d_out = (p - np.eye(3)[y]) / 12
    d_sum = d_out @ W2.T
    d_first = d_sum + d_sum * (1 - tanh * tanh)
    expected = {
        "layers.0": {"activation": rms(first), "gradient": rms(d_first),
                     "weight_gradient": rms(x.T @ d_first, d_first.sum(0))},
        "layers.1.layers.0": {"activation": rms(tanh), "gradient": rms(d_sum)},
        "layers.2": {"activation": rms(out), "gradient": rms(d_out),
                     "weight_gradient": rms((first + tanh).T @ d_out, d_out.sum(0))},
    }  # fmt: skip
    assert [row["step"] for row in sizes.rows] == [1, 1, 1]
    assert [row["kind"] for row in sizes.rows] == ["Linear", "Tanh", "Linear"]
    found = {row.pop("layer"): {k: v for k, v in row.items() if k not in ("step", "kind")} for row in sizes.rows}
    assert found.keys() == expected.keys()
    for path, numbers in expected.items():
        assert found[path] == pytest.approx(numbers, rel=1e-5)


def test_a_layer_that_is_used_twice_has_one_row_for_both():
    layer = nn.Linear(4)
    built = nn.Model(nn.Sequential(layer, nn.Tanh(), layer, nn.Linear(3)), (4,), select("cpu"))
    before = built.tensors()
    sizes = train.LayerSizes(built)
    fit(built, sizes)
    first, _, _last = sizes.rows
    assert [row["layer"] for row in sizes.rows] == ["layers.0", "layers.1", "layers.3"]
    h = samples().x @ before["layers.0.W"] + before["layers.0.b"]
    again = np.tanh(h) @ before["layers.0.W"] + before["layers.0.b"]
    assert first["activation"] == pytest.approx(rms(h, again), rel=1e-5)
    moved = [(before[f"layers.0.{name}"] - built.tensors()[f"layers.0.{name}"]) / 0.5 for name in "Wb"]
    assert first["weight_gradient"] == pytest.approx(rms(*moved), rel=1e-4)


def test_the_first_step_and_each_of_every_so_many_are_watched_and_nothing_else_changes():
    built, other = model(select("cpu", seed=2)), model(select("cpu", seed=2))
    sizes = train.LayerSizes(built, every=5)
    watched = fit(built, sizes, epochs=4, batch_size=4)
    plain = fit(other, None, epochs=4, batch_size=4)
    assert list(dict.fromkeys(row["step"] for row in sizes.rows)) == [1, 5, 10]
    for name, values in built.tensors().items():
        np.testing.assert_array_equal(values, other.tensors()[name])
    assert [row["train_loss"] for row in watched.history] == [row["train_loss"] for row in plain.history]
    assert built.backend.observer is None


def test_each_step_is_measured_by_itself():
    built, other = model(select("cpu", seed=2)), model(select("cpu", seed=2))
    sizes = train.LayerSizes(built, every=1)
    fit(built, sizes, epochs=2)
    fit(other, None)
    after = other.tensors()
    (second,) = (row for row in sizes.rows if (row["step"], row["layer"]) == (2, "layers.0"))
    assert second["activation"] == pytest.approx(rms(samples().x @ after["layers.0.W"] + after["layers.0.b"]), rel=1e-5)


def test_steps_that_are_not_watched_stay_captured():
    backend = StrictBackend()
    built, calls = model(backend), []
    capture = backend.capture

    def counting(step):
        captured = capture(step)
        return lambda *inputs: calls.append(backend.observer) or captured(*inputs)

    backend.capture = counting
    assert fit(built, train.LayerSizes(built, every=3), epochs=2, batch_size=4).eager == ""
    assert [observer is None for observer in calls[-6:]] == [False, True, False, True, True, False]


def test_the_plot_has_a_line_for_each_layer():
    built = model(select("cpu"))
    sizes = train.LayerSizes(built, every=2)
    with pytest.raises(ValueError, match="nothing was watched yet"):
        sizes.plot()
    fit(built, sizes, epochs=6)
    figure = sizes.plot()
    assert [len(axes.lines) for axes in figure.axes] == [3, 3, 3]
    figure.draw_without_rendering()
    (legend,) = figure.legends  # beside the panels, and over none
    assert legend.get_window_extent().x0 > max(axes.get_tightbbox().x1 for axes in figure.axes)
    output = figure.axes[0].lines[2]
    rows = [row for row in sizes.rows if row["layer"] == "layers.2"]
    assert list(output.get_xdata()) == [1, 2, 4, 6]
    assert list(output.get_ydata()) == [row["activation"] for row in rows]
    assert list(figure.axes[2].lines[1].get_xdata()) == []  # Tanh has no weights
    names = ["layers.0 Linear", "layers.1.layers.0 Tanh", "layers.2 Linear"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == names
    for axes, title in zip(figure.axes, train.sizes.QUANTITIES.values(), strict=True):
        assert (axes.get_title(), axes.get_xlabel(), axes.get_yscale()) == (title, "step", "log")
        brightness = [sum(line.get_color()[:3]) for line in axes.lines]
        assert brightness == sorted(set(brightness))  # from dark to light
    assert figure.axes[0].get_ylabel() == "root mean square"


def test_a_network_of_one_layer_can_be_drawn():
    built = nn.Model(nn.Linear(3), (4,), select("cpu"))
    sizes = train.LayerSizes(built)
    fit(built, sizes)
    assert [text.get_text() for text in sizes.plot().legends[0].get_texts()] == ["Linear"]


@pytest.mark.parametrize("every", [0, -3])
def test_bad_options(every):
    with pytest.raises(ValueError, match="every must be a whole number >= 1"):
        train.LayerSizes(model(select("cpu")), every)
