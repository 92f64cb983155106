"""`Group`: the processes that train one model together, each on its part of every batch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from xpnet.backend import Array
from xpnet.parallel.window import Window

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


class OthersFailed(RuntimeError):
    """Raised by the other processes if the first one failed at work that it does for all, with its error's message."""


class Group:
    """A group of one process, and the base of larger ones, which define `gather` and override what can be faster.

    All processes call the methods, except `share`, `held` and `fail`, in the same order; each waits for the others.

    `rank` is this process's number, 0 .. size - 1; `machine_rank` its number among those on its machine.
    """

    rank, size, machine_rank = 0, 1, 0

    def share(self, part: slice) -> slice:
        """This process's share of the places in `part`: a slice; its lengths in two processes differ by at most 1."""
        n = part.stop - part.start
        return slice(part.start + n * self.rank // self.size, part.start + n * (self.rank + 1) // self.size)

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        return [value]

    def sum(self, values: Array | float) -> Any:
        """The sum over all processes, in the order of their ranks, so that all get the same bits."""
        total, *others = self.gather(values)
        for theirs in others:
            total = total + theirs
        return total

    def sum_gradients(self, grad: Array, weight: Array | float) -> Array | float:
        """Add the gradients of all other processes to `grad`; return the sum of the weights of all parts of the batch.

        Called once for the whole model, between backward and clipping.
        """
        if self.size > 1:
            grad[...] = self.sum(grad)
        return self.sum(weight)

    def window(self, grad: Array) -> Window | None:
        """Memory in which the processes share the update of a model with these gradients.

        `grad` is one array, which may belong to a window already. None if the processes share no memory, or if there is
        only one: then each updates the whole model.
        """
        return None

    def any(self, asked: bool) -> bool:
        """Whether `asked` is true in at least one of the processes."""
        return bool(self.sum(int(asked)))

    def first(self, ask: Callable[[], T]) -> T:
        """The result of `ask()` in the first process, the only one that calls it.

        If it raises an error there, the first process raises that error, and all others raise `OthersFailed`.
        """
        answer: Any = None
        error: Exception | None = None
        if self.rank == 0:
            try:
                answer = ask()
            except Exception as raised:
                error = in_all(raised)
        failed, answer = self.gather((error and f"{type(error).__name__}: {error}", answer))[0]
        if error is not None:
            raise error
        if failed is not None:
            raise in_all(OthersFailed(failed))
        return answer

    @contextmanager
    def held(self) -> Iterator[None]:
        """Inside the block, a process that leaves by `sys.exit`, which is no error to Python, ends the others too."""
        try:
            yield
        except SystemExit as left:
            if self.size > 1:
                words = f"sys.exit({left.code!r}) in one process ends the run of {self.size} processes"
                self.fail(left, lambda: print(words, file=sys.stderr), left.code if isinstance(left.code, int) else 1)  # noqa: T201
            raise

    def fail(self, error: BaseException, complain: Callable[[], None], code: int = 1) -> None:
        """Report by `complain()` that `error` ends this process, and end the others, which would wait for ever."""
        complain()


ALONE = Group()


def own_stream(state: np.ndarray, rank: int) -> np.ndarray:
    """The state of `backend.rng` for the process of this rank: rank * 2^128 blocks further on in the stream.

    No run uses up 2^128 blocks, so no two processes draw the same masks.
    """
    own = state.copy()
    own[4] = rank  # two words of key, then four of the counter, low first
    return own


def in_all(error: E) -> E:
    """Mark an error that every process of the group is about to raise: each ends by itself."""
    error.__dict__["in_all_processes"] = True
    return error


def is_in_all(error: BaseException | None) -> bool:
    """Whether the error was marked by `in_all`, or was raised in the handling of one that was."""
    while error is not None:
        if error.__dict__.get("in_all_processes"):
            return True
        error = error.__context__
    return False
