"""The strict device: a GPU's rules on a machine without a GPU.

`StrictBackend()` is a backend like any other, but slow. Its arrays (`strict_array.py`) live in host memory and refuse
whatever would fail, stall or silently go wrong on a GPU. A layer that runs on it inside `backend.capture` obeys the
rules of a captured step. It says nothing about a GPU's speed or rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import product
from numbers import Number
from operator import attrgetter
from typing import Any

import numpy as np

from xpnet.backend import PRECISIONS, Array, Backend
from xpnet.backend.fusion import FusedChain
from xpnet.backend.precision import widened
from xpnet.backend.random import DevicePhilox, Philox
from xpnet.backend.tracing import StandIn, fused
from xpnet.verify.strict_array import (
    CaptureError,
    HostReadError,
    StrictArray,
    StrictDevice,
    caller,
    check_call,
    refuse_others,
)
from xpnet.verify.strict_names import CONSTANTS, FUNCTIONS, HINTS

__all__ = ["CaptureError", "HostReadError", "StrictBackend"]


class StrictModule:
    """The `xp` of a strict device: only the names that NumPy and CuPy share."""

    ndarray = StrictArray

    def __init__(self, device: StrictDevice, prefix: str = ""):
        self._device, self._prefix = device, prefix

    def __getattr__(self, name: str) -> Any:
        path = self._prefix + name
        if path in FUNCTIONS:
            return StrictFunction(path, self._device)
        if path in CONSTANTS:
            return getattr(np, path)
        if any(known.startswith(f"{path}.") for known in FUNCTIONS):
            return StrictModule(self._device, f"{path}.")
        hint = HINTS.get(path, "not among the names that NumPy 2 and CuPy 14 share (xpnet/verify/strict_names)")
        raise AttributeError(f"xp.{path}: {hint}")


class StrictFunction:
    """One function of `xp`."""

    def __init__(self, name: str, device: StrictDevice):
        self._name, self._device = name, device
        self._special = getattr(self, f"_{name.rpartition('.')[2]}", None)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        stand = next((a for a in args if isinstance(a, StandIn)), None)
        if stand is not None:
            name, plain = attrgetter(self._name)(np).__name__, not kwargs.keys() - {"out"}
            return stand.called(name, plain, args, kwargs.get("out"))
        check_call(f"xp.{self._name}", FUNCTIONS[self._name], args, kwargs)
        if self._special:
            return self._special(*args, **kwargs)
        return self._run(*args, **kwargs)

    def _run(self, *args: Any, **kwargs: Any) -> Any:
        return self._device.run(self._name, attrgetter(self._name)(np), args, kwargs)

    # Where NumPy accepts what CuPy does not ---------------------------------------------------------------

    def _asarray(self, values: Any, *args: Any, **kwargs: Any) -> Any:
        if not isinstance(values, (StrictArray, Number, np.generic)):
            values = self._device.upload(values)
        return self._run(values, *args, **kwargs)

    _array = _asarray

    def _empty(self, *args: Any, **kwargs: Any) -> Any:
        array = self._run(*args, **kwargs)
        poison(array)
        return array

    _empty_like = _empty

    def _concatenate(self, arrays: Any, *args: Any, **kwargs: Any) -> Any:
        for array in arrays:
            refuse_others(self._name, array, numbers=False)
        if len(arrays) > 8:
            self._device.reads("joining more than 8 arrays (CuPy uploads a table of them)")
        return self._run(arrays, *args, **kwargs)

    _stack = _concatenate

    def _where(self, condition: Any, x: Any, y: Any) -> Any:  # given only a condition, CuPy reads back
        return self._run(condition, x, y)

    def _as_strided(self, a: Any, shape: Any = None, strides: Any = None) -> Any:
        result = self._run(a, shape, strides)
        (low, high), (first, last) = (np.lib.array_utils.byte_bounds(r._host) for r in (a, result))
        if result.size and not low <= first <= last <= high:
            raise IndexError(f"as_strided: shape {shape} and strides {strides} reach outside an array of {a.shape}")
        return result


def poison(array: StrictArray) -> None:
    """Fill uninitialised memory with a conspicuous value: NaN, True, or a large whole number."""
    kind = array.dtype.kind
    array._host.fill(np.nan if kind in "fc" else True if kind == "b" else np.iinfo(array.dtype).max // 3)


class StrictBackend(Backend):
    """A backend that enforces a GPU's rules for the code that runs on it, on any machine.

    `dtype`, `seed` and `precision` are as in `xpnet.select`. Code that breaks a rule raises an error: TypeError,
    ValueError, IndexError or AttributeError for what CuPy refuses or computes wrongly, `HostReadError` or
    `CaptureError` for what must not happen inside a step. Most of them name the file and line.
    """

    array_type = StrictArray
    precisions = PRECISIONS

    def __init__(self, dtype: str = "float32", seed: int = 0, precision: str | None = None):
        self._device = StrictDevice()
        self.xp = StrictModule(self._device)
        super().__init__(dtype, seed, "strict", why="asked for", precision=precision)

    def step(self) -> AbstractContextManager[None]:
        """`with backend.step():` enforces the rules of a captured step inside the block."""
        return self._device.step()

    def _download(self, array: Array) -> np.ndarray:
        if not isinstance(array, StrictArray):
            return array
        self._device.reads("to_host")
        return array._host.copy()

    def _sent(self, host: np.ndarray) -> Array:
        return self._device.upload(host)

    def _stream(self, seed: int) -> Philox:
        return DevicePhilox(seed, self)

    def _wait(self) -> None:
        self._device.reads("synchronize")

    def _product(self, a: Array, b: Array, out: Array | None) -> Array:
        types = {str(array.dtype) for array in (a, b, out) if array is not None}
        narrow = a.dtype == b.dtype and a.itemsize == 2  # operands rounded to 16 bits, with a float32 result
        if narrow:
            types = {"float32"} if out is None else {"float32", str(out.dtype)}
        if len(types) > 1 or types - {"float32", "float64"}:
            raise TypeError(f"a product of {' and '.join(sorted(types))}: cuBLAS takes one type, float32 or float64")
        if out is not None and not out.flags.c_contiguous:
            raise ValueError(f"the output of a product must be row-major, not of strides {out.strides}")
        return self._device.run("matmul", _matmul_of_16_bits if narrow else np.matmul, (a, b), {"out": out})

    def take(self, a: Array, indices: Array) -> Array:
        return a.take(indices, axis=0)

    def fuse(self, f: Callable) -> Callable:
        """f as one fused operation wherever that is possible, computed line by line as a GPU computes it at once."""
        return fused(f, StrictArray, self._launch)

    def _launch(self, chain: FusedChain) -> Sequence[Array]:
        for changed, other in product(chain.written, range(len(chain.arrays))):
            if changed != other and np.shares_memory(chain.arrays[changed]._host, chain.arrays[other]._host):
                raise ValueError(f"{caller()}: a fused function changes an array that overlaps another")
        return self._device.run(f"fused {chain.source()}", chain.evaluate, (*chain.arrays, *chain.numbers))

    def scratch(self, name: str, shape: tuple[int, ...], dtype: Any = None) -> Array:
        array = super().scratch(name, shape, dtype)
        poison(array)
        return array

    def chunks(self, size: int, numbers: int = 1) -> Iterator[slice]:
        yield slice(0, size)

    def capture(self, step: Callable) -> Callable:
        """The step under the rules of a CUDA graph.

        The first call for each mode and set of input shapes and dtypes is a warm-up; the second is recorded. Every
        later call must repeat it: the same operations on the same memory, with the same plain numbers. The next call
        overwrites the results. Raises `HostReadError` or `CaptureError` if a rule is broken.
        """
        return StrictCapture(step, self)


def _matmul_of_16_bits(a: np.ndarray, b: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """As on a GPU: float32 holds a product of two 16-bit numbers exactly (at most 22 bits); sums are float32."""
    return np.matmul(widened(a), widened(b), out=out)


class StrictCapture:
    """Called like the step; has one recording for each mode and set of input shapes and dtypes."""

    def __init__(self, step: Callable, backend: StrictBackend):
        self._step, self._backend = step, backend
        self._recordings: dict[tuple, _Recording] = {}

    def __call__(self, *inputs: Any) -> Any:
        for value in inputs:
            if not isinstance(value, StrictArray):
                raise TypeError(f"a captured step takes arrays of the device, not a {type(value).__name__}")
        if self._backend.observer is not None:  # a replay calls no observer
            return self._step(*inputs)
        key = (self._backend.training, *((a.shape, a.dtype.str) for a in inputs))
        if key not in self._recordings:
            self._recordings[key] = _Recording(self._step, self._backend, inputs)
        return self._recordings[key](inputs)


class _Recording:
    """What a CUDA graph fixes: the memory of inputs, results and scratch arrays, and the sequence of operations."""

    def __init__(self, step: Callable, backend: StrictBackend, inputs: tuple):
        self._step, self._backend, self._device = step, backend, backend._device
        self._inputs = tuple(a.copy() for a in inputs)
        self._memory: dict[Any, Array] = {}
        self._warm = False
        self._operations: list[str] | None = None
        self._output: Any = None

    def __call__(self, inputs: tuple) -> Any:
        for mine, theirs in zip(self._inputs, inputs, strict=True):
            mine[...] = theirs
        done: list[str] = []
        with (
            self._backend.own_memory(self._memory),
            self._device.step(not self._warm, lambda operation: self._watch(operation, done)),
        ):
            output = self._step(*self._inputs)
        recorded = self._operations
        if recorded is not None and len(done) < len(recorded):
            raise CaptureError(f"the step has ended, a graph would go on with {recorded[len(done)]}")
        if self._warm:
            self._operations = done
        self._warm = True
        self._output = _overwritten(self._output, output)
        return self._output

    def _watch(self, operation: str, done: list[str]) -> None:
        recorded = self._operations
        if recorded is not None:
            expected = recorded[len(done)] if len(done) < len(recorded) else "nothing more"
            if operation != expected:
                raise CaptureError(f"{caller()}: a graph would repeat {expected}, the step now does {operation}")
        done.append(operation)


def _overwritten(fixed: Any, fresh: Any) -> Any:
    """The step's results, copied into the arrays that have held them since the first call."""
    if isinstance(fresh, (tuple, list)):
        return type(fresh)(_overwritten(f, r) for f, r in zip(fixed or [None] * len(fresh), fresh, strict=True))
    if isinstance(fresh, dict):
        return {key: _overwritten((fixed or {}).get(key), value) for key, value in fresh.items()}
    if not isinstance(fresh, StrictArray):
        return fresh
    if fixed is None:
        return fresh.copy()
    fixed[...] = fresh
    return fixed
