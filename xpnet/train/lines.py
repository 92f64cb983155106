"""Tracing lines of code: which line first makes a float64 value, and which line of the user's code led there."""

from __future__ import annotations

import sys
from types import FrameType, TracebackType
from typing import Any

import numpy as np

from xpnet.backend import Backend
from xpnet.backend.tracing import StandIn
from xpnet.nn.layer import Layer
from xpnet.optim import Optimizer

_OURS = ("xpnet.train", "xpnet.backend", "xpnet.verify.strict")
_PASSES = ("xpnet.nn", "xpnet.losses", "xpnet.optim")
_LIBRARIES = sys.stdlib_module_names | {"numpy", "cupy", "cupyx"}


class Float64Error(TypeError):
    """A float64 value has entered a float32 run; the message names the file and the line."""


class Float64Watch:
    """Inside the block, a float64 array of the given type, or a NumPy float64 number, raises `Float64Error`.

    It traces the layers, losses and optimizers that are called in the block and everything they call, except NumPy,
    CuPy, the standard library and the backends (which count and draw in float64 where they must).
    """

    def __init__(self, array_type: Any):
        self._array_type = array_type
        self._depth = 0  # the number of traced frames on the stack: what they call is traced too

    def __enter__(self) -> Float64Watch:
        self._before = sys.gettrace()
        sys.settrace(self._call)
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        sys.settrace(self._before)

    def argument(self, name: str, value: Any) -> None:
        """Check one value that was just passed as an argument."""
        if self._is_float64(value):
            raise Float64Error(_message(line_of_user(), f"hands over {name}, which"))

    def _call(self, frame: FrameType, event: str, argument: Any) -> Any:
        """The trace function: Python calls it for every new frame, and calls what it returns for every line of that
        frame."""
        if not self._depth and not _starts_a_pass(frame):
            return None
        if _is_library(frame):
            return None
        for name, value in frame.f_locals.items():
            if self._is_float64(value):
                self._found(frame.f_back or frame, None, f"hands over {name}, which")
        self._depth += 1
        last = frame.f_lineno

        def line(frame: FrameType, event: str, returned: Any) -> Any:
            nonlocal last
            if event == "return":
                self._depth -= 1
            for name, value in frame.f_locals.items():
                if self._is_float64(value):
                    self._found(frame, last, f"makes {name}, which")
            if event == "return" and self._is_float64(returned):
                self._found(frame, frame.f_lineno, "returns what")
            last = frame.f_lineno
            return line

        return line

    def _is_float64(self, value: Any) -> bool:
        if isinstance(value, (tuple, list)):
            return any(self._is_float64(v) for v in value)
        is_array = isinstance(value, (self._array_type, StandIn))  # a stand-in, where operations are fused
        return isinstance(value, np.float64) or (is_array and value.dtype == np.float64)

    def _found(self, frame: FrameType, line: int | None, what: str) -> None:
        place = f"{frame.f_code.co_filename}:{line}" if line else line_of_user(frame)
        raise Float64Error(_message(place, what))


def _message(place: str, what: str) -> str:
    return (
        f"{place}: this line {what} is float64, in a float32 run. "
        "Use Python's numbers (float(...)) and the backend's dtype: a NumPy float64 makes all float64 that it meets"
    )


def _starts_a_pass(frame: FrameType) -> bool:
    """Whether the frame is of a layer, a loss or an optimizer: one of this package, or a function with a Backend, a
    Layer or an Optimizer among its arguments."""
    if _module(frame).startswith(_PASSES):
        return True
    return any(isinstance(value, (Backend, Layer, Optimizer)) for value in frame.f_locals.values())


def _is_library(frame: FrameType) -> bool:
    module = _module(frame)
    return module.partition(".")[0] in _LIBRARIES or module.startswith(_OURS)


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def line_of_user(frame: FrameType | None = None) -> str:
    """The "file:line" of the user's code that led to this call, directly or through the package's own machinery."""
    frame = frame or sys._getframe(1)
    while frame.f_back and _is_library(frame):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
