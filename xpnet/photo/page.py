"""A page that lies in the image, with a table around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xpnet.photo.cells import ALONG, along_border, border, cell_size, in_cells, sharp_and_flat, widened
from xpnet.photo.components import Mask, find_pieces
from xpnet.photo.ink import blur, enlarged, filled
from xpnet.photo.opening import Luma

LEAST = 0.1  # of the image: a smaller page has to be photographed from nearer
SEEN_THROUGH = 0.05  # of a page: dark ink can be as bright as a dark table, but the hole of a bold 0 is larger
FULL = 0.85  # so much of an upright or turned rectangle does a page fill, seen askew too
HOLE = 0.6  # and so much the hole of a 0, which an oval fills to 0.79, and the strokes of a digit to about a half


def find_page(luma: Luma) -> tuple[Luma, tuple[int, int]] | None:
    """The page alone, and where in the image (H, W) its (left, top) is, in pixels; None if there is no such page.
    Beside a page that lies askew the table is painted over with paper.

    The page is the largest flat region that the border does not run along, though a corner may be cut off, and of
    another brightness than the table, which the border does run along: the inside of a 0 is of the same. A bold digit
    can be such a region too; but a page is about a rectangle, and the table is not seen through it.
    """
    cells = in_cells(blur(luma, 1))
    sharp, flat = sharp_and_flat(cells)
    table = along_border(find_pieces(flat))
    page = _largest(flat & ~table)
    if not table.any() or page.sum() < LEAST * flat.size or border(page).mean() > ALONG:
        return None
    level, whole = cells.mean(axis=0), _without_holes(_closed(page))
    if _fullness(whole) < FULL or _seen_through(_like_table(level - filled(level, table), flat & whole, sharp), whole):
        return None
    size = cell_size(luma)
    rows, columns = (np.flatnonzero(page.any(axis=axis)) * size for axis in (1, 0))
    (y, y_end), (x, x_end) = ((int(cell[0]), int(cell[-1]) + size) for cell in (rows, columns))
    on_page = np.kron(_hull(page), np.ones((size, size), bool))[y:y_end, x:x_end]
    paper = enlarged(filled(level, page), luma.shape)[y:y_end, x:x_end]
    return np.where(on_page, luma[y:y_end, x:x_end], paper), (x, y)


def _largest(flat: Mask) -> Mask:
    """The largest region, and what no more than a thin line parts from it, as on squared paper."""
    near = find_pieces(widened(widened(flat)))
    area = np.bincount(near.labels[flat], minlength=len(near.area) + 1)
    return flat & (near.labels == area.argmax())


def _like_table(above_table: NDArray, flat: Mask, sharp: float) -> Mask:
    """The flat regions that are as bright as the table, each as a whole: paper in a shadow is so in a part alone."""
    regions = find_pieces(flat)
    total = np.bincount(regions.labels[flat], weights=np.abs(above_table[flat]), minlength=len(regions.area) + 1)
    alike = np.concatenate([[False], total[1:] < sharp * regions.area])
    return alike[regions.labels]


def _seen_through(like_table: Mask, whole: Mask) -> bool:
    """Whether what is as bright as the table is a hole, as that of a bold 0, and not ink: strokes are no full shape,
    and what they enclose is paper."""
    if like_table.sum() <= SEEN_THROUGH * whole.sum():
        return False
    pieces = find_pieces(like_table)
    largest = pieces.labels == int(pieces.area.argmax()) + 1
    return _fullness(largest) >= HOLE and bool((_without_holes(largest) == largest).all())


def _closed(mask: Mask) -> Mask:
    """With the gaps that are no wider than a thin line, the cells beside it counted."""
    return ~widened(widened(~widened(widened(mask))))


def _without_holes(mask: Mask) -> Mask:
    around = find_pieces(np.pad(~mask, 1, constant_values=True)).labels
    return (around != around[0, 0])[1:-1, 1:-1]


def _fullness(mask: Mask) -> float:
    """How much of the smallest rectangle around it the mask fills, the rectangle turned as it fits best."""
    y, x = np.nonzero(mask)
    around = [
        (np.ptp(x * np.cos(turn) + y * np.sin(turn)) + 1) * (np.ptp(y * np.cos(turn) - x * np.sin(turn)) + 1)
        for turn in np.linspace(0, np.pi / 2, 18, endpoint=False)
    ]
    return len(y) / float(min(around))


def _hull(mask: Mask) -> Mask:
    """The mask with what lies between two of its parts, across or down: ink at the page's edge is kept too."""
    return _between(_between(mask).T).T


def _between(mask: Mask) -> Mask:
    """What lies in a row between the first and the last of the mask."""
    from_left, from_right = np.maximum.accumulate(mask, axis=1), np.maximum.accumulate(mask[:, ::-1], axis=1)
    return from_left & from_right[:, ::-1]
