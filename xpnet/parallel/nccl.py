"""Sums over the GPUs of a group, by NCCL through CuPy.

Written for CuPy 14 and tested on stand-ins; it has never run on GPUs.
"""

from __future__ import annotations

import warnings

import cupy as cp
import numpy as np

from xpnet.backend import Array, BackendError
from xpnet.parallel.group import Group, in_all


class NcclSum:
    """The GPUs of a group, one for each process."""

    def __init__(self, group: Group):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # CuPy warns where the library is missing; the error below says it
            from cupy.cuda import nccl
        if not all(group.gather(bool(nccl.available))):
            raise in_all(BackendError("several GPUs need NCCL: pip install nvidia-nccl-cu12, or -cu13 for CUDA 13"))
        self._types = {np.dtype(np.float32): nccl.NCCL_FLOAT32, np.dtype(np.float64): nccl.NCCL_FLOAT64}
        self._sum = nccl.NCCL_SUM
        self._communicator = nccl.NcclCommunicator(group.size, group.first(nccl.get_unique_id), group.rank)

    def number(self, value: Array | float, dtype: np.dtype) -> Array:
        """A number, which may be on the device already, as an array of shape (1,) on the device."""
        array = cp.zeros(1, dtype)
        array += value
        return array

    def sum_up(self, array: Array) -> None:
        """Replace the array, in place, by its sum over all processes."""
        stream, at = cp.cuda.get_current_stream().ptr, array.data.ptr
        self._communicator.allReduce(at, at, array.size, self._types[array.dtype], self._sum, stream)
