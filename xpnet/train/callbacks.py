"""Calls the callbacks of `fit` after each epoch, and copies what they change to all processes of a group."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpnet.nn import Model
from xpnet.train.run import Row, Run

Callback = Callable[[Row, Model], object]


def ask_callbacks(run: Run, callbacks: Sequence[Callback], row: Row) -> bool:
    """Whether a callback asks to stop.

    In a group, callbacks are called in the first process only. Parameters, optimizer state, and the optimizer's rate
    and settings that they change there are then copied to all processes.
    """
    optimizer, to_host = run.optimizer, run.model.backend.to_host

    def ask() -> tuple[bool, float, dict[str, Any], dict[str, np.ndarray]]:
        before = _digests(run) if callbacks and run.group.size > 1 else {}
        asked = _asks_to_stop(callbacks, row, run.model)
        changed = [name for name, digest in (_digests(run) if before else {}).items() if digest != before.get(name)]
        arrays = run.changing()
        return asked, optimizer.lr, optimizer.described, {name: np.array(to_host(arrays[name])) for name in changed}

    asked, rate, settings, changed = run.group.first(ask)
    if run.group.rank > 0:
        optimizer.lr = rate
        for name, value in settings.items():
            if name != "kind":
                setattr(optimizer, name, value)
        for name, values in changed.items():
            run.changing()[name][...] = run.model.backend.asarray(values)
    return asked


def _asks_to_stop(callbacks: Sequence[Callback], row: Row, model: Model) -> bool:
    """Whether any callback asks to stop. All are called, each with its own copy of the row, so that nothing they write
    into it reaches a checkpoint."""
    answers = [callback(dict(row), model) for callback in callbacks]
    model.backend.use()  # a callback may have switched to another GPU
    return any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers)


def _digests(run: Run) -> dict[str, int]:
    """The checksum of each array that a step changes."""
    to_host = run.model.backend.to_host
    return {name: zlib.crc32(np.ascontiguousarray(to_host(a)).data) for name, a in run.changing().items()}
