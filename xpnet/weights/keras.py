"""How Keras 3 names the variables of each layer, and their layouts, which are mostly those of xpnet.

Images are NHWC and matrices (in, out) in both. A weights file holds no options: BatchNormalization and
LayerNormalization have epsilon=0.001 in Keras by default, so the model here needs `nn.BatchNorm(eps=1e-3)`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xpnet import nn
from xpnet.nn.layer import Layer, Parameter
from xpnet.nn.shapes import Shape
from xpnet.nn.through_time import Recurrent
from xpnet.weights.h5 import BACKWARD
from xpnet.weights.layouts import Arrays, Counterpart

NAMES: dict[type[Layer], dict[str, str]] = {
    **{kind: {"W": "kernel", "b": "bias"} for kind in (nn.Linear, nn.Conv1d, nn.Conv2d)},
    nn.Embedding: {"W": "embeddings"},
    nn.BatchNorm: {
        "gamma": "gamma", "beta": "beta", "running_mean": "moving_mean", "running_var": "moving_variance",
    },
    nn.LayerNorm: {"gamma": "gamma", "beta": "beta"},
}  # fmt: skip
GATES = {  # for each of our gates, the place of Keras' gate; and the layout as text
    nn.RNN: ((0,), "as it is"),
    nn.LSTM: ((0, 1, 3, 2), "gates i f n o -> i f o n"),
    nn.GRU: ((1, 0, 2), "gates z r n -> r z n, biases added"),
}


def parts_of(network: Layer) -> Iterator[Counterpart]:
    """All layers with parameters, in their order; a layer that is used twice comes once.

    Raises ValueError for a layer whose weights cannot be read from a Keras file.
    """
    seen: set[int] = set()
    for path, layer in network.walk():
        own = {name: p for name, p in vars(layer).items() if isinstance(p, Parameter)}
        if id(layer) in seen:
            continue
        seen.add(id(layer))
        if isinstance(layer, Recurrent):
            yield _recurrent(layer, path)
        elif type(layer) in NAMES:
            yield _named(layer, path, own)
        elif own:
            raise ValueError(f"{path or 'the model'}: {type(layer).__name__} cannot be read from a Keras file")


def _named(layer: Layer, path: str, own: dict[str, Parameter]) -> Counterpart:
    names = {name: theirs for name, theirs in NAMES[type(layer)].items() if name in own}

    def to_ours(values: Arrays) -> Arrays:
        return {name: values[theirs] for name, theirs in names.items()}

    shapes = {theirs: own[name].shape for name, theirs in names.items()}
    return Counterpart(path, path, shapes, {name: own[name] for name in names}, to_ours)


def _recurrent(layer: Recurrent, path: str) -> Counterpart:
    """A layer of one or two directions; one with several `layers` is several layers in Keras.

    A GRU in Keras has two biases, of x W and of h U. Here their sum is one bias, except for the last block of the
    second: that is b_hn, inside the product with the gate r.
    """
    if layer.layers > 1:
        kind, n = type(layer).__name__, layer.layers
        what = f"{kind}(layers={n}) is {n} layers in Keras: use {n} of nn.{kind}(..., layers=1) here"
        raise ValueError(f"{path or 'the model'}: {what}")
    (order, layout), u = GATES[type(layer)], layer.units
    columns = np.concatenate([np.arange(gate * u, (gate + 1) * u) for gate in order])
    cells = {f"cells.{i}.": cell for i, cell in enumerate(layer.cells)}
    before = {start: BACKWARD * (i % layer.directions) for i, start in enumerate(cells)}

    def to_ours(values: Arrays) -> Arrays:
        out: Arrays = {}
        for start, cell in cells.items():
            W, U, b = (values[before[start] + name][..., columns] for name in ("kernel", "recurrent_kernel", "bias"))
            if "b_hn" in cell:
                of_x, of_h = b
                out[start + "b_hn"] = of_h[-u:]
                b = of_x + np.append(of_h[:-u], np.zeros(u, b.dtype))
            out |= {start + "W": W, start + "U": U, start + "b": b}
        return out

    shapes: dict[str, Shape] = {}
    for start, cell in cells.items():
        bias = (2, *cell["b"].shape) if "b_hn" in cell else cell["b"].shape
        kernels = {"kernel": cell["W"].shape, "recurrent_kernel": cell["U"].shape, "bias": bias}
        shapes |= {before[start] + name: shape for name, shape in kernels.items()}
    ours = {start + name: p for start, cell in cells.items() for name, p in cell.items()}
    return Counterpart(path, path, shapes, ours, to_ours, layout=layout, groups=len(cells))
