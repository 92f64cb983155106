"""Tables of the functions that write each layer class or read each operator; each family's file adds its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from xpnet.nn.layer import Layer
from xpnet.nn.shapes import LayerFault

Function = TypeVar("Function", bound=Callable[..., Any])

EXPORTERS: dict[type[Layer], Callable[..., Any]] = {}
IMPORTERS: dict[str, Callable[..., Any]] = {}  # by operator with one computed input; the others are constants
JOINERS: dict[str, Callable[..., Any]] = {}  # by operator with several computed inputs


class ExportError(LayerFault, ValueError):
    """A layer cannot be exported; the message names it and its place in the network."""


def exporter(*kinds: type[Layer]) -> Callable[[Function], Function]:
    """Register an exporter: `@exporter(MyLayer)` before `def my_layer(layer, x, graph)`.

    `x` is a `Tensor`, or a tuple of them. The function adds nodes with `graph.op` and returns a `Tensor` for the output
    (see `GraphWriter`). It is used for exactly this class, as a subclass may compute something else.
    """

    def register(function: Function) -> Function:
        EXPORTERS.update(dict.fromkeys(kinds, function))
        return function

    return register


def importer(*operators: str) -> Callable[[Function], Function]:
    """Register a function `def operator(node, chain)` that reads these operators (see `Chain`)."""

    def register(function: Function) -> Function:
        IMPORTERS.update(dict.fromkeys(operators, function))
        return function

    return register


def joiner(*operators: str) -> Callable[[Function], Function]:
    """Register a function `def operator(join, chain)` that reads these operators where branches meet (see `Join`)."""

    def register(function: Function) -> Function:
        JOINERS.update(dict.fromkeys(operators, function))
        return function

    return register
