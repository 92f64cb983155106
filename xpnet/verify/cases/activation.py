"""Activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn import Layer
from xpnet.scalar import Value
from xpnet.verify.cases.arithmetic import Number, Numbers, Parameters, each, each_row, exp, filled, log, plain, tanh
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


def softmax(row: Iterable[Number]) -> list[Number]:
    top = max(plain(v) for v in row)
    powers = [exp(v - top) for v in row]
    total = sum(powers)
    return [power / total for power in powers]


def log_softmax(row: Iterable[Number]) -> list[Number]:
    top = max(plain(v) for v in row)
    log_sum = log(sum(exp(v - top) for v in row)) + top
    return [v - log_sum for v in row]


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


def prelu(x: Numbers, p: Parameters) -> Numbers:
    return filled(x.shape, lambda *at: leaky_relu(x[at], p["a"][at[-1]]))


# Rows -----------------------------------------------------------------------------------------------------------


def elementwise(
    make: Callable[[], Layer], formula: Callable, torch: str, what: str = "", draw: Draw = spread, **options: Any
) -> list[LayerCase]:
    """Rows for an activation on vectors, images and one number, with PyTorch's function and its options."""
    of, reference = type(make()).__name__, each(formula)
    theirs = lambda t, x, p: getattr(t.nn.functional, torch)(x, **options)
    shapes = {"vectors": (7,), "3 x 2 x 5": (3, 2, 5), "one number": (1,)}
    return [LayerCase(of, what + name, make, shape, reference, theirs, draw=draw) for name, shape in shapes.items()]


def _of_rows(kind: type[Layer], formula: Callable, torch: str) -> list[LayerCase]:
    reference, theirs = each_row(formula), lambda t, x, p: getattr(t, torch)(x, -1)
    shapes = {"vectors": (7,), "rows": (3, 4), "one number": (1,)}
    return [LayerCase(kind.__name__, what, kind, shape, reference, theirs) for what, shape in shapes.items()]


def wide(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in (-6, 6)."""
    return 3 * spread(rng, shape)


def _torch_prelu(torch: Any, x: Any, p: dict[str, Any]) -> Any:
    return torch.nn.functional.prelu(x.movedim(-1, 1), p["a"]).movedim(1, -1)


CASES: tuple[LayerCase, ...] = (
    *elementwise(nn.ReLU, relu, "relu"),
    *elementwise(partial(nn.LeakyReLU, 0.2), partial(leaky_relu, slope=0.2), "leaky_relu", negative_slope=0.2),
    LayerCase("LeakyReLU", "usual slope", nn.LeakyReLU, (6,), each(partial(leaky_relu, slope=0.01))),
    *elementwise(nn.Sigmoid, sigmoid, "sigmoid"),
    *elementwise(nn.Tanh, tanh, "tanh"),
    *elementwise(nn.GELU, gelu, "gelu", approximate="tanh"),
    *elementwise(nn.ELU, partial(elu, alpha=1.0), "elu"),
    *elementwise(partial(nn.ELU, 0.3), partial(elu, alpha=0.3), "elu", "alpha 0.3, ", alpha=0.3),
    *elementwise(nn.SELU, selu, "selu"),
    *elementwise(nn.SiLU, silu, "silu"),
    *elementwise(nn.Mish, mish, "mish"),
    *elementwise(nn.Mish, mish, "mish", "wide, ", wide),
    *elementwise(nn.Softplus, softplus, "softplus"),
    *elementwise(nn.HardSwish, hard_swish, "hardswish", "wide, ", wide),
    *elementwise(partial(nn.GELU, "none"), exact_gelu, "gelu", "exact, "),
    *elementwise(partial(nn.GELU, "none"), exact_gelu, "gelu", "exact, wide, ", wide),
    *_of_rows(nn.Softmax, softmax, "softmax"),
    *_of_rows(nn.LogSoftmax, log_softmax, "log_softmax"),
    LayerCase("PReLU", "vectors", nn.PReLU, (7,), prelu, _torch_prelu),
    LayerCase("PReLU", "images", lambda: nn.PReLU(0.1), (3, 2, 5), prelu, _torch_prelu),
    LayerCase("PReLU", "one number", lambda: nn.PReLU(-0.5), (1,), prelu, _torch_prelu),
)
