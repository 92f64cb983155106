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

LARGE_PRODUCT = 20_000_000  # multiplications: they take 0.4 ms, of which starting the threads takes 0.1


class Team:
    """Threads that run parts of a pass at the same time, each on a backend of its own and with one BLAS thread.

    NumPy lets other threads run while it computes, so several threads can share a pass over large enough arrays. Then
    all cores are used for everything in the pass; BLAS would use them for products alone. `backends[i]` is for the i-th
    job of every `run`: a copy of the team's backend with scratch memory of its own, and without a team.
    """

    def __init__(self, backend: Backend, size: int):
        self._leader, self.backends = backend, [_lone(backend) for _ in range(size)]
        self._blas = blas_pools()
        self._pool: Any = None
        self._process = os.getpid()
        self._block: ExitStack | None = None  # that of `instead_of_blas`, until the first `run` inside it
        self._has_cores = False  # True from that `run` on, until the block ends

    def run(self, jobs: Sequence[Callable[[], T]]) -> list[T]:
        """Run the jobs at the same time, the first in the calling thread; return their results in order.

        All jobs have ended when this returns or raises, even after Ctrl-C. If several jobs fail, the error of the first
        of them, in the order of the jobs, is raised.
        """
        for backend in self.backends:
            backend.training, backend.trusting = self._leader.training, self._leader.trusting
        if self._block is not None:
            self._block.enter_context(blas_threads(1, self._blas))
            self._block, self._has_cores = None, True
        has_cores, self._has_cores = self._has_cores, False  # a product inside a job is not shared
        with blas_threads(1, self._blas):
            others: list[Future] = []
            try:
                for job in jobs[1:]:
                    others.append(self._threads().submit(copy_context().run, job))  # with NumPy's errstate
                first = jobs[0]()
            finally:
                _wait_for(others)
                self._has_cores = has_cores
        return [first, *(other.result() for other in others)]

    def product(self, a: np.ndarray, b: np.ndarray, out: np.ndarray | None) -> np.ndarray:
        """a @ b; the threads share the product of two matrices if it is large and the team has the cores.

        Each thread computes some of the rows, or of the columns if there are more of these. A product is not shared if
        the operands differ in dtype, or if `out` overlaps an operand, which other threads still read.
        """
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
        """Inside the block, BLAS keeps to one thread from the first `run` on.

        Otherwise, after each product outside of `run`, BLAS's other threads would wait actively for the next one for a
        while, on the cores of the team: a step of a convolutional network takes 1.5 times as long then. Large products
        outside of `run` are shared by the team instead (`product`).
        """
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
    """A copy of the backend for another thread; an observer of the original is never told of passes on the copy."""
    twin = copy.copy(backend)
    twin.threads, twin.kept = 1, {}
    for name in ("team", "observer"):
        vars(twin).pop(name, None)
    return twin


def _wait_for(jobs: Sequence[Future]) -> None:
    """Wait until all jobs have ended, as they write to the caller's arrays; a Ctrl-C meanwhile is raised afterwards."""
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
_limits: list[int] = []  # of all blocks of `blas_threads` that are open now
_pools: list[tuple[Any, int]] = []  # the libraries they limit, with the numbers of threads before


@contextmanager
def blas_threads(most: int, pools: Sequence[Any] | None = None) -> Iterator[None]:
    """Inside the block, BLAS uses at most this many threads.

    The number holds for the whole process: it is the smallest of all open blocks, and the previous one again when the
    last block has ended. `pools` is `blas_pools()`, which callers that come often should keep.
    """
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
    """The BLAS libraries of this process, as threadpoolctl gives them; finding them takes a millisecond."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas").lib_controllers
