"""The transformer block, and decoding: how a network continues sequences without computing their past again."""

from __future__ import annotations

from typing import Any

from xpnet.arguments import whole
from xpnet.backend import Array, Backend
from xpnet.nn import init as initializers
from xpnet.nn.attention import MultiHeadAttention
from xpnet.nn.compose import Residual, Sequential
from xpnet.nn.dropout import Dropout
from xpnet.nn.gelu import GELU
from xpnet.nn.init import Initializer
from xpnet.nn.layer import Layer
from xpnet.nn.linear import Linear
from xpnet.nn.norm import LayerNorm
from xpnet.nn.shapes import Shape, ShapeError, is_several

__all__ = ["TransformerBlock", "decode"]


class TransformerBlock(Sequential):
    """z = x + attention(norm(x)),  y = z + W_2 gelu(W_1 norm(z)), with 4 C hidden channels.  x, y: (N, T, C).

    The normalisation comes before each part, not after the sum ("pre-norm"), which leaves the gradient a direct path
    from the last block to the first: Xiong et al., "On layer normalization in the transformer architecture" (2020).
    `dropout` is applied to what each part adds. The other options are those of `MultiHeadAttention`.
    """

    def __init__(
        self,
        heads: int,
        causal: bool = False,
        rotary: bool = False,
        dropout: float = 0.0,
        bias: bool = True,
        init: Initializer = initializers.lecun_normal,
    ):
        MultiHeadAttention(heads, causal, rotary, bias, init)  # not kept: this and the next line check options
        Dropout(dropout)
        super().__init__()
        self.heads, self.causal, self.rotary = whole("heads", heads), causal, rotary
        self.dropout, self.bias, self.init = float(dropout), bias, init

    def build(self, shape: Shape) -> Shape:
        if len(shape) != 2 or is_several(shape) or shape[1] is None:
            raise ShapeError(f"needs sequences (T, C) of a fixed number of channels, got shape {shape}")
        attention = MultiHeadAttention(self.heads, self.causal, self.rotary, self.bias, self.init)
        wide, narrow = (Linear(n, bias=self.bias, init=self.init) for n in (4 * shape[1], shape[1]))
        self.layers = [
            Residual(LayerNorm(), attention, Dropout(self.dropout)),
            Residual(LayerNorm(), wide, GELU(), narrow, Dropout(self.dropout)),
        ]
        return super().build(shape)


def decode(layer: Layer, x: Array, cache: dict[str, Any], backend: Backend, path: str = "") -> Array:
    """The outputs of a network at the next T positions of each sequence, in evaluation mode.  x: (N, T, ...).

    They equal, but for rounding, the last T outputs of a pass over all positions given so far. `cache`, {} for a new
    sequence, keeps what attention needs of the earlier positions; to go back, begin with a new one.

    The network may consist of `Sequential` and `Residual`, causal attention, positional encodings, and layers that
    treat each position by itself (`Layer.by_position`). Raises TypeError for attention inside another layer, and for a
    layer that combines positions, such as a recurrent one.
    """
    if isinstance(layer, Sequential):
        y = x
        for i, inner in enumerate(layer.layers):
            y = decode(inner, y, cache, backend, f"{path}.{i}")
        if not isinstance(layer, Residual):
            return y
        return y + (decode(layer.shortcut, x, cache, backend, f"{path}.shortcut") if layer.shortcut else x)
    if hasattr(layer, "decode"):
        return layer.decode(x, cache.setdefault(path, {}), backend)
    for _, inner in layer.walk():
        if hasattr(inner, "decode"):
            raise TypeError(f"decode supports Sequential and Residual around other layers, not {type(layer).__name__}")
        if not inner.by_position:
            raise TypeError(
                "decode needs layers that treat each position by itself (by_position = True), which "
                f"{type(inner).__name__} does not declare"
            )
    return layer(x, backend)[0]
