"""Which function writes a class of layers, and which reads an operator: each family's file fills these tables."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from xpnet.nn.layer import Layer
from xpnet.nn.shapes import LayerFault

Function = TypeVar("Function", bound=Callable[..., Any])

EXPORTERS: dict[type[Layer], Callable[..., Any]] = {}
IMPORTERS: dict[str, Callable[..., Any]] = {}  # of operators with one input that is computed; others are constants
JOINERS: dict[str, Callable[..., Any]] = {}  # of operators with several


class ExportError(LayerFault, ValueError):
    """A layer that cannot be written; the message names it and its place."""


def exporter(*kinds: type[Layer]) -> Callable[[Function], Function]:
    """`@exporter(MyLayer)` before `def my_layer(layer, x, graph)`, which writes such a layer.

    `x` is a `Tensor`, or a tuple of them; the function adds nodes by `graph.op` and returns a `Tensor` for the output
    (`GraphWriter` says how). It is asked for this class alone: a subclass may compute something else.
    """

    def register(function: Function) -> Function:
        EXPORTERS.update(dict.fromkeys(kinds, function))
        return function

    return register


def importer(*operators: str) -> Callable[[Function], Function]:
    """The same for `def operator(node, chain)`, which reads these operators (`Chain` says how)."""

    def register(function: Function) -> Function:
        IMPORTERS.update(dict.fromkeys(operators, function))
        return function

    return register


def joiner(*operators: str) -> Callable[[Function], Function]:
    """The same for `def operator(join, chain)`, where several branches from one place come together."""

    def register(function: Function) -> Function:
        JOINERS.update(dict.fromkeys(operators, function))
        return function

    return register
