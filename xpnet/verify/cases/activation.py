"""Activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn import Layer
from xpnet.scalar import Value
from xpnet.verify.cases.arithmetic import Number, Numbers, each, exp, log, plain, tanh
from xpnet.verify.passes import Draw, spread
from xpnet.verify.rows import LayerCase


def relu(v: Number) -> Number:
    return v if plain(v) > 0 else v * 0.0


def leaky_relu(v: Number, slope: float) -> Number:
    return v if plain(v) > 0 else v * slope


def sigmoid(v: Number) -> Number:
    if plain(v) < 0:  # the same number, from an exponential that cannot overflow
        return exp(v) / (1.0 + exp(v))
    return 1.0 / (1.0 + exp(-v))


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


def erf(v: Number) -> Number:
    if isinstance(v, float):
        return math.erf(v)
    return Value(math.erf(v.data), (v,), (2.0 / math.sqrt(math.pi) * math.exp(-v.data * v.data),))


def exact_gelu(v: Number) -> Number:
    return v * (1.0 + erf(v / math.sqrt(2.0))) / 2.0


def elu(v: Number, alpha: float) -> Number:
    return v if plain(v) > 0 else alpha * (exp(v) - 1.0)


def selu(v: Number) -> Number:
    return 1.0507009873554804934193349852946 * elu(v, 1.6732632423543772848170429916717)


def silu(v: Number) -> Number:
    return v * sigmoid(v)


def softplus(v: Number) -> Number:
    return log(1.0 + exp(v))


def mish(v: Number) -> Number:
    return v * tanh(softplus(v))


def hard_swish(v: Number) -> Number:
    if plain(v) <= -3:
        return v * 0.0
    return v if plain(v) >= 3 else v * (v + 3.0) / 6.0


def log_softmax(x: Numbers) -> Numbers:
    y = np.empty(x.shape, object)
    for row in np.ndindex(*x.shape[:-1]):
        top = max(plain(v) for v in x[row])
        log_sum = log(sum(exp(v - top) for v in x[row])) + top
        for i, v in enumerate(x[row]):
            y[(*row, i)] = v - log_sum
    return y


def prelu(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    y = np.empty(x.shape, object)
    for at in np.ndindex(*x.shape):
        y[at] = x[at] if plain(x[at]) > 0 else x[at] * p["a"][at[-1]]
    return y


# Rows -----------------------------------------------------------------------------------------------------------


def elementwise(
    of: str, make: Callable[[], Layer], formula: Callable, torch: Callable, what: str = "", draw: Draw = spread
) -> list[LayerCase]:
    """An activation on vectors, on images and on one number."""
    reference = lambda x, p: each(formula, x)
    shapes = {"vectors": (7,), "3 x 2 x 5": (3, 2, 5), "one number": (1,)}
    return [LayerCase(of, what + name, make, shape, reference, torch, draw=draw) for name, shape in shapes.items()]


def wide(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in (-6, 6)."""
    return 3 * spread(rng, shape)


def _torch_prelu(torch: Any, x: Any, p: dict[str, Any]) -> Any:
    return torch.nn.functional.prelu(x.movedim(-1, 1), p["a"]).movedim(1, -1)


CASES: tuple[LayerCase, ...] = (
    *elementwise("ReLU", nn.ReLU, relu, lambda t, x, p: t.relu(x)),
    *elementwise(
        "LeakyReLU",
        lambda: nn.LeakyReLU(0.2),
        partial(leaky_relu, slope=0.2),
        lambda t, x, p: t.nn.functional.leaky_relu(x, 0.2),
    ),
    LayerCase("LeakyReLU", "usual slope", nn.LeakyReLU, (6,), lambda x, p: each(lambda v: leaky_relu(v, 0.01), x)),
    *elementwise("Sigmoid", nn.Sigmoid, sigmoid, lambda t, x, p: t.sigmoid(x)),
    *elementwise("Tanh", nn.Tanh, tanh, lambda t, x, p: t.tanh(x)),
    *elementwise("GELU", nn.GELU, gelu, lambda t, x, p: t.nn.functional.gelu(x, approximate="tanh")),
    LayerCase("Softmax", "vectors", nn.Softmax, (7,), lambda x, p: softmax(x), lambda t, x, p: t.softmax(x, -1)),
    LayerCase("Softmax", "rows", nn.Softmax, (3, 4), lambda x, p: softmax(x), lambda t, x, p: t.softmax(x, -1)),
    LayerCase("Softmax", "one number", nn.Softmax, (1,), lambda x, p: softmax(x)),
    *elementwise("ELU", nn.ELU, lambda v: elu(v, 1.0), lambda t, x, p: t.nn.functional.elu(x)),
    *elementwise(
        "ELU", lambda: nn.ELU(0.3), lambda v: elu(v, 0.3), lambda t, x, p: t.nn.functional.elu(x, 0.3), "alpha 0.3, "
    ),
    *elementwise("SELU", nn.SELU, selu, lambda t, x, p: t.selu(x)),
    *elementwise("SiLU", nn.SiLU, silu, lambda t, x, p: t.nn.functional.silu(x)),
    *elementwise("Mish", nn.Mish, mish, lambda t, x, p: t.nn.functional.mish(x)),
    *elementwise("Mish", nn.Mish, mish, lambda t, x, p: t.nn.functional.mish(x), "wide, ", wide),
    *elementwise("Softplus", nn.Softplus, softplus, lambda t, x, p: t.nn.functional.softplus(x)),
    *elementwise("HardSwish", nn.HardSwish, hard_swish, lambda t, x, p: t.nn.functional.hardswish(x), "wide, ", wide),
    *elementwise("GELU", lambda: nn.GELU("none"), exact_gelu, lambda t, x, p: t.nn.functional.gelu(x), "exact, "),
    *elementwise(
        "GELU", lambda: nn.GELU("none"), exact_gelu, lambda t, x, p: t.nn.functional.gelu(x), "exact, wide, ", wide
    ),
    LayerCase("PReLU", "vectors", nn.PReLU, (7,), prelu, _torch_prelu),
    LayerCase("PReLU", "images", lambda: nn.PReLU(0.1), (3, 2, 5), prelu, _torch_prelu),
    LayerCase("PReLU", "one number", lambda: nn.PReLU(-0.5), (1,), prelu, _torch_prelu),
    *(
        LayerCase(
            "LogSoftmax", what, nn.LogSoftmax, shape, lambda x, p: log_softmax(x), lambda t, x, p: t.log_softmax(x, -1)
        )
        for what, shape in {"vectors": (7,), "rows": (3, 4), "one number": (1,)}.items()
    ),
)
