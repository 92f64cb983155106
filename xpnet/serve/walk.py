"""One image through the network to the loss and back, and what each layer computes on the way.

The numbers come from the layers' own passes: an `Observer` keeps the input and the output of each.
"""

from __future__ import annotations

import inspect
import math
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.backend import Array, Observer
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.nn import Flatten, Layer, Model, MultiHeadAttention, Parallel, Reshape, Residual, Standardize
from xpnet.nn.ending import LEAST, as_probabilities, gives_probabilities
from xpnet.nn.shapes import Shape
from xpnet.serve import maps
from xpnet.serve.maps import rounded
from xpnet.serve.reader import QuestionError, Reader

STATIONS = 400  # more layers than that cannot be drawn
PREVIEW_SIDE = 14  # cells
PREVIEW_CELLS = 20_000  # of all stations together
IMAGE = -1  # in place of the number of a station


@dataclass
class _UnderWay:
    """A layer that has begun. `first`: the number of the first station inside it; `single`: whether it is one."""

    first: int
    single: bool = False


@dataclass
class Station:
    """One use of a layer: y = layer(x). `parts`: the arrays that y is made of, x or the outputs of several layers
    inside; `sources`: the numbers of the stations that these come from; `dy`: the loss's gradient with respect to y."""

    path: str
    layer: Layer
    x: Any
    y: Any
    parts: list[Any]
    sources: list[int]
    dy: Any = None


class Recorder(Observer):
    """Records the stations of a pass, in order: each layer that holds no others, and each that makes a new array of the
    outputs of the layers inside it, as `Residual` and `Parallel` do.

    A layer that computes something between the layers inside it, as attention does, is a single station: the inputs of
    those layers are the outputs of no station.
    """

    def __init__(self, model: Model):
        self.stations: list[Station] = []
        self._paths = {layer: path for path, layer in reversed(list(model.network.walk()))}
        self._around = {way: layer for layer in self._paths for way in ways(layer)}
        self._under_way: list[_UnderWay] = []  # the layers that have begun, outermost first
        self._made: dict[int, int] = {}  # the number of the station that made an array, by the array's id
        self._given: dict[Layer | None, tuple[Any, int]] = {}  # a layer's input, and the station that made it
        self._outputs: dict[Layer, tuple[Any, int]] = {}  # a layer's output, and the station that made it
        self._uses: defaultdict[Layer, list[Station | None]] = defaultdict(list)

    def forward_begins(self, layer: Layer, x: Any) -> None:
        if not self._made:
            self._made[id(x)] = IMAGE
        around = self._given.get(self._around.get(layer))
        if around and around[0] is x:  # a previous branch that returned its input was noted as its maker
            self._made[id(x)] = around[1]
        if id(x) not in self._made:
            self._under_way[-1].single = True
        self._under_way.append(_UnderWay(len(self.stations)))
        self._given[layer] = x, self._made.get(id(x), len(self.stations) - 1)

    def forward(self, layer: Layer, x: Any, y: Any) -> None:
        station, ended = None, self._under_way.pop()
        if ended.single or (id(y) not in self._made and not puts_together(layer)):
            del self.stations[ended.first :]
            self._made = {made: number for made, number in self._made.items() if number < ended.first}
        if not any(layer.children()) or id(y) not in self._made:
            parts = [self._outputs[end] if end else self._given[layer] for end in ends(layer)] or [self._given[layer]]
            station = Station(self._paths[layer], layer, x, y, *(list(of) for of in zip(*parts, strict=True)))
            self._made[id(y)] = len(self.stations)
            self.stations.append(station)
        self._outputs[layer] = y, self._made[id(y)]
        self._uses[layer].append(station)

    def backward_begins(self, layer: Layer, dy: Any) -> None:
        station = self._uses[layer].pop()  # backward comes to the last use first
        if station is not None:
            station.dy = dy


def ways(layer: Layer) -> list[Layer]:
    """The first layer of each branch, for a layer that sends its input through branches and combines their outputs."""
    if isinstance(layer, Residual):
        return [*layer.layers[:1], *([layer.shortcut] if layer.shortcut else [])]
    return layer.branches if isinstance(layer, Parallel) else []


def ends(layer: Layer) -> list[Layer] | list[Layer | None]:
    """The last layer of each of these branches; None for a branch without layers, which gives the layer's own input."""
    if isinstance(layer, Residual) and layer.layers:
        return [layer.layers[-1], layer.shortcut]
    return layer.branches if isinstance(layer, Parallel) else []


def puts_together(layer: Layer) -> bool:
    """Whether each number of its output is the output of one of its branches, or the sum of two."""
    return bool(ends(layer))


class Walk:
    """A finished pass. Its arrays belong to the model: use it only inside `walked`."""

    def __init__(self, model: Model, stations: list[Station], image: Shape, loss: float, gradient: NDArray):
        self.model, self.stations, self.image = model, stations, image
        self.loss, self.gradient = loss, gradient

    def host(self, array: Any) -> NDArray:
        """A layer's output for the one sample, on the host; of several arrays, the first."""
        return self.model.backend.to_host(array[0] if isinstance(array, tuple) else array)[0]

    def gradient_of(self, station: Station) -> NDArray:
        """The gradient of the loss with respect to a station's output; zeros if no layer used the output."""
        return np.zeros_like(self.host(station.y)) if station.dy is None else self.host(station.dy)

    def shape_from(self, number: int) -> Shape:
        """The shape in which to show a station's output: the image's if its pixels were only put in a row."""
        if number == IMAGE:
            return self.image
        station = self.stations[number]
        if isinstance(station.layer, (Flatten, Reshape, Standardize)) and station.y.ndim == 2:
            return self.shape_from(station.sources[0])
        return tuple(station.y.shape[1:]) if not isinstance(station.y, tuple) else tuple(station.y[0].shape[1:])

    def station(self, number: int) -> Station:
        if not 0 <= number < len(self.stations):
            raise QuestionError(f"layer must be a number from 0 to {len(self.stations) - 1}, not {number}")
        return self.stations[number]

    def parameters(self, station: Station) -> list[dict[str, Any]]:
        """The station's parameters, with the root mean square of each and of its gradient."""
        layer = station.layer
        own = () if puts_together(layer) else layer.parameters()  # those of its branches belong to other stations
        to_host = self.model.backend.to_host
        return [
            {
                "name": name,
                "shape": list(p.shape),
                "rms": rms(to_host(p.data)),
                "gradient_rms": rms(to_host(p.grad)) if p.trained else None,
            }
            for name, p in own
        ]


@contextmanager
def walked(reader: Reader, rows: list[list[int]], target: int | None) -> Iterator[Walk]:
    """Pass the image through the model, and back from the loss of class `target` (without one: the likeliest class).

    The model, and the gradients of its parameters, are reserved for the caller until the block ends. Raises
    `QuestionError` for an image or a class that does not fit, and for a network of more than STATIONS layers.
    """
    pixels = reader.checked(rows, target)
    model, backend, recorder = reader.model, reader.model.backend, Recorder(reader.model)
    with reader.images.lock, backend.mode(training=False):
        try:
            with backend.observed_by(recorder):
                outputs, backward = model.forward(backend.asarray(reader.images.inputs(pixels)))
                if len(recorder.stations) > STATIONS:
                    most = f"the page walks through at most {STATIONS}"
                    raise QuestionError(f"this network has {len(recorder.stations)} layers: {most}")
                chosen = int(backend.to_host(outputs)[0].argmax()) if target is None else target
                loss, dy = cross_entropy(model, outputs, chosen)
                dx = backward(dy)
            gradient = reader.images.ink * backend.to_host(dx)[0].reshape(reader.size)
            yield Walk(model, recorder.stations, reader.size, loss, gradient)
        finally:
            model.zero_grad()  # backward has added to the gradients


def cross_entropy(model: Model, outputs: Array, target: int) -> tuple[float, Array]:
    """-log p of class `target`, and its gradient with respect to the outputs (1, C). If the outputs are the
    probabilities p themselves, the gradient is -1 / p for the target, and 0 for the others."""
    backend = model.backend
    if not gives_probabilities(model.network):
        loss, dy = SoftmaxCrossEntropy()(outputs, backend.asarray(np.array([target])), backend)
        return float(backend.to_host(loss)), dy
    p = np.maximum(backend.to_host(outputs), LEAST)
    return -math.log(p[0, target]), backend.asarray(-np.eye(p.shape[1])[[target]] / p)


def overview(reader: Reader, rows: list[list[int]], target: int | None = None) -> dict[str, Any]:
    """The whole pass, with a small preview of each station."""
    with walked(reader, rows, target) as walk:
        outputs = walk.host(walk.stations[-1].y)
        many = max(min(PREVIEW_CELLS // (len(walk.stations) * PREVIEW_SIDE**2), 3), 1)
        return {
            "answer": int(outputs.argmax()),
            "target": int(outputs.argmax()) if target is None else target,
            "loss": rounded(walk.loss),
            "outputs": rounded(outputs),
            "probabilities": rounded(as_probabilities(walk.model.network, outputs[None])[0]),
            "gradient": maps.shown(255 * walk.gradient),
            "stations": [_in_small(walk, station, many) for station in walk.stations],
        }


def _in_small(walk: Walk, station: Station, many: int) -> dict[str, Any]:
    values, gradient = walk.host(station.y), walk.gradient_of(station)
    return {
        "path": station.path,
        "kind": type(station.layer).__name__,
        "layer": repr(station.layer),
        "formula": formula(station.layer),
        "sources": station.sources,
        "shape": list(values.shape),
        "rms": rms(values),
        "gradient_rms": rms(gradient),
        "parameters": walk.parameters(station),
        "preview": maps.preview(values, many, PREVIEW_SIDE),
        "gradient_preview": maps.preview(gradient, many, PREVIEW_SIDE),
    }


def formula(layer: Layer) -> str:
    """The formula at the beginning of the layer's docstring, up to the shapes, which follow after two spaces. (After a
    comma, two spaces come before another equation, which is included.)"""
    first = (inspect.getdoc(type(layer)) or "").partition("\n\n")[0].replace("\n", " ")
    return re.split(r"(?<!,)  ", first)[0]


def at_layer(reader: Reader, rows: list[list[int]], number: int, target: int | None = None) -> dict[str, Any]:
    """The output of one station, and the gradient of the loss with respect to it."""
    with walked(reader, rows, target) as walk:
        station, shape = walk.station(number), walk.shape_from(number)
        return {
            "values": maps.shown(walk.host(station.y).reshape(shape)),
            "gradient": maps.shown(walk.gradient_of(station).reshape(shape)),
            "attention": _attention(walk, station),
        }


def _attention(walk: Walk, station: Station) -> dict[str, Any] | None:
    """For attention of an array to itself, a map for each head: row t holds the weights with which t reads."""
    if not isinstance(station.layer, MultiHeadAttention) or isinstance(station.x, tuple):
        return None
    return maps.shown_maps(walk.host(station.layer.weights(station.x, walk.model.backend)))


def rms(values: Array) -> float:
    """The root of the mean square, as in `train.LayerSizes`."""
    return rounded(math.sqrt(float(np.mean(np.square(values, dtype=np.float64)))) if values.size else 0.0)
