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
    """What the others raise where the first process failed at what it does for all; the message is its error's."""


class Group:
    """A process alone, and what a group of several is made of: those define `gather`, and what can be faster.

    Every method but `share` is called by all processes of the group, in the same order; each waits for the others.

    `rank` is this process's number, 0 .. size - 1; `machine_rank` its number among those on its machine.
    """

    rank, size, machine_rank = 0, 1, 0

    def share(self, part: slice) -> slice:
        """What of `part` is this process's: consecutive places, equally many to one; none where there are too few."""
        n = part.stop - part.start
        return slice(part.start + n * self.rank // self.size, part.start + n * (self.rank + 1) // self.size)

    def gather(self, value: Any) -> list[Any]:
        """The values of all processes, by rank."""
        return [value]

    def sum(self, values: Array | float) -> Any:
        """The sum over all processes, in the order of their ranks, so that it is the same bits for all."""
        total, *others = self.gather(values)
        for theirs in others:
            total = total + theirs
        return total

    def sum_gradients(self, grad: Array, weight: Array | float) -> Array | float:
        """grad += those of all others: between backward and clipping, one call for the whole model. Gives the sum of
        the weights of all parts of the batch."""
        if self.size > 1:
            grad[...] = self.sum(grad)
        return self.sum(weight)

    def window(self, grad: Array) -> Window | None:
        """Memory in which the processes share the update of a model with gradients such as these: one array, which may
        be a window's already. None where they share no memory, or are one: each updates the whole model."""
        return None

    def any(self, asked: bool) -> bool:
        """Whether one of the processes asks for it."""
        return bool(self.sum(int(asked)))

    def first(self, ask: Callable[[], T]) -> T:
        """What `ask()` gives in the first process, the only one that calls it.

        Where it raises there, the first process raises that, and all others raise `OthersFailed`.
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
        """Inside the block a process that leaves by `sys.exit`, which is no error to Python, ends the others too."""
        try:
            yield
        except SystemExit as left:
            if self.size > 1:
                words = f"a run of {self.size} processes was left by sys.exit({left.code!r})"
                self.fail(left, lambda: print(words, file=sys.stderr), left.code if isinstance(left.code, int) else 1)  # noqa: T201
            raise

    def fail(self, error: BaseException, complain: Callable[[], None], code: int = 1) -> None:
        """`error` is about to end this process: say so, and end the others, who would wait for it for ever."""
        complain()


ALONE = Group()


def own_stream(state: np.ndarray, rank: int) -> np.ndarray:
    """The state of `backend.rng` with which the process of this rank draws: 2^128 rank blocks further on in the
    stream, which no run can use up, so that no two processes draw the same masks."""
    own = state.copy()
    own[4] = rank  # two words of key, then four of the counter, low first
    return own


def in_all(error: E) -> E:
    """Mark an error that every process of the group is about to raise: each ends by itself."""
    error.__dict__["in_all_processes"] = True
    return error


def is_in_all(error: BaseException | None) -> bool:
    """Whether it was marked, or came of one that was."""
    while error is not None:
        if error.__dict__.get("in_all_processes"):
            return True
        error = error.__context__
    return False
