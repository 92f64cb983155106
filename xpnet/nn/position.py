"""Positional encodings: where a vector stands in its sequence, which attention alone does not see.

Angles are computed in float64 on every device, and cosines and sines are rounded once. In float32, the angle at
position 10,000 would be uncertain by 1e-3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnet.arguments import a_function, whole
from xpnet.backend import Array, Backend
from xpnet.nn import init as initializers
from xpnet.nn.init import Initializer
from xpnet.nn.layer import Backward, Layer, Parameter
from xpnet.nn.shapes import Shape, ShapeError

__all__ = ["LearnedPosition", "SinusoidalPosition"]

SMALL_NORMAL = initializers.normal(0.02)
BASE = 10_000  # the slowest wave is almost this many times as long as the fastest


class SinusoidalPosition(Layer):
    """y = x + P with P[t, 2i] = sin(t w_i), P[t, 2i+1] = cos(t w_i), w_i = 10000^(-2i / C).  x, y: (N, T, C), C even.

    Nothing is trained, and sequences may be of any length.  dx = dy.
    Vaswani et al., "Attention is all you need" (2017), section 3.5.
    """

    def build(self, shape: Shape) -> Shape:
        if len(shape) != 2 or shape[1] is None or shape[1] % 2:
            raise ShapeError(f"needs sequences (T, C) of an even number of channels, got shape {shape}")
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy

        return self._at(0, x, backend), backward

    def decode(self, x: Array, cache: dict[str, Any], backend: Backend) -> Array:
        """y for the next T positions of each sequence (see `decode` in `nn/transformer.py`)."""
        start = cache.get("seen", 0)
        cache["seen"] = start + x.shape[1]
        return self._at(start, x, backend)

    def _at(self, start: int, x: Array, backend: Backend) -> Array:
        cos, sin = waves(start, x.shape[1], x.shape[2], backend)
        return x + backend.xp.stack([sin, cos], axis=-1).reshape(x.shape[1:])


class LearnedPosition(Layer):
    """y = x + W[:T], a trained vector for each of at most `length` positions.  x, y: (N, T, C), W: (length, C).

    dW[t] = the sum of dy[:, t] over the batch,  dx = dy. Raises ShapeError for a longer sequence.
    """

    def __init__(self, length: int, init: Initializer = SMALL_NORMAL):
        a_function("init is an initializer, such as nn.init.he_normal", init)
        self.length, self.init = whole("length of LearnedPosition", length, least=1), init

    def build(self, shape: Shape) -> Shape:
        if len(shape) != 2 or shape[1] is None:
            raise ShapeError(f"needs sequences (T, C) of a fixed number of channels, got shape {shape}")
        self._rows(0, shape[0] or 1)
        self.W = Parameter((self.length, shape[1]), self.init)
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        T, C = x.shape[1:]
        rows = self._rows(0, T)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            self.W.grad[rows] += backend.sum_rows(dy.reshape(-1, T * C)).reshape(T, C)
            return dy

        return x + self.W.data[rows], backward

    def decode(self, x: Array, cache: dict[str, Any], backend: Backend) -> Array:
        """y for the next T positions of each sequence (see `decode` in `nn/transformer.py`)."""
        rows = self._rows(cache.get("seen", 0), x.shape[1])
        cache["seen"] = rows.stop
        return x + self.W.data[rows]

    def _rows(self, start: int, T: int) -> slice:
        if start + T > self.length:
            raise ShapeError(f"has {self.length} positions, but the sequence has {start + T}", self)
        return slice(start, start + T)


def waves(start: int, T: int, C: int, backend: Backend) -> tuple[Array, Array]:
    """cos and sin of t w_i, (T, C/2) each, for the positions t from `start` and w_i = 10000^(-2i / C)."""
    xp = backend.xp

    # One expression, so that no float64 array gets a name: `train.debug` would report it.
    def wave(function: Callable[[Array], Array]) -> Array:
        return function(
            xp.arange(start, start + T, dtype=xp.float64)[:, None]
            * xp.exp(xp.arange(C // 2, dtype=xp.float64) * (-2 * math.log(BASE) / C))
        ).astype(backend.dtype)

    return wave(xp.cos), wave(xp.sin)


def rotated(a: Array, cos: Array, sin: Array, backend: Backend) -> Array:
    """Each pair (a_i, a_(i + d/2)) rotated by its angle.  a: (..., T, d); cos, sin: (T, d/2). -sin rotates it back.

    If a query at position t is rotated by w t, and a key at s by w s, their score depends on t and s only through
    w (t - s). Su et al., "RoFormer" (2021), pair neighbouring channels: the same with the channels in another order.
    """
    half = a.shape[-1] // 2
    first, second = a[..., :half], a[..., half:]
    out = backend.xp.empty(a.shape, a.dtype)
    out[..., :half] = first * cos - second * sin
    out[..., half:] = second * cos + first * sin
    return out
