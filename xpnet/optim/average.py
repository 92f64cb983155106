"""The average of the weights along the way: often better than the last of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

from xpnet.arguments import number
from xpnet.nn import Model


class WeightAverage:
    """a_t = sum_i d^(t-i) x_i / sum_i d^(t-i), the exponential moving average of a model's values after steps 1 .. t.

    `decay` d: the last 1 / (1 - d) steps or so count. As a_t = a_t-1 + (x_t - a_t-1) (1 - d) / (1 - d^t), nothing of
    the first weights is in it. It holds all of the model's values, running statistics too. After Polyak and Juditsky
    (1992), whose mean is over all steps.

    Call `update()` after each step, or give it to `fit`; `with average.applied():` the model has the averages.
    """

    def __init__(self, model: Model, decay: float = 0.999):
        self.model, self.decay = model, number("decay", decay, least=0, below=1)
        self.values = model.data.copy()
        self.steps = model.backend.xp.zeros(1, model.backend.dtype)

    def update(self) -> None:
        """Take the model's values into the average. It can be captured with the step."""
        self.steps += 1
        # 1 - d^t = -expm1(t log d) keeps its digits for d near 1.
        rest = -self.model.backend.xp.expm1(self.steps * math.log(self.decay)) if self.decay else 1.0
        difference = self.model.data - self.values
        difference *= (1 - self.decay) / rest
        self.values += difference

    @contextmanager
    def applied(self) -> Iterator[Model]:
        """Inside the block the model has the averages, to measure or save it; afterwards its own values again."""
        own = self.model.data.copy()
        self.model.data[...] = self.values
        try:
            yield self.model
        finally:
            self.model.data[...] = own
