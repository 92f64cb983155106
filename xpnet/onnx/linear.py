"""Linear, Standardize, and operators that add or multiply constants."""

from __future__ import annotations

import numpy as np

from xpnet import nn
from xpnet.onnx.chain import Chain
from xpnet.onnx.embedding import add_positions
from xpnet.onnx.graph import GraphWriter, Tensor
from xpnet.onnx.registry import exporter, importer
from xpnet.onnx.structure import Node


@exporter(nn.Linear)
def linear(layer: nn.Linear, x: Tensor, graph: GraphWriter) -> Tensor:
    x = graph.plain(x)
    y = graph.op("MatMul", x.name, graph.parameter(layer.W))
    return x.computed(graph.op("Add", y, graph.parameter(layer.b)) if layer.bias else y)


@exporter(nn.Standardize)
def standardize(layer: nn.Standardize, x: Tensor, graph: GraphWriter) -> Tensor:
    x = graph.plain(x)
    centred = graph.op("Sub", graph.as_numbers(x), graph.constant(layer.mean))
    return x.computed(graph.op("Div", centred, graph.constant(layer.std)))


# From ONNX ----------------------------------------------------------------------------------------------------------


@importer("MatMul")
def matmul(node: Node, chain: Chain) -> None:
    """x W with a constant W, and the bias if one is added next."""
    W = node.needed(1)
    bias = chain.take("Add", where=lambda add: add.operand.shape[-1:] == W.shape[-1:] == (add.operand.size,))
    _linear(node, chain, W, None if bias is None else bias.operand.reshape(-1))


@importer("Gemm")
def gemm(node: Node, chain: Chain) -> None:
    """alpha x W + beta b; the attribute transB says that W is transposed."""
    W, b = node.needed(1), node.constant(2)
    if node.get("transA", 0):
        raise node.error("its input is transposed (transA=1), which no layer of xpnet does")
    W = float(node.get("alpha", 1.0)) * (W.T if node.get("transB", 0) else W)
    b = None if b is None else float(node.get("beta", 1.0)) * np.broadcast_to(b, (1, W.shape[-1]))[0]
    _linear(node, chain, W, b)


def _linear(node: Node, chain: Chain, W: np.ndarray, b: np.ndarray | None) -> None:
    if W.ndim != 2 or not W.size:
        raise node.error(f"it multiplies by an array of shape {W.shape}, not by a matrix")
    chain.as_last(-1)
    chain.add(nn.Linear(W.shape[1], W.shape[0], bias=b is not None), {"W": W} if b is None else {"W": W, "b": b})


@importer("Add", "Sub", "Mul", "Div")
def affine(node: Node, chain: Chain) -> None:
    """A sequence of operators with constants, combined to y = scale x + shift and read as a Standardize."""
    if node.kind == "Add" and add_positions(node, chain):
        return
    constant = node.operand
    along = [axis - constant.ndim for axis, n in enumerate(constant.shape) if n > 1]  # axes of the graph, as -1, -2, ..
    if len(along) > 1:
        raise node.error(f"no layer of xpnet adds or multiplies by constants of shape {constant.shape}")
    scale, shift = np.ones(constant.size), np.zeros(constant.size)
    step: Node | None = node
    while step is not None:
        with np.errstate(divide="ignore", invalid="ignore"):  # Standardize refuses what is not finite
            scale, shift = _after(step, scale, shift)
        step = chain.take("Add", "Sub", "Mul", "Div", where=lambda s: s.operand.shape in ((), (1,), constant.shape))
    if (scale == 1).all() and not shift.any():
        return
    if along:
        chain.as_last(along[0])
    _standardize(node, chain, scale, shift, each=bool(along))


def _after(node: Node, scale: np.ndarray, shift: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The new scale and shift after one more operator on scale x + shift."""
    c = node.operand.reshape(-1).astype(np.float64)
    if node.kind == "Add":
        return scale, shift + c
    if node.kind == "Mul":
        return scale * c, shift * c
    if node.kind == "Sub":
        return (scale, shift - c) if node.operand_is_second else (-scale, c - shift)
    if not node.operand_is_second:
        raise node.error("no layer of xpnet divides by its input")
    return scale / c, shift / c


def _standardize(node: Node, chain: Chain, scale: np.ndarray, shift: np.ndarray, each: bool) -> None:
    """(x - mean) / std, for each feature or for all. For one feature a scale <= 0 becomes a Linear, as in 1 - p."""
    if chain.shape[-1:] == (1,) and not (scale > 0).all():
        return chain.add(nn.Linear(1), {"W": scale[:, None], "b": shift})
    if not (scale > 0).all():
        raise node.error("no layer of xpnet multiplies by constants that are 0 or negative")
    mean, std = -shift / scale, 1 / scale
    return chain.add(nn.Standardize(mean.tolist(), std.tolist()) if each else nn.Standardize(mean[0], std[0]))


@importer("ai.onnx.ml.Scaler")
def scaler(node: Node, chain: Chain) -> None:
    """scale (x - offset), as scikit-learn's StandardScaler is exported."""
    offset, scale = (np.array(node.get(name, [usual]), np.float64) for name, usual in (("offset", 0), ("scale", 1)))
    scale, offset = np.broadcast_arrays(scale, offset)
    chain.plain()
    _standardize(node, chain, scale, -offset * scale, each=len(scale) > 1)
