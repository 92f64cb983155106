"""Activations."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from xpnet import nn
from xpnet.nn import Layer
from xpnet.verify.cases.arithmetic import Number, Numbers, each, exp, plain, tanh
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


def _elementwise(of: str, make: Callable[[], Layer], formula: Callable, torch: Callable) -> list[LayerCase]:
    """An activation on vectors, on images and on one number."""
    reference = lambda x, p: each(formula, x)
    shapes = {"vectors": (7,), "3 x 2 x 5": (3, 2, 5), "one number": (1,)}
    return [LayerCase(of, what, make, shape, reference, torch) for what, shape in shapes.items()]


CASES: tuple[LayerCase, ...] = (
    *_elementwise("ReLU", nn.ReLU, relu, lambda t, x, p: t.relu(x)),
    *_elementwise(
        "LeakyReLU",
        lambda: nn.LeakyReLU(0.2),
        partial(leaky_relu, slope=0.2),
        lambda t, x, p: t.nn.functional.leaky_relu(x, 0.2),
    ),
    LayerCase("LeakyReLU", "usual slope", nn.LeakyReLU, (6,), lambda x, p: each(lambda v: leaky_relu(v, 0.01), x)),
    *_elementwise("Sigmoid", nn.Sigmoid, sigmoid, lambda t, x, p: t.sigmoid(x)),
    *_elementwise("Tanh", nn.Tanh, tanh, lambda t, x, p: t.tanh(x)),
    *_elementwise("GELU", nn.GELU, gelu, lambda t, x, p: t.nn.functional.gelu(x, approximate="tanh")),
    LayerCase("Softmax", "vectors", nn.Softmax, (7,), lambda x, p: softmax(x), lambda t, x, p: t.softmax(x, -1)),
    LayerCase("Softmax", "rows", nn.Softmax, (3, 4), lambda x, p: softmax(x), lambda t, x, p: t.softmax(x, -1)),
    LayerCase("Softmax", "one number", nn.Softmax, (1,), lambda x, p: softmax(x)),
)
