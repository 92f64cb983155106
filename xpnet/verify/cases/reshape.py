"""Layers that change the shape or the order of axes: Flatten, Reshape, Transpose."""

from __future__ import annotations

import numpy as np

from xpnet import nn
from xpnet.verify.cases.arithmetic import Numbers, Parameters, filled
from xpnet.verify.rows import LayerCase

# From the formulas ----------------------------------------------------------------------------------------------


def flatten(x: Numbers, p: Parameters) -> Numbers:
    places = list(np.ndindex(*x.shape[1:]))
    return filled((len(x), len(places)), lambda n, column: x[(n, *places[column])])


def reshape(x: Numbers, shape: tuple[int, ...]) -> Numbers:
    before, after = list(np.ndindex(*x.shape[1:])), list(np.ndindex(*shape))
    return filled((len(x), *shape), lambda n, *at: x[(n, *before[after.index(at)])])


def transpose(x: Numbers, axes: tuple[int, ...]) -> Numbers:
    shape = len(x), *(x.shape[1 + axis] for axis in axes)
    return filled(shape, lambda n, *at: x[(n, *(at[axes.index(axis)] for axis in range(len(axes))))])


# Rows -----------------------------------------------------------------------------------------------------------


def _reshape(what: str, given: tuple[int, ...], asked: tuple[int, ...], shape: tuple[int, ...]) -> LayerCase:
    reference, torch = lambda x, p: reshape(x, shape), lambda t, x, p: x.reshape(len(x), *shape)
    return LayerCase("Reshape", what, lambda: nn.Reshape(*asked), given, reference, torch)


def _transpose(what: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> LayerCase:
    reference, torch = lambda x, p: transpose(x, axes), lambda t, x, p: x.permute(0, *(axis + 1 for axis in axes))
    return LayerCase("Transpose", what, lambda: nn.Transpose(*axes), shape, reference, torch)


CASES: tuple[LayerCase, ...] = (
    LayerCase("Flatten", "images", nn.Flatten, (3, 4, 2), flatten, lambda t, x, p: x.flatten(1)),
    LayerCase("Flatten", "vectors", nn.Flatten, (5,), flatten),
    LayerCase("Flatten", "images in a row", nn.Flatten, (2, 1, 3, 2), flatten, lambda t, x, p: x.flatten(1)),
    _reshape("vectors to images", (12,), (2, 3, 2), (2, 3, 2)),
    _reshape("what is left", (2, 6), (-1, 4), (3, 4)),
    _reshape("to one number", (1, 1), (), ()),
    _transpose("channels last", (2, 3, 4), (1, 2, 0)),
    _transpose("rows and columns", (2, 5), (1, 0)),
    _transpose("nothing to do", (4,), (0,)),
)  # fmt: skip
