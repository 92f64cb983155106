"""A running average of the weights during training, which is often better than the last weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from xpnet.arguments import number, of_kind
from xpnet.nn import Model


class WeightAverage:
    """a_t = sum_i d^(t-i) x_i / sum_i d^(t-i), the exponential moving average of a model's values after steps 1 .. t.

    `decay` d: roughly the last 1 / (1 - d) steps count. a_t is computed as x_t + (a_t-1 - x_t) (1 - s) with
    s = (1 - d) / (1 - d^t). So a_1 = x_1, and the initial weights have no share in it. All of the model's values are
    averaged, including running statistics. After Polyak and Juditsky (1992), who take the plain mean over all steps.

    Call `update()` after each step, or give the object to `fit`. Inside `with average.applied():` the model has the
    averages.
    """

    def __init__(self, model: Model, decay: float = 0.999):
        of_kind("an average is made for a model, as optim.WeightAverage(model)", model, Model)
        self.model, self.decay = model, number("decay", decay, least=0, below=1)
        self.values = model.data.copy()
        self.steps = model.backend.xp.zeros(1, model.backend.dtype)

    def update(self) -> None:
        """Add the model's current values to the average. The call can be captured together with the step."""
        self.steps += 1
        share: Any = 1.0
        if self.decay:
            # 1 - d^t = -expm1(t log d) keeps its digits for d near 1. For t = 1 both are the same bits: share is 1.
            xp, log = self.model.backend.xp, math.log(self.decay)
            share = xp.expm1(xp.ones_like(self.steps) * log) / xp.expm1(self.steps * log)
        # The difference is not multiplied by 1 - s, which keeps few digits of a small s.
        self.values -= self.model.data
        self.values -= self.values * share
        self.values += self.model.data

    @contextmanager
    def applied(self) -> Iterator[Model]:
        """Inside the block the model has the averages, to be measured or saved; afterwards its own values again."""
        own = self.model.data.copy()
        self.model.data[...] = self.values
        try:
            yield self.model
        finally:
            self.model.data[...] = own
