"""Export models to ONNX files, and load ONNX files as models.

    from xpnet import onnx

    onnx.export(model, "model.onnx")          # all layers; for a layer of your own, see `exporter`
    model = onnx.load("from-pytorch.onnx")    # a model that can be trained further

Each family of layers has a file: exporters in its first half, importers in its second. `graph.py` holds the graph while
it is written, `structure.py` and `chain.py` the graph while it is read; `writing.py` and `reading.py` handle the files.

All layers can be exported, in evaluation mode. Networks with one input can be loaded if their operators correspond to
layers: one after the other, with a shortcut (`Residual`) or in parallel branches (`Parallel`), as the exporters of
PyTorch and scikit-learn write them. Attention and sinusoidal positions cannot be loaded: a file holds only their single
operators, which are no layers.
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
