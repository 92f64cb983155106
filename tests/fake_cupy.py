"""Stand-ins for the parts of CuPy that the package's GPU files touch, on the host, so that their logic can be tested.

Arrays are NumPy's. A "kernel" is a function given to `launch`: it runs at once, or, while the current stream is
being captured, is recorded and runs when the graph is launched.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import xpnet.backend


class Array(np.ndarray):
    """A NumPy array that gives its address as CuPy's do."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(ptr=self.ctypes.data)

    def __setitem__(self, key: Any, value: Any) -> None:
        launch(lambda: np.ndarray.__setitem__(self, key, value))


class Graph:
    def __init__(self, log: list[str]):
        self.kernels: list[Callable] = []
        self._log = log

    def launch(self, stream: Any) -> None:
        assert stream is Stream.current
        self._log.append("launch")
        for kernel in self.kernels:
            kernel()


class CUDARuntimeError(RuntimeError):
    """What the driver says of a capture that something has broken."""


class Stream:
    current: Stream
    entered: list[Stream]
    log: list[str]
    broken = False

    def __init__(self, non_blocking: bool = False):
        self.non_blocking, self.capturing, self.ptr = non_blocking, None, 4096
        self.waits: list[Stream] = []

    def __enter__(self) -> Stream:
        Stream.entered.append(self)
        return self.use()

    def __exit__(self, *error: Any) -> None:
        """As CuPy's: back to the block around this one, whatever was used inside that."""
        Stream.entered.pop()
        Stream.entered[-1].use()

    def use(self) -> Stream:
        Stream.current = self
        return self

    def begin_capture(self) -> None:
        assert self.non_blocking
        Stream.log.append("begin")
        self.capturing = Graph(Stream.log)

    def end_capture(self) -> Graph:
        Stream.log.append("end")
        graph, self.capturing = self.capturing, None
        if self.broken:
            raise CUDARuntimeError("cudaErrorStreamCaptureInvalidated")
        return graph

    def synchronize(self) -> None:
        assert self.capturing is None
        Stream.log.append("synchronize")

    def record(self) -> Stream:
        return self

    def wait_event(self, event: Stream) -> None:
        self.waits.append(event)


class Device:
    """A GPU; `current` is the number of the one in use."""

    current = 0

    def __init__(self, number: int):
        self._number = number

    def __enter__(self) -> None:
        self._before, Device.current = Device.current, self._number

    def __exit__(self, *error: Any) -> None:
        Device.current = self._before


class MemoryPool:
    """Knows where it takes its memory from, and of which GPUs it was told to free it."""

    def __init__(self, allocator: Callable | None = None):
        self.allocator, self.freed_on = allocator, list[int]()

    def malloc(self, size: int) -> None: ...

    def free_all_blocks(self) -> None:
        self.freed_on.append(Device.current)


def launch(kernel: Callable) -> None:
    """Run the kernel, or record it where the current stream is being captured."""
    if Stream.current.capturing is not None:
        Stream.current.capturing.kernels.append(kernel)
    else:
        kernel()


def module() -> ModuleType:
    """A module to be imported as `cupy`; `allocator` tells whose memory is being used, `stream_log` what was done."""
    fake: Any = ModuleType("cupy")
    Stream.log, Stream.current = [], Stream()
    Stream.entered = [Stream.current]
    fake.allocator = None

    @contextmanager
    def using_allocator(malloc: Callable) -> Iterator[None]:
        before, fake.allocator = fake.allocator, malloc
        try:
            yield
        finally:
            fake.allocator = before

    fake.empty = lambda shape, dtype: np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 99, dtype).view(Array)
    fake.empty_like = lambda a: fake.empty(a.shape, a.dtype)
    fake.ascontiguousarray = lambda a: np.ascontiguousarray(a).view(Array)
    fake.broadcast_to = lambda a, shape: np.broadcast_to(a, shape, subok=True)
    pool = MemoryPool()
    fake.get_default_memory_pool = lambda: pool
    fake.cuda = SimpleNamespace(
        alloc=lambda size: SimpleNamespace(ptr=8192),
        get_current_stream=lambda: Stream.current,
        Device=Device,
        MemoryPool=MemoryPool,
        Stream=Stream,
        runtime=SimpleNamespace(CUDARuntimeError=CUDARuntimeError),
        using_allocator=using_allocator,
    )
    return fake


def load(name: str) -> Any:
    """A fresh copy of `xpnet/backend/<name>.py`, which sees the modules that the test has put into `sys.modules`."""
    path = Path(xpnet.backend.__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(f"{name}_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def load_cuda(monkeypatch: pytest.MonkeyPatch, cupy: ModuleType) -> Any:
    """A fresh copy of `cuda.py`, which sees this `cupy`, and neither cuBLAS nor graphs."""
    gemm, graph = ModuleType("xpnet.backend.gemm"), ModuleType("xpnet.backend.graph")
    gemm.CublasGemm, graph.Captured = object, object  # type: ignore[attr-defined]
    for name, module in {"cupy": cupy, "xpnet.backend.gemm": gemm, "xpnet.backend.graph": graph}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return load("cuda")
