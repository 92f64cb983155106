"""Elementwise activations.  x, y: (N, ...), of the same shape.  GELU is in `gelu.py`, softmaxes in `softmax.py`.

Each keeps one array for its backward: x, y, e^-|x|, or, if it takes more than a few operations, the slope dy/dx, which
is then computed in the forward. No exponential here overflows, because every exponent is <= 0. A tiny slope, such as
that of a sigmoid at x = 17, keeps its digits in float32, because it is never computed from 1 - y.
"""

from __future__ import annotations

from xpnet.arguments import number
from xpnet.backend import Array, Backend
from xpnet.nn import init
from xpnet.nn.layer import Backward, Layer, Parameter
from xpnet.nn.shapes import Shape, channels_of

__all__ = [
    "ELU", "SELU", "HardSwish", "LeakyReLU", "Mish", "PReLU", "ReLU", "SiLU", "Sigmoid", "Softplus", "Tanh",
]  # fmt: skip


class _Activation(Layer):
    by_position = True  # each number is computed from one number of x


# ReLU and its variants ------------------------------------------------------------------------------------------


class ReLU(_Activation):
    """y = max(x, 0).  dx = dy where y > 0, else 0.  Nair and Hinton (2010)."""

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y = backend.xp.maximum(x, 0)

        @backend.fuse
        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dx = (y > 0).astype(dy.dtype)  # cast first: NumPy multiplies by booleans one at a time
            dx *= dy
            return dx

        return y, backward


class LeakyReLU(_Activation):
    """y = x where x > 0, else slope x.  dx = dy, or slope dy.  Maas, Hannun and Ng (2013)."""

    def __init__(self, slope: float = 0.01):
        self.slope = number("slope of LeakyReLU", slope, least=0, below=1)

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y = backend.xp.maximum(x, self.slope * x if self.slope else 0)  # 0 times infinity is NaN

        @backend.fuse
        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            positive = (y > 0).astype(dy.dtype)
            return dy * (positive * (1 - self.slope) + self.slope)

        return y, backward


class PReLU(_Activation):
    """y = x where x > 0, else a x, with a trained slope for each channel.  x, y: (N, ..., C), a: (C,).

    dx = dy, or a dy;  da = the sum of dy x where x <= 0. The slopes start at `slope`. They have no weight decay: it
    would pull them to 0, which makes the layer a ReLU. He, Zhang, Ren and Sun, "Delving deep into rectifiers" (2015).
    """

    def __init__(self, slope: float = 0.25):
        self.slope = number("slope of PReLU", slope)

    def build(self, shape: Shape) -> Shape:
        self.a = Parameter((channels_of(shape),), init.constant(self.slope), decay=False)
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp, a = backend.xp, self.a.data

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            self.a.add_grad_sum(dy * xp.minimum(x, 0))
            positive = (x > 0).astype(dy.dtype)
            return dy * (positive + (1 - positive) * a) if need_dx else None

        return xp.maximum(x, 0) + a * xp.minimum(x, 0), backward


class ELU(_Activation):
    """y = x where x > 0, else alpha (e^x - 1).  dx = dy, or alpha e^x dy.

    Clevert, Unterthiner and Hochreiter, "Exponential linear units" (2016).
    """

    def __init__(self, alpha: float = 1.0):
        self.alpha = number("alpha of ELU", alpha, above=0)

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp = backend.xp

        @backend.fuse
        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            positive = (x > 0).astype(dy.dtype)
            return dy * (xp.exp(xp.minimum(x, 0)) * (positive + (1 - positive) * self.alpha))

        return xp.maximum(x, 0) + self.alpha * xp.expm1(xp.minimum(x, 0)), backward


class SELU(ELU):
    """y = scale ELU(x), with a scale and an alpha that keep activations at mean 0 and variance 1 from layer to layer.
    dx = dy scale ELU'(x).

    This holds if the inputs have mean 0 and variance 1, the weights are drawn by `init.lecun_normal`, and there is no
    other normalisation.
    Klambauer, Unterthiner, Mayr and Hochreiter, "Self-normalizing neural networks" (2017).
    """

    def __init__(self) -> None:
        super().__init__(alpha=1.6732632423543772)

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        scale = 1.0507009873554805
        y, backward_elu = super().forward(x, backend)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return backward_elu(scale * dy, need_dx)

        return scale * y, backward


class HardSwish(_Activation):
    """y = x h with h = min(max(x + 3, 0), 6) / 6: SiLU with a piecewise linear sigmoid.  dx = dy (h + x h').

    h' = 1/6 where |x| < 3, else 0. Howard et al., "Searching for MobileNetV3" (2019).
    """

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp = backend.xp

        def h(cut: Array) -> Array:
            return xp.minimum(cut + 3, 6) * (1 / 6)

        @backend.fuse
        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            cut = xp.maximum(x, -3)
            return dy * (h(cut) + xp.minimum(cut, 3) * (1 / 6) * (xp.abs(x) < 3))

        cut = xp.maximum(x, -3)  # below -3, h is 0, and 0 times -inf would be NaN
        return cut * h(cut), backward


# Smooth activations ---------------------------------------------------------------------------------------------


class Sigmoid(_Activation):
    """y = 1 / (1 + e^-x).  dx = dy y (1 - y) = dy e / (1 + e)^2 with e = e^-|x|."""

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y, e = backend.fuse(sigmoid_and_e)(x, backend.xp)

        @backend.fuse
        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * sigmoid_slope(e)

        return y, backward


class Tanh(_Activation):
    """y = tanh x.  dx = dy (1 - y^2) = dy 4 e / (1 + e)^2 with e = e^-2|x|, as tanh x = 2 sigmoid(2 x) - 1."""

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp = backend.xp

        @backend.fuse
        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * (4 * sigmoid_slope(xp.exp(-2 * xp.abs(x))))

        return xp.tanh(x), backward


class SiLU(_Activation):
    """y = x s with s = sigmoid(x).  dx = dy (s + x s (1 - s)).

    Also known as swish. Elfwing, Uchibe and Doya (2018); Ramachandran, Zoph and Le (2017).
    """

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        @backend.fuse
        def values(x: Array) -> tuple[Array, Array]:
            s, e = sigmoid_and_e(x, backend.xp)
            return x * s, s + x * sigmoid_slope(e)

        y, slope = values(x)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * slope

        return y, backward


class Mish(_Activation):
    """y = x t with t = tanh(log(1 + e^x)).  dx = dy (t + x t').  Misra (2020).

    Let e^x = a / b, where the larger of a and b is 1, and D = a^2 + 2 a b + 2 b^2. Then t = a (a + 2 b) / D and
    t' = (1 - t^2) sigmoid(x) = 4 a b^2 (a + b) / D^2.
    """

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp = backend.xp

        @backend.fuse
        def values(x: Array) -> tuple[Array, Array]:
            a, b = xp.exp(xp.minimum(x, 0)), xp.exp(-xp.maximum(x, 0))
            D = a * (a + 2 * b) + 2 * (b * b)
            t = a * (a + 2 * b) / D
            return x * t, t + x * (4 * (a * b) * (b * (a + b)) / (D * D))

        y, slope = values(x)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * slope

        return y, backward


class Softplus(_Activation):
    """y = log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).  dx = dy sigmoid(x).  Dugas et al. (2001)."""

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp = backend.xp

        @backend.fuse
        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * sigmoid(x, xp)

        return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x))), backward


# What they share ------------------------------------------------------------------------------------------------


def sigmoid_and_e(x: Array, xp) -> tuple[Array, Array]:
    """1 / (1 + e^-x) = e^min(x, 0) / (1 + e), and e = e^-|x|."""
    e = xp.exp(-xp.abs(x))
    return xp.maximum(e, x >= 0) / (1 + e), e


def sigmoid(x: Array, xp) -> Array:
    """1 / (1 + e^-x)."""
    return sigmoid_and_e(x, xp)[0]


def sigmoid_slope(e: Array) -> Array:
    """s (1 - s) for s = sigmoid(x), from e = e^-|x|: accurate even where s is so near 1 that 1 - s has no digits."""
    return e / ((1 + e) * (1 + e))
