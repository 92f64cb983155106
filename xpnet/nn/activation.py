"""Activations, elementwise but for Softmax.  x, y: (N, ...), of the same shape.

Each keeps for its backward only what the derivative needs, most often y alone.
"""

from __future__ import annotations

import math

from xpnet.backend import Array, Backend
from xpnet.nn.layer import Backward, Layer
from xpnet.nn.shapes import Shape, ShapeError

__all__ = ["GELU", "LeakyReLU", "ReLU", "Sigmoid", "Softmax", "Tanh"]


class ReLU(Layer):
    """y = max(x, 0).  dx = dy where y > 0, else 0.  Nair and Hinton (2010)."""

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y = backend.xp.maximum(x, 0)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * (y > 0)

        return y, backward


class LeakyReLU(Layer):
    """y = x where x > 0, else slope x.  dx = dy, or slope dy.  Maas, Hannun and Ng (2013)."""

    def __init__(self, slope: float = 0.01):
        if not 0 <= slope < 1:
            raise ValueError(f"LeakyReLU needs 0 <= slope < 1, not {slope!r}")
        self.slope = float(slope)

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y = backend.xp.maximum(x, self.slope * x)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            positive = (y > 0).astype(dy.dtype)
            return dy * (positive * (1 - self.slope) + self.slope)

        return y, backward


class Sigmoid(Layer):
    """y = 1 / (1 + e^-x), written so that no exponential overflows.  dx = dy y (1 - y)."""

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y = sigmoid(x, backend.xp)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * y * (1 - y)

        return y, backward


class Tanh(Layer):
    """y = tanh x.  dx = dy (1 - y^2)."""

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y = backend.xp.tanh(x)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * (1 - y * y)

        return y, backward


class GELU(Layer):
    """y = x (1 + tanh u) / 2 with u = sqrt(2/pi) (x + 0.044715 x^3): the tanh form, which NumPy has the means for.

    Written as y = x s with s = sigmoid(v), v = 2 u:  dy/dx = s + x v' s (1 - s),  v' = 2 sqrt(2/pi) (1 + 3 * 0.044715
    x^2). With e = e^-|v|, s (1 - s) = e / (1 + e)^2 keeps all its digits where s is near 0 or 1.
    Hendrycks and Gimpel, "Gaussian error linear units" (2016).
    """

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp, scale, cubic = backend.xp, 2 * math.sqrt(2 / math.pi), 0.044715
        v = scale * (x + cubic * (x * x * x))
        e = xp.exp(-xp.abs(v))
        s = xp.exp(xp.minimum(v, 0)) / (1 + e)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dv = scale * (1 + 3 * cubic * (x * x))
            return dy * (s + x * dv * (e / ((1 + e) * (1 + e))))

        return x * s, backward


class Softmax(Layer):
    """y_i = e^x_i / sum_j e^x_j over the last axis, shifted by max x so that nothing overflows.

    dx_i = y_i (dy_i - sum_j dy_j y_j).  For training a classifier use `losses.SoftmaxCrossEntropy` on the inputs
    of this layer instead: the same, stable where a probability is 0.
    """

    def build(self, shape: Shape) -> Shape:
        if not shape:
            raise ShapeError("needs an input of at least one axis, got shape ()")
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y = softmax(x, backend.xp)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return y * (dy - (dy * y).sum(axis=-1, keepdims=True))

        return y, backward


def sigmoid(x: Array, xp) -> Array:
    """1 / (1 + e^-x) = e^min(x, 0) / (1 + e^-|x|): every exponent is <= 0."""
    return xp.exp(xp.minimum(x, 0)) / (1 + xp.exp(-xp.abs(x)))


def softmax(x: Array, xp) -> Array:
    """e^x / sum e^x over the last axis."""
    y = xp.exp(x - x.max(axis=-1, keepdims=True))
    y /= y.sum(axis=-1, keepdims=True)
    return y
