"""`fit`: the loop around the step."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xpnet.arguments import of_kind, whole
from xpnet.backend.allocator import keep_freed_memory
from xpnet.data import Source
from xpnet.losses import Loss
from xpnet.nn import Model
from xpnet.optim import Optimizer, WeightAverage
from xpnet.parallel import ALONE, Group
from xpnet.train.callbacks import Callback, ask_callbacks
from xpnet.train.capture import capture
from xpnet.train.checkpoint import save_checkpoint
from xpnet.train.checks import check_validation, warn_of_doubled
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

CHECK_EVERY = 50  # steps between two looks at the loss: on a GPU every look waits for the device


@dataclass(frozen=True)
class Result:
    """What `fit` gives back. `history` has a row an epoch; `stopped` is "" if all epochs were done, else why not;
    `eager` is "" where the device captured the steps or cannot capture any, else why they, or some, ran one by one."""

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
    """Train `model` on `train` for `epochs`, in an order that depends on the backend's seed alone.

    Each call begins with the order of epoch 0: a loop of calls with `epochs=1` goes through the samples in the same
    order again and again. For something to be done between two epochs use `callbacks`; to train on after a call, give
    both a `checkpoint`, the later one with `resume=True` and the number of all `epochs` together.

    - A step takes `batch_size` samples: 64 where none is given, or all if there are fewer.
    - `schedule(step)` sets the rate before each step; `clip` bounds the gradient's norm (`optim.clip_norm`);
      `augment(x, backend)` changes each batch before it is used (`data.Augment`).
    - With `accumulate` k, each batch goes through the network in k parts, for larger batches than the memory holds:
      the update is that of the whole batch, but that BatchNorm's statistics are those of a part.
    - With `average`, the model's weights are averaged along the way: those are measured on `validation` and kept by
      `keep_best`. Without that, the model ends with its own; `with average.applied():` it has the averages.
    - A row of the history has the loss and each of `metrics` on the training data, and on `validation` if that is
      given. Without `metrics`, those of the task: the accuracy where the targets are class numbers.
    - A model without `classes` takes the names of the data's, if there are as many as outputs.
    - The loss on `validation` (without one, on the batches as they were trained) is watched: `patience` epochs
      without a new lowest value end the run; `keep_best` puts back the weights of the lowest in the end.
    - Each of `callbacks` is called with the epoch's row and the model; one that returns True ends the run. One may
      change the optimizer's rate and settings, and parameters.
    - `watch` notes how large activations and gradients are, layer by layer.
    - `checkpoint` is written after every epoch. With `resume`, a run goes on from there, on the CPU bit for bit as
      if it had never stopped; where there is no file yet, it begins. Only a run that resumes touches a file that is
      there. Data, loss, optimizer (with the settings that a callback has given it), batch size, clip, augmentation,
      accumulation, average, metrics, frozen parameters and seed must be those of the file; where the run stands, its
      rate and what `Plateau` remembers come from the file; `epochs`, `patience`, `validation`, `callbacks` and the
      schedule itself are the ones given now. Where the validation data are other ones than in the file, the lowest
      loss, the waiting for a lower one and what `Plateau` remembers of both begin anew.
    - Ctrl-C ends the run after the step that is under way, with its work kept (and written down).
    - Where the device can capture a step (a GPU), it is captured, once a replayed step on a batch of that size has
      given the same bits as an eager one; otherwise the steps run one by one, and the result says why.
    - With `group` (`parallel.join()`, in a program that `mpiexec -n N` has started) the processes train one model
      together: see `xpnet.parallel`.

    On a backend of precision "float16" the loss is scaled (`optim.loss_scale`). A step whose gradient overflows leaves
    parameters and optimizer as they are and halves the scale; a row has the `loss_scale` and the number of
    `skipped_steps` so far.

    The loss is looked at every 50 steps. If it is not finite, the run goes back, finds the step and the layer, and
    raises `NotFiniteError`; the model then has the values it had before that step.

    The training loss and metrics of a row are means over the batches as they were trained, with dropout and
    augmentation, by weights that changed from batch to batch.

    Raises FileExistsError for a checkpoint that is there and is not to be resumed; ValueError for a batch larger than
    the data, targets that do not fit the loss, samples of another shape, other classes; `ModelFileError` for a
    checkpoint of another run; OSError if the checkpoint cannot be written; RuntimeError if the backend is training in
    another thread; `OutOfMemoryError`, which names a batch that would fit.
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
    if group.size > 1:
        asked_for = {"epochs": epochs, "patience": patience, "keep_best": keep_best, "resume": resume}
        asked_for |= {"checkpoint": checkpoint is not None, "validation": validation is not None}
        run.agree("was asked for something else", asked_for)
    if validation is not None and (group.size > 1 or checkpoint is not None):
        run.position.watched = validation.digest()
    run.agree("validates on other data", run.position.watched)
    there = checkpoint is not None and group.first(partial(_is_there, checkpoint, resume))
    warn_of_doubled(model, loss)
    keep_freed_memory()
    # NumPy would warn of an overflow, a GPU never does; here every value that is not finite is looked for.
    quietly = np.errstate(all="ignore")
    # One thread in a group: each of its processes has a core.
    threads = model.backend.threads_for(run.batch_size * model.n_parameters if group.size == 1 else 0)
    memory = within_memory(run, train, -(-run.batch_size // group.size))
    with _alone(model), closing(run), threads, memory, quietly:
        begin(run, checkpoint, there)
        stopped = _enough(run, patience)  # a run that was stopped and is resumed stays stopped
        reporter = Reporter(epochs, len(run.slices), quiet or group.rank > 0, run.history)
        with optimizer.shared_by(group), reporter, ctrl_c() as asked, group.held():
            while run.position.epoch < epochs and not stopped:
                with model.backend.mode(training=True):
                    capture(run, reporter.note)
                started = time.perf_counter()
                if not _epoch(run, reporter, asked, watch):
                    stopped = "interrupted"
                    break
                optimizer.gather_state()  # for callbacks
                row = _row(run, validation, time.perf_counter() - started)
                if group.size > 1:  # the digest is of all parameters, brought to the host
                    run.agree(f"has other parameters after epoch {row['epoch']}", run.digest())
                run.end_epoch(row, row.get("validation_loss", row["train_loss"]))
                reporter.epoch(row)
                stopped = "a callback asked for it" if ask_callbacks(run, callbacks, row) else _enough(run, patience)
                if checkpoint is not None:
                    save_checkpoint(run, checkpoint)
    if group.any(asked.is_set()) and not stopped:  # after the last batch
        stopped = "interrupted"
    if stopped == "interrupted" and checkpoint is not None:
        save_checkpoint(run, checkpoint)
    if keep_best and run.position.best_epoch:
        model.data[...] = run.best
    return Result(run.history, run.position.best_epoch, stopped, run.eager)


def _is_there(checkpoint: str | os.PathLike, resume: bool) -> bool:
    """Whether there is a checkpoint to go on from."""
    there = Path(checkpoint).exists()
    if there and not resume:
        raise FileExistsError(f"{checkpoint} exists: go on from it with resume=True, or name another checkpoint")
    return there


def _epoch(run: Run, reporter: Reporter, asked: threading.Event, watch: LayerSizes | None) -> bool:
    """The rest of the epoch that the run stands in; False if it was interrupted."""
    with run.model.backend.mode(training=True):
        snapshot, ask_every = run.snapshot(), _ask_every(run)
        while run.position.batch < len(run.slices):
            _step(run, watch)
            leave = run.steps_done % ask_every == 0 and run.group.any(asked.is_set())
            regular = run.steps_done % CHECK_EVERY == 0 or run.position.batch == len(run.slices)
            if regular or leave:
                mean_loss, figures = run.means()
                run.agree(f"has another rate in step {run.steps_done}", run.optimizer.lr)
                if run.group.any(not np.isfinite(mean_loss) or not _finite(run)):
                    raise_culprit(run, snapshot)
                if regular:  # where a run is interrupted must change nothing
                    run.drop_denormals()
                reporter.batches(run.position.epoch, run.position.batch, mean_loss, figures, run.optimizer.lr)
                del snapshot  # each holds the model and the optimizer's state
                snapshot = run.snapshot()
            if leave:
                return False
    return True


def _step(run: Run, watch: LayerSizes | None) -> None:
    number = run.steps_done
    if watch is None or not watch.wants(number):
        run.step()
        return
    with run.model.backend.observed_by(watch):
        run.step()
    watch.step_done(number)


def _ask_every(run: Run) -> int:
    """Steps between two questions to a group whether one of it was told to stop: as many as take a fifth of a second.
    By the history, which is the same in all processes."""
    if run.group.size == 1 or not run.history:
        return 1
    return max(1, int(0.2 * len(run.slices) / max(run.history[-1]["seconds"], 0.001)))


def _enough(run: Run, patience: int | None) -> str:
    """Why the run should stop early, if it should."""
    enough = patience is not None and run.position.waited >= patience
    return f"no better for {patience} epochs" if enough else ""


def _finite(run: Run) -> bool:
    """Whether the parameters are, and what the optimizer keeps of the gradients."""
    isfinite = run.model.backend.xp.isfinite
    return all(bool(isfinite(array).all()) for array in run.changing().values())


def _row(run: Run, validation: Source | None, seconds: float) -> Row:
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
    return run.group.first(lambda: row)  # so that all processes decide by the same numbers


@contextmanager
def _alone(model: Model) -> Iterator[None]:
    """Two runs at once on one backend would write into each other's working memory."""
    if not model.backend.training_lock.acquire(blocking=False):
        raise RuntimeError("this backend is training already, in another thread or around this: each run needs its own")
    try:
        yield
    finally:
        model.backend.training_lock.release()
