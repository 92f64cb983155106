"""What `fit` asks of a loss, and what all losses of the package share."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.arguments import shown
from xpnet.backend import Array, Backend
from xpnet.losses.target import (
    as_terms,
    check_target,
    check_weights,
    outputs_shape,
    require_all,
    require_weights,
    split_target,
)
from xpnet.nn.shapes import is_several, n_samples

REDUCTIONS = ("mean", "sum")


class Loss:
    """What `fit` asks of a loss. One of your own defines `__call__` and, where it can say more, the others; a plain
    function of the same arguments, whose value is a mean over samples, is a loss too."""

    reduction = "mean"
    """Whether the value is the mean or the "sum" over the batch."""

    by_sample: bool = True
    """Whether the loss of a batch is a mean or a sum over its samples: False where it compares samples with each
    other, as contrastive losses do. Such a batch cannot be cut, for `accumulate` or for a group. A plain function may
    have this attribute too. `verify.check_loss` tries it."""

    def __call__(self, y: Array, target: Any, backend: Backend) -> tuple[Array, Array]:
        raise NotImplementedError(f"{type(self).__name__} defines no __call__")

    def check(self, target: Any, outputs: tuple[Any, ...]) -> None:
        """Raise ValueError unless the targets (N, ...), on the host, fit outputs of shape (N, *outputs).

        Asked where data enter. A device would have to stop and wait in every step, or takes wrong ones in silence.
        """

    def weight(self, y: Array, target: Any, backend: Backend) -> Array | float:
        """What a mean over the batch divides by: sum_batches weight value / sum_batches weight is the mean
        over all of them, however they were cut. By default the number of samples. `verify.check_loss` tries it."""
        return n_samples(y)


class TermLoss(Loss):
    """A mean of terms: one for each entry of y, or, with `of_rows`, one for each row y[..., :].

    `target`: t as the loss describes it, of y's shape, class numbers, or with `of_rows` a floating point number for
    each row; or (t, w) with weights w >= 0, of the shape of the terms or of its first
    axes: (N,) weighs samples, (N, L) each place of a sequence. A mask is weights of 0 and 1 (or False and True).

    L = sum_i w_i L_i / sum_i w_i c_i over the terms L_i; 0 if all w are 0. `reduction="sum"`: L = sum_i w_i L_i.
    dy is w_i dL_i/dy over the same divisor. The counts c_i are 1 but for class weights. A term of weight 0 is no part
    of the sum and has dy 0, also where it is infinite or NaN.
    """

    of_rows = False
    right_targets = ""  # what the error says where `_right` says no

    def __init__(self, reduction: str = "mean"):
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
        self.reduction = reduction

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        """(L_i, dL_i/dy): the terms, and a fresh array of y's shape and dtype."""
        raise NotImplementedError(f"{type(self).__name__} defines no terms")

    def counts(self, y: Array, target: Array, backend: Backend) -> Array | None:
        """c_i; None if all are 1."""
        return None

    def __call__(self, y: Array, target: Any, backend: Backend) -> tuple[Array, Array]:
        if isinstance(y, tuple):
            raise TypeError(self._of_several())
        t, weights = split_target(target)
        terms, dy = pair(f"{type(self).__name__}.terms gives (L_i, dL_i/dy)", self.terms(y, t, backend))
        w = self._weights(y, t, weights, backend)
        scale = inverse(self._total(y, t, w, backend), backend) if self.reduction == "mean" else None
        if w is not None:
            ignored = w == 0  # not multiplied by 0, which would make NaN of what is infinite
            factor = w if scale is None else w * scale  # near 1: large weights times large terms may overflow
            dy = backend.xp.where(ignored[..., None] if self.of_rows else ignored, 0, dy)
            dy *= factor[..., None] if self.of_rows else factor
            return (backend.xp.where(ignored, 0, terms) * factor).sum(), dy
        value = terms.sum()
        if scale is not None:
            value = value * scale
            dy *= scale
        return value, dy

    def weight(self, y: Array, target: Any, backend: Backend) -> Array | float:
        t, weights = split_target(target)
        return self._total(y, t, self._weights(y, t, weights, backend), backend)

    def check(self, target: Any, outputs: tuple[Any, ...]) -> None:
        if is_several(outputs):
            raise ValueError(self._of_several())
        t, weights = split_target(target)
        shape = outputs_shape(t, outputs)
        self._check_target(t, shape)
        if weights is not None:
            check_weights(weights, self._shape_of_terms(shape))
        right = self._right(t) if t.shape == shape else None
        if right is not None:
            require_all(right if weights is None else right | (as_terms(weights, right.shape) == 0), self.right_targets)

    def _check_target(self, target: np.ndarray, shape: tuple[int, ...]) -> None:
        if not (self.of_rows and target.dtype.kind == "f" and target.shape == shape[:-1]):  # a number for each row
            check_target(target, shape, single=not self.of_rows)

    def _of_several(self) -> str:
        name = type(self).__name__
        return f"{name} takes one output, and the model gives several: a loss of your own gives a tuple of dy for them"

    def _right(self, target: np.ndarray) -> np.ndarray | None:
        """Whether the target of each term, of y's shape, is one of `right_targets`; None where any number is. Those of
        weight 0 may be any number, NaN too."""
        return None

    def _shape_of_terms(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(shape[:-1] if self.of_rows else shape)

    def _weights(self, y: Array, target: Array, weights: Array | None, backend: Backend) -> Array | None:
        """w_i in the shape of the terms; None if all are 1."""
        if weights is None:
            return None
        shape = self._shape_of_terms(y.shape)
        require_weights(weights, shape)
        return backend.xp.broadcast_to(as_terms(weights.astype(y.dtype, copy=False), shape), shape)

    def _total(self, y: Array, target: Array, w: Array | None, backend: Backend) -> Array | int:
        """sum_i w_i c_i."""
        c = self.counts(y, target, backend)
        if c is None:
            return (y.size // max(y.shape[-1], 1) if self.of_rows else y.size) if w is None else w.sum()
        return c.sum() if w is None else (w * c).sum()


def pair(words: str, given: Any) -> Any:
    """What was given, if it is a pair. Raises TypeError with these words for a single value."""
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return given
    raise TypeError(f"{words}, not {shown(given)}")


def inverse(total: Array | float, backend: Backend) -> Array | float:
    """1 / total; where nothing counts, a finite number, as what it multiplies is 0."""
    if isinstance(total, (int, float)):
        return 1 / total if total else 0.0
    return 1 / backend.xp.maximum(total, float(np.finfo(total.dtype).tiny))
