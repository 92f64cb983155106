"""Putting layers together."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array, Backend
from xpnet.nn.layer import Backward, Layer
from xpnet.nn.shapes import Shape, ShapeError

__all__ = ["Residual", "Sequential"]


class Sequential(Layer):
    """One layer after the other: y = f_n(... f_2(f_1(x)))."""

    def __init__(self, *layers: Layer):
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers.{i} of {type(self).__name__} is {layer!r}, not a layer")
        self.layers = list(layers)

    def build(self, shape: Shape) -> Shape:
        for layer in self.layers:
            shape = layer.built(shape)
        with_parameters = (i for i, layer in enumerate(self.layers) if any(True for _ in layer.parameters()))
        self._first_trained = next(with_parameters, len(self.layers))
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        backwards = []
        for layer in self.layers:
            x, backward_one = layer(x, backend)
            backwards.append(backward_one)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            last = 0 if need_dx else self._first_trained  # nothing below it needs a gradient
            for i in range(len(backwards) - 1, last - 1, -1):
                dy = backwards.pop()(dy, need_dx or i > last)  # popped: each cache dies right after its use
                if dy is None:  # this layer's input has no gradient
                    return None
            return dy if need_dx else None

        return x, backward

    @property
    def accepts_integers(self) -> Any:
        reader = self._reader()
        return None if reader is None else reader.accepts_integers

    def check_input(self, x: Any) -> None:
        reader = self._reader()
        if reader is not None:
            reader.check_input(x)

    def _reader(self) -> Layer | None:
        """The first layer that does more with its input than to move it."""
        return next((layer for layer in self.layers if layer.accepts_integers is not None), None)


class Residual(Sequential):
    """y = x + f(x), where f is the layers in sequence and keeps the shape.

    dx = dy + f'(x)^T dy. He, Zhang, Ren and Sun, "Deep residual learning for image recognition" (2016).
    """

    accepts_integers = False

    def build(self, shape: Shape) -> Shape:
        inner = super().build(shape)
        if inner != tuple(shape):
            raise ShapeError(f"turns shape {tuple(shape)} into {inner}, but the sum x + f(x) needs both alike")
        return inner

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y, backward_inner = super().forward(x, backend)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dx = backward_inner(dy, need_dx)
            return dx + dy if need_dx else None

        return x + y, backward
