"""Class numbers: whether they are what they should be, and as one-hot rows."""

from __future__ import annotations

import numpy as np


def one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Labels (N,) as rows of zeros with a single one: (N, n_classes) float32. Raises as check_labels does."""
    labels = check_labels(labels, n_classes)
    if labels.ndim != 1:
        raise ValueError(f"labels need shape (N,), not {labels.shape}")
    rows = np.zeros((len(labels), n_classes), dtype=np.float32)
    rows[np.arange(len(labels)), labels] = 1
    return rows


def check_labels(labels: np.ndarray, n_classes: int, name: str = "labels") -> np.ndarray:
    """The labels as int64, of any shape, once it is sure that they are integers in 0..n_classes-1.

    A GPU does not notice an index that is out of range, so this is the place that does.
    Raises ValueError, naming the first label that is wrong.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name}: class numbers are integers, not {labels.dtype}")
    if labels.size and (labels.min() < 0 or labels.max() >= n_classes):
        wrong = np.argwhere((labels < 0) | (labels >= n_classes))
        at = tuple(wrong[0].tolist())
        others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        place = at[0] if len(at) == 1 else at
        raise ValueError(f"{name}: label {labels[at]} at index {place} is outside 0..{n_classes - 1}{others}")
    return labels.astype(np.int64, copy=False)
