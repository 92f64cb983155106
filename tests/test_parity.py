"""The comparison of devices: it finds faults that are planted in one, names the layer, and calls rounding rounding."""

from __future__ import annotations

import errno
import json
import os
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from typer.testing import CliRunner

from xpnet import Backend, Model, data, load, losses, nn, optim, train
from xpnet.cli.app import app
from xpnet.photo import shipped_model_path
from xpnet.verify import cases
from xpnet.verify.parity import parity, ulps
from xpnet.verify.parity_page import page
from xpnet.verify.parity_result import REFERENCE, Comparison, Device, Parity, Training
from xpnet.verify.parity_training import random_samples, task_for, train_everywhere
from xpnet.verify.strict import StrictBackend
from xpnet.verify.tolerances import LOSS_CURVE, SURE


class Faulty(Backend):
    """A second device with a fault: `xp` has some functions of its own, `product` changes what a product gives."""

    functions: dict = {}  # noqa: RUF012
    product = staticmethod(lambda a, b, c: c)

    def __init__(self, dtype="float32", seed=0):
        super().__init__(dtype, seed, "faulty")
        self.xp = _Module(self.functions)

    def matmul(self, a, b, out=None):
        result = np.matmul(a, b)
        result = np.asarray(self.product(a, b, result), result.dtype)
        if out is None:
            return result
        out[...] = result
        return out


class _Module:
    def __init__(self, functions):
        self.__dict__.update(functions)

    def __getattr__(self, name):
        return getattr(np, name)


def faulty(product=None, **functions):
    members = {"functions": functions, **({"product": staticmethod(product)} if product else {})}
    return type("Faulty", (Faulty,), members)


def model(*layers: nn.Layer, shape=(12,), dtype="float32") -> Model:
    return Model(nn.Sequential(*layers), shape, Backend(dtype, 5))


def network() -> Model:
    return model(
        nn.Linear(16), nn.ReLU(), nn.Dropout(0.2), nn.Residual(nn.Linear(16), nn.GELU()), nn.Linear(9), nn.Tanh(),
        nn.Linear(4),
    )  # fmt: skip


# What agrees ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> Parity:
    return parity(steps=20, second=StrictBackend)


def test_every_case_of_the_table_is_compared_on_both_devices(table):
    compared = {row.part.partition(":")[0] for row in table.rows}
    rows = (*cases.LAYERS, *cases.LOSSES, *cases.OPTIMIZERS)
    assert compared == {case.of for case in rows} | {"random numbers"}
    assert all(set(line) == {"cpu", "strict"} for line in table.lines())
    assert len(table.lines()) == sum(len(getattr(case, "batches", [1])) for case in rows) + 2
    assert table.ok, table.verdict
    assert table.verdict.startswith("rounding: cpu and strict agree")
    assert {row.verdict for row in table.rows} == {"same bits", "rounding"}
    assert max(row.fraction for row in table.rows) > 0.01  # the tolerance is no barn door


def test_a_network_is_compared_layer_by_layer():
    found = parity(network(), steps=10, second=StrictBackend)
    assert found.ok, found.verdict
    parts = list(dict.fromkeys(row.part for row in found.rows))
    assert parts == [
        "layers.0 (Linear)", "layers.1 (ReLU)", "layers.2 (Dropout)", "layers.3.layers.0 (Linear)",
        "layers.3.layers.1 (GELU)", "layers.3 (Residual)", "layers.4 (Linear)", "layers.5 (Tanh)", "layers.6 (Linear)",
        "the whole network", "a step of Adam",
    ]  # fmt: skip
    first = [row.what for row in found.rows if row.part == parts[0] and row.device == "cpu"]
    assert first == ["forward", "input gradient", "gradient of W", "gradient of b"]
    assert [len(curve) for curve in found.training.curves.values()] == [10, 10, 10]
    assert list(found.training.curves) == [REFERENCE, "cpu", "strict"]
    assert 0 < found.training.gaps["cpu"] < 1e-5


def test_gradients_that_cancel_in_a_trained_network_are_no_difference():
    """In small batches some gradients are sums of large terms that are 0 but for rounding."""
    rng = np.random.default_rng(0)
    x = np.concatenate([rng.standard_normal((160, 5)), np.eye(4)[rng.integers(0, 4, 160)]], axis=1).astype(np.float32)
    samples = data.Dataset(x, (x[:, 0] * x[:, 1] + x[:, 5] - x[:, 6] * x[:, 2] > 0.1).astype(np.int64))
    trained = Model(nn.mlp([9, 64, 32, 2]), (9,), Backend())
    train.fit(
        trained, losses.SoftmaxCrossEntropy(), optim.Adam(trained, 0.01), samples, epochs=30, batch_size=32, quiet=True
    )
    found = train_everywhere(task_for(trained, samples, steps=50, batch=8), {"cpu": Backend})
    assert found.gaps["cpu"] < LOSS_CURVE / 10
    curve = found.curves[REFERENCE]
    assert np.mean(curve[-8:]) < np.mean(curve[:8]) / 2  # it learns all the same


@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh, nn.Sigmoid, nn.LeakyReLU], ids=lambda a: a.__name__)
def test_rounding_in_a_deep_network_is_no_difference(activation):
    layers = [part for _ in range(25) for part in (nn.Linear(24), activation())]
    deep = Model(nn.Sequential(*layers, nn.Linear(3)), (24,), Backend())
    found = parity(deep, steps=2)
    assert found.ok, found.verdict


def test_one_layer_used_twice_has_its_rows_twice():
    shared = nn.Linear(5)
    found = parity(model(shared, nn.Tanh(), shared, shape=(5,)), steps=2)
    assert found.ok, found.verdict
    parts = [next(iter(line.values())).part for line in found.lines()]
    assert [part for part in parts if "(Linear)" in part] == ["layers.2 (Linear)"] * 8


@pytest.mark.parametrize(
    "make",
    [
        lambda: model(nn.Standardize(3, 2), nn.Flatten(), nn.Linear(3), shape=(2, 3)),
        lambda: model(nn.Tanh(), shape=(2, 3)),
        lambda: model(nn.Linear(1), shape=(1,), dtype="float64"),
        lambda: Model(nn.Linear(3), (4,), Backend()),
        lambda: model(shape=(2,)),
    ],
    ids=["images", "no parameters", "one number, float64", "a layer alone", "nothing"],
)
def test_any_network_will_do(make):
    found = parity(make(), batch=3, steps=3)
    assert found.ok, found.verdict
    assert found.rows


def test_the_model_of_the_package_agrees():
    """Its first convolution adds up 1,568 terms that nearly cancel, before a BatchNorm."""
    found = parity(load(shipped_model_path(), "cpu"), steps=1)
    assert found.ok, found.verdict
    assert len(found.rows) == 220
    weights = [row for row in found.rows if row.what.startswith("gradient") and "layers.2" in row.part + row.what]
    assert len(weights) == 4
    assert all(0.1 < row.fraction < 0.7 for row in weights)


@pytest.mark.parametrize(
    "make",
    [
        lambda: model(nn.Embedding(300, 4), nn.LSTM(5), nn.Linear(3), shape=(None,)),
        lambda: model(nn.Embedding(3, 4), nn.TransformerBlock(2, causal=True), nn.Linear(3), shape=(6,)),
        lambda: model(nn.Embedding(1, 2), nn.Flatten(), shape=(2,)),
    ],
    ids=["many numbers", "few numbers", "one number"],
)
def test_a_network_of_whole_numbers_needs_no_samples(make):
    found = parity(make(), batch=2, steps=2)
    assert found.ok, found.verdict
    assert any("Embedding" in row.part for row in found.rows)


def test_random_numbers_are_whole_ones_only_where_the_network_takes_no_others():
    drawn = random_samples(model(nn.Embedding(300, 4), shape=(50,)), 40, seed=0)
    assert drawn.dtype.kind == "i"
    assert (drawn.min(), drawn.max()) == (0, 255)
    few = random_samples(model(nn.Embedding(5, 4), shape=(50,)), 40, seed=0)
    assert sorted(set(few.ravel())) == [0, 1, 2, 3]  # 4 of them: the numbers are halved until all are taken
    assert random_samples(model(nn.Standardize(0.0, 1.0), shape=(2,)), 3, seed=0).dtype.kind == "f"


def test_samples_can_be_given():
    digits = data.load("digits").train
    images = model(nn.Standardize(4.9, 6.0), nn.Flatten(), nn.Linear(10), shape=(8, 8))
    found = parity(images, digits, steps=40)
    assert found.ok, found.verdict
    curve = found.training.curves[REFERENCE]
    assert curve[-1] < curve[0]
    assert "digits" in found.title
    with pytest.raises(ValueError, match="do not fit a model"):
        parity(network(), digits)
    with pytest.raises(ValueError, match="fewer than a batch of 9"):
        parity(images, digits[:8], batch=9)
    with pytest.raises(ValueError, match=r"label \d at index \d+ is outside 0\.\.2"):
        parity(model(nn.Flatten(), nn.Linear(3), shape=(8, 8)), digits)
    with pytest.raises(ValueError, match="batch must be a whole number >= 1, not 0"):
        parity(network(), batch=0)
    with pytest.raises(ValueError, match="data are for a model: give it too"):
        parity(data=digits, steps=1)


def test_what_is_no_model_or_no_data_set():
    with pytest.raises(TypeError, match="parity compares a Model, such as"):
        parity("model.safetensors")
    with pytest.raises(TypeError, match=r"parity feeds a data\.Dataset\(x, y\), not a tuple"):
        parity(network(), (np.zeros((9, 12)), np.zeros(9)))


def test_the_model_is_only_read():
    mine = network()
    before, gradients = mine.tensors(), mine.grad.copy()
    parity(mine, steps=3)
    assert all(np.array_equal(before[name], tensor) for name, tensor in mine.tensors().items())
    assert np.array_equal(mine.grad, gradients)
    assert all("forward" not in vars(layer) for _, layer in mine.network.walk())


# What does not ----------------------------------------------------------------------------------------------------


def only(left, right, factor):
    """A product that is wrong by a factor where its operands have these shapes."""
    return lambda a, b, c: c * factor if (a.shape, b.shape) == (left, right) else c


OUT_OF_4 = (8, 16), (16, 9)  # layers.4 forward
TO_W_OF_6 = (9, 8), (8, 4)  # its gradient of W
IN_ONE_PLACE = np.eye(8, 9, 3) * np.eye(8)[:, :1] * 1e-4 + 1


FAULTS = {
    "one product": (faulty(only(*OUT_OF_4, 1 + 2e-5)), "layers.4 (Linear)", "forward"),
    "half precision": (faulty(lambda a, b, c: a.astype("f2") @ b.astype("f2")), "layers.0 (Linear)", "forward"),
    "one number": (faulty(only(*OUT_OF_4, IN_ONE_PLACE)), "layers.4 (Linear)", "forward"),
    "weight gradient": (faulty(only(*TO_W_OF_6, 1 - 1e-4)), "layers.6 (Linear)", "gradient of W"),
    "no tanh": (faulty(tanh=lambda x: np.tanh(x) * np.float32(1.0001)), "layers.5 (Tanh)", "forward"),
    "maximum": (faulty(maximum=lambda x, y: np.maximum(x, y + np.float32(1e-4))), "layers.1 (ReLU)", "forward"),
    "not a number": (faulty(tanh=lambda x: x * np.float32("nan")), "layers.5 (Tanh)", "forward"),
    "an error": (faulty(tanh=lambda x: 1 / 0), "layers.5 (Tanh)", "forward"),
    "the optimizer": (faulty(sqrt=lambda x: np.sqrt(x) * np.float32(1.1)), "a step of Adam", "layers.0.W"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_the_second_device_is_found_and_its_layer_named(fault):
    kind, part, what = FAULTS[fault]
    found = parity(network(), steps=5, second=kind)
    assert not found.ok
    assert (found.first.part, found.first.what, found.first.device) == (part, what, "faulty")
    assert all(row.ok for row in found.rows if row.device == "cpu")
    assert part in found.verdict


def test_another_layer_is_not_blamed():
    found = parity(network(), steps=2, second=faulty(only(*OUT_OF_4, 1.01)))
    blamed = {row.part for row in found.rows if not row.ok}
    assert blamed == {"layers.4 (Linear)", "the whole network"}


@pytest.mark.usefixtures("few_rows")
def test_a_fault_in_the_table_is_found():
    found = parity(steps=3, second=faulty(exp=lambda x: np.exp(x) * (1 + np.float32(1e-4))))
    blamed = {row.part.partition(":")[0] for row in found.rows if not row.ok}
    assert {"Sigmoid", "SoftmaxCrossEntropy"} <= blamed
    assert "Linear" not in blamed
    assert "SGD" not in blamed


class OtherMasks(Backend):
    """Its random numbers are not those of the others."""

    def _stream(self, seed):
        return super()._stream(seed + 1)


@pytest.mark.usefixtures("few_rows")
def test_other_random_numbers_are_a_difference():
    found = parity(network(), steps=5, second=OtherMasks)
    assert found.first.part == "layers.2 (Dropout)"
    assert parity(steps=2, second=OtherMasks).rows[-1].verdict == "differs"


def test_a_curve_that_leaves_the_others_is_a_difference_on_its_own():
    curve = (2.0, 1.0)
    training = Training("", {REFERENCE: curve, "cpu": curve, "gpu": (2.0, 1.0 + 3 * LOSS_CURVE)}, {})
    assert training.gaps == {"cpu": 0.0, "gpu": pytest.approx(1.5 * LOSS_CURVE)}
    rows = (Comparison("layer", "forward", "gpu"),)
    found = Parity("", (Device("cpu", "cpu", ""), Device("gpu", "gpu", "")), rows, training, ())
    assert not found.ok
    assert "not the training (cpu: 0.0e+00, gpu: 1.5e-04" in found.verdict
    broken = Training("", {REFERENCE: (1.0,), "gpu": (float("nan"),)}, {})
    assert broken.gaps == {"gpu": float("inf")}
    assert not broken.ok


@pytest.mark.usefixtures("few_rows")
def test_a_network_that_is_sure_of_all_its_answers_is_no_difference():
    """Its loss is smaller than what float32 rounds off a logarithm."""
    backend = Backend("float64")
    model = nn.Model(nn.Linear(2), (2,), backend, ("0", "1"))
    model.parameters["W"].data[...], model.parameters["b"].data[...] = np.array([[16.0, -16.0], [0, 0]]), 0
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 64)
    x = np.stack([np.where(y, -1, 1) * rng.uniform(0.48, 0.52, 64), rng.standard_normal(64)], axis=1)
    found = parity(model, data.Dataset(x, y), batch=8, steps=3)
    assert max(found.training.curves["cpu, float64"]) < 1e-5
    assert found.training.smallest == SURE
    assert found.ok, found.verdict


def test_small_losses_of_numbers_are_compared_as_they_are():
    curve = (2e-9, 1e-9)
    other = (2e-9, 1e-9 * (1 + 5 * LOSS_CURVE))
    numbers = Training("", {REFERENCE: curve, "gpu": other}, {})
    assert numbers.gaps["gpu"] == pytest.approx(2.5 * LOSS_CURVE)
    assert not numbers.ok
    assert Training("", {REFERENCE: curve, "gpu": other}, {}, smallest=SURE).ok
    assert not Training("", {REFERENCE: curve, "gpu": (2e-9, 2e-6)}, {}, smallest=SURE).ok


def test_ulps():
    one = np.array([1.0, 0.25])
    assert ulps(np.float32([1, 0.25]), one) == 0
    assert ulps(np.float32([1 + 2**-23, 0.25]), one) == 1
    assert ulps(np.float32([1, 0.25 + 2**-25]), one) == 0.25  # of the largest number's
    assert ulps(np.float32([np.nan, 0]), one) == np.inf
    assert ulps(np.empty(0), np.empty(0)) == 0


# The page and the command -----------------------------------------------------------------------------------------


class Tags(HTMLParser):
    """Everything that a page would fetch or run, and whether its tags are closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.outside, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag not in ("meta", "use", "path", "circle"):
            self.open.append(tag)
        self.outside += [value for name, value in attributes if name in ("src", "href") and not value.startswith("#")]
        assert tag != "script"

    def handle_endtag(self, tag):
        if tag in ("path", "circle", "use"):
            return
        assert self.open.pop() == tag

    def handle_data(self, text):
        self.text += text


def test_the_page_holds_everything_and_needs_nothing():
    found = parity(network(), steps=5, second=FAULTS["not a number"][0])
    shown = Tags(page(found))
    assert shown.outside == []
    assert shown.open == []
    for text in ("Differs: ", "layers.5 (Tanh)", "gradient of W", "Gap to cpu, float64", "faulty"):
        assert text in shown.text
    assert page(found) == page(found)


def test_names_are_escaped_in_the_page():
    evil = Comparison("<b>", "<i>", "cpu", problem="<script>alert(1)</script>")
    training = Training("<u>", {REFERENCE: (1.0,), "cpu": (1.0,)}, {"cpu": "<s>"})
    text = page(Parity("<em>", (Device("cpu", "cpu", "<p>"),), (evil,), training, ("<q>",)))
    assert not any(tag in text for tag in ("<b>", "<i>", "<script>", "<u>", "<s>", "<em>", "<p><", "<q>"))


@pytest.fixture
def command(monkeypatch):
    if not any(c.name == "parity" for c in app.registered_commands):
        pytest.fail("xpnet/cli/app.py does not list the command")
    return lambda *arguments: CliRunner().invoke(app, ["parity", *map(str, arguments)])


@pytest.fixture
def no_gpu(monkeypatch):
    from xpnet import probe

    monkeypatch.setattr(probe, "cuda", lambda ordinal=0: probe.Diagnosis("no-device", "no GPU here", "buy one"))


@pytest.fixture
def saved(tmp_path):
    network().save(tmp_path / "mine.safetensors")
    return tmp_path / "mine.safetensors"


def test_the_command_shows_a_table_and_what_could_not_be_compared(command, saved, no_gpu):
    done = command(saved, "--steps", 3)
    assert done.exit_code == 0, done.output
    for text in (
        "layers.3.layers.1 (GELU)",
        "gradient of W",
        "ulps",
        "strict device",
        "No GPU was compared",
        "buy one",
    ):
        assert text in done.stdout
    assert done.stdout.splitlines()[-1].startswith("rounding: cpu and strict device agree")


def test_a_narrow_terminal_cuts_no_number(command, saved, no_gpu, monkeypatch):
    wide = command(saved, "--steps", 3).stdout
    monkeypatch.setenv("COLUMNS", "30")
    narrow = command(saved, "--steps", 3).stdout
    numbers = lambda text: re.findall(r"  (?:\d\S*|rounding|same bits)", text.partition("training:")[0])
    assert numbers(narrow) == numbers(wide)
    assert len(numbers(wide)) > 50
    assert "…" not in narrow
    assert "forward" in narrow


def test_the_command_prints_json_and_writes_a_page(command, saved, no_gpu, tmp_path):
    done = command(saved, "--steps", 3, "--json", "--html", tmp_path / "page.html")
    found = json.loads(done.stdout)
    assert found.keys() == {
        "title", "ok", "verdict", "gpu", "reference", "devices", "first", "rows", "training", "notes",
    }  # fmt: skip
    assert found["training"].keys() == {"what", "ok", "gaps", "allowed", "smallest", "problems", "curves"}
    assert found["ok"]
    assert not found["gpu"]
    assert found["devices"][1]["role"] == "stand-in"
    assert {"part", "what", "device", "ulps", "error", "allowed", "verdict"} <= found["rows"][0].keys()
    assert len(found["training"]["curves"]["cpu"]) == 3
    assert "<svg" in (tmp_path / "page.html").read_text("utf-8")


def test_a_page_takes_the_place_of_no_model(command, saved):
    before = saved.read_bytes()
    done = command(saved, "--html", saved)
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"--html: the file to write must be called something.html, not {saved}" in done.stderr
    assert saved.read_bytes() == before


@pytest.mark.parametrize("name", ["nowhere/page.html", "."])
def test_where_no_page_can_be_written_nothing_is_compared(command, saved, tmp_path, monkeypatch, name):
    monkeypatch.setattr("xpnet.load", lambda *arguments: pytest.fail("the model was read"))
    done = command(saved, "--html", tmp_path / name)
    assert done.exit_code == 1
    assert "there is" in done.stderr


def test_a_folder_that_takes_no_file_is_said_before_anything_is_compared(command, saved, tmp_path, monkeypatch):
    def refuse(path, *arguments):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr("xpnet.load", lambda *arguments: pytest.fail("the model was read"))
    monkeypatch.setattr(os, "open", refuse)
    done = command(saved, "--html", tmp_path / "page.html")
    assert done.exit_code == 1
    assert f"{tmp_path / 'page.html'}: Permission denied" in done.stderr


def test_without_plots_there_is_no_page_and_nothing_is_compared(command, saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "matplotlib.figure", raising=False)
    monkeypatch.setattr("xpnet.load", lambda *arguments: pytest.fail("the model was read"))
    done = command(saved, "--html", tmp_path / "page.html")
    assert done.exit_code == 1
    assert '--html needs matplotlib: pip install "xpnet[plots]"' in done.stderr


def test_a_gpu_can_be_required(command, saved, no_gpu):
    done = command(saved, "--steps", 2, "--require-gpu")
    assert done.exit_code == 1
    assert "a GPU is required. No GPU was compared. No usable GPU: no GPU here. Fix: buy one." in done.stderr


def test_a_difference_has_an_exit_code(command, saved, no_gpu, monkeypatch):
    monkeypatch.setattr("xpnet.verify.strict.StrictBackend", FAULTS["not a number"][0])
    done = command(saved, "--steps", 2)
    assert done.exit_code == 1
    assert "differs" in done.stdout.splitlines()[-1]
    assert json.loads(command(saved, "--steps", 2, "--json").stdout)["first"].startswith("layers.5 (Tanh)")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere.safetensors"], 1, "no model at nowhere.safetensors"),
        (["--data", "digits"], 2, "which model"),
        (["--batch", "0"], 2, "batch"),
    ],
)
def test_wrong_usage(command, arguments, code, message):
    done = command(*arguments)
    assert done.exit_code == code
    assert message in done.stderr


def test_data_that_do_not_fit(command, saved):
    done = command(saved, "--data", "digits")
    assert done.exit_code == 2
    assert "do not fit a model" in done.stderr
