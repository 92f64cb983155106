"""`Loss`, the interface that `fit` expects, and `TermLoss`, the base class of all losses in the package."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import elsewhere
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
    """The interface that `fit` expects of a loss.

    A loss of your own must define `__call__`; it overrides the other methods and the attributes where their defaults do
    not fit. A plain function with the same arguments is a loss too, if its value is a mean over samples.
    """

    reduction = "mean"
    """Whether the value is the "mean" or the "sum" over the batch."""

    by_sample: bool = True
    """Whether the loss of a batch is a mean or a sum over its samples. False for a loss that compares samples with each
    other, as contrastive losses do: its batches cannot be split, neither for `accumulate` nor for a group. A plain
    function may have this attribute too. `verify.check_loss` tests it."""

    def __call__(self, y: Array, target: Any, backend: Backend) -> tuple[Array, Array]:
        """Return (value, dy): a 0-d array on the device, and its gradient with respect to y, of y's shape and dtype.

        y is the outputs (N, ...) of the network, and the target is on the same device. For a network of several
        outputs, y and dy are tuples; None in dy stands for an output that the loss does not use.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no __call__")

    def check(self, target: Any, outputs: tuple[Any, ...]) -> None:
        """Raise ValueError unless the targets (N, ...), on the host, fit outputs of shape (N, *outputs).

        Called where data enter: a check on the device would have to stop and wait in every step, and without a check
        wrong targets would go unnoticed.
        """

    def weight(self, y: Array, target: Any, backend: Backend) -> Array | float:
        """The divisor of a mean over the batch; by default the number of samples.

        sum_batches weight value / sum_batches weight is the mean over all batches, however the samples were divided
        into batches. `verify.check_loss` tests this.
        """
        return n_samples(y)

    if not TYPE_CHECKING:
        __getattr__ = elsewhere.names_of_class("Loss")


class TermLoss(Loss):
    """A mean of terms: one for each entry of y, or, with `of_rows`, one for each row y[..., :].

    `target` is t or (t, w). What t is, each loss describes: an array of y's shape, class numbers, or with `of_rows` one
    floating point number for each row. The weights w >= 0 have the shape of the terms, or of their first axes: (N,)
    weights samples, (N, L) weights each position of a sequence. A mask is a w of 0 and 1 (or False and True).

    L = sum_i w_i L_i / sum_i w_i c_i over the terms L_i; 0 if all w are 0. `reduction="sum"`: L = sum_i w_i L_i.
    dy is w_i dL_i/dy with the same divisor. The counts c_i are 1 unless there are class weights. A term of weight 0 is
    left out of the sum and has dy 0, even if it is infinite or NaN.

    Raises ValueError for a setting out of range, and when called, for targets or weights whose shape does not fit y.
    """

    of_rows = False
    right_targets = ""  # the start of the error message for targets that `_right` rejects

    def __init__(self, reduction: str = "mean"):
        if reduction not in REDUCTIONS:
            raise ValueError(f"reduction must be one of {', '.join(REDUCTIONS)}, not {reduction!r}")
        self.reduction = reduction

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        """Return (L_i, dL_i/dy): the terms, and a new array of y's shape and dtype, which the caller may change."""
        raise NotImplementedError(f"{type(self).__name__} defines no terms")

    def counts(self, y: Array, target: Array, backend: Backend) -> Array | None:
        """c_i; None if all are 1."""
        return None

    def __call__(self, y: Array, target: Any, backend: Backend) -> tuple[Array, Array]:
        if isinstance(y, tuple):
            raise TypeError(self._of_several())
        t, weights = split_target(target)
        terms, dy = pair(f"{type(self).__name__}.terms must return (L_i, dL_i/dy)", self.terms(y, t, backend))
        w = self._weights(y, t, weights, backend)
        scale = inverse(self._total(y, t, w, backend), backend) if self.reduction == "mean" else None
        if w is not None:
            ignored = w == 0  # set to 0 below, not multiplied by 0: infinity times 0 is NaN
            factor = w if scale is None else w * scale  # near 1; large weights times large terms could overflow
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
        return f"{name} takes one output, but the model has several: write a loss that returns a tuple of dy for them"

    def _right(self, target: np.ndarray) -> np.ndarray | None:
        """Whether the target of each term is valid, for a target of y's shape; None if any number is valid.

        `check` ignores the answer for terms of weight 0: their targets may be any number, even NaN.
        """
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
    """Return `given` if it is a pair. Otherwise raise TypeError, with a message that begins with `words`."""
    if isinstance(given, (tuple, list)) and len(given) == 2:
        return given
    raise TypeError(f"{words}, not {shown(given)}")


def inverse(total: Array | float, backend: Backend) -> Array | float:
    """1 / total; a finite number if the total is 0, because what it multiplies is 0 then."""
    if isinstance(total, (int, float)):
        return 1 / total if total else 0.0
    return 1 / backend.xp.maximum(total, float(np.finfo(total.dtype).tiny))
