"""Arrays of other libraries in, and ours out, without a copy where the device is the same."""

from __future__ import annotations

import sys
from functools import partial
from types import ModuleType, SimpleNamespace

import fake_cupy
import numpy as np
import pytest

import xpnet
from xpnet import data, nn
from xpnet.backend import Backend
from xpnet.backend.interchange import to_numpy


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


# On a GPU -------------------------------------------------------------------------------------------------------


def upload(cupy, values):
    """`cupy.asarray`: of what has an ordinal, an array on that GPU, and of the host's, a copy on ours."""
    cupy.came.append(type(values).__name__)
    if hasattr(values, "ordinal"):
        return SimpleNamespace(dtype=np.dtype("int8"), device=SimpleNamespace(id=values.ordinal))
    return values.view(fake_cupy.Array)


@pytest.fixture
def cuda_backend(monkeypatch):
    """The backend of GPU 1, on a stand-in for CuPy that notes how arrays come in."""
    cupy = fake_cupy.module()
    cupy.ndarray, cupy.came = fake_cupy.Array, []
    cupy.from_dlpack = lambda a: (cupy.came.append("dlpack"), a.values.view(fake_cupy.Array))[1]
    cupy.asarray = partial(upload, cupy)
    cupy.cuda.Device = lambda ordinal: SimpleNamespace(use=lambda: None)
    gemm, graph = ModuleType("xpnet.backend.gemm"), ModuleType("xpnet.backend.graph")
    gemm.CublasGemm, graph.Captured = object, object
    for name, module in {"cupy": cupy, "xpnet.backend.gemm": gemm, "xpnet.backend.graph": graph}.items():
        monkeypatch.setitem(sys.modules, name, module)
    backend = fake_cupy.load("cuda").CudaBackend(ordinal=1)
    cupy.came.clear()  # the random stream's
    return backend, cupy


def test_what_lies_on_the_gpu_is_taken_there(cuda_backend):
    backend, cupy = cuda_backend
    values = np.zeros((2, 3), np.float32)
    assert np.shares_memory(backend.asarray(Foreign(values, (2, 1))), values)
    assert cupy.came == ["dlpack"]
    numba = OnGpu()
    numba.ordinal = 1
    assert backend.asarray(numba).device.id == 1
    assert backend.taken(numba).device.id == 1


def test_what_lies_elsewhere_travels_or_is_refused(cuda_backend):
    backend, cupy = cuda_backend
    values = np.zeros((2, 3), np.float32)
    assert isinstance(backend.asarray(Foreign(values)), fake_cupy.Array)
    assert cupy.came == ["ndarray"], "from the host, by an upload"
    assert type(backend.taken(Foreign(values))) is np.ndarray, "not before it is asked for"
    with pytest.raises(TypeError, match="not in the memory of the host"):
        backend.asarray(Foreign(values, (2, 0)))  # the GPU beside ours
    beside = OnGpu()
    beside.ordinal = 0
    with pytest.raises(TypeError, match="not in the memory of the host"):
        backend.asarray(beside)


@pytest.mark.gpu
def test_arrays_of_cupy_come_and_go_without_a_copy():
    import cupy

    backend = xpnet.select("cuda")
    array = cupy.ones((3, 2), cupy.float32)
    taken = backend.asarray(Foreign(array, array.__dlpack_device__()))
    assert taken.data.ptr == array.data.ptr
    assert cupy.from_dlpack(taken).data.ptr == array.data.ptr
