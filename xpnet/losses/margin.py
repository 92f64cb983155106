"""Margin losses: all that counts is how far the score of the right class is ahead of the others."""

from __future__ import annotations

import numpy as np

from xpnet.arguments import number
from xpnet.backend import Array, Backend
from xpnet.losses.base import TermLoss
from xpnet.losses.target import check_target, one_hot_rows


class MultiMargin(TermLoss):
    """L_i = (1 / C) sum_{c != t} max(0, margin - y_it + y_ic): the hinge loss for several classes.  y: (N, ..., C).

    `target`: class numbers t (N, ...) of an integer type, or one-hot rows (N, ..., C). Weston and Watkins (1999).

    dL_i/dy_ic = 1 / C for each c != t whose term is above 0;  dL_i/dy_it is minus the sum of these.
    """

    of_rows = True
    right_targets = "the targets of MultiMargin must be class numbers, or rows of zeros with a single 1"

    def __init__(self, margin: float = 1.0, reduction: str = "mean"):
        super().__init__(reduction)
        self.margin = number("margin", margin, above=0)

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        xp, right = backend.xp, one_hot_rows(y, target, backend.xp)
        others = right == 0
        behind = self.margin + y - xp.where(others, 0, y).sum(axis=-1, keepdims=True)  # not y * right: 0 * -inf is NaN
        hinges = xp.where(others, xp.maximum(behind, 0), 0)
        slopes = (hinges > 0).astype(y.dtype) * (1 / y.shape[-1])
        return hinges.sum(axis=-1) * (1 / y.shape[-1]), slopes - right * slopes.sum(axis=-1, keepdims=True)

    def _check_target(self, target: np.ndarray, shape: tuple[int, ...]) -> None:
        check_target(target, shape, single=False)

    def _right(self, target: np.ndarray) -> np.ndarray:
        return ((target == 0) | (target == 1)).all(axis=-1) & (target.sum(axis=-1) == 1)
