"""Optimizers: a reference maps one number x, and its gradient at each step, to x after the last step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xpnet import optim
from xpnet.verify.rows import OptimizerCase


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


def nadam(
    x: float, gradients: Sequence[float], lr: float, betas: tuple[float, float], eps: float, momentum_decay: float,
    decay=0.0,
) -> float:  # fmt: skip
    def mu(t: int) -> float:
        return betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay))

    m = s = 0.0
    for t, g in enumerate(gradients, 1):
        g = g + decay * x
        m = betas[0] * m + (1 - betas[0]) * g
        s = betas[1] * s + (1 - betas[1]) * g**2
        so_far = math.prod(mu(i) for i in range(1, t + 1))
        ahead = mu(t + 1) * m / (1 - so_far * mu(t + 1)) + (1 - mu(t)) * g / (1 - so_far)
        x = x - lr * ahead / (math.sqrt(s / (1 - betas[1] ** t)) + eps)
    return x


def lion(x: float, gradients: Sequence[float], lr: float, betas: tuple[float, float], decoupled=0.0) -> float:
    m = 0.0
    for g in gradients:
        direction = betas[0] * m + (1 - betas[0]) * g
        x = x - lr * (int(direction > 0) - int(direction < 0) + decoupled * x)
        m = betas[1] * m + (1 - betas[1]) * g
    return x


def lamb(
    x: Any, gradients: Sequence[Any], lr: float, betas: tuple[float, float], eps: float, decoupled: float | None = None
) -> Any:
    """x is a parameter as a list, or as a list of rows; `decoupled` is None if it does not decay."""
    if isinstance(x[0], list):
        width = len(x[0])
        end = lamb(_flat(x), [_flat(g) for g in gradients], lr, betas, eps, decoupled)
        return [end[i : i + width] for i in range(0, len(end), width)]
    m, s = [0.0] * len(x), [0.0] * len(x)
    for t, gradient in enumerate(gradients, 1):
        r = []
        for i, g in enumerate(gradient):
            m[i] = betas[0] * m[i] + (1 - betas[0]) * g
            s[i] = betas[1] * s[i] + (1 - betas[1]) * g**2
            adam_step = (m[i] / (1 - betas[0] ** t)) / (math.sqrt(s[i] / (1 - betas[1] ** t)) + eps)
            r.append(adam_step + (decoupled or 0.0) * x[i])
        ratio = 1.0 if decoupled is None else math.hypot(*x) / math.hypot(*r)
        x = [v - lr * ratio * step for v, step in zip(x, r, strict=True)]
    return x


def muon(
    x: Any, gradients: Sequence[Any], lr: float, momentum: float, betas: tuple[float, float], eps: float, decoupled=0.0
) -> Any:
    """x is a parameter as a list, which AdamW updates, or a matrix as a list of rows."""
    if not isinstance(x[0], list):
        return [adam(v, [g[i] for g in gradients], lr, betas, eps, 0.0, decoupled) for i, v in enumerate(x)]
    n, width = len(x), len(x[0])
    v = [[0.0] * width for _ in range(n)]
    for g in gradients:
        v = _combined(momentum, v, 1.0, g)
        step = _combined(1.0, g, momentum, v)
        norm = math.hypot(*_flat(step))
        step = [[number / norm for number in row] for row in step]
        for _ in range(5):
            square = _product(step, _transposed(step))
            polynomial = _combined(-4.7750, square, 2.0315, _product(square, square))
            step = _combined(3.4445, step, 1.0, _product(polynomial, step))
        x = _combined(1 - lr * decoupled, x, -lr * 0.2 * math.sqrt(max(n, width)), step)
    return x


Rows = list[list[float]]


def _flat(a: Rows) -> list[float]:
    return [number for row in a for number in row]


def _combined(p: float, a: Rows, q: float, b: Rows) -> Rows:
    return [[p * u + q * v for u, v in zip(row, other, strict=True)] for row, other in zip(a, b, strict=True)]


def _product(a: Rows, b: Rows) -> Rows:
    return [[sum(u * v for u, v in zip(row, column, strict=True)) for column in _transposed(b)] for row in a]


def _transposed(a: Rows) -> Rows:
    return [list(column) for column in zip(*a, strict=True)]


def clipped(gradients: Sequence[float], limit: float) -> list[float]:
    norm = math.sqrt(math.fsum(g * g for g in gradients))
    return [g * min(1.0, limit / norm) if norm else g for g in gradients]


_ADAM: dict[str, Any] = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6}


CASES: tuple[OptimizerCase, ...] = (
    OptimizerCase("SGD", "plain", optim.SGD, sgd, {"lr": 0.1}),
    OptimizerCase("SGD", "decay", optim.SGD, sgd, {"lr": 0.1}, 0.05),
    OptimizerCase("SGD", "momentum", optim.SGD, sgd, {"lr": 0.1, "momentum": 0.9}),
    OptimizerCase("SGD", "momentum, decay", optim.SGD, sgd, {"lr": 0.1, "momentum": 0.6}, 0.05),
    OptimizerCase("SGD", "Nesterov", optim.SGD, sgd, {"lr": 0.1, "momentum": 0.7, "nesterov": True}, 0.05),
    OptimizerCase("RMSProp", "plain", optim.RMSProp, rmsprop, {"lr": 0.01, "rho": 0.8, "eps": 1e-3}),
    OptimizerCase("RMSProp", "decay", optim.RMSProp, rmsprop, {"lr": 0.01, "rho": 0.95, "eps": 1e-6}, 0.05),
    OptimizerCase("AdaGrad", "plain", optim.AdaGrad, adagrad, {"lr": 0.1, "eps": 1e-2}),
    OptimizerCase("AdaGrad", "decay", optim.AdaGrad, adagrad, {"lr": 0.1, "eps": 1e-8}, 0.05),
    OptimizerCase("Adam", "plain", optim.Adam, adam, _ADAM),
    OptimizerCase("Adam", "large eps, decay", optim.Adam, adam, {**_ADAM, "eps": 1e-2}, 0.05),
    OptimizerCase("Adam", "no mean", optim.Adam, adam, {**_ADAM, "betas": (0.0, 0.9)}),
    OptimizerCase("AdamW", "plain", optim.AdamW, adam, _ADAM),
    OptimizerCase("AdamW", "decay", optim.AdamW, adam, _ADAM, 0.3),
    OptimizerCase("NAdam", "plain", optim.NAdam, nadam, {**_ADAM, "momentum_decay": 0.004}),
    OptimizerCase("NAdam", "decay", optim.NAdam, nadam, {**_ADAM, "momentum_decay": 2.0}, 0.05),
    OptimizerCase("Lion", "plain", optim.Lion, lion, {"lr": 0.02, "betas": (0.7, 0.9)}),
    OptimizerCase("Lion", "decay", optim.Lion, lion, {"lr": 0.02, "betas": (0.9, 0.99)}, 0.3),
    OptimizerCase("LAMB", "plain", optim.LAMB, lamb, _ADAM),
    OptimizerCase("LAMB", "decay", optim.LAMB, lamb, _ADAM, 0.3),
    OptimizerCase("Muon", "plain", optim.Muon, muon, {**_ADAM, "momentum": 0.9}),
    OptimizerCase("Muon", "decay", optim.Muon, muon, {**_ADAM, "momentum": 0.6}, 0.3),
    OptimizerCase("clip_norm", "always", optim.SGD, sgd, {"lr": 1.0}, clip=0.5),
    OptimizerCase("clip_norm", "sometimes", optim.SGD, sgd, {"lr": 1.0, "momentum": 0.5}, clip=6.0),
    OptimizerCase("clip_norm", "never", optim.SGD, sgd, {"lr": 1.0}, clip=1e6),
)
