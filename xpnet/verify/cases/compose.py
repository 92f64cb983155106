"""Layers put together."""

from __future__ import annotations

import numpy as np

from xpnet import nn
from xpnet.nn import Layer
from xpnet.verify.cases.activation import relu
from xpnet.verify.cases.arithmetic import Numbers, each, tanh
from xpnet.verify.cases.conv import conv2d
from xpnet.verify.cases.dropout import UniformStream, dropout
from xpnet.verify.cases.linear import flatten, linear
from xpnet.verify.cases.norm import batch_norm
from xpnet.verify.cases.pool import first_largest, mean_of, pool2d
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


SAME = ((1, 1), (1, 1))  # the padding of a 3 x 3 convolution that keeps the size


def _cnn(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    """Of two channels, then three; 4 x 4 images without a channel axis."""
    for i in (1, 4):
        x = _pooled(x[..., None] if i == 1 else x, _under(p, f"layers.{i}"))
        x = each(relu, batch_norm(x, _under(p, f"layers.{i + 1}")))
    hidden = each(relu, linear(flatten(x), p["layers.8.W"], p["layers.8.b"]))
    return linear(hidden, p["layers.10.W"], p["layers.10.b"])


def _pooled(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    """A 3 x 3 convolution without a bias, and 2 x 2 max-pooling."""
    return pool2d(first_largest, conv2d(x, p["layers.0.W"], None, padding=SAME), (2, 2), (2, 2))


def _pooling(channels: int) -> Layer:
    return nn.Blocked(nn.Conv2d(channels, 3, padding="same", bias=False), nn.MaxPool2d(2))


def _resnet(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    """Three blocks, of which the second and the third halve the image."""

    def convolved(x: Numbers, conv: str, norm: str, stride: int = 1, padding=SAME) -> Numbers:
        return batch_norm(conv2d(x, p[f"{conv}.W"], None, (stride, stride), padding), _under(p, norm))

    x = each(relu, convolved(x, "layers.0", "layers.1"))
    for block, stride in (("layers.3", 1), ("layers.5", 2), ("layers.7", 2)):
        inner = each(relu, convolved(x, f"{block}.layers.0", f"{block}.layers.1", stride))
        inner = convolved(inner, f"{block}.layers.3", f"{block}.layers.4")
        if stride == 2:
            way = f"{block}.shortcut.layers"
            x = convolved(x, f"{way}.0", f"{way}.1", stride, ((0, 0), (0, 0)))
        x = each(relu, residual(x, inner))
    mean = pool2d(mean_of(x.shape[1] * x.shape[2]), x, x.shape[1:3], (1, 1)).reshape(len(x), -1)
    return linear(mean, p["layers.10.W"], p["layers.10.b"])


def _under(p: dict[str, Numbers], path: str) -> dict[str, Numbers]:
    """The parameters of one layer, by its own names for them."""
    return {name.removeprefix(f"{path}."): values for name, values in p.items() if name.startswith(f"{path}.")}


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
    LayerCase("Blocked", "convolution and pooling", lambda: _pooling(3), (4, 5, 2), _pooled, batches=(2,)),
    LayerCase("Blocked", "several blocks", lambda: _pooling(96), (32, 32, 1), batches=(7,)),
    LayerCase("mlp", "ReLU", lambda: nn.mlp([5, 6, 3]), (5,), _relu_net),
    LayerCase(
        "mlp", "dropout, training", lambda: nn.mlp([5, 7, 6, 3], nn.Tanh, 0.4), (5,), _dropout_net, training=True
    ),
    LayerCase("mlp", "of a tutorial, evaluation", lambda: nn.mlp([64, 32, 16, 10], dropout=0.1), (64,), batches=(8,)),
    LayerCase(
        "cnn",
        "grey images, training",
        lambda: nn.cnn((4, 4), 3, channels=(2, 3), hidden=4),
        (4, 4),
        _cnn,
        batches=(4,),
        training=True,
    ),
    LayerCase(
        "resnet",
        "colour images, training",
        lambda: nn.resnet((5, 6, 3), 3, depth=8, width=2),
        (5, 6, 3),
        _resnet,
        batches=(3,),
        training=True,
    ),
)
