"""Which pieces of ink are digits: drop the others, join the parts of a digit, and put digits in reading order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from xpnet.photo.cells import border
from xpnet.photo.components import Mask, Pieces, find_pieces, run_lengths
from xpnet.photo.ink import Ink

MOST_PIECES = 200
MOST_DIGITS = 24  # more than that is a page of text or a texture
# A shape more solid than SOLID and less elongated than BAR is a bar or a blot; so are 7 in 1,000 of MNIST's 1s. From an
# elongation of LONG on, it must be more solid than STRAIGHT: the edges of a bold 1 are less straight than a bar's.
SOLID, BAR = 0.94, 3.1
LONG, STRAIGHT = 2.6, 0.965
LEVEL = 2.2  # a shape more than this many times wider than tall is a level line
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Shape:
    """One candidate for a digit. `mask`: its pixels inside its box; `box`: (left, top, right, bottom) in pixels, the
    last two exclusive; `clear`: the mean ink over its pixels, in [0, 1] (1: no grey at all)."""

    mask: Mask
    box: Box
    clear: float

    @property
    def height(self) -> int:
        return self.box[3] - self.box[1]

    @property
    def width(self) -> int:
        return self.box[2] - self.box[0]

    @cached_property
    def stroke(self) -> float:
        """The stroke's width in pixels: the median over all pixels of the shorter run, across or down, through each."""
        across, down = run_lengths(self.mask), run_lengths(np.ascontiguousarray(self.mask.T)).T
        return float(np.median(np.minimum(across, down)[self.mask]))

    @property
    def length(self) -> float:
        """The length of the pen's path, in units of the box's longer side: the area over the stroke's width."""
        return float(self.mask.sum()) / self.stroke / max(self.height, self.width)

    @cached_property
    def elongation(self) -> float:
        """Length over width, in any direction: the ratio of the standard deviations along the two principal axes."""
        y, x = np.nonzero(self.mask)
        within_pixels = np.eye(2) / 12  # the variance within one pixel
        shorter, longer = np.linalg.eigvalsh(np.cov(x, y, bias=True) + within_pixels)
        return math.sqrt(longer / shorter)

    @cached_property
    def solidity(self) -> float:
        """The area over the area of the convex hull: 1 for a bar, a disc or a triangle; less where there is a bend, or
        a waist as in an 8 whose loops are filled with ink."""
        rows = np.flatnonzero(self.mask.any(axis=1))
        first = self.mask.argmax(axis=1)[rows]
        end = self.width - self.mask[:, ::-1].argmax(axis=1)[rows]
        corners = np.concatenate([np.stack([x, rows + down], axis=1) for x in (first, end) for down in (0, 1)])
        return float(self.mask.sum()) / hull_area(corners)

    @cached_property
    def crossings(self) -> int:
        """How often a scan line meets the stroke: the 90 % quantile over rows or over columns, whichever is larger."""
        counts = []
        for mask in (self.mask, self.mask.T):
            starts = np.diff(np.pad(mask, ((0, 0), (1, 0))).astype(np.int8), axis=1) == 1
            counts.append(np.quantile(starts.sum(axis=1), 0.9))
        return round(max(counts))

    @cached_property
    def holes(self) -> int:
        """The number of regions of paper that the ink encloses; pinholes do not count."""
        paper = find_pieces(np.pad(~self.mask, 1, constant_values=True))
        return int(np.count_nonzero(paper.area >= 6)) - 1  # one region is outside the shape


def find_shapes(ink: Ink, soft: NDArray[np.float32]) -> tuple[list[Shape], str]:
    """The shapes of the digits in reading order, and why there are none ("" if there are)."""
    if ink.contrast < max(0.06, 5 * ink.grain):
        return [], "no ink stands out from the paper"
    pieces = find_pieces(soft > 0.35)
    kept = _kept(pieces, soft.shape)
    if ink.plain < 0.35 and not _closely_cropped(pieces, kept, soft.shape):
        return [], "no plain paper around the ink"
    if not len(kept):
        return [], "nothing but specks, lines or edges"
    if pieces.area[kept].sum() < 0.6 * pieces.area.sum():
        return [], "a texture or a pattern"
    groups = _grouped(pieces, kept)
    shapes = [_shape(pieces, group, soft) for group in groups]
    tallest = max(max(shape.height, shape.width) for shape in shapes)
    shapes = [shape for shape in shapes if max(shape.height, shape.width) >= 0.35 * tallest]
    doubts = [doubt for doubt in map(why_no_digit, shapes) if doubt]
    if len(shapes) > MOST_DIGITS:
        return [], f"{len(shapes)} pieces of ink: a texture or a page of text, not digits"
    if len(doubts) > len(shapes) / 2:
        return [], doubts[0] if len(shapes) == 1 else f"mostly no digits: {doubts[0]}"
    return _in_reading_order(shapes), ""


def why_no_digit(shape: Shape) -> str:
    """What in the shape's geometry speaks against a digit; "" if nothing does."""
    if shape.clear < 0.75 - 0.3 / shape.stroke:  # the soft edges are a large part of a thin stroke
        return "a smudge"
    if shape.width > LEVEL * shape.height:
        return "a level line"
    if shape.length > 4 or shape.crossings > 4 or shape.holes > 4:
        return "a scribble"
    solid = shape.solidity > (SOLID if shape.elongation < LONG else STRAIGHT)
    if shape.elongation < BAR and solid and not shape.holes:  # a bold, narrow 0 is nearly as solid
        return "a blot"
    return ""


def hull_area(points: NDArray[np.int64]) -> float:
    """The area of the convex hull of points (n, 2): Andrew's monotone chain (Inf. Proc. Letters 9, 1979)."""
    ordered = sorted(set(map(tuple, points.tolist())))

    def chain(points: list) -> list:
        turns: list = []
        for x, y in points:
            while len(turns) > 1:
                (x0, y0), (x1, y1) = turns[-2:]
                if (x1 - x0) * (y - y0) > (y1 - y0) * (x - x0):
                    break
                turns.pop()
            turns.append((x, y))
        return turns[:-1]

    x, y = np.array(chain(ordered) + chain(ordered[::-1]), np.float64).T
    return float(abs(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2


def _kept(pieces: Pieces, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Indices of the pieces that are neither specks nor edges of a page, the largest first.

    A piece that runs along the border, or from one side to another, is an edge or a stripe. But if it is the only
    piece apart from specks, and meets at least three sides, it is a closely cropped digit.
    """
    left, top, right, bottom = pieces.boxes.T
    extent = np.maximum(right - left, bottom - top)
    ink = extent >= 0.03 * max(shape)
    ink &= pieces.area >= 0.02 * np.max(pieces.area, where=ink, initial=0)
    sides = _sides_met(pieces, shape)
    edge = (_border_fraction(pieces) > 0.5) | (sides > 1)
    if ink.sum() == 1:
        edge &= sides < 3
    order = np.argsort(-pieces.area, kind="stable")
    return order[(ink & ~edge)[order]]


def _closely_cropped(pieces: Pieces, kept: NDArray[np.int64], shape: tuple[int, ...]) -> bool:
    return len(kept) == 1 and _sides_met(pieces, shape)[kept[0]] >= 3


def _sides_met(pieces: Pieces, shape: tuple[int, ...]) -> NDArray[np.int64]:
    left, top, right, bottom = pieces.boxes.T
    return np.stack([left == 0, top == 0, right == shape[1], bottom == shape[0]]).sum(axis=0)


def _border_fraction(pieces: Pieces) -> NDArray[np.float64]:
    """The length of the image's border that each piece covers, in units of the piece's longer side."""
    covered = np.bincount(border(pieces.labels), minlength=len(pieces.area) + 1)[1:]
    left, top, right, bottom = pieces.boxes.T
    return covered / np.maximum(right - left, bottom - top)


def _grouped(pieces: Pieces, kept: NDArray[np.int64]) -> list[list[int]]:
    """Join the pieces of one digit: a 5 whose bar is loose, a 4 in two strokes, a stroke with a gap."""
    groups: list[list[int]] = []
    boxes: list[Box] = []
    for index in kept[:MOST_PIECES]:
        left, top, right, bottom = (int(v) for v in pieces.boxes[index])
        members, box = [int(index)], (left, top, right, bottom)
        while (near := _nearest(box, boxes)) is not None:
            members += groups.pop(near)
            box = _union(box, boxes.pop(near))
        groups.append(members)
        boxes.append(box)
    return groups


def _nearest(box: Box, boxes: list[Box]) -> int | None:
    """The closest of the boxes that belongs to the same digit as `box`."""
    gaps = [(gap, i) for i, other in enumerate(boxes) if (gap := _gap(box, other)) is not None]
    return min(gaps)[1] if gaps else None


def _gap(a: Box, b: Box) -> float | None:
    """The distance between two boxes of one digit, in units of the taller one's height; None if they are two things."""
    small = min(a, b, key=lambda box: (box[3] - box[1]) * (box[2] - box[0]))
    overlap_x = min(a[2], b[2]) - max(a[0], b[0])
    overlap_y = min(a[3], b[3]) - max(a[1], b[1])
    lower, height = sorted(box[3] - box[1] for box in (a, b))
    gap_x, gap_y = max(-overlap_x, 0) / height, max(-overlap_y, 0) / height
    gap = math.hypot(gap_x, gap_y)
    a_part = lower < 0.7 * height
    most = 0.3 if _wide_together(a, b) else 0.2
    stacked = overlap_x >= 0.5 * (small[2] - small[0]) and gap_y <= most
    slanted = overlap_y <= 0.3 * lower and gap <= (most if a_part else 0.2)  # the halves of a 1 that leans
    beside = a_part and gap <= (0.3 if _is_bar_of(a, b) else 0.12)
    return gap if stacked or slanted or beside else None


def _is_bar_of(a: Box, b: Box) -> bool:
    """Whether the lower of two parts is the bar of a 5, at the upper right of the other part.

    A bar is wider for its height than all but 7 in 10,000 of MNIST's digits. A digit at that place is an exponent.
    """
    bar, rest = sorted((a, b), key=lambda box: box[3] - box[1])
    wide = bar[2] - bar[0] >= 1.8 * (bar[3] - bar[1])
    above = (bar[1] + bar[3]) / 2 <= rest[1] + 0.25 * (rest[3] - rest[1])
    return wide and above and bar[0] >= rest[2] - 0.25 * (rest[2] - rest[0])


def _wide_together(a: Box, b: Box) -> bool:
    """Whether two parts with a larger gap between them can be one digit, by their width.

    Two digits, one above the other, are together narrower for their height; and a level line that juts out on both
    sides is an underline.
    """
    left, top, right, bottom = _union(a, b)
    flat = min(a, b, key=lambda box: (box[3] - box[1]) / (box[2] - box[0]))
    level = flat[2] - flat[0] > LEVEL * (flat[3] - flat[1])
    juts_out = level and flat[0] == left and flat[2] == right
    return 2 * (right - left) >= bottom - top and not juts_out


def _union(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def _shape(pieces: Pieces, group: list[int], soft: NDArray[np.float32]) -> Shape:
    boxes = pieces.boxes[group]
    left, top = (int(v) for v in boxes[:, :2].min(axis=0))
    right, bottom = (int(v) for v in boxes[:, 2:].max(axis=0))
    mask = np.isin(pieces.labels[top:bottom, left:right], np.array(group) + 1)
    return Shape(mask, (left, top, right, bottom), float(soft[top:bottom, left:right][mask].mean()))


def _in_reading_order(shapes: list[Shape]) -> list[Shape]:
    """Line by line, each from left to right; a shape is in a line if its middle is above the line's lowest point."""
    lines: list[list[Shape]] = []
    for shape in sorted(shapes, key=lambda s: s.box[1] + s.box[3]):
        middle = (shape.box[1] + shape.box[3]) / 2
        if lines and middle < max(s.box[3] for s in lines[-1]):
            lines[-1].append(shape)
        else:
            lines.append([shape])
    return [shape for line in lines for shape in sorted(line, key=lambda s: s.box[0] + s.box[2])]
