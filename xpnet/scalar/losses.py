"""Softmax and the losses, one number at a time. Plain numbers in, plain numbers out; Values in, Values out."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence

from xpnet.scalar.value import T, Value, plain_number


def softmax(logits: Sequence[T]) -> list[T]:
    """Probabilities from any numbers: e^x_i / sum of e^x_j. They are above 0 and add up to 1.

    The largest number is subtracted first. That changes no probability, as it cancels, and no power can
    overflow.

    >>> [round(p, 4) for p in softmax([2.5, 1.0, 0.8])]
    [0.7113, 0.1587, 0.1299]
    >>> softmax([1000.0, 1000.0])
    [0.5, 0.5]
    """
    top = _largest(logits)
    powers = [_exp(x - top) for x in logits]
    total = _sum(powers)
    return [power / total for power in powers]


def mean_squared_error(predicted: Sequence[T], actual: Sequence[float]) -> T:
    """The mean of (predicted - actual)^2. Raises ValueError if the two differ in length or are empty.

    Three houses, the first predicted 40,000 too high, the second 10,000 too low, the third exactly:

    >>> round(mean_squared_error([290_000, 290_000, 400_000], [250_000, 300_000, 400_000]), 2)
    566666666.67
    """
    if len(predicted) != len(actual) or len(actual) == 0:
        raise ValueError(f"cannot compare {len(predicted)} predictions with {len(actual)} actual values")
    squares = [(p - a) ** 2 for p, a in zip(predicted, actual, strict=True)]
    return _sum(squares) / len(squares)


def softmax_squared_error(logits: Sequence[T], label: int) -> T:
    """The mean squared error between the softmax of `logits` and 1 at `label`, 0 elsewhere.

    >>> round(softmax_squared_error([2.5, 1.0, 0.8], 0), 4)
    0.0418
    """
    _check_label(label, len(logits))
    return mean_squared_error(softmax(logits), [float(k == label) for k in range(len(logits))])


def cross_entropy(logits: Sequence[T], label: int) -> T:
    """-log of the softmax probability at `label`, as log(sum of e^x_j) - x_label, which cannot overflow.

    >>> round(cross_entropy([2.5, 1.0, 0.8], 0), 4)              # -log(0.7113)
    0.3406
    """
    _check_label(label, len(logits))
    top = _largest(logits)
    powers = [_exp(x - top) for x in logits]
    total = _sum(powers)
    return _log(total) - (logits[label] - top)


def _largest(logits: Sequence[T]) -> float:
    if len(logits) == 0:
        raise ValueError("softmax needs at least one number")
    return max(plain_number(x) for x in logits)


def _check_label(label: int, classes: int) -> None:
    if not isinstance(label, numbers.Integral) or not 0 <= label < classes:
        raise ValueError(f"label {label!r} is not one of the {classes} classes 0 .. {classes - 1}")


def _sum(terms: Sequence[T]) -> T:
    return sum(terms[1:], terms[0])  # not sum(terms): that adds the first one to a plain 0


def _exp(x: T) -> T:
    return x.exp() if isinstance(x, Value) else math.exp(x)


def _log(x: T) -> T:
    return x.log() if isinstance(x, Value) else math.log(x)
