"""Training one sample at a time: plain stochastic gradient descent, by the tutorial's recipe.

Every sample is fed, its loss is propagated back, and every weight takes a small step down its gradient. The
size of the step (the learning rate) is drawn from a range for each sample. After a warm-up, samples that the
network already gets right are skipped: little is learnt from them, and that saves the backward pass and the
update.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from xpnet.scalar.losses import cross_entropy
from xpnet.scalar.network import BasicNet
from xpnet.scalar.value import Value

Sample = tuple[Sequence[float], int]  # the inputs, and their class
Loss = Callable[[Sequence[Value], int], Value]


@dataclass
class Progress:
    """The state of a training: samples seen, how many were right before their update, updates made, sum of losses."""

    seen: int = 0
    right: int = 0
    updates: int = 0
    loss_sum: float = 0.0

    @property
    def accuracy(self) -> float:
        """The fraction of the samples seen, 0 .. 1, that were right before their update."""
        return self.right / self.seen if self.seen else 0.0

    @property
    def loss(self) -> float:
        """The mean loss of the samples seen."""
        return self.loss_sum / self.seen if self.seen else 0.0

    def __str__(self) -> str:
        return f"loss {self.loss:.4f}  accuracy {self.accuracy:.1%}  updates {self.updates}"


def train(
    net: BasicNet,
    samples: Sequence[Sample],
    count: int,
    *,
    start: int = 0,
    rates: tuple[float, float] = (0.01, 0.05),
    warm_up: int = 1000,
    loss: Loss = cross_entropy,
    seed: int = 0,
    log_every: int = 100,
    log: Callable[[str], object] = print,
) -> Progress:
    """Train `net` in place on `count` samples, in the order given, starting over after the last.

    `start` is the number of samples it has been trained on before. What happens at a sample depends only on its number
    and the seed: so 300 samples, `save`, `load`, and 200 more with `start=300` give the same weights as 500 in one go.
    `rates` is the range of the learning rate, `warm_up` the number of samples (counted from 0, not from `start`) after
    which correctly classified samples are skipped. `log` is called with a line of text every `log_every` samples, with
    means since `start`.

    The default of `rates` is the tutorial's. A sample changes the outputs by about the rate times the sum of its
    squared inputs: 15 for the embedded digits and 87 for MNIST, both divided by 255. So MNIST needs lower rates. Right
    on test images after 5,000 samples, mean of five seeds:

        rates            digits, 64-16-10   MNIST, 784-10-10   MNIST, 784-32-10
        (0.01, 0.05)           93 %               69 %               80 %
        (0.005, 0.02)          90 %               77 %               84 %
        (0.002, 0.01)          87 %               77 %               83 %

    Raises ValueError for bad arguments, FloatingPointError if the loss becomes nan or infinite: `net` is then as it was
    after the last good sample.
    """
    _check(samples, count, start, rates, log_every)
    parameters = net.get_parameters()
    progress = Progress()
    for step in range(start, start + count):
        inputs, label = samples[step % len(samples)]
        outputs = net.feed([Value(x) for x in inputs])
        error = loss(outputs, label)
        if not math.isfinite(error.data):
            raise FloatingPointError(
                f"the loss is {error.data} at sample {step}: try rates below {rates}, and look for bad inputs"
            )
        numbers = [output.data for output in outputs]
        right = numbers.index(max(numbers)) == label
        if step < warm_up or not right:
            _descend(parameters, error, _rate(rates, seed, step))
            progress.updates += 1
        progress.seen += 1
        progress.right += right
        progress.loss_sum += error.data
        if (step + 1) % log_every == 0:
            log(f"{datetime.now():%Y-%m-%d %H:%M:%S}  sample {step + 1}  {progress}")
    return progress


def accuracy(net: BasicNet, samples: Sequence[Sample]) -> float:
    """The fraction, 0 .. 1, of `samples` whose class `net` predicts."""
    if len(samples) == 0:
        raise ValueError("no samples to measure the accuracy on")
    return sum(net.predict(inputs)[1] == label for inputs, label in samples) / len(samples)


def _descend(parameters: list[Value], error: Value, rate: float) -> None:
    for parameter in parameters:
        parameter.grad = 0.0
    error.backward()
    for parameter in parameters:
        parameter.data -= rate * parameter.grad


def _rate(rates: tuple[float, float], seed: int, step: int) -> float:
    """The rate of one step. Each step has its own generator, so that a training can be resumed at any step."""
    return random.Random(f"{seed}/{step}").uniform(*rates)


def _check(samples: Sequence[Sample], count: int, start: int, rates: tuple[float, float], log_every: int) -> None:
    if len(samples) == 0:
        raise ValueError("no samples to train on")
    if count < 0 or start < 0 or log_every < 1:
        raise ValueError(f"count and start must be >= 0 and log_every >= 1: not {count}, {start}, {log_every}")
    if not isinstance(rates, tuple | list) or len(rates) != 2 or not 0 < rates[0] <= rates[1] < math.inf:
        raise ValueError(f"rates must be a range (low, high) with 0 < low <= high, not {rates}")
