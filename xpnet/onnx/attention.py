"""Attention, written as its formula: every ONNX runtime has matrix products and softmax."""

from __future__ import annotations

import math
from typing import Any

from xpnet import nn
from xpnet.nn.shapes import in_tuple
from xpnet.onnx.embedding import waves
from xpnet.onnx.graph import GraphWriter, Tensor
from xpnet.onnx.registry import exporter

HIDDEN = -1e30  # a score whose exponential is 0; not -inf, because inf - inf is NaN


@exporter(nn.MultiHeadAttention)
def attention(layer: nn.MultiHeadAttention, x: Any, graph: GraphWriter) -> Tensor:
    inputs = [graph.plain(a) for a in in_tuple(x)]
    if layer.crossed:
        (q,) = _heads(layer, graph.layer(layer.q, inputs[0]), 1, graph)
        k, v = _heads(layer, graph.layer(layer.kv, inputs[1]), 2, graph)
    else:
        q, k, v = _heads(layer, graph.layer(layer.qkv, inputs[0]), 3, graph)
    if layer.rotary:
        q, k = _turned(layer, graph, q, k)
    scaled = graph.op("Mul", q, graph.constant(1 / math.sqrt(_width(layer))))
    scores = graph.op("MatMul", scaled, graph.op("Transpose", k, perm=[0, 1, 3, 2]))
    hidden = _hidden(layer, inputs, scores, graph)
    if hidden:
        p = graph.op("Softmax", graph.op("Where", hidden, graph.constant(HIDDEN), scores), axis=-1)
        p = graph.op("Where", hidden, graph.constant(0.0), p)  # also 0 where no position may be read
    else:
        p = graph.op("Softmax", scores, axis=-1)
    rows = graph.op("Transpose", graph.op("MatMul", p, v), perm=[0, 2, 1, 3])
    joined = graph.op("Reshape", rows, graph.constant([0, 0, layer.out.W.shape[0]], "int64"))
    return graph.layer(layer.out, inputs[0].computed(joined))


def _heads(layer: nn.MultiHeadAttention, a: Tensor, parts: int, graph: GraphWriter) -> list[str]:
    """Split (N, T, m C) into m values (N, h, T, d)."""
    names = graph.ops("Split", a.name, outputs=parts, axis=-1, num_outputs=parts) if parts > 1 else [a.name]
    shape = graph.constant([0, 0, layer.heads, _width(layer)], "int64")
    return [graph.op("Transpose", graph.op("Reshape", name, shape), perm=[0, 2, 1, 3]) for name in names]


def _width(layer: nn.MultiHeadAttention) -> int:
    """Channels of a head. A Reshape needs them as a number: -1 is undefined if a sequence has no positions."""
    return layer.out.W.shape[0] // layer.heads


def _hidden(layer: nn.MultiHeadAttention, inputs: list[Tensor], scores: str, graph: GraphWriter) -> str:
    """A value that is True where a score (N, h, T, S) belongs to a hidden position; "" if none is hidden."""
    later = masked = ""
    if layer.causal:
        ones = graph.op("Expand", graph.constant(True, "bool"), graph.op("Shape", scores, start=2, end=4))
        later = graph.op("Trilu", ones, graph.constant(1, "int64"), upper=1)
    if layer.masked:
        mask = graph.op("Unsqueeze", graph.as_integers(inputs[-1]), graph.constant([1, 2], "int64"))
        masked = graph.op("Equal", mask, graph.constant(0, "int64"))
    return graph.op("Or", later, masked) if later and masked else later or masked


def _turned(layer: nn.MultiHeadAttention, graph: GraphWriter, *heads: str) -> list[str]:
    """Rotary positions: each pair (a_i, a_(i + d/2)) is rotated by an angle proportional to its position."""
    cos, sin = waves(heads[0], 2, graph)
    turned = []
    for name in heads:
        first, second = graph.ops("Split", name, outputs=2, axis=-1, num_outputs=2)
        one = graph.op("Sub", graph.op("Mul", first, cos), graph.op("Mul", second, sin))
        other = graph.op("Add", graph.op("Mul", second, cos), graph.op("Mul", first, sin))
        turned.append(graph.op("Concat", one, other, axis=-1))
    return turned
