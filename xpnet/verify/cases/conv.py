"""The rows of the convolutions, and their formulas in plain loops."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn import Layer, init
from xpnet.verify.cases.arithmetic import Number, Numbers, Parameters, filled
from xpnet.verify.rows import LayerCase

NO_PADDING = (0, 0, 0, 0)  # rows above and below, columns on the left and right


# Formulas: images (N, H, W, C) --------------------------------------------------------------------------------


def conv2d(x: Numbers, p: Parameters, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1), groups=1) -> Numbers:
    """Every output is the sum of the products in its window; pixels outside of the image count as 0."""
    W, b = p["W"], p.get("b")
    (n_images, height, width, _), (kh, kw, per_group, n_out) = x.shape, W.shape
    tops = range(-padding[0], height + padding[1] - dilation[0] * (kh - 1), stride[0])
    lefts = range(-padding[2], width + padding[3] - dilation[1] * (kw - 1), stride[1])

    def number(n: int, i: int, j: int, o: int) -> Number:
        group, total = o // (n_out // groups), 0.0 if b is None else b[o]
        for a, c, k in product(range(kh), range(kw), range(per_group)):
            row, column = tops[i] + a * dilation[0], lefts[j] + c * dilation[1]
            if 0 <= row < height and 0 <= column < width:
                total = total + W[a, c, k, o] * x[n, row, column, group * per_group + k]
        return total

    return filled((n_images, len(tops), len(lefts), n_out), number)


def conv_transpose2d(
    x: Numbers, p: Parameters, size, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1), groups=1
) -> Numbers:
    """Every input, times the kernel, is added to a window of the output; what falls outside of `size` is dropped."""
    W, b = p["W"], p.get("b")
    (n_images, height, width, n_in), (kh, kw, per_group, _) = x.shape, W.shape
    y = filled((n_images, *size, groups * per_group), lambda n, i, j, o: 0.0 if b is None else b[o])
    for n, i, j, k in np.ndindex(n_images, height, width, n_in):
        group = k // (n_in // groups)
        for a, c, o in product(range(kh), range(kw), range(per_group)):
            row = i * stride[0] + a * dilation[0] - padding[0]
            column = j * stride[1] + c * dilation[1] - padding[2]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                at = n, row, column, group * per_group + o
                y[at] = y[at] + W[a, c, o, k] * x[n, i, j, k]
    return y


# PyTorch's: images (N, C, H, W), kernels (n_out, C / groups, kh, kw) ----------------------------------------------


def _torch_conv2d(torch: Any, x: Any, p: Any, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1), groups=1):
    around = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (*padding[2:], *padding[:2]))
    y = torch.nn.functional.conv2d(around, p["W"].permute(3, 2, 0, 1), p.get("b"), stride, 0, dilation, groups)
    return y.permute(0, 2, 3, 1)


def _torch_transposed(torch: Any, x: Any, p: Any, size, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1), groups=1):
    """`padding` must be the same on both sides, except for the rows that PyTorch calls output_padding."""
    before, more = padding[::2], (padding[0] - padding[1], padding[2] - padding[3])
    x, kernel = x.permute(0, 3, 1, 2), p["W"].permute(3, 2, 0, 1).contiguous()
    y = torch.nn.functional.conv_transpose2d(x, kernel, p.get("b"), stride, before, more, groups, dilation)
    assert tuple(y.shape[2:]) == size
    return y.permute(0, 2, 3, 1)


# Rows ---------------------------------------------------------------------------------------------------------


def _in_pairs(geometry: dict[str, Any]) -> dict[str, Any]:
    return {k: (v, v) if k in ("stride", "dilation") and isinstance(v, int) else v for k, v in geometry.items()}


def _row(what: str, layer: Layer, shape: tuple[int, ...], **geometry: Any) -> LayerCase:
    formula, torch = (conv_transpose2d, _torch_transposed) if "size" in geometry else (conv2d, _torch_conv2d)
    reference, theirs = (partial(f, **_in_pairs(geometry)) for f in (formula, torch))
    return LayerCase(type(layer).__name__, what, layer.copy, shape, reference, theirs, (1, 3))


def _sequences(what: str, layer: Layer, shape: tuple[int, ...], **geometry: Any) -> LayerCase:
    """A sequence is an image of one column."""

    def reference(x: Any, p: Any) -> Any:
        return conv2d(x[:, :, None], {**p, "W": p["W"][:, None]}, **geometry)[:, :, 0]

    def theirs(torch: Any, x: Any, p: Any) -> Any:
        return _torch_conv2d(torch, x[:, :, None], {**p, "W": p["W"][:, None]}, **geometry)[:, :, 0]

    return LayerCase("Conv1d", what, layer.copy, shape, reference, theirs, (1, 3))


CASES: tuple[LayerCase, ...] = (
    _row("3 x 3", nn.Conv2d(3, 3), (5, 4, 2)),
    _row("1 x 1", nn.Conv2d(3, 1, n_in=2), (2, 3, 2)),
    _row("1 x 1, stride 2", nn.Conv2d(2, 1, stride=2), (4, 3, 2), stride=2),
    _row(
        "1 x 1, stride 2, padded to the size it had", nn.Conv2d(2, 1, stride=2, padding=1), (3, 3, 2), stride=2,
        padding=(1, 1, 1, 1),
    ),
    _row("1 x 1, groups", nn.Conv2d(4, 1, groups=2), (2, 3, 4), groups=2),
    _row("no bias", nn.Conv2d(2, (2, 3), bias=False), (3, 4, 2)),
    _row("kernel as large as the image", nn.Conv2d(4, (3, 2), init=init.lecun_normal), (3, 2, 2)),
    _row("stride, columns left over", nn.Conv2d(2, (3, 2), stride=(2, 3)), (6, 6, 2), stride=(2, 3)),
    _row("padding", nn.Conv2d(2, 3, stride=2, padding=(2, 1)), (4, 3, 2), stride=2, padding=(2, 2, 1, 1)),
    _row("same", nn.Conv2d(2, 3, padding="same"), (3, 4, 2), padding=(1, 1, 1, 1)),
    _row("same, even kernel", nn.Conv2d(2, (2, 4), padding="same"), (3, 4, 2), padding=(0, 1, 1, 2)),
    _row(
        "same, stride 2 and even size", nn.Conv2d(2, 3, stride=2, padding="same"), (4, 5, 1), stride=2,
        padding=(0, 1, 1, 1),
    ),
    _row("same, stride larger than the kernel", nn.Conv2d(2, 1, stride=3, padding="same"), (4, 6, 1), stride=3),
    _row("dilation", nn.Conv2d(2, (2, 3), dilation=(3, 2)), (5, 6, 2), dilation=(3, 2)),
    _row(
        "same, dilation and stride", nn.Conv2d(2, (3, 2), stride=2, padding="same", dilation=2), (5, 6, 1), stride=2,
        padding=(2, 2, 0, 1), dilation=2,
    ),
    _row("groups", nn.Conv2d(6, 2, groups=2, padding=1), (3, 2, 4), padding=(1, 1, 1, 1), groups=2),
    _row("depthwise", nn.Conv2d(3, (3, 2), groups=3), (4, 3, 3), groups=3),
    _row(
        "depthwise, two outputs for each channel", nn.Conv2d(6, 2, stride=2, groups=3, bias=False), (4, 4, 3), stride=2,
        groups=3,
    ),
    replace(  # a batch that a CPU computes in several blocks: too much for plain loops
        _row("several blocks", nn.Conv2d(8, 5, padding="same"), (12, 12, 24), padding=(2, 2, 2, 2)),
        reference=None,
        batches=(8,),
    ),
    _sequences("3", nn.Conv1d(3, 3), (6, 2)),
    _sequences(
        "stride, padding, dilation", nn.Conv1d(2, (2,), stride=2, padding=1, dilation=2), (5, 3), stride=(2, 1),
        padding=(1, 1, 0, 0), dilation=(2, 1),
    ),
    _sequences(
        "same, groups, no bias", nn.Conv1d(4, 4, padding="same", groups=2, bias=False), (4, 2), padding=(1, 2, 0, 0),
        groups=2,
    ),
    _row("1 x 1", nn.ConvTranspose2d(3, 1), (2, 3, 2), size=(2, 3)),
    _row("3 x 2", nn.ConvTranspose2d(3, (3, 2)), (2, 3, 2), size=(4, 4)),
    _row("stride", nn.ConvTranspose2d(2, 2, stride=(2, 3)), (2, 3, 2), size=(4, 8), stride=(2, 3)),
    _row(
        "padding", nn.ConvTranspose2d(2, (3, 4), stride=2, padding=1), (3, 2, 1), size=(5, 4), stride=2,
        padding=(1, 1, 1, 1),
    ),
    _row(
        "output padding", nn.ConvTranspose2d(2, 3, stride=2, padding=1, output_padding=(1, 0)), (2, 3, 2), size=(4, 5),
        stride=2, padding=(1, 0, 1, 1),
    ),
    _row(
        "output padding beyond the last window", nn.ConvTranspose2d(2, 2, stride=3, output_padding=1), (2, 1, 2),
        size=(6, 3), stride=3, padding=(0, -1, 0, -1),
    ),
    _row(
        "same", nn.ConvTranspose2d(2, 4, stride=2, padding="same"), (2, 3, 2), size=(4, 6), stride=2,
        padding=(1, 1, 1, 1),
    ),
    _row(
        "same, kernel smaller than the stride", nn.ConvTranspose2d(2, 1, stride=2, padding="same"), (2, 3, 2),
        size=(4, 6), stride=2, padding=(0, -1, 0, -1),
    ),
    _row(
        "dilation, no bias", nn.ConvTranspose2d(2, 2, dilation=(1, 2), bias=False), (2, 3, 2), size=(3, 5),
        dilation=(1, 2),
    ),
    _row("groups", nn.ConvTranspose2d(6, 2, stride=2, groups=2), (2, 2, 4), size=(4, 4), stride=2, groups=2),
    _row(
        "depthwise", nn.ConvTranspose2d(3, 3, padding=1, groups=3), (3, 2, 3), size=(3, 2), padding=(1, 1, 1, 1),
        groups=3,
    ),
)  # fmt: skip
