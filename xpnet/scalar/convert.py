"""One model, several engines: a `BasicNet` as an `nn.Model`, which runs on NumPy or CuPy, and back.

The same numbers in the same places: outputs and gradients agree to rounding (1e-12 in float64). The weight
`net.layers[l].neurons[j].weights[i]` here is `W[i, j]` of the l-th `nn.Linear` there. A scalar network does not
standardise its inputs: `from_model` folds the standardisation into the first layer's numbers.

    net = BasicNet.load("weights.json")
    model = to_model(net, xpnet.select("auto", dtype="float64"))

This is the only file of `scalar` that needs NumPy and `xpnet.nn`, which are imported when a function is called.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from xpnet.scalar.network import BasicNet

if TYPE_CHECKING:
    from numpy import ndarray

    from xpnet.backend import Backend
    from xpnet.nn import Layer, Linear, Model


def to_model(net: BasicNet, backend: Backend) -> Model:
    """`net` as a model on `backend`, in its dtype: each layer an `nn.Linear` and, unless "linear", its activation.

    The numbers are copied: training one of the two does not change the other. Labels of layers are not kept.
    Raises ValueError if `net` has hooks, which would be lost.
    """
    import numpy as np

    from xpnet import nn

    if net.pre_feed_hooks or net.post_feed_hooks:
        raise ValueError(f"{net} has hooks, which a model cannot have: remove them first")
    layers: list[Layer] = []
    tensors = {}
    for layer in net.layers:
        tensors[f"layers.{len(layers)}.W"] = np.array([[w.data for w in n.weights] for n in layer.neurons]).T
        tensors[f"layers.{len(layers)}.b"] = np.array([n.bias.data for n in layer.neurons])
        layers.append(nn.Linear(len(layer.neurons), layer.n_inputs))
        if layer.activation != "linear":
            layers.append(_activations()[layer.activation]())
    return nn.Model(nn.Sequential(*layers), (net.n_inputs,), backend, tensors=tensors)


def from_model(model: Model) -> BasicNet:
    """The scalar network with the same outputs as `model` in prediction.

    The model is `nn.Linear` layers in sequence, each followed by ReLU, Tanh, Sigmoid or nothing. It may also have:

    - Before the first Linear, `Flatten`: the network takes the numbers of a sample as one row, (28, 28) row by row.
    - Before the first Linear, `Standardize` of one mean and one std, which is folded into it: the network takes raw
      numbers, such as pixels from 0 to 255. As ((x - mean) / std) W + b = x W' + b', that layer's numbers are, in
      float64,

          W' = W / std        b' = b - (sum of W over the inputs) mean / std

    - `Dropout`, which does nothing in prediction, is left out.

    All other numbers are copied unchanged. Raises ValueError, naming the layer, for what cannot be converted.
    """
    from xpnet import nn

    names = {kind: name for name, kind in _activations().items()}
    weights: list[list[list[float]]] = []
    biases: list[list[float]] = []
    activations: list[str] = []
    one_row = len(model.input_shape) == 1
    scale, offset = 1.0, 0.0  # the first Linear reads scale * x + offset
    seen: set[Layer] = set()
    after_linear = False
    for path, layer in _in_sequence(model.network, ""):
        if isinstance(layer, nn.Dropout):
            continue
        if type(layer) is nn.Flatten and not weights:
            one_row = True
        elif type(layer) is nn.Standardize and not weights:
            if not isinstance(layer.mean, float):
                raise ValueError(
                    f"{path} (Standardize) has a mean for each feature: only one mean and one std for all can be "
                    "folded into the first Linear"
                )
            scale, offset = scale / layer.std, (offset - layer.mean) / layer.std
        elif type(layer) is nn.Linear:
            if not layer.bias or layer in seen:
                which = "is used twice" if layer.bias else "has no bias"
                raise ValueError(f"{path} (Linear) {which}: in a scalar network each neuron has a bias of its own")
            if not one_row:
                raise ValueError(
                    f"a scalar network takes a row of numbers, but this model takes {model.input_shape}, "
                    "and has no Flatten before its first Linear"
                )
            w, b = _on_raw_inputs(layer, model.backend, scale, offset)
            weights.append(w.T.tolist())
            biases.append(b.tolist())
            activations.append("linear")
            scale, offset = 1.0, 0.0
        elif type(layer) in names and after_linear:
            activations[-1] = names[type(layer)]
        else:
            known = ", ".join(kind.__name__ for kind in names)
            raise ValueError(
                f"{path} ({type(layer).__name__}) has no counterpart in a scalar network, which is Linear layers, "
                f"each followed by one of {known} or by nothing (Flatten and Standardize may stand before them)"
            )
        after_linear = type(layer) is nn.Linear
        seen.add(layer)
    return BasicNet.from_lists(weights, biases, activations)


def _on_raw_inputs(layer: Linear, backend: Backend, scale: float, offset: float) -> tuple[ndarray, ndarray]:
    """W (n_in, n_out) and b (n_out,), float64, whose output for x is the layer's output for scale * x + offset."""
    w, b = (backend.to_host(p.data).astype("float64") for p in (layer.W, layer.b))
    if (scale, offset) == (1.0, 0.0):
        return w, b
    return w * scale, b + w.sum(axis=0) * offset


def _activations() -> dict[str, type[Layer]]:
    from xpnet import nn

    return {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def _in_sequence(layer: Layer, path: str) -> Iterator[tuple[str, Layer]]:
    """The layers of a network that is nothing but sequences, in the order of the forward pass, with their paths."""
    from xpnet import nn

    if type(layer) is not nn.Sequential:  # a Residual is a Sequential too, but adds its input
        yield path or "the network", layer
        return
    for key, child in layer.children():
        yield from _in_sequence(child, f"{path}.{key}" if path else key)
