"""What a real GPU must do. Without one these are skipped; XPNET_REQUIRE_GPU=1 makes that a failure."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import xpnet
from xpnet import Backend, Model, data, losses, nn, optim, train
from xpnet.backend import PRECISIONS
from xpnet.backend.precision import to_bfloat16
from xpnet.backend.random import HostPhilox
from xpnet.verify.parity import parity
from xpnet.verify.strict import StrictBackend

pytestmark = pytest.mark.gpu


WORKSPACE = 33 << 20  # bytes, of cuBLAS, and some for what else is kept


@pytest.fixture
def cuda():
    """kind(dtype, seed) of the first GPU."""
    from xpnet.backend.cuda import CudaBackend

    return CudaBackend


def digits(n: int = 256) -> data.Dataset:
    return data.load("digits").train[:n]


def network() -> nn.Layer:
    return nn.Sequential(
        nn.Standardize(4.9, 6.0), nn.Flatten(), nn.Linear(48), nn.GELU(), nn.Dropout(0.2), nn.Residual(nn.Linear(48)),
        nn.Linear(10),
    )  # fmt: skip


# Parity (the table of cases itself runs on every device in test_layers, test_losses and test_optim) ----------------


def test_parity_of_the_table_and_of_a_network(cuda):
    found = parity()
    assert found.gpu
    assert found.ok, found.verdict
    found = parity(Model(network(), (8, 8), Backend()), digits())
    assert found.ok, found.verdict


# Fusing -----------------------------------------------------------------------------------------------------------


def test_a_fused_chain_gives_the_numbers_of_its_function(cuda, monkeypatch):
    """In place, new and of booleans; strided, of one number, and of none."""
    from xpnet.backend import kernels

    backend, launched = cuda("float32", 0), []
    of_kernel = kernels.elementwise
    monkeypatch.setattr(kernels, "elementwise", lambda *source: launched.append(source) or of_kernel(*source))

    def update(xp, x, g, rate):
        g *= 0.9
        g += 1 / (1 + xp.exp(-x))
        x -= rate * xp.maximum(g, 0.1)
        return xp.sqrt(xp.abs(x)), x, x > g

    for n in (7, 1, 0):
        rng = np.random.default_rng(n)
        host = [rng.standard_normal((5, 2 * n))[:, ::2].astype(np.float32), rng.standard_normal((5, n)), np.ones(1)]
        host = [a.astype(np.float32) for a in host]
        device = [backend.asarray(np.repeat(host[0], 2, axis=1))[:, ::2], *(backend.asarray(a) for a in host[1:])]
        expected, got = update(np, *host), backend.fuse(update)(backend.xp, *device)
        assert got[1] is device[0]
        for a, b in zip((*expected, host[1]), (*got, device[1]), strict=True):
            np.testing.assert_allclose(backend.to_host(b), a, rtol=1e-5, atol=1e-6)
    assert len(launched) == 3


# Capture ----------------------------------------------------------------------------------------------------------


class Training:
    """A network, its optimizer and a batch on a backend."""

    def __init__(self, backend, n: int = 64):
        self.model = Model(network(), (8, 8), backend)
        self.optimizer, self.loss = optim.AdamW(self.model, 0.002), losses.SoftmaxCrossEntropy(0.1)
        part = digits(n)
        self.x, self.target = backend.asarray(part.x), backend.asarray(part.y)

    def step(self, x, target):
        return train.train_step(self.model, self.loss, self.optimizer, x, target, clip=1.0)[0]

    def losses(self, step, steps: int) -> list[float]:
        backend = self.model.backend
        with backend.mode(training=True):
            return [float(backend.to_host(step(self.x, self.target))) for _ in range(steps)]


def test_a_captured_step_learns_as_an_eager_one_and_as_the_cpu(cuda):
    curves = []
    for backend, capture in ((Backend(), False), (cuda("float32", 0), False), (cuda("float32", 0), True)):
        one = Training(backend)
        curves.append(one.losses(backend.capture(one.step) if capture else one.step, 30))
    assert curves[0][-1] < 0.8 * curves[0][0]
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], rtol=1e-4)


def test_the_rate_can_be_changed_between_replays(cuda):
    backend = cuda("float32", 0)
    one = Training(backend)
    step = backend.capture(one.step)
    one.losses(step, 6)
    before = backend.to_host(one.model.data).copy()
    one.optimizer.lr = 0.0
    one.losses(step, 2)
    assert np.array_equal(backend.to_host(one.model.data), before)
    one.optimizer.lr = 0.01
    one.losses(step, 1)
    assert not np.array_equal(backend.to_host(one.model.data), before)


def test_an_error_while_recording_leaves_the_device_usable(cuda):
    backend = cuda("float32", 0)
    calls = []

    def step(x):
        calls.append(1)
        if len(calls) == 3:  # the one that is recorded
            float(x.sum())
        return x + 1

    captured, x = backend.capture(step), backend.xp.zeros(5, "float32")
    captured(x)
    captured(x)
    with pytest.raises(RuntimeError):  # CuPy's own words
        captured(x)
    assert backend.to_host(captured(x)).tolist() == [1] * 5
    assert backend.to_host(backend.matmul(backend.xp.ones((2, 3)), backend.xp.ones((3, 2)))).tolist() == [[3, 3]] * 2


def test_a_captured_steps_memory_is_counted_limited_and_given_back(cuda):
    backend, large = cuda("float32", 0), 1 << 22
    x = backend.xp.ones(large, "float32")
    captured = backend.capture(lambda x: (x * 2 + 1).sum())
    backend.free_memory()
    before = backend.memory().used
    for _ in range(4):
        captured(x)
    assert backend.memory().used >= before + 2 * x.nbytes  # its input, and what it computes
    peak = backend.memory().pooled
    del captured
    backend.free_memory()
    assert backend.memory().used < before + x.nbytes + WORKSPACE
    assert backend.memory().peak >= peak

    backend.limit_memory(backend.memory().pooled + 2 * x.nbytes)
    captured = backend.capture(lambda x: x * 2 + 1)
    try:
        with pytest.raises(MemoryError):
            captured(x)
        assert backend.memory().pooled <= backend.max_memory
    finally:
        backend.xp.get_default_memory_pool().set_limit(size=0)


# Random numbers, files, checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_random_numbers_are_numpys(cuda, dtype):
    top = 2**64 - 1
    for counter in ((0, 0, 0, 0), (top - 3, 1, 2, 3), (top - 3, top, top, top)):
        backend, host = cuda(dtype, 0), HostPhilox(0)
        backend.rng.state = host.state = np.array([5, 6, *counter], np.uint64)
        for size in (1, 3, 8, 9, 31, 1000, 65_537):
            numbers = backend.to_host(backend.rng.random((size,), dtype))
            assert np.array_equal(numbers, host.random((size,), dtype))
            assert backend.rng.state.tolist() == host.state.tolist()


@pytest.mark.parametrize(("dtype", "rounding"), [("float32", 1e-5), ("float64", 1e-13)])
def test_normal_numbers_are_those_of_the_cpu(cuda, dtype, rounding):
    backend, host = cuda(dtype, 4), HostPhilox(4)
    numbers = backend.to_host(backend.rng.standard_normal((300, 5), dtype))
    assert np.allclose(numbers, host.standard_normal((300, 5), dtype), rtol=0, atol=rounding)
    assert backend.rng.state.tolist() == host.state.tolist()


def test_a_replayed_step_draws_the_next_numbers_each_time(cuda):
    backend, host = cuda("float32", 2), HostPhilox(2)
    captured = backend.capture(lambda x: x + backend.rng.random((100,), "float32"))
    for _ in range(6):
        numbers = backend.to_host(captured(backend.xp.zeros(100, "float32")))
        assert np.array_equal(numbers, host.random((100,), "float32"))


def test_the_same_seed_gives_the_same_model_on_cpu_and_gpu(cuda):
    on_gpu, on_cpu = (Model(network(), (8, 8), kind("float32", 9)).tensors() for kind in (cuda, Backend))
    assert all(np.array_equal(on_gpu[key], on_cpu[key]) for key in on_cpu)


def test_saved_on_the_gpu_opened_on_the_cpu_and_back(cuda, tmp_path):
    model = Model(network(), (8, 8), cuda("float32", 4))
    model.save(tmp_path / "model.safetensors")
    on_cpu = xpnet.load(tmp_path / "model.safetensors", "cpu")
    assert on_cpu.backend.device == "cpu"
    assert all(np.array_equal(value, on_cpu.tensors()[key]) for key, value in model.tensors().items())
    outputs = on_cpu.predict(digits().x)
    np.testing.assert_allclose(model.predict(digits().x), outputs, atol=1e-6 * np.abs(outputs).max())
    on_cpu.save(tmp_path / "again.safetensors")
    back = xpnet.load(tmp_path / "again.safetensors", "cuda")
    assert back.backend.device == "cuda:0"
    assert np.array_equal(back.predict(digits().x), model.predict(digits().x))


@pytest.mark.parametrize("order", ["gpu then cpu", "cpu then gpu"])
def test_a_run_started_on_one_device_goes_on_on_the_other(cuda, order, tmp_path):
    def fit(kind, epochs, checkpoint=None):
        model = Model(network(), (8, 8), kind("float32", 1))
        result = train.fit(
            model, losses.SoftmaxCrossEntropy(), optim.Adam(model), digits(), epochs=epochs, batch_size=32,
            checkpoint=checkpoint, resume=checkpoint is not None, quiet=True,
        )  # fmt: skip
        return [row["train_loss"] for row in result.history], model.backend.rng.state.tolist()

    first, second = (cuda, Backend) if order == "gpu then cpu" else (Backend, cuda)
    fit(first, 2, tmp_path / "run")
    resumed, stream = fit(second, 4, tmp_path / "run")
    whole, whole_stream = fit(Backend, 4)
    np.testing.assert_allclose(resumed, whole, rtol=1e-3)
    assert stream == whole_stream  # the same dropout masks to the last


# Products of 16 bits ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", PRECISIONS)
def test_parity_of_a_network_with_products_of_16_bits(cuda, precision):
    found = parity(Model(network(), (8, 8), Backend()), digits(), second=cuda, precision=precision)
    assert found.ok, found.verdict


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_captured_run_with_products_of_16_bits_learns(cuda, precision, monkeypatch):
    from xpnet.optim import loss_scale

    monkeypatch.setattr(loss_scale, "START", loss_scale.HIGHEST)  # so that steps are skipped in float16
    rows = {}
    for kind in (partial(cuda, precision=precision), partial(StrictBackend, precision=precision), Backend):
        model = Model(network(), (8, 8), kind("float32", 0))
        result = train.fit(
            model, losses.SoftmaxCrossEntropy(), optim.AdamW(model, 0.002), digits(), epochs=20, batch_size=32,
            clip=1.0, quiet=True,
        )  # fmt: skip
        assert result.eager == ""
        rows[model.backend.device] = result.history[-1]
    # Sums in another order, rounded to 8 bits in every product, part the two a little more each step.
    assert rows["cuda:0"]["train_loss"] == pytest.approx(rows["strict"]["train_loss"], rel=0.25)
    assert rows["cuda:0"]["train_loss"] < 2 * rows["cpu"]["train_loss"]  # some of the first steps are missing
    skipped = [rows[device].get("skipped_steps", 0) for device in ("cuda:0", "strict")]
    assert abs(skipped[0] - skipped[1]) <= 1  # one may overflow on one of the two by a rounding
    assert (skipped[0] > 0) == (precision == "float16")


def test_the_bfloat16_kernel_rounds_as_its_reference(cuda):
    backend = cuda("float32", 0, precision="bfloat16")
    halves = np.arange(2**16, dtype=np.uint32)
    x = ((halves << 16)[:, None] | np.array([0, 0x7FFF, 0x8000, 0x8001], np.uint32)).view(np.float32)
    for a in (x, x.T):
        bits = backend.to_host(backend._rounded(backend.xp.asarray(a)))
        np.testing.assert_array_equal(bits, to_bfloat16(a, np))
