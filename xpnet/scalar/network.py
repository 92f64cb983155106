"""`Neuron`, `LinearLayer`, `BasicNet`: a fully connected network, one number at a time."""

from __future__ import annotations

import itertools
import math
import os
import random
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from xpnet.scalar import weights_file
from xpnet.scalar.losses import softmax
from xpnet.scalar.value import T, Value, plain_number, weighted_sum

ACTIVATIONS: dict[str, Callable[[Value], Value]] = {
    "linear": lambda x: x,
    "relu": Value.relu,
    "tanh": Value.tanh,
    "sigmoid": Value.sigmoid,
}

Hook = Callable[["BasicNet", list[Any]], "list[Any] | None"]


class Neuron:
    """bias + the sum of weight * input."""

    def __init__(self, weights: Iterable[float], bias: float):
        self.weights = [Value(w) for w in weights]
        self.bias = Value(bias)

    def __repr__(self) -> str:
        return f"Neuron({len(self.weights)} weights, bias {self.bias.data:.4g})"

    def feed(self, inputs: Sequence[T]) -> T:
        """The weighted sum of the inputs plus the bias: a Value if one of the inputs is, else a plain number.

        ValueError unless there are as many inputs as weights.
        """
        if len(inputs) != len(self.weights):
            raise ValueError(f"this neuron takes {len(self.weights)} inputs, not {len(inputs)}")
        return weighted_sum(self.weights, inputs, self.bias)


class LinearLayer:
    """Neurons that all read the same inputs, each followed by the same activation function.

    `weights` has one row for each neuron, `biases` one number for each. `activation` is "linear" (none),
    "relu", "tanh" or "sigmoid". Raises ValueError if rows differ in length, or counts disagree.
    """

    def __init__(
        self,
        weights: Sequence[Sequence[float]],
        biases: Sequence[float],
        activation: str = "linear",
        label: str = "layer",
    ):
        if activation not in ACTIVATIONS:
            raise ValueError(f"{label}: unknown activation {activation!r}, choose from {', '.join(ACTIVATIONS)}")
        if len(weights) == 0 or len(weights) != len(biases):
            raise ValueError(f"{label}: {len(weights)} rows of weights and {len(biases)} biases: give as many of both")
        lengths = {len(row) for row in weights}
        if len(lengths) != 1 or lengths == {0}:
            raise ValueError(f"{label}: rows of weights must be of one length, 1 at least: not {sorted(lengths)}")
        self.neurons = [Neuron(row, bias) for row, bias in zip(weights, biases, strict=True)]
        self.n_inputs = lengths.pop()
        self.activation = activation
        self.label = label

    @classmethod
    def random(cls, n_inputs: int, n_neurons: int, activation: str, label: str, rng: random.Random) -> LinearLayer:
        """A layer to train: biases 0, weights uniform in +-sqrt(6 / n_inputs).

        That is the initialisation of He et al., "Delving Deep into Rectifiers" (2015), with a uniform
        distribution: the signal keeps its size from layer to layer through ReLU.
        """
        bound = math.sqrt(6 / n_inputs)
        rows = [[rng.uniform(-bound, bound) for _ in range(n_inputs)] for _ in range(n_neurons)]
        return cls(rows, [0.0] * n_neurons, activation, label)

    def __repr__(self) -> str:
        return f"{self.label}({len(self.neurons)}x{self.n_inputs})"

    def feed(self, inputs: Sequence[T]) -> list[T]:
        """One output for each neuron."""
        activate = ACTIVATIONS[self.activation]
        sums = [neuron.feed(inputs) for neuron in self.neurons]
        return [activate(x) if isinstance(x, Value) else activate(Value(x)).data for x in sums]


class BasicNet:
    """Layers, one after the other; each reads the outputs of the one before.

    >>> net = BasicNet.random([784, 10, 10])
    >>> net
    input(*) -> hidden(10x784) -> output(10x10)
    >>> len(net.get_parameters())
    7960

    Hooks are plain callables in two lists, `pre_feed_hooks` and `post_feed_hooks`: each is called as
    `hook(net, values)` with the inputs, or the outputs. It may return a list to be used in their place, or
    None to leave them unchanged.
    """

    def __init__(self, layers: Sequence[LinearLayer]):
        if len(layers) == 0:
            raise ValueError("a network needs at least one layer")
        for before, after in itertools.pairwise(layers):
            if after.n_inputs != len(before.neurons):
                raise ValueError(
                    f"{after} cannot follow {before}: it takes {after.n_inputs} inputs, not {len(before.neurons)}"
                )
        self.layers = list(layers)
        self.pre_feed_hooks: list[Hook] = []
        self.post_feed_hooks: list[Hook] = []

    @classmethod
    def random(cls, sizes: Sequence[int], activations: Sequence[str] | None = None, seed: int = 0) -> BasicNet:
        """A network to train: `sizes` are the number of inputs, then the number of neurons of each layer.

        `activations` has one name for each layer; without it, "relu", and "linear" for the last layer. The
        same seed gives the same weights on every machine.
        """
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(f"sizes are the number of inputs, then of each layer's neurons, >= 1: not {sizes}")
        names = _activations(activations, len(sizes) - 1)
        rng = random.Random(seed)
        shapes = zip(itertools.pairwise(sizes), names, _labels(len(names)), strict=True)
        return cls([LinearLayer.random(*in_out, name, label, rng) for in_out, name, label in shapes])

    @classmethod
    def from_lists(
        cls,
        weights: Sequence[Sequence[Sequence[float]]],
        biases: Sequence[Sequence[float]],
        activations: Sequence[str] | None = None,
    ) -> BasicNet:
        """A network of given numbers: `weights[layer][neuron][input]`, `biases[layer][neuron]`.

        >>> BasicNet.from_lists([[[1.0, -1.0]]], [[0.5]], ["relu"]).feed([3.0, 1.0])
        [2.5]
        """
        if len(weights) != len(biases):
            raise ValueError(f"weights of {len(weights)} layers, but biases of {len(biases)}")
        names = _activations(activations, len(weights))
        parts = zip(weights, biases, names, _labels(len(names)), strict=True)
        return cls([LinearLayer(*part) for part in parts])

    def __repr__(self) -> str:
        return " -> ".join(["input(*)", *map(repr, self.layers)])

    @property
    def n_inputs(self) -> int:
        """How many inputs the network takes."""
        return self.layers[0].n_inputs

    def feed(self, inputs: Iterable[T]) -> list[T]:
        """The outputs of the last layer. `inputs` is a flat sequence of exactly `n_inputs` numbers.

        Plain numbers give plain numbers, fast and without a graph. To train, feed Values: the outputs are
        Values then, and `backward()` on anything made from them reaches every weight (and every input).
        Raises ValueError if there are more or fewer inputs than the network takes.
        """
        values: list[Any] = [x if isinstance(x, Value) else plain_number(x) for x in inputs]
        for hook in self.pre_feed_hooks:
            values = _replaced(values, hook(self, values))
        if len(values) != self.n_inputs:
            raise ValueError(f"this network takes {self.n_inputs} inputs, not {len(values)}: {self}")
        for layer in self.layers:
            values = layer.feed(values)
        for hook in self.post_feed_hooks:
            values = _replaced(values, hook(self, values))
        return values

    def predict(self, inputs: Iterable[Value | float]) -> tuple[list[float], int]:
        """The probability of each class (softmax over all outputs), and the class with the highest one.

        Builds no graph. Raises ValueError if an output is nan or infinite.
        """
        outputs = self.feed([plain_number(x) for x in inputs])
        if not all(map(math.isfinite, outputs)):
            raise ValueError(f"the outputs are not finite: {outputs}. The inputs or the weights are broken")
        return softmax(outputs), outputs.index(max(outputs))

    def get_parameters(self) -> list[Value]:
        """All weights and biases: layer by layer, neuron by neuron, the weights and then the bias."""
        neurons = [neuron for layer in self.layers for neuron in layer.neurons]
        return [value for neuron in neurons for value in (*neuron.weights, neuron.bias)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a JSON file (format: `weights_file.py`), whole or not at all."""
        records = [
            {
                "label": layer.label,
                "activation": layer.activation,
                "ncount": len(layer.neurons),
                "wcount": layer.n_inputs,
                "neurons": [
                    {"data": [w.data for w in n.weights], "bias": n.bias.data, "wcount": layer.n_inputs}
                    for n in layer.neurons
                ],
            }
            for layer in self.layers
        ]
        weights_file.write(path, records)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> BasicNet:
        """The network in a JSON file that `save` wrote. Raises OSError or ValueError, with what is wrong in it."""
        layers = []
        for record in weights_file.read(path):
            rows = [neuron["data"] for neuron in record["neurons"]]
            biases = [neuron["bias"] for neuron in record["neurons"]]
            try:
                layers.append(LinearLayer(rows, biases, record["activation"], record["label"]))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from None
        return cls(layers)


def _labels(n_layers: int) -> list[str]:
    return ["hidden" if i < n_layers - 1 else "output" for i in range(n_layers)]


def _activations(names: Sequence[str] | None, n_layers: int) -> list[str]:
    if names is None:
        return ["relu" if i < n_layers - 1 else "linear" for i in range(n_layers)]
    if isinstance(names, str):
        raise TypeError(
            f"activations are a list with one name for each layer, such as {[names] * n_layers}, not {names!r}"
        )
    if len(names) != n_layers:
        raise ValueError(f"{n_layers} layers need as many activations, not {len(names)}: {list(names)}")
    return list(names)


def _replaced(values: list[Any], by_hook: list[Any] | None) -> list[Any]:
    return values if by_hook is None else list(by_hook)
