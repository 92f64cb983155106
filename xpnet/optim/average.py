"""The average of the weights along the way: often better than the last of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xpnet.arguments import number
from xpnet.nn import Model


class WeightAverage:
    """a_t = sum_i d^(t-i) x_i / sum_i d^(t-i), the exponential moving average of a model's values after steps 1 .. t.

    `decay` d: the last 1 / (1 - d) steps or so count. As a_t = x_t + (a_t-1 - x_t) (1 - s), s = (1 - d) / (1 - d^t),
    a_1 is x_1, and nothing of the first weights is in it. It holds all of the model's values, running statistics too.
    After Polyak and Juditsky (1992), whose mean is over all steps.

    Call `update()` after each step, or give it to `fit`; `with average.applied():` the model has the averages.
    """

    def __init__(self, model: Model, decay: float = 0.999):
        self.model, self.decay = model, number("decay", decay, least=0, below=1)
        self.values = model.data.copy()
        self.steps = model.backend.xp.zeros(1, model.backend.dtype)

    def update(self) -> None:
        """Take the model's values into the average. It can be captured with the step."""
        self.steps += 1
        share: Any = 1.0
        if self.decay:
            # 1 - d^t = -expm1(t log d) keeps its digits for d near 1; for t = 1 the two are the same bits.
            xp, log = self.model.backend.xp, math.log(self.decay)
            share = xp.expm1(self.steps / self.steps * log) / xp.expm1(self.steps * log)
        # Not times 1 - s, which has few digits of a small s.
        self.values -= self.model.data
        self.values -= self.values * share
        self.values += self.model.data

    @contextmanager
    def applied(self) -> Iterator[Model]:
        """Inside the block the model has the averages, to measure or save it; afterwards its own values again."""
        own = self.model.data.copy()
        self.model.data[...] = self.values
        try:
            yield self.model
        finally:
            self.model.data[...] = own
