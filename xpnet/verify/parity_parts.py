"""A network taken apart: every layer with the inputs and gradients that it got in a float64 pass of the whole."""

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
    """One call of a layer."""

    layer: Layer
    x: Any
    y: Any
    dy: Any = None


class CallObserver(Observer):
    """Records every call of a layer, in the order of the forward, except those of layers that only chain others."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._open: dict[int, list[Call]] = {}  # by layer: calls whose backward is still to come, popped from the end

    def forward(self, layer: Layer, x: Any, y: Any) -> None:
        call = Call(layer, each(np.array, x), each(np.array, y))
        self._open.setdefault(id(layer), []).append(call)
        if type(layer).forward is not Sequential.forward:
            self.calls.append(call)

    def backward_begins(self, layer: Layer, dy: Any) -> None:
        call = self._open[id(layer)].pop()
        if isinstance(dy, tuple):  # an output that was not used has no gradient
            dy = tuple(np.zeros_like(y) if d is None else d for d, y in zip(dy, call.y, strict=True))
        call.dy = each(np.array, dy)


def layer_parts(whole: Subject, values: Arrays) -> Iterator[tuple[str, Subject, Arrays]]:
    """(name, subject, values) of every single layer, in the order of the forward, from a pass of the whole network.

    Layers that only chain others, as `Sequential` does, have no part of their own. Those that do more, such as
    `Residual`, come after the layers inside them. All numbers are rounded to float32.
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
