"""How good a classifier's answers are. NumPy arrays on the host; labels are (N,) integers in 0..C-1."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xpnet.data.split import check_labels


def accuracy(scores: np.ndarray, labels: np.ndarray) -> float:
    """The share of samples whose highest score (N, C) is the label's."""
    return top_k(scores, labels, 1)


def top_k(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The share of samples whose label is among the k highest scores (N, C).

    Equal scores count as the lower class number first, so that a tie is not a hit for all.
    """
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k must be in 1..{scores.shape[1]}, the number of classes, not {k}")
    if len(scores) != len(labels):
        raise ValueError(f"{len(scores)} rows of scores for {len(labels)} labels")
    best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """(C, C) counts: row i, column j is how often a sample of class i was taken for class j."""
    predicted, labels = check_labels(predicted, n_classes, "predicted"), check_labels(labels, n_classes)
    return np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


class ClassScores(NamedTuple):
    """Per class (C,), 0 where a class never occurs or is never predicted (van Rijsbergen, 1979)."""

    precision: np.ndarray  # of the samples taken for the class, the share that are of it
    recall: np.ndarray  # of the samples of the class, the share that were found
    f1: np.ndarray  # 2 precision recall / (precision + recall)
    support: np.ndarray  # samples of the class


def class_scores(confusion: np.ndarray) -> ClassScores:
    """Precision, recall and F1 of each class, from a confusion matrix."""
    right, predicted, count = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(count, 1)
    f1 = 2 * right / np.maximum(predicted + count, 1)
    return ClassScores(precision, recall, f1, count)
