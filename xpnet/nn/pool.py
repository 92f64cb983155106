"""Pooling: each channel of a window of an image (N, H, W, C) becomes one number.

If the windows do not cover the image evenly, the rows left over at the bottom and the columns left over on the right
belong to no window: they do not affect y, and their dx is 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import repeat

from xpnet.backend import Array, Backend
from xpnet.nn.layer import Backward, Layer
from xpnet.nn.shapes import Shape, ShapeError, axis_of_channels
from xpnet.nn.windows import Windows, padding_of, per_axis

__all__ = ["AvgPool2d", "GlobalAvgPool2d", "MaxPool2d"]

MANY_PIXELS = 1000


class _Pool2d(Layer):
    """What max-pooling and average pooling share: the arguments and the windows."""

    def __init__(
        self,
        kernel: int | tuple[int, int],
        stride: int | tuple[int, int] | None = None,
        padding: int | tuple[int, int] | str = "valid",
    ):
        self.kernel = per_axis("kernel", kernel, 2)
        self.stride = self.kernel if stride is None else per_axis("stride", stride, 2)
        self.padding = padding_of(padding, 2)
        self.windows: dict[Shape, Windows] = {}  # by image size, as a layer may be used on several sizes
        if not isinstance(self.padding, str) and any(p >= k for p, k in zip(self.padding, self.kernel, strict=True)):
            raise ValueError(f"padding {padding} must be less than kernel {kernel}: some windows would hold no pixel")

    def build(self, shape: Shape) -> Shape:
        height, width, channels = _image(shape)
        if None in (height, width):
            raise ShapeError(f"needs images of fixed height and width, got shape {shape}")
        size = height, width
        self.windows[size] = Windows.on(size, self.kernel, self.stride, self.padding, (1, 1))
        return (*self.windows[size].output, channels)


class MaxPool2d(_Pool2d):
    """y = the largest x of each window; padding is never the largest.

    x: (N, H, W, C), y: (N, H', W', C), H' = floor((H + 2 p - k) / s) + 1 for padding p, ceil(H / s) for "same".
    `kernel`, `stride` (by default the kernel) and `padding` are as in `Conv2d`; padding is less than the kernel.

    dx = the sum of dy over the windows in which the entry is the largest: of equal ones, the first in row-major order.
    """

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp, windows = backend.xp, self.windows[x.shape[1:3]]
        y = xp.full((x.shape[0], *windows.output, x.shape[-1]), -math.inf, x.dtype)
        for images in windows.blocks(x.shape[0], x.shape[-1], backend):
            largest = y[images]
            for part in windows.parts(x[images], backend, outside=-math.inf):
                xp.maximum(largest, part, out=largest)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            def given(images: slice) -> Iterator[Array]:
                left = dy[images].copy()  # the part of dy that no entry has received yet
                *parts, _ = windows.parts(x[images], backend, outside=math.nan)  # NaN never equals the largest
                for part in parts:
                    taken = (part == y[images]).astype(dy.dtype)
                    taken *= left
                    left -= taken
                    yield taken
                yield left

            dx = xp.empty(x.shape, x.dtype)
            for images in windows.blocks(x.shape[0], x.shape[-1], backend):
                windows.add_up(given(images), dx[images], backend)
            return dx

        return y, backward


class AvgPool2d(_Pool2d):
    """y = the mean of each window, in which padding counts as 0 (as with PyTorch's `count_include_pad=True`).

    x: (N, H, W, C), y: (N, H', W', C); sizes and arguments are those of `MaxPool2d`.

    dx = the sum of dy / (kh kw) over the windows that hold the entry.
    """

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp, shape, n_entries = backend.xp, x.shape, math.prod(self.kernel)
        windows = self.windows[shape[1:3]]
        y = xp.zeros((shape[0], *windows.output, shape[-1]), x.dtype)
        for images in windows.blocks(shape[0], shape[-1], backend):
            total = y[images]
            for part in windows.parts(x[images], backend):
                total += part
            total *= 1 / n_entries

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dx = xp.empty(shape, dy.dtype)
            for images in windows.blocks(shape[0], shape[-1], backend):
                windows.add_up(repeat(dy[images] * (1 / n_entries), n_entries), dx[images], backend)
            return dx

        return y, backward


class GlobalAvgPool2d(Layer):
    """y = the mean of each channel.  x: (N, H, W, C), y: (N, C).  dx = dy / (H W).

    Lin, Chen and Yan, "Network in network" (2014).
    """

    def build(self, shape: Shape) -> Shape:
        return _image(shape)[-1:]

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        shape, n = x.shape, math.prod(x.shape[1:3])
        # A matrix product is faster than `mean`. Many pixels are summed row by row, as one long sum loses digits.
        rows = shape[1] if n > MANY_PIXELS else 1
        parts = x.reshape(shape[0] * rows, n // rows, shape[3])
        sums = backend.full_matmul(backend.ones(parts.shape[1], x.dtype)[None, :], parts)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dx = backend.xp.empty(shape, dy.dtype)
            dx[...] = (dy * (1 / n))[:, None, None]
            return dx

        return sums.reshape(shape[0], rows, shape[3]).sum(axis=1) * (1 / n), backward


def _image(shape: Shape) -> Shape:
    """The shape, after checking that it is the shape of an image."""
    if len(shape) != 3:
        raise ShapeError(f"needs images (height, width, channels), got shape {shape}{axis_of_channels(shape, 2)}")
    return shape
