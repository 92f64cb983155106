"""Networks of a few lines each: a multilayer perceptron and, for images, a plain convolutional and a residual network.

`cnn` and `resnet` are given the shape of one image, (H, W) or (H, W, C), and take floating point numbers: put
`nn.Standardize` before them if the images are `uint8`. A convolution before a BatchNorm has no bias, since BatchNorm
subtracts it again with the mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from xpnet.arguments import shown
from xpnet.nn.activation import ReLU
from xpnet.nn.compose import Blocked, Residual, Sequential
from xpnet.nn.conv import Conv2d
from xpnet.nn.dropout import Dropout
from xpnet.nn.layer import Layer
from xpnet.nn.linear import Linear
from xpnet.nn.norm import BatchNorm
from xpnet.nn.pool import GlobalAvgPool2d, MaxPool2d
from xpnet.nn.reshape import Flatten, Reshape
from xpnet.nn.shapes import Shape, ShapeError, as_shape

__all__ = ["cnn", "mlp", "resnet"]


def mlp(sizes: Sequence[int], activation: Callable[[], Layer] = ReLU, dropout: float = 0.0) -> Sequential:
    """Linear layers from `sizes[0]` inputs to `sizes[-1]` outputs, with an activation (and dropout) between them.

    `mlp([784, 128, 64, 32, 10])` is Linear(128), ReLU, Linear(64), ReLU, Linear(32), ReLU, Linear(10).
    """
    if not hasattr(sizes, "__len__"):
        raise TypeError(f"the sizes of an mlp are a list, such as nn.mlp([784, 128, 10]), not {shown(sizes)}")
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"an mlp needs at least two sizes, all >= 1, not {list(sizes)}")
    if isinstance(activation, Layer) or not callable(activation):
        raise TypeError(f"an activation is a class of layers, such as nn.ReLU, not {shown(activation)}")
    layers: list[Layer] = []
    for n_in, n_out in pairwise(sizes[:-1]):
        layers += [Linear(n_out, n_in), activation()] + ([Dropout(dropout)] if dropout else [])
    return Sequential(*layers, Linear(sizes[-1], sizes[-2]))


def cnn(
    shape: Shape, n_classes: int, channels: Sequence[int] = (32, 64), hidden: int = 128, dropout: float = 0.0
) -> Sequential:
    """For each of `channels`: 3 x 3 convolution, 2 x 2 max-pooling, BatchNorm, ReLU; then Linear(hidden), ReLU, Linear.

    Pooling halves the image each time, so it must be at least 2 ** len(channels) pixels high and wide. It comes right
    after the convolution, so that everything after it has a quarter of the work. Dropout, if not 0, comes before the
    last layer.
    """
    layers = _as_image(shape)
    for n_out in channels:
        layers += [Blocked(Conv2d(n_out, 3, padding="same", bias=False), MaxPool2d(2)), BatchNorm(), ReLU()]
    layers += [Flatten(), Linear(hidden), ReLU()] + ([Dropout(dropout)] if dropout else [])
    return Sequential(*layers, Linear(n_classes))


def resnet(shape: Shape, n_classes: int, depth: int = 20, width: int = 16) -> Sequential:
    """The residual network of He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (2016), for CIFAR.

    A convolution, then three stages of n = (depth - 2) / 6 blocks of two convolutions each, with `width`, 2 `width` and
    4 `width` channels; the second and the third stage begin by halving the image. Then the mean of each channel, and
    Linear. Where a block changes the shape, its shortcut is a 1 x 1 convolution and BatchNorm (the paper's option B).

    Raises ValueError for a depth other than 8, 14, 20, 26, ...
    """
    n, left = divmod(depth - 2, 6)
    if left or n < 1:
        raise ValueError(f"a resnet has depth 6 n + 2 with n >= 1, that is 8, 14, 20, .., not {depth}")
    layers = [*_as_image(shape), _convolution(width), BatchNorm(), ReLU()]
    for stage in range(3):
        for i in range(n):
            layers += _block(width * 2**stage, stride=2 if stage and i == 0 else 1)
    return Sequential(*layers, GlobalAvgPool2d(), Linear(n_classes))


def _block(n_out: int, stride: int) -> list[Layer]:
    """ReLU(s(x) + f(x)) with f of two convolutions. A stride above 1 comes with twice as many channels."""
    shortcut = None
    if stride > 1:
        shortcut = Sequential(Conv2d(n_out, 1, stride=stride, bias=False), BatchNorm())
    inner = _convolution(n_out, stride), BatchNorm(), ReLU(), _convolution(n_out), BatchNorm()
    return [Residual(*inner, shortcut=shortcut), ReLU()]


def _convolution(n_out: int, stride: int = 1) -> Conv2d:
    return Conv2d(n_out, 3, stride=stride, padding=1, bias=False)


def _as_image(shape: Shape) -> list[Layer]:
    """A layer that gives (H, W) a channel axis, in a list; [] if there is one already."""
    if len(as_shape(shape)) not in (2, 3):
        raise ShapeError(f"images are (height, width) or (height, width, channels), not {tuple(shape)}")
    return [Reshape(*shape, 1)] if len(shape) == 2 else []
