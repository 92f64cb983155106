"""Losses: `loss(y, target, backend) -> (value, dy)`, the value a 0-d array on the device, dy of y's shape.

All are means over the batch, so that a learning rate means the same for any batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.nn.activation import sigmoid


class Loss(Protocol):
    """What `fit` asks of a loss."""

    def __call__(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]: ...


class SoftmaxCrossEntropy:
    """L = - (1 / n) sum_i sum_c q_ic log p_ic with p = softmax(y).  y: logits (N, C).

    `target`: class numbers (N,) of an integer type, or a distribution over the classes (N, C), such as one-hot.
    With `label_smoothing` e, the target becomes (1 - e) target + e / C (Szegedy et al., 2016). With
    `class_weights` w (C,), q_ic = w_c target_ic and n = sum_ic w_c target_ic of the unsmoothed target; without
    them q = target and n = N.

    From dp_ic/dy_ij = p_ic (1[c=j] - p_ij):  dy_ij = (p_ij sum_c q_ic - q_ij) / n.  (Bridle, 1990; Bishop, "Pattern
    Recognition and Machine Learning", 4.3.4.)  log p = y - max y - log sum e^(y - max y): stable for logits up to 1e37.
    """

    def __init__(self, label_smoothing: float = 0.0, class_weights: Sequence[float] | None = None):
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be in [0, 1), not {label_smoothing!r}")
        if class_weights is not None and not (min(class_weights, default=-1) >= 0 and 0 < sum(class_weights) < np.inf):
            raise ValueError(f"class_weights must be finite, >= 0 and not all 0, not {list(class_weights)}")
        self.label_smoothing = label_smoothing
        self.class_weights = None if class_weights is None else tuple(float(w) for w in class_weights)

    def __call__(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        if y.ndim != 2:
            raise ValueError(f"SoftmaxCrossEntropy needs logits of shape (N, C), not {y.shape}")
        xp, q = backend.xp, _rows(y, target, backend)
        n_classes = y.shape[1]
        n: Array | int = y.shape[0]
        if self.class_weights is not None:
            weights = self._weights(n_classes, backend)
            n = xp.maximum((q * weights).sum(), float(np.finfo(y.dtype).tiny))  # 0 if no sample counts
        if self.label_smoothing:
            q = (1 - self.label_smoothing) * q + self.label_smoothing / n_classes
        if self.class_weights is not None:
            q = q * weights

        shifted = y - y.max(axis=1, keepdims=True)
        p = xp.exp(shifted)
        total = p.sum(axis=1, keepdims=True)
        log_p = shifted - xp.log(total)
        p /= total
        value = -(q * log_p).sum() / n
        dy = (p * q.sum(axis=1, keepdims=True) - q) / n
        return value, dy

    def _weights(self, n_classes: int, backend: Backend) -> Array:
        assert self.class_weights is not None
        if len(self.class_weights) != n_classes:
            raise ValueError(f"{len(self.class_weights)} class weights for {n_classes} classes")
        return backend.constant(self.class_weights)


class MeanSquaredError:
    """L = mean (y - t)^2 over all entries.  dy = 2 (y - t) / size.

    `target`: t, of y's shape; or class numbers (N,), which for y (N, 1) are t itself, 0 or 1, and for y (N, C) stand
    for one-hot rows.
    """

    def __call__(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        difference = y - _values(y, target, backend)
        return (difference * difference).mean(), difference * (2 / difference.size)


class BinaryCrossEntropy:
    """L = - mean [t log p + (1 - t) log(1 - p)] with p = sigmoid(y).  y: logits, any shape.

    `target`: t in [0, 1] of y's shape; or class numbers (N,), which for y (N, 1) are t itself, 0 or 1, and for
    y (N, C) stand for one-hot rows.

    As - t log p - (1 - t) log(1 - p) = max(y, 0) - t y + log(1 + e^-|y|), nothing overflows.  dy = (p - t) / size.
    """

    def __call__(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        xp, t = backend.xp, _values(y, target, backend)
        value = (xp.maximum(y, 0) - t * y + xp.log1p(xp.exp(-xp.abs(y)))).mean()
        return value, (sigmoid(y, xp) - t) * (1 / y.size)


def _rows(y: Array, target: Array, backend: Backend) -> Array:
    """The target in y's shape and dtype; class numbers (N,) for outputs (N, C) become one-hot rows."""
    if _are_classes(y, target):
        backend.check_labels(target, y.shape[1])
        return (target[:, None] == backend.xp.arange(y.shape[1])).astype(y.dtype)
    if target.shape != y.shape:  # broadcasting would give a number all the same, and a wrong one
        raise ValueError(
            f"outputs of shape {y.shape} need targets of that shape, or class numbers of an integer type and shape "
            f"({len(y)},); got {target.dtype} of shape {target.shape}"
        )
    return target.astype(y.dtype, copy=False)


def _values(y: Array, target: Array, backend: Backend) -> Array:
    """The same, but the class numbers of a single output (N, 1) are its values, 0 or 1."""
    if _are_classes(y, target) and y.shape[1] == 1:
        backend.check_labels(target, 2)
        return target[:, None].astype(y.dtype)
    return _rows(y, target, backend)


def _are_classes(y: Array, target: Array) -> bool:
    return target.ndim == 1 and y.ndim == 2 and len(target) == len(y) and target.dtype.kind in "iu"
