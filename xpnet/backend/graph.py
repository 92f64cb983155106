"""A step as a CUDA graph: recorded once, then replayed with a single launch.

A graph repeats the very same kernels on the very same addresses. Hence the rules for a step: fixed shapes,
nothing read back by the host, whatever varies (rate, step count, random counter) in device arrays that are
updated in place. The memory of the step comes from a pool that nothing else uses, or eager code would be handed
blocks that the graph still writes to. That pool in turn takes what it needs from CuPy's own, where it is counted and
limited with all the rest.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import cupy as cp

WARM_UP = 2  # eager calls that compile the kernels, fill the pool and create the handles
# Pools of graphs that are gone, for those to come. CuPy never gives back what is free in a pool that nobody holds, and
# next to an array that a step has left behind, such as an optimizer's, a block stays free.
IDLE: list[Any] = []


class Captured:
    """Called like the step: the first calls run it, the next one records it, all later ones replay it.

    One graph for each set of input shapes, and for each mode (training or not). What the step returns is the same
    device arrays every time, overwritten by the next call. While somebody observes the backend, the step runs
    as it stands.
    """

    def __init__(self, step: Callable, backend: Any):
        self._step, self._backend = step, backend
        self._recordings: dict[tuple, _Recording] = {}

    def __call__(self, *inputs: Any) -> Any:
        self._backend.use()
        if self._backend.observer is not None:  # a replay shows nothing
            return self._step(*inputs)
        caller, own = cp.cuda.get_current_stream(), self._backend.graph_stream
        own.wait_event(caller.record())  # what the caller has written is there before the step reads
        key = (self._backend.training, *((a.shape, a.dtype.str) for a in inputs))
        try:
            if key not in self._recordings:
                self._recordings[key] = _Recording(self._step, self._backend, inputs)
            return self._recordings[key](inputs)
        finally:  # after an error too, what was begun ends before the caller writes on
            caller.wait_event(own.record())
            caller.use()  # the end of a `with` goes back to the `with` around it, and forgets a `use` in between


class _Recording:
    """The graph of one set of shapes, with all that must live as long as it does."""

    def __init__(self, step: Callable, backend: Any, inputs: tuple):
        self._step, self._backend, self._stream = step, backend, backend.graph_stream
        self._pool = IDLE.pop() if IDLE else cp.cuda.MemoryPool(cp.get_default_memory_pool().malloc)
        self._gemm, self._kept = backend.gemm_of(self._stream), dict[Any, Any]()
        with self._stream, cp.cuda.using_allocator(self._pool.malloc):
            self._inputs = tuple(cp.empty_like(a) for a in inputs)
        self._calls, self._graph, self._output = 0, None, None

    def __del__(self) -> None:
        """Give back the memory, once all that lay in it is gone."""
        pool, gpu = self._pool, self._backend.ordinal
        vars(self).clear()
        if not sys.is_finalizing():
            with cp.cuda.Device(gpu):  # whichever is in use now: a pool frees what it has on that one alone
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
                with suppress(cp.cuda.runtime.CUDARuntimeError):  # that the capture was broken, which is known
                    self._stream.end_capture()  # it must be left all the same, and half a graph is dropped
                self._kept.clear()  # what was to be filled in it never was: begin again
                self._calls = 0
                raise
            self._graph = self._stream.end_capture()
        finally:
            if collecting:
                gc.enable()
