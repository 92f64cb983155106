"""Matrix products inside a stream capture, and of 16-bit numbers.

CuPy 14 refuses all its own cuBLAS calls while a stream is being captured. So a captured step multiplies through a
separate cuBLAS handle, of the library that CuPy has loaded already. Its stream and a fixed workspace are set once,
before the capture (without a workspace cuBLAS would allocate inside the graph). Products of 16-bit numbers with a
float32 result, which CuPy does not have, are computed in this way in eager steps too.

cuBLAS is column-major. A row-major C = A B, read column-major, is C^T = B^T A^T: hence the order of the operands below.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int, c_longlong, c_size_t, c_void_p
from typing import Any

import cupy as cp
import numpy as np
from cuda.pathfinder import load_nvidia_dynamic_lib

CUDA_TYPE = {"float32": 0, "float64": 1, "float16": 2, "uint16": 14}  # uint16: the bits of bfloat16
COMPUTE = {"float32": 68, "float64": 70}  # CUBLAS_COMPUTE_32F (not TF32), CUBLAS_COMPUTE_64F; by type of the result
DEFAULT_ALGORITHM = -1
WORKSPACE = 32 << 20  # bytes; what NVIDIA recommends for Hopper, more than enough elsewhere


def _library() -> ctypes.CDLL:
    """cuBLAS, with the types of the arguments of those functions that are used here."""
    lib = ctypes.CDLL(load_nvidia_dynamic_lib("cublas").abs_path)
    matrix: list[Any] = [c_void_p, c_int, c_int]  # pointer, type, leading dimension
    stacked: list[Any] = [*matrix, c_longlong]  # and the distance from one matrix to the next
    lib.cublasCreate_v2.argtypes = [ctypes.POINTER(c_void_p)]
    lib.cublasDestroy_v2.argtypes = [c_void_p]
    lib.cublasSetStream_v2.argtypes = [c_void_p, c_void_p]
    lib.cublasSetWorkspace_v2.argtypes = [c_void_p, c_void_p, c_size_t]
    head: list[Any] = [c_void_p, *[c_int] * 5, c_void_p]
    tail: list[Any] = [c_int, c_int]
    lib.cublasGemmEx.argtypes = [*head, *matrix, *matrix, c_void_p, *matrix, *tail]
    lib.cublasGemmStridedBatchedEx.argtypes = [*head, *stacked, *stacked, c_void_p, *stacked, c_int, *tail]
    return lib


def layout(a: Any) -> tuple[int, int]:
    """(transposed?, leading dimension) of the matrices in the last two axes, as cuBLAS expects them.

    Raises ValueError if the matrices are neither row-major nor transposes of row-major ones.
    """
    rows, columns = a.shape[-2:]
    down, right = (stride // a.itemsize for stride in a.strides[-2:])
    if (right == 1 or columns == 1) and (down >= columns or rows == 1):
        return 0, max(down if rows > 1 else columns, columns, 1)
    if (down == 1 or rows == 1) and (right >= rows or columns == 1):
        return 1, max(right if columns > 1 else rows, rows, 1)
    raise ValueError(f"strides {a.strides} of shape {a.shape} need a copy")


def _of_product(a: Any) -> np.dtype:
    """The dtype of a product of arrays such as `a`."""
    return np.dtype(np.float32) if a.itemsize == 2 else a.dtype


class CublasGemm:
    """c = a @ b for one stream; `a` and `b` 2-D, or both batched 3-D and up. Of 16-bit numbers c is float32."""

    def __init__(self, stream: Any):
        self._handle = c_void_p()  # before anything can fail: `__del__` looks at it
        self._lib = _library()
        self._check(self._lib.cublasCreate_v2(byref(self._handle)), "create")
        self._check(self._lib.cublasSetStream_v2(self._handle, stream.ptr), "set the stream")
        self._workspace = cp.cuda.alloc(WORKSPACE)  # after the stream: setting a stream resets the workspace
        self._check(self._lib.cublasSetWorkspace_v2(self._handle, self._workspace.ptr, WORKSPACE), "set the workspace")

    def __del__(self) -> None:
        if self._handle:
            self._lib.cublasDestroy_v2(self._handle)

    @staticmethod
    def _check(status: int, what: str) -> None:
        if status:
            raise RuntimeError(f"cuBLAS could not {what}: status {status}")

    def __call__(self, a: Any, b: Any, out: Any | None = None) -> Any:
        if b.ndim == 1:
            return self(a, b[:, None], None if out is None else out[..., None])[..., 0]
        if a.ndim == 1:
            return self(a[None, :], b, None if out is None else out[..., None, :])[..., 0, :]
        if a.shape[-1] != b.shape[-2]:
            raise ValueError(f"arrays of shapes {a.shape} and {b.shape} cannot be multiplied")
        shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
        c = cp.empty(shape, _of_product(a)) if out is None else out
        self._check_output(a, b, c, shape)
        if c.size and not a.shape[-1]:
            c[...] = 0
        elif c.size and b.ndim == 2 and a.ndim > 2:  # one tall product instead of a batch of small ones
            tall = c.reshape(-1, shape[-1])
            self._product(self._usable(a.reshape(-1, a.shape[-1]), tall.shape), self._usable(b, tall.shape), tall)
        elif c.size:
            self._product(self._usable(a, shape), self._usable(b, shape), c)
        return c

    @staticmethod
    def _check_output(a: Any, b: Any, c: Any, shape: tuple[int, ...]) -> None:
        """Raise an error unless c fits: cuBLAS only gets addresses, and would read and write whatever is there."""
        if c.shape != shape:
            raise ValueError(f"a product of shape {shape} does not fit an output of shape {c.shape}")
        if a.dtype.name not in CUDA_TYPE or a.dtype != b.dtype or c.dtype != _of_product(a):
            raise TypeError(f"a product of {a.dtype} and {b.dtype} into {c.dtype}: use one of {', '.join(CUDA_TYPE)}")
        if c.size and (layout(c)[0] or (c.ndim > 2 and not c.flags.c_contiguous)):
            raise ValueError(f"the output of a product must be row-major, not of strides {c.strides}")

    @staticmethod
    def _usable(a: Any, shape: tuple[int, ...]) -> Any:
        """`a` as `_product` takes it: with the batch axes of the product's shape, copied if cuBLAS needs that."""
        if a.ndim > 2:
            a = cp.ascontiguousarray(cp.broadcast_to(a, (*shape[:-2], *a.shape[-2:])))
        elif len(shape) > 2:
            a = cp.ascontiguousarray(cp.broadcast_to(a, (*shape[:-2], *a.shape)))
        try:
            layout(a)
        except ValueError:
            return cp.ascontiguousarray(a)
        return a

    def _product(self, a: Any, b: Any, c: Any) -> None:
        """Compute c = a @ b: for cuBLAS, which is column-major, b is the first operand."""
        name = c.dtype.name
        scalar = ctypes.c_double if name == "float64" else ctypes.c_float
        one, zero = scalar(1), scalar(0)
        (ta, lda), (tb, ldb), (_, ldc) = layout(a), layout(b), layout(c)
        m, k, n = c.shape[-2], a.shape[-1], c.shape[-1]
        head = (self._handle, tb, ta, n, m, k, byref(one))
        kind, of_c, tail = CUDA_TYPE[a.dtype.name], CUDA_TYPE[name], (COMPUTE[name], DEFAULT_ALGORITHM)
        if c.ndim == 2:
            status = self._lib.cublasGemmEx(
                *head, b.data.ptr, kind, ldb, a.data.ptr, kind, lda, byref(zero), c.data.ptr, of_c, ldc, *tail
            )
        else:
            status = self._lib.cublasGemmStridedBatchedEx(
                *head,
                *(b.data.ptr, kind, ldb, k * n),
                *(a.data.ptr, kind, lda, m * k),
                byref(zero),
                *(c.data.ptr, of_c, ldc, m * n),
                *(c.size // (m * n), *tail),
            )
        self._check(status, f"multiply {a.shape} by {b.shape}")
