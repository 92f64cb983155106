"""Dropout."""

from __future__ import annotations

import math

import numpy as np

from xpnet import nn
from xpnet.verify.cases.arithmetic import Numbers, Parameters, Reference, filled
from xpnet.verify.passes import SEED
from xpnet.verify.rows import LayerCase


class UniformStream:
    """The uniform float64 numbers of a seed, from raw Philox words; each draw starts with a new block of four."""

    def __init__(self, seed: int):
        self._bits = np.random.Philox(seed)

    def random(self, shape: tuple[int, ...]) -> np.ndarray:
        size = math.prod(shape)
        words = self._bits.random_raw(4 * math.ceil(size / 4))
        return np.array([(int(word) >> 11) / 2.0**53 for word in words[:size]]).reshape(shape)


def dropout(rate: float, stream: UniformStream) -> Reference:
    def reference(x: Numbers, p: Parameters) -> Numbers:
        drawn = stream.random(x.shape)
        return filled(x.shape, lambda *at: x[at] * (0.0 if drawn[at] < rate else 1.0 / (1.0 - rate)))

    return reference


def _training(rate: float) -> Reference:
    return lambda x, p: dropout(rate, UniformStream(SEED))(x, p)


CASES: tuple[LayerCase, ...] = (
    LayerCase("Dropout", "evaluation", nn.Dropout, (9,), lambda x, p: x),
    LayerCase("Dropout", "training", lambda: nn.Dropout(0.3), (9,), _training(0.3), training=True),
    LayerCase("Dropout", "training, 3-D", nn.Dropout, (3, 5), _training(0.5), training=True),
    LayerCase("Dropout", "p = 0", lambda: nn.Dropout(0.0), (4,), lambda x, p: x, training=True),
)
