"""One number of a layer's output, worked out as a sum, and its gradient, worked out as another sum.

Forward, y = bias + the sum of weight x input. The weights come from the layer's own backward: for dy = 1 at this
output and 0 at all others, dx is how much each input counts. The bias is the layer's own output for an input of zeros.

Backward, dL/dy = the sum of weight x dL/dz over all numbers z that are computed from y. The weight is how much z
changes with y, from the layers' own forwards before and after y is moved.

For a layer that is a weighted sum (a convolution, Linear, BatchNorm, pooling, ReLU with its slopes of 0 and 1) both
sums give the number; whether they do is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.nn import Conv2d, ConvTranspose2d, Linear, Parallel
from xpnet.nn.shapes import Shape, size_of
from xpnet.serve import maps
from xpnet.serve.maps import place, rounded
from xpnet.serve.reader import QuestionError, Reader
from xpnet.serve.walk import Station, Walk, puts_together, walked

TERMS = 12  # of a sum, the largest are shown
EXACT = 1e-4  # fraction of the sum of all absolute values: what float32 may have lost


@dataclass
class Terms:
    """numbers * weights, the products of a sum. `layer`: the station whose numbers these are; `shape`: their shape."""

    layer: int
    shape: Shape
    numbers: NDArray
    weights: NDArray


def at_unit(
    reader: Reader, rows: list[list[int]], number: int, unit: list[int], target: int | None = None
) -> dict[str, Any]:
    """How one number of station `number`, and its gradient, come about; `unit`: its [map, row, column] in the output as
    `maps.arranged`.

    Raises `QuestionError` if there is no such station or unit, and for a layer of several inputs or outputs.
    """
    with walked(reader, rows, target) as walk:
        station, shape = walk.station(number), walk.shape_from(number)
        if isinstance(station.x, tuple) or isinstance(station.y, tuple):
            raise QuestionError("this layer takes or gives several arrays at once: it is not worked out in numbers")
        at = maps.flat(unit, shape)
        if at is None:
            most = " x ".join(map(str, maps.arranged(np.empty(shape)).shape))
            raise QuestionError(f"unit must be a map, a row and a column, counted from 0, of {most}; not {unit}")
        x, y = walk.host(station.x).ravel(), float(walk.host(station.y).ravel()[at])
        gradient = float(walk.gradient_of(station).ravel()[at])
        terms, bias = _forward(walk, station, at)
        return {
            "value": rounded(y),
            "gradient": rounded(gradient),
            "before": rounded(x[at]) if x.size == station.y.size else None,
            "forward": _sum(terms, bias, y),
            "backward": _sum(_backward(walk, number, at), 0.0, gradient),
            "inputs": None if puts_together(station.layer) else _window(terms[0]),
            **_weights(walk, station, at),
        }


def _sum(parts: list[Terms], bias: float, total: float) -> dict[str, Any]:
    """The largest of all terms, and the sum of the others."""
    numbers = np.concatenate([[], *(part.numbers for part in parts)])
    weights = np.concatenate([[], *(part.weights for part in parts)])
    products = numbers * weights
    counted = np.flatnonzero(weights)
    largest = counted[np.argsort(-np.abs(products[counted]), kind="stable")[:TERMS]]
    exact = abs(bias + products.sum() - total) <= EXACT * (np.abs(products).sum() + abs(bias)) + 1e-7 * abs(total)
    terms = [
        {
            **_whose(parts, int(i)),
            "number": rounded(numbers[i]),
            "weight": rounded(weights[i]),
            "product": rounded(products[i]),
        }
        for i in largest
    ]
    return {
        "exact": bool(exact),
        "bias": rounded(bias),
        "n_terms": len(counted),
        "terms": terms,
        "rest": rounded(np.delete(products, largest).sum()),
    }


def _whose(parts: list[Terms], i: int) -> dict[str, Any]:
    """The station of number i, counted over all parts one after the other, and its place in the station's output."""
    for part in parts:
        if i < part.numbers.size:
            return {"layer": part.layer, "place": place(i, part.shape)}
        i -= part.numbers.size
    raise IndexError(i)


def _forward(walk: Walk, station: Station, at: int) -> tuple[list[Terms], float]:
    """The terms that y[at] is the sum of, and the bias."""
    if puts_together(station.layer):
        parts = _together(walk, station)
        return [_alone(walk, s, given, int(i)) for s, given, goes in parts for i in np.flatnonzero(goes == at)], 0.0
    backend, layer = walk.model.backend, station.layer
    y, backward = layer(station.x, backend)
    one = np.zeros(tuple(y.shape), backend.dtype)
    one.ravel()[at] = 1
    gradients = walk.model.grad.copy()
    weights = walk.host(backward(backend.asarray(one))).ravel()
    walk.model.grad[...] = gradients  # restore the gradients of the loss: this backward has added to them
    bias = float(walk.host(layer(0 * station.x, backend)[0]).ravel()[at])
    source, shape = station.sources[0], walk.shape_from(station.sources[0])
    if size_of(shape) != weights.size:
        shape = tuple(station.x.shape[1:])
    return [Terms(source, shape, walk.host(station.x).ravel().astype(np.float64), weights.astype(np.float64))], bias


def _together(walk: Walk, station: Station) -> Iterator[tuple[int, NDArray, NDArray]]:
    """For a layer that adds or joins the outputs of others: for each of these, its station, its numbers, and the places
    in y that they go to."""
    parts = [walk.host(part) for part in station.parts]
    places = np.arange(walk.host(station.y).size)
    goes = [places] * len(parts)
    if isinstance(station.layer, Parallel):
        axis = station.layer.axis % parts[0].ndim
        ends = np.cumsum([part.shape[axis] for part in parts])
        goes = np.split(places.reshape(walk.host(station.y).shape), ends[:-1], axis)
    for source, part, where in zip(station.sources, parts, goes, strict=True):
        yield source, part.ravel().astype(np.float64), where.ravel()


def _alone(walk: Walk, source: int, numbers: NDArray, at: int) -> Terms:
    """A single number of a station, with the weight 1."""
    weights = np.zeros(numbers.size)
    weights[at] = 1
    return Terms(source, walk.shape_from(source), numbers, weights)


def _backward(walk: Walk, number: int, at: int) -> list[Terms]:
    """The terms that the gradient of y[at] is the sum of; none for the last layer, where it comes from the loss."""
    parts = []
    for after, station in enumerate(walk.stations):
        if number not in station.sources or isinstance(station.x, tuple) or isinstance(station.y, tuple):
            continue
        shape, gradient = walk.shape_from(after), walk.gradient_of(station).ravel().astype(np.float64)
        if puts_together(station.layer):
            weights = np.zeros(gradient.size)
            for source, _, goes in _together(walk, station):
                if source == number:
                    weights[goes[at]] += 1
        elif station.x.size == walk.stations[number].y.size:
            weights = _changes(walk, station, at)
        else:
            continue
        parts.append(Terms(after, shape, gradient, weights))
    return parts


def _changes(walk: Walk, station: Station, at: int) -> NDArray:
    """How much each output changes per change of input number `at`.

    The input is moved away from 0, so that ReLU stays on its side of 0, and by a large step, so that rounding does not
    matter.
    """
    backend, more = walk.model.backend, station.x.copy()
    step = float(np.abs(walk.host(station.x)).max()) / 4 or 1.0
    old = float(more.ravel()[at])
    more.reshape(-1)[at] = old + (step if old >= 0 else -step)
    before, after = (walk.host(station.layer(x, backend)[0]).ravel().astype(np.float64) for x in (station.x, more))
    changes: NDArray = (after - before) / (float(more.ravel()[at]) - old)
    return changes


def _window(terms: Terms) -> dict[str, Any] | None:
    """The inputs whose weight is not 0, and all inputs between them."""
    values, counts = (maps.arranged(array.reshape(terms.shape)) for array in (terms.numbers, terms.weights))
    places = np.nonzero(counts)
    if not places[0].size:
        return None
    rows, columns = (slice(axis.min(), axis.max() + 1) for axis in places[1:])
    return maps.shown_maps(values[:, rows, columns])


def _weights(walk: Walk, station: Station, at: int) -> dict[str, Any]:
    """The weights behind y[at] and their gradients, for Linear and Conv2d, where they are its channel's part of W."""
    layer = station.layer
    if not isinstance(layer, (Linear, Conv2d)) or isinstance(layer, ConvTranspose2d):
        return {"weights": None, "weights_gradient": None, "steepest": []}
    channel = at % layer.n_out
    W, gradient = (walk.model.backend.to_host(array)[..., channel] for array in (layer.W.data, layer.W.grad))
    shape = walk.shape_from(station.sources[0])
    if not isinstance(layer, Linear) or size_of(shape) != W.size:
        shape = W.shape
    steepest = np.argsort(-np.abs(gradient.ravel()), kind="stable")[:TERMS]
    return {
        "weights": maps.shown(W.reshape(shape)),
        "weights_gradient": maps.shown(gradient.reshape(shape)),
        "steepest": [
            {"place": place(int(i), shape), "weight": rounded(W.ravel()[i]), "gradient": rounded(gradient.ravel()[i])}
            for i in steepest
        ],
    }
