"""What every layer, loss, optimizer and schedule must compute, one number at a time, written from the formulas.

Nothing here is shared with the code that it is a witness of. Arrays are only containers: the arithmetic is Python's,
on floats, or on `xpnet.scalar.Value`s, and then the gradients of the same formulas come out too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Number = Any  # a float, or a `Value`
Numbers = np.ndarray  # of floats, or of dtype object with `Value`s


def exp(v: Number) -> Number:
    return math.exp(v) if isinstance(v, float) else v.exp()


def log(v: Number) -> Number:
    return math.log(v) if isinstance(v, float) else v.log()


def plain(v: Number) -> float:
    return v if isinstance(v, float) else v.data


# Layers -------------------------------------------------------------------------------------------------------


def linear(x: Numbers, W: Numbers, b: Numbers | None = None) -> Numbers:
    y = np.empty((*x.shape[:-1], W.shape[1]), object)
    for row in np.ndindex(*x.shape[:-1]):
        for j in range(W.shape[1]):
            total = 0.0 if b is None else b[j]
            for i in range(W.shape[0]):
                total = total + x[(*row, i)] * W[i, j]
            y[(*row, j)] = total
    return y


def flatten(x: Numbers) -> Numbers:
    y = np.empty((len(x), math.prod(x.shape[1:])), object)
    for n in range(len(x)):
        for column, at in enumerate(np.ndindex(*x.shape[1:])):
            y[n, column] = x[(n, *at)]
    return y


def each(function: Callable[[Number], Number], x: Numbers) -> Numbers:
    """`function` of every number."""
    y = np.empty(x.shape, object)
    for at in np.ndindex(*x.shape):
        y[at] = function(x[at])
    return y


def standardize(x: Numbers, mean: float, std: float) -> Numbers:
    return each(lambda v: (v - mean) / std, x)


def relu(v: Number) -> Number:
    return v if plain(v) > 0 else v * 0.0


def leaky_relu(v: Number, slope: float) -> Number:
    return v if plain(v) > 0 else v * slope


def sigmoid(v: Number) -> Number:
    if plain(v) < 0:  # the same number, from an exponential that cannot overflow
        return exp(v) / (1.0 + exp(v))
    return 1.0 / (1.0 + exp(-v))


def tanh(v: Number) -> Number:
    return math.tanh(v) if isinstance(v, float) else v.tanh()


def gelu(v: Number) -> Number:
    return v * (1.0 + tanh(math.sqrt(2.0 / math.pi) * (v + 0.044715 * v * v * v))) / 2.0


def softmax(x: Numbers) -> Numbers:
    y = np.empty(x.shape, object)
    for row in np.ndindex(*x.shape[:-1]):
        top = max(plain(v) for v in x[row])
        powers = [exp(v - top) for v in x[row]]
        for i, power in enumerate(powers):
            y[(*row, i)] = power / sum(powers)
    return y


def residual(x: Numbers, inner: Numbers) -> Numbers:
    y = np.empty(x.shape, object)
    for at in np.ndindex(*x.shape):
        y[at] = x[at] + inner[at]
    return y


class Stream:
    """The uniform float64 numbers of seed, from raw words: each draw starts on a fresh block of four."""

    def __init__(self, seed: int):
        self._bits = np.random.Philox(seed)

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        size = math.prod(shape)
        words = self._bits.random_raw(4 * math.ceil(size / 4))
        return np.array([(int(word) >> 11) / 2.0**53 for word in words[:size]]).reshape(shape)


def dropout(x: Numbers, p: float, stream: Stream) -> Numbers:
    drawn, y = stream.random(x.shape), np.empty(x.shape, object)
    for at in np.ndindex(*x.shape):
        y[at] = x[at] * (0.0 if drawn[at] < p else 1.0 / (1.0 - p))
    return y


# Losses: (outputs, target) -> one number ------------------------------------------------------------------------


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


# Optimizers: one number x, with its gradient at each step -> x after the last step -------------------------------


def sgd(x: float, gradients: Sequence[float], lr: float, momentum=0.0, nesterov=False, decay=0.0) -> float:
    v = 0.0
    for g in gradients:
        g = g + decay * x
        v = momentum * v + g
        x = x - lr * (g + momentum * v if nesterov else v)
    return x


def rmsprop(x: float, gradients: Sequence[float], lr: float, rho: float, eps: float, decay=0.0) -> float:
    s = 0.0
    for g in gradients:
        g = g + decay * x
        s = rho * s + (1 - rho) * g**2
        x = x - lr * g / (math.sqrt(s) + eps)
    return x


def adagrad(x: float, gradients: Sequence[float], lr: float, eps: float, decay=0.0) -> float:
    s = 0.0
    for g in gradients:
        g = g + decay * x
        s = s + g**2
        x = x - lr * g / (math.sqrt(s) + eps)
    return x


def adam(
    x: float, gradients: Sequence[float], lr: float, betas: tuple[float, float], eps: float, decay=0.0, decoupled=0.0
) -> float:
    m = s = 0.0
    for t, g in enumerate(gradients, 1):
        g = g + decay * x
        x = x - lr * decoupled * x
        m = betas[0] * m + (1 - betas[0]) * g
        s = betas[1] * s + (1 - betas[1]) * g**2
        x = x - lr * (m / (1 - betas[0] ** t)) / (math.sqrt(s / (1 - betas[1] ** t)) + eps)
    return x


def clipped(gradients: Sequence[float], limit: float) -> list[float]:
    norm = math.sqrt(math.fsum(g * g for g in gradients))
    return [g * min(1.0, limit / norm) if norm else g for g in gradients]
