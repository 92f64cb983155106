"""A network taken apart: every layer with what went into it, and what came back, in a float64 pass of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.nn import Layer, Sequential
from xpnet.verify.passes import Float64, Pass, Subject, in_float32, spread
from xpnet.verify.tolerances import Arrays


@dataclass
class Call:
    """One use of a layer."""

    path: str
    layer: Layer
    x: np.ndarray
    dy: np.ndarray | None = None


def layer_parts(whole: Subject, values: Arrays) -> Iterator[tuple[str, Subject, Arrays]]:
    """(name, subject, values) of every layer by itself, in the order of the forward, from a pass of the whole.

    Layers that only put others in a row have no part of their own; those that do more with them, as `Residual` does,
    come after what they hold. All numbers are rounded to float32.
    """
    one = Pass(whole, values, Float64())
    with recorded(one.model.network) as calls:
        one.run()
    for call in calls:
        if call.dy is None:  # its output was not used
            continue
        own = {"x": call.x, "dy": call.dy} | {key: np.array(p.data) for key, p in call.layer.parameters()}
        subject = Subject(call.layer.copy, call.x.shape[1:], len(call.x), whole.training, spread)
        yield f"{call.path} ({type(call.layer).__name__})".lstrip(), subject, in_float32(own)


@contextmanager
def recorded(network: Layer) -> Iterator[list[Call]]:
    """Inside the block, every use of a layer adds a `Call` to the list once its forward is done."""
    calls: list[Call] = []
    watched = {id(layer): (path, layer) for path, layer in network.walk() if not _only_a_row(layer)}
    for path, layer in watched.values():
        vars(layer)["forward"] = _recording(path, layer, calls)
    try:
        yield calls
    finally:
        for _, layer in watched.values():
            del vars(layer)["forward"]


def _only_a_row(layer: Layer) -> bool:
    return type(layer).forward is Sequential.forward


def _recording(path: str, layer: Layer, calls: list[Call]) -> Callable:
    plain = layer.forward

    def forward(x: Array, backend: Any) -> tuple[Array, Callable]:
        y, plain_backward = plain(x, backend)
        call = Call(path, layer, np.array(x))
        calls.append(call)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            call.dy = np.array(dy)
            return plain_backward(dy, need_dx)

        return y, backward

    return forward
