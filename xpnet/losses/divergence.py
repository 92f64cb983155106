"""Relatives of the cross-entropies: the divergence from a distribution, and the focal loss."""

from __future__ import annotations

import numpy as np

from xpnet.arguments import number
from xpnet.backend import Array, Backend
from xpnet.losses.base import TermLoss
from xpnet.losses.target import DISTRIBUTIONS, are_distributions, checked_targets, entry_targets, require_same_shape
from xpnet.nn.activation import sigmoid
from xpnet.nn.softmax import log_softmax


class KLDivergence(TermLoss):
    """L_i = sum_c t_ic (log t_ic - log p_ic) with p = softmax(y).  y: logits (N, ..., C); i runs over all (N, ...).

    `target`: distributions t over the classes (N, ..., C); 0 log 0 is 0. It is the cross-entropy less the entropy of
    the target, and so 0 if p = t (Kullback and Leibler, 1951).  dL_i/dy_ij = p_ij sum_c t_ic - t_ij.
    """

    of_rows, right_targets = True, DISTRIBUTIONS

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        xp, t = backend.xp, checked_targets(y, target)
        log_p, p = log_softmax(y, backend)
        log_p = xp.where(t == 0, 0, log_p)  # a class that is ruled out by a logit of -inf is no part of the sum
        log_t = xp.log(xp.maximum(t, float(np.finfo(t.dtype).tiny)))
        return (t * (log_t - log_p)).sum(axis=-1), p * t.sum(axis=-1, keepdims=True) - t

    def _check_target(self, target: np.ndarray, shape: tuple[int, ...]) -> None:
        require_same_shape(shape, target, "distributions")

    def _right(self, target: np.ndarray) -> np.ndarray:
        return are_distributions(target)


class Focal(TermLoss):
    """L_i = - a_i (1 - q)^gamma log q, q being the probability of what is right, for each entry i.  y: logits.

    q = p where t = 1, else 1 - p, with p = sigmoid(y); a_i = alpha where t = 1, else 1 - alpha. What is easy counts
    for little: the loss of rare things among much background. Lin, Goyal, Girshick, He and Dollar, "Focal loss for
    dense object detection" (2017). Detectors divide the sum by the number of objects: `reduction="sum"`.

    `target`: t, 0 or 1, of y's shape; or class numbers (N,), which for y (N, 1) are t itself, and for y (N, C) stand
    for one-hot rows.

    With z = y where t = 1, else -y:  q = sigmoid(z), -log q = max(-z, 0) + log(1 + e^-|z|), and as
    dq/dz = q (1 - q):  dL_i/dz = - a (1 - q)^gamma (1 - q - gamma q log q).
    """

    right_targets = "the targets of Focal are 0 or 1, nothing between"

    def __init__(self, gamma: float = 2.0, alpha: float = 0.25, reduction: str = "mean"):
        super().__init__(reduction)
        self.gamma, self.alpha = number("gamma", gamma, least=0), number("alpha", alpha, above=0, below=1)

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        xp, t = backend.xp, entry_targets(y, target, backend.xp)
        sign = 2 * t - 1
        z = sign * y
        q, wrong = sigmoid(z, xp), sigmoid(-z, xp)  # 1 - q would lose the digits of small ones
        surprise = xp.maximum(-z, 0) + xp.log1p(xp.exp(-xp.abs(z)))  # -log q
        factor = ((1 - self.alpha) + (2 * self.alpha - 1) * t) * wrong**self.gamma
        return factor * surprise, -sign * factor * (wrong + self.gamma * q * surprise)

    def _right(self, target: np.ndarray) -> np.ndarray:
        return (target == 0) | (target == 1)
