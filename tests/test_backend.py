"""What a backend keeps and gives back: mode, memory, threads; and that the device asked for is the one that works."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import xpnet
from xpnet import data, losses, nn, optim, probe
from xpnet.backend import Backend, base
from xpnet.verify.strict import StrictBackend


def left_by_an_error(context: Any, look: Callable[[], Any]) -> None:
    """Enter the context, look at what is so inside it, and leave it by an error."""

    def inside():
        with context:
            look()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        inside()


# The mode -------------------------------------------------------------------------------------------------------------


def test_the_mode_is_put_back_also_after_an_error():
    backend = Backend()
    modes = []
    left_by_an_error(backend.mode(training=True), lambda: modes.append(backend.training))
    assert modes == [True]
    assert not backend.training
    with backend.mode(training=True):
        with backend.mode(training=False):
            assert not backend.training
        assert backend.training


@pytest.mark.parametrize("training", ["eval", "train", 1, None])
def test_the_mode_is_true_or_false(training):
    backend = Backend()
    with pytest.raises(ValueError, match="training must be True or False, not"), backend.mode(training):
        pass
    assert backend.training is False


def test_a_step_captured_in_training_is_no_step_of_evaluation():
    backend = StrictBackend()
    dropout = nn.Dropout(0.5)
    captured = backend.capture(lambda x: dropout(x, backend)[0])
    x = backend.asarray(np.ones(64))
    for _ in range(4):
        with backend.mode(training=True):
            assert 0 in backend.to_host(captured(x))
        np.testing.assert_array_equal(backend.to_host(captured(x)), np.ones(64))


def test_dropout_of_nothing_draws_nothing(kind):
    backend = kind("float32", 1)
    before = np.array(backend.rng.state)
    x = backend.asarray(np.ones((3, 4)))
    with backend.mode(training=True):
        y, backward = nn.Dropout(0.0)(x, backend)
    np.testing.assert_array_equal(backend.to_host(y), np.ones((3, 4)))
    np.testing.assert_array_equal(backend.to_host(backward(x)), np.ones((3, 4)))
    np.testing.assert_array_equal(backend.rng.state, before)


def test_an_observer_hears_until_its_block_ends_and_then_the_one_before():
    class Counts(xpnet.backend.Observer):
        def __init__(self):
            self.passes = 0

        def forward(self, layer, x, y):
            self.passes += 1

    backend, outer, inner = Backend(), Counts(), Counts()
    forward = lambda: nn.ReLU()(np.ones((1, 2)), backend)
    with backend.observed_by(outer):
        forward()
        left_by_an_error(backend.observed_by(inner), forward)
        with backend.observed_by(None):
            forward()
        forward()
    forward()
    assert (outer.passes, inner.passes, backend.observer) == (2, 1, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "float16"}, "unknown dtype 'float16': choose one of float32, float64"),
        ({"seed": -1}, "seed must be a whole number >= 0, not -1"),
        ({"seed": True}, "seed must be a whole number >= 0, not True"),
        ({"seed": 0.5}, "seed must be a whole number >= 0, not 0.5"),
        ({"threads": 0}, "threads must be a whole number >= 1, not 0"),
        ({"threads": 1.5}, "threads must be a whole number >= 1, not 1.5"),
        ({"threads": True}, "threads must be a whole number >= 1, not True"),
    ],
)
def test_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        xpnet.select("cpu", **options)


def test_arrays_come_in_the_dtype_of_the_backend_but_for_whole_numbers(kind):
    backend = kind("float32", 0)
    for given, kept in (("float64", "float32"), ("float16", "float32"), ("uint8", "uint8"), ("bool", "bool")):
        assert backend.asarray(np.ones(3, given)).dtype == kept
        assert backend.asarray(backend.asarray(np.ones(3, given))).dtype == kept
    assert backend.asarray(np.ones(3), "float64").dtype == "float64"
    with pytest.raises(TypeError, match="cannot put an array of complex128 on"):
        backend.asarray(np.ones(3, complex))


# Memory ---------------------------------------------------------------------------------------------------------------


def test_memory_of_its_own_is_left_with_its_block():
    backend, own = Backend(), {}
    outside, ones = backend.scratch("a", (4,)), backend.ones(3, "float32")
    inside: list = []
    left_by_an_error(
        backend.own_memory(own), lambda: inside.extend([backend.scratch("a", (4,)), backend.ones(3, "float32")])
    )
    assert not np.shares_memory(inside[0], outside)
    assert not np.shares_memory(inside[1], ones)
    assert np.shares_memory(backend.scratch("a", (4,)), outside)
    assert np.shares_memory(backend.ones(3, "float32"), ones)
    assert len(own) == 2


def test_scratch_grows_and_is_apart_by_name_and_dtype():
    backend = Backend()
    first = backend.scratch("a", (2, 3))
    assert np.shares_memory(backend.scratch("a", (3,)), first)
    assert not np.shares_memory(backend.scratch("b", (2, 3)), first)
    assert not np.shares_memory(backend.scratch("a", (2, 3), "float64"), first)
    assert backend.scratch("a", (5, 5)).shape == (5, 5)


def test_eager_code_does_not_get_the_memory_of_a_captured_step():
    backend = StrictBackend()
    captured = backend.capture(lambda x: backend.scratch("a", (3,)) + x)
    seen, scratch = [], backend.scratch

    def spy(*arguments):
        seen.append(scratch(*arguments))
        return seen[-1]

    backend.scratch = spy
    captured(backend.asarray(np.ones(3)))
    backend.scratch("a", (3,))
    assert not np.shares_memory(seen[0]._host, seen[1]._host)


# Threads --------------------------------------------------------------------------------------------------------------


def blas() -> list[int]:
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


@pytest.fixture
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        if set(blas()) != {2}:
            pytest.skip(f"this BLAS does not take two threads, it has {blas()}")
        yield


@pytest.mark.parametrize(
    ("threads", "multiplications", "expected"),
    [
        (None, base.SMALL_STEP - 1, 1),
        (None, base.SMALL_STEP, 2),
        (1, 10 * base.SMALL_STEP, 1),
        (2, 100, 2),
        (5, 100, 2),  # never more than were set
    ],
)
@pytest.mark.usefixtures("two_threads")
def test_blas_has_the_threads_that_were_asked_for_and_then_those_of_before(threads, multiplications, expected):
    backend = Backend(threads=threads)
    for _ in range(2):
        inside: list = []
        left_by_an_error(backend.threads_for(multiplications), lambda seen=inside: seen.extend(blas()))
        assert set(inside) == {expected}
        assert set(blas()) == {2}


@pytest.mark.usefixtures("two_threads")
def test_fit_trains_with_these_threads_and_puts_them_back():
    from test_fit import blobs, setup

    model, loss, optimizer = setup()
    seen = []
    xpnet.train.fit(
        model, loss, optimizer, blobs(), epochs=1, callbacks=[lambda row, model: seen.append(set(blas()))], quiet=True
    )
    assert (seen, set(blas())) == ([{1}], {2})


# The device -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "ordinal"), [("cuda", 0), ("cuda:0", 0), ("cuda:1", 1), ("cuda:12", 12), ("auto", 0)])
def test_the_gpu_that_is_named_is_probed_and_used(cuda, monkeypatch, name, ordinal):
    probed = []

    def works(number):
        probed.append(number)
        return probe.Diagnosis("ok", "it works", "")

    monkeypatch.setattr(probe, "cuda", works)
    backend = xpnet.select(name, "float64", seed=3, threads=2)
    assert (probed, sys.modules["cupy"].used) == ([ordinal], [ordinal])
    assert (backend.device, str(backend.dtype), backend.seed, backend.threads) == (f"cuda:{ordinal}", "float64", 3, 2)
    assert backend.team is None


@pytest.mark.parametrize(
    "door",
    [
        lambda backend: backend.asarray([1.0]),
        lambda backend: backend.xp,
        lambda backend: backend.mode(training=True).__enter__(),
    ],
    ids=["asarray", "xp", "mode"],
)
def test_of_two_gpus_the_one_that_is_asked_is_used(cuda, door):
    older, _ = cuda.CudaBackend(ordinal=1), cuda.CudaBackend(ordinal=0)
    used = sys.modules["cupy"].used
    assert used[-1] == 0
    door(older)
    assert used[-1] == 1


class InUse(Backend):
    """Knows whether it was used last."""

    last: str | Backend = ""

    def use(self):
        InUse.last = self


def test_a_pass_is_made_where_its_model_lies():
    model = nn.Model(nn.Linear(2), (3,), InUse())
    InUse.last = "another"
    model.forward(np.ones((1, 3), np.float32))
    assert InUse.last is model.backend


def test_fit_goes_on_where_its_model_lies_whatever_a_callback_used():
    model = nn.Model(nn.Linear(2), (3,), InUse())
    samples = data.Dataset(np.ones((4, 3), np.float32), np.zeros((4, 2)))
    xpnet.train.fit(
        model, losses.MeanSquaredError(), optim.SGD(model, 0.1), samples, epochs=1, quiet=True,
        callbacks=[lambda row, model: setattr(InUse, "last", "another")],
    )  # fmt: skip
    assert InUse.last is model.backend


BROKEN = probe.Diagnosis("fault", "it broke", "turn it off\nturn it on")


@pytest.mark.parametrize(
    ("argument", "variable", "why"),
    [
        ("cpu", "cuda", "asked for"),
        (None, "cpu", "asked for by XPNET_DEVICE"),
        (None, "auto", str(BROKEN)),
        (None, "", str(BROKEN)),
        ("auto", "cpu", str(BROKEN)),
    ],
)
def test_the_argument_wins_over_the_variable_and_why_is_said(monkeypatch, argument, variable, why):
    monkeypatch.setattr(probe, "cuda", lambda ordinal: BROKEN)
    monkeypatch.setenv("XPNET_DEVICE", variable)
    backend = xpnet.select(argument, "float64", seed=3, threads=1)
    assert (backend.device, backend.why, backend.training) == ("cpu", why, False)
    assert (str(backend.dtype), backend.seed, backend.threads) == ("float64", 3, 1)


def test_why_a_gpu_was_taken(cuda, monkeypatch):
    monkeypatch.setattr(probe, "cuda", lambda ordinal: probe.Diagnosis("ok", "it works", ""))
    assert xpnet.select("auto").why == "it works"
    assert xpnet.select("cuda:1").why == "asked for"
    monkeypatch.setenv("XPNET_DEVICE", "cuda")
    assert xpnet.select().why == "asked for by XPNET_DEVICE"


@pytest.mark.parametrize(
    ("argument", "variable", "error", "message"),
    [
        ("gpu", "cpu", ValueError, "unknown device 'gpu': choose auto, cpu, cuda or cuda:<number>"),
        ("auto:1", "cpu", ValueError, "unknown device 'auto:1'"),
        (None, "gpu", ValueError, "XPNET_DEVICE: unknown device 'gpu'"),
        (
            "cuda",
            "cpu",
            xpnet.BackendError,
            "device 'cuda' (asked for): no usable GPU: it broke. Fix: turn it off, then",
        ),
        (None, "cuda:1", xpnet.BackendError, "device 'cuda:1' (asked for by XPNET_DEVICE): no usable GPU"),
    ],
)
def test_a_device_that_is_unknown_or_does_not_work(monkeypatch, argument, variable, error, message):
    monkeypatch.setattr(probe, "cuda", lambda ordinal: BROKEN)
    monkeypatch.setenv("XPNET_DEVICE", variable)
    with pytest.raises(error) as caught:
        xpnet.select(argument)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("size", "numbers", "ends"),
    [(0, 1, []), (5, 1, [5]), (65_537, 1, [65_536, 65_537]), (5, 32_768, [2, 4, 5]), (2, 70_000, [1, 2])],
)
def test_pieces_hold_65536_numbers_or_one_item(size, numbers, ends):
    pieces = list(Backend().chunks(size, numbers))
    assert [piece.stop for piece in pieces] == ends
    assert [piece.start for piece in pieces] == [0, *ends][: len(ends)]


def test_products_of_a_step_that_is_captured_have_their_own_handle(cuda):
    backend, gemm, seen = cuda.CudaBackend(), SimpleNamespace(), []
    left_by_an_error(backend.products_by(gemm), lambda: seen.append(backend._gemm))
    assert seen[0] is gemm
    assert backend._gemm is None


def test_all_captured_steps_of_a_gpu_have_one_stream(cuda):
    one, other = cuda.CudaBackend(), cuda.CudaBackend()
    assert one.graph_stream.non_blocking
    assert one.graph_stream is one.graph_stream is not other.graph_stream


def test_a_sum_takes_no_notice_of_what_lies_beside_its_numbers(monkeypatch):
    """OpenBLAS reads beyond rows of 5 numbers, rightly uses nothing of it, and leaves the mark of an invalid operation
    where no number lay there."""

    def product(self, a, b, out):
        np.subtract(np.float32(np.inf), np.float32(np.inf))  # an invalid operation, whose result nobody uses
        return a @ b

    monkeypatch.setattr(Backend, "_product", product)
    with np.errstate(invalid="raise"):
        assert Backend().sum_rows(np.ones((3, 5), np.float32)).tolist() == [3] * 5


def test_sums_over_many_lengths_keep_the_longest_vector_of_ones_alone(kind):
    backend = kind("float32", 0)
    for n in (5, 900, 30, 901):
        assert backend.to_host(backend.sum_rows(backend.asarray(np.ones((n, 2), np.float32)))).tolist() == [n, n]
    assert [array.size for array in backend.kept.values()] == [901]
    assert backend.ones(3, np.float64).dtype == np.float64  # each dtype has its own
