"""Sources of samples for `Stored`: concatenated arrays, image files, and a selection from another source."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from xpnet.data.images import read_image


class Rows(Protocol):
    """Samples in files: `shape` and `dtype` of one sample, their number, and `read(indices)`, which returns (M,
    *shape)."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __len__(self) -> int: ...
    def read(self, indices: np.ndarray) -> np.ndarray: ...


class Joined:
    """Several arrays of samples as one, such as memory maps of several files."""

    def __init__(self, arrays: Sequence[np.ndarray]):
        self.shape, self.dtype, self._arrays = arrays[0].shape[1:], arrays[0].dtype, arrays
        self._ends = np.cumsum([len(array) for array in arrays])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def read(self, indices: np.ndarray) -> np.ndarray:
        out = np.empty((len(indices), *self.shape), self.dtype)
        piece = np.searchsorted(self._ends, indices, side="right")
        for number in np.unique(piece).tolist():
            here = np.flatnonzero(piece == number)
            array = self._arrays[number]
            out[here] = array[indices[here] - (self._ends[number] - len(array))]
        return out


class Chosen:
    """A selection of the samples of another source, by their numbers."""

    def __init__(self, rows: Rows, numbers: np.ndarray):
        self.shape, self.dtype, self.rows, self.numbers = rows.shape, rows.dtype, rows, numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def read(self, indices: np.ndarray) -> np.ndarray:
        return self.rows.read(self.numbers[indices])


def numbers_in(rows: Rows, indices: np.ndarray) -> np.ndarray:
    """The numbers of these samples among all samples in the files."""
    while isinstance(rows, Chosen):
        indices, rows = rows.numbers[indices], rows.rows
    return indices


class Images:
    """Image files, each resized to `size` (height, width): (H, W) uint8 in grey, (H, W, 3) in colour."""

    dtype = np.dtype(np.uint8)

    def __init__(self, files: Sequence[Path], size: tuple[int, int], grey: bool):
        self.shape: tuple[int, ...] = size if grey else (*size, 3)
        self._files, self._size, self._grey = files, size, grey

    def __len__(self) -> int:
        return len(self._files)

    def read(self, indices: np.ndarray) -> np.ndarray:
        out = np.empty((len(indices), *self.shape), np.uint8)
        for image, i in zip(out, indices.tolist(), strict=True):
            image[...] = read_image(self._files[i], self._size, self._grey)
        return out
