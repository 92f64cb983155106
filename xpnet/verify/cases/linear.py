"""The fully connected layer, and what brings an input into its form."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn import init
from xpnet.verify.cases.arithmetic import Numbers, each
from xpnet.verify.passes import pixels
from xpnet.verify.rows import LayerCase


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


def standardize(x: Numbers, mean: float, std: float) -> Numbers:
    return each(lambda v: (v - mean) / std, x)


def _linear(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    return linear(x, p["W"], p.get("b"))


def _torch_linear(torch: Any, x: Any, p: dict[str, Any]) -> Any:
    return torch.nn.functional.linear(x, p["W"].T, p.get("b"))


CASES: tuple[LayerCase, ...] = (
    LayerCase("Linear", "vectors", lambda: nn.Linear(4), (7,), _linear, _torch_linear),
    LayerCase("Linear", "no bias", lambda: nn.Linear(4, bias=False), (7,), _linear, _torch_linear),
    LayerCase("Linear", "one to one", lambda: nn.Linear(1, n_in=1), (1,), _linear, _torch_linear, (1, 3)),
    LayerCase("Linear", "rows of 3-D inputs", lambda: nn.Linear(5), (4, 3), _linear, _torch_linear),
    LayerCase("Linear", "rows of 4-D inputs", lambda: nn.Linear(2, init=init.glorot_uniform), (2, 3, 5), _linear),
    LayerCase("Linear", "wide", lambda: nn.Linear(64), (129,), None, _torch_linear, (33,)),
    LayerCase("Flatten", "images", nn.Flatten, (3, 4, 2), lambda x, p: flatten(x), lambda t, x, p: x.flatten(1)),
    LayerCase("Flatten", "vectors", nn.Flatten, (5,), lambda x, p: flatten(x)),
    LayerCase("Standardize", "floats", lambda: nn.Standardize(0.4, 2.5), (6,), lambda x, p: standardize(x, 0.4, 2.5)),
    LayerCase(
        "Standardize",
        "pixels",
        lambda: nn.Standardize(33.3, 78.6),
        (4, 4),
        lambda x, p: standardize(x, 33.3, 78.6),
        draw=pixels,
    ),
)
