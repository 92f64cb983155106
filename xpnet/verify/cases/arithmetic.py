"""The building blocks of references: arithmetic on floats, or on `xpnet.scalar.Value`s, which also give gradients.

A reference computes from the formula, one number at a time, what a layer, loss or optimizer must compute. It shares no
code with what it checks. Arrays are only containers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Number = Any  # a float, or a `Value`
Numbers = np.ndarray  # of floats, or of dtype object with `Value`s
Parameters = dict[str, Numbers]
Reference = Callable[[Any, Parameters], Any]  # y from x (a tuple for several inputs) and the parameters by name


def exp(v: Number) -> Number:
    return math.exp(v) if isinstance(v, float) else v.exp()


def log(v: Number) -> Number:
    return math.log(v) if isinstance(v, float) else v.log()


def tanh(v: Number) -> Number:
    return math.tanh(v) if isinstance(v, float) else v.tanh()


def plain(v: Number) -> float:
    return v if isinstance(v, float) else v.data


def filled(shape: tuple[int, ...], number: Callable[..., Number]) -> Numbers:
    """The array whose entry at (i, j, ...) is `number(i, j, ...)`."""
    y = np.empty(shape, object)
    for at in np.ndindex(*shape):
        y[at] = number(*at)
    return y


def each(function: Callable[[Number], Number]) -> Reference:
    """A reference that applies `function` to every number."""
    return lambda x, p: filled(x.shape, lambda *at: function(x[at]))


def each_row(function: Callable[[Numbers], Any]) -> Reference:
    """A reference that applies `function`, from vectors to vectors, along the last axis."""

    def reference(x: Numbers, p: Parameters) -> Numbers:
        y = np.empty(x.shape, object)
        for row in np.ndindex(*x.shape[:-1]):
            y[row] = function(x[row])
        return y

    return reference


def inside(p: Parameters, path: str) -> Parameters:
    """The parameters of the inner layer at `path`, under the layer's own names."""
    return {name.removeprefix(f"{path}."): values for name, values in p.items() if name.startswith(f"{path}.")}


def sequential(*references: Reference) -> Reference:
    """The references one after the other, as `nn.Sequential`."""

    def reference(x: Any, p: Parameters) -> Any:
        for i, layer in enumerate(references):
            x = layer(x, inside(p, f"layers.{i}"))
        return x

    return reference


def residual(*references: Reference, shortcut: Reference | None = None) -> Reference:
    """x, or the shortcut's output for x, plus the output of the references one after the other."""

    def reference(x: Numbers, p: Parameters) -> Numbers:
        inner, outer = sequential(*references)(x, p), shortcut(x, inside(p, "shortcut")) if shortcut else x
        return filled(outer.shape, lambda *at: outer[at] + inner[at])

    return reference


def parallel(*branches: Reference, axis: int = -1) -> Reference:
    """The branches' outputs for x, joined along this axis of a sample; axis -1 is the last."""

    def reference(x: Numbers, p: Parameters) -> Numbers:
        parts = [branch(x, inside(p, f"branches.{i}")) for i, branch in enumerate(branches)]
        along = axis + 1 if axis >= 0 else parts[0].ndim - 1
        places = [(part, i) for part in parts for i in range(part.shape[along])]

        def number(*at: int) -> Number:
            part, i = places[at[along]]
            return part[(*at[:along], i, *at[along + 1 :])]

        return filled((*parts[0].shape[:along], len(places), *parts[0].shape[along + 1 :]), number)

    return reference
