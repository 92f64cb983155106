"""Arrays of other libraries in, and ours out, without a copy where the device is the same."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import fake_cupy
import numpy as np
import pytest

import xpnet
from xpnet import data, losses, nn, optim, train
from xpnet.backend import Backend
from xpnet.backend.interchange import to_numpy
from xpnet.verify.strict import StrictBackend


class Foreign:
    """An array of a library that speaks DLPack and nothing else."""

    def __init__(self, values, device=(1, 0)):
        self.values, self.device = values, device

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **how):
        return self.values.__dlpack__(**how)


class OnGpu:
    """One that speaks the protocol of Numba and CuPy alone."""

    __cuda_array_interface__ = {"version": 3}  # noqa: RUF012


class Cupys(Foreign):
    """CuPy's own array, on the GPU of that number."""

    def __init__(self, values, ordinal):
        super().__init__(values, SimpleNamespace(id=ordinal))

    def __dlpack_device__(self):
        return (2, self.device.id)


class Cuda:
    """An array that speaks `__cuda_array_interface__` alone, with a pointer, as Numba's do. The memory is the host's,
    which the stand-in for CuPy takes for its GPU's."""

    def __init__(self, values, ordinal=1):
        self.values, self.ordinal = values, ordinal

    @property
    def __cuda_array_interface__(self):
        return {**self.values.__array_interface__, "version": 3, "stream": None}


@pytest.fixture
def jax():
    return pytest.importorskip("jax", reason="JAX is not installed")


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="PyTorch is not installed")


# In -------------------------------------------------------------------------------------------------------------


def test_dlpack_is_taken_without_a_copy():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    taken = Backend().asarray(Foreign(values))
    assert np.shares_memory(taken, values)
    np.testing.assert_array_equal(taken, values)
    assert Backend("float64").asarray(Foreign(values)).dtype == np.float64


@pytest.mark.parametrize("dtype", ["float32", "int64", "uint8", "bool"])
def test_tensors_of_pytorch_are_taken_without_a_copy(torch, dtype):
    tensor = torch.ones((3, 2), dtype=getattr(torch, dtype))
    assert np.shares_memory(Backend().asarray(tensor), tensor.numpy())
    dataset = data.Dataset(tensor, torch.tensor([0, 1, 1]), weights=torch.ones(3))
    assert np.shares_memory(dataset.x, tensor.numpy())
    assert dataset.y.tolist() == [0, 1, 1]


def test_a_model_answers_tensors(torch):
    model = nn.Model(nn.Linear(2), (3,), Backend())
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(torch.from_numpy(x)), model.predict(x))
    np.testing.assert_array_equal(model.predict(Foreign(x)), model.predict(x))


def test_what_numpy_knows_is_taken_as_before():
    assert Backend().asarray([1, 2]).tolist() == [1, 2]
    assert Backend().asarray(2.5).dtype == np.float32
    array = np.zeros(3)
    assert to_numpy(array) is array


@pytest.mark.parametrize("values", [Foreign(np.zeros(2), (2, 0)), OnGpu()])
@pytest.mark.parametrize("taker", [Backend().asarray, lambda v: data.Dataset(v, np.zeros(2, int))])
def test_an_array_on_another_device_is_refused(values, taker):
    with pytest.raises(TypeError, match=rf"this test_interchange.{type(values).__name__} is not in the memory of the"):
        taker(values)


def test_what_a_library_does_not_give_away_is_said(torch):
    with pytest.raises(TypeError, match=r"this torch.Tensor cannot become an array of NumPy: .*requires grad"):
        Backend().asarray(torch.ones(2, requires_grad=True))
    with pytest.raises(TypeError, match=r"this torch.Tensor cannot become.*BFloat16"):
        Backend().asarray(torch.ones(2, dtype=torch.bfloat16))
    with pytest.raises(TypeError, match="cannot put an array of object on cpu"):
        Backend().asarray([None])


@pytest.mark.parametrize("dtype", ["float32", "int32", "uint8", "bool"])
def test_arrays_of_jax_are_taken_without_a_copy(jax, dtype):
    array = jax.numpy.ones((3, 2), dtype)
    for taken in (Backend().asarray(array), Backend().as_it_lies(array), data.Dataset(array, np.zeros(3, int)).x):
        assert (taken.dtype, taken.ctypes.data) == (np.dtype(dtype), array.unsafe_buffer_pointer())
    assert Backend("float64").asarray(jax.numpy.float32(0.5)) == 0.5


def test_a_model_learns_from_arrays_of_jax_and_answers_them(jax):
    x = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
    y, weights = (x[:, 0] > 0).astype(np.int32), np.arange(40, dtype=np.float32)
    models = [nn.Model(nn.Linear(2), (3,), Backend()) for _ in range(2)]
    for model, convert in zip(models, (np.asarray, jax.numpy.asarray), strict=True):
        samples = data.Dataset(convert(x), convert(y), weights=convert(weights))
        loss = losses.SoftmaxCrossEntropy()
        train.fit(model, loss, optim.SGD(model, 0.1), samples, epochs=2, batch_size=8, quiet=True)
    np.testing.assert_array_equal(models[0].data, models[1].data)
    np.testing.assert_array_equal(models[0].predict(x), models[1].predict(jax.numpy.asarray(x)))


def test_what_jax_does_not_give_away_is_said(jax):
    for array, message in (
        (jax.numpy.ones(2, jax.numpy.bfloat16), "cannot put an array of bfloat16 on cpu: only real numbers"),
        (jax.numpy.ones(2, jax.numpy.complex64), "cannot put an array of complex64 on cpu"),
        (jax.random.key(0), "PRNGKey dtype cannot be converted to a NumPy array"),
    ):
        with pytest.raises(TypeError, match=message):
            Backend().asarray(array)


# Out ------------------------------------------------------------------------------------------------------------


def test_other_libraries_take_ours_without_a_copy(torch):
    model = nn.Model(nn.Linear(2), (3,), Backend())
    outputs = model.predict(np.ones((4, 3), np.float32))
    for ours in (outputs, model.data, model.parameters["W"].data):
        theirs = torch.from_dlpack(ours)
        assert theirs.shape == ours.shape
        theirs += 1.0
        assert (torch.from_dlpack(ours) == theirs).all()
        assert np.shares_memory(theirs.numpy(), ours)
    np.testing.assert_array_equal(np.from_dlpack(torch.from_dlpack(outputs)), outputs)


def test_jax_takes_ours(jax):
    """Without a copy only what begins at a multiple of 64 bytes: that is JAX's own rule."""
    model = nn.Model(nn.Linear(2), (3,), Backend())
    for ours in (model.predict(np.ones((4, 3), np.float32)), model.data, model.parameters["W"].data):
        theirs = jax.numpy.from_dlpack(ours)
        np.testing.assert_array_equal(np.asarray(theirs), ours)
    memory = np.zeros(64, np.float32)
    aligned = memory[(-memory.ctypes.data % 64) // 4 :][:16]
    assert jax.numpy.from_dlpack(aligned).unsafe_buffer_pointer() == aligned.ctypes.data


# On a GPU -------------------------------------------------------------------------------------------------------


def upload(cupy, values):
    """`cupy.asarray`: of the host's arrays a copy, of what has a `__cuda_array_interface__` that memory, on its GPU."""
    cupy.came.append(type(values).__name__)
    if isinstance(values, np.ndarray):
        return values.copy().view(fake_cupy.Array)
    interface = {key: values.__cuda_array_interface__[key] for key in ("data", "shape", "typestr", "strides")}
    there = np.asarray(SimpleNamespace(__array_interface__={**interface, "version": 3}))
    array = there.view(type("OnItsGpu", (fake_cupy.Array,), {"device": SimpleNamespace(id=values.ordinal)}))
    array.owner = values
    return array


@pytest.fixture
def cuda_backend(monkeypatch):
    """The backend of GPU 1, on a stand-in for CuPy that notes how arrays come in."""
    cupy = fake_cupy.module()
    cupy.ndarray, cupy.came = fake_cupy.Array, []
    cupy.from_dlpack = lambda a: (cupy.came.append("dlpack"), a.values.view(fake_cupy.Array))[1]
    cupy.asarray = partial(upload, cupy)
    cupy.cuda.Device = lambda ordinal: SimpleNamespace(use=lambda: None)
    backend = fake_cupy.load_cuda(monkeypatch, cupy).CudaBackend(ordinal=1)
    cupy.came.clear()  # the random stream's
    return backend, cupy


def test_what_lies_on_the_gpu_is_taken_there(cuda_backend):
    backend, cupy = cuda_backend
    values = np.zeros((2, 3), np.float32)
    assert np.shares_memory(backend.asarray(Foreign(values, (2, 1))), values)
    assert cupy.came == ["dlpack"]


@pytest.mark.parametrize("dtype", ["float32", "int64", "bool"])
def test_the_interface_of_cuda_arrays_is_taken_without_a_copy_with_its_strides(cuda_backend, dtype):
    backend, cupy = cuda_backend
    values = np.arange(12).reshape(4, 3).astype(dtype)[::2].T
    for take in (backend.asarray, backend.as_it_lies):
        taken = take(Cuda(values))
        assert (taken.device.id, taken.dtype, taken.strides) == (1, values.dtype, values.strides)
        assert np.shares_memory(taken, values)
        np.testing.assert_array_equal(taken, values)
    assert cupy.came == ["Cuda", "Cuda"]


def test_numbers_of_another_precision_are_converted_on_the_gpu(cuda_backend):
    backend, _ = cuda_backend
    values = np.arange(3.0)
    taken = backend.asarray(Cuda(values))
    assert taken.dtype == np.float32
    assert not np.shares_memory(taken, values)
    np.testing.assert_array_equal(taken, values)
    assert backend.as_it_lies(Cuda(values)).dtype == np.float64, "as they lie"
    with pytest.raises(TypeError, match="cannot put an array of complex128 on cuda:1"):
        backend.asarray(Cuda(np.zeros(2, complex)))


def test_an_array_of_cupy_on_the_gpu_beside_is_refused(cuda_backend):
    backend, cupy = cuda_backend
    cupy.ndarray = Cupys
    ours, beside = (Cupys(np.zeros(3, np.float32), ordinal) for ordinal in (1, 0))
    assert backend.as_it_lies(ours) is ours
    for take in (backend.asarray, backend.as_it_lies):
        with pytest.raises(TypeError, match=r"this test_interchange.Cupys is not in the memory of the host"):
            take(beside)
    assert cupy.came == []


def test_an_array_that_speaks_both_is_taken_by_dlpack(cuda_backend):
    backend, cupy = cuda_backend

    class Both(Foreign, Cuda):
        pass

    values = np.zeros(3, np.float32)
    assert np.shares_memory(backend.asarray(Both(values, (2, 1))), values)
    assert cupy.came == ["dlpack"]


def test_what_lies_elsewhere_travels_or_is_refused(cuda_backend):
    backend, cupy = cuda_backend
    values = np.zeros((2, 3), np.float32)
    assert isinstance(backend.asarray(Foreign(values)), fake_cupy.Array)
    assert cupy.came == ["ndarray"], "from the host, by an upload"
    assert type(backend.as_it_lies(Foreign(values))) is np.ndarray, "not before it is asked for"
    with pytest.raises(TypeError, match="not in the memory of the host"):
        backend.asarray(Foreign(values, (2, 0)))  # the GPU beside ours
    with pytest.raises(TypeError, match=r"this test_interchange.Cuda is not in the memory of the host"):
        backend.asarray(Cuda(values, ordinal=0))
    with pytest.raises(TypeError, match=r"this test_interchange.Cuda is not in the memory of the host"):
        StrictBackend().asarray(Cuda(values))


@pytest.mark.gpu
def test_arrays_of_cupy_come_and_go_without_a_copy():
    import cupy

    backend = xpnet.select("cuda")
    array = cupy.ones((3, 2), cupy.float32)
    taken = backend.asarray(Foreign(array, array.__dlpack_device__()))
    assert taken.data.ptr == array.data.ptr
    assert cupy.from_dlpack(taken).data.ptr == array.data.ptr
    spoken = type("Spoken", (), {"__cuda_array_interface__": array.__cuda_array_interface__})()
    assert backend.asarray(spoken).data.ptr == array.data.ptr
    assert backend.asarray(array).__cuda_array_interface__["data"] == array.__cuda_array_interface__["data"]
