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
    OptimizerCase("clip_norm", "always", optim.SGD, sgd, {"lr": 1.0}, clip=0.5),
    OptimizerCase("clip_norm", "sometimes", optim.SGD, sgd, {"lr": 1.0, "momentum": 0.5}, clip=6.0),
    OptimizerCase("clip_norm", "never", optim.SGD, sgd, {"lr": 1.0}, clip=1e6),
)
