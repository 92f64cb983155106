"""`fit`: the training loop around `train_step`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.arguments import counted, of_kind, whole
from xpnet.backend.allocator import keep_freed_memory
from xpnet.data import Source
from xpnet.losses import Loss
from xpnet.nn import Model
from xpnet.optim import Optimizer, WeightAverage
from xpnet.parallel import ALONE, Group
from xpnet.train.callbacks import Callback, ask_callbacks
from xpnet.train.capture import capture
from xpnet.train.checkpoint import save_checkpoint
from xpnet.train.checks import check_validation, warn_of_doubled, warn_of_early_end
from xpnet.train.evaluation import evaluate
from xpnet.train.finite import raise_culprit
from xpnet.train.interrupt import ctrl_c
from xpnet.train.memory import within_memory
from xpnet.train.metrics import Metric
from xpnet.train.progress import Reporter
from xpnet.train.run import Augmentation, Row, Run
from xpnet.train.sizes import LayerSizes
from xpnet.train.start import begin

if TYPE_CHECKING:
    from xpnet.schedules import Schedule

CHECK_EVERY = 50  # steps between two checks of the loss: on a GPU every check waits for the device


@dataclass(frozen=True)
class Result:
    """What `fit` returns.

    `history` has one row per epoch. `stopped` is "" if all epochs were done, otherwise the reason why not. `eager` is
    "" if the device captured all steps or cannot capture any, otherwise the reason why some or all of them ran one by
    one.
    """

    history: list[Row]
    best_epoch: int
    stopped: str = ""
    eager: str = ""

    def _repr_html_(self) -> str:
        """For notebooks: the epochs as a table."""
        from xpnet.train.notebook import epochs_as_html

        return epochs_as_html(self.history, self.best_epoch, self.stopped)


def fit(
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    train: Source,
    validation: Source | None = None,
    *,
    epochs: int,
    batch_size: int | None = None,
    schedule: Schedule | None = None,
    clip: float | None = None,
    augment: Augmentation | None = None,
    metrics: Sequence[Metric] | None = None,
    accumulate: int = 1,
    average: WeightAverage | None = None,
    patience: int | None = None,
    keep_best: bool = False,
    callbacks: Sequence[Callback] = (),
    watch: LayerSizes | None = None,
    checkpoint: str | os.PathLike | None = None,
    resume: bool = False,
    quiet: bool = False,
    group: Group = ALONE,
) -> Result:
    """Train `model` on `train` for `epochs`, in an order that depends only on the backend's seed.

    Every call starts with the order of epoch 0: a loop of calls with `epochs=1` visits the samples in the same order
    again and again. To do something between two epochs, use `callbacks`. To continue training after a call, give both
    calls the same `checkpoint`, and the later one `resume=True` and the total number of `epochs`.

    - A step takes `batch_size` samples. The default is 64, or all samples if there are fewer.
    - `schedule(step)` sets the learning rate before each step; steps are counted from 0, over all epochs. `clip` bounds
      the gradient's norm (`optim.clip_norm`); `augment(x, backend)` changes each batch before it is used
      (`data.Augment`).
    - With `accumulate` k, each batch goes through the network in k parts, so that a batch may be larger than memory
      would otherwise allow. The update is that of the whole batch, except that BatchNorm takes its statistics from each
      part.
    - With `average`, the model's weights are averaged during training. The averages are what is measured on
      `validation` and kept by `keep_best`. Without `keep_best` the model ends with its own weights; inside `with
      average.applied():` it has the averages.
    - A row of the history has the loss and each of `metrics` on the training data, and on `validation` if given.
      Without `metrics`, the default ones for the task are used: accuracy if the targets are class numbers.
    - A model without `classes` takes the data's class names, if there are as many as the model has outputs.
    - The loss on `validation` is watched (without `validation`, the training loss): `patience` epochs without a new
      lowest value end the run, and `keep_best` restores the weights of the lowest value at the end.
    - Each of `callbacks` is called with a copy of the epoch's row and the model; one that returns True ends the run. It
      may change the optimizer's rate and settings, and the parameters.
    - `watch` records how large activations and gradients are, layer by layer.
    - `checkpoint` is written after every epoch. With `resume`, a run continues from the file, on the CPU bit for bit as
      if it had never stopped; if there is no file yet, it starts from the beginning. Without `resume`, an existing file
      is never touched. Data, loss, optimizer (with the settings that a callback has given it), batch size, clip,
      augmentation, accumulation, average, metrics, frozen parameters and seed must be the same as in the file. The
      position in the run, the learning rate and the state of `Plateau` come from the file. `epochs`, `patience`,
      `validation`, `callbacks` and the schedule itself are those of the new call. If the validation data differ from
      those in the file, the lowest loss and the count of epochs since then start afresh, in the run and in `Plateau`.
    - Ctrl-C ends the run after the current step; its work is kept, and written to the checkpoint.
    - If the device can capture a step (a GPU), steps are captured once a replayed step on a batch of that size has
      given the same bits as an eager one. Otherwise the steps run one by one, and the result says why.
    - With `group` (`parallel.join()`, in a program started by `mpiexec -n N`) the processes train one model together:
      see `xpnet.parallel`.

    On a backend of precision "float16" the loss is scaled (`optim.loss_scale`). A step whose gradient overflows leaves
    parameters and optimizer unchanged and halves the scale; a row has the `loss_scale` and the number of
    `skipped_steps` so far.

    The loss is checked every 50 steps. If it is not finite, the run goes back, finds the step and the layer, and raises
    `NotFiniteError`; the model then has the values it had before that step.

    The training loss and metrics of a row are means over the batches as they were trained, with dropout and
    augmentation, by weights that changed from batch to batch.

    Raises FileExistsError if the checkpoint exists and `resume` is False; ValueError for a batch larger than the data,
    targets that do not fit the loss, samples of another shape, or other classes; `ModelFileError` for a checkpoint of
    another run; OSError if the checkpoint cannot be written; RuntimeError if the backend is already training, in
    another thread or around this call; `OutOfMemoryError`, which names a batch size that would fit.
    """
    if resume and checkpoint is None:
        raise ValueError("resume needs the path of a checkpoint")
    epochs, accumulate = whole("epochs", epochs, least=1), whole("accumulate", accumulate, least=1)
    whole("patience", 1 if patience is None else patience, least=1)
    of_kind("callbacks are a list of functions, such as [print]", callbacks, (list, tuple))
    of_kind("watch takes sizes, such as train.LayerSizes(model)", watch, (LayerSizes, type(None)))
    of_kind("a group is what parallel.join() gives", group, Group)
    if validation is not None:
        check_validation(model, loss, validation, train)
    run = Run(model, loss, optimizer, train, batch_size, schedule, clip, augment, metrics, accumulate, average, group)
    given: dict[str, Any] = {"epochs": epochs, "patience": patience, "keep_best": keep_best, "resume": resume}
    given |= {"checkpoint": checkpoint is not None, "validation": validation is not None}
    run.agree("was asked for something else", given)
    if validation is not None and (group.size > 1 or checkpoint is not None):
        run.position.watched = validation.digest()
    run.agree("validates on other data", run.position.watched)
    there = checkpoint is not None and group.first(partial(_is_there, checkpoint, resume))
    warn_of_doubled(model, loss)
    warn_of_early_end(schedule, len(run.slices), epochs)
    keep_freed_memory()
    # NumPy would warn of an overflow, a GPU never does; `fit` checks for values that are not finite itself.
    quietly = np.errstate(all="ignore")
    # In a group one thread each, unless a number was asked for: each process has a core of its own.
    threads = model.backend.threads_for(run.batch_size * model.n_parameters if group.size == 1 else 0)
    memory = within_memory(run, train, -(-run.batch_size // group.size))
    with _alone(model), closing(run), threads, memory, quietly:
        begin(run, checkpoint, there)
        stopped = _enough(run, patience)  # a run that had stopped early stays stopped when resumed
        reporter = Reporter(epochs, len(run.slices), quiet or group.rank > 0, run.history)
        with optimizer.shared_by(group), reporter, ctrl_c() as interrupt, group.held():
            while run.position.epoch < epochs and not stopped:
                row = _epoch(run, validation, reporter, interrupt, watch)
                if row is None:
                    stopped = "interrupted"
                    break
                stopped = "a callback asked for it" if ask_callbacks(run, callbacks, row) else _enough(run, patience)
                if checkpoint is not None:
                    save_checkpoint(run, checkpoint)
    if group.any(interrupt.is_set()) and not stopped:  # Ctrl-C after the last batch
        stopped = "interrupted"
    if stopped == "interrupted" and checkpoint is not None:
        save_checkpoint(run, checkpoint)
    if keep_best and run.position.best_epoch:
        model.data[...] = run.best
    return Result(run.history, run.position.best_epoch, stopped, run.eager)


def _is_there(checkpoint: str | os.PathLike, resume: bool) -> bool:
    """Whether there is a checkpoint to continue from; FileExistsError if there is one and `resume` is False."""
    there = Path(checkpoint).exists()
    if there and not resume:
        raise FileExistsError(f"{checkpoint} exists: go on from it with resume=True, or name another checkpoint")
    return there


def _epoch(
    run: Run, validation: Source | None, reporter: Reporter, interrupt: threading.Event, watch: LayerSizes | None
) -> Row | None:
    """Train the rest of the current epoch, measure the model and return the epoch's row; None if interrupted."""
    with run.model.backend.mode(training=True):
        capture(run, reporter.note)
    started = time.perf_counter()
    if not _batches(run, reporter, interrupt, watch):
        return None
    run.optimizer.gather_state()  # for callbacks, which see the whole state
    row = _row(run, validation, time.perf_counter() - started)
    if run.group.size > 1:  # the digest brings all parameters to the host
        run.agree(f"has other parameters after epoch {row['epoch']}", run.digest())
    run.end_epoch(row, row.get("validation_loss", row["train_loss"]))
    reporter.epoch(row)
    return row


def _batches(run: Run, reporter: Reporter, interrupt: threading.Event, watch: LayerSizes | None) -> bool:
    """Train on the batches that are left of the current epoch; return False if interrupted."""
    with run.model.backend.mode(training=True):
        snapshot, ask_every = run.snapshot(), _ask_every(run)
        while run.position.batch < len(run.slices):
            _step(run, watch)
            leave = run.steps_done % ask_every == 0 and run.group.any(interrupt.is_set())
            regular = run.steps_done % CHECK_EVERY == 0 or run.position.batch == len(run.slices)
            if regular or leave:
                mean_loss, figures = run.means()
                run.agree(f"has another rate in step {run.steps_done}", run.optimizer.lr)
                if run.group.any(not np.isfinite(mean_loss) or not _finite(run)):
                    raise_culprit(run, snapshot)
                if regular:  # where a run is interrupted must not change its results
                    run.drop_denormals()
                reporter.batches(run.position.epoch, run.position.batch, mean_loss, figures, run.optimizer.lr)
                del snapshot  # each holds the model and the optimizer's state
                snapshot = run.snapshot()
            if leave:
                return False
    return True


def _step(run: Run, watch: LayerSizes | None) -> None:
    """Train on the next batch; `watch` observes the step if it is one of those that it wants."""
    number = run.steps_done
    if watch is None or not watch.wants(number):
        run.step()
        return
    with run.model.backend.observed_by(watch):
        run.step()
    watch.step_done(number)


def _ask_every(run: Run) -> int:
    """The number of steps between two checks, across the group, whether any process was interrupted.

    As many as take a fifth of a second, estimated from the history, which is the same in all processes.
    """
    if run.group.size == 1 or not run.history:
        return 1
    return max(1, int(0.2 * len(run.slices) / max(run.history[-1]["seconds"], 0.001)))


def _enough(run: Run, patience: int | None) -> str:
    """The reason to stop early, "" if there is none."""
    if patience is None or run.position.waited < patience:
        return ""
    return f"no better for {counted(patience, 'epoch')}"


def _finite(run: Run) -> bool:
    """Whether all parameters and the optimizer's state are finite."""
    isfinite = run.model.backend.xp.isfinite
    return all(bool(isfinite(array).all()) for array in run.changing().values())


def _row(run: Run, validation: Source | None, seconds: float) -> Row:
    """The row of the history for the current epoch, whose batches are done."""
    mean_loss, figures = run.means()
    row: Row = {"epoch": run.position.epoch + 1, "train_loss": mean_loss}
    row |= {f"train_{name}": figure for name, figure in figures.items()}
    if validation is not None:
        with run.measured():
            measured = evaluate(run.model, run.loss, validation, metrics=run.metrics, group=run.group)
        row["validation_loss"] = measured.loss
        row |= {f"validation_{name}": figure for name, figure in measured.metrics.items()}
    if run.optimizer.loss_scale is not None:
        row |= run.optimizer.loss_scale.figures
    row |= {"lr": run.optimizer.lr, "seconds": seconds}
    return run.group.first(lambda: row)  # so that all processes base their decisions on the same numbers


@contextmanager
def _alone(model: Model) -> Iterator[None]:
    """Allow one run at a time on a backend: two would overwrite each other's working memory."""
    if not model.backend.training_lock.acquire(blocking=False):
        raise RuntimeError("this backend is training already, in another thread or around this: each run needs its own")
    try:
        yield
    finally:
        model.backend.training_lock.release()
