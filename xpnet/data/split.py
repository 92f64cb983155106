"""Cutting data into parts, with the same fraction of every class in each.

All random numbers are drawn on the host, so the result is the same for every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from xpnet.arguments import number, whole
from xpnet.data.batches import permutation
from xpnet.data.dataset import Dataset, check_source
from xpnet.data.stored import Stored

Data = TypeVar("Data", Dataset, Stored)


def split(dataset: Data, fraction: float, seed: int) -> tuple[Data, Data]:
    """Cut a data set in two: (rest, part), where part has about `fraction` of the samples, 0 < fraction < 1.

    Stratified if there are classes: in each class the fraction is exact to within one sample. Both parts keep the order
    of the data set; `Stored` samples stay in their files. Raises ValueError if the fraction is outside (0, 1), or so
    near to its ends that one part would be empty.
    """
    check_source(dataset)
    fraction = number("fraction", fraction, above=0, below=1)
    n = len(dataset)
    size = round(n * fraction)
    if size in (0, n):
        raise ValueError(f"{dataset.name}: fraction={fraction} of {n} samples leaves one of the two parts empty")
    # Evenly spaced picks from the samples sorted by class take the same fraction of every class.
    picked = (2 * np.arange(size) + 1) * n // (2 * size)
    in_part = np.zeros(n, dtype=bool)
    in_part[_shuffled(dataset, seed, "split")[picked]] = True
    return dataset.take(np.flatnonzero(~in_part)), dataset.take(np.flatnonzero(in_part))


def kfold(dataset: Data, k: int, seed: int) -> Iterator[tuple[Data, Data]]:
    """The k pairs (train, validation) of k-fold cross-validation; every sample is in exactly one validation part.

    Stratified if there are classes: for each class, the counts in any two validation parts differ by at most one. So do
    the sizes of the parts. Raises ValueError, at the call, if k < 2 or some class has fewer than k samples.
    """
    check_source(dataset)
    k = whole("k", k, least=2)
    if len(dataset) < k:
        raise ValueError(f"{k} folds need {k} samples, there are {len(dataset)}")
    if _has_classes(dataset):
        labels, counts = np.unique(dataset.y, return_counts=True)
        rarest = int(counts.argmin())
        if counts[rarest] < k:
            name = dataset.classes[labels[rarest]]
            raise ValueError(f"{k} folds need {k} samples of every class, but class {name!r} has {counts[rarest]}")
    fold = np.empty(len(dataset), dtype=np.int64)
    fold[_shuffled(dataset, seed, "kfold")] = np.arange(len(dataset)) % k  # dealt out in turn, like cards
    parts = ((np.flatnonzero(fold != i), np.flatnonzero(fold == i)) for i in range(k))
    return ((dataset.take(train), dataset.take(validation)) for train, validation in parts)


def _has_classes(dataset: Dataset | Stored) -> bool:
    """Whether each sample belongs to one class."""
    return bool(dataset.classes) and dataset.y.ndim == 1


def _shuffled(dataset: Dataset | Stored, seed: int, purpose: str) -> np.ndarray:
    """The indices of all samples in random order; if there are classes, grouped by class."""
    order = permutation(len(dataset), seed, purpose)
    return order[np.argsort(dataset.y[order], kind="stable")] if _has_classes(dataset) else order
