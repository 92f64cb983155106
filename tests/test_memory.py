"""Memory: what a backend says of its own, its limit, and what `fit` says where a step does not fit."""

from __future__ import annotations

import gc
import sys
import tracemalloc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

import xpnet
from xpnet import data, losses, nn, optim, select, train
from xpnet.backend import Backend
from xpnet.doctor import machine
from xpnet.train.memory import _needs
from xpnet.verify.strict import StrictBackend


def wide(backend: Backend, width: int = 50) -> nn.Model:
    return nn.Model(nn.Sequential(nn.Linear(2000), nn.ReLU(), nn.Linear(2)), (width,), backend)


def fit(model: nn.Model, batch_size: int = 400, **options):
    rng = np.random.default_rng(0)
    samples = data.Dataset(rng.standard_normal((400, 50), np.float32), rng.integers(0, 2, 400))
    optimizer = optim.Adam(model, 1e-3)
    options = {"epochs": 1, "batch_size": batch_size, "quiet": True, **options}
    return train.fit(model, losses.SoftmaxCrossEntropy(), optimizer, samples, **options)


def test_the_cpu_says_what_the_process_takes():
    backend = select("cpu")
    before = backend.memory()
    assert before.pooled == 0
    backend.scratch("columns", (1000, 250))
    held = np.ones(30_000_000)
    after = backend.memory()
    assert after.pooled == 1_000_000
    if sys.platform == "linux":
        assert after.used - before.used > 0.8 * held.nbytes
        assert after.peak >= after.used
    backend.free_memory()
    assert backend.memory().pooled == 0


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "2GB"])
def test_a_limit_is_a_number_of_bytes(size):
    with pytest.raises(ValueError, match=r"max_memory \(bytes\) must be a whole number >= 1, not"):
        select("cpu", max_memory=size)


def test_a_step_over_the_limit_is_refused_before_anything_is_done(tmp_path):
    model = wide(select("cpu", max_memory=8_000_000))
    before = model.tensors()
    needs = r"a step of 400 samples needs about 1\d\.\d MB, and there are 8\.0 MB: "
    cure = r"a batch of \d+ would fit, or fit\(\.\.\., accumulate=\d\) with this one"
    with pytest.raises(train.OutOfMemoryError, match=needs + cure) as found:
        fit(model)
    assert all((values == before[name]).all() for name, values in model.tensors().items())
    fits = found.value.fits
    assert 100 < fits < 300
    assert len(fit(model, fits).history) == 1
    with pytest.raises(train.OutOfMemoryError):
        fit(model, fits + 30)
    assert len(fit(model, accumulate=-(-400 // fits)).history) == 1


def test_a_model_over_the_limit_is_told_so():
    with pytest.raises(train.OutOfMemoryError, match="not even one sample would fit, as the model takes") as found:
        fit(wide(select("cpu", max_memory=1_000_000)))
    assert found.value.fits == 0


def test_what_the_optimizer_keeps_counts():
    model = wide(select("cpu", max_memory=8_000_000))
    rng = np.random.default_rng(0)
    samples, fits = data.Dataset(rng.standard_normal((400, 50), np.float32), rng.integers(0, 2, 400)), []
    for kind in (optim.SGD, optim.Adam):
        with pytest.raises(train.OutOfMemoryError) as found:
            train.fit(model, losses.SoftmaxCrossEntropy(), kind(model, 1e-3), samples, epochs=1, batch_size=400)
        fits.append(found.value.fits)
    a_sample = 4 * (50 + 2 * 2000)  # at least
    assert 1 < fits[0] - fits[1] <= 2 * 2 * 4 * model.n_parameters / a_sample  # and a copy, to go back to


@pytest.mark.parametrize(("accumulate", "a_sample"), [(1, 40), (3, 14)])
def test_the_batch_that_fits_is_counted_to_the_byte(accumulate, a_sample, monkeypatch):
    """Of a model whose summary says 1,000 bytes, and 40 for each sample."""
    backend = select("cpu")
    model = nn.Model(nn.Linear(2), (50,), backend)
    monkeypatch.setattr(model, "summary", lambda n, example: SimpleNamespace(step=1000 + 40 * n))
    weights = 4 * (50 * 2 + 2)
    adam = 2 * weights + 4 + 2 * 4  # two numbers for each weight, the steps, and those that each parameter missed
    sums = 8 * (2 + 2)  # for loss and accuracy
    fixed = 1000 + weights + (adam + sums) + (weights + adam + sums)  # with the best weights, and a copy to go back to

    backend.max_memory = fixed + 400 * a_sample
    assert len(fit(model, accumulate=accumulate).history) == 1
    for there, fits in [(400 * a_sample - 1, 399), (2 * a_sample, 2), (2 * a_sample - 1, 1), (a_sample - 1, 0)]:
        backend.max_memory = fixed + there
        with pytest.raises(train.OutOfMemoryError) as found:
            fit(model, accumulate=accumulate)
        assert found.value.fits == fits
        assert str(found.value).startswith("a step of 400 samples needs about")
        if fits:
            assert f"accumulate={-(-400 // fits)}) with" in str(found.value)


@pytest.mark.parametrize("average", [False, True])
def test_what_is_said_to_be_needed_is_the_peak_of_a_run(average):
    rng = np.random.default_rng(0)
    samples = data.Dataset(rng.standard_normal((8, 500), np.float32), rng.integers(0, 2, 8))

    def parts():
        model = wide(select("cpu"), 500)
        options = {"average": optim.WeightAverage(model)} if average else {}
        return (model, losses.SoftmaxCrossEntropy(), optim.Adam(model, 1e-3), samples), options

    arguments, options = parts()
    fixed, a_sample = _needs(train.Run(*arguments, 4, **options), samples)
    tracemalloc.start()
    try:
        arguments, options = parts()
        train.fit(*arguments, epochs=2, batch_size=4, quiet=True, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 0.95 < peak / (fixed + 4 * a_sample) < 1.1


def test_a_batch_that_was_said_to_fit_is_not_refused_by_another_measurement(monkeypatch):
    model = nn.Model(nn.Linear(2), (50,), select("cpu", max_memory=100_000))
    slope = iter(range(1000, 2000, 10))
    monkeypatch.setattr(model, "summary", lambda n, example: SimpleNamespace(step=1000 + next(slope) * n))
    with pytest.raises(train.OutOfMemoryError) as found:
        fit(model)
    assert len(fit(model, found.value.fits).history) == 1


def test_where_a_sample_takes_nothing_the_model_itself_has_to_fit(monkeypatch):
    model = nn.Model(nn.Linear(2), (50,), select("cpu", max_memory=100_000))
    monkeypatch.setattr(model, "summary", lambda n, example: SimpleNamespace(step=1000))
    assert len(fit(model).history) == 1
    model.backend.max_memory = 1500
    with pytest.raises(train.OutOfMemoryError, match="not even one sample would fit"):
        fit(model)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_samples_are_enough_to_know_what_a_step_takes(n):
    rng = np.random.default_rng(0)
    samples = data.Dataset(rng.standard_normal((n, 50), np.float32), np.arange(n))
    model = wide(select("cpu", max_memory=10**9))
    options = {"epochs": 1, "batch_size": n, "quiet": True}
    assert len(train.fit(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), samples, **options).history) == 1
    model.backend.max_memory = 1_000_000
    with pytest.raises(train.OutOfMemoryError, match="not even one sample would fit"):
        train.fit(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), samples, **options)


def test_without_a_limit_nothing_is_refused():
    assert len(fit(wide(select("cpu"))).history) == 1


class Greedy(nn.Layer):
    """Needs more than there is for more than `most` samples."""

    def __init__(self, most: int):
        self.most = most

    def forward(self, x, backend):
        if len(x) > self.most:
            raise MemoryError("Out of memory allocating 99 bytes")
        return x, lambda dy, need_dx=True: dy


@pytest.mark.parametrize("kind", [Backend, StrictBackend])
def test_a_device_without_memory_names_the_batch_that_fits(kind, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: (10**9, 8_000_000))
    backend = kind()
    freed = []
    monkeypatch.setattr(backend, "free_memory", lambda: freed.append(True))
    model = nn.Model(nn.Sequential(nn.Linear(2000), Greedy(60), nn.Linear(2)), (50,), backend)
    with pytest.raises(
        train.OutOfMemoryError, match=r"400 samples needs about .* and there are 8\.0 MB: a batch of"
    ) as found:
        fit(model)
    assert freed == [True]
    assert str(found.value.__cause__) == "Out of memory allocating 99 bytes"
    with pytest.raises(train.OutOfMemoryError) as found:  # whatever the estimate says, 61 is too many
        fit(model, 61)
    assert found.value.fits == 60
    assert not backend.training
    assert len(fit(model, 60).history) == 1


def test_the_error_gives_advice_where_the_free_memory_is_unknown(monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: (None, None))
    model = nn.Model(nn.Sequential(nn.Linear(4), Greedy(60), nn.Linear(2)), (50,), select("cpu"))
    with pytest.raises(train.OutOfMemoryError, match=r"99 bytes\. Try a smaller batch, or fit\(\.\.\., accumulate=2\)"):
        fit(model)


# A GPU's pools ------------------------------------------------------------------------------------------------------


class Pool:
    def __init__(self, used: int, total: int):
        self.used, self.total, self.limit = used, total, None

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.total

    def free_all_blocks(self) -> None:
        self.total = self.used

    def set_limit(self, size: int) -> None:
        self.limit = size


def test_a_gpu_remembers_the_peak_of_its_pool(cuda, monkeypatch):
    pool, used, cupy = Pool(30, 100), [], sys.modules["cupy"]
    monkeypatch.setattr(cupy, "get_default_memory_pool", lambda: pool)
    device = lambda ordinal=0: SimpleNamespace(use=lambda: used.append(ordinal), mem_info=(200, 900))
    monkeypatch.setattr(cupy.cuda, "Device", device)
    backend, _ = cuda.CudaBackend(ordinal=1), cuda.CudaBackend()
    assert used[-1] == 0
    assert backend.memory() == (30, 100, 100)
    assert used[-1] == 1, "CuPy gives the pool of the GPU that is in use"
    assert backend.available_memory() == 300
    pool.total = 200
    backend.free_memory()
    assert backend.memory() == (30, 30, 200)
    backend.limit_memory(250)
    assert pool.limit == 250
    assert backend.available_memory() == 230  # 200 that are free and the 30 of the pool
    backend.limit_memory(90)
    assert backend.available_memory() == 90


def test_the_limit_is_set_where_the_device_is_chosen(cuda, monkeypatch):
    pool = Pool(0, 0)
    monkeypatch.setattr(sys.modules["cupy"], "get_default_memory_pool", lambda: pool)
    monkeypatch.setattr(xpnet.probe, "cuda", lambda number: xpnet.probe.Diagnosis("ok", "it works", ""))
    assert (select("cuda", max_memory=77).max_memory, pool.limit) == (77, 77)


ROWS, IMAGES, SEQUENCES = (4000,), (20, 20, 10), (40, 100)


@pytest.mark.parametrize(
    ("layer", "shape", "arrays"),
    [
        *((layer, ROWS, 1) for layer in (nn.ReLU(), nn.LeakyReLU(), nn.PReLU(), nn.ELU(), nn.SELU(), nn.HardSwish())),
        *((layer, ROWS, 1) for layer in (nn.Sigmoid(), nn.Tanh(), nn.SiLU(), nn.Mish(), nn.Softplus(), nn.GELU())),
        *((layer, ROWS, 1) for layer in (nn.GELU("none"), nn.Softmax(), nn.LogSoftmax(), nn.Linear(2))),
        *((layer, SEQUENCES, 1) for layer in (nn.LayerNorm(), nn.RMSNorm(), nn.GroupNorm(2), nn.BatchNorm())),
        *((layer, ROWS, 0) for layer in (nn.Standardize(1, 2), nn.Residual(nn.Sequential()))),
        *((layer, IMAGES, 0) for layer in (nn.AvgPool2d(2), nn.GlobalAvgPool2d(), nn.Flatten(), nn.Reshape(-1))),
        *((layer, SEQUENCES, 0) for layer in (nn.Transpose(1, 0), nn.LearnedPosition(40), nn.SinusoidalPosition())),
        *((layer, SEQUENCES, 1.04) for layer in (nn.RNN(1), nn.LSTM(1), nn.GRU(1))),  # x, and a little for each step
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Layer) else "",
)
def test_what_a_layer_keeps_for_its_backward(layer, shape, arrays):
    """In arrays of the size of x: one that is named in `backward` for its shape alone is held all the same."""
    backend = select("cpu")
    nn.Model(layer, shape, backend).forward(np.ones((64, *shape), np.float32))  # what is kept from pass to pass
    tracemalloc.start()
    try:
        x = np.random.default_rng(0).standard_normal((64, *shape), np.float32)
        size, (y, backward) = x.nbytes, layer.forward(x, backend)
        del x, y
        assert tracemalloc.get_traced_memory()[0] / size == pytest.approx(arrays, abs=0.08)
    finally:
        tracemalloc.stop()
    assert callable(backward)


@pytest.mark.parametrize(
    "network",
    [
        lambda: nn.Sequential(nn.Embedding(5, 3, padding=0), nn.Flatten(), nn.Linear(2)),
        lambda: nn.Sequential(nn.Embedding(5, 3), nn.LSTM(2)),
        lambda: nn.Sequential(nn.Embedding(5, 4), nn.TransformerBlock(2)),
        lambda: nn.Sequential(nn.Standardize(0, 1), nn.Reshape(2, 2, 1), nn.ConvTranspose2d(2, 2), nn.BatchNorm()),
    ],
)
def test_a_model_goes_with_its_last_name(network):
    """Not when Python looks for cycles: with it goes the memory of a GPU."""
    gc.collect()
    gc.disable()
    try:
        model = nn.Model(network(), (4,), select("cpu"))
        gone = {path: weakref.ref(layer) for path, layer in model.network.walk()} | {"data": weakref.ref(model.data)}
        del model
        assert [path for path, thing in gone.items() if thing() is not None] == []
    finally:
        gc.enable()
