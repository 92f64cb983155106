"""The Kullback-Leibler divergence between the target distribution and the predicted one."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.losses.base import TermLoss
from xpnet.losses.target import DISTRIBUTIONS, are_distributions, checked_targets, require_same_shape
from xpnet.nn.softmax import log_softmax


class KLDivergence(TermLoss):
    """L_i = sum_c t_ic (log t_ic - log p_ic) with p = softmax(y).  y: logits (N, ..., C); i runs over all (N, ...).

    `target`: distributions t over the classes (N, ..., C); 0 log 0 is 0. The divergence is the cross-entropy minus the
    entropy of the target, so it is 0 if p = t (Kullback and Leibler, 1951).  dL_i/dy_ij = p_ij sum_c t_ic - t_ij.
    """

    of_rows, right_targets = True, DISTRIBUTIONS

    def terms(self, y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        xp, t = backend.xp, checked_targets(y, target)
        log_p, p = log_softmax(y, backend)
        log_p = xp.where(t == 0, 0, log_p)  # a class ruled out by a logit of -inf adds 0; 0 times -inf is NaN
        log_t = xp.log(xp.maximum(t, float(np.finfo(t.dtype).tiny)))
        return (t * (log_t - log_p)).sum(axis=-1), p * t.sum(axis=-1, keepdims=True) - t

    def _check_target(self, target: np.ndarray, shape: tuple[int, ...]) -> None:
        require_same_shape(shape, target, "distributions")

    def _right(self, target: np.ndarray) -> np.ndarray:
        return are_distributions(target)
