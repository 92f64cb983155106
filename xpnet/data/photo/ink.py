"""From grey values to ink: even out the light, find the polarity, tell ink from paper, erase ruled lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .components import Mask, find_pieces, run_lengths
from .opening import Luma

EVEN = 0.15  # keeps the division by the paper's brightness tame where the paper is black
LINE_SLOPES = np.linspace(-0.27, 0.27, 81)  # ruled lines tilt by at most 15 degrees
SECTIONS, LINE_SHARE = 64, 0.6  # a line is seen in so much of the width, counted in sections


@dataclass(frozen=True)
class Ink:
    """`even` (H, W): luma relative to the paper around it, ink positive. `soft` (H, W) in [0, 1]: 0 paper, 1 ink,
    edges in between. `dark`: dark ink on light paper. `contrast`: ink above paper, in the unit of `even`; `grain`:
    the paper's own (a standard deviation) in the same unit. `plain`: the share of the picture that is plain paper.
    """

    even: Luma
    soft: Luma
    dark: bool
    contrast: float
    grain: float
    plain: float


def find_ink(luma: Luma) -> Ink:
    """Separate ink from paper. `luma` (H, W) in [0, 1]; nothing is assumed of light, polarity or position."""
    luma = blur(luma, 1)
    low, high, plain = find_paper(luma)
    paper = np.clip(luma, low, high)
    even = (luma - paper) / (paper + EVEN)
    dark = float((even * even * even).sum()) < 0  # ink is the far tail
    even = -even if dark else even
    grain = float(np.median(_cells(luma / (paper + EVEN)).std(axis=0)))
    blank, full = _two_levels(_cells(np.maximum(even, 0)))
    soft = np.clip((even - blank) / np.float32(max(full - blank, 1e-6)), 0, 1).astype(np.float32)
    return Ink(even, soft, dark, full - blank, grain, plain)


def find_paper(luma: Luma) -> tuple[Luma, Luma, float]:
    """The darkest and the brightest paper around every pixel, whatever is written on it in either polarity, and the
    share of the picture that is plain paper.

    Paper is what can be reached from the picture's border without crossing a sharp edge: a shadow's edge is soft, a
    stroke's is not. Under the strokes the brightness is filled in from around them. Darkest and brightest differ
    where two kinds of paper meet, a page and the table beside it, and nothing in between them is ink.
    """
    cells = _cells(luma)
    level, rise = cells.mean(axis=0), _rise(cells)
    sharp = 0.3 * _top(rise)
    flat = ~_widened(rise >= sharp)
    paper = flat & _along_border(flat)
    if paper.mean() < 0.1:
        paper = np.ones_like(flat)
    paper = flat & (np.abs(level - _filled(level, paper)) < sharp)  # also islands: holes, squares of squared paper
    plain = float(paper.mean())
    if plain < 0.1:
        paper = np.ones_like(flat)
    filled = _filled(level, paper)
    low, high = _around(np.minimum, filled), _around(np.maximum, filled)
    return _enlarged(low, luma.shape), _enlarged(high, luma.shape), plain


def _around(extreme: np.ufunc, cells: Luma) -> Luma:
    """The least or the greatest of the 5 x 5 cells around each."""
    for _ in range(2):  # down, and then, turned, across
        padded = np.pad(cells, ((2, 2), (0, 0)), mode="edge")
        cells = extreme.reduce([padded[i : i + len(cells)] for i in range(5)]).T
    return cells


def _enlarged(cells: NDArray, shape: tuple[int, ...]) -> Luma:
    size = shape[1], shape[0]
    image = Image.fromarray(cells.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(image), 0, 1)


def _cells(image: Luma) -> NDArray[np.float32]:
    """The picture as (pixels of one cell, rows, columns), cells being squares of a hundredth of its long side.
    A last row or column that is not full is left out."""
    size = min(max(4, max(image.shape) // 100), min(image.shape) // 2)
    rows, columns = (n // size for n in image.shape)
    grid = image[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return grid.transpose(1, 3, 0, 2).reshape(size * size, rows, columns)


def _rise(cells: NDArray) -> NDArray[np.float32]:
    """How far brightness goes up or down in each cell or to its neighbours: an edge may lie between two cells."""
    rise, level = cells.max(axis=0) - cells.min(axis=0), cells.mean(axis=0)
    down, across = np.abs(np.diff(level, axis=0)), np.abs(np.diff(level, axis=1))
    for part, step in ((rise[1:], down), (rise[:-1], down), (rise[:, 1:], across), (rise[:, :-1], across)):
        np.maximum(part, step, out=part)
    return rise


def _top(rise: NDArray) -> float:
    """What the strongest edges rise by: the eighth largest, so that a few hot pixels do not count."""
    return float(np.sort(rise, axis=None)[-8:][0])


def _widened(mask: Mask) -> Mask:
    wide = mask.copy()
    wide[1:] |= mask[:-1]
    wide[:-1] |= mask[1:]
    wide[:, 1:] |= mask[:, :-1]
    wide[:, :-1] |= mask[:, 1:]
    return wide


def _along_border(flat: Mask) -> Mask:
    """The connected regions of `flat` that hold a good part of the border: more than the end of a stroke does."""
    regions = find_pieces(flat)
    labels = regions.labels
    border = np.concatenate([labels[0], labels[-1], labels[1:-1, 0], labels[1:-1, -1]])
    held = np.bincount(border, minlength=len(regions.area) + 1)
    held[0] = 0
    most = held >= 0.08 * len(border)
    return (most if most.any() else held > 0)[labels]  # squared paper has no large region


def _filled(level: NDArray, known: Mask) -> Luma:
    """`level` where `known`, slightly smoothed; elsewhere continued from the nearest known cells, along a quadratic
    surface through all of them, so that a gradient of the light goes on."""
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in level.shape), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    surface = terms @ np.linalg.lstsq(terms[known], level[known], rcond=None)[0]
    rest, weight = np.where(known, level - surface, 0), known.astype(np.float32)
    result = np.zeros_like(rest)
    todo = np.ones_like(known)
    radius = 1
    while todo.any() and radius < 2 * max(level.shape):
        share = blur(weight, radius)
        ready = todo & (share > 0.1)
        result[ready] = (blur(rest, radius) / np.maximum(share, 0.1))[ready]
        todo &= ~ready
        radius *= 2
    return (blur(result, 1) + surface).astype(np.float32)


def _two_levels(cells: NDArray) -> tuple[float, float]:
    """The levels of paper and ink: Otsu's method (IEEE Trans. SMC 9, 1979) on the cells that a sharp edge runs
    through. There both are about equally common; over a whole page a thin pen would drown in the paper's grain.
    """
    rise = _rise(cells)
    values = cells[:, rise >= 0.5 * _top(rise)]
    count, edges = np.histogram(values, bins=128)
    level = (edges[1:] + edges[:-1]) / 2
    below, sum_below = np.cumsum(count), np.cumsum(count * level)
    above, sum_above = count.sum() - below, sum_below[-1] - sum_below
    mean_below, mean_above = sum_below / np.maximum(below, 1), sum_above / np.maximum(above, 1)
    best = int(np.argmax(below * above * (mean_above - mean_below) ** 2.0))
    return float(mean_below[best]), float(mean_above[best])


def erase_lines(soft: Luma) -> Luma:
    """`soft` without ruled lines: thin, nearly level or upright, and drawn across most of the picture.

    Where a stroke crosses a line it is longer than the line is thick, and stays.
    """
    level = _erase_level_lines(soft)
    return np.ascontiguousarray(_erase_level_lines(np.ascontiguousarray(level.T)).T)


def _erase_level_lines(soft: Luma) -> Luma:
    mask = soft > 0.15
    thickness = run_lengths(np.ascontiguousarray(mask.T)).T
    thin = mask & (thickness <= max(3, 0.025 * mask.shape[1]))
    line = _along_lines(thin)
    if not line.any():
        return soft
    usual = float(np.median(thickness[line]))
    return np.where(line & (thickness <= 1.7 * usual + 1), np.float32(0), soft)


def _along_lines(thin: Mask) -> Mask:
    """The pixels of `thin` near a straight line that is drawn over most of the width: a vote of all pixels over
    (slope, height at the left edge), as in Hough's transform; what counts is how much of the width a line covers,
    and that it comes from a side of the picture: a long 1 does not.
    """
    width = thin.shape[1]
    y, x = np.nonzero(thin)
    step = max(2, width // 150)
    some = slice(None, None, 1 + len(y) // 20_000)  # a vote needs no more
    section = x * SECTIONS // width
    on_line = np.zeros(len(y), bool)
    enough = np.count_nonzero(np.bincount(section[some], minlength=SECTIONS)) >= LINE_SHARE * SECTIONS
    for slope in LINE_SLOPES if enough else ():
        height = ((y - slope * x + 0.27 * width) / step).astype(np.int64) + 1
        seen = np.zeros((int(height.max()) + 2, SECTIONS), bool)
        seen[height[some], section[some]] = True
        full = (seen.sum(axis=1) >= LINE_SHARE * SECTIONS) & (seen[:, :2] | seen[:, -2:]).any(axis=1)
        if full.any():
            on_line |= (full | np.roll(full, 1) | np.roll(full, -1))[height]
    result = np.zeros_like(thin)
    result[y[on_line], x[on_line]] = True
    return result


def blur(image: NDArray, radius: int) -> Luma:
    """Mean over squares of (2 radius + 1)^2 pixels, the edges repeated."""
    side = 2 * radius + 1
    for _ in range(2):  # down, and then, turned, across
        padded = np.pad(image, ((radius + 1, radius), (0, 0)), mode="edge")
        total = np.cumsum(padded, axis=0, dtype=np.float64)
        image = ((total[side:] - total[:-side]) / side).T
    return np.ascontiguousarray(image, np.float32)
