"""The guards of `xpnet.debug`: they find what they are there for, name its line, and are gone afterwards."""

from __future__ import annotations

import inspect
import sys
import warnings
from contextlib import contextmanager
from types import SimpleNamespace

import cupy_wheel
import numpy as np
import pytest

import xpnet
from xpnet import Backend, Model, data, losses, nn, optim, train
from xpnet.train.debug import TransferError, Watch, debug
from xpnet.train.lines import Float64Error
from xpnet.verify import cases
from xpnet.verify.passes import Pass, draw_values, run_optimizer
from xpnet.verify.rows import name
from xpnet.verify.strict import HostReadError, StrictBackend
from xpnet.verify.witnesses import optimizer_values

X = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
LABELS = np.arange(6) % 3
KINDS = pytest.mark.parametrize("kind", [Backend, StrictBackend])
LOSS = losses.SoftmaxCrossEntropy()


class Probe(nn.Layer):
    """The identity, which does something on its way."""

    def __init__(self, forward=None, backward=None):
        self.at_forward, self.at_backward = forward or (lambda a, b: a), backward or (lambda a, b: a)

    def forward(self, x, backend):
        return self.at_forward(x, backend), lambda dy, need_dx=True: self.at_backward(dy, backend)


def one_step(kind, probe=None, loss=LOSS, between=lambda value, backend: None, optimizer=optim.SGD, dtype="float32"):
    """A step of a small network with `probe` in its middle."""
    backend = kind(dtype)
    layers = [nn.Linear(5), probe or nn.Tanh(), nn.Linear(3)]
    model = Model(nn.Sequential(*layers), (4,), backend)
    update, x, target = optimizer(model, 0.1), backend.asarray(X), backend.asarray(LABELS)
    model.zero_grad()
    y, backward = model.forward(x)
    value, dy = loss(y, target, backend)
    between(value, backend)
    backward(dy, need_dx=False)
    update.step()
    return model


def line_of(function) -> str:
    return f"test_debug.py:{inspect.unwrap(function).__code__.co_firstlineno}"


# Off, and on a step that is right ---------------------------------------------------------------------------------


def test_after_the_block_everything_is_as_before():
    owners = (Model, optim.Optimizer, Backend, StrictBackend, StrictBackend.array_type)
    before, trace = [dict(vars(owner)) for owner in owners], sys.gettrace()
    with pytest.raises(ZeroDivisionError), debug() as watch:  # noqa: PT012
        assert Backend.observer is not None
        one_step(StrictBackend)
        backend = Backend()
        Model(nn.Linear(2), (3,), backend).zero_grad()  # a step that is never finished
        raise ZeroDivisionError
    assert isinstance(watch, Watch)
    assert watch.steps == 1
    assert [dict(vars(owner)) for owner in owners] == before
    assert sys.gettrace() is trace


@KINDS
def test_the_same_bits_with_and_without(kind):
    def trained():
        backend = kind(seed=1)
        model = Model(nn.mlp([4, 8, 3], nn.GELU, dropout=0.3), (4,), backend)
        optimizer = optim.AdamW(model, 0.01)
        return train.fit(
            model, losses.SoftmaxCrossEntropy(0.1, (1, 2, 3)), optimizer, data.Dataset(X, LABELS),
            epochs=3, batch_size=2, clip=1.0, quiet=True,
        ), model.tensors()  # fmt: skip

    plain, tensors = trained()
    with debug(forbid_transfers=True) as watch:
        guarded, guarded_tensors = trained()
    assert (watch.steps, watch.transfers) == (9, [])
    assert [row["train_loss"] for row in plain.history] == [row["train_loss"] for row in guarded.history]
    assert all(np.array_equal(tensors[name], guarded_tensors[name]) for name in tensors)


@KINDS
@pytest.mark.parametrize("case", cases.LAYERS, ids=name)
def test_every_layer_keeps_to_the_rules(kind, case):
    subject = case.subject(case.batches[-1])
    one = Pass(subject, draw_values(subject), kind("float32", 0))
    optimizer = optim.SGD(one.model, 0.1)
    with debug(forbid_transfers=True) as watch:
        one.model.zero_grad()
        _, backward = one.forward(one.x)
        backward(one.dy)
        optimizer.step()
    assert (watch.steps, watch.transfers) == (1, [])


@KINDS
@pytest.mark.parametrize("case", cases.LOSSES, ids=name)
def test_every_loss_keeps_to_the_rules(kind, case):
    backend, values = kind("float32", 0), case.values(case.batches[-1])
    y, target = backend.asarray(values["y"]), backend.asarray(values["target"])
    model, loss = Model(nn.Sequential(), case.shape, backend), case.make()
    optimizer = optim.SGD(model, 0.1)
    with debug(forbid_transfers=True) as watch:
        train.train_step(model, loss, optimizer, y, target)
    assert (watch.steps, watch.transfers) == (1, [])


@KINDS
@pytest.mark.parametrize("case", cases.OPTIMIZERS, ids=name)
def test_every_optimizer_keeps_to_the_rules(kind, case):
    with debug(forbid_transfers=True) as watch:
        run_optimizer(case.make, optimizer_values(3), kind("float32", 0), case.clip)
        one_step(kind, optimizer=lambda model, lr: case.make(model))
    assert (watch.steps, watch.transfers) == (1, [])


# Transfers --------------------------------------------------------------------------------------------------------

READS = {
    "to_host": lambda value, backend: backend.to_host(value),
    "__float__": lambda value, backend: float(value),
    "__bool__": lambda value, backend: bool(value > 0),
    "item": lambda value, backend: value.item(),
    "_upload": lambda value, backend: backend.asarray([1.0, 2.0]),
    "synchronize": lambda value, backend: backend.synchronize(),
}


@pytest.mark.parametrize("name", READS)
def test_what_travels_inside_a_step_is_counted_with_its_line(name):
    use = READS[name]
    with debug() as watch:
        one_step(StrictBackend, between=use)
        assert watch.transfers == [watch.transfers[0]]
        assert f"{line_of(use)}: {name} inside a step" in watch.transfers[0]
        backend = StrictBackend()
        use(backend.asarray(np.float32([3])).sum(), backend)  # outside it is nobody's business
    assert (watch.steps, len(watch.transfers)) == (1, 1)


@pytest.mark.parametrize("name", READS)
def test_what_travels_inside_a_step_can_be_forbidden(name):
    use = READS[name]
    with debug(forbid_transfers=True), pytest.raises(TransferError, match=f"{line_of(use)}: {name}"):
        one_step(StrictBackend, between=use)


def test_on_the_cpu_reading_back_is_counted():
    with debug() as watch:
        one_step(Backend, Probe(forward=lambda x, b: b.to_host(x)), between=READS["_upload"])
    assert [line.rpartition(": ")[2] for line in watch.transfers] == [
        "to_host inside a step",
        "_upload inside a step",
    ]


def test_a_read_that_reads_again_is_counted_once():
    class Device(np.ndarray):
        def item(self):
            return 1.0

        def __float__(self):
            return self.item()

    model = Model(nn.Linear(3), (4,), Backend())
    model.backend.array_type = Device
    with debug() as watch:
        model.zero_grad()
        for _ in range(2):
            float(np.zeros(1).view(Device))
    assert [line.rpartition(": ")[2] for line in watch.transfers] == ["__float__ inside a step"] * 2


def test_what_a_gpu_brings_to_the_host_is_counted_once(cuda, monkeypatch):
    class OnGpu(np.ndarray):
        def get(self):
            return np.array(self)

    cupy = sys.modules["cupy"]
    monkeypatch.setattr(cupy, "ndarray", OnGpu)
    monkeypatch.setattr(cupy, "asnumpy", lambda array: array.get(), raising=False)
    monkeypatch.setattr(cuda.CudaBackend, "array_type", OnGpu)
    model, array = Model(nn.Linear(3), (4,), Backend()), np.zeros(2, np.float32).view(OnGpu)
    model.backend = cuda.CudaBackend()
    with debug() as watch:
        model.zero_grad()
        for _ in range(2):
            model.backend.to_host(array)
            array.get()
    assert [line.rpartition(": ")[2] for line in watch.transfers] == ["to_host inside a step", "get inside a step"] * 2


def test_a_pass_before_the_first_step_is_nobodys_business():
    model = Model(nn.Linear(3), (4,), Backend())
    with debug() as watch:
        y, backward = model.forward(X)
        backward(y * np.float32("nan"))
        model.backend.to_host(y)
        model.zero_grad()
    assert (watch.steps, watch.transfers) == (0, [])


def test_a_captured_step_runs_as_it_stands():
    backend = StrictBackend()
    model = Model(nn.Linear(3), (4,), backend)
    optimizer = optim.SGD(model, 0.1)

    def step(x, target):
        value, _ = train.train_step(model, LOSS, optimizer, x, target)
        return value * float(value)

    with debug() as watch:
        captured = backend.capture(step)
        for _ in range(3):
            captured(backend.asarray(X), backend.asarray(LABELS))
    assert watch.steps == 3
    assert watch.transfers == []  # the read comes after the update: the step has ended
    with pytest.raises(HostReadError, match=r"float\(\)"):  # what the device says of the same step when nobody looks
        captured(backend.asarray(X), backend.asarray(LABELS))


# float64 ----------------------------------------------------------------------------------------------------------


def scaled_by_numpys_number(x, backend):
    scale = np.sqrt(5)
    return x * scale


def a_wide_array(x, backend):
    wide = x.astype("float64")
    return wide.astype("float32") * 2


def returned(x, backend):
    return x.astype("float64")


def in_a_tuple(x, backend):
    pair = (x, x.astype("float64"))
    return pair[0]


def called_function(x, backend):
    return helper(x)


def helper(x):
    x = x * 2
    x = x.astype("float64") / 2
    return x.astype("float32")


FLOAT64 = {  # function: the line, counted from its first, and what is said of it
    scaled_by_numpys_number: (1, "makes scale"),
    a_wide_array: (1, "makes wide"),
    returned: (1, "returns"),
    in_a_tuple: (1, "makes pair"),
    called_function: (6, "makes x"),
}


@KINDS
@pytest.mark.parametrize("where", ["forward", "backward"])
@pytest.mark.parametrize("function", FLOAT64, ids=lambda f: f.__name__)
def test_the_line_of_the_first_float64_is_named(kind, where, function):
    offset, what = FLOAT64[function]
    line = function.__code__.co_firstlineno + offset
    with debug(), pytest.raises(Float64Error, match=rf"test_debug\.py:{line}: this line {what}"):
        one_step(kind, Probe(**{where: function}))
    with debug() as watch:
        one_step(Backend, Probe(**{where: function}), dtype="float64")
    assert watch.steps == 1


@KINDS
def test_a_loss_and_an_optimizer_of_ones_own_are_watched(kind):
    def loss(y, target, backend):
        value, dy = LOSS(y, target, backend)
        half = np.float64(0.5)
        return value, dy * half

    class Scaled(optim.SGD):
        def _update(self, x, g, *state):
            g = g.astype("float64")
            x -= self._rate * g.astype("float32")

    with debug():
        with pytest.raises(Float64Error, match=rf"test_debug\.py:{loss.__code__.co_firstlineno + 2}: .* makes half"):
            one_step(kind, loss=loss)
        with pytest.raises(
            Float64Error, match=rf"test_debug\.py:{Scaled._update.__code__.co_firstlineno + 1}: .* makes g"
        ):
            one_step(kind, optimizer=Scaled)


def test_a_gradient_handed_over_in_float64_is_the_callers():
    model = Model(nn.Linear(3), (4,), Backend())
    with debug(), pytest.raises(Float64Error, match=r"test_debug\.py:\d+: this line hands over dy"):  # noqa: PT012
        model.zero_grad()
        y, backward = model.forward(X)
        backward(np.ones(y.shape))


def test_float64_outside_of_passes_is_nobodys_business():
    def batch(host):
        return host[:3].astype("float32")

    wide = X.astype("float64")
    model = Model(nn.Linear(3), (4,), Backend())
    with debug() as watch:
        model.zero_grad()
        y, backward = model.forward(batch(wide))
        batch(wide)  # a pass that is over is none any more
        backward(y)
        batch(wide)
    assert (watch.transfers, model.grad.dtype) == ([], np.float32)


# Not finite -------------------------------------------------------------------------------------------------------

SPOILT = {
    "the output of layers.1 (Probe)": {"probe": Probe(forward=lambda x, b: x * float("nan"))},
    "the input gradient of layers.1 (Probe)": {"probe": Probe(backward=lambda dy, b: dy * float("inf"))},
    "the gradient of the loss, before any layer,": {"loss": lambda y, t, b: (y.sum(), y * float("nan"))},
}


@KINDS
@pytest.mark.parametrize("place", SPOILT)
def test_the_first_value_that_is_not_finite_is_named(kind, place):
    with np.errstate(all="ignore"), debug(), pytest.raises(train.NotFiniteError) as caught:  # noqa: PT012
        one_step(kind)
        one_step(kind, **SPOILT[place])
    assert (caught.value.step, caught.value.where) == (2, place)


def test_an_infinite_gradient_of_a_parameter_is_named_and_the_values_are_kept():
    model = Model(nn.Linear(3), (4,), Backend())
    before, huge = model.data.copy(), np.full((6, 4), 1e30, np.float32)
    with np.errstate(all="ignore"), debug(), pytest.raises(train.NotFiniteError, match="gradient of Linear's W"):  # noqa: PT012
        model.zero_grad()
        _, backward = model.forward(huge)
        backward(np.full((6, 3), 1e30, np.float32))
    assert np.array_equal(model.data, before)


def test_an_update_that_overflows_is_taken_back():
    model = Model(nn.Linear(3), (4,), Backend())
    before, optimizer = model.data.copy(), optim.SGD(model, 1e38)
    with np.errstate(all="ignore"), debug(), pytest.raises(train.NotFiniteError, match="after the update"):  # noqa: PT012
        model.zero_grad()
        y, backward = model.forward(X)
        backward(y * 1e6)
        optimizer.step()
    assert np.array_equal(model.data, before)


def test_a_loss_that_overflows_under_fit_is_still_traced():
    backend = Backend()
    model = Model(nn.Linear(1), (4,), backend)
    points = data.Dataset(X, np.zeros(6, int))
    loss = lambda y, target, backend: (y.sum() * float("inf"), y)
    with debug(), pytest.raises(train.NotFiniteError, match="step 1: a NaN or an infinity in the loss"):
        train.fit(model, loss, optim.SGD(model, 1e-3), points, epochs=1, batch_size=3, quiet=True)


# CuPy -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("forbid", [True, False])
def test_cupys_own_detector_is_on_in_a_step_but_for_our_own_looks(forbid, monkeypatch):
    allowed = [True]

    @contextmanager
    def allow_synchronize(allow):
        warnings.warn("this API is experimental", FutureWarning, stacklevel=2)
        allowed.append(allow)
        yield
        allowed.pop()

    monkeypatch.setitem(sys.modules, "cupyx", SimpleNamespace(allow_synchronize=allow_synchronize))
    backend, seen = Backend(), []
    backend.device = "cuda:0"
    monkeypatch.setattr(backend, "to_host", lambda array: seen.append(allowed[-1]) or array)
    model = Model(nn.Linear(3), (4,), backend)
    optimizer = optim.SGD(model, 0.1)
    with debug(forbid_transfers=forbid):
        model.zero_grad()
        assert allowed[-1] is not forbid
        model.forward(X)
        assert allowed[-1] is not forbid
        optimizer.step()
        assert allowed == [True]
    assert seen == [True, True]  # at the output, and at the parameters


CUPY = """
import warnings
import cupy, cupyx
import numpy as np
from xpnet import Model, nn
from xpnet.backend.cuda import CudaBackend
from xpnet.train.debug import debug, HOST_READS, TransferError

before = dict(vars(cupy.ndarray))
with warnings.catch_warnings(), debug(forbid_transfers=True) as watch:
    warnings.simplefilter("error")
    from cupy._core.syncdetect import _is_allowed
    model = Model(nn.Linear(2), (3,), __import__("xpnet").Backend())
    model.backend.device = "cuda:0"  # so that CuPy's own detector is asked; the arrays of the pass are NumPy's
    model.backend.array_type = cupy.ndarray
    model.zero_grad()
    changed = vars(cupy.ndarray).keys() - before.keys() | {n for n in before if before[n] is not vars(cupy.ndarray)[n]}
    assert changed == set(HOST_READS) - {"__index__"}, changed
    assert not _is_allowed()
    model.backend.array_type = np.ndarray
    y, backward = model.forward(np.ones((1, 3), np.float32))
    assert not _is_allowed()
assert _is_allowed()
assert dict(vars(cupy.ndarray)) == before
print("ok")
"""


def test_cupys_arrays_can_be_watched_and_are_put_back(tmp_path):
    script = tmp_path / "watched.py"
    script.write_text(CUPY, "utf-8")
    done = cupy_wheel.run_with_cupy(script)
    assert done.stdout.strip() == "ok", done.stderr


@pytest.mark.gpu
def test_on_a_gpu_a_mask_as_index_is_found():
    from xpnet.backend.cuda import CudaBackend

    masked = Probe(forward=lambda x, b: x * x[x > 0].size)
    with debug(forbid_transfers=True), pytest.raises(RuntimeError):  # ours, or CuPy's DeviceSynchronized
        one_step(CudaBackend, masked)
    with debug(forbid_transfers=True) as watch:
        one_step(CudaBackend)
    assert (watch.steps, watch.transfers) == (1, [])


def test_it_is_in_the_package():
    assert xpnet.debug is debug


def test_a_block_without_a_step_warns():
    with pytest.warns(UserWarning, match="saw no training step"), xpnet.debug():
        pass
