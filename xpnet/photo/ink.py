"""From grey values to ink: even out the light, find the polarity, separate ink from paper, erase ruled lines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xpnet.photo.cells import along_border, in_cells, rise_in, sharp_and_flat, top
from xpnet.photo.components import Mask, find_pieces, run_lengths
from xpnet.photo.opening import Luma

EVEN = 0.15  # added to the paper's brightness before dividing by it: the paper may be black
LINE_SLOPES = np.linspace(-0.27, 0.27, 81)  # ruled lines tilt by at most 15 degrees
SECTIONS, LINE_FRACTION = 64, 0.6  # the width is divided into sections; a line is seen in at least this fraction


@dataclass(frozen=True)
class Ink:
    """`even` (H, W): luma relative to the paper around it, ink positive. `soft` (H, W) in [0, 1]: 0 paper, 1 ink,
    edges in between. `dark`: dark ink on light paper. `contrast`: the level of ink less that of paper, in the unit of
    `even`. `grain`: the standard deviation within the paper, in the same unit. `plain`: the fraction of the image that
    is plain paper.
    """

    even: Luma
    soft: Luma
    dark: bool
    contrast: float
    grain: float
    plain: float


def find_ink(luma: Luma) -> Ink:
    """Separate ink from paper. `luma` (H, W) in [0, 1]; nothing is assumed about light, polarity or position."""
    luma = blur(luma, 1)
    low, high, plain = find_paper(luma)
    paper = np.clip(luma, low, high)
    even = (luma - paper) / (paper + EVEN)
    dark = float((even * even * even).sum()) < 0  # the sign of the skewness: ink is the longer tail
    even = -even if dark else even
    grain = float(np.median(in_cells(luma / (paper + EVEN)).std(axis=0)))
    blank, full = _two_levels(in_cells(np.maximum(even, 0)))
    soft = np.clip((even - blank) / np.float32(max(full - blank, 1e-6)), 0, 1).astype(np.float32)
    return Ink(even, soft, dark, full - blank, grain, plain)


def find_paper(luma: Luma) -> tuple[Luma, Luma, float]:
    """The darkest and the brightest paper around every pixel, and the fraction of the image that is plain paper.

    Paper is what can be reached from the image's border without crossing a sharp edge: a shadow's edge is soft, a
    stroke's is not. Under strokes of either polarity, the brightness is filled in from around them. Darkest and
    brightest differ where two kinds of paper meet, such as a page and the table beside it; no value between the two
    counts as ink.
    """
    cells = in_cells(luma)
    level = cells.mean(axis=0)
    sharp, flat = sharp_and_flat(cells)
    regions = find_pieces(flat)
    paper = along_border(regions)
    if paper.mean() < 0.1:
        paper = along_border(regions, least=0)
    if paper.mean() < 0.1:
        paper = np.ones_like(flat)
    for _ in range(3):  # add islands, holes and the squares of squared paper where they continue the light
        paper, before = flat & (np.abs(level - filled(level, paper)) < sharp), paper
        if (paper == before).all():
            break
    plain = float(paper.mean())
    if plain < 0.1:
        paper = np.ones_like(flat)
    everywhere = filled(level, paper)
    low, high = _around(np.minimum, everywhere), _around(np.maximum, everywhere)
    return enlarged(low, luma.shape), enlarged(high, luma.shape), plain


def _around(extreme: np.ufunc, cells: Luma) -> Luma:
    """The minimum or the maximum of the 5 x 5 cells around each cell."""
    for _ in range(2):  # down; then, transposed, across
        padded = np.pad(cells, ((2, 2), (0, 0)), mode="edge")
        cells = extreme.reduce([padded[i : i + len(cells)] for i in range(5)]).T
    return cells


def enlarged(cells: NDArray, shape: tuple[int, ...]) -> Luma:
    size = shape[1], shape[0]
    image = Image.fromarray(cells.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    return np.clip(np.asarray(image), 0, 1)


def filled(level: NDArray, known: Mask) -> Luma:
    """`level` where `known`, slightly smoothed; elsewhere extrapolated from the nearest known cells.

    What is extrapolated is the difference from a quadratic surface, fitted to all known cells, so that a gradient of
    the light continues.
    """
    y, x = np.meshgrid(*(np.linspace(-1, 1, n) for n in level.shape), indexing="ij")
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1)
    surface = terms @ np.linalg.lstsq(terms[known], level[known], rcond=None)[0]
    rest, weight = np.where(known, level - surface, 0), known.astype(np.float32)
    result = np.zeros_like(rest)
    todo = np.ones_like(known)
    radius = 1
    while todo.any() and radius < 2 * max(level.shape):
        known_fraction = blur(weight, radius)
        ready = todo & (known_fraction > 0.1)
        result[ready] = (blur(rest, radius) / np.maximum(known_fraction, 0.1))[ready]
        todo &= ~ready
        radius *= 2
    return (blur(result, 1) + surface).astype(np.float32)


def _two_levels(cells: NDArray) -> tuple[float, float]:
    """The levels of paper and ink: Otsu's method (IEEE Trans. SMC 9, 1979) on the cells that a sharp edge runs
    through. There both are about equally common; over a whole page, the ink of a thin pen would be lost in the paper's
    grain.
    """
    rise = rise_in(cells)
    values = cells[:, rise >= 0.5 * top(rise)]
    count, edges = np.histogram(values, bins=128)
    level = (edges[1:] + edges[:-1]) / 2
    below, sum_below = np.cumsum(count), np.cumsum(count * level)
    above, sum_above = count.sum() - below, sum_below[-1] - sum_below
    mean_below, mean_above = sum_below / np.maximum(below, 1), sum_above / np.maximum(above, 1)
    best = int(np.argmax(below * above * (mean_above - mean_below) ** 2.0))
    return float(mean_below[best]), float(mean_above[best])


def erase_lines(soft: Luma) -> Luma:
    """`soft` without ruled lines: thin, nearly horizontal or vertical, and drawn across most of the image.

    Where a stroke crosses a line, the run of ink across the line is longer than the line is thick, and is kept.
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
    """The pixels of `thin` near a straight line that is drawn over most of the width.

    The pixels vote for (slope, height at the left edge), as in the Hough transform. What counts is how much of the
    width a line covers, and that it reaches the left or the right side of the image: a long 1 does not.
    """
    width = thin.shape[1]
    y, x = np.nonzero(thin)
    step = max(2, width // 150)
    some = slice(None, None, 1 + len(y) // 20_000)  # at most 20,000 pixels vote: that is enough
    section = x * SECTIONS // width
    on_line = np.zeros(len(y), bool)
    enough = np.count_nonzero(np.bincount(section[some], minlength=SECTIONS)) >= LINE_FRACTION * SECTIONS
    for slope in LINE_SLOPES if enough else ():
        height = ((y - slope * x + 0.27 * width) / step).astype(np.int64) + 1
        seen = np.zeros((int(height.max()) + 2, SECTIONS), bool)
        seen[height[some], section[some]] = True
        full = (seen.sum(axis=1) >= LINE_FRACTION * SECTIONS) & (seen[:, :2] | seen[:, -2:]).any(axis=1)
        if full.any():
            on_line |= (full | np.roll(full, 1) | np.roll(full, -1))[height]
    result = np.zeros_like(thin)
    result[y[on_line], x[on_line]] = True
    return result


def blur(image: NDArray, radius: int) -> Luma:
    """Mean over squares of (2 radius + 1)^2 pixels; beyond the border, the pixels at the edge are repeated."""
    side = 2 * radius + 1
    for _ in range(2):  # down; then, transposed, across
        padded = np.pad(image, ((radius + 1, radius), (0, 0)), mode="edge")
        total = np.cumsum(padded, axis=0, dtype=np.float64)
        image = ((total[side:] - total[:-side]) / side).T
    return np.ascontiguousarray(image, np.float32)
