"""The multilayer perceptron in one line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from xpnet.arguments import shown
from xpnet.nn.activation import ReLU
from xpnet.nn.compose import Sequential
from xpnet.nn.dropout import Dropout
from xpnet.nn.layer import Layer
from xpnet.nn.linear import Linear

__all__ = ["mlp"]


def mlp(sizes: Sequence[int], activation: Callable[[], Layer] = ReLU, dropout: float = 0.0) -> Sequential:
    """Linear layers from `sizes[0]` inputs to `sizes[-1]` outputs, with an activation (and dropout) between them.

    `mlp([784, 128, 64, 32, 10])` is Linear(128), ReLU, Linear(64), ReLU, Linear(32), ReLU, Linear(10).
    """
    if len(sizes) < 2 or min(sizes) < 1:
        raise ValueError(f"an mlp needs at least two sizes, all >= 1, not {list(sizes)}")
    if isinstance(activation, Layer) or not callable(activation):
        raise TypeError(f"an activation is a class of layers, such as nn.ReLU, not {shown(activation)}")
    layers: list[Layer] = []
    for n_in, n_out in pairwise(sizes[:-1]):
        layers += [Linear(n_out, n_in), activation()] + ([Dropout(dropout)] if dropout else [])
    return Sequential(*layers, Linear(sizes[-1], sizes[-2]))
