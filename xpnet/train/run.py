"""The state of a training run: all that changes from step to step, and nothing else.

It can be copied (to go back to, when a value is found that is not finite) and written down (a checkpoint).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.data import Dataset, batch_slices, epoch_order
from xpnet.losses import Loss
from xpnet.nn import Model
from xpnet.optim import Optimizer
from xpnet.schedules import Plateau, Schedule
from xpnet.train.step import right_answers, samples, train_step

Row = dict[str, float]
Augmentation = Callable[[Array, Backend], Array]


@dataclass
class Progress:
    """Where a run stands, in plain numbers on the host."""

    epoch: int = 0  # epochs that are done
    batch: int = 0  # batches of the next one that are done
    best: float = math.inf  # the lowest watched loss so far,
    best_epoch: int = 0  # the epoch after which it was measured,
    waited: int = 0  # and how many epochs have passed since


class Run:
    """A model, what trains it, its data on the device, and where it stands."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        optimizer: Optimizer,
        data: Dataset,
        batch_size: int,
        schedule: Schedule | None = None,
        clip: float | None = None,
        augment: Augmentation | None = None,
    ):
        if optimizer.model is not model:
            raise ValueError("the optimizer was made for another model")
        self.model, self.loss, self.optimizer, self.schedule = model, loss, optimizer, schedule
        self.clip, self.augment = clip, augment
        backend = model.backend
        self.slices = batch_slices(len(data), batch_size)
        self.x, self.y = backend.asarray(samples(model, data.x)), backend.asarray(data.y)
        self.totals = backend.xp.zeros(2, backend.dtype)  # of this epoch: sum of losses, right answers
        self.progress, self.history = Progress(), list[Row]()
        self.best: Array = model.data.copy()
        self.settings = {  # what a run must share with another to be its continuation
            "samples": len(data),
            "batch_size": batch_size,
            "seed": backend.seed,
            "data": _digest(data),
            "loss": _in_words(loss),
            "clip": clip,
            "augment": _in_words(augment),
        }
        self._order: tuple[int, Array] = (-1, None)

    @property
    def steps_done(self) -> int:
        return self.progress.epoch * len(self.slices) + self.progress.batch

    def step(self) -> None:
        """The next batch: one update of the model."""
        progress, batch = self.progress, self.slices[self.progress.batch]
        if self.schedule is not None:
            self.optimizer.lr = self.schedule(self.steps_done)
        if self._order[0] != progress.epoch:
            order = epoch_order(len(self.y), self.model.backend.seed, progress.epoch)
            self._order = (progress.epoch, self.model.backend.asarray(order))
        self._step_on(self._order[1][batch])
        progress.batch += 1

    def _step_on(self, indices: Array) -> None:
        backend = self.model.backend
        x, target = backend.take(self.x, indices), backend.take(self.y, indices)
        if self.augment is not None:
            x = self.augment(x, backend)
        value, y = train_step(self.model, self.loss, self.optimizer, x, target, self.clip)
        self.totals[:1] += value * len(target)
        self.totals[1:] += right_answers(y, target)

    def means(self) -> tuple[float, float]:
        """(loss, accuracy) over the batches of this epoch so far. Waits for the device."""
        seen = self.slices[self.progress.batch - 1].stop if self.progress.batch else 1
        loss, right = self.model.backend.to_host(self.totals).tolist()
        return loss / seen, right / seen

    def end_epoch(self, row: Row, watched: float) -> None:
        """Write down an epoch that is done; keep the weights if they are the best so far."""
        progress = self.progress
        progress.epoch, progress.batch = progress.epoch + 1, 0
        self.totals.fill(0)
        self.history.append(row)
        if isinstance(self.schedule, Plateau):
            self.schedule.observe(watched)
        progress.waited += 1
        if watched < progress.best:
            progress.best, progress.best_epoch, progress.waited = watched, progress.epoch, 0
            self.best[...] = self.model.data

    # Going back ---------------------------------------------------------------------------------------------

    def _changing(self) -> list[Array]:
        return [self.model.data, self.totals, self.optimizer.steps, *self.optimizer.state.values()]

    def snapshot(self) -> tuple:
        """What `go_back` needs to repeat the steps of this epoch that come after this moment, bit for bit."""
        return self.progress.batch, [a.copy() for a in self._changing()], self.model.backend.rng.state

    def go_back(self, snapshot: tuple) -> None:
        self.progress.batch, arrays, self.model.backend.rng.state = snapshot
        for now, then in zip(self._changing(), arrays, strict=True):
            now[...] = then

    # A checkpoint's part ------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, np.ndarray]:
        """All arrays on the host but the model's own."""
        to_host = self.model.backend.to_host
        state = {"totals": to_host(self.totals), "best": to_host(self.best), "rng": self.model.backend.rng.state}
        return {**state, **{f"optimizer.{name}": a for name, a in self.optimizer.tensors().items()}}

    def load_tensors(self, tensors: dict[str, np.ndarray]) -> None:
        prefix = "optimizer."
        self.optimizer.load_tensors({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        asarray = self.model.backend.asarray
        self.totals[...], self.best[...] = asarray(tensors["totals"]), asarray(tensors["best"])
        self.model.backend.rng.state = tensors["rng"]


def _digest(data: Dataset) -> str:
    """Enough to notice that a run is resumed on other data."""
    return "-".join(f"{zlib.crc32(np.ascontiguousarray(a).data):08x}" for a in (data.x, data.y))


def _in_words(setting: Any) -> str:
    """A loss or an augmentation, the same in another process: no address in it."""
    if hasattr(setting, "__qualname__"):  # a function
        return setting.__qualname__
    return f"{type(setting).__name__}({', '.join(f'{k}={v!r}' for k, v in getattr(setting, '__dict__', {}).items())})"
