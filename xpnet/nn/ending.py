"""The layer that a network ends in, and its outputs as probabilities."""

from __future__ import annotations

import numpy as np

from xpnet.nn.activation import Sigmoid, sigmoid
from xpnet.nn.compose import Blocked, Sequential
from xpnet.nn.dropout import Dropout
from xpnet.nn.layer import Layer
from xpnet.nn.softmax import Softmax, softmax

LEAST = 1e-30  # lower limit for a probability whose logarithm is taken, as log 0 is -inf


def ending(network: Layer) -> Layer:
    """The layer whose outputs are the network's.

    Of layers in sequence, however nested, this is the last one that does more than move values or, in training, drop
    some of them.
    """
    last = next((layer for layer in reversed(_in_sequence(network)) if not _keeps_values(layer)), None)
    return network if last is None or last is network else ending(last)


def _in_sequence(network: Layer) -> list[Layer]:
    if isinstance(network, Sequential) and type(network).forward in (Sequential.forward, Blocked.forward):
        return network.layers
    return [network]


def _keeps_values(layer: Layer) -> bool:
    inside = _in_sequence(layer)
    if inside != [layer]:
        return all(map(_keeps_values, inside))
    return layer.accepts_integers is None or isinstance(layer, Dropout)


def gives_probabilities(network: Layer) -> bool:
    """Whether the outputs are probabilities already: those of a network that ends in `Softmax` or `Sigmoid`."""
    return isinstance(ending(network), (Softmax, Sigmoid))


def as_probabilities(network: Layer, outputs: np.ndarray) -> np.ndarray:
    """`Model.probabilities` for these outputs (N, ..., C).

    `LogSoftmax` needs no case of its own: the softmax of log-probabilities gives the probabilities.
    """
    is_done = gives_probabilities(network)
    if outputs.shape[-1] == 1 and not isinstance(ending(network), Softmax):
        both = (1 - outputs, outputs) if is_done else (sigmoid(-outputs, np), sigmoid(outputs, np))
        return np.concatenate(both, axis=-1)  # 1 - sigmoid(outputs) would lose the digits of a small one
    return outputs if is_done else softmax(outputs, np)
