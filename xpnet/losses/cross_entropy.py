"""Cross-entropies for classes and for independent yes-or-no answers, and the focal loss for the latter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpnet.arguments import SMALLEST, floats, number, whole
from xpnet.backend import Array, Backend
from xpnet.losses.base import TermLoss
from xpnet.losses.target import (
    DISTRIBUTIONS,
    are_classes,
    are_distributions,
    check_if_on_host,
    check_largest,
    check_target,
    entry_targets,
    one_hot_rows,
)
from xpnet.nn.activation import sigmoid, sigmoid_and_e
from xpnet.nn.softmax import exponentials, log_softmax

SHORT_ROW = 100  # numbers; up to this length NumPy is faster along the columns of a transposed copy


class SoftmaxCrossEntropy(TermLoss):
    """L_i = - sum_c q_ic log p_ic with p = softmax(y).  y: logits (N, ..., C); i runs over all (N, ...).

    `target`: class numbers (N, ...) of an integer type, or distributions over the classes (N, ..., C), such as one-hot
    rows. Where the class number is `ignore`, such as -100, the weight is 0.

    With `label_smoothing` e, the target is replaced by (1 - e) target + e / C (Szegedy et al., 2016). Without
    `class_weights`, q = target and c_i = 1. With `class_weights` w (C,), q_ic = w_c target_ic, and the mean counts the
    term as c_i = sum_c w_c target_ic, with the unsmoothed target. A term with c_i = 0 has no loss and no gradient:
    q_ic = 0, smoothing adds nothing to it (PyTorch keeps e / C).

    From dp_ic/dy_ij = p_ic (1[c=j] - p_ij):  dL_i/dy_ij = p_ij sum_c q_ic - q_ij.  (Bridle, 1990; Bishop, "Pattern
    Recognition and Machine Learning", 4.3.4.)  log p = y - max y - log sum e^(y - max y): stable for logits up to 1e37.
    """

    of_rows, right_targets = True, DISTRIBUTIONS

    def __init__(
        self,
        label_smoothing: float = 0.0,
        class_weights: Sequence[float] | None = None,
        ignore: int | None = None,
        reduction: str = "mean",
    ):
        super().__init__(reduction)
        label_smoothing = number("label_smoothing", label_smoothing, least=0, below=1)
        if class_weights is not None:
            class_weights = floats("class_weights are one number for each class, in their order", class_weights)
            if not (min(class_weights, default=-1) >= 0 and 0 < sum(class_weights) < np.inf):
                raise ValueError(f"class_weights must be finite, >= 0 and not all 0, not {list(class_weights)}")
            check_largest("class weight", max(class_weights))
        if ignore is not None and whole("ignore", ignore) >= 0:
            raise ValueError(f"ignore must be negative, not {ignore}: to leave out a class, give it the class weight 0")
        self.label_smoothing, self.class_weights, self.ignore = label_smoothing, class_weights, ignore

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        if y.ndim < 2:
            raise ValueError(f"SoftmaxCrossEntropy needs logits of shape (N, ..., C), not {y.shape}")
        if not self.label_smoothing and self.class_weights is None and are_classes(y.shape, target):
            return self._of_class_numbers(y, target, backend)
        xp, q = backend.xp, one_hot_rows(y, target, backend.xp, self.ignore)
        if self.label_smoothing:
            q = (1 - self.label_smoothing) * q + self.label_smoothing / y.shape[-1]
        if self.class_weights is not None:
            q = q * self._of_classes(y.shape[-1], backend)

        log_p, p = log_softmax(y, backend)
        if not self.label_smoothing:
            log_p = xp.where(q == 0, 0, log_p)  # a class ruled out by a logit of -inf adds 0; 0 times -inf is NaN
        return -(q * log_p).sum(axis=-1), p * q.sum(axis=-1, keepdims=True) - q

    def _of_class_numbers(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        """`terms` where q is 1 at the class number t, else 0:  L_i = - log p_it,  dL_i/dy_ij = p_ij - 1[j=t].

        It needs no array of one-hot rows, and no reductions along short rows, which are slow on a CPU.
        """
        xp, n_classes = backend.xp, y.shape[-1]
        check_if_on_host(target, n_classes, self.ignore)
        classes = target.reshape(-1).astype(np.int64, copy=False)  # with uint64, `at` would be floating point
        classes = classes if self.ignore is None else xp.maximum(classes, 0)
        rows = xp.ascontiguousarray(y.reshape(-1, n_classes))  # so the results are contiguous, and change as flat views
        at = xp.arange(len(rows)) * n_classes + classes  # positions of the targets' entries in the flat array
        largest = rows.max(axis=1) if n_classes > SHORT_ROW else xp.ascontiguousarray(rows.T).max(axis=0)
        shifted, dy = backend.fuse(exponentials)(rows, largest[:, None], xp)
        total = backend.sum_rows(dy.T)
        terms = xp.log(total) - backend.take(shifted.reshape(-1), at)
        dy /= total[:, None]
        flat = dy.reshape(-1)
        flat[at] = backend.take(flat, at) - 1  # no position occurs twice in `at`
        return terms.reshape(target.shape), dy.reshape(y.shape)

    def counts(self, y: Array, target: Array, backend: Backend) -> Array | None:
        if self.class_weights is None:
            return None
        rows = one_hot_rows(y, target, backend.xp, self.ignore)
        return (rows * self._of_classes(y.shape[-1], backend)).sum(axis=-1)

    def _weights(self, y: Array, target: Array, weights: Array | None, backend: Backend) -> Array | None:
        """w_i, with 0 where the class number is ignored, and where c_i = 0 because of class weights of 0."""
        w = super()._weights(y, target, weights, backend)
        may_be_0 = self.class_weights is not None and min(self.class_weights) < SMALLEST
        counts = self.counts(y, target, backend) if may_be_0 else None
        if counts is not None:
            counted = (counts > 0).astype(y.dtype)  # 0 for ignored class numbers too: their rows are 0
        elif self.ignore is not None and are_classes(y.shape, target):
            counted = (target != self.ignore).astype(y.dtype)
        else:
            return w
        return counted if w is None else w * counted

    def _check_target(self, target: np.ndarray, shape: tuple[int, ...]) -> None:
        check_target(target, shape, single=False, ignore=self.ignore)

    def _right(self, target: np.ndarray) -> np.ndarray:
        return are_distributions(target)

    def _of_classes(self, n_classes: int, backend: Backend) -> Array:
        """The class weights (C,) on the device."""
        assert self.class_weights is not None
        if len(self.class_weights) != n_classes:
            raise ValueError(f"class_weights has {len(self.class_weights)} numbers, but there are {n_classes} classes")
        return backend.constant(self.class_weights)


class BinaryCrossEntropy(TermLoss):
    """L_i = - t log p - (1 - t) log(1 - p) with p = sigmoid(y), for each entry i.  y: logits, any shape.

    `target`: t in [0, 1] of y's shape; or class numbers (N,), which for y (N, 1) are t itself, 0 or 1, and for
    y (N, C) stand for one-hot rows.

    It is computed as L_i = (1 - t) y + log(1 + e^-y) where y > 0, else as -t y + log(1 + e^y), so that nothing
    overflows or cancels.
    From dp/dy = p (1 - p):  dL_i/dy = p - t.  (Bishop, "Pattern Recognition and Machine Learning", 4.3.2.)
    """

    right_targets = "the targets of BinaryCrossEntropy must be numbers from 0 to 1"

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        xp, t = backend.xp, entry_targets(y, target, backend.xp)
        p, e = sigmoid_and_e(y, xp)
        return ((y > 0) - t) * y + xp.log1p(e), p - t

    def _right(self, target: np.ndarray) -> np.ndarray:
        return (target >= 0) & (target <= 1)


class Focal(TermLoss):
    """L_i = - a_i (1 - q)^gamma log q, with q the probability of the right answer, for each entry i.  y: logits.

    q = p where t = 1, else 1 - p, with p = sigmoid(y); a_i = alpha where t = 1, else 1 - alpha. Easy entries count for
    little, which suits rare objects among much background. Lin, Goyal, Girshick, He and Dollar, "Focal loss for dense
    object detection" (2017). Detectors divide the sum by the number of objects: use `reduction="sum"` for that.

    `target`: t, 0 or 1, of y's shape; or class numbers (N,), which for y (N, 1) are t itself, and for y (N, C) stand
    for one-hot rows.

    With z = y where t = 1, else -y:  q = sigmoid(z), -log q = max(-z, 0) + log(1 + e^-|z|), and as
    dq/dz = q (1 - q):  dL_i/dz = - a (1 - q)^gamma (1 - q - gamma q log q).
    """

    right_targets = "the targets of Focal must be 0 or 1"

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25, reduction: str = "mean"):
        super().__init__(reduction)
        self.gamma, self.alpha = number("gamma", gamma, least=0), number("alpha", alpha, above=0, below=1)

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        xp, t = backend.xp, entry_targets(y, target, backend.xp)
        sign = 2 * t - 1
        z = sign * y
        q, wrong = sigmoid(z, xp), sigmoid(-z, xp)  # wrong is 1 - q, which as a difference loses digits where small
        surprise = xp.maximum(-z, 0) + xp.log1p(xp.exp(-xp.abs(z)))  # -log q
        factor = ((1 - self.alpha) + (2 * self.alpha - 1) * t) * wrong**self.gamma
        return factor * surprise, -sign * factor * (wrong + self.gamma * q * surprise)

    def _right(self, target: np.ndarray) -> np.ndarray:
        return (target == 0) | (target == 1)
