"""One number that a layer gave, worked out: which inputs times which weights, plus the bias, give it.

The weights are those of the layer's own backward: for dy = 1 at this output and 0 at all others, dx is by how much
each input counts. The bias is what its own forward makes of zeros. For a layer that is a weighted sum (a convolution,
Linear, BatchNorm, pooling, ReLU with its slopes of 0 and 1) they add up to the output; whether they do is checked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.nn import Conv2d, ConvTranspose2d, Linear
from xpnet.nn.shapes import Shape
from xpnet.serve import maps
from xpnet.serve.maps import place, rounded
from xpnet.serve.reader import QuestionError, Reader
from xpnet.serve.walk import Station, Walk, is_sum, walked

TERMS = 12  # the largest of a sum
EXACT = 1e-4  # of the sum of all sizes: what float32 may have lost


def at_unit(
    reader: Reader, rows: list[list[int]], number: int, unit: list[int], target: int | None = None
) -> dict[str, Any]:
    """`unit`: [map, row, column], as `maps.arranged` has the output of station `number`.

    Raises `QuestionError` where there is no such station or unit, and for a layer of several inputs or outputs.
    """
    with walked(reader, rows, target) as walk:
        station, shape = walk.station(number), walk.shape_from(number)
        if isinstance(station.x, tuple) or isinstance(station.y, tuple):
            raise QuestionError("this layer takes or gives several arrays at once: it is not worked out in numbers")
        at = maps.flat(unit, shape)
        if at is None:
            most = " x ".join(map(str, maps.arranged(np.empty(shape)).shape))
            raise QuestionError(f"unit must be a map, a row and a column, counted from 0, of {most}; not {unit}")
        x, y = walk.host(station.x).ravel(), walk.host(station.y).ravel()
        return {
            "value": rounded(y[at]),
            "gradient": rounded(walk.gradient_of(station).ravel()[at]),
            "before": rounded(x[at]) if x.size == y.size else None,
            **_sum(walk, station, at),
            **_weights(walk, station, at),
        }


def _sum(walk: Walk, station: Station, at: int) -> dict[str, Any]:
    """The terms of y[at]."""
    y = float(walk.host(station.y).ravel()[at])
    if is_sum(station.layer):
        through = float(walk.host(walk.stations[station.sources[0]].y).ravel()[at])
        inputs, weights, constant = np.array([through, y - through]), np.ones(2), 0.0
        places = [[0, 0, 0], [1, 0, 0]]
        order = np.arange(2)
    else:
        inputs, weights, constant = _affine(walk, station, at)
        order = np.argsort(-np.abs(inputs * weights), kind="stable")[:TERMS]
        order = order[weights[order] != 0]
        shape = _input_shape(walk, station)
        places = [place(int(i), shape) for i in order]
    products = inputs * weights
    size = abs(constant) + float(np.abs(products).sum())
    return {
        "exact": bool(abs(constant + products.sum() - y) <= EXACT * size + 1e-7),
        "constant": rounded(constant),
        "n_terms": int(np.count_nonzero(weights)),
        "terms": [
            {"place": p, "input": rounded(inputs[i]), "weight": rounded(weights[i]), "product": rounded(products[i])}
            for p, i in zip(places, order, strict=True)
        ],
        "rest": rounded(products.sum() - products[order].sum()),
    }


def _affine(walk: Walk, station: Station, at: int) -> tuple[NDArray, NDArray, float]:
    """The inputs of y[at], by how much each counts, and what is left without any, in float64."""
    backend, layer = walk.model.backend, station.layer
    y, backward = layer(station.x, backend)
    one = np.zeros(tuple(y.shape), backend.dtype)
    one.ravel()[at] = 1
    kept = walk.model.grad.copy()
    weights = walk.host(backward(backend.asarray(one)))
    walk.model.grad[...] = kept  # those of the loss, to which this backward has added
    nothing = layer(0 * station.x, backend)[0]
    constant = float(walk.host(nothing).ravel()[at])
    return walk.host(station.x).ravel().astype(np.float64), weights.ravel().astype(np.float64), constant


def _input_shape(walk: Walk, station: Station) -> Shape:
    shape = walk.shape_from(station.sources[0])
    return shape if np.prod(shape) == station.x[0].size else tuple(station.x.shape[1:])


def _weights(walk: Walk, station: Station, at: int) -> dict[str, Any]:
    """The parameters behind y[at], where they are its channel's part of W, and their gradients."""
    layer = station.layer
    if not isinstance(layer, (Linear, Conv2d)) or isinstance(layer, ConvTranspose2d):
        return {"weights": None, "weights_gradient": None, "steepest": []}
    channel = at % layer.n_out
    W, gradient = (walk.model.backend.to_host(array)[..., channel] for array in (layer.W.data, layer.W.grad))
    shape = W.shape
    if isinstance(layer, Linear) and station.x.ndim == 2:
        shape = _input_shape(walk, station)
    steepest = np.argsort(-np.abs(gradient.ravel()), kind="stable")[:TERMS]
    return {
        "weights": maps.shown(W.reshape(shape)),
        "weights_gradient": maps.shown(gradient.reshape(shape)),
        "steepest": [
            {"place": place(int(i), shape), "weight": rounded(W.ravel()[i]), "gradient": rounded(gradient.ravel()[i])}
            for i in steepest
        ],
    }
