"""Models as ONNX files: `export(model, "model.onnx")` and `load("model.onnx")`."""

try:
    import onnx  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError('xpnet.onnx needs the package onnx: pip install "xpnet[onnx]"', name="onnx") from None

from xpnet.nn.saving import ModelFileError
from xpnet.onnx import activation, attention, compose, conv, embedding, linear, norm, pool, recurrent, shape
from xpnet.onnx.graph import GraphWriter, Tensor
from xpnet.onnx.reading import load
from xpnet.onnx.registry import ExportError, exporter
from xpnet.onnx.writing import OPSET, export, to_onnx

FAMILIES = (linear, activation, conv, pool, norm, shape, compose, recurrent, embedding, attention)

__all__ = ["OPSET", "ExportError", "GraphWriter", "ModelFileError", "Tensor", "export", "exporter", "load", "to_onnx"]
