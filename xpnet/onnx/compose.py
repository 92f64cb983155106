"""Layers made of other layers."""

from __future__ import annotations

from typing import Any

from xpnet import nn
from xpnet.nn.layer import Layer
from xpnet.onnx.chain import Chain
from xpnet.onnx.graph import GraphWriter, Tensor
from xpnet.onnx.registry import exporter, joiner
from xpnet.onnx.structure import Join


@exporter(nn.Sequential, nn.Blocked, nn.TransformerBlock)
def sequential(layer: nn.Sequential, x: Any, graph: GraphWriter) -> Any:
    for inner in layer.layers:
        x = graph.layer(inner, x)
    return x


@exporter(nn.Residual)
def residual(layer: nn.Residual, x: Tensor, graph: GraphWriter) -> Tensor:
    y = sequential(layer, x, graph)
    around = graph.layer(layer.shortcut, x) if layer.shortcut else x
    return y.computed(graph.op("Add", graph.arranged(around, y.axes).name, y.name))


@exporter(nn.Parallel)
def parallel(layer: nn.Parallel, x: Tensor, graph: GraphWriter) -> Tensor:
    first, *others = (graph.layer(branch, x) for branch in layer.branches)
    names = [first.name, *(graph.arranged(y, first.axes).name for y in others)]
    axis = 1 + layer.axis % (len(first.axes) - 1)  # counting the batch axis
    return first.computed(graph.op("Concat", *names, axis=first.axes.index(axis)))


# From ONNX ----------------------------------------------------------------------------------------------------------


@joiner("Add")
def from_sum(join: Join, chain: Chain) -> None:
    """f(x) + s(x) as a Residual; one of the two may be x itself."""
    rows = sorted(_branches(join, chain), key=lambda row: len(row.layers))
    if len(rows) != 2:
        raise join.node.error("it adds more than two values, which no layer of xpnet does")
    around, inner = rows
    chain.add(nn.Residual(*inner.layers, shortcut=_alone(around.layers) if around.layers else None), axes=inner.axes)


@joiner("Concat")
def from_concat(join: Join, chain: Chain) -> None:
    rows = _branches(join, chain)
    axis = rows[0].axes[join.node.get("axis", 1)]
    if not axis:
        raise join.node.error("it joins along the batch axis, which no layer of xpnet does")
    chain.add(nn.Parallel(*(_alone(row.layers) for row in rows), axis=axis - 1), axes=rows[0].axes)


def _branches(join: Join, chain: Chain) -> list[Chain]:
    """The chains of all branches, with their axes in the order of the longest branch."""
    rows = [chain.branch(steps) for steps in join.branches]
    order = max(rows, key=lambda row: len(row.layers)).axes
    for row in rows:
        row.arrange(order)
    return rows


def _alone(layers: list[Layer]) -> Layer:
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)
