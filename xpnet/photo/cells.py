"""The image as a grid of coarse cells: their brightness, the edges, and the flat regions between edges."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xpnet.photo.components import Mask, Pieces
from xpnet.photo.opening import Luma

ALONG = 0.08  # fraction of the image's border; the end of a stroke that meets the border covers less


def cell_size(image: Luma) -> int:
    """The side of a cell in pixels: a hundredth of the image's long side."""
    return min(max(4, max(image.shape) // 100), min(image.shape) // 2)


def in_cells(image: Luma) -> NDArray[np.float32]:
    """The image as (pixels of one cell, rows, columns). An incomplete last row or column is left out."""
    size = cell_size(image)
    rows, columns = (n // size for n in image.shape)
    grid = image[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return grid.transpose(1, 3, 0, 2).reshape(size * size, rows, columns)


def rise_in(cells: NDArray) -> NDArray[np.float32]:
    """How much brightness varies within each cell or from it to a neighbour: an edge may lie between two cells."""
    rise, level = cells.max(axis=0) - cells.min(axis=0), cells.mean(axis=0)
    down, across = np.abs(np.diff(level, axis=0)), np.abs(np.diff(level, axis=1))
    for part, step in ((rise[1:], down), (rise[:-1], down), (rise[:, 1:], across), (rise[:, :-1], across)):
        np.maximum(part, step, out=part)
    return rise


def top(rise: NDArray) -> float:
    """The rise of the strongest edges: the eighth largest, so that a few hot pixels do not count."""
    return float(np.sort(rise, axis=None)[-8:][0])


def sharp_and_flat(cells: NDArray) -> tuple[float, Mask]:
    """The least rise of a sharp edge, and a mask of the cells that are neither on such an edge nor next to one."""
    rise = rise_in(cells)
    sharp = 0.3 * top(rise)
    return sharp, ~widened(rise >= sharp)


def widened(mask: Mask) -> Mask:
    """The mask together with the four neighbours of each of its cells."""
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    return wide


def border(cells: NDArray) -> NDArray:
    return np.concatenate([cells[0], cells[-1], cells[1:-1, 0], cells[1:-1, -1]])


def along_border(regions: Pieces, least: float = ALONG) -> Mask:
    """A mask of the regions that cover at least the fraction `least` of the image's border.

    If there are none, all regions that touch the border: squared paper has no large region.
    """
    around = border(regions.labels)
    held = np.bincount(around, minlength=len(regions.area) + 1)
    held[0] = 0
    most = (held > 0) & (held >= least * len(around))
    return (most if most.any() else held > 0)[regions.labels]
