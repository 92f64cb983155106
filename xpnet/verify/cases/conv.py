"""The rows of the convolutions, and their formulas in plain loops."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn import Layer, init
from xpnet.verify.cases.arithmetic import Numbers
from xpnet.verify.rows import LayerCase

Sides = tuple[tuple[int, int], tuple[int, int]]  # rows of padding above and below, columns on the left and right
NO_PADDING: Sides = ((0, 0), (0, 0))


# Formulas: images (N, H, W, C) --------------------------------------------------------------------------------


def conv2d(
    x: Numbers, W: Numbers, b: Numbers | None, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1), groups=1
) -> Numbers:
    """Every output is the sum of the products in its window; what lies outside of the image counts as 0."""
    (n_images, height, width, _), (kh, kw, per_group, n_out) = x.shape, W.shape
    tops = range(-padding[0][0], height + padding[0][1] - dilation[0] * (kh - 1), stride[0])
    lefts = range(-padding[1][0], width + padding[1][1] - dilation[1] * (kw - 1), stride[1])
    y = np.empty((n_images, len(tops), len(lefts), n_out), object)
    for n, (i, top), (j, left), o in product(range(n_images), enumerate(tops), enumerate(lefts), range(n_out)):
        group = o // (n_out // groups)
        total = 0.0 if b is None else b[o]
        for a, c, k in product(range(kh), range(kw), range(per_group)):
            row, column = top + a * dilation[0], left + c * dilation[1]
            if 0 <= row < height and 0 <= column < width:
                total = total + W[a, c, k, o] * x[n, row, column, group * per_group + k]
        y[n, i, j, o] = total
    return y


def conv_transpose2d(
    x: Numbers, W: Numbers, b: Numbers | None, size, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1), groups=1
) -> Numbers:
    """Every input, times the kernel, is added to a window of the output; what falls outside of `size` is lost."""
    (n_images, height, width, n_in), (kh, kw, per_group, _) = x.shape, W.shape
    y = np.empty((n_images, *size, groups * per_group), object)
    for at in np.ndindex(*y.shape):
        y[at] = 0.0 if b is None else b[at[-1]]
    for n, i, j, k in np.ndindex(n_images, height, width, n_in):
        group = k // (n_in // groups)
        for a, c, o in product(range(kh), range(kw), range(per_group)):
            row = i * stride[0] + a * dilation[0] - padding[0][0]
            column = j * stride[1] + c * dilation[1] - padding[1][0]
            if 0 <= row < size[0] and 0 <= column < size[1]:
                at = n, row, column, group * per_group + o
                y[at] = y[at] + W[a, c, o, k] * x[n, i, j, k]
    return y


# PyTorch's: images (N, C, H, W), kernels (n_out, C / groups, kh, kw) ----------------------------------------------


def _torch_conv2d(torch: Any, x: Any, W: Any, b: Any, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1), groups=1):
    around = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (*padding[1], *padding[0]))
    y = torch.nn.functional.conv2d(around, W.permute(3, 2, 0, 1), b, stride, 0, dilation, groups)
    return y.permute(0, 2, 3, 1)


def _torch_transposed(
    torch: Any, x: Any, W: Any, b: Any, size, stride=(1, 1), padding=NO_PADDING, dilation=(1, 1), groups=1
):
    """Here `padding` has to be the same on both sides, but for the rows that PyTorch calls output_padding."""
    more = [before - after for before, after in padding]
    before = [before for before, _ in padding]
    kernel = W.permute(3, 2, 0, 1).contiguous()
    y = torch.nn.functional.conv_transpose2d(x.permute(0, 3, 1, 2), kernel, b, stride, before, more, groups, dilation)
    assert tuple(y.shape[2:]) == size
    return y.permute(0, 2, 3, 1)


# Rows ---------------------------------------------------------------------------------------------------------


def _conv(what: str, make: Callable[[], Layer], shape: tuple[int, ...], **geometry: Any) -> LayerCase:
    return LayerCase(
        "Conv2d",
        what,
        make,
        shape,
        lambda x, p: conv2d(x, p["W"], p.get("b"), **geometry),
        lambda torch, x, p: _torch_conv2d(torch, x, p["W"], p.get("b"), **geometry),
        batches=(1, 3),
    )


def _conv1d(what: str, make: Callable[[], Layer], shape: tuple[int, ...], **geometry: Any) -> LayerCase:
    """A sequence is an image of one column."""
    return LayerCase(
        "Conv1d",
        what,
        make,
        shape,
        lambda x, p: conv2d(x[:, :, None], p["W"][:, None], p.get("b"), **geometry)[:, :, 0],
        lambda torch, x, p: _torch_conv2d(torch, x[:, :, None], p["W"][:, None], p.get("b"), **geometry)[:, :, 0],
        batches=(1, 3),
    )


def _transposed(what: str, make: Callable[[], Layer], shape: tuple[int, ...], **geometry: Any) -> LayerCase:
    return LayerCase(
        "ConvTranspose2d",
        what,
        make,
        shape,
        lambda x, p: conv_transpose2d(x, p["W"], p.get("b"), **geometry),
        lambda torch, x, p: _torch_transposed(torch, x, p["W"], p.get("b"), **geometry),
        batches=(1, 3),
    )


CASES: tuple[LayerCase, ...] = (
    _conv("3 x 3", lambda: nn.Conv2d(3, 3), (5, 4, 2)),
    _conv("1 x 1", lambda: nn.Conv2d(3, 1, n_in=2), (2, 3, 2)),
    _conv("1 x 1, stride 2", lambda: nn.Conv2d(2, 1, stride=2), (4, 3, 2), stride=(2, 2)),
    _conv("no bias", lambda: nn.Conv2d(2, (2, 3), bias=False), (3, 4, 2)),
    _conv("kernel as large as the image", lambda: nn.Conv2d(4, (3, 2), init=init.lecun_normal), (3, 2, 2)),
    _conv("stride, columns left over", lambda: nn.Conv2d(2, (3, 2), (2, 3)), (6, 6, 2), stride=(2, 3)),
    _conv("padding", lambda: nn.Conv2d(2, 3, 2, (2, 1)), (4, 3, 2), stride=(2, 2), padding=((2, 2), (1, 1))),
    _conv("same", lambda: nn.Conv2d(2, 3, padding="same"), (3, 4, 2), padding=((1, 1), (1, 1))),
    _conv("same, even kernel", lambda: nn.Conv2d(2, (2, 4), padding="same"), (3, 4, 2), padding=((0, 1), (1, 2))),
    _conv(
        "same, stride 2 and even size",
        lambda: nn.Conv2d(2, 3, 2, "same"),
        (4, 5, 1),
        stride=(2, 2),
        padding=((0, 1), (1, 1)),
    ),
    _conv("same, stride larger than the kernel", lambda: nn.Conv2d(2, 1, 3, "same"), (4, 6, 1), stride=(3, 3)),
    _conv("dilation", lambda: nn.Conv2d(2, (2, 3), dilation=(3, 2)), (5, 6, 2), dilation=(3, 2)),
    _conv(
        "same, dilation and stride",
        lambda: nn.Conv2d(2, (3, 2), 2, "same", 2),
        (5, 6, 1),
        stride=(2, 2),
        padding=((2, 2), (0, 1)),
        dilation=(2, 2),
    ),
    _conv("groups", lambda: nn.Conv2d(6, 2, groups=2, padding=1), (3, 2, 4), padding=((1, 1), (1, 1)), groups=2),
    _conv("depthwise", lambda: nn.Conv2d(3, (3, 2), groups=3), (4, 3, 3), groups=3),
    _conv(
        "depthwise, two outputs for each channel",
        lambda: nn.Conv2d(6, 2, 2, groups=3, bias=False),
        (4, 4, 3),
        stride=(2, 2),
        groups=3,
    ),
    LayerCase(
        "Conv2d",
        "several blocks",
        lambda: nn.Conv2d(8, 5, padding="same"),
        (12, 12, 24),
        None,
        lambda torch, x, p: _torch_conv2d(torch, x, p["W"], p["b"], padding=((2, 2), (2, 2))),
        (8,),
    ),
    _conv1d("3", lambda: nn.Conv1d(3, 3), (6, 2)),
    _conv1d(
        "stride, padding, dilation",
        lambda: nn.Conv1d(2, (2,), 2, 1, 2),
        (5, 3),
        stride=(2, 1),
        padding=((1, 1), (0, 0)),
        dilation=(2, 1),
    ),
    _conv1d(
        "same, groups, no bias",
        lambda: nn.Conv1d(4, 4, padding="same", groups=2, bias=False),
        (4, 2),
        padding=((1, 2), (0, 0)),
        groups=2,
    ),
    _transposed("3 x 2", lambda: nn.ConvTranspose2d(3, (3, 2)), (2, 3, 2), size=(4, 4)),
    _transposed("stride", lambda: nn.ConvTranspose2d(2, 2, (2, 3)), (2, 3, 2), size=(4, 8), stride=(2, 3)),
    _transposed(
        "padding",
        lambda: nn.ConvTranspose2d(2, (3, 4), 2, 1),
        (3, 2, 1),
        size=(5, 4),
        stride=(2, 2),
        padding=((1, 1), (1, 1)),
    ),
    _transposed(
        "output padding",
        lambda: nn.ConvTranspose2d(2, 3, 2, 1, (1, 0)),
        (2, 3, 2),
        size=(4, 5),
        stride=(2, 2),
        padding=((1, 0), (1, 1)),
    ),
    _transposed(
        "output padding beyond the last window",
        lambda: nn.ConvTranspose2d(2, 2, 3, 0, 1),
        (2, 1, 2),
        size=(6, 3),
        stride=(3, 3),
        padding=((0, -1), (0, -1)),
    ),
    _transposed(
        "same",
        lambda: nn.ConvTranspose2d(2, 4, 2, "same"),
        (2, 3, 2),
        size=(4, 6),
        stride=(2, 2),
        padding=((1, 1), (1, 1)),
    ),
    _transposed(
        "same, kernel smaller than the stride",
        lambda: nn.ConvTranspose2d(2, 1, 2, "same"),
        (2, 3, 2),
        size=(4, 6),
        stride=(2, 2),
        padding=((0, -1), (0, -1)),
    ),
    _transposed(
        "dilation, no bias",
        lambda: nn.ConvTranspose2d(2, 2, dilation=(1, 2), bias=False),
        (2, 3, 2),
        size=(3, 5),
        dilation=(1, 2),
    ),
    _transposed(
        "groups", lambda: nn.ConvTranspose2d(6, 2, 2, groups=2), (2, 2, 4), size=(4, 4), stride=(2, 2), groups=2
    ),
    _transposed(
        "depthwise",
        lambda: nn.ConvTranspose2d(3, 3, padding=1, groups=3),
        (3, 2, 3),
        size=(3, 2),
        padding=((1, 1), (1, 1)),
        groups=3,
    ),
)
