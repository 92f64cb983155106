"""GELU, in its two forms."""

from __future__ import annotations

import math
from functools import cache

from xpnet.backend import Array, Backend
from xpnet.nn.layer import Backward, Layer

__all__ = ["GELU"]

LEAST = -10.0  # at this x, e^-v is 8e37, which float32 can just hold


class GELU(Layer):
    """y = x P(x), with P(x) the probability that a standard normal variable is below x.  x, y: (N, ...).

    approximate="none" computes this:  dx = dy (P + x p) with the density p = e^(-x^2/2) / sqrt(2 pi).

    approximate="tanh" is faster, with an error of at most 5e-4:  P is about s = (1 + tanh(v/2)) / 2 = sigmoid(v), with
    v = 2 sqrt(2/pi) (x + 0.044715 x^3):  dx = dy (s + x v' s (1 - s)),  v' = 2 sqrt(2/pi) (1 + 3 * 0.044715 x^2).
    From x = 1.9e19 on (in float32) x^2 overflows, and dx is NaN, as in PyTorch.

    The names are PyTorch's, where "none" is the default. Hendrycks and Gimpel, "Gaussian error linear units" (2016).
    """

    by_position = True

    def __init__(self, approximate: str = "tanh"):
        if approximate not in ("tanh", "none"):
            raise ValueError(f'approximate of GELU must be "tanh" or "none", not {approximate!r}')
        self.approximate = approximate

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        return self._by_tanh(x, backend) if self.approximate == "tanh" else self._exact(x, backend)

    def _by_tanh(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp, scale, cubic = backend.xp, 2 * math.sqrt(2 / math.pi), 0.044715
        y, slope = xp.empty(x.shape, x.dtype), xp.empty(x.shape, x.dtype)

        # Writes y and the slope dy/dx = s (1 + x v' (1 - s)) in place, so that all the arrays fit into the cache.
        @backend.fuse
        def values(x: Array, y: Array, slope: Array) -> None:
            xp.maximum(x, LEAST, out=y)  # x; below LEAST, |y| and |slope| come out as 3e-36 at most, which stands for 0
            xp.multiply(y, y, out=slope)  # x^2
            s = slope * (-scale * cubic)
            s -= scale
            s *= y  # -v
            rest = xp.exp(s)  # e^-v
            xp.add(rest, 1, out=s)
            xp.divide(1, s, out=s)  # s
            rest *= s  # 1 - s, with all its digits
            slope *= 3 * cubic * scale
            slope += scale  # v'
            slope *= rest
            slope *= y  # x v' (1 - s)
            y *= s  # y
            slope += 1
            slope *= s

        flat_x, flat_y, flat_slope = x.ravel(), y.reshape(-1), slope.reshape(-1)
        for part in backend.chunks(x.size):  # with so many operations, pieces that stay in the cache pay off
            values(flat_x[part], flat_y[part], flat_slope[part])

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            xp.multiply(slope, dy, out=slope)  # in place, as each backward is called once
            return slope

        return y, backward

    def _exact(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp = backend.xp

        @backend.fuse
        def values(x: Array, tail: Array) -> tuple[Array, Array]:
            P = xp.abs((x > 0) - tail)  # 1 - tail above 0, the tail itself below
            return x * P, P + x * (xp.exp(-0.5 * (x * x)) * (1 / math.sqrt(2 * math.pi)))

        y, slope = values(x, normal_tail(x, backend))

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * slope

        return y, backward


# NumPy and CuPy share no erf. With t = |x|, w = 1 / (t + 4) and u = 1 - 8 w in [-1, 1), tail(t) e^(t^2/2) / w is smooth
# and between 2 and 0.4. These are its Chebyshev coefficients, from 44 points in 50 digits: the first 10 leave an error
# of 3e-8, all of them 1e-16. The change of variable is that of Shepherd and Laframboise, "Chebyshev approximation of
# (1 + 2x) exp(x^2) erfc x", Mathematics of Computation 36 (1981).
TAIL = (
    0.9704512045660766, -0.7517088168395706, 0.22219355567525104, -0.048517753260446085, 0.006925920496242481,
    -0.00032059847439814995, -0.00010054739163210679, 1.8903369019706965e-05, 1.010356885474631e-06,
    -6.145334749397824e-07, -3.3810201200691756e-09, 2.0686508061742833e-08, -1.1282603632469507e-10,
    -7.774015228388695e-10, -9.941424191404708e-12, 3.174482949858303e-11, 1.842480684470494e-12,
    -1.3128616466710965e-12, -1.7415362654813e-13, 4.9072740317044244e-14, 1.2931384326165576e-14,
    -1.2180661523726341e-15, -8.052147372620933e-16,
)  # fmt: skip
FLOAT32_TERMS = 10


def normal_tail(x: Array, backend: Backend) -> Array:
    """The probability that a standard normal variable is above |x|: erfc(|x| / sqrt 2) / 2, accurate however small."""
    t = backend.xp.abs(x).ravel()
    *powers, highest = _polynomial(len(TAIL) if t.dtype == "float64" else FLOAT32_TERMS)

    @backend.fuse
    def tail(t: Array) -> None:
        w = 1 / (t + 4)
        u = 1 - 8 * w
        p = highest * u
        for power in powers[:0:-1]:
            p += power
            p *= u
        p += powers[0]
        w *= p
        backend.xp.multiply(w, backend.xp.exp(-0.5 * (t * t)), out=t)

    for part in backend.chunks(t.size):  # with so many operations, pieces that stay in a CPU's cache pay off
        tail(t[part])
    return t.reshape(x.shape)


@cache
def _polynomial(terms: int) -> tuple[float, ...]:
    """The first terms of the series as coefficients of 1, u, u^2, ..."""
    from numpy.polynomial.chebyshev import cheb2poly

    return tuple(cheb2poly(TAIL[:terms]).tolist())
