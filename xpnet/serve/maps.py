"""Arrays of any shape as maps (maps, rows, columns) of limited size, for display."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.nn.shapes import Shape

MAPS = 64  # the most maps of one array
SIDE = 32  # the most cells on a side of a map; in a larger map, each cell is the mean of a block
NUMBERS = 16_384  # the most numbers in all maps of one array


def arranged(values: NDArray) -> NDArray:
    """(maps, rows, columns): the channels of an image (H, W, C) as maps, a matrix as one map, a vector as one row."""
    if values.ndim == 3:
        return values.transpose(2, 0, 1)
    return values.reshape(-1, *values.shape[-2:]) if values.ndim > 2 else np.atleast_2d(values)[None]


def place(flat: int, shape: Shape) -> list[int]:
    """[map, row, column], in the array as `arranged`, of entry number `flat` of an array of this shape."""
    return [int(axis[0]) for axis in np.nonzero(_numbered(shape) == flat)]


def flat(place: list[int], shape: Shape) -> int | None:
    """The inverse of `place`; None where there is no such map, row or column."""
    numbered = _numbered(shape)
    inside = len(place) == 3 and all(0 <= at < n for at, n in zip(place, numbered.shape, strict=True))
    return int(numbered[tuple(place)]) if inside else None


def _numbered(shape: Shape) -> NDArray:
    return arranged(np.arange(math.prod(shape)).reshape(shape))


def shown(values: NDArray, most: int = NUMBERS) -> dict[str, Any]:
    """At most about `most` numbers of an array of any shape: the first maps, or the first entries of a vector. Of maps
    larger than SIDE, the means of blocks."""
    return shown_maps(arranged(values), most)


def shown_maps(maps: NDArray, most: int = NUMBERS) -> dict[str, Any]:
    """The same as `shown`, of maps (maps, rows, columns)."""
    maps = maps.astype(np.float64)
    shape = list(maps.shape)
    block = math.ceil(max(shape[1:]) / SIDE) if shape[1] > 1 else 1
    if block > 1:
        for axis in (1, 2):
            starts = np.arange(0, shape[axis], block)
            sums = np.add.reduceat(maps, starts, axis)
            counts = np.diff([*starts, shape[axis]])
            maps = sums / (counts[:, None] if axis == 1 else counts)
    maps = maps[:, :, :most]
    maps = maps[: max(min(MAPS, most // maps[0].size), 1)]
    return {"shape": shape, "block": block, "numbers": rounded(maps)}


def preview(values: NDArray, maps: int, side: int) -> list[list[list[int]]]:
    """The first maps in small: evenly spaced rows and columns, in percent of the array's largest absolute value."""
    picked = arranged(values)[:maps]
    rows, columns = (np.linspace(0, n - 1, min(n, side)).round().astype(int) for n in picked.shape[1:])
    peak = float(np.abs(values).max(initial=0)) or 1.0
    percents: list[list[list[int]]] = np.rint(100 * picked[:, rows][:, :, columns] / peak).astype(int).tolist()
    return percents


def rounded(values: Any, digits: int = 6) -> Any:
    """Nested lists of numbers, or one number, with so many significant digits: 6 give the same as `float(f"{x:.6g}")`.

    A power of ten up to 10^22 is exact in float64, so the quotient of two whole numbers is the float that the decimal
    number is read as. 0, infinity, and numbers near the smallest, for which the power is out of range, stay as they
    are.
    """
    numbers = np.asarray(values, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        places = digits - 1 - np.floor(np.log10(np.abs(numbers)))
    whole = np.abs(places) <= 300
    places = np.where(whole, places, 0)
    up, down = 10.0 ** places.clip(0), 10.0 ** -places.clip(max=0)
    return np.where(whole, np.rint(numbers * up / down) / up * down, numbers).tolist()
