"""Pooling."""

from __future__ import annotations

from xpnet import nn
from xpnet.onnx.chain import Chain
from xpnet.onnx.conv import geometry, padding_of
from xpnet.onnx.graph import GraphWriter, Tensor, channels_first, in_order
from xpnet.onnx.registry import ExportError, exporter, importer
from xpnet.onnx.structure import Node


@exporter(nn.MaxPool2d)
def max_pool(layer: nn.MaxPool2d, x: Tensor, graph: GraphWriter) -> Tensor:
    return _pooled("MaxPool", layer, x, graph)


@exporter(nn.AvgPool2d)
def average_pool(layer: nn.AvgPool2d, x: Tensor, graph: GraphWriter) -> Tensor:
    return _pooled("AveragePool", layer, x, graph, count_include_pad=1)


def _pooled(kind: str, layer: nn.MaxPool2d | nn.AvgPool2d, x: Tensor, graph: GraphWriter, **more: int) -> Tensor:
    x = graph.arranged(x, channels_first(len(x.axes)))
    paddings = {(*windows.before, *windows.after) for windows in layer.windows.values()}
    if len(paddings) > 1:
        why = "is used on images of several sizes and pads them differently: use a separate layer for each size"
        raise ExportError(f"{layer!r} {why}")
    sizes = {"kernel_shape": layer.kernel, "strides": layer.stride, "pads": paddings.pop()}
    return x.computed(graph.op(kind, x.name, **sizes, **more))


@exporter(nn.GlobalAvgPool2d)
def global_average_pool(layer: nn.GlobalAvgPool2d, x: Tensor, graph: GraphWriter) -> Tensor:
    rows_and_columns = graph.constant([x.axes.index(1), x.axes.index(2)], "int64")
    return Tensor(graph.op("ReduceMean", x.name, rows_and_columns, keepdims=0), in_order(2))


# From ONNX ----------------------------------------------------------------------------------------------------------


@importer("MaxPool", "AveragePool")
def from_pool(node: Node, chain: Chain) -> None:
    kernel, stride, dilation = geometry(node, tuple(node.get("kernel_shape", [])))
    if len(kernel) != 2 or set(dilation) != {1}:
        raise node.error(f"kernel {kernel} with dilation {dilation}: xpnet pools along two axes, without dilation")
    chain.channels_last()
    padding = padding_of(node, chain, kernel, stride, dilation)
    averages, padded = node.kind == "AveragePool", padding not in ("valid", (0, 0))
    if averages and padded and not node.get("count_include_pad", 0):
        raise node.error("it leaves padding out of the mean (count_include_pad=0): AvgPool2d counts it as 0")
    layer = nn.AvgPool2d(kernel, stride, padding) if averages else nn.MaxPool2d(kernel, stride, padding)
    chain.add(layer)
    (windows,) = layer.windows.values()
    ends = zip(windows.padded_size, kernel, stride, strict=True)
    if node.get("ceil_mode", 0) and any((n - k) % s for n, k, s in ends):
        raise node.error("its last windows extend beyond the image (ceil_mode=1), which no layer of xpnet does")


@importer("GlobalAveragePool")
def from_global_average_pool(node: Node, chain: Chain) -> None:
    _mean(node, chain, [2, 3], keep=True)


@importer("ReduceMean")
def from_reduce_mean(node: Node, chain: Chain) -> None:
    _mean(node, chain, node.ints("axes", 1), keep=bool(node.get("keepdims", 1)))


def _mean(node: Node, chain: Chain, axes: list[int], keep: bool) -> None:
    """The mean over any two axes of an image: the remaining axis holds the channels."""
    left = {1, 2, 3} - {axis % 4 for axis in axes}
    if len(chain.axes) != 4 or len(axes) != 2 or len(left) != 1:
        raise node.error(f"it is a mean over axes {axes}: xpnet averages only over rows and columns of images")
    (channels,) = left
    chain.as_last(channels)
    chain.add(nn.GlobalAvgPool2d(), axes=tuple({0: 0, channels: 1}.get(i) for i in range(4)) if keep else (0, 1))
