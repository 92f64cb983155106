"""Layers put together."""

from __future__ import annotations

import numpy as np

from xpnet import nn
from xpnet.nn import Layer
from xpnet.verify.cases.activation import relu
from xpnet.verify.cases.arithmetic import Numbers, each, tanh
from xpnet.verify.cases.dropout import UniformStream, dropout
from xpnet.verify.cases.linear import flatten, linear
from xpnet.verify.passes import SEED
from xpnet.verify.rows import LayerCase


def residual(x: Numbers, inner: Numbers) -> Numbers:
    y = np.empty(x.shape, object)
    for at in np.ndindex(*x.shape):
        y[at] = x[at] + inner[at]
    return y


def _relu_net(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    hidden = each(relu, linear(x, p["layers.0.W"], p["layers.0.b"]))
    return linear(hidden, p["layers.2.W"], p["layers.2.b"])


def _dropout_net(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    stream = UniformStream(SEED)
    for i in (0, 3):
        x = each(tanh, linear(x, p[f"layers.{i}.W"], p[f"layers.{i}.b"]))
        x = dropout(x, 0.4, stream)
    return linear(x, p["layers.6.W"], p["layers.6.b"])


def _nested_residual(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    inner = linear(x, p["layers.0.W"], p["layers.0.b"])
    inner = residual(inner, each(tanh, linear(inner, p["layers.1.layers.0.W"])))
    return residual(x, inner)


def _twice(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    hidden = each(tanh, linear(x, p["layers.0.W"], p["layers.0.b"]))
    return linear(hidden, p["layers.0.W"], p["layers.0.b"])


def _used_twice() -> Layer:
    layer = nn.Linear(4)
    return nn.Sequential(layer, nn.Tanh(), layer)


CASES: tuple[LayerCase, ...] = (
    LayerCase(
        "Sequential",
        "two layers",
        lambda: nn.Sequential(nn.Linear(6), nn.ReLU(), nn.Linear(3)),
        (5,),
        _relu_net,
        lambda t, x, p: t.relu(x @ p["layers.0.W"] + p["layers.0.b"]) @ p["layers.2.W"] + p["layers.2.b"],
    ),
    LayerCase("Sequential", "no layers", nn.Sequential, (3,), lambda x, p: x),
    LayerCase("Sequential", "one layer used twice", _used_twice, (4,), _twice),
    LayerCase(
        "Sequential",
        "no parameters at the bottom",
        lambda: nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(3)),
        (2, 3),
        lambda x, p: linear(each(tanh, flatten(x)), p["layers.2.W"], p["layers.2.b"]),
    ),
    LayerCase(
        "Residual",
        "nested",
        lambda: nn.Residual(nn.Linear(5), nn.Residual(nn.Linear(5, bias=False), nn.Tanh())),
        (5,),
        _nested_residual,
    ),
    LayerCase("Residual", "of nothing", nn.Residual, (3,), lambda x, p: each(lambda v: v + v, x)),
    LayerCase(
        "Residual",
        "of an activation",
        lambda: nn.Residual(nn.ReLU()),
        (2, 3),
        lambda x, p: residual(x, each(relu, x)),
    ),
    LayerCase("mlp", "ReLU", lambda: nn.mlp([5, 6, 3]), (5,), _relu_net),
    LayerCase(
        "mlp", "dropout, training", lambda: nn.mlp([5, 7, 6, 3], nn.Tanh, 0.4), (5,), _dropout_net, training=True
    ),
    LayerCase("mlp", "of a tutorial, evaluation", lambda: nn.mlp([64, 32, 16, 10], dropout=0.1), (64,), batches=(8,)),
)
