"""What the tests of the strict device compare: a host array, and whether a strict one is the same."""

from __future__ import annotations

import numpy as np

from xpnet.verify.strict_array import StrictArray

HOST = np.arange(12, dtype=np.float32).reshape(3, 4)


def same(array, expected) -> bool:
    """Whether `array` is on the strict device, and equal to `expected` in dtype, shape and values."""
    expected = np.asarray(expected)
    alike = isinstance(array, StrictArray) and (array.dtype, array.shape) == (expected.dtype, expected.shape)
    return alike and np.array_equal(np.array(array.tolist()), expected, equal_nan=True)
