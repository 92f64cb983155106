"""Mean and standard deviation of data that need not fit in memory twice, and checks that all values are finite."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, overload

import numpy as np

from xpnet.arguments import LARGEST, SMALLEST

BLOCK = 1 << 20  # elements per block: a float64 copy of one takes 8 MiB
IN_CACHE = 1 << 16  # elements whose float64 copy stays in a core's cache


@overload
def mean_std(x: np.ndarray, axis: None = None) -> tuple[float, float]: ...
@overload
def mean_std(x: np.ndarray, axis: Literal[0]) -> tuple[np.ndarray, np.ndarray]: ...
def mean_std(x: np.ndarray, axis: Literal[0] | None = None) -> tuple[float | np.ndarray, float | np.ndarray]:
    """Mean and standard deviation of x (N, ...), to standardise with: (x - mean) / std.

    axis=None returns two floats for all values together, axis=0 two float64 arrays of shape x.shape[1:], one entry per
    feature. If nothing varies, or so little that the variance is 0 in float64, the deviation is returned as 1, so that
    dividing by it is safe.

    Computed in float64, block by block, without a float64 copy of x. Blocks are combined as in Chan, Golub and LeVeque,
    "Updating formulae and a pairwise algorithm for computing sample variances", 1979. Raises TypeError for a data set,
    and ValueError if x is empty, has a value that is NaN or infinite, or has values whose squares overflow.
    """
    if axis not in (None, 0):
        raise ValueError(f"axis must be None (all values together) or 0 (feature by feature), not {axis!r}")
    if hasattr(x, "feed"):
        raise TypeError("mean_std takes samples, such as data.x, not a data set")
    x = np.asarray(x)
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"x needs at least one sample and one value, not shape {x.shape}")
    if axis is None and x.dtype == np.uint8:
        return _of_bytes(x)
    check_finite(x)
    count, mean, squares = 0, np.zeros(x.shape[1:] if axis == 0 else ()), np.zeros(())
    with np.errstate(over="ignore", invalid="ignore"):  # checked below
        for rows in row_blocks(x):
            block = x[rows].astype(np.float64)
            n = len(block) if axis == 0 else block.size
            block_mean = block.mean(axis=axis)
            block -= block_mean
            block *= block
            step = block_mean - mean
            squares = squares + block.sum(axis=axis) + step**2 * (count * n / (count + n))
            mean = mean + step * (n / (count + n))
            count += n
    if not np.isfinite(squares).all():
        raise ValueError("x holds values beyond 1e150: their variance is too large for float64; scale x first")
    # Rounding leaves a constant feature with a deviation near 1e-17 instead of 0; min == max detects it exactly.
    std = np.sqrt(squares / count)
    std = np.where((x.min(axis=axis) == x.max(axis=axis)) | (std == 0), 1.0, std)
    return (mean, std) if axis == 0 else (float(mean), float(std))


def _of_bytes(x: np.ndarray) -> tuple[float, float]:
    """The same for bytes, in a quarter of the time: their sum and the sum of their squares are exact whole numbers."""
    total = squares = 0
    for rows in row_blocks(x, IN_CACHE):
        block = x[rows].ravel().astype(np.float64)
        total, squares = total + int(block.sum()), squares + int(block @ block)
    n_squared_variance = x.size * squares - total * total
    return total / x.size, math.sqrt(n_squared_variance) / x.size if n_squared_variance else 1.0


def check_finite(x: np.ndarray, name: str = "x", numbers: np.ndarray | None = None) -> None:
    """Raise ValueError if x (N, ...) has a NaN or an infinity, naming the place of the first one.

    `numbers` (N,), if given, are the row numbers to use in the message.
    """
    if not np.issubdtype(x.dtype, np.inexact):
        return
    for rows in row_blocks(x):
        finite = np.isfinite(x[rows])
        if not finite.all():
            first, *rest = (int(i) for i in np.argwhere(~finite)[0])
            row = rows.start + first
            index = (row if numbers is None else int(numbers[row]), *rest)
            raise ValueError(f"{name}: {x[(row, *rest)]} at index {index}; every value must be finite")


def refuse_far(name: str, there: np.ndarray) -> None:
    """Raise ValueError for a column or a target of numbers too large or too close together for float32."""
    low, high = float(there.min()), float(there.max())
    if max(-low, high) > LARGEST or 0 < high - low < SMALLEST:
        raise ValueError(
            f"column {name!r} holds numbers from {low:g} to {high:g}: float32 needs them within 1e30 and 1e-30 apart, "
            "so scale the column first, by another unit"
        )


def row_blocks(x: np.ndarray, size: int = BLOCK) -> Iterator[slice]:
    """Slices along the first axis of x, each of about `size` elements, at least one row."""
    step = max(1, size * len(x) // max(1, x.size))
    return (slice(start, start + step) for start in range(0, len(x), step))
