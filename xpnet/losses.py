"""Losses: `loss(y, target, backend) -> (value, dy)`, the value a 0-d array on the device, dy of y's shape.

All are means over the batch, so that a learning rate means the same for any batch size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.data.labels import check_labels
from xpnet.nn.activation import sigmoid

ONE_HOT_CLASSES = 256  # up to so many, one-hot rows and products with them are the fastest on every device


class Loss:
    """What `fit` asks of a loss. One of your own defines `__call__` and, where it can say more, the other two; a plain
    function of the same arguments, whose value is a mean over samples, is a loss too."""

    def __call__(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        raise NotImplementedError(f"{type(self).__name__} defines no __call__")

    def check(self, target: np.ndarray, outputs: tuple[Any, ...]) -> None:
        """Raise ValueError unless the targets (N, ...), on the host, fit outputs of shape (N, *outputs).

        Asked where data enter. A device would have to stop and wait in every step, or takes wrong ones in silence.
        """

    def weight(self, y: Array, target: Array, backend: Backend) -> Array | float:
        """What the sum over the batch was divided by: sum_batches weight value / sum_batches weight is the mean
        over all of them, however they were cut. By default the number of samples."""
        return len(y)


class SoftmaxCrossEntropy(Loss):
    """L = - (1 / n) sum_i sum_c q_ic log p_ic with p = softmax(y).  y: logits (N, ..., C); i runs over all (N, ...).

    `target`: class numbers (N, ...) of an integer type, or distributions over the classes (N, ..., C), such as
    one-hot. With `label_smoothing` e, the target becomes (1 - e) target + e / C (Szegedy et al., 2016). With
    `class_weights` w (C,), q_ic = w_c target_ic and n = sum_ic w_c target_ic of the unsmoothed target; without
    them q = target and n counts the i.

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
        if y.ndim < 2:
            raise ValueError(f"SoftmaxCrossEntropy needs logits of shape (N, ..., C), not {y.shape}")
        if self._by_gather(y, target):
            return self._of_class_numbers(y, target, backend)
        xp, n_classes = backend.xp, y.shape[-1]
        rows, q = y.reshape(-1, n_classes), _rows(y, target, backend).reshape(-1, n_classes)
        n = self._total(q, backend)
        if self.label_smoothing:
            q = (1 - self.label_smoothing) * q + self.label_smoothing / n_classes
        if self.class_weights is not None:
            q = q * self._weights(n_classes, backend)

        shifted = rows - rows.max(axis=1, keepdims=True)
        p = xp.exp(shifted)
        total = p.sum(axis=1, keepdims=True)
        log_p = shifted - xp.log(total)
        p /= total
        value = -(q * log_p).sum() / n
        dy = (p * q.sum(axis=1, keepdims=True) - q) / n
        return value, dy.reshape(y.shape)

    def _by_gather(self, y: Array, target: Array) -> bool:
        """Whether to pick the one entry of each row that counts, instead of making one-hot rows as large as y."""
        plain = not self.label_smoothing and self.class_weights is None
        return plain and y.shape[-1] > ONE_HOT_CLASSES and _are_classes(y.shape, target)

    def _of_class_numbers(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        """The same for q = 1 at the target t, else 0:  L = - mean log p_it,  dy_ij = (p_ij - 1[j=t]) / n."""
        xp, n_classes = backend.xp, y.shape[-1]
        _look(target, n_classes)
        rows = y.reshape(-1, n_classes)
        at = xp.arange(len(rows)) * n_classes + target.reshape(-1)  # of the entries, in the flat array
        n = max(len(rows), 1)
        shifted = rows - rows.max(axis=1, keepdims=True)
        dy = xp.exp(shifted)
        total = dy.sum(axis=1, keepdims=True)
        value = -(backend.take(shifted.reshape(-1), at) - xp.log(total)[:, 0]).sum() / n
        dy /= total
        flat = dy.reshape(-1)
        flat[at] = backend.take(flat, at) - 1  # each entry once: all `at` differ
        dy *= 1 / n
        return value, dy.reshape(y.shape)

    def check(self, target: np.ndarray, outputs: tuple[Any, ...]) -> None:
        _check(target, outputs, single=False)

    def weight(self, y: Array, target: Array, backend: Backend) -> Array | float:
        if self.class_weights is None:
            return y.size // y.shape[-1]
        return self._total(_rows(y, target, backend).reshape(-1, y.shape[-1]), backend)

    def _total(self, q: Array, backend: Backend) -> Array | int:
        """n in the formula above."""
        if self.class_weights is None:
            return max(len(q), 1)
        total = (q * self._weights(q.shape[1], backend)).sum()
        return backend.xp.maximum(total, float(np.finfo(q.dtype).tiny))  # 0 if no sample counts

    def _weights(self, n_classes: int, backend: Backend) -> Array:
        assert self.class_weights is not None
        if len(self.class_weights) != n_classes:
            raise ValueError(f"{len(self.class_weights)} class weights for {n_classes} classes")
        return backend.constant(self.class_weights)


class MeanSquaredError(Loss):
    """L = mean (y - t)^2 over all entries.  dy = 2 (y - t) / size.

    `target`: t, of y's shape; or class numbers (N,), which for y (N, 1) are t itself, 0 or 1, and for y (N, C) stand
    for one-hot rows.
    """

    def __call__(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        difference = y - _values(y, target, backend)
        return (difference * difference).mean(), difference * (2 / max(y.size, 1))

    def check(self, target: np.ndarray, outputs: tuple[Any, ...]) -> None:
        _check(target, outputs, single=True)

    def weight(self, y: Array, target: Array, backend: Backend) -> Array | float:
        return y.size


class BinaryCrossEntropy(Loss):
    """L = - mean [t log p + (1 - t) log(1 - p)] with p = sigmoid(y).  y: logits, any shape.

    `target`: t in [0, 1] of y's shape; or class numbers (N,), which for y (N, 1) are t itself, 0 or 1, and for
    y (N, C) stand for one-hot rows.

    As - t log p - (1 - t) log(1 - p) = max(y, 0) - t y + log(1 + e^-|y|), nothing overflows.  dy = (p - t) / size.
    """

    def __call__(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        xp, t = backend.xp, _values(y, target, backend)
        value = (xp.maximum(y, 0) - t * y + xp.log1p(xp.exp(-xp.abs(y)))).mean()
        return value, (sigmoid(y, xp) - t) * (1 / max(y.size, 1))

    def check(self, target: np.ndarray, outputs: tuple[Any, ...]) -> None:
        _check(target, outputs, single=True)

    def weight(self, y: Array, target: Array, backend: Backend) -> Array | float:
        return y.size


# Targets ------------------------------------------------------------------------------------------------------


def _rows(y: Array, target: Array, backend: Backend) -> Array:
    """The target in y's shape and dtype; class numbers (N, ...) for outputs (N, ..., C) become one-hot rows."""
    if _are_classes(y.shape, target):
        _look(target, y.shape[-1])
        return (target[..., None] == backend.xp.arange(y.shape[-1])).astype(y.dtype)
    _require_shape(y.shape, target)
    return target.astype(y.dtype, copy=False)


def _values(y: Array, target: Array, backend: Backend) -> Array:
    """The same, but the class numbers of a single output (N, 1) are its values, 0 or 1."""
    if _of_single_output(y.shape, target):
        _look(target, 2)
        return target[:, None].astype(y.dtype)
    return _rows(y, target, backend)


def _look(target: Array, n_classes: int) -> None:
    """On the host, looking at the class numbers costs nothing; a device would have to wait in every step."""
    if isinstance(target, np.ndarray):
        check_labels(target, n_classes)


def _check(target: np.ndarray, outputs: tuple[Any, ...], single: bool) -> None:
    """`Loss.check`; `single`: the class numbers of a single output are 0 and 1."""
    given = target.shape[1:]
    lengths = (given[i] if n is None and i < len(given) else n for i, n in enumerate(outputs))
    shape = (len(target), *lengths)
    if single and _of_single_output(shape, target):
        check_labels(target, 2)
    elif _are_classes(shape, target):
        check_labels(target, shape[-1])
    else:
        _require_shape(shape, target)


def _are_classes(shape: tuple[int, ...], target: Array) -> bool:
    return target.dtype.kind in "iu" and tuple(target.shape) == tuple(shape[:-1])


def _of_single_output(shape: tuple[int, ...], target: Array) -> bool:
    return len(shape) == 2 and shape[1] == 1 and _are_classes(shape, target)


def _require_shape(shape: tuple[int, ...], target: Array) -> None:
    """Raise ValueError for targets of another shape: broadcasting would give a number all the same, a wrong one."""
    if tuple(target.shape) != tuple(shape):
        raise ValueError(
            f"outputs of shape {tuple(shape)} need targets of that shape, or class numbers of an integer type and "
            f"shape {tuple(shape[:-1])}; got {target.dtype} of shape {tuple(target.shape)}"
        )
