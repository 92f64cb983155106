"""Normalisation."""

from __future__ import annotations

import numpy as np

from xpnet import nn
from xpnet.onnx.chain import Chain
from xpnet.onnx.graph import GraphWriter, Tensor, channels_first
from xpnet.onnx.registry import exporter, importer
from xpnet.onnx.structure import Join, Node, as_meant


@exporter(nn.BatchNorm)
def batch_norm(layer: nn.BatchNorm, x: Tensor, graph: GraphWriter) -> Tensor:
    """BatchNorm with its running statistics. In ONNX, `momentum` is the fraction of the old ones kept: 1 - ours."""
    x = graph.arranged(x, channels_first(len(x.axes)))
    state = [graph.parameter(p) for p in (layer.gamma, layer.beta, layer.running_mean, layer.running_var)]
    return x.computed(graph.op("BatchNormalization", x.name, *state, epsilon=layer.eps, momentum=1 - layer.momentum))


@exporter(nn.LayerNorm)
def layer_norm(layer: nn.LayerNorm, x: Tensor, graph: GraphWriter) -> Tensor:
    x = graph.plain(x)
    scale, shift = graph.parameter(layer.gamma), graph.parameter(layer.beta)
    return x.computed(graph.op("LayerNormalization", x.name, scale, shift, axis=-1, epsilon=layer.eps))


@exporter(nn.GroupNorm)
def group_norm(layer: nn.GroupNorm, x: Tensor, graph: GraphWriter) -> Tensor:
    x = graph.arranged(x, channels_first(len(x.axes)))
    scale, shift = graph.parameter(layer.gamma), graph.parameter(layer.beta)
    return x.computed(graph.op("GroupNormalization", x.name, scale, shift, num_groups=layer.groups, epsilon=layer.eps))


@exporter(nn.RMSNorm)
def rms_norm(layer: nn.RMSNorm, x: Tensor, graph: GraphWriter) -> Tensor:
    """RMSNorm as its formula, as PyTorch writes it: the operator of this name is newer than our operator set."""
    x = graph.plain(x)
    square = graph.op("Pow", x.name, graph.constant(2.0))
    mean = graph.op("ReduceMean", square, graph.constant([-1], "int64"), keepdims=1)
    size = graph.op("Sqrt", graph.op("Add", mean, graph.constant(layer.eps)))
    xhat = graph.op("Mul", x.name, graph.op("Reciprocal", size))
    return x.computed(graph.op("Mul", xhat, graph.parameter(layer.gamma)))


# From ONNX ----------------------------------------------------------------------------------------------------------


@importer("BatchNormalization")
def from_batch_norm(node: Node, chain: Chain) -> None:
    chain.as_last(1)
    layer = nn.BatchNorm(round(1 - node.number("momentum", 0.9), 6), node.number("epsilon", 1e-5))
    gamma, beta, mean, variance = (node.needed(i) for i in range(1, 5))
    chain.add(layer, {"gamma": gamma, "beta": beta, "running_mean": mean, "running_var": variance})


@importer("LayerNormalization")
def from_layer_norm(node: Node, chain: Chain) -> None:
    if node.get("axis", -1) not in (-1, len(chain.axes) - 1):
        raise node.error("it normalises over several axes: nn.LayerNorm does so over the last one only")
    chain.as_last(-1)
    gamma, beta = node.needed(1), node.constant(2)
    beta = np.zeros_like(gamma) if beta is None else beta
    chain.add(nn.LayerNorm(node.number("epsilon", 1e-5)), {"gamma": gamma, "beta": beta})


@importer("GroupNormalization")
def from_group_norm(node: Node, chain: Chain) -> None:
    chain.channels_last()
    layer = nn.GroupNorm(node.get("num_groups", 1), node.number("epsilon", 1e-5))
    chain.add(layer, {"gamma": node.needed(1), "beta": node.needed(2)})


@importer("InstanceNormalization")
def from_instance_norm(node: Node, chain: Chain) -> None:
    """GroupNorm with one group for each channel."""
    chain.channels_last()
    layer = nn.GroupNorm(chain.shape[-1], node.number("epsilon", 1e-5))
    chain.add(layer, {"gamma": node.needed(1), "beta": node.needed(2)})


def group_norm_of(reshape: Node, chain: Chain) -> bool:
    """Read a GroupNorm as PyTorch writes it; returns whether this Reshape begins one.

    That is a Reshape from (N, C, H, W) to (N, groups, ..), InstanceNormalization, the reverse Reshape, Mul by gamma,
    and Add of beta.
    """
    steps = chain.ahead(4)
    if [step.kind for step in steps] != ["InstanceNormalization", "Reshape", "Mul", "Add"]:
        return False
    norm, back, times, plus = steps
    for step in steps:
        chain.take(step.kind)
    groups, channels = norm.needed(1).size, chain.dims[1]
    behind = [1] * (len(chain.dims) - 2)  # constants of any other shape would be applied along rows or columns
    of_channels = {(channels, *behind), (1, channels, *behind)}
    as_before = (
        tuple(back.needed(1).tolist()) == chain.dims and {times.operand.shape, plus.operand.shape} <= of_channels
    )
    if not as_before or (norm.needed(1) != 1).any() or norm.needed(2).any():
        raise norm.error("it is not a group normalisation as PyTorch exports it")
    chain.channels_last()
    values = {"gamma": times.operand.reshape(-1), "beta": plus.operand.reshape(-1)}
    chain.add(nn.GroupNorm(groups, norm.number("epsilon", 1e-5)), values)
    return True


def rms_norm_of(join: Join, chain: Chain) -> None:
    """RMSNorm, recognised by its formula gamma x / sqrt(mean x^2 + eps)."""
    formula: tuple[str, ...] = ("Pow", "ReduceMean", "Add", "Sqrt")
    formula = (*formula, "Reciprocal") if join.node.kind == "Mul" else formula
    ways = dict(zip(join.ways, join.branches, strict=True))
    divided = join.node.kind == "Mul" or not join.branches[0]  # x / sqrt(..), not the reverse
    if ways.keys() != {(), formula} or not divided:
        raise join.node.error("no layer of xpnet corresponds to this operator with several computed inputs")
    power, mean, plus, *_ = (step for step in ways[formula] if isinstance(step, Node))
    times = chain.take("Mul")
    last = mean.ints("axes", 1) in ([-1], [len(chain.axes) - 1])
    squared = power.operand_is_second and (power.operand == 2).all()
    by_feature = times is not None and times.operand.shape[-1:] == (times.operand.size,)
    if times is None or not by_feature or not last or not squared or not mean.get("keepdims", 1):
        raise join.node.error("it is not an RMSNorm, which is gamma x / sqrt(mean x^2 + eps) over the last axis")
    chain.as_last(-1)
    chain.add(nn.RMSNorm(as_meant(plus.operand.item())), {"gamma": times.operand.reshape(-1)})
