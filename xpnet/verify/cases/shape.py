"""Reshape, Transpose, Embedding and layers side by side: what each must compute, and the rows of the table of cases."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.verify.cases.activation import relu
from xpnet.verify.cases.arithmetic import Numbers, each, plain, tanh
from xpnet.verify.cases.compose import residual
from xpnet.verify.cases.linear import linear
from xpnet.verify.passes import Draw
from xpnet.verify.rows import LayerCase

# From the formulas ----------------------------------------------------------------------------------------------


def reshape(x: Numbers, shape: tuple[int, ...]) -> Numbers:
    y = np.empty((len(x), *shape), object)
    for n in range(len(x)):
        numbers = (x[(n, *at)] for at in np.ndindex(*x.shape[1:]))
        for at in np.ndindex(*shape):
            y[(n, *at)] = next(numbers)
    return y


def transpose(x: Numbers, axes: tuple[int, ...]) -> Numbers:
    y = np.empty((len(x), *(x.shape[1 + axis] for axis in axes)), object)
    for n, *at in np.ndindex(*y.shape):
        place = [n] + [0] * len(axes)
        for i, axis in zip(at, axes, strict=True):
            place[1 + axis] = i
        y[(n, *at)] = x[tuple(place)]
    return y


def embedding(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    W = p["W"]
    y = np.empty((*x.shape, W.shape[1]), object)
    for at in np.ndindex(*x.shape):
        for j in range(W.shape[1]):
            y[(*at, j)] = W[int(plain(x[at])), j]
    return y


def joined(parts: list[Numbers], axis: int) -> Numbers:
    """The parts one after the other along this axis of the whole arrays."""
    ends = [sum(part.shape[axis] for part in parts[: i + 1]) for i in range(len(parts))]
    y = np.empty((*parts[0].shape[:axis], ends[-1], *parts[0].shape[axis + 1 :]), object)
    for at in np.ndindex(*y.shape):
        which = next(i for i, end in enumerate(ends) if at[axis] < end)
        start = ends[which] - parts[which].shape[axis]
        y[at] = parts[which][(*at[:axis], at[axis] - start, *at[axis + 1 :])]
    return y


def _inception(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    second = each(tanh, linear(x, p["branches.1.layers.0.W"], p["branches.1.layers.0.b"]))
    return joined([linear(x, p["branches.0.W"], p["branches.0.b"]), second, x], x.ndim - 1)


def _projection(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    hidden = each(relu, linear(x, p["layers.0.W"], p["layers.0.b"]))
    inner = linear(hidden, p["layers.2.W"], p["layers.2.b"])
    return residual(linear(x, p["shortcut.W"]), inner)


def _two_tables(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    tables = [embedding(x, {"W": p[f"branches.{i}.W"]}) for i in range(2)]
    return joined(tables, x.ndim)


# Rows -----------------------------------------------------------------------------------------------------------


def few(n: int) -> Draw:
    """Four of the numbers 0 to n - 1, among them the first and the last, again and again."""
    return lambda rng, shape: rng.integers(0, 4, shape) * (n - 1) // 3


def _torch_embedding(torch: Any, x: Any, p: dict[str, Any]) -> Any:
    return torch.nn.functional.embedding(x.long(), p["W"])


def _embedding(what: str, n: int, shape: tuple[int, ...], kind: str = "int64") -> LayerCase:
    draw = few(n)
    return LayerCase(
        "Embedding",
        what,
        lambda: nn.Embedding(n, 3),
        shape,
        embedding,
        _torch_embedding,
        draw=lambda rng, s: draw(rng, s).astype(kind),
    )


def _reshape(what: str, given: tuple[int, ...], asked: tuple[int, ...], shape: tuple[int, ...]) -> LayerCase:
    return LayerCase(
        "Reshape",
        what,
        lambda: nn.Reshape(*asked),
        given,
        partial(lambda x, p, shape: reshape(x, shape), shape=shape),
        lambda t, x, p: x.reshape(len(x), *shape),
    )


def _transpose(what: str, shape: tuple[int, ...], axes: tuple[int, ...]) -> LayerCase:
    return LayerCase(
        "Transpose",
        what,
        lambda: nn.Transpose(*axes),
        shape,
        lambda x, p: transpose(x, axes),
        lambda t, x, p: x.permute(0, *(axis + 1 for axis in axes)),
    )


CASES: tuple[LayerCase, ...] = (
    _reshape("vectors to images", (12,), (2, 3, 2), (2, 3, 2)),
    _reshape("what is left", (2, 6), (-1, 4), (3, 4)),
    _reshape("to one number", (1, 1), (), ()),
    _transpose("channels last", (2, 3, 4), (1, 2, 0)),
    _transpose("rows and columns", (2, 5), (1, 0)),
    _transpose("nothing to do", (4,), (0,)),
    LayerCase(
        "Parallel",
        "three branches",
        lambda: nn.Parallel(nn.Linear(3), nn.Sequential(nn.Linear(2), nn.Tanh()), nn.Sequential()),
        (4,),
        _inception,
    ),
    LayerCase(
        "Parallel",
        "of sequences",
        lambda: nn.Parallel(nn.Linear(3), nn.Sequential(nn.Linear(2), nn.Tanh()), nn.Sequential()),
        (3, 4),
        _inception,
    ),
    LayerCase(
        "Parallel",
        "along the first axis",
        lambda: nn.Parallel(nn.Tanh(), nn.ReLU(), axis=0),
        (2, 3),
        lambda x, p: joined([each(tanh, x), each(relu, x)], 1),
        lambda t, x, p: t.cat([t.tanh(x), t.relu(x)], 1),
    ),
    LayerCase(
        "Parallel",
        "ten branches",
        lambda: nn.Parallel(*(nn.Tanh() for _ in range(10))),
        (2,),
        lambda x, p: joined([each(tanh, x)] * 10, 1),
    ),
    LayerCase(
        "Parallel",
        "of whole numbers",
        lambda: nn.Parallel(nn.Embedding(5, 2), nn.Embedding(5, 3)),
        (4,),
        _two_tables,
        draw=few(5),
    ),
    LayerCase(
        "Residual",
        "with a projection",
        lambda: nn.Residual(nn.Linear(5), nn.ReLU(), nn.Linear(3), shortcut=nn.Linear(3, bias=False)),
        (4,),
        _projection,
    ),
    LayerCase(
        "Residual",
        "a shortcut without parameters",
        lambda: nn.Residual(nn.Linear(6), shortcut=nn.Flatten()),
        (6,),
        lambda x, p: residual(x, linear(x, p["layers.0.W"], p["layers.0.b"])),
    ),
    _embedding("words", 10, (6,)),
    _embedding("one word", 7, ()),
    _embedding("bytes in rows", 200, (2, 5), "uint8"),
    _embedding("a large table", 700, (9,)),
    _embedding("a large table, rows", 1000, (4, 5), "uint16"),
)
