"""The state of a training run: everything that changes from step to step, and nothing else.

It can be copied (to go back to when a value is not finite) and saved (a checkpoint).
"""

from __future__ import annotations

import copy
import functools
import math
import re
import zlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.arguments import SMALLEST, a_function, number, of_kind, whole
from xpnet.backend import Array, Backend
from xpnet.data import Source, batch_slices
from xpnet.losses import Loss
from xpnet.nn import Model
from xpnet.optim import Optimizer, WeightAverage
from xpnet.parallel import ALONE, Group
from xpnet.parallel.group import in_all, own_stream
from xpnet.train.checks import check_data, check_parts
from xpnet.train.evaluation import as_metrics, batch_sums, means
from xpnet.train.metrics import Metric, centred
from xpnet.train.step import train_step

if TYPE_CHECKING:
    from xpnet.schedules import Plateau, Schedule

BATCH = 64  # samples in a step by default, if the data have that many
ABOVE_DENORMALS = 1e8  # `drop_denormals` acts this far above the denormal numbers: 175 steps of decay by 0.9

Row = dict[str, float]
Augmentation = Callable[[Array, Backend], Array]


@dataclass
class Position:
    """The position of a run, in plain values on the host."""

    epoch: int = 0  # epochs completed
    batch: int = 0  # batches completed in the current epoch
    best: float = math.inf  # the lowest watched loss so far
    best_epoch: int = 0  # the epoch after which it was measured, 0 for none
    waited: int = 0  # epochs since then
    watched: str = ""  # the digest of the data whose loss is watched, "" for the training data


class Run:
    """A model, what trains it, its data on the device, and the position reached."""

    def __init__(
        self,
        model: Model,
        loss: Loss,
        optimizer: Optimizer,
        data: Source,
        batch_size: int | None,
        schedule: Schedule | None = None,
        clip: float | None = None,
        augment: Augmentation | None = None,
        metrics: Sequence[Metric] | None = None,
        accumulate: int = 1,
        average: WeightAverage | None = None,
        group: Group = ALONE,
    ):
        of_kind("a model is what nn.Model(network, input_shape, backend) makes", model, Model)
        of_kind("an optimizer is made for a model, such as optim.Adam(model)", optimizer, Optimizer)
        if schedule is not None:
            a_function("a schedule is a function of the step, such as schedules.Cosine(0.01, steps=1000)", schedule)
        clip = clip if clip is None else number("clip", clip, least=SMALLEST)
        if augment is not None:
            a_function("an augmentation is a function of a batch, such as data.Augment(rotate=10)", augment)
        if average is not None:
            of_kind("an average is made for a model, as optim.WeightAverage(model)", average, WeightAverage)
        if optimizer.model is not model:
            raise ValueError("the optimizer was made for another model")
        if average is not None and average.model is not model:
            raise ValueError("the average was made for another model")
        check_data(model, loss, data)
        check_parts(loss, accumulate, group.size)
        self.model, self.loss, self.optimizer, self.schedule, self.group = model, loss, optimizer, schedule, group
        self.clip, self.augment, self.accumulate, self.average = clip, augment, accumulate, average
        self.metrics = as_metrics(metrics, model, data)
        self._summed = centred(self.metrics, data.y, getattr(data, "weights", None))
        self.batch_size = min(BATCH, len(data)) if batch_size is None else whole("batch_size", batch_size, least=1)
        self.data, self.slices = data, batch_slices(len(data), self.batch_size)
        self.parts = [group.share(batch) for batch in self.slices]  # this process's part of each batch
        self.feed = data.feed(model.backend, model.as_input)
        # float64: in float32 the sum over many batches would lose digits of what the next one adds.
        self.totals = model.backend.xp.zeros(2 + sum(metric.size for metric in self.metrics), np.float64)
        self._each_total = [self.totals[i : i + 1] for i in range(len(self.totals))]
        self.position, self.history = Position(), list[Row]()
        self.best: Array = model.data.copy()
        self.captured: Callable[..., None] | None = None  # `device_step`, if the device has captured it
        self.eager = ""  # why not all steps are captured, if the device could capture them
        self._epoch_begun = -1
        if group.size > 1:
            self._join(group)

    def _join(self, group: Group) -> None:
        """Check that all processes start alike, then give each its own random stream."""
        kind = self.model.backend.device.partition(":")[0]
        schedule = copy.copy(self.schedule)
        if (plateau := remembering(schedule)) is not None:
            plateau.begin()  # as the run will do: earlier observations make no difference
        rates = {"lr": self.optimizer.lr, "schedule": described(schedule)}
        all_settings = {**self.settings, "device": kind, "optimizer": self.optimizer.described, **rates}
        self.agree("starts with other settings", all_settings)
        self.agree("starts with other parameters", self.digest())
        rng = self.model.backend.rng
        rng.state = own_stream(rng.state, group.rank)

    def agree(self, what: str, value: Any) -> None:
        """Raise RuntimeError, in all processes, unless this value is the same in all of them."""
        first, *others = self.group.gather(value)
        for rank, theirs in enumerate(others, start=1):
            if theirs != first:
                raise in_all(RuntimeError(f"process {rank} {what} than process 0: {_apart(first, theirs)}"))

    @functools.cached_property
    def settings(self) -> dict[str, Any]:
        """What another run must share to continue this one; for checkpoints and groups alone, as it reads all data."""
        return {
            "samples": len(self.data),
            "batch_size": self.batch_size,
            "seed": self.model.backend.seed,
            "precision": self.model.backend.precision,
            "data": self.data.digest(),
            "loss": described(self.loss),
            "clip": self.clip,
            "accumulate": self.accumulate,
            "average": self.average and self.average.decay,
            "augment": described(self.augment),
            "metrics": [metric.name for metric in self.metrics],
            "frozen": sorted(self.model.frozen),
        }

    def digest(self) -> str:
        """A checksum of the model's values, which tells whether two models have the same."""
        return f"{zlib.crc32(np.ascontiguousarray(self.model.backend.to_host(self.model.data)).data):08x}"

    @property
    def steps_done(self) -> int:
        return self.position.epoch * len(self.slices) + self.position.batch

    def step(self) -> None:
        """Train on the next batch: one update of the model."""
        if self.schedule is not None:
            self.optimizer.lr = self.schedule(self.steps_done)
        (self.captured or self.device_step)(*self.next_inputs())
        self.position.batch += 1

    def close(self) -> None:
        """Close the feed, and drop the captured step, which refers to the run: without that cycle, device memory is
        freed with the last reference to the run, not when Python next collects cycles."""
        self.captured = None
        self.feed.close()

    def next_inputs(self) -> tuple[Array, ...]:
        """The inputs of `device_step` for the next batch."""
        position = self.position
        if self._epoch_begun != position.epoch:
            self.feed.begin(self.data.order(self.model.backend.seed, position.epoch), self.parts)
            self._epoch_begun = position.epoch
        return self.feed.inputs(self.parts[position.batch])

    def device_step(self, *inputs: Array) -> None:
        """The part of a step that runs on the device: nothing in it needs a value read by the host."""
        backend = self.model.backend
        x, target = self.feed.batch(*inputs)
        if self.augment is not None:
            x = self.augment(x, backend)
        value, y = train_step(self.model, self.loss, self.optimizer, x, target, self.clip, self.accumulate, self.group)
        if self.average is not None:
            self.average.update()
        if y is None:  # this process had no sample of the batch
            return
        sums = batch_sums(self.loss, self._summed, y, target, value, backend)
        for total, more in zip(self._each_total, sums, strict=True):
            total += more  # in place: a view of `totals`

    def means(self) -> tuple[float, dict[str, float]]:
        """(loss, metrics): the means over this epoch's batches so far. Waits for the device."""
        return means(self.group.sum(self.model.backend.to_host(self.totals)), self.metrics)

    def end_epoch(self, row: Row, watched: float) -> None:
        """Record an epoch that is done; keep the weights if they are the best so far."""
        position = self.position
        position.epoch, position.batch = position.epoch + 1, 0
        self.totals.fill(0)
        self.history.append(row)
        if (plateau := remembering(self.schedule)) is not None:
            plateau.observe(watched)
        position.waited += 1
        if watched < position.best:
            position.best, position.best_epoch, position.waited = watched, position.epoch, 0
            self.best[...] = self.model.data if self.average is None else self.average.values

    def drop_denormals(self) -> None:
        """Set values of the optimizer's state as small as 1e-30 (in float64 1e-300) to 0.

        If gradients are 0 from some step on, as for a unit that is never active again, sums of past gradients shrink
        until they are denormal numbers, which take a CPU thirty times as long. By then they affect no parameter.
        """
        for array in self.optimizer.state.values():
            for piece in self.model.backend.chunks(len(array)):
                part = array[piece]
                part *= abs(part) >= float(np.finfo(part.dtype).tiny) * ABOVE_DENORMALS

    def measured(self) -> AbstractContextManager[object]:
        """Inside the block the model has the values to be measured: the averages, if there are any."""
        return nullcontext() if self.average is None else self.average.applied()

    # Going back ---------------------------------------------------------------------------------------------

    def changing(self) -> dict[str, Array]:
        """Every device array that a step changes, except the gradients and the random stream."""
        optimizer = self.optimizer
        return {
            "the parameters": self.model.data,
            "the totals": self.totals,
            "the step count": optimizer.steps,
            **{f"the optimizer's {name}": array for name, array in optimizer.state.items()},
            **{f"the average's {name}": array for name, array in self._of_average().items()},
        }

    def _of_average(self) -> dict[str, Array]:
        return {} if self.average is None else {"values": self.average.values, "steps": self.average.steps}

    def snapshot(self) -> tuple:
        """What `go_back` needs to repeat this epoch's steps from here on, bit for bit."""
        return self.position.batch, {k: a.copy() for k, a in self.changing().items()}, self.model.backend.rng.state

    def go_back(self, snapshot: tuple) -> None:
        self.position.batch, arrays, self.model.backend.rng.state = snapshot
        for name, array in self.changing().items():
            array[...] = arrays.get(name, 0)  # the velocity of a momentum that was set later began at 0

    # A checkpoint's part ------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, np.ndarray]:
        """All arrays but the model's own, on the host. Of a group: random states (size, 6), and the sum of the
        totals."""
        to_host, group = self.model.backend.to_host, self.group
        self.optimizer.gather_state()
        streams = group.gather(self.model.backend.rng.state)
        state = {"totals": group.sum(to_host(self.totals)), "best": to_host(self.best)}
        state["rng"] = streams[0] if group.size == 1 else np.stack(streams)
        state |= {f"average.{name}": to_host(array) for name, array in self._of_average().items()}
        return {**state, **{f"optimizer.{name}": a for name, a in self.optimizer.tensors().items()}}

    def load_tensors(self, tensors: dict[str, np.ndarray]) -> None:
        """Restore what `tensors()` returned; the group may have another size now."""
        prefix, backend, rank = "optimizer.", self.model.backend, self.group.rank
        self.optimizer.load_tensors({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
        for name, array in self._of_average().items():
            array[...] = backend.asarray(tensors[f"average.{name}"])
        self.best[...] = backend.asarray(tensors["best"])
        self.totals[...] = backend.asarray(tensors["totals"], np.float64) if rank == 0 else 0
        states = tensors["rng"].reshape(-1, 6)
        backend.rng.state = states[rank] if rank < len(states) else own_stream(states[0], rank)


def remembering(schedule: Schedule | None) -> Plateau | None:
    """The schedule if it is a `Plateau`, the only kind that has a state; otherwise None."""
    from xpnet.schedules import Plateau  # here, to keep `from xpnet import train` light

    return schedule if isinstance(schedule, Plateau) else None


def _apart(one: Any, other: Any, what: str = "") -> str:
    """How two values differ, as text; `what` is their name."""
    if isinstance(one, dict) and isinstance(other, dict):
        names = [name for name in {**one, **other} if other.get(name) != one.get(name)]
        return ", ".join(_apart(one.get(name), other.get(name), f"{what}{name} ") for name in names)
    return f"{what}{other!r}, not {one!r}"


def described(setting: Any) -> Any:
    """A loss, augmentation or schedule with its options: JSON-able, and equal in all processes (no addresses)."""
    if isinstance(setting, np.ndarray):
        return f"{setting.dtype} {setting.shape} {zlib.crc32(np.ascontiguousarray(setting).data):08x}"
    if isinstance(setting, (list, tuple)):
        return [described(value) for value in setting]
    if isinstance(setting, (set, frozenset)):
        return sorted(str(described(value)) for value in setting)
    if isinstance(setting, dict):
        return {str(name): described(value) for name, value in sorted(setting.items())}
    if isinstance(setting, functools.partial):
        return [described(part) for part in (setting.func, setting.args, setting.keywords)]
    if type(setting).__repr__ is object.__repr__:
        return [type(setting).__name__, described(getattr(setting, "__dict__", {}))]
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(setting))
