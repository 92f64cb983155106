"""Sums over GPUs: what NCCL is asked for, on stand-ins. It has never run on GPUs."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace

import fake_cupy
import numpy as np
import pytest
from thread_group import together

from xpnet import BackendError
from xpnet.parallel.mpi import MpiGroup

TYPES = {7: np.float32, 8: np.float64}  # of nccl.h
ID = (1, 2, 3)


class Done:
    """A request."""

    def Test(self):
        return True


class Communicator:
    """As far as MPI is concerned, one that threads share."""

    def __init__(self, group):
        self.rank, self.size, self._group = group.rank, group.size, group

    def allgather(self, value):
        return self._group.gather(value)

    def Iallgather(self, own, theirs):
        theirs[...] = np.reshape(self._group.gather(own), theirs.shape)
        return Done()

    def Split(self, color, key):
        return self


def groups(nccl_of):
    """What `together` gives a process, with MPI and NCCL played by threads."""

    def of(group):
        nccl_of[group.rank] = group
        return MpiGroup(Communicator(group), Communicator(group))

    return of


@pytest.fixture
def nccl(monkeypatch):
    """CuPy's module nccl; `groups` are those of the processes, by rank, and `streams` where sums were asked for."""
    fake = SimpleNamespace(available=True, NCCL_FLOAT32=7, NCCL_FLOAT64=8, NCCL_SUM=0, groups={}, streams=[])

    class NcclCommunicator:
        def __init__(self, ndev, commId, rank):
            assert (ndev, commId) == (len(fake.groups), ID)
            self._group = fake.groups[rank]

        def allReduce(self, sendbuf, recvbuf, count, datatype, op, stream):
            assert op == fake.NCCL_SUM
            fake.streams.append(stream)
            dtype = TYPES[datatype]
            size = count * np.dtype(dtype).itemsize
            own = np.frombuffer(ctypes.string_at(sendbuf, size), dtype)
            ctypes.memmove(recvbuf, self._group.sum(own).tobytes(), size)

    unique = iter([ID])
    fake.NcclCommunicator, fake.get_unique_id = NcclCommunicator, lambda: next(unique)  # asked for once
    cupy = fake_cupy.module()
    cupy.cuda.nccl, cupy.zeros = fake, lambda size, dtype: DeviceArray(np.zeros(size, dtype))
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupy.cuda", cupy.cuda)
    monkeypatch.delitem(sys.modules, "xpnet.parallel.nccl", raising=False)
    yield fake
    sys.modules.pop("xpnet.parallel.nccl", None)  # it holds the stand-in


class DeviceArray:
    """Memory that NumPy does not know of."""

    def __init__(self, values):
        self._host = np.array(values)
        self.data, self.size, self.dtype = SimpleNamespace(ptr=self._host.ctypes.data), values.size, values.dtype

    def copy(self):
        return DeviceArray(self._host)

    def __iadd__(self, number):
        self._host += number
        return self

    def tolist(self):
        return self._host.tolist()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gradients_of_gpus_are_added_up_in_place_and_other_arrays_in_a_copy(nccl, dtype):
    begin = groups(nccl.groups)

    def process(threads):
        group = begin(threads)
        grad = DeviceArray(np.arange(5, dtype=dtype) + group.rank)
        assert group.window(grad) is None
        total = group.sum(grad)
        kept = grad.tolist()
        weight = group.sum_gradients(grad, 0 if group.rank else 2.5)
        assert weight.tolist() == [2.5]
        return kept, total.tolist(), grad.tolist(), group.sum(group.rank)

    for rank, outcome in enumerate(together(3, process)):
        assert outcome == ([rank + i for i in range(5)], *[[3 * i + 3.0 for i in range(5)]] * 2, 3)
    assert nccl.streams == [fake_cupy.Stream.current.ptr] * 9


def test_without_the_library_all_are_told_what_to_install(nccl):
    nccl.available = False
    begin = groups(nccl.groups)
    for error in together(2, lambda threads: begin(threads).sum_gradients(DeviceArray(np.zeros(3, np.float32)), 1)):
        assert isinstance(error, BackendError)
        assert "pip install nvidia-nccl-cu12" in str(error)
