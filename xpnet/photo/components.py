"""Connected components ("pieces") of a mask, found from runs in a few vectorised passes, without a loop over pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Pieces:
    """The 8-connected components of a mask. `labels` (H, W) int32: 0 for background, piece i has the label i + 1.
    `area` (n,) in pixels; `boxes` (n, 4) int: left, top, right, bottom, the last two exclusive."""

    labels: NDArray[np.int32]
    area: NDArray[np.int64]
    boxes: NDArray[np.int64]


def runs(mask: Mask) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The horizontal runs of a mask in raster order: row, first column, column after the last."""
    stride = mask.shape[1] + 1  # rows end to end, with a gap, so that no run continues into the next row
    flat = np.zeros(1 + mask.shape[0] * stride, bool)
    flat[1:].reshape(-1, stride)[:, :-1] = mask
    turns = np.flatnonzero(flat[1:] != flat[:-1])
    row = turns[::2] // stride
    return row, turns[::2] - row * stride, turns[1::2] - row * stride


def run_lengths(mask: Mask) -> NDArray[np.int32]:
    """For every pixel of the mask, the length of the horizontal run through it; 0 outside the mask."""
    _, start, end = runs(mask)
    lengths = np.zeros(mask.shape, np.int32)
    lengths[mask] = np.repeat(end - start, end - start)
    return lengths


def find_pieces(mask: Mask) -> Pieces:
    """The 8-connected components of a mask (H, W), numbered by their first pixel in raster order."""
    row, start, end = runs(mask)
    above, below = _touching(row, start, end, mask.shape[1])
    root = _union(len(row), above, below)
    _, piece = np.unique(root, return_inverse=True)
    count = int(piece.max()) + 1 if len(piece) else 0
    labels = np.zeros(mask.shape, np.int32)
    labels[mask] = np.repeat(piece + 1, end - start)  # boolean indexing is in raster order, like the runs
    boxes = np.empty((count, 4), np.int64)
    boxes[:, :2] = max(mask.shape)
    boxes[:, 2:] = 0
    np.minimum.at(boxes[:, 0], piece, start)
    np.minimum.at(boxes[:, 1], piece, row)
    np.maximum.at(boxes[:, 2], piece, end)
    np.maximum.at(boxes[:, 3], piece, row + 1)
    area = np.bincount(piece, weights=end - start, minlength=count).astype(np.int64)
    return Pieces(labels, area, boxes)


def _touching(row: np.ndarray, start: np.ndarray, end: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The pairs of runs in adjacent rows that touch (corners count): the indices of the upper and the lower runs."""
    stride = width + 2  # rows laid end to end with a gap, so that one sorted search serves them all
    first = np.searchsorted(row * stride + end, (row + 1) * stride + start)
    last = np.searchsorted(row * stride + start, (row + 1) * stride + end, side="right")
    count = np.maximum(last - first, 0)
    above = np.repeat(np.arange(len(row)), count)
    offset = np.arange(len(above)) - np.repeat(np.cumsum(count) - count, count)
    return above, np.repeat(first, count) + offset


def _union(count: int, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """For each run, the lowest index of a run in the same piece.

    Until nothing changes, the roots of touching runs are set to the lower of the two, then paths are shortened.
    """
    root = np.arange(count)
    while True:
        low = np.minimum(root[a], root[b])
        lowered = root.copy()
        for end in (root[a], root[b]):
            np.minimum.at(lowered, end, low)
        while (lowered[lowered] != lowered).any():
            lowered = lowered[lowered]
        if (lowered == root).all():
            return root
        root = lowered
