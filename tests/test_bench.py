"""`xpnet bench` and what is behind it: whose the time is, what the floor is made of, that nothing changes."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from command_line import call

from xpnet import nn, select
from xpnet.backend import Backend
from xpnet.bench import bench, fastest, measure
from xpnet.bench.report import comparison, in_time, plot, table
from xpnet.verify.strict import StrictBackend


def mlp(backend: Backend | None = None, classes=("a", "b", "c")) -> nn.Model:
    return nn.Model(nn.Sequential(nn.Linear(5), nn.ReLU(), nn.Linear(3)), (4,), backend or select("cpu"), classes)


class Watch:
    """A clock that moves only when somebody works."""

    now = 0.0
    left = 0.0  # seconds that a device has still to work

    def perf_counter(self) -> float:
        return self.now


class Works(nn.Layer):
    """Takes so many seconds forward before and after the layer inside, and backward likewise."""

    def __init__(self, before: float, after: float, inner: nn.Layer | None = None):
        self.before, self.after, self.inner = before, after, inner

    def build(self, shape):
        return shape if self.inner is None else self.inner.built(shape)

    def forward(self, x, backend):
        watch.now += self.before
        y, backward_inner = (x, lambda dy: dy) if self.inner is None else self.inner(x, backend)
        watch.now += self.after

        def backward(dy, need_dx=True):
            watch.now += 10 * self.after
            dx = backward_inner(dy)
            watch.now += 10 * self.before
            return dx

        return y, backward


watch = Watch()


class Later(Backend):
    """A device that has done what it was asked for when it is waited for."""

    def synchronize(self):
        watch.now += watch.left
        watch.left = 0.0


class WorksLater(nn.Layer):
    def forward(self, x, backend):
        watch.left += 3
        return x, lambda dy, need_dx=True: dy


def test_time_is_taken_when_the_device_has_done_its_work(monkeypatch):
    monkeypatch.setattr(measure, "time", watch)
    monkeypatch.setattr(measure, "_rounds", lambda run, seconds: [1.0])
    found = bench(nn.Model(nn.Sequential(WorksLater(), nn.Linear(1), WorksLater()), (2,), Later()), 4)
    assert [(row.path, row.forward) for row in found.layers if row.forward] == [("layers.0", 3), ("layers.2", 3)]


class ReadsBack(nn.Layer):
    def forward(self, x, backend):
        backend.to_host(x)
        return x, lambda dy, need_dx=True: dy


def test_steps_that_cannot_be_captured_are_told_of():
    network = nn.Sequential(nn.Linear(3), ReadsBack(), nn.Linear(3))
    found = bench(nn.Model(network, (4,), StrictBackend("float32"), ("a", "b", "c")), 4, seconds=0.01)
    assert "to_host makes the host wait" in found.eager


def test_time_belongs_to_the_innermost_layer_that_is_under_way(monkeypatch):
    monkeypatch.setattr(measure, "time", watch)
    monkeypatch.setattr(measure, "_rounds", lambda run, seconds: [1.0])
    network = nn.Sequential(Works(1, 2, nn.Sequential(Works(4, 0), Works(0.5, 0))), Works(8, 0), nn.Linear(1))
    found = bench(nn.Model(network, (2,), select("cpu")), 4)
    times = {row.path: (row.forward, row.backward) for row in found.layers}
    assert times == {
        "": (0, 0),
        "layers.0": (3, 0),  # no layer below the first with parameters runs backward
        "layers.0.inner": (0, 0),
        "layers.0.inner.layers.0": (4, 0),
        "layers.0.inner.layers.1": (0.5, 0),
        "layers.1": (8, 0),
        "layers.2": (0, 0),
    }
    network = nn.Sequential(nn.Linear(2), Works(1, 2, nn.Sequential(Works(4, 0), Works(0.5, 0))), Works(8, 0))
    found = bench(nn.Model(network, (2,), select("cpu")), 4)
    times = {row.path: (row.forward, row.backward) for row in found.layers}
    assert times["layers.1"] == (3, 30)
    assert times["layers.1.inner.layers.0"] == (4, 40)
    assert (times["layers.1.inner"], times["layers.2"]) == ((0, 0), (8, 80))
    assert found.parts == pytest.approx(3 + 4 + 0.5 + 8 + 10 * 15.5)
    assert "51.6%" in table(found)  # layers.2: 88 of 170.5
    assert all(part in table(found) for part in ("the loss", "the update"))


def test_the_floor_is_made_of_every_product_of_a_step():
    model = mlp()
    noting = measure._Products(model.backend)
    y, backward = model.to(noting).forward(np.ones((6, 4), np.float32))
    backward(np.ones_like(y), need_dx=False)
    assert noting.noted == [
        (((6, 4), False), ((4, 5), False)),
        (((6, 5), False), ((5, 3), False)),
        (((5, 6), True), ((6, 3), False)),  # dW of the last
        (((6, 3), False), ((3, 5), True)),  # its dx
        (((4, 6), True), ((6, 5), False)),  # dW of the first, which has no dx
    ]


def test_arrays_of_the_floor_lie_as_those_of_the_step():
    transposed = measure._array(select("cpu"), (5, 6), True)
    assert (transposed.shape, measure._layout(transposed)) == ((5, 6), ((5, 6), True))
    assert measure._layout(measure._array(select("cpu"), (2, 5, 6), False)) == ((2, 5, 6), False)


@pytest.mark.parametrize("kind", [Backend, StrictBackend])
def test_a_model_is_left_as_it_is(kind):
    network = nn.Sequential(nn.Linear(5), nn.Dropout(), nn.Linear(3))
    model = nn.Model(network, (4,), kind(), ("a", "b", "c"))
    before, state = model.tensors(), model.backend.rng.state
    found = bench(model, 8, seconds=0.01)
    assert all((values == before[name]).all() for name, values in model.tensors().items())
    np.testing.assert_array_equal(model.backend.rng.state, state)
    assert not model.backend.training
    assert found.device == model.backend.device
    assert found.low <= found.step <= found.high
    assert min(found.step, found.loss, found.update, found.products, found.layers[1].forward) > 0


def test_a_random_stream_is_left_as_it_is_also_by_what_fails(monkeypatch):
    model = nn.Model(nn.Sequential(nn.Linear(5), nn.Dropout()), (4,), Backend())
    state = model.backend.rng.state
    monkeypatch.setattr(measure, "_products", lambda *given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bench(model, 8, seconds=0.01)
    np.testing.assert_array_equal(model.backend.rng.state, state)


@pytest.mark.parametrize(
    ("network", "shape", "example"),
    [
        pytest.param(nn.Sequential(nn.Embedding(7, 4), nn.LSTM(3), nn.Linear(7)), (None,), None, id="free length"),
        pytest.param(nn.Sequential(nn.LSTM(3)), (None, 2), np.ones((1, 5, 2)), id="an example"),
        pytest.param(
            nn.Sequential(nn.MultiHeadAttention(2), nn.Linear(1)), ((None, 4), (None, 4)), None, id="several inputs"
        ),
    ],
)
def test_networks_of_all_kinds_are_timed(network, shape, example):
    found = bench(nn.Model(network, shape, select("cpu")), 2, example, seconds=0.01)
    assert sum(row.backward for row in found.layers) > 0


@pytest.mark.parametrize(
    ("make", "batch_size", "message"),
    [
        (lambda: mlp(), 0, "batch_size must be a whole number >= 1, not 0"),
        (lambda: nn.Model(nn.ReLU(), (3,), select("cpu")), 2, "no parameters: there is nothing to train"),
        (lambda: nn.Model(nn.LSTM(3, return_state=True), (5, 2), select("cpu")), 2, "several outputs"),
    ],
)
def test_what_cannot_be_timed_says_so(make, batch_size, message):
    with pytest.raises(ValueError, match=message):
        bench(make(), batch_size)


def test_the_fastest_device_comes_first(monkeypatch):
    seconds = {"cpu": 3.0, "cuda:0 (strict)": 2.0}
    monkeypatch.setattr(measure, "_time", lambda run, steps: seconds.get(run.model.backend.device, 2.0))
    devices = Backend(), StrictBackend()
    found = fastest(devices, lambda backend: measure._run(mlp(backend), np.ones((8, 4), np.float32), 2))
    assert list(found.values()) == [2.0, 3.0]
    assert list(found)[1] == "cpu"


def test_what_people_read():
    found = bench(mlp(), 16, seconds=0.01)
    text = str(found)
    assert "layers.2   Linear" in text
    assert f"a step of 16 samples on cpu: {in_time(found.step)} (" in text
    assert f"alone: {in_time(found.products)}, {found.products / found.step:.0%} of the step" in text
    slow = measure.Bench("cuda:0", 16, 3 * found.step, 1, 1, found.layers, 1, 1, 1, eager="it may not")
    assert "one by one: it may not" in str(slow)
    assert comparison([slow, found]) == "cpu is the fastest; cuda:0 takes 3.0 times as long"
    labels = [tick.get_text() for axes in plot([found, slow]).axes for tick in axes.get_yticklabels()]
    assert labels[:2] == ["Sequential", "layers.0 Linear"]
    forward, backward = plot([found]).axes[0].containers
    layers = [row for row in found.layers if row.forward + row.backward]
    assert [bar.get_width() for bar in forward] == [1e3 * row.forward for row in layers] + [1e3 * found.loss, 0]
    assert [bar.get_width() for bar in backward] == [1e3 * row.backward for row in layers] + [0, 1e3 * found.update]
    assert [bar.get_x() for bar in backward] == [bar.get_width() for bar in forward]
    assert [in_time(t) for t in (2.5e-5, 0.0125, 1.5)] == ["25 µs", "12.5 ms", "1.50 s"]


def test_the_command(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mlp().save("model.safetensors")
    done = call("bench", "model.safetensors", "--device", "cpu", "--seconds", "0.02", "--json", "--plot", "step.png")
    (result,) = json.loads(done.stdout)["devices"]
    assert (result["device"], result["batch_size"]) == ("cpu", 64)
    assert [row["path"] for row in result["layers"]] == ["", "layers.0", "layers.1", "layers.2"]
    assert (tmp_path / "step.png").read_bytes()[:4] == b"\x89PNG"
    assert "layers.0   Linear" in done.stderr


def test_the_command_without_a_model_and_on_two_devices(monkeypatch):
    monkeypatch.setattr("xpnet.select", lambda name, *_, **__: StrictBackend() if name == "auto" else Backend())
    out = call("bench", "--batch-size", "2", "--seconds", "0.02").stdout
    assert "Standardize" in out
    assert "is the fastest; " in out


def test_wrong_usage_of_the_command():
    assert "unknown model 'gan': choose one of mlp, cnn, resnet" in call("bench", "--model", "gan", code=2).stderr
    assert "unknown device 'tpu'" in call("bench", "--device", "tpu", code=2).stderr
    assert "none.safetensors" in call("bench", "none.safetensors", code=1).stderr


def test_the_command_needs_no_plots(monkeypatch):
    """As after a plain `pip install xpnet`."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.delitem(sys.modules, "xpnet.train.plots", raising=False)
    done = call("bench", "--seconds", "0.01", "--batch-size", "2", "--device", "cpu")
    assert done.stderr == ""
    assert "Linear" in done.stdout


@pytest.mark.parametrize("name", ["nowhere/plot.png", "."])
def test_where_no_plot_can_be_written_nothing_is_measured(monkeypatch, tmp_path, name):
    monkeypatch.setattr("xpnet.bench.bench", lambda *arguments, **options: pytest.fail("it was measured"))
    assert "there is" in call("bench", "--plot", str(tmp_path / name), code=1).stderr


@pytest.mark.parametrize("name", ["model.safetensors", "step.svg", "step"])
def test_a_plot_takes_the_place_of_no_other_file(monkeypatch, tmp_path, name):
    monkeypatch.setattr("xpnet.bench.bench", lambda *arguments, **options: pytest.fail("it was measured"))
    (tmp_path / name).write_text("mine")
    refused = call("bench", "--plot", str(tmp_path / name), code=2).stderr
    assert "--plot: the file to write must be called something.png, not" in refused
    assert (tmp_path / name).read_text() == "mine"
