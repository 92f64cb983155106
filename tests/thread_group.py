"""A group whose processes are threads: for all that does not depend on MPI itself."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.parallel import Group
from xpnet.parallel.group import is_in_all
from xpnet.parallel.window import Window


class ThreadGroup(Group):
    backend: Any = None  # of the process, where that is not the host's

    def __init__(self, rank: int, size: int, board: list, barrier: threading.Barrier):
        self.rank = self.machine_rank = rank
        self.size = size
        self._board, self._barrier = board, barrier

    def sum(self, values: Any) -> Any:
        """Each process has a device of its own: what is on one goes by the host."""
        if self.backend is None or not isinstance(values, self.backend.array_type):
            return super().sum(values)
        return self.backend.asarray(super().sum(self.backend.to_host(values)))

    def gather(self, value: Any) -> list[Any]:
        self._board[self.rank] = value.copy() if isinstance(value, np.ndarray) else value
        self._barrier.wait(20)
        values = list(self._board)
        self._barrier.wait(20)
        return values


class SharingGroup(ThreadGroup):
    """Its processes share memory, as those of a machine do under MPI."""

    def window(self, grad: Any) -> Window:
        n, dtype = grad.size, grad.dtype
        gradients, notes = [np.zeros(n, dtype) for _ in range(self.size)], np.zeros((self.size, 3), dtype)
        memory = self.gather((gradients, np.zeros(n, dtype), notes))[0]
        return Window(self.rank, *memory, lambda: self._barrier.wait(20))


def together(size: int, work: Callable[[Group], Any], kind: type[ThreadGroup] = ThreadGroup) -> list[Any]:
    """What `work(group)` gives in each of so many processes; an error that one raises is the outcome there."""
    outcomes: list[Any] = [None] * size
    board, barrier = [None] * size, threading.Barrier(size)

    def process(rank: int) -> None:
        try:
            outcomes[rank] = work(kind(rank, size, board, barrier))
        except Exception as error:
            outcomes[rank] = error
            if not is_in_all(error):  # mpiexec would end the others
                barrier.abort()

    threads = [threading.Thread(target=process, args=(rank,), name=f"process {rank}") for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes
