"""A network taken apart: every layer with what went into it, and what came back, in a float64 pass of the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backend import Observer
from xpnet.nn import Layer, Sequential
from xpnet.nn.shapes import each, in_tuple, shape_of
from xpnet.verify.passes import Float64, Pass, Subject, in_float32, named, spread
from xpnet.verify.tolerances import Arrays


@dataclass
class Call:
    """One use of a layer."""

    layer: Layer
    x: Any
    y: Any
    dy: Any = None


class CallObserver(Observer):
    """Writes down every use of a layer, in the order of the forward, but of those that only put others in a row."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._open: dict[int, list[Call]] = {}  # uses of each layer whose backward is still to come, the last one first

    def forward(self, layer: Layer, x: Any, y: Any) -> None:
        call = Call(layer, each(np.array, x), each(np.array, y))
        self._open.setdefault(id(layer), []).append(call)
        if type(layer).forward is not Sequential.forward:
            self.calls.append(call)

    def backward_begins(self, layer: Layer, dy: Any) -> None:
        call = self._open[id(layer)].pop()
        if isinstance(dy, tuple):  # of an output that nobody used there is no gradient
            dy = tuple(np.zeros_like(y) if d is None else d for d, y in zip(dy, call.y, strict=True))
        call.dy = each(np.array, dy)


def layer_parts(whole: Subject, values: Arrays) -> Iterator[tuple[str, Subject, Arrays]]:
    """(name, subject, values) of every layer by itself, in the order of the forward, from a pass of the whole.

    Layers that only put others in a row have no part of their own; those that do more with them, as `Residual` does,
    come after what they hold. All numbers are rounded to float32.
    """
    backend, observer = Float64(), CallObserver()
    one = Pass(whole, values, backend)
    with backend.observed_by(observer):
        one.run()
    paths = {id(layer): path for path, layer in one.model.network.walk()}
    for call in observer.calls:
        if call.dy is None:  # its output was not used
            continue
        own = named("x", call.x) | named("dy", call.dy)
        own |= {key: values[p.name] for key, p in call.layer.parameters()}
        subject = Subject(call.layer.copy, shape_of(call.x), len(in_tuple(call.x)[0]), whole.training, spread)
        yield f"{paths[id(call.layer)]} ({type(call.layer).__name__})".lstrip(), subject, in_float32(own)
