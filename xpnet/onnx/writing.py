"""Exporting a model to an ONNX file."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from typing import Any

import onnx
from onnx import ModelProto, TensorProto, helper

from xpnet.arguments import of_kind
from xpnet.files import replacing
from xpnet.frames import Form
from xpnet.nn import Columns
from xpnet.nn.model import Model
from xpnet.nn.shapes import LayerFault, Shape, in_tuple, is_several
from xpnet.onnx.graph import GraphWriter, Tensor, in_order
from xpnet.onnx.registry import ExportError

OPSET = 21  # the first whose GroupNormalization has a scale per channel; onnxruntime >= 1.18 runs it
IR_VERSION = 10  # the file format of that operator set
MOST_BYTES = (1 << 31) - (1 << 20)  # protobuf messages are limited to 2 GiB


def export(model: Model, path: str | os.PathLike) -> None:
    """Write the model in evaluation mode as an ONNX file (operator set 21, float32).

    Inputs and outputs are those of the model, with axes in the model's order. The batch and axes of free length are
    symbolic ("batch"). Token numbers and masks are int64, everything else is float32. A single input is called x,
    several x0, x1, ...; outputs are y, or y0, y1, ... The file's metadata has `classes`, and for a model of a table
    `columns`: the fields of `frames.Form`, by which its rows become numbers and codes.

    The folder of `path` must exist. An existing file is replaced only when the new one is complete. Raises
    `ExportError` for a layer without an exporter (see `exporter`), and for a model beyond the format's 2 GiB.
    """
    written = to_onnx(model)
    with replacing(path) as temporary:
        temporary.write_bytes(written.SerializeToString())


def to_onnx(model: Model) -> ModelProto:
    """The model as an `onnx.ModelProto`, checked by `onnx.checker`. Raises as `export` does."""
    of_kind("a model is written, such as the model_ of XPClassifier", model, Model)
    if 4 * model.data.size > MOST_BYTES:
        raise ExportError(f"{4 * model.data.size:,} bytes of values are more than the 2 GiB that an ONNX file can hold")
    graph = GraphWriter(model)
    inputs = _named("x", model.input_shape)
    x = [Tensor(name, in_order(len(shape) + 1), name) for name, shape in inputs.items()]
    try:
        y = graph.layer(model.network, tuple(x) if is_several(model.input_shape) else x[0])
    except LayerFault as fault:
        raise fault.inside(model.network) from None
    outputs = _named("y", model.output_shape)
    for name, value in zip(outputs, in_tuple(y), strict=True):
        graph.nodes.append(helper.make_node("Identity", [graph.plain(value).name], [name], name))
    kinds = {name: TensorProto.INT64 if name in graph.integers else TensorProto.FLOAT for name in [*inputs, *outputs]}
    described = helper.make_graph(
        graph.nodes,
        "xpnet",
        [_declared(name, kinds[name], shape) for name, shape in inputs.items()],
        [_declared(name, kinds[name], shape) for name, shape in outputs.items()],
        list(graph.initialisers.values()),
    )
    written = helper.make_model(
        described, producer_name="xpnet", ir_version=IR_VERSION, opset_imports=[helper.make_opsetid("", OPSET)]
    )
    helper.set_model_props(written, _properties(model))
    onnx.checker.check_model(written, full_check=True)
    return written


def _properties(model: Model) -> dict[str, str]:
    """What a program needs besides the graph, as JSON: the classes, and how to read the columns of a table."""
    found = {"classes": json.dumps(model.classes)} if model.classes else {}
    for _, layer in model.network.walk():
        if isinstance(layer, Columns):
            found["columns"] = json.dumps({key.name: getattr(layer, key.name) for key in fields(Form)})
    return found


def _named(letter: str, shape: Shape) -> dict[str, Shape]:
    """The names of inputs or outputs, with their shapes for a sample."""
    return {f"{letter}{i}": s for i, s in enumerate(shape)} if is_several(shape) else {letter: shape}


def _declared(name: str, kind: int, shape: Shape) -> Any:
    axes = [f"{name}_axis_{i}" if n is None else n for i, n in enumerate(shape, 1)]
    return helper.make_tensor_value_info(name, kind, ["batch", *axes])
