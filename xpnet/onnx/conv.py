"""Convolutions. In ONNX, kernels are (n_out, C / groups, kh, kw) and images (N, C, H, W)."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn.shapes import Shape
from xpnet.nn.windows import Windows
from xpnet.onnx.chain import Chain
from xpnet.onnx.graph import GraphWriter, Tensor, channels_first
from xpnet.onnx.registry import exporter, importer
from xpnet.onnx.structure import Node


@exporter(nn.Conv1d, nn.Conv2d)
def conv(layer: nn.Conv2d, x: Tensor, graph: GraphWriter) -> Tensor:
    windows = layer.windows
    return _convolved("Conv", layer, x, graph, pads=[*windows.before, *windows.after])


@exporter(nn.ConvTranspose2d)
def conv_transpose(layer: nn.ConvTranspose2d, x: Tensor, graph: GraphWriter) -> Tensor:
    """Rows and columns cut off at the end are padding; those that no window reaches are `output_padding`."""
    windows = layer.windows
    axes = zip(windows.output, windows.kernel, windows.stride, windows.dilation, strict=True)
    full = [(n - 1) * s + (k - 1) * d + 1 for n, k, s, d in axes]  # where the last window ends
    after = [end - before - n for end, before, n in zip(full, windows.before, windows.size, strict=True)]
    pads = [*windows.before, *(max(a, 0) for a in after)]
    return _convolved("ConvTranspose", layer, x, graph, pads=pads, output_padding=[max(-a, 0) for a in after])


def _convolved(kind: str, layer: nn.Conv2d, x: Tensor, graph: GraphWriter, **more: Any) -> Tensor:
    x = graph.arranged(x, channels_first(len(x.axes)))
    inputs = [x.name, graph.parameter(layer.W, to_onnx)] + ([graph.parameter(layer.b)] if layer.bias else [])
    windows, groups = layer.windows, layer.groups
    sizes = {"kernel_shape": windows.kernel, "strides": windows.stride, "dilations": windows.dilation}
    return x.computed(graph.op(kind, *inputs, **sizes, group=groups, **more))


def to_onnx(W: np.ndarray) -> np.ndarray:
    """The kernel in the layout of ONNX: (kh, kw, C / groups, n_out) becomes (n_out, C / groups, kh, kw).

    The kernel (.., n_out / groups, C) of a transposed convolution likewise.
    """
    return W.transpose(W.ndim - 1, W.ndim - 2, *range(W.ndim - 2))


# From ONNX ----------------------------------------------------------------------------------------------------------


@importer("Conv")
def from_conv(node: Node, chain: Chain) -> None:
    W = node.needed(1)
    kind = {3: nn.Conv1d, 4: nn.Conv2d}.get(W.ndim)
    if kind is None:
        raise node.error(f"its kernel has shape {W.shape}: xpnet has convolutions along one or two axes")
    chain.channels_last()
    kernel, stride, dilation = geometry(node, W.shape[2:])
    padding = padding_of(node, chain, kernel, stride, dilation)
    groups = node.get("group", 1)
    b = node.constant(2)
    layer = kind(
        W.shape[0], kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=b is not None,
        n_in=W.shape[1] * groups,
    )  # fmt: skip
    chain.add(layer, {"W": from_onnx(W)} if b is None else {"W": from_onnx(W), "b": b})


@importer("ConvTranspose")
def from_conv_transpose(node: Node, chain: Chain) -> None:
    """Rows added at the end by `output_padding` are the same as less padding there."""
    W = node.needed(1)
    if W.ndim != 4 or "output_shape" in node.attributes or node.get("auto_pad", "NOTSET") != "NOTSET":
        raise node.error("only a transposed convolution of images can be read, with its padding in numbers (pads)")
    chain.channels_last()
    kernel, stride, dilation = geometry(node, W.shape[2:])
    groups, b = node.get("group", 1), node.constant(2)
    pads, more = node.get("pads", [0] * 4), node.get("output_padding", [0] * 2)
    after = [pad - extra for pad, extra in zip(pads[2:], more, strict=True)]
    output_padding: Any = tuple(before - a for before, a in zip(pads[:2], after, strict=True))
    padding: Any = tuple(pads[:2])
    size = [(n - 1) * s + (k - 1) * d + 1 - p - a for n, s, k, d, p, a in zip(
        chain.shape[:2], stride, kernel, dilation, padding, after, strict=True)]  # fmt: skip
    same = Windows.on(tuple(size), kernel, stride, "same", dilation)
    if (list(same.before), size) == (pads[:2], [n * s for n, s in zip(chain.shape[:2], stride, strict=True)]):
        padding, output_padding = "same", 0
    layer = nn.ConvTranspose2d(
        W.shape[1] * groups, kernel, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        groups=groups, bias=b is not None, n_in=W.shape[0],
    )  # fmt: skip
    chain.add(layer, {"W": from_onnx(W)} if b is None else {"W": from_onnx(W), "b": b})


def from_onnx(W: np.ndarray) -> np.ndarray:
    """The reverse of `to_onnx`."""
    return W.transpose(*range(2, W.ndim), 1, 0)


def geometry(node: Node, kernel: Shape) -> tuple[Shape, Shape, Shape]:
    """Kernel, stride and dilation along each axis."""
    ones = [1] * len(kernel)
    return tuple(kernel), tuple(node.get("strides", ones)), tuple(node.get("dilations", ones))


def padding_of(node: Node, chain: Chain, kernel: Shape, stride: Shape, dilation: Shape) -> Any:
    """The layer's `padding`: numbers that hold for both sides, or "same" if the two sides differ as in that mode."""
    n = len(kernel)
    auto, pads = node.get("auto_pad", "NOTSET"), node.get("pads", [0] * 2 * n)
    if auto in ("VALID", "SAME_UPPER"):
        return {"VALID": "valid", "SAME_UPPER": "same"}[auto]
    if auto != "NOTSET":
        raise node.error(f"auto_pad={auto!r} is not supported: export the network with its padding in numbers (pads)")
    if pads[:n] == pads[n:]:
        return tuple(pads[:n])
    same = Windows.on(chain.shape[:n], kernel, stride, "same", dilation)
    if pads != [*same.before, *same.after]:
        raise node.error(f'its padding {pads} is neither equal on both sides nor that of padding="same"')
    return "same"
