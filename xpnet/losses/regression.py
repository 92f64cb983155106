"""Regression losses: how far each number is from its target, or a vector from the right direction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import numpy as np

from xpnet.arguments import floats, in_float32, number
from xpnet.backend import Array, Backend
from xpnet.losses.base import TermLoss
from xpnet.losses.target import checked_targets, entry_targets, require_same_shape


class MeanSquaredError(TermLoss):
    """L_i = d^2 with d = (y - t) / scale, for each entry.  dL_i/dy = 2 d / scale.

    `target`: t, of y's shape; or class numbers (N,), which for y (N, 1) are t itself, 0 or 1, and for y (N, C) stand
    for one-hot rows. `scale` is a number, or one for each entry of the last axis. If it is the standard deviation of
    the targets, the loss does not depend on their units, and neither does a suitable learning rate.
    """

    def __init__(self, reduction: str = "mean", scale: float | Sequence[float] = 1.0):
        super().__init__(reduction)
        words = "scale is a number, or one for each entry of the last axis, in their order"
        self.scale = (float(scale),) if isinstance(scale, Real) else floats(words, scale)
        if not self.scale or not all(0 < s < math.inf for s in self.scale):
            raise ValueError(f"scale must be finite and above 0, not {scale!r}")
        if not in_float32(*self.scale):
            raise ValueError(f"scale must be from 1e-30 to 1e30, for float32, not {scale!r}: scale the targets first")

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        d = y - entry_targets(y, target, backend.xp)
        if self.scale == (1.0,):
            return d * d, 2 * d
        inverse = backend.constant(tuple(1 / s for s in self.scale))
        d *= inverse
        return d * d, 2 * d * inverse

    def _check_target(self, target: np.ndarray, shape: tuple[int, ...]) -> None:
        super()._check_target(target, shape)
        if len(self.scale) not in (1, shape[-1]):
            raise ValueError(f"scale has {len(self.scale)} numbers, but the outputs have {shape[-1]} entries")


class MeanAbsoluteError(TermLoss):
    """L_i = |d| with d = y - t, for each entry (L1).  dL_i/dy = sign(d), 0 where y = t.

    `target`: as for `MeanSquaredError`.
    """

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        d = y - entry_targets(y, target, backend.xp)
        return backend.xp.abs(d), backend.xp.sign(d)


class Huber(TermLoss):
    """L_i = d^2 / 2 where |d| <= delta, else delta (|d| - delta / 2), with d = y - t, for each entry.  Huber (1964).

    `target`: as for `MeanSquaredError`.

    With c = d clipped to [-delta, delta], both cases are c (d - c / 2), and dL_i/dy = c. d^2 is never computed.
    """

    def __init__(self, delta: float = 1.0, reduction: str = "mean"):
        super().__init__(reduction)
        self.delta = number("delta", delta, above=0)

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        d = y - entry_targets(y, target, backend.xp)
        c = backend.xp.clip(d, -self.delta, self.delta)
        return c * (d - 0.5 * c), c


class CosineDistance(TermLoss):
    """L_i = 1 - y.t / (|y| |t|) for each row i of y and t (N, ..., C).  A row of zeros has cosine 0 and dy 0.

    With u = y / |y|, v = t / |t|:  dL_i/dy = - (v - (u.v) u) / |y|, as du/dy = (1 - u u^T) / |y|.
    """

    of_rows = True

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        u, per_length = _unit(y, backend)
        v, _ = _unit(checked_targets(y, target), backend)
        cosine = (u * v).sum(axis=-1, keepdims=True)
        return (1 - cosine)[..., 0], (cosine * u - v) * per_length

    def _check_target(self, target: np.ndarray, shape: tuple[int, ...]) -> None:
        require_same_shape(shape, target)


def _unit(rows: Array, backend: Backend) -> tuple[Array, Array]:
    """Return (rows / |rows|, 1 / |rows|); both are 0 for a row of zeros."""
    xp = backend.xp
    largest = xp.abs(rows).max(axis=-1, keepdims=True)  # divided out first: a square overflows at 1e19
    some = largest > 0
    scale = some / xp.maximum(largest, float(np.finfo(rows.dtype).tiny))
    scaled = rows * scale
    inverse = 1 / xp.sqrt(xp.maximum((scaled * scaled).sum(axis=-1, keepdims=True), 0.5))
    return scaled * inverse, scale * inverse
