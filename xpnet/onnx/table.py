"""The columns of a table as features. The graph takes numbers and codes; the names are in the file's metadata."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn.shapes import in_tuple
from xpnet.onnx.graph import GraphWriter, Tensor, in_order
from xpnet.onnx.registry import exporter


@exporter(nn.Columns)
def columns(layer: nn.Columns, x: Any, graph: GraphWriter) -> Tensor:
    """Standardised numbers, and for each category a row of a table: a trained embedding, or a constant one-hot row."""
    parts = [graph.plain(part) for part in in_tuple(x)]
    made = []
    if layer.numbers:
        centred = graph.op("Sub", parts[0].name, graph.constant(layer.mean))
        made.append(graph.op("Div", centred, graph.constant(layer.std)))
    for j, levels in enumerate(layer.levels):
        codes = graph.op("Gather", graph.as_integers(parts[-1]), graph.constant(j, "int64"), axis=1)
        one_hot = np.eye(len(levels) + 1)[:, 1:]
        table = graph.parameter(layer.tables[j].W) if j in layer.tables else graph.constant(one_hot)
        made.append(graph.op("Gather", table, codes, axis=0))
    return Tensor(graph.op("Concat", *made, axis=1) if len(made) > 1 else made[0], in_order(2))
