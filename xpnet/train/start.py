"""The start of a run: at its first step, or at the position of its checkpoint."""

from __future__ import annotations

import os

from xpnet.train.checkpoint import load_checkpoint, save_checkpoint
from xpnet.train.checks import classes_of
from xpnet.train.run import Run, remembering


def begin(run: Run, checkpoint: str | os.PathLike | None, there: bool) -> None:
    """Prepare the run for its next step: the first, or the one after the checkpoint if it is `there`.

    A model without classes takes the data's class names, and `Plateau` is reset. A new checkpoint is written at once,
    so that a bad path shows now rather than after an epoch of work. After an error, such as `load_checkpoint` and
    `save_checkpoint` raise, classes and `Plateau` are as they were.
    """
    model, plateau = run.model, remembering(run.schedule)
    before, memory = model.classes, {} if plateau is None else {**vars(plateau)}
    try:
        classes = classes_of(run.data)
        if not model.classes and model.output_shape[-1:] == (len(classes),):
            model.classes = tuple(classes)
        if plateau is not None:
            plateau.begin()
        if checkpoint is not None and there:
            load_checkpoint(run, checkpoint)
        elif checkpoint is not None:
            save_checkpoint(run, checkpoint)
    except BaseException:
        model.classes = before
        if plateau is not None:
            vars(plateau).update(memory)
        raise
