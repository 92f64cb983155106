"""Layers made of other layers."""

from __future__ import annotations

from functools import partial

from xpnet import nn
from xpnet.nn import Layer
from xpnet.verify.cases.activation import relu
from xpnet.verify.cases.arithmetic import (
    Numbers,
    Parameters,
    Reference,
    each,
    inside,
    parallel,
    residual,
    sequential,
    tanh,
)
from xpnet.verify.cases.conv import conv2d
from xpnet.verify.cases.dropout import UniformStream, dropout
from xpnet.verify.cases.embedding import embedding, few
from xpnet.verify.cases.linear import linear
from xpnet.verify.cases.norm import batch_norm, batch_norm_evaluation
from xpnet.verify.cases.pool import first_largest, mean_of, pool2d
from xpnet.verify.cases.reshape import flatten
from xpnet.verify.passes import SEED
from xpnet.verify.rows import LayerCase

RELU, TANH = each(relu), each(tanh)
SAME = (1, 1, 1, 1)  # the padding of a 3 x 3 convolution that keeps the size
AS_IMAGE: Reference = lambda x, p: x[..., None]  # gives (H, W) a channel axis


def _dropout_net(x: Numbers, p: Parameters) -> Numbers:
    drop = dropout(0.4, UniformStream(SEED))
    return sequential(linear, TANH, drop, linear, TANH, drop, linear)(x, p)


def _twice(x: Numbers, p: Parameters) -> Numbers:
    layer = inside(p, "layers.0")
    return linear(TANH(linear(x, layer), {}), layer)


def _used_twice() -> Layer:
    layer = nn.Linear(4)
    return nn.Sequential(layer, nn.Tanh(), layer)


def _parallel(what: str, shape: tuple[int, ...]) -> LayerCase:
    make = lambda: nn.Parallel(nn.Linear(3), nn.Sequential(nn.Linear(2), nn.Tanh()), nn.Sequential())
    return LayerCase("Parallel", what, make, shape, parallel(linear, sequential(linear, TANH), sequential()))


def _cnn(stages: int, *first: Reference, norm: Reference = batch_norm) -> Reference:
    """A `cnn` of so many stages, each halving the image. `first` adds the channel axis if images have none."""
    return sequential(*first, *(_pooled(), norm, RELU) * stages, flatten, linear, RELU, linear)


def _pooled() -> Reference:
    """A 3 x 3 convolution without a bias, and 2 x 2 max-pooling."""
    return sequential(partial(conv2d, padding=SAME), pool2d(first_largest, (2, 2), (2, 2)))


def _resnet(*first: Reference, norm: Reference = batch_norm) -> Reference:
    """A `resnet` of three blocks, of which the second and third halve the image."""
    same = partial(conv2d, padding=SAME), norm
    halved = partial(conv2d, padding=SAME, stride=(2, 2)), norm
    shortcut = sequential(partial(conv2d, stride=(2, 2)), norm)
    plain, halving = residual(*same, RELU, *same), residual(*halved, RELU, *same, shortcut=shortcut)
    mean = lambda x, p: pool2d(mean_of(x[0, ..., 0].size), x.shape[1:3], (1, 1))(x, p)[:, 0, 0]
    return sequential(*first, *same, RELU, plain, RELU, halving, RELU, halving, RELU, mean, linear)


CASES: tuple[LayerCase, ...] = (
    LayerCase(
        "Sequential", "two layers", lambda: nn.Sequential(nn.Linear(6), nn.ReLU(), nn.Linear(3)), (5,),
        sequential(linear, RELU, linear),
        lambda t, x, p: t.relu(x @ p["layers.0.W"] + p["layers.0.b"]) @ p["layers.2.W"] + p["layers.2.b"],
    ),
    LayerCase("Sequential", "no layers", nn.Sequential, (3,), lambda x, p: x),
    LayerCase("Sequential", "one layer used twice", _used_twice, (4,), _twice),
    LayerCase(
        "Sequential", "no parameters at the bottom", lambda: nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(3)),
        (2, 3), sequential(flatten, TANH, linear),
    ),
    LayerCase(
        "Residual", "nested", lambda: nn.Residual(nn.Linear(5), nn.Residual(nn.Linear(5, bias=False), nn.Tanh())), (5,),
        residual(linear, residual(linear, TANH)),
    ),
    LayerCase("Residual", "of nothing", nn.Residual, (3,), residual()),
    LayerCase("Residual", "of an activation", lambda: nn.Residual(nn.ReLU()), (2, 3), residual(RELU)),
    _parallel("three branches", (4,)),
    _parallel("of sequences", (3, 4)),
    LayerCase(
        "Parallel", "along the first axis", lambda: nn.Parallel(nn.Tanh(), nn.ReLU(), axis=0), (2, 3),
        parallel(TANH, RELU, axis=0), lambda t, x, p: t.cat([t.tanh(x), t.relu(x)], 1),
    ),
    LayerCase(
        "Parallel", "ten branches", lambda: nn.Parallel(*(nn.Tanh() for _ in range(10))), (2,),
        parallel(*[TANH] * 10),
    ),
    LayerCase(
        "Parallel", "of whole numbers", lambda: nn.Parallel(nn.Embedding(5, 2), nn.Embedding(5, 3)), (4,),
        parallel(embedding, embedding), draw=few(5),
    ),
    LayerCase(
        "Residual", "with a projection",
        lambda: nn.Residual(nn.Linear(5), nn.ReLU(), nn.Linear(3), shortcut=nn.Linear(3, bias=False)), (4,),
        residual(linear, RELU, linear, shortcut=linear),
    ),
    LayerCase(
        "Residual", "a shortcut without parameters", lambda: nn.Residual(nn.Linear(6), shortcut=nn.Flatten()), (6,),
        residual(linear, shortcut=flatten),
    ),
    LayerCase("mlp", "ReLU", lambda: nn.mlp([5, 6, 3]), (5,), sequential(linear, RELU, linear)),
    LayerCase(
        "Blocked",
        "convolution and pooling",
        lambda: nn.Blocked(nn.Conv2d(3, 3, padding="same", bias=False), nn.MaxPool2d(2)),
        (4, 5, 2),
        _pooled(),
        batches=(2,),
    ),
    LayerCase(
        "Blocked",
        "several blocks",  # too much for plain loops
        lambda: nn.Blocked(nn.Conv2d(64, 1), nn.MaxPool2d(3)),
        (36, 36, 2),
        batches=(7,),
    ),
    LayerCase(
        "Blocked", "a border that pooling leaves out",
        lambda: nn.Blocked(nn.Conv2d(2, 3, padding="same", bias=False), nn.MaxPool2d(2)), (5, 7, 1), _pooled(),
    ),
    LayerCase(
        "mlp", "dropout, training", lambda: nn.mlp([5, 7, 6, 3], nn.Tanh, 0.4), (5,), _dropout_net, training=True,
    ),
    LayerCase("mlp", "of a tutorial, evaluation", lambda: nn.mlp([64, 32, 16, 10], dropout=0.1), (64,), batches=(8,)),
    LayerCase("mlp", "no hidden layer", lambda: nn.mlp([9, 2]), (9,), sequential(linear)),
    LayerCase(
        "cnn", "grey images, training", lambda: nn.cnn((4, 4), 3, channels=(2, 3), hidden=4), (4, 4),
        _cnn(2, AS_IMAGE), batches=(4,), training=True,
    ),
    LayerCase(
        "cnn", "one stage, training", lambda: nn.cnn((5, 2, 1), 2, channels=(2,), hidden=3), (5, 2, 1), _cnn(1),
        batches=(5,), training=True,
    ),
    LayerCase(
        "cnn", "colour images, evaluation", lambda: nn.cnn((3, 4, 3), 2, channels=(2,), hidden=3), (3, 4, 3),
        _cnn(1, norm=batch_norm_evaluation), batches=(2,),
    ),
    LayerCase(
        "resnet", "colour images, training", lambda: nn.resnet((5, 6, 3), 3, depth=8, width=2), (5, 6, 3), _resnet(),
        batches=(3,), training=True,
    ),
    LayerCase(
        "resnet", "grey images, training", lambda: nn.resnet((5, 4), 2, depth=8, width=2), (5, 4), _resnet(AS_IMAGE),
        batches=(4,), training=True,
    ),
    LayerCase(
        "resnet", "high images, evaluation", lambda: nn.resnet((6, 3, 1), 2, depth=8, width=2), (6, 3, 1),
        _resnet(norm=batch_norm_evaluation), batches=(2,),
    ),
)  # fmt: skip
