"""Cutting data into parts with equal shares of every class; one-hot labels; mean and standard deviation.

Everything here is drawn and computed on the host, so that it is the same for every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal, overload

import numpy as np

from xpnet.data.batches import permutation

if TYPE_CHECKING:
    from xpnet.data.datasets import Dataset

BLOCK = 1 << 20  # elements per block: a float64 copy of one takes 8 MiB


def split(dataset: Dataset, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
    """Cut a data set in two: (rest, part), where part has about `fraction` of the samples, 0 < fraction < 1.

    Stratified: in each class the share is exact to within one sample. Both parts keep the data set's order.
    Raises ValueError if the fraction is outside (0, 1), or so near to its ends that one part would be empty.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"fraction must lie between 0 and 1, both excluded, not {fraction!r}")
    n = len(dataset)
    size = round(n * fraction)
    if size in (0, n):
        raise ValueError(f"fraction={fraction} of {n} samples leaves one of the two parts empty")
    # Evenly spaced picks from the samples sorted by class take the same share of every class.
    picked = (2 * np.arange(size) + 1) * n // (2 * size)
    in_part = np.zeros(n, dtype=bool)
    in_part[_shuffled_by_class(dataset.y, seed, "split")[picked]] = True
    return dataset.take(np.flatnonzero(~in_part)), dataset.take(np.flatnonzero(in_part))


def kfold(dataset: Dataset, k: int, seed: int) -> Iterator[tuple[Dataset, Dataset]]:
    """The k pairs (train, validation) of k-fold cross-validation; every sample is in one validation part.

    Stratified: any two validation parts differ by one at most in the count of a class, and in size.
    Raises ValueError, at the call, if k < 2 or some class has fewer than k samples.
    """
    if k < 2:
        raise ValueError(f"k must be at least 2, not {k}")
    labels, counts = np.unique(dataset.y, return_counts=True)
    rarest = int(counts.argmin())
    if counts[rarest] < k:
        name = dataset.classes[labels[rarest]]
        raise ValueError(f"{k} folds need {k} samples of every class, but class {name!r} has {counts[rarest]}")
    fold = np.empty(len(dataset), dtype=np.int64)
    fold[_shuffled_by_class(dataset.y, seed, "kfold")] = np.arange(len(dataset)) % k  # dealt like cards
    parts = ((np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k))
    return ((dataset.take(train), dataset.take(validation)) for train, validation in parts)


def _shuffled_by_class(labels: np.ndarray, seed: int, purpose: str) -> np.ndarray:
    """The indices of all samples, those of a class next to each other, in random order within it."""
    order = permutation(len(labels), seed, purpose)
    return order[np.argsort(labels[order], kind="stable")]


def one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Labels (N,) as rows of zeros with a single one: (N, n_classes) float32. Raises as check_labels does."""
    labels = check_labels(labels, n_classes)
    rows = np.zeros((len(labels), n_classes), dtype=np.float32)
    rows[np.arange(len(labels)), labels] = 1
    return rows


def check_labels(labels: np.ndarray, n_classes: int, name: str = "labels") -> np.ndarray:
    """The labels as (N,) int64, once it is sure that they are whole numbers in 0..n_classes-1.

    A GPU does not notice an index that is out of range, so this is the place that does.
    Raises ValueError, naming the first label that is wrong.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        hint = "; argmax(axis=1) turns one-hot rows into labels" if labels.ndim == 2 else ""
        raise ValueError(f"{name}: expected one label per sample, shape (N,), not shape {labels.shape}{hint}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{name}: expected integers, not {labels.dtype}; convert with astype(numpy.int64)")
    wrong = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(wrong):
        i = int(wrong[0])
        others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        raise ValueError(f"{name}: label {labels[i]} at index {i} is not in 0..{n_classes - 1}{others}")
    return labels.astype(np.int64, copy=False)


@overload
def mean_std(x: np.ndarray, axis: None = None) -> tuple[float, float]: ...
@overload
def mean_std(x: np.ndarray, axis: Literal[0]) -> tuple[np.ndarray, np.ndarray]: ...
def mean_std(x: np.ndarray, axis: Literal[0] | None = None) -> tuple[float | np.ndarray, float | np.ndarray]:
    """Mean and standard deviation of x (N, ...), to standardise with: (x - mean) / std.

    axis=None gives two floats for all values together, axis=0 two float64 arrays of shape x.shape[1:], one
    entry per feature. Where nothing varies the deviation is given as 1, so that dividing by it is safe.

    Computed in float64, block by block, without a float64 copy of x. Blocks are joined as in Chan, Golub and
    LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979.
    Raises ValueError if x is empty, or has a value that is NaN or infinite.
    """
    if axis not in (None, 0):
        raise ValueError(f"axis must be None (all values together) or 0 (feature by feature), not {axis!r}")
    x = np.asarray(x)
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"x needs at least one sample and one value, not shape {x.shape}")
    check_finite(x)
    count, mean, squares = 0, np.zeros(x.shape[1:] if axis == 0 else ()), np.zeros(())
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
    # Rounding leaves a constant feature with a deviation near 1e-17 instead of 0; its ends tell it exactly.
    std = np.where(x.min(axis=axis) == x.max(axis=axis), 1.0, np.sqrt(squares / count))
    return (mean, std) if axis == 0 else (float(mean), float(std))


def check_finite(x: np.ndarray, name: str = "x") -> None:
    """Raise ValueError if x (N, ...) has a NaN or an infinity, naming where the first one is."""
    if not np.issubdtype(x.dtype, np.inexact):
        return
    for rows in row_blocks(x):
        finite = np.isfinite(x[rows])
        if not finite.all():
            first, *rest = (int(i) for i in np.argwhere(~finite)[0])
            index = (rows.start + first, *rest)
            raise ValueError(f"{name}: {x[index]} at index {index}; every value must be finite")


def row_blocks(x: np.ndarray) -> Iterator[slice]:
    """Slices along the first axis of x, each of about BLOCK elements, at least one row."""
    step = max(1, BLOCK * len(x) // max(1, x.size))
    return (slice(start, start + step) for start in range(0, len(x), step))
