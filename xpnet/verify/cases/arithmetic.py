"""Arithmetic for references: on floats, or on `xpnet.scalar.Value`s, and then the gradients come out too.

A reference computes what a layer, loss, optimizer or schedule must, one number at a time, written from the formula. It
shares nothing with the code that it is a witness of. Arrays are only containers.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Number = Any  # a float, or a `Value`
Numbers = np.ndarray  # of floats, or of dtype object with `Value`s


def exp(v: Number) -> Number:
    return math.exp(v) if isinstance(v, float) else v.exp()


def log(v: Number) -> Number:
    return math.log(v) if isinstance(v, float) else v.log()


def tanh(v: Number) -> Number:
    return math.tanh(v) if isinstance(v, float) else v.tanh()


def plain(v: Number) -> float:
    return v if isinstance(v, float) else v.data


def each(function: Callable[[Number], Number], x: Numbers) -> Numbers:
    """`function` of every number."""
    y = np.empty(x.shape, object)
    for at in np.ndindex(*x.shape):
        y[at] = function(x[at])
    return y
