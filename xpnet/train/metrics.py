"""Metrics: how good a model's outputs are.

A `Metric` is a figure that can be summed batch by batch on the device; called with host arrays it returns the figure
itself. The other functions take NumPy arrays; labels are (N,) integers in 0..C-1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from xpnet.arguments import a_function, of_kind, whole
from xpnet.backend import Array
from xpnet.data.labels import check_labels
from xpnet.losses.target import entry_targets, split_target
from xpnet.nn.shapes import each, in_tuple


@dataclass(frozen=True)
class Metric:
    """A figure of outputs and targets, computed from sums over batches.

    `sums(y, target, xp)` returns `size` numbers for one batch, on its device. `value(*totals)` computes the figure from
    their totals over all batches. For data with weights, the target is a tuple (y, weights).
    """

    name: str
    size: int
    sums: Callable[[Array, Array, Any], list[Any]]
    value: Callable[..., float]

    def __post_init__(self) -> None:
        of_kind("the name of a metric is a text", self.name, str)
        whole(f"the size of the metric {self.name!r}", self.size, least=1)
        for what, function in (("sums", self.sums), ("value", self.value)):
            a_function(f"{what} of the metric {self.name!r} is a function", function)

    def __call__(self, y: np.ndarray, target: Any) -> float:
        y, target = np.asarray(y), each(np.asarray, target)
        for part in in_tuple(target):
            if len(y) != len(part):
                raise ValueError(f"{len(y)} outputs for {len(part)} targets")
        (metric,) = centred([self], *split_target(target))
        return self.value(*(float(number) for number in metric.sums(y, target, np)))


def _sums(xp: Any, weights: Array | None, *values: Array) -> list[Any]:
    """The sum of each of `values` over all its places, weighted if there are weights.

    Weights of single entries count as their mean over the row. Values of weight 0 are left out, even if infinite or
    NaN.
    """
    if weights is None:
        return [v.sum() for v in values]
    w, places = weights.astype(np.float64), values[0].ndim
    w = w.mean(axis=-1) if w.ndim > places else w.reshape(*w.shape, *[1] * (places - w.ndim))
    return [(w * xp.where(w == 0, 0, v)).sum() for v in values]


def _require_one(y: Any) -> None:
    """Raise ValueError for a model with several outputs, which only a metric of one's own may take."""
    if isinstance(y, tuple):
        raise ValueError("accuracy, mae and r2 take one output, and the model gives several")


def _right(y: Array, target: Any, xp: Any) -> list[Any]:
    """The sums of `accuracy`: how many answers are right, and of how many that count."""
    _require_one(y)
    target, weights = split_target(target)
    shape, given = y.shape, target.shape
    if y.ndim < 2 or (given != shape and given != shape[:-1]):
        raise ValueError(
            f"accuracy takes outputs (N, ..., C) and class numbers (N, ...) or rows like the outputs, not {shape} "
            f"and {given}; of predicted class numbers it is (predicted == labels).mean()"
        )
    single = shape[-1] == 1
    if single:
        predicted, answer = y[..., 0] > 0, y[..., 0]
    else:
        predicted = y.argmax(axis=-1)
        places = xp.arange(0, y.size, shape[-1])  # index of each row's first number in the flat array
        answer = y.reshape(-1)[(places if y.ndim == 2 else places.reshape(shape[:-1])) + predicted]
    if given == shape:  # one-hot rows, distributions, or numbers in [0, 1]
        target = target[..., 0] > 0.5 if single else target.argmax(axis=-1)
    right, counts = predicted == target, target >= 0  # targets below 0 are ignored
    right &= answer == answer  # argmax takes a NaN for the highest: that is no answer
    if weights is None:  # counted, which is faster than summed
        return [xp.count_nonzero(right), xp.count_nonzero(counts)]
    return _sums(xp, weights, right, counts)


def _numbers(y: Array, target: Any, xp: Any) -> tuple[Array, Array, Array | None]:
    """(y, target, weights): y and target in float64 and of one shape, class numbers converted by `entry_targets`."""
    _require_one(y)
    target, weights = split_target(target)
    y = y.astype(np.float64)
    return y, entry_targets(y, target, xp), weights


def _absolute(y: Array, target: Any, xp: Any) -> list[Any]:
    y, t, weights = _numbers(y, target, xp)
    return _sums(xp, weights, xp.abs(y - t), xp.ones(t.shape, bool))


def _squares(y: Array, target: Any, xp: Any, around: float = 0.0) -> list[Any]:
    y, t, weights = _numbers(y, target, xp)
    from_there = t - around
    return _sums(xp, weights, (y - t) * (y - t), from_there, from_there * from_there, xp.ones(t.shape, bool))


def centred(metrics: Sequence[Metric], target: np.ndarray, weights: np.ndarray | None) -> tuple[Metric, ...]:
    """The same metrics, prepared for sums over these targets, which lie on the host.

    The sums of r2 are taken around the first target that counts: with large numbers, the squares would leave no digits
    for the differences between them. This centre is the same for all batches and processes, so the sums can be added.
    """
    if not target.size:
        return tuple(metrics)
    first = 0 if weights is None else int((weights > 0).argmax()) * (target.size // weights.size)
    squares = partial(_squares, around=float(target.flat[first]))
    return tuple(replace(metric, sums=squares) if metric.sums is _squares else metric for metric in metrics)


def _explained(error: float, total: float, squares: float, n: float) -> float:
    spread = squares - (total * total / n if n else 0.0)
    return 1 - error / spread if spread > 0 else float("nan")


def _ratio(total: float, n: float) -> float:
    return total / n if n else 0.0


accuracy = Metric("accuracy", 2, _right, _ratio)
"""The fraction of right answers. The answer is the class with the highest of the outputs (N, ..., C), the lowest class
number if several are highest; with a single output (N, 1), it is class 1 if that output is above 0. Targets: class
numbers (N, ...), of which those below 0 do not count, or rows like the outputs; weights as in the loss. Of a model that
gives several yes-or-no answers to a sample it says little: write a `Metric` that compares each of them."""

mae = Metric("mae", 2, _absolute, _ratio)
"""Mean absolute error of a regression, over all entries. Targets as in `losses.MeanSquaredError`."""

r2 = Metric("r2", 4, _squares, _explained)
"""Coefficient of determination, 1 - sum (y - t)^2 / sum (t - mean t)^2, over all entries; NaN if all t are equal.
Targets as in `losses.MeanSquaredError`."""


def top_k(scores: np.ndarray, labels: np.ndarray, k: int) -> float:
    """The fraction of samples whose label is among the k highest scores (N, C).

    Among equal scores, the lower class number comes first, so that a tie is not a hit for every class in it.
    """
    if not 1 <= k <= scores.shape[1]:
        raise ValueError(f"k must be in 1..{scores.shape[1]}, the number of classes, not {k}")
    labels = check_labels(labels, scores.shape[1])
    if labels.shape != (len(scores),):
        raise ValueError(f"{len(scores)} rows of scores for {len(labels)} labels of shape {labels.shape}")
    best = np.argsort(-scores.astype(np.float64), axis=1, kind="stable")[:, :k]
    return float((best == labels[:, None]).any(axis=1).mean())


def confusion_matrix(predicted: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """(C, C) counts: row i, column j is how often a sample of class i was taken for class j."""
    predicted, labels = check_labels(predicted, n_classes, "predicted"), check_labels(labels, n_classes)
    if predicted.shape != labels.shape:
        raise ValueError(f"predictions of shape {predicted.shape} for labels of shape {labels.shape}")
    if labels.ndim != 1:
        raise ValueError(f"labels need shape (N,), not {labels.shape}: ravel() both, and all places are counted")
    return np.bincount(labels * n_classes + predicted, minlength=n_classes**2).reshape(n_classes, n_classes)


class ClassScores(NamedTuple):
    """Per class (C,), 0 where a class never occurs or is never predicted (van Rijsbergen, 1979)."""

    precision: np.ndarray  # of the samples taken for the class, the fraction that are of it
    recall: np.ndarray  # of the samples of the class, the fraction that were found
    f1: np.ndarray  # 2 precision recall / (precision + recall)
    support: np.ndarray  # samples of the class


def class_scores(confusion: np.ndarray) -> ClassScores:
    """Precision, recall and F1 of each class, from a confusion matrix."""
    right, predicted, count = np.diag(confusion), confusion.sum(axis=0), confusion.sum(axis=1)
    precision, recall = right / np.maximum(predicted, 1), right / np.maximum(count, 1)
    f1 = 2 * right / np.maximum(predicted + count, 1)
    return ClassScores(precision, recall, f1, count)
