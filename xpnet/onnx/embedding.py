"""Embeddings, and positions in a sequence."""

from __future__ import annotations

import math

from onnx import TensorProto

from xpnet import nn
from xpnet.nn.position import BASE
from xpnet.onnx.chain import Chain
from xpnet.onnx.graph import GraphWriter, Tensor, in_order
from xpnet.onnx.registry import exporter, importer
from xpnet.onnx.structure import Node


@exporter(nn.Embedding)
def embedding(layer: nn.Embedding, x: Tensor, graph: GraphWriter) -> Tensor:
    x = graph.plain(x)
    rows = graph.op("Gather", graph.parameter(layer.W), graph.as_integers(x), axis=0)
    return Tensor(rows, in_order(len(x.axes) + 1))


@exporter(nn.LearnedPosition)
def learned_position(layer: nn.LearnedPosition, x: Tensor, graph: GraphWriter) -> Tensor:
    x = graph.plain(x)
    rows = graph.op("Slice", graph.parameter(layer.W), graph.constant([0], "int64"), length(x.name, 1, graph))
    return x.computed(graph.op("Add", x.name, rows))


@exporter(nn.SinusoidalPosition)
def sinusoidal_position(layer: nn.SinusoidalPosition, x: Tensor, graph: GraphWriter) -> Tensor:
    """Sine and cosine of each angle are stacked to (T, C / 2, 2), then flattened to (T, C)."""
    x = graph.plain(x)
    cos, sin = waves(x.name, 1, graph)
    last = graph.constant([-1], "int64")
    pairs = graph.op("Concat", *(graph.op("Unsqueeze", wave, last) for wave in (sin, cos)), axis=-1)
    return x.computed(graph.op("Add", x.name, graph.op("Flatten", pairs, axis=1)))


def length(name: str, axis: int, graph: GraphWriter) -> str:
    """The length of an axis of this value, as an array of one number."""
    return graph.op("Shape", name, start=axis, end=axis + 1)


def waves(name: str, time: int, graph: GraphWriter) -> tuple[str, str]:
    """cos and sin of t w_i, (T, C / 2) each, for a value (..., T, C) whose axis `time` is T.

    The graph takes C, like T, from the value: a layer without parameters may be used with several widths. Angles are
    float64, as in `nn/position.py`.
    """
    T, C = (graph.op("Squeeze", length(name, axis, graph)) for axis in (time, time + 1))
    column = graph.op("Unsqueeze", _counted(T, graph), graph.constant([1], "int64"))
    i = _counted(graph.op("Div", C, graph.constant(2, "int64")), graph)
    slower = graph.op("Div", graph.constant(-2 * math.log(BASE), "float64"), _as_double(C, graph))
    angle = graph.op("Mul", column, graph.op("Exp", graph.op("Mul", i, slower)))
    cos, sin = (graph.op("Cast", graph.op(wave, angle), to=TensorProto.FLOAT) for wave in ("Cos", "Sin"))
    return cos, sin


def _counted(n: str, graph: GraphWriter) -> str:
    """0, 1, .., n - 1 as float64."""
    return _as_double(graph.op("Range", graph.constant(0, "int64"), n, graph.constant(1, "int64")), graph)


def _as_double(name: str, graph: GraphWriter) -> str:
    return graph.op("Cast", name, to=TensorProto.DOUBLE)


# From ONNX ----------------------------------------------------------------------------------------------------------


@importer("Gather")
def from_gather(node: Node, chain: Chain) -> None:
    """A look-up of rows in a constant table."""
    table = node.needed(0)
    if table.ndim != 2 or node.get("axis", 0) != 0:
        raise node.error("only a look-up of rows in a table with two axes can be read (axis=0)")
    chain.plain()
    chain.add(nn.Embedding(*table.shape), {"W": table}, (*chain.axes, len(chain.axes)))


def add_positions(node: Node, chain: Chain) -> bool:
    """Read this Add if it adds constant rows to the positions of a sequence (LearnedPosition); returns whether it does.

    For sequences of free length, the rows are a slice from the start of a table; the layer gets the whole table.
    """
    rows = node.operand
    if len(chain.shape) != 2 or rows.ndim < 2 or 1 in rows.shape[-2:] or rows.size != math.prod(rows.shape[-2:]):
        return False
    cut = node.reader.producer(node.inputs[int(node.operand_is_second)])
    if cut is not None and cut.kind == "Slice" and not cut.needed(1).any():
        steps = cut.constant(4)
        rows = cut.needed(0) if steps is None or (steps == 1).all() else rows
    chain.plain()
    chain.add(nn.LearnedPosition(rows.shape[-2]), {"W": rows.reshape(rows.shape[-2:])})
    return True
