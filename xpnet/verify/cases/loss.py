"""Losses: a reference maps (outputs, target) to one number."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnet import losses
from xpnet.verify.cases.arithmetic import Number, Numbers, exp, log, plain
from xpnet.verify.passes import Draw, spread
from xpnet.verify.rows import LossCase


def cross_entropy(y: Numbers, target: np.ndarray, smoothing: float = 0.0, weights: Sequence[float] = ()) -> Number:
    total: Number = 0.0
    weight_of_all, classes = 0.0, y.shape[1]
    for n in range(len(y)):
        top = max(plain(v) for v in y[n])
        log_sum = log(sum(exp(v - top) for v in y[n])) + top
        for c in range(classes):
            q = float(target[n, c]) if target.ndim == 2 else float(target[n] == c)
            weight = weights[c] if len(weights) else 1.0
            weight_of_all += weight * q
            total = total - weight * ((1.0 - smoothing) * q + smoothing / classes) * (y[n, c] - log_sum)
    return total / (weight_of_all if len(weights) else float(len(y)))


def squared_error(y: Numbers, target: np.ndarray) -> Number:
    total: Number = 0.0
    for at in np.ndindex(*y.shape):
        total = total + (y[at] - float(target[at])) * (y[at] - float(target[at]))
    return total / float(y.size)


def binary_cross_entropy(y: Numbers, target: np.ndarray) -> Number:
    total: Number = 0.0
    for at in np.ndindex(*y.shape):
        t = float(target[at])
        # Of log p = -log(1 + e^-v) and log(1 - p) = -log(1 + e^v), each is taken in the form that cannot overflow.
        v, t = (y[at], t) if plain(y[at]) > 0 else (-y[at], 1.0 - t)
        total = total + log(1.0 + exp(-v)) + (1.0 - t) * v
    return total / float(y.size)


def labels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Class numbers for logits of this shape."""
    return rng.integers(0, shape[1], shape[0])


def one_hot(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The same as rows of 0 and one 1."""
    return np.eye(shape[1])[labels(rng, shape)]


def distributions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rows that sum to 1."""
    return rng.dirichlet(np.ones(shape[1]), shape[0])


def fractions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1), some of them exactly 0 or 1."""
    return rng.choice([0.0, 1.0, 0.25, 0.9], shape)


_WEIGHTS = (0.5, 2.0, 1.0, 0.25)


def _cross_entropy(what: str, target: Draw, smoothing: float, weights: Sequence[float] | None, n: int = 4) -> LossCase:
    def torch_value(torch: Any, y: Any, target: Any) -> Any:
        weight = None if weights is None else y.new_tensor(weights)
        return torch.nn.functional.cross_entropy(y, target, weight, label_smoothing=smoothing)

    # With class weights PyTorch divides by the number of samples where the target is a distribution, and by the sum of
    # their weights where it is a label; here both give the same.
    other = weights is not None and target is distributions
    return LossCase(
        "SoftmaxCrossEntropy",
        what,
        lambda: losses.SoftmaxCrossEntropy(smoothing, weights),
        (n,),
        target,
        partial(cross_entropy, smoothing=smoothing, weights=weights or ()),
        None if other else torch_value,
    )


CASES: tuple[LossCase, ...] = (
    _cross_entropy("labels", labels, 0.0, None),
    _cross_entropy("labels, ten classes", labels, 0.0, None, 10),
    _cross_entropy("uint8 labels", lambda rng, shape: labels(rng, shape).astype(np.uint8), 0.0, None),
    _cross_entropy("one class", labels, 0.0, None, 1),
    _cross_entropy("one-hot", one_hot, 0.0, None),
    _cross_entropy("distributions", distributions, 0.0, None),
    _cross_entropy("smoothing", labels, 0.1, None),
    _cross_entropy("one-hot, smoothing", one_hot, 0.2, None),
    _cross_entropy("class weights", labels, 0.0, _WEIGHTS),
    _cross_entropy("class weights, smoothing", labels, 0.1, _WEIGHTS),
    _cross_entropy("distributions, class weights, smoothing", distributions, 0.1, _WEIGHTS),
    *(
        LossCase(
            "MeanSquaredError", what, losses.MeanSquaredError, shape, spread, squared_error,
            lambda t, y, target: t.nn.functional.mse_loss(y, target),
        )
        for what, shape in {"vectors": (3,), "images": (2, 3, 2), "numbers": (1,)}.items()
    ),
    *(
        LossCase(
            "BinaryCrossEntropy", what, losses.BinaryCrossEntropy, shape, fractions, binary_cross_entropy,
            lambda t, y, target: t.nn.functional.binary_cross_entropy_with_logits(y, target),
        )
        for what, shape in {"vectors": (3,), "images": (2, 3, 2), "numbers": (1,)}.items()
    ),
)  # fmt: skip
# fmt: skip
