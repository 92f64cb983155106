"""The columns of a table as features. Names and categories do not go into the file: it takes numbers and codes."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto

from xpnet import nn
from xpnet.onnx.graph import GraphWriter, Tensor, in_order
from xpnet.onnx.registry import exporter


@exporter(nn.Columns)
def columns(layer: nn.Columns, x: Any, graph: GraphWriter) -> Tensor:
    inputs = [graph.plain(part) for part in (x if isinstance(x, tuple) else (x,))]
    parts = []
    if layer.numbers:
        centred = graph.op("Sub", inputs[0].name, graph.constant(layer.mean))
        parts.append(graph.op("Div", centred, graph.constant(layer.std)))
    for j, levels in enumerate(layer.levels):
        codes = graph.op("Gather", graph.as_integers(inputs[-1]), graph.constant(j, "int64"), axis=1)
        if j in layer.tables:
            parts.append(graph.op("Gather", graph.parameter(layer.tables[j].W), codes, axis=0))
        else:
            code = graph.op("Unsqueeze", codes, graph.constant([1], "int64"))
            same = graph.op("Equal", code, graph.constant(np.arange(1, len(levels) + 1), "int64"))
            parts.append(graph.op("Cast", same, to=TensorProto.FLOAT))
    return Tensor(parts[0] if len(parts) == 1 else graph.op("Concat", *parts, axis=1), in_order(2))
