"""A step as a CUDA graph: recorded once, then replayed with a single launch.

A graph repeats exactly the same kernels on the same addresses. Hence the rules for a step: fixed shapes, nothing
read back by the host, and whatever varies (rate, step count, random counter) in device arrays that are updated in
place. The memory of the step comes from a pool that nothing else uses; otherwise eager code could be given blocks
that the graph still writes to. That pool in turn takes its memory from CuPy's default pool, where it is counted and
limited together with all other memory.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cupy as cp

WARM_UP = 2  # eager calls that compile the kernels, fill the pool and create the handles
# Pools of deleted graphs, to be reused by new ones. CuPy never gives back the free memory of a pool that nobody holds,
# and a free block next to an array that a step has left behind, such as an optimizer's, stays in its pool.
IDLE: list[Any] = []


class Captured:
    """Called like the step: the first calls run it, the next one records it, all later ones replay it.

    There is one graph for each set of input shapes and dtypes, and for each mode (training or not). Every call returns
    the same device arrays, which the next call overwrites. While the backend has an observer, the step runs eagerly.
    """

    def __init__(self, step: Callable, backend: Any):
        self._step, self._backend = step, backend
        self._recordings: dict[tuple, _Recording] = {}

    def __call__(self, *inputs: Any) -> Any:
        self._backend.use()
        if self._backend.observer is not None:  # a replay would show it nothing
            return self._step(*inputs)
        caller, own = cp.cuda.get_current_stream(), self._backend.graph_stream
        own.wait_event(caller.record())  # the step begins when the caller's earlier work is done
        key = (self._backend.training, *((a.shape, a.dtype.str) for a in inputs))
        try:
            if key not in self._recordings:
                self._recordings[key] = _Recording(self._step, self._backend, inputs)
            return self._recordings[key](inputs)
        finally:  # also after an error: the caller's later work begins when the step is done
            caller.wait_event(own.record())
            caller.use()  # the end of a `with` restores the stream of the `with` around it, not one set by `use` since


class _Recording:
    """The graph for one set of shapes, with everything that must live as long as the graph."""

    def __init__(self, step: Callable, backend: Any, inputs: tuple):
        self._step, self._backend, self._stream = step, backend, backend.graph_stream
        self._pool = IDLE.pop() if IDLE else cp.cuda.MemoryPool(cp.get_default_memory_pool().malloc)
        self._gemm, self._kept = backend.gemm_of(self._stream), dict[Any, Any]()
        with self._stream, cp.cuda.using_allocator(self._pool.malloc):
            self._inputs = tuple(cp.empty_like(a) for a in inputs)
        self._calls, self._graph, self._output = 0, None, None

    def __del__(self) -> None:
        """Give back the memory, after dropping everything that lies in it."""
        pool, gpu = self._pool, self._backend.ordinal
        vars(self).clear()
        if not sys.is_finalizing():
            with cp.cuda.Device(gpu):  # a pool frees only what it has on the current GPU, which may be another now
                pool.free_all_blocks()
            IDLE.append(pool)

    def __call__(self, inputs: tuple) -> Any:
        with self._stream, cp.cuda.using_allocator(self._pool.malloc):
            for mine, theirs in zip(self._inputs, inputs, strict=True):
                mine[...] = theirs
            self._calls += 1
            if self._calls <= WARM_UP:
                return self._run()
            if self._graph is None:
                self._record()
            self._graph.launch(self._stream)  # type: ignore[attr-defined]
        return self._output

    def _run(self) -> Any:
        with self._backend.products_by(self._gemm), self._backend.own_memory(self._kept):
            return self._step(*self._inputs)

    def _record(self) -> None:
        self._stream.synchronize()
        gc.collect()
        collecting = gc.isenabled()
        gc.disable()  # a finalizer that frees device memory would break the capture
        try:
            self._stream.begin_capture()
            try:
                self._output = self._run()
            except BaseException:
                with suppress(cp.cuda.runtime.CUDARuntimeError):  # it says that the capture failed, which we know
                    self._stream.end_capture()  # the capture must be ended all the same; half a graph is dropped
                self._kept.clear()  # arrays made in it during the capture were never filled: begin again
                self._calls = 0
                raise
            self._graph = self._stream.end_capture()
        finally:
            if collecting:
                gc.enable()
