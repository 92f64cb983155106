"""Models as ONNX files, and ONNX files as models.

    from xpnet import onnx

    onnx.export(model, "model.onnx")          # every layer; `exporter` is for layers of your own
    model = onnx.load("from-pytorch.onnx")    # a model that can be trained on

Each family of layers is a file: how it is written above, how it is read below. `graph.py` has what is written so far,
`structure.py` and `chain.py` what is read; `writing.py` and `reading.py` are the files themselves.

Written are all layers, as they are when not training. Read are networks of one input whose operators are layers, in a
row, around each other (`Residual`) or side by side (`Parallel`), as PyTorch's and scikit-learn's exporters write them;
of attention and of sinusoidal positions only the single operators are left in a file, and those are no layers.
"""

try:
    import onnx  # noqa: F401
except ModuleNotFoundError:
    raise ModuleNotFoundError('xpnet.onnx needs the package onnx: pip install "xpnet[onnx]"', name="onnx") from None

from xpnet.nn.saving import ModelFileError
from xpnet.onnx import activation, attention, compose, conv, embedding, linear, norm, pool, recurrent, reshape, table
from xpnet.onnx.graph import GraphWriter, Tensor
from xpnet.onnx.reading import load
from xpnet.onnx.registry import ExportError, exporter
from xpnet.onnx.writing import OPSET, export, to_onnx

FAMILIES = (linear, activation, conv, pool, norm, reshape, compose, recurrent, embedding, attention, table)

__all__ = ["OPSET", "ExportError", "GraphWriter", "ModelFileError", "Tensor", "export", "exporter", "load", "to_onnx"]
