"""Find a page that lies within the image, with a table around it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from xpnet.photo.cells import ALONG, along_border, border, cell_size, in_cells, sharp_and_flat, widened
from xpnet.photo.components import Mask, find_pieces
from xpnet.photo.ink import blur, enlarged, filled
from xpnet.photo.opening import Luma

LEAST = 0.1  # fraction of the image: a smaller page has to be photographed from nearer
SEEN_THROUGH = 0.05  # fraction of a page: dark ink can be as bright as a dark table, but a bold 0's hole is larger
FULL = 0.85  # a page fills at least this fraction of its tightest (turned) rectangle, even when seen askew
HOLE = 0.6  # the hole of a 0 fills at least this fraction: an oval fills 0.79, the strokes of a digit about a half


def find_page(luma: Luma) -> tuple[Luma, tuple[int, int]] | None:
    """The page alone, and the (left, top) of its box in the image (H, W), in pixels; None if there is no such page.

    Where the page lies askew, the parts of the table that its box includes are painted over with paper.

    The table is flat and runs along the image's border. The page is the largest flat region that does not, though a
    corner of it may be cut off, and its brightness differs from the table's: the inside of a 0 is as bright as what is
    around the 0. A bold digit can be such a region too; but a page is roughly a rectangle, and the table is not seen
    through it.
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
    """The largest region, with the regions that only a thin line separates from it, as on squared paper."""
    near = find_pieces(widened(widened(flat)))
    area = np.bincount(near.labels[flat], minlength=len(near.area) + 1)
    return flat & (near.labels == area.argmax())


def _like_table(above_table: NDArray, flat: Mask, sharp: float) -> Mask:
    """The flat regions that are as bright as the table on average: paper in a shadow is so only in part."""
    regions = find_pieces(flat)
    total = np.bincount(regions.labels[flat], weights=np.abs(above_table[flat]), minlength=len(regions.area) + 1)
    alike = np.concatenate([[False], total[1:] < sharp * regions.area])
    return alike[regions.labels]


def _seen_through(like_table: Mask, whole: Mask) -> bool:
    """Whether the region as bright as the table is a hole, like the hole of a bold 0, and not ink.

    The strokes of ink do not fill a rectangle as a hole does, and what they enclose is paper.
    """
    if like_table.sum() <= SEEN_THROUGH * whole.sum():
        return False
    pieces = find_pieces(like_table)
    largest = pieces.labels == int(pieces.area.argmax()) + 1
    return _fullness(largest) >= HOLE and bool((_without_holes(largest) == largest).all())


def _closed(mask: Mask) -> Mask:
    """Morphological closing: fills gaps no wider than a thin line and the cells on both sides of it."""
    return ~widened(widened(~widened(widened(mask))))


def _without_holes(mask: Mask) -> Mask:
    around = find_pieces(np.pad(~mask, 1, constant_values=True)).labels
    return (around != around[0, 0])[1:-1, 1:-1]


def _fullness(mask: Mask) -> float:
    """The fraction of its smallest bounding rectangle that the mask fills, over rotations in steps of 5 degrees."""
    y, x = np.nonzero(mask)
    around = [
        (np.ptp(x * np.cos(turn) + y * np.sin(turn)) + 1) * (np.ptp(y * np.cos(turn) - x * np.sin(turn)) + 1)
        for turn in np.linspace(0, np.pi / 2, 18, endpoint=False)
    ]
    return len(y) / float(min(around))


def _hull(mask: Mask) -> Mask:
    """The mask with all cells that lie between two of its cells, across or down: it includes ink at the page's edge."""
    return _between(_between(mask).T).T


def _between(mask: Mask) -> Mask:
    """In each row, all cells from the mask's first to its last."""
    from_left, from_right = np.maximum.accumulate(mask, axis=1), np.maximum.accumulate(mask[:, ::-1], axis=1)
    return from_left & from_right[:, ::-1]
