"""Threads on a CPU: how many BLAS may use for a product, and a team of our own that shares a whole pass."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

if TYPE_CHECKING:
    from concurrent.futures import Future

    from xpnet.backend.base import Backend

T = TypeVar("T")

LARGE_PRODUCT = 20_000_000  # multiplications: 0.4 ms, of which to start the threads costs 0.1


class Team:
    """Threads that run parts of a pass at the same time, each on a backend of its own and with one BLAS thread.

    NumPy lets other threads run while it computes, so a few of them share a pass over arrays of some size: of two
    cores, both are used for all that the pass does, where BLAS would use them for products alone. `backends[i]` is for
    the i-th job of every `run`: like the backend that the team belongs to, with scratch memory of its own, and without
    a team.
    """

    def __init__(self, backend: Backend, size: int):
        self._leader, self.backends = backend, [_lone(backend) for _ in range(size)]
        self._blas = blas_pools()
        self._pool: Any = None
        self._process = os.getpid()
        self._block: ExitStack | None = None  # of `instead_of_blas`, until the first `run` inside it
        self._has_cores = False  # from then on, until the block ends

    def run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """What the jobs return, in their order; the first is done by the calling thread. When this returns all have
        ended, also after Ctrl-C or an error. The first error, in the order of the jobs, is raised."""
        for backend in self.backends:
            backend.training, backend.trusting = self._leader.training, self._leader.trusting
        if self._block is not None:
            self._block.enter_context(blas_threads(1, self._blas))
            self._block, self._has_cores = None, True
        has_cores, self._has_cores = self._has_cores, False  # a product inside a job is that job's alone
        with blas_threads(1, self._blas):
            others: list[Future] = []
            try:
                for job in jobs[1:]:
                    others.append(self._threads().submit(copy_context().run, job))  # NumPy's errstate goes along
                first = jobs[0]()
            finally:
                _wait_for(others)
                self._has_cores = has_cores
        return [first, *(other.result() for other in others)]

    def product(self, a: np.ndarray, b: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        """a @ b. Where the team has the cores and the product of two matrices is large, each thread computes some of
        its rows, or of its columns if these are more; but not of two types, nor over what others still read."""
        if not (self._has_cores and a.ndim == b.ndim == 2 and a.size * b.shape[1] >= LARGE_PRODUCT):
            return np.matmul(a, b, out=out)
        if a.dtype != b.dtype or (out is not None and any(np.may_share_memory(out, operand) for operand in (a, b))):
            return np.matmul(a, b, out=out)
        out = np.empty((len(a), b.shape[1]), a.dtype) if out is None else out
        size, n = max(out.shape), len(self.backends)
        jobs = []
        for part in (slice(size * i // n, size * (i + 1) // n) for i in range(n)):
            by_rows = len(a) == size
            operands = (a[part], b, out[part]) if by_rows else (a, b[:, part], out[:, part])
            jobs.append(partial(np.matmul, *operands))
        self.run(jobs)
        return out

    @contextmanager
    def instead_of_blas(self) -> Iterator[None]:
        """Inside the block, BLAS keeps to one thread from the first `run` on. After a product its other threads look
        out for the next one for a while, on the cores of the team: a step of a convolutional network takes 1.5 times as
        long where the products outside of `run` have them. Those that are large go through the team (`product`)."""
        with ExitStack() as block:
            before = self._block, self._has_cores
            self._block = block
            try:
                yield
            finally:
                self._block, self._has_cores = before

    def _threads(self) -> Any:
        if self._pool is None or self._process != os.getpid():  # a forked process has none of our threads
            from concurrent.futures import ThreadPoolExecutor

            self._pool, self._process = ThreadPoolExecutor(len(self.backends) - 1, "xpnet"), os.getpid()
        return self._pool


def _lone(backend: Backend) -> Backend:
    """The same backend for another thread. Who observes the one is told nothing of it, then or later."""
    twin = copy.copy(backend)
    twin.threads, twin.kept = 1, {}
    for name in ("team", "observer"):
        vars(twin).pop(name, None)
    return twin


def _wait_for(jobs: Sequence[Future]) -> None:
    """Until all have ended: they write to arrays of the caller, who must not go on before. Ctrl-C is raised then."""
    from concurrent.futures import wait

    interrupt = None
    while True:
        try:
            wait(jobs)
            break
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


_lock = threading.Lock()
_limits: list[int] = []  # of all who are inside `blas_threads`
_pools: list[tuple[Any, int]] = []  # what they limit, and its number of threads before the first came


@contextmanager
def blas_threads(most: int, pools: Sequence[Any] | None = None) -> Iterator[None]:
    """At most this many BLAS threads. Their number belongs to the process: it is the least that anyone inside asks for,
    and what it was before when the last has left. `pools` are `blas_pools()`, for who comes often."""
    with _lock:
        if not _limits:
            _pools[:] = [(pool, pool.num_threads) for pool in (blas_pools() if pools is None else pools)]
        _limits.append(most)
        _limit()
    try:
        yield
    finally:
        with _lock:
            _limits.remove(most)
            _limit()


def _limit() -> None:
    for pool, before in _pools:
        pool.set_num_threads(min([before, *_limits]))


def blas_pools() -> list[Any]:
    """The BLAS libraries of this process, as threadpoolctl has them. To look for them takes a millisecond."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers
