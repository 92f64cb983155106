"""The rows of the pooling layers, and their formulas in plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from xpnet import nn
from xpnet.nn import Layer
from xpnet.verify.cases.arithmetic import Number, Numbers, Parameters, Reference, filled, plain
from xpnet.verify.cases.conv import NO_PADDING
from xpnet.verify.rows import LayerCase

# Formulas: images (N, H, W, C) --------------------------------------------------------------------------------


def pool2d(of: Callable[[list[Number]], Number], kernel, stride, padding=NO_PADDING) -> Reference:
    """A reference that applies `of` to the numbers of each window that lie in the image, row by row."""

    def reference(x: Numbers, p: Parameters) -> Numbers:
        n_images, height, width, channels = x.shape
        tops = range(-padding[0], height + padding[1] - kernel[0] + 1, stride[0])
        lefts = range(-padding[2], width + padding[3] - kernel[1] + 1, stride[1])

        def number(n: int, i: int, j: int, k: int) -> Number:
            rows, columns = _inside(tops[i], kernel[0], height), _inside(lefts[j], kernel[1], width)
            return of([x[n, row, column, k] for row in rows for column in columns])

        return filled((n_images, len(tops), len(lefts), channels), number)

    return reference


def _inside(start: int, length: int, size: int) -> range:
    return range(max(start, 0), min(start + length, size))


def first_largest(numbers: list[Number]) -> Number:
    return max(numbers, key=plain)


def mean_of(n: int) -> Callable[[list[Number]], Number]:
    return lambda numbers: sum(numbers) / float(n)


# Rows ---------------------------------------------------------------------------------------------------------


GEOMETRIES: dict[str, tuple] = {  # the layer's arguments, the shape of an image, then the arguments of the formula
    "2 x 2": ((2,), (4, 6, 2), (2, 2), (2, 2)),
    "odd sizes": ((2,), (5, 3, 2), (2, 2), (2, 2)),
    "odd sizes, 2 x 3": (((2, 3),), (5, 4, 2), (2, 3), (2, 3)),
    "windows that overlap": (((3, 2), 1), (4, 4, 2), (3, 2), (1, 1)),
    "gaps between windows": (((1, 2), (2, 3)), (4, 6, 2), (1, 2), (2, 3)),
    "padding": ((3, 2, (1, 2)), (4, 3, 2), (3, 3), (2, 2), (1, 1, 2, 2)),
    "same": (((2, 3), (1, 2), "same"), (3, 5, 1), (2, 3), (1, 2), (0, 1, 1, 1)),
    "the whole image": (((3, 4),), (3, 4, 2), (3, 4), (3, 4)),
}


def _row(
    kind: type[Layer], what: str, arguments: tuple, shape: tuple[int, ...], kernel, stride, padding=NO_PADDING
) -> LayerCase:
    largest = kind is nn.MaxPool2d

    def torch(torch: Any, x: Any, p: Any) -> Any:
        outside, pooled = (-math.inf, "max_pool2d") if largest else (0.0, "avg_pool2d")
        images = torch.nn.functional.pad(x.permute(0, 3, 1, 2), (*padding[2:], *padding[:2]), value=outside)
        return getattr(torch.nn.functional, pooled)(images, kernel, stride).permute(0, 2, 3, 1)

    reference = pool2d(first_largest if largest else mean_of(math.prod(kernel)), kernel, stride, padding)
    return LayerCase(kind.__name__, what, partial(kind, *arguments), shape, reference, torch, (1, 3))


def _several_blocks(kind: type[Layer]) -> LayerCase:
    """A row with a batch that a CPU computes in several blocks: too much for plain loops."""
    return replace(_row(kind, "several blocks", (5, 1), (20, 20, 16), (5, 5), (1, 1)), reference=None, batches=(7,))


def _global(what: str, shape: tuple[int, ...]) -> LayerCase:
    whole = pool2d(mean_of(shape[0] * shape[1]), shape[:2], (1, 1))
    torch = lambda torch, x, p: torch.nn.functional.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), 1)[:, :, 0, 0]
    return LayerCase("GlobalAvgPool2d", what, nn.GlobalAvgPool2d, shape, lambda x, p: whole(x, p)[:, 0, 0], torch)


CASES: tuple[LayerCase, ...] = (
    *(_row(kind, what, *row) for kind in (nn.MaxPool2d, nn.AvgPool2d) for what, row in GEOMETRIES.items()),
    *map(_several_blocks, (nn.MaxPool2d, nn.AvgPool2d)),
    _global("images", (3, 4, 2)),
    _global("one row", (1, 5, 3)),
    _global("one pixel", (1, 1, 2)),
)
