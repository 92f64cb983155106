"""The rows of the pooling layers, and their formulas in plain loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn import Layer
from xpnet.verify.cases.arithmetic import Number, Numbers, plain
from xpnet.verify.rows import LayerCase

Sides = tuple[tuple[int, int], tuple[int, int]]  # rows of padding above and below, columns on the left and right
NO_PADDING: Sides = ((0, 0), (0, 0))


# Formulas: images (N, H, W, C) --------------------------------------------------------------------------------


def pool2d(of: Callable[[list[Number]], Number], x: Numbers, kernel, stride, padding=NO_PADDING) -> Numbers:
    """`of` the numbers of each window that lie in the image, row by row."""
    n_images, height, width, channels = x.shape
    tops = range(-padding[0][0], height + padding[0][1] - kernel[0] + 1, stride[0])
    lefts = range(-padding[1][0], width + padding[1][1] - kernel[1] + 1, stride[1])
    y = np.empty((n_images, len(tops), len(lefts), channels), object)
    for n, i, j, k in np.ndindex(*y.shape):
        rows = _inside(tops[i], kernel[0], height)
        columns = _inside(lefts[j], kernel[1], width)
        y[n, i, j, k] = of([x[n, row, column, k] for row in rows for column in columns])
    return y


def _inside(start: int, length: int, size: int) -> range:
    return range(max(start, 0), min(start + length, size))


def first_largest(numbers: list[Number]) -> Number:
    return max(numbers, key=plain)


def mean_of(n: int) -> Callable[[list[Number]], Number]:
    return lambda numbers: sum(numbers) / float(n)


# Rows ---------------------------------------------------------------------------------------------------------


def _max(what: str, make: Callable[[], Layer], shape: tuple[int, ...], kernel, stride, padding=NO_PADDING) -> LayerCase:
    def torch(torch: Any, x: Any, p: dict[str, Any]) -> Any:
        around = (*padding[1], *padding[0])
        images = torch.nn.functional.pad(x.permute(0, 3, 1, 2), around, value=-float("inf"))
        return torch.nn.functional.max_pool2d(images, kernel, stride).permute(0, 2, 3, 1)

    reference = lambda x, p: pool2d(first_largest, x, kernel, stride, padding)
    return LayerCase("MaxPool2d", what, make, shape, reference, torch, batches=(1, 3))


def _avg(what: str, make: Callable[[], Layer], shape: tuple[int, ...], kernel, stride, padding=NO_PADDING) -> LayerCase:
    def torch(torch: Any, x: Any, p: dict[str, Any]) -> Any:
        images = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (*padding[1], *padding[0]))
        return torch.nn.functional.avg_pool2d(images, kernel, stride).permute(0, 2, 3, 1)

    reference = lambda x, p: pool2d(mean_of(kernel[0] * kernel[1]), x, kernel, stride, padding)
    return LayerCase("AvgPool2d", what, make, shape, reference, torch, batches=(1, 3))


def _in_blocks(case: LayerCase) -> LayerCase:
    """The same on a batch that a CPU takes in several blocks: much for plain loops."""
    return replace(case, reference=None, batches=(7,))


def _global(what: str, shape: tuple[int, ...]) -> LayerCase:
    size = shape[:2]
    reference = lambda x, p: pool2d(mean_of(size[0] * size[1]), x, size, (1, 1))[:, 0, 0]
    torch = lambda torch, x, p: torch.nn.functional.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), 1)[:, :, 0, 0]
    return LayerCase("GlobalAvgPool2d", what, nn.GlobalAvgPool2d, shape, reference, torch)


CASES: tuple[LayerCase, ...] = (
    _max("2 x 2", lambda: nn.MaxPool2d(2), (4, 6, 2), (2, 2), (2, 2)),
    _max("odd sizes", lambda: nn.MaxPool2d(2), (5, 3, 2), (2, 2), (2, 2)),
    _max("windows that overlap", lambda: nn.MaxPool2d((3, 2), 1), (4, 4, 2), (3, 2), (1, 1)),
    _max("gaps between windows", lambda: nn.MaxPool2d((1, 2), (2, 3)), (4, 6, 2), (1, 2), (2, 3)),
    _max("padding", lambda: nn.MaxPool2d(3, 2, (1, 2)), (4, 3, 2), (3, 3), (2, 2), ((1, 1), (2, 2))),
    _max("same", lambda: nn.MaxPool2d((2, 3), (1, 2), "same"), (3, 5, 1), (2, 3), (1, 2), ((0, 1), (1, 1))),
    _max("the whole image", lambda: nn.MaxPool2d((3, 4)), (3, 4, 2), (3, 4), (3, 4)),
    _in_blocks(_max("several blocks", lambda: nn.MaxPool2d(5, 1), (20, 20, 16), (5, 5), (1, 1))),
    _avg("2 x 2", lambda: nn.AvgPool2d(2), (4, 6, 2), (2, 2), (2, 2)),
    _avg("odd sizes", lambda: nn.AvgPool2d((2, 3)), (5, 4, 2), (2, 3), (2, 3)),
    _avg("windows that overlap", lambda: nn.AvgPool2d((3, 2), 1), (4, 4, 2), (3, 2), (1, 1)),
    _avg("gaps between windows", lambda: nn.AvgPool2d((1, 2), (2, 3)), (4, 6, 2), (1, 2), (2, 3)),
    _avg("padding", lambda: nn.AvgPool2d(3, 2, (1, 2)), (4, 3, 2), (3, 3), (2, 2), ((1, 1), (2, 2))),
    _avg("same", lambda: nn.AvgPool2d((2, 3), (1, 2), "same"), (3, 5, 1), (2, 3), (1, 2), ((0, 1), (1, 1))),
    _in_blocks(_avg("several blocks", lambda: nn.AvgPool2d(5, 1), (20, 20, 16), (5, 5), (1, 1))),
    _global("images", (3, 4, 2)),
    _global("one row", (1, 5, 3)),
    _global("one pixel", (1, 1, 2)),
)
