"""Progress of a run: a bar on a terminal, a bar and curves in a notebook, otherwise one plain line per epoch.

Lines and the terminal's bar go to standard error.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

from xpnet.arguments import counted
from xpnet.train.run import Row


class Reporter:
    """A context manager; `batches` and `epoch` report the progress of the run. Silent if `quiet`.

    `history` is the run's own list of rows; it has one more at each call of `epoch`.
    """

    def __init__(self, epochs: int, n_batches: int, quiet: bool, history: Sequence[Row] = ()):
        self._epochs, self._n_batches, self._history = epochs, n_batches, history
        self._quiet = quiet or (sys.stderr is None and not in_notebook())  # pythonw has no stderr
        self._bar: Any = None
        self._live: Any = None

    def __enter__(self) -> Reporter:
        if self._quiet:
            return self
        total = self._epochs * self._n_batches
        if in_notebook():
            from xpnet.train.notebook import LiveOutput

            self._live = LiveOutput(total, self._history)
        elif sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

            left = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn())
            right = (TextColumn("{task.fields[numbers]}"), TimeRemainingColumn(compact=True))
            self._bar = Progress(*left, *right, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("epoch 1", total=total, numbers="")
        return self

    def __exit__(self, *error: object) -> None:
        for shown in (self._bar, self._live):
            if shown is not None:
                shown.stop()

    def note(self, text: str) -> None:
        """Print a message once; nothing if it is empty."""
        if text and not self._quiet:
            self._line(text)

    def batches(self, epoch: int, batch: int, loss: float, figures: dict[str, float], lr: float) -> None:
        """Report that batches of epoch `epoch` (from 0) are done, with their mean loss, metrics and learning rate."""
        done, of_all = epoch * self._n_batches + batch, f"epoch {epoch + 1}/{self._epochs}"
        numbers = f"{figures_line('', {'loss': loss, **figures})}  rate {lr:.2g}"
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=of_all, numbers=numbers)
        if self._live is not None:
            self._live.bar(done, f"{of_all}  {numbers}")

    def epoch(self, row: Row) -> None:
        """Report that an epoch is done."""
        if self._quiet:
            return
        parts = [f"epoch {row['epoch']:>3}/{self._epochs}", figures_line("train_", row)]
        if "validation_loss" in row:
            parts.append(f"validation {figures_line('validation_', row)}")
        parts += [f"rate {row['lr']:.2g}", f"{row['seconds']:.2f} s"]
        if "loss_scale" in row:
            exponent = round(math.log2(row["loss_scale"]))  # the scale is a power of two
            parts.append(f"loss scale 2^{exponent}, {counted(int(row['skipped_steps']), 'step')} skipped so far")
        if self._live is not None:
            self._live.epoch("  ".join(parts))
        else:
            self._line("  ".join(parts))

    def _line(self, line: str) -> None:
        if self._live is not None:
            self._live.note(line)
        elif self._bar is not None:
            self._bar.console.print(line, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)  # noqa: T201 (this is where a run speaks)


def in_notebook() -> bool:
    """Whether the program runs in a Jupyter kernel, so that output may be HTML and may be updated.

    It imports nothing to find out.
    """
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def figures_line(part: str, figures: dict[str, float]) -> str:
    """The figures whose names begin with `part`: "loss 0.1234  accuracy 98.76%"."""
    own = {name.removeprefix(part): value for name, value in figures.items() if name.startswith(part)}
    return "  ".join(f"{name} {value:{'.2%' if name == 'accuracy' else '.4f'}}" for name, value in own.items())
