"""Memory of a step on the CPU: keep freed memory for the next step, and let NumPy's buffers fit a cache."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
LARGEST = 32 << 20  # bytes: the most that every glibc takes as threshold
KEPT = 1 << 29  # bytes


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep up to 512 MB of freed memory, in arrays of up to 32 MB. False where that is not possible.

    By default glibc returns the end of its heap to the system as soon as some megabytes are free there. The next step
    then gets the same pages again, with one page fault for each 4 kB: 4,066 faults in a training step of `nn.resnet`
    (depth 8, batch 64), 1,770 in one of a CNN without batch norm, and 0 with this setting. On a busy machine the faults
    took 4 and 9 % of the step's time.

    The setting holds for the whole process, so it is made where a long run begins, not on import. If the environment
    configures malloc (MALLOC_..., GLIBC_TUNABLES), nothing is changed.
    """
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, without `mallopt`
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGEST) and mallopt(M_TRIM_THRESHOLD, KEPT))


@contextmanager
def short_buffers() -> Iterator[None]:
    """Inside the block, sums into parts of larger arrays, such as `a[:, 1:] += b`, take half the time.

    NumPy processes such parts through buffers of 8,192 numbers each. Together these do not fit a core's L1 cache of 32
    or 48 kB; buffers of 1,024 numbers do.
    """
    with np.errstate():  # puts back the length, too
        np.setbufsize(1024)
        yield
