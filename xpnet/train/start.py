"""How a run begins: with the first step, or where its checkpoint stands."""

from __future__ import annotations

import os

from xpnet.train.checkpoint import load_checkpoint, save_checkpoint
from xpnet.train.checks import classes_of
from xpnet.train.run import Run, remembering


def begin(run: Run, checkpoint: str | os.PathLike | None, there: bool) -> None:
    """Make the run ready for its next step: the first, or if the checkpoint is `there` the one after it.

    A model without classes takes the names of the data's, `Plateau` forgets what it has seen, and a new checkpoint is
    written: a bad path shows now rather than after an epoch of work. After an error, such as `load_checkpoint` and
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
