"""Learning rate schedules: `schedule(step) -> rate`, with steps counted from 0.

All except `Plateau` depend on the step alone, so a resumed run needs no state from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from xpnet import elsewhere
from xpnet.arguments import a_function, number, whole


class Schedule(Protocol):
    """The interface that `fit` expects of a schedule."""

    def __call__(self, step: int) -> float: ...


def _check(**settings: float) -> None:
    """Raise ValueError, which names the setting, for the first one that is not a finite number above 0."""
    for name, value in settings.items():
        number(name, value, above=0)


@dataclass(frozen=True)
class Constant:
    """Always `lr`."""

    lr: float

    def __post_init__(self) -> None:
        _check(lr=self.lr)

    def __call__(self, step: int) -> float:
        return self.lr


@dataclass(frozen=True)
class Step:
    """lr * factor^(step // every): the rate is multiplied by `factor` after every `every` steps."""

    lr: float
    every: int
    factor: float = 0.1

    def __post_init__(self) -> None:
        _check(lr=self.lr, factor=self.factor)
        whole("every", self.every, least=1)

    def __call__(self, step: int) -> float:
        try:
            return self.lr * float(self.factor) ** (step // self.every)
        except OverflowError:  # an infinite rate, which an optimizer refuses
            return math.inf


@dataclass(frozen=True)
class Exponential:
    """From `lr` to `final` in `steps` steps, by the same factor in each step: lr (final / lr)^(step / steps)."""

    lr: float
    steps: int
    final: float

    def __post_init__(self) -> None:
        _check(lr=self.lr, final=self.final)
        whole("steps", self.steps, least=1)

    def __call__(self, step: int) -> float:
        return self.lr * (self.final / self.lr) ** (min(step, self.steps) / self.steps)


@dataclass(frozen=True)
class Cosine:
    """From `lr` to `final` in `steps` steps, along half a cosine: final + (lr - final) (1 + cos(pi step / steps)) / 2.

    Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (2017), equation 5, without restarts.
    """

    lr: float
    steps: int
    final: float = 0.0

    def __post_init__(self) -> None:
        _check(lr=self.lr)
        whole("steps", self.steps, least=1)
        number("final", self.final, least=0)

    def __call__(self, step: int) -> float:
        return self.final + (self.lr - self.final) * (1 + math.cos(math.pi * min(step, self.steps) / self.steps)) / 2


@dataclass(frozen=True)
class WarmUp:
    """Rise linearly for `steps` steps, then follow the schedule `then`, which counts its own steps from 0.

    During the rise, the rate of step t is then(0) (t + 1) / (steps + 1), which is not 0 for t = 0.
    Goyal et al., "Accurate, large minibatch SGD: training ImageNet in 1 hour" (2017), section 2.2.
    """

    steps: int
    then: Schedule

    def __post_init__(self) -> None:
        whole("steps", self.steps, least=1)
        a_function("WarmUp needs a schedule to follow it, such as schedules.Cosine(0.01, steps=1000)", self.then)
        if isinstance(self.then, Plateau):
            raise ValueError("WarmUp cannot be followed by Plateau, which has to see the loss of every epoch")

    def __call__(self, step: int) -> float:
        if step < self.steps:
            return self.then(0) * (step + 1) / (self.steps + 1)
        return self.then(step - self.steps)


@dataclass(frozen=True)
class OneCycle:
    """From lr / 25 up to `lr` in the first 30 % of `steps`, then down to lr / 250,000, both along half cosines.

    Smith and Topin, "Super-convergence" (2018), whose cycle is linear; the half cosines are fastai's, as in PyTorch.
    """

    lr: float
    steps: int

    def __post_init__(self) -> None:
        _check(lr=self.lr)
        whole("steps", self.steps, least=1)

    def __call__(self, step: int) -> float:
        top = 0.3 * self.steps
        if step < top:
            low, fraction = self.lr / 25, step / top
        else:
            low, fraction = self.lr / 250_000, 1 - (min(step, self.steps) - top) / (self.steps - top)
        return low + (self.lr - low) * (1 - math.cos(math.pi * fraction)) / 2


@dataclass
class Plateau:
    """`lr`, times `factor` after every `patience` epochs without a new minimum of the watched value, down to `final`.

    Unless a run is resumed, `fit` resets the schedule to its first `lr`. So one object can be used for several runs,
    one after the other.
    """

    lr: float
    factor: float = 0.5
    patience: int = 3
    final: float = 0.0
    best: float = field(default=math.inf, init=False)
    waited: int = field(default=0, init=False)
    first: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.first = self.lr = number("lr", self.lr, above=0)
        whole("patience", self.patience, least=1)
        number("factor", self.factor, above=0, below=1)
        number("final", self.final, least=0, most=self.lr)

    def __call__(self, step: int) -> float:
        return self.lr

    def begin(self) -> None:
        """Forget what was observed, for another run."""
        self.lr, self.best, self.waited = self.first, math.inf, 0

    def observe(self, value: float) -> None:
        """Take the watched value after an epoch: the validation loss, or without validation the training loss."""
        self.waited += 1
        if value < self.best:
            self.best, self.waited = value, 0
        elif self.waited >= self.patience:  # above it where a resumed run has less patience
            self.lr, self.waited = max(self.lr * self.factor, self.final), 0


if not TYPE_CHECKING:  # which would then take any name for one that exists
    __getattr__ = elsewhere.names_of_module("schedules", globals())
