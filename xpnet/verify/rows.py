"""The kinds of rows in the table of cases: layers, losses, optimizers, initialisers and schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.losses import Loss
from xpnet.nn import Layer, Model
from xpnet.nn.init import Initializer
from xpnet.nn.shapes import Shape
from xpnet.optim import Optimizer
from xpnet.verify.passes import Draw, Subject, loss_values, spread
from xpnet.verify.tolerances import Arrays

Numbers = np.ndarray  # an array of floats, or of `Value`s


@dataclass(frozen=True)
class LayerCase:
    """A layer on samples of one shape.

    `reference(x, p)` and `torch(torch, x, p)` return y; p holds the parameters by name. `draw` makes the inputs. For
    several inputs, `shape` and x are tuples, and `draw` may be one. `state(values)` returns the parameters that are not
    trained as they must be after the pass.
    """

    of: str
    what: str
    make: Callable[[], Layer]
    shape: Shape
    reference: Callable[[Any, dict[str, Numbers]], Any] | None = None
    torch: Callable[[Any, Any, dict[str, Any]], Any] | None = None
    batches: tuple[int, ...] = (1, 5)
    training: bool = False
    draw: Draw | tuple[Draw, ...] = spread
    state: Callable[[dict[str, Numbers]], dict[str, Any]] | None = None

    def subject(self, batch: int) -> Subject:
        return Subject(self.make, self.shape, batch, self.training, self.draw)


@dataclass(frozen=True)
class LossCase:
    """A loss on outputs of one shape. `reference(y, target)` and `torch(torch, y, target)` return its value.

    `target` may draw a tuple of targets and weights; the reference then gets that tuple.
    """

    of: str
    what: str
    make: Callable[[], Loss]
    shape: tuple[int, ...]
    target: Draw
    reference: Callable[[Numbers, np.ndarray], Any]
    torch: Callable[[Any, Any, Any], Any] | None
    batches: tuple[int, ...] = (1, 6)

    def values(self, batch: int) -> Arrays:
        """Outputs and targets for one call."""
        rng, shape = np.random.default_rng([0, batch]), (batch, *self.shape)
        return loss_values(1.5 * spread(rng, shape), self.target(rng, shape))


@dataclass(frozen=True)
class OptimizerCase:
    """An optimizer with these options.

    `formula(x, gradients, **options)` returns one number x after a step with each of the gradients. If the optimizer
    works on whole parameters (`by_parameter`), x is a parameter as nested lists. With `clip`, all gradients are clipped
    to this norm before each step.
    """

    of: str
    what: str
    kind: type[Optimizer]
    formula: Callable[..., Any]
    options: dict[str, Any]
    decay: float = 0.0
    clip: float | None = None

    def make(self, model: Model) -> Optimizer:
        return self.kind(model, **self.options, weight_decay=self.decay)

    def reference(self, x: Any, gradients: Sequence[Any], decayed: bool) -> Any:
        """x after a step with each of the gradients; `decayed` says that it is a weight, not a bias."""
        decay = {"decoupled" if self.kind.decoupled else "decay": self.decay} if decayed else {}
        return self.formula(x, gradients, **self.options, **decay)


@dataclass(frozen=True)
class InitCase:
    """An initialiser on one shape: the mean and variance that its numbers must have, and their bound, if any."""

    of: str
    what: str
    init: Initializer
    shape: tuple[int, ...]
    variance: float
    mean: float = 0.0

    @property
    def bound(self) -> float | None:
        """The largest possible absolute value, or None if there is none.

        Uniform numbers in (-bound, bound) have variance bound^2 / 3. Normal numbers have no bound, and the entries of a
        large random rotation are nearly normal.
        """
        normal = self.of.endswith("normal") or self.of == "orthogonal"
        return None if normal else math.sqrt(3 * self.variance) + abs(self.mean)


@dataclass(frozen=True)
class ScheduleCase:
    """A schedule, and the rates that it must return at some steps, worked out by hand.

    Before each of these steps, the schedule is given the next of the `watched` values, if there are any.
    """

    of: str
    what: str
    make: Callable[[], Any]
    rates: dict[int, float]
    watched: tuple[float, ...] = ()


Case = LayerCase | LossCase | OptimizerCase | InitCase | ScheduleCase


def name(case: Case) -> str:
    """ "Linear: no bias"."""
    return f"{case.of}: {case.what}" if case.what else case.of
