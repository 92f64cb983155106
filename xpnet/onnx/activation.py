"""Activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.onnx.chain import Chain
from xpnet.onnx.graph import GraphWriter, Tensor
from xpnet.onnx.norm import rms_norm_of
from xpnet.onnx.registry import exporter, importer, joiner
from xpnet.onnx.structure import Join, Node

ALIKE: dict[type[nn.Layer], str] = {  # each is one operator without attributes
    nn.ReLU: "Relu",
    nn.SELU: "Selu",
    nn.Sigmoid: "Sigmoid",
    nn.Tanh: "Tanh",
    nn.Softplus: "Softplus",
    nn.Mish: "Mish",
    nn.HardSwish: "HardSwish",
}


@exporter(*ALIKE)
def alike(layer: nn.Layer, x: Tensor, graph: GraphWriter) -> Tensor:
    return x.computed(graph.op(ALIKE[type(layer)], x.name))


@exporter(nn.LeakyReLU)
def leaky_relu(layer: nn.LeakyReLU, x: Tensor, graph: GraphWriter) -> Tensor:
    return x.computed(graph.op("LeakyRelu", x.name, alpha=layer.slope))


@exporter(nn.ELU)
def elu(layer: nn.ELU, x: Tensor, graph: GraphWriter) -> Tensor:
    return x.computed(graph.op("Elu", x.name, alpha=layer.alpha))


@exporter(nn.GELU)
def gelu(layer: nn.GELU, x: Tensor, graph: GraphWriter) -> Tensor:
    return x.computed(graph.op("Gelu", x.name, approximate=layer.approximate))


@exporter(nn.SiLU)
def silu(layer: nn.SiLU, x: Tensor, graph: GraphWriter) -> Tensor:
    return x.computed(graph.op("Mul", x.name, graph.op("Sigmoid", x.name)))


@exporter(nn.PReLU)
def prelu(layer: nn.PReLU, x: Tensor, graph: GraphWriter) -> Tensor:
    """One slope for each channel, whichever axis of the graph the channels are."""
    behind = [1] * (len(x.axes) - 1 - x.channels)
    return x.computed(graph.op("PRelu", x.name, graph.parameter(layer.a, lambda a: a.reshape(-1, *behind))))


@exporter(nn.Softmax, nn.LogSoftmax)
def softmax(layer: Any, x: Tensor, graph: GraphWriter) -> Tensor:
    return x.computed(graph.op(type(layer).__name__, x.name, axis=x.channels))


# From ONNX ----------------------------------------------------------------------------------------------------------


@importer(*ALIKE.values())
def from_alike(node: Node, chain: Chain) -> None:
    usual = {"alpha": 1.67326319, "gamma": 1.05070102}  # the defaults of Selu
    if any(not math.isclose(value, usual.get(key, -1), rel_tol=1e-5) for key, value in node.attributes.items()):
        raise node.error(f"only its default attributes can be read, not {node.attributes}")
    (kind,) = (kind for kind, name in ALIKE.items() if name == node.kind)
    chain.add(kind())


@importer("LeakyRelu")
def from_leaky_relu(node: Node, chain: Chain) -> None:
    chain.add(nn.LeakyReLU(node.number("alpha", 0.01)))


@importer("Elu")
def from_elu(node: Node, chain: Chain) -> None:
    chain.add(nn.ELU(node.number("alpha", 1.0)))


@importer("Gelu")
def from_gelu(node: Node, chain: Chain) -> None:
    chain.add(nn.GELU(node.get("approximate", "none")))


@importer("PRelu")
def from_prelu(node: Node, chain: Chain) -> None:
    """Slopes along one axis of the graph, or a single slope, which is repeated for each channel."""
    slopes = node.operand
    along = [axis - slopes.ndim for axis, n in enumerate(slopes.shape) if n > 1]
    if len(along) > 1:
        raise node.error(f"its slopes have shape {slopes.shape}: nn.PReLU has one slope for each channel")
    chain.as_last(along[0] if along else -1)
    chain.add(nn.PReLU(), {"a": np.broadcast_to(slopes.reshape(-1), chain.shape[-1:])})


@importer("Softmax", "LogSoftmax")
def from_softmax(node: Node, chain: Chain) -> None:
    chain.as_last(node.get("axis", -1))
    chain.add(nn.Softmax() if node.kind == "Softmax" else nn.LogSoftmax())


@joiner("Mul", "Div")
def from_product(join: Join, chain: Chain) -> None:
    """x times a function of x: SiLU or Mish, or RMSNorm, recognised by its formula."""
    around, *way = sorted(join.ways, key=len)
    if join.node.kind == "Mul" and not around and way == [("Sigmoid",)]:
        return chain.add(nn.SiLU())
    if join.node.kind == "Mul" and not around and way == [("Softplus", "Tanh")]:
        return chain.add(nn.Mish())
    return rms_norm_of(join, chain)


@joiner("Where")
def from_where(join: Join, chain: Chain) -> None:
    """PyTorch's Softplus, which returns x itself above a threshold, where the two are equal after rounding."""
    above = join.branches[0][0] if join.ways == [("Greater",), (), ("Softplus",)] else None
    if not isinstance(above, Node) or not above.operand_is_second or above.operand.min() < 15:
        raise join.node.error("no layer of xpnet selects between values; only Softplus is read, as PyTorch exports it")
    chain.add(nn.Softplus())
