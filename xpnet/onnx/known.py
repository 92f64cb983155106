"""Computes the parts of a graph that do not depend on the input: shapes and constants. Sizes are checked first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, helper
from onnx.reference import ReferenceEvaluator

from xpnet.nn.loading import MOST_VALUES

OPERATORS = {
    "Add", "Cast", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand", "Gather", "Identity", "Mul",
    "Range", "Reciprocal", "Reshape", "Slice", "Sqrt", "Squeeze", "Sub", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip


def worked_out(node: NodeProto, given: dict[str, np.ndarray], file: ModelProto) -> np.ndarray:
    """The output of a node for `given` inputs by name. Raises ValueError if it is too large or cannot be computed."""
    size = _size(node.op_type, [given[name] for name in node.input if name])
    if size > MOST_VALUES:
        raise ValueError(f"it makes a constant of {size:,} values: the limit is {MOST_VALUES:,}")
    declared = [helper.make_empty_tensor_value_info(name) for name in (*given, node.output[0])]
    alone = helper.make_graph([node], "alone", declared[:-1], declared[-1:])
    model = helper.make_model(alone, opset_imports=file.opset_import, ir_version=file.ir_version)
    try:
        results: Any = ReferenceEvaluator(model).run(None, given)
        return np.asarray(results[0])
    except Exception as error:  # of any class: a damaged file can cause any error
        raise ValueError(str(error)) from None


def _size(kind: str, given: list[Any]) -> int:
    """The number of values that a node returns, for operators that can return more than they get; else 0."""
    if kind == "ConstantOfShape":
        return math.prod(given[0].ravel().tolist())
    if kind == "Expand":
        return math.prod(given[1].ravel().tolist()) * given[0].size
    if kind == "Range":
        start, limit, delta = (float(a.item()) for a in given)
        return int(abs(limit - start) / max(abs(delta), 1e-300)) if math.isfinite(limit - start) else MOST_VALUES + 1
    if kind == "Gather":
        return given[0].size * given[1].size
    if kind in ("Add", "Div", "Equal", "Mul", "Sub", "Where"):
        return math.prod(np.broadcast_shapes(*(a.shape for a in given)))
    return 0
