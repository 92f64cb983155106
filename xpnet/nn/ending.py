"""What a network ends in, and what its outputs are as probabilities."""

from __future__ import annotations

import numpy as np

from xpnet.nn.activation import Sigmoid, Softmax, sigmoid, softmax
from xpnet.nn.compose import Blocked, Sequential
from xpnet.nn.layer import Layer


def ending(network: Layer) -> Layer:
    """The layer whose outputs are the network's: of layers in sequence, in whatever sequences, the last."""
    plain = Sequential.forward, Blocked.forward
    while isinstance(network, Sequential) and type(network).forward in plain and network.layers:
        network = network.layers[-1]
    return network


def as_probabilities(network: Layer, outputs: np.ndarray) -> np.ndarray:
    """`Model.probabilities` of these outputs (N, ..., C). Those of `LogSoftmax` need no case of their own: a softmax of
    logarithms of probabilities gives the probabilities."""
    last = ending(network)
    is_done = isinstance(last, (Softmax, Sigmoid))
    if outputs.shape[-1] == 1 and not isinstance(last, Softmax):
        p = outputs if is_done else sigmoid(outputs, np)
        return np.concatenate([1 - p, p], axis=-1)
    return outputs if is_done else softmax(outputs, np)
