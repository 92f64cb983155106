"""`fit`: the loop around the step."""

from __future__ import annotations

import operator
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from xpnet.data import Dataset
from xpnet.losses import Loss
from xpnet.nn import Model
from xpnet.optim import Optimizer
from xpnet.schedules import Schedule
from xpnet.train.checkpoint import load_checkpoint, save_checkpoint
from xpnet.train.finite import raise_culprit
from xpnet.train.progress import Reporter
from xpnet.train.run import Augmentation, Row, Run
from xpnet.train.step import evaluate, samples

CHECK_EVERY = 50  # steps between two looks at the loss: on a GPU every look waits for the device

Callback = Callable[[Row, Model], object]


@dataclass(frozen=True)
class Result:
    """What `fit` gives back. `history` has a row an epoch; `stopped` is "" if all epochs were done, else why not."""

    history: list[Row]
    best_epoch: int
    stopped: str = ""


def fit(
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    train: Dataset,
    validation: Dataset | None = None,
    *,
    epochs: int,
    batch_size: int = 64,
    schedule: Schedule | None = None,
    clip: float | None = None,
    augment: Augmentation | None = None,
    patience: int | None = None,
    keep_best: bool = False,
    callbacks: Sequence[Callback] = (),
    checkpoint: str | os.PathLike | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> Result:
    """Train `model` on `train` (class labels) for `epochs`, in an order that depends on the backend's seed alone.

    - `schedule(step)` sets the rate before each step; `clip` bounds the gradient's norm (`optim.clip_norm`);
      `augment(x, backend)` changes each batch before it is used (`data.Augment`).
    - The loss on `validation` (without one, on the batches as they were trained) is watched: `patience` epochs
      without a new lowest value end the run; `keep_best` puts back the weights of the lowest in the end.
    - Each of `callbacks` is called with the epoch's row and the model; one that returns True ends the run.
    - `checkpoint` is written after every epoch. With `resume`, a run goes on from there, on the CPU bit for bit as
      if it had never stopped; where there is no file yet, it begins. Only a run that resumes touches a file that is
      there. The schedule is the one that is given now.
    - Ctrl-C ends the run after the step that is under way, with its work kept (and written down).

    The loss is looked at every 50 steps. If it is not finite, the run goes back, finds the step and the layer, and
    raises `NotFiniteError`; the model then has the values it had before that step.

    The training loss and accuracy of a row are means over the batches as they were trained, with dropout and
    augmentation, by weights that changed from batch to batch.

    Raises FileExistsError for a checkpoint that is there and is not to be resumed; ValueError for a batch larger than
    the data, labels beyond the outputs, samples of another shape; `ModelFileError` for a checkpoint of another run;
    OSError if the checkpoint cannot be written; RuntimeError if the backend is training in another thread.
    """
    if resume and checkpoint is None:
        raise ValueError("resume needs the path of a checkpoint")
    if checkpoint is not None and not resume and Path(checkpoint).exists():
        raise FileExistsError(f"{checkpoint} exists: go on from it with resume=True, or name another checkpoint")
    run = Run(model, loss, optimizer, train, batch_size, schedule, clip, augment)
    _check(model, epochs, patience, train, validation)
    if checkpoint is not None:
        if resume and Path(checkpoint).exists():
            load_checkpoint(run, checkpoint)
        else:
            save_checkpoint(run, checkpoint)  # now rather than after an epoch of work: a bad path shows here
    stopped = _enough(run, patience)  # a run that was stopped and is resumed stays stopped
    # NumPy would warn of an overflow, a GPU never does; here every value that is not finite is looked for.
    threads = model.backend.threads_for(batch_size * model.n_parameters)
    reporter = Reporter(epochs, len(run.slices), quiet)
    with _alone(model), threads, reporter, _ctrl_c() as asked, np.errstate(all="ignore"):
        while run.progress.epoch < epochs and not stopped:
            started = time.perf_counter()
            if not _epoch(run, reporter, asked):
                stopped = "interrupted"
                break
            row = _row(run, validation, time.perf_counter() - started)
            run.end_epoch(row, row.get("validation_loss", row["train_loss"]))
            reporter.epoch(row)
            if [True for callback in callbacks if callback(row, model) is True]:
                stopped = "a callback asked for it"
            else:
                stopped = _enough(run, patience)
            if checkpoint is not None:
                save_checkpoint(run, checkpoint)
    if asked.is_set() and not stopped:  # after the last batch
        stopped = "interrupted"
    if stopped == "interrupted" and checkpoint is not None:
        save_checkpoint(run, checkpoint)
    if keep_best and run.progress.best_epoch:
        model.data[...] = run.best
    return Result(run.history, run.progress.best_epoch, stopped)


def _epoch(run: Run, reporter: Reporter, asked: threading.Event) -> bool:
    """The rest of the epoch that the run stands in; False if it was interrupted."""
    with run.model.backend.mode(training=True):
        snapshot = run.snapshot()
        while run.progress.batch < len(run.slices):
            run.step()
            if run.steps_done % CHECK_EVERY == 0 or run.progress.batch == len(run.slices) or asked.is_set():
                mean_loss, accuracy = run.means()
                if not np.isfinite(mean_loss) or not _finite(run):
                    raise_culprit(run, snapshot)
                reporter.batches(run.progress.epoch, run.progress.batch, mean_loss, accuracy, run.optimizer.lr)
                snapshot = run.snapshot()
            if asked.is_set():
                return False
    return True


def _enough(run: Run, patience: int | None) -> str:
    """Why the run should stop early, if it should."""
    enough = patience is not None and run.progress.waited >= patience
    return f"no better for {patience} epochs" if enough else ""


def _finite(run: Run) -> bool:
    """Whether the parameters are, and what the optimizer keeps of the gradients."""
    isfinite = run.model.backend.xp.isfinite
    return all(bool(isfinite(array).all()) for array in (run.model.data, *run.optimizer.state.values()))


def _row(run: Run, validation: Dataset | None, seconds: float) -> Row:
    train_loss, train_accuracy = run.means()
    row: Row = {"epoch": run.progress.epoch + 1, "train_loss": train_loss, "train_accuracy": train_accuracy}
    if validation is not None:
        measured = evaluate(run.model, run.loss, validation)
        row |= {"validation_loss": measured.loss, "validation_accuracy": measured.accuracy}
    return row | {"lr": run.optimizer.lr, "seconds": seconds}


def _check(model: Model, epochs: int, patience: int | None, train: Dataset, validation: Dataset | None) -> None:
    if operator.index(epochs) < 1:
        raise ValueError(f"epochs must be at least 1, not {epochs}")
    if patience is not None and operator.index(patience) < 1:
        raise ValueError(f"patience must be at least 1 epoch, not {patience}")
    for data in (train, validation):
        if data is None:
            continue
        samples(model, data.x)
        if data.y.max() >= max(model.output_shape[-1], 2):  # a single output tells two classes apart
            raise ValueError(
                f"{data.name} has the label {data.y.max()}, but the model has {model.output_shape[-1]} outputs"
            )


@contextmanager
def _alone(model: Model) -> Iterator[None]:
    """Two runs at once on one backend would write into each other's working memory."""
    if not model.backend.training_lock.acquire(blocking=False):
        raise RuntimeError("this backend is training in another thread: give each thread a backend of its own")
    try:
        yield
    finally:
        model.backend.training_lock.release()


@contextmanager
def _ctrl_c() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event, so that a step is never cut in two; a second one is as usual."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():  # only that thread may set handlers
        yield asked
        return
    usual = signal.getsignal(signal.SIGINT)

    def first(number: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, first)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, usual)
