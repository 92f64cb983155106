"""Steps that need more memory than is available: which batch would fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from xpnet.data import Source
from xpnet.nn import Model
from xpnet.nn.shapes import each
from xpnet.train.run import Run


class OutOfMemoryError(MemoryError):
    """A step needs more memory than is available.

    `fits` is the largest batch that would fit, 0 if none would, None if that is unknown.
    """

    def __init__(self, message: str, fits: int | None):
        super().__init__(message)
        self.fits = fits


@contextmanager
def within_memory(run: Run, data: Source, batch_size: int) -> Iterator[None]:
    """Raise `OutOfMemoryError`, with the batch that would fit, when memory does not suffice.

    On a CPU backend with a memory limit, the need is estimated and a run above the limit refused at once. A MemoryError
    inside the block is converted, after memory kept for reuse has been freed.
    """
    backend = run.model.backend
    if backend.device == "cpu" and backend.max_memory is not None:
        fixed, each_sample = _needs(run, data)
        if fixed + batch_size * each_sample > backend.max_memory:
            raise _error(backend.max_memory, batch_size, fixed, each_sample)
    try:
        yield
    except OutOfMemoryError:
        raise
    except MemoryError as error:
        backend.free_memory()
        there = _available(run)
        try:
            found = _error(there, batch_size, *_needs(run, data)) if there is not None else None
        except Exception:  # there may be too little memory even for the estimate
            found = None
        what = f"{error or 'no memory is left'}. Try a smaller batch, or fit(..., accumulate=2)"
        raise found or OutOfMemoryError(what, None) from error


def _needs(run: Run, data: Source) -> tuple[int, int]:
    """(bytes that a run needs for any batch, bytes that each sample of a batch adds), by `model.summary()`."""
    three = each(lambda a: np.resize(a[:3], (3, *a.shape[1:])), run.model.as_input(data.x))  # fewer are repeated
    one, eleven = _steps(run.model, three)
    each_sample = max((eleven - one) // 10, 1)
    snapshot = sum(a.nbytes for a in run.changing().values())
    optimizer = snapshot - run.model.data.nbytes  # the model's values are counted in the step already
    return one - each_sample + optimizer + run.best.nbytes + snapshot, -(-each_sample // run.accumulate)


def _steps(model: Model, example: Any) -> tuple[int, int]:
    """The bytes that a step of one sample takes, and a step of eleven.

    Measured once per model and shape: a second measurement may differ by a thousandth, and a batch that was said to fit
    must not be refused.
    """
    kept = _measured.setdefault(model, {})
    shape = str(each(lambda a: a.shape, example))
    if shape not in kept:
        one, eleven = (model.summary(n, example).step for n in (1, 11))
        kept[shape] = one, eleven
    return kept[shape]


_measured: WeakKeyDictionary[Model, dict[str, tuple[int, int]]] = WeakKeyDictionary()


def _available(run: Run) -> int | None:
    from xpnet.doctor.machine import memory

    there = run.model.backend.available_memory()
    return memory()[1] if there is None else there


def _error(there: int, batch_size: int, fixed: int, each_sample: int) -> OutOfMemoryError:
    from xpnet.nn.summary import in_bytes  # here, to keep `from xpnet import train` light

    need, fits = fixed + batch_size * each_sample, max((there - fixed) // each_sample, 0)
    what = f"a step of {batch_size} samples needs about {in_bytes(need)}, and there are {in_bytes(there)}"
    if fits < 1:
        return OutOfMemoryError(f"{what}: not even one sample would fit, as the model takes {in_bytes(fixed)}", 0)
    fits = min(fits, max(batch_size - 1, 1))  # this batch did not fit, whatever the estimate says
    parts = -(-batch_size // fits)
    return OutOfMemoryError(f"{what}: a batch of {fits} would fit, or fit(..., accumulate={parts}) with this one", fits)
