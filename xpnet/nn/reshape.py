"""Layers that give the numbers of a sample another shape or order, without changing any of them."""

from __future__ import annotations

import math

from xpnet.arguments import whole
from xpnet.backend import Array, Backend
from xpnet.nn.layer import Backward, Layer
from xpnet.nn.shapes import Shape, ShapeError

__all__ = ["Flatten", "Reshape", "Transpose"]


class Flatten(Layer):
    """All axes of a sample flattened into one.  x: (N, a, b, ...), y: (N, a b ...).  dx = dy in the shape of x."""

    accepts_integers = None

    def build(self, shape: Shape) -> Shape:
        if None in shape:
            raise ShapeError(f"needs axes of fixed length, got shape {shape}")
        return (math.prod(shape),)

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        shape = x.shape

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy.reshape(shape)

        return x.reshape(x.shape[0], math.prod(x.shape[1:])), backward


class Reshape(Layer):
    """The numbers of a sample, row by row, in another shape: `Reshape(8, 8, 1)`.  x: (N, ...), y: (N, *shape).

    One axis may be -1: its length follows from the others.  dx = dy in the shape of x.
    """

    accepts_integers = None

    def __init__(self, *shape: int):
        self.shape = [whole("an axis of Reshape, as in Reshape(8, 8, 1),", n) for n in shape]
        if any(n < 1 for n in self.shape if n != -1) or self.shape.count(-1) > 1:
            raise ValueError(f"Reshape takes axes >= 1, of which one may be -1, not {shape}")
        self._outputs: dict[Shape, Shape] = {}  # by input shape, as a layer may be used on several shapes

    def build(self, shape: Shape) -> Shape:
        if None in shape:
            raise ShapeError(f"needs axes of fixed length, got shape {shape}")
        known = math.prod(n for n in self.shape if n != -1)
        output = tuple(math.prod(shape) // known if n == -1 else n for n in self.shape)
        if math.prod(output) != math.prod(shape):
            raise ShapeError(f"cannot give the {math.prod(shape)} numbers of {tuple(shape)} the shape {self.shape}")
        self._outputs[tuple(shape)] = output
        return output

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        shape = x.shape

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy.reshape(shape)

        return x.reshape(len(x), *self._outputs[x.shape[1:]]), backward


class Transpose(Layer):
    """The axes of a sample in another order: axis i of y is axis `axes[i]` of x, counted from 0 without the batch.

    `Transpose(1, 2, 0)` makes (N, H, W, C) of images (N, C, H, W), `Transpose(2, 0, 1)` the reverse.
    dx = dy with its axes back in the order of x.
    """

    accepts_integers = None

    def __init__(self, *axes: int):
        self.axes = [whole("an axis of Transpose, as in Transpose(2, 0, 1),", axis) for axis in axes]
        if sorted(self.axes) != list(range(len(self.axes))):
            raise ValueError(f"Transpose takes each axis of a sample once, counted from 0, not {axes}")

    def build(self, shape: Shape) -> Shape:
        if len(shape) != len(self.axes):
            raise ShapeError(f"orders {len(self.axes)} axes, but a sample has shape {tuple(shape)}")
        return tuple(shape[axis] for axis in self.axes)

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        there = (0, *(axis + 1 for axis in self.axes))

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy.transpose(*(there.index(axis) for axis in range(len(there))))

        return x.transpose(*there), backward
