"""Softmax and its logarithm: activations of a whole row, for outputs that are probabilities.

x, y: (N, ..., C), of the same shape; a row is the last axis. Bridle, "Probabilistic interpretation of feedforward
classification network outputs" (1990).
"""

from __future__ import annotations

from xpnet.backend import Array, Backend
from xpnet.nn.layer import Backward, Layer
from xpnet.nn.shapes import Shape, ShapeError

__all__ = ["LogSoftmax", "Softmax"]


class _OfRows(Layer):
    by_position = True

    def build(self, shape: Shape) -> Shape:
        if not shape:
            raise ShapeError("needs an input of at least one axis, got shape ()")
        return shape


class Softmax(_OfRows):
    """y_i = e^x_i / sum_j e^x_j over the last axis, shifted by max x so that nothing overflows.

    From dy_j/dx_i = y_j (1[i=j] - y_i):  dx_i = y_i (dy_i - sum_j dy_j y_j).

    To train a classifier, leave this layer out and use `losses.SoftmaxCrossEntropy`: it computes the same, and stays
    stable where a probability is 0.
    """

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y = softmax(x, backend.xp)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return y * (dy - (dy * y).sum(axis=-1, keepdims=True))

        return y, backward


class LogSoftmax(_OfRows):
    """y_i = x_i - log sum_j e^x_j over the last axis: the logarithm of `Softmax`, finite even where that rounds to 0.

    From dy_j/dx_i = 1[i=j] - e^y_i:  dx_i = dy_i - e^y_i sum_j dy_j.
    """

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y, _ = log_softmax(x, backend)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy - backend.xp.exp(y) * dy.sum(axis=-1, keepdims=True)

        return y, backward


def softmax(x: Array, xp) -> Array:
    """e^x / sum e^x over the last axis."""
    y = xp.exp(x - x.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return y


def log_softmax(x: Array, backend: Backend) -> tuple[Array, Array]:
    """log p = x - max x - log sum e^(x - max x), finite even where p is 0, and p = softmax(x), over the last axis."""
    log_p, p = backend.fuse(exponentials)(x, x.max(axis=-1, keepdims=True), backend.xp)
    total = p.sum(axis=-1, keepdims=True)
    log_p -= backend.xp.log(total)
    p /= total
    return log_p, p


def exponentials(x: Array, largest: Array, xp) -> tuple[Array, Array]:
    """x - largest, and e^(x - largest), which is at most 1 and so cannot overflow."""
    shifted = x - largest
    return shifted, xp.exp(shifted)
