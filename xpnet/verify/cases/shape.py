"""Reshape, Transpose, Embedding and layers side by side: what each must compute, and the rows of the table of cases."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet import nn
from xpnet.verify.cases.activation import relu
from xpnet.verify.cases.arithmetic import Numbers, Parameters, each, filled, parallel, plain, residual, sequential, tanh
from xpnet.verify.cases.linear import flatten, linear
from xpnet.verify.passes import Draw
from xpnet.verify.rows import LayerCase

# From the formulas ----------------------------------------------------------------------------------------------


def reshape(x: Numbers, shape: tuple[int, ...]) -> Numbers:
    before, after = list(np.ndindex(*x.shape[1:])), list(np.ndindex(*shape))
    return filled((len(x), *shape), lambda n, *at: x[(n, *before[after.index(at)])])


def transpose(x: Numbers, axes: tuple[int, ...]) -> Numbers:
    shape = len(x), *(x.shape[1 + axis] for axis in axes)
    return filled(shape, lambda n, *at: x[(n, *(at[axes.index(axis)] for axis in range(len(axes))))])


def embedding(x: Numbers, p: Parameters) -> Numbers:
    W = p["W"]
    return filled((*x.shape, W.shape[1]), lambda *at: W[int(plain(x[at[:-1]])), at[-1]])


# Rows -----------------------------------------------------------------------------------------------------------


def few(n: int) -> Draw:
    """Four of the numbers 0 to n - 1, among them the first and the last, again and again."""
    return lambda rng, shape: rng.integers(0, 4, shape) * (n - 1) // 3


def _torch_embedding(torch: Any, x: Any, p: dict[str, Any]) -> Any:
    return torch.nn.functional.embedding(x.long(), p["W"])


def _embedding(what: str, n: int, shape: tuple[int, ...], kind: str = "int64") -> LayerCase:
    draw = lambda rng, shape: few(n)(rng, shape).astype(kind)
    return LayerCase("Embedding", what, lambda: nn.Embedding(n, 3), shape, embedding, _torch_embedding, draw=draw)


def _reshape(what: str, given: tuple[int, ...], asked: tuple[int, ...], shape: tuple[int, ...]) -> LayerCase:
    reference, torch = lambda x, p: reshape(x, shape), lambda t, x, p: x.reshape(len(x), *shape)
    return LayerCase("Reshape", what, lambda: nn.Reshape(*asked), given, reference, torch)


def _transpose(what: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> LayerCase:
    reference, torch = lambda x, p: transpose(x, axes), lambda t, x, p: x.permute(0, *(axis + 1 for axis in axes))
    return LayerCase("Transpose", what, lambda: nn.Transpose(*axes), shape, reference, torch)


def _parallel(what: str, shape: tuple[int, ...]) -> LayerCase:
    make = lambda: nn.Parallel(nn.Linear(3), nn.Sequential(nn.Linear(2), nn.Tanh()), nn.Sequential())
    return LayerCase("Parallel", what, make, shape, parallel(linear, sequential(linear, each(tanh)), sequential()))


CASES: tuple[LayerCase, ...] = (
    _reshape("vectors to images", (12,), (2, 3, 2), (2, 3, 2)),
    _reshape("what is left", (2, 6), (-1, 4), (3, 4)),
    _reshape("to one number", (1, 1), (), ()),
    _transpose("channels last", (2, 3, 4), (1, 2, 0)),
    _transpose("rows and columns", (2, 5), (1, 0)),
    _transpose("nothing to do", (4,), (0,)),
    _parallel("three branches", (4,)),
    _parallel("of sequences", (3, 4)),
    LayerCase(
        "Parallel", "along the first axis", lambda: nn.Parallel(nn.Tanh(), nn.ReLU(), axis=0), (2, 3),
        parallel(each(tanh), each(relu), axis=0), lambda t, x, p: t.cat([t.tanh(x), t.relu(x)], 1),
    ),
    LayerCase(
        "Parallel", "ten branches", lambda: nn.Parallel(*(nn.Tanh() for _ in range(10))), (2,),
        parallel(*[each(tanh)] * 10),
    ),
    LayerCase(
        "Parallel", "of whole numbers", lambda: nn.Parallel(nn.Embedding(5, 2), nn.Embedding(5, 3)), (4,),
        parallel(embedding, embedding), draw=few(5),
    ),
    LayerCase(
        "Residual", "with a projection",
        lambda: nn.Residual(nn.Linear(5), nn.ReLU(), nn.Linear(3), shortcut=nn.Linear(3, bias=False)), (4,),
        residual(linear, each(relu), linear, shortcut=linear),
    ),
    LayerCase(
        "Residual", "a shortcut without parameters", lambda: nn.Residual(nn.Linear(6), shortcut=nn.Flatten()), (6,),
        residual(linear, shortcut=flatten),
    ),
    _embedding("words", 10, (6,)),
    _embedding("one word", 7, ()),
    _embedding("bytes in rows", 200, (2, 5), "uint8"),
    _embedding("a large table", 700, (9,)),
    _embedding("a large table, rows", 1000, (4, 5), "uint16"),
)  # fmt: skip
