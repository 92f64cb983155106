"""The `Backend` of a GPU: CuPy as array module. Imported only once a GPU has been chosen."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import cupy as cp
import numpy as np

from xpnet.backend import BackendError
from xpnet.backend.base import Array, Backend
from xpnet.backend.gemm import CublasGemm
from xpnet.backend.graph import Captured
from xpnet.backend.interchange import CUDA, dlpack_device
from xpnet.backend.kernels import bfloat16, launch, philox_skip, philox_uniform
from xpnet.backend.memory import Memory
from xpnet.backend.precision import PRECISIONS
from xpnet.backend.random import DevicePhilox, Philox
from xpnet.backend.tracing import fused

AMPERE = 80  # the compute capability of the first GPUs that multiply bfloat16


class CudaPhilox(DevicePhilox):
    """The same numbers as its base, from two kernels: one fills an array, one (a single thread) moves the counter."""

    def _uniform(self, size: int, n_blocks: int, dtype: np.dtype) -> Array:
        return philox_uniform(dtype)(self._state, np.int64(size), cp.empty(size, dtype), size=n_blocks)

    def _skip(self, n_blocks: int) -> None:
        philox_skip()(np.uint64(n_blocks), self._state, size=1)


class CudaBackend(Backend):
    """One CUDA GPU: the interface of `Backend`, with CuPy's arrays."""

    array_type = cp.ndarray
    precisions = PRECISIONS
    team = None  # the host's threads have nothing to share

    def __init__(
        self,
        dtype: str = "float32",
        seed: int = 0,
        ordinal: int = 0,
        why: str = "asked for",
        threads: int | None = None,
        precision: str | None = None,
    ):
        self.ordinal = ordinal
        self.use()
        self._peak = 0  # bytes of CuPy's pool
        self._gemm: CublasGemm | None = None  # set while a step is being captured
        self._gemms: dict[int, CublasGemm] = {}  # for captured steps, and for products of 16 bits in eager steps
        super().__init__(dtype, seed, f"cuda:{ordinal}", why, threads, precision)
        if precision == "bfloat16" and int(cp.cuda.Device(ordinal).compute_capability) < AMPERE:
            raise BackendError(f'{self.device} is too old for products of bfloat16: use precision="float16"')

    @property
    def xp(self) -> Any:
        """CuPy. This GPU becomes the current one: the caller will make arrays, and another GPU may be current."""
        self.use()
        return cp

    def _adopted(self, values: Any) -> Array | None:
        if isinstance(values, cp.ndarray):  # on another GPU it is refused, like an array of any other library
            return values if values.device.id == self.ordinal else None
        where = dlpack_device(values)
        if where == (CUDA, self.ordinal):
            return cp.from_dlpack(values)
        if where is None and hasattr(values, "__cuda_array_interface__"):
            array = cp.asarray(values)
            return array if array.device.id == self.ordinal else None
        return None

    def _download(self, array: Array) -> np.ndarray:
        with self.observed_by(None):  # whoever was told of `to_host` need not be told of the array's `get`
            return cp.asnumpy(array) if isinstance(array, cp.ndarray) else array

    def _sent(self, host: np.ndarray) -> Array:
        return cp.asarray(host)

    def _stream(self, seed: int) -> Philox:
        return CudaPhilox(seed, self)

    def use(self) -> None:
        cp.cuda.Device(self.ordinal).use()

    def _wait(self) -> None:
        cp.cuda.Device(self.ordinal).synchronize()

    def _product(self, a: Array, b: Array, out: Array | None) -> Array:
        if self._gemm is not None:
            return self._gemm(a, b, out)
        if a.dtype.itemsize == 2:  # CuPy's own products of 16 bits give results of 16 bits
            return self.gemm_of(cp.cuda.get_current_stream())(a, b, out)
        # CuPy's batched product refuses negative strides, such as those of x[::-1].
        a, b = (m.copy() if min(m.strides, default=0) < 0 else m for m in (a, b))
        return super()._product(a, b, out)

    def gemm_of(self, stream: cp.cuda.Stream) -> CublasGemm:
        """The cuBLAS handle of this stream, with its workspace."""
        if stream.ptr not in self._gemms:
            self._gemms[stream.ptr] = CublasGemm(stream)
        return self._gemms[stream.ptr]

    @cached_property
    def graph_stream(self) -> cp.cuda.Stream:
        """The stream of all captured steps: they run one after the other, so they can share a workspace of cuBLAS."""
        return cp.cuda.Stream(non_blocking=True)

    def _rounded(self, a: Array) -> Array:
        # A matrix keeps its layout, which cuBLAS takes as it is; the matrices of a batch must be row-major.
        order = "K" if a.ndim <= 2 else "C"
        if self.precision == "float16":
            return a.astype(np.float16, order=order)
        return bfloat16()(a, cp.empty_like(a, np.uint16, order))

    def take(self, a: Array, indices: Array) -> Array:
        return a.take(indices, axis=0)

    def fuse(self, f: Callable) -> Callable:
        return fused(f, cp.ndarray, launch)

    @property
    def _pool(self) -> Any:
        """CuPy's memory pool for this GPU; the pools of captured steps take their memory from it."""
        self.use()  # CuPy means the pool of the current GPU
        return cp.get_default_memory_pool()

    def memory(self) -> Memory:
        pooled = self._pool.total_bytes()  # a pool only grows, until it is told to free its blocks
        self._peak = max(self._peak, pooled)
        return Memory(self._pool.used_bytes(), pooled, self._peak)

    def free_memory(self) -> None:
        self.memory()  # for the peak
        super().free_memory()
        self._pool.free_all_blocks()

    def limit_memory(self, size: int) -> None:
        super().limit_memory(size)
        self._pool.set_limit(size=self.max_memory)

    def available_memory(self) -> int | None:
        there = cp.cuda.Device(self.ordinal).mem_info[0] + self._pool.total_bytes()
        return there if self.max_memory is None else min(there, self.max_memory)

    def chunks(self, size: int, numbers: int = 1) -> Iterator[slice]:
        yield slice(0, size)

    @contextmanager
    def threads_for(self, multiplications: int) -> Iterator[None]:
        yield  # the host multiplies nothing

    def capture(self, step: Callable) -> Callable:
        return Captured(step, self)

    @contextmanager
    def products_by(self, gemm: CublasGemm) -> Iterator[None]:
        """While a step is captured, products go through a cuBLAS handle of its own (see `gemm.py`)."""
        self._gemm = gemm
        try:
            yield
        finally:
            self._gemm = None
