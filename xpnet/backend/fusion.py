"""`FusedChain`: a chain of elementwise operations, recorded by `tracing.py` and computed by one kernel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

Array = Any

# NumPy's name, and the expression in C for floating point numbers. maximum, minimum and sign pass on a NaN.
FUNCTIONS = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "divide": "{0} / {1}",
    "negative": "-{0}",
    "absolute": "fabs({0})",
    "sign": "{0} != {0} ? {0} : ({0} > 0) - ({0} < 0)",
    "maximum": "{0} >= {1} || {0} != {0} ? {0} : {1}",
    "minimum": "{0} <= {1} || {0} != {0} ? {0} : {1}",
    "sqrt": "sqrt({0})",
    "exp": "exp({0})",
    "expm1": "expm1({0})",
    "log": "log({0})",
    "log1p": "log1p({0})",
    "tanh": "tanh({0})",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
}
COMPARISONS = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")
TYPES = {"float32": "float", "float64": "double", "bool": "bool", "uint8": "unsigned char", "int64": "long long"}


class NoChainError(TypeError):
    """The function does more than a chain of elementwise operations."""


class Line(NamedTuple):
    """One value: an operation on earlier lines, or the "array" or "number" at a place in the chain's list of these."""

    name: str
    operands: tuple[int, ...]
    dtype: np.dtype
    shape: tuple[int, ...]


class FusedChain:
    """What a function did to its arrays, line by line.

    `values` maps the place of an array in `arrays` to the line of its current value; `written` holds the places of the
    arrays that were changed, `made` the lines of the new arrays that the function returned.
    """

    def __init__(self, array_type: type):
        self.array_type: Any = array_type
        self.arrays: list[Array] = []
        self.numbers: list[np.generic] = []
        self.lines: list[Line] = []
        self.values: dict[int, int] = {}
        self.written: set[int] = set()
        self.made: list[int] = []
        self.shape: tuple[int, ...] | None = None  # once it is closed

    def add(self, name: str, operands: Sequence[int], dtype: np.dtype, shape: tuple[int, ...]) -> int:
        if self.shape is not None:
            raise RuntimeError("a function of `backend.fuse` has kept an array: it may only change and return them")
        if dtype.name not in TYPES:
            raise NoChainError(f"no chain of {dtype}")
        self.lines.append(Line(name, tuple(operands), dtype, shape))
        return len(self.lines) - 1

    def cast(self, line: int, dtype: np.dtype) -> int:
        same = self.lines[line].dtype == dtype
        return line if same else self.add("astype", (line,), dtype, self.lines[line].shape)

    def place(self, array: Array) -> int:
        """The place in `arrays` of an array from outside, which is added if it is not there yet."""
        place = next((i for i, other in enumerate(self.arrays) if other is array), len(self.arrays))
        if place == len(self.arrays):
            self.arrays.append(array)
        return place

    def value(self, array: Array) -> int:
        """The line of the current value of an array from outside."""
        place = self.place(array)
        if place not in self.values:
            self.values[place] = self.add("array", (place,), array.dtype, array.shape)
        return self.values[place]

    def number(self, x: Any, dtype: np.dtype) -> int:
        """The line of a plain number."""
        with np.errstate(over="ignore"):
            self.numbers.append(dtype.type(x))
        return self.add("number", (len(self.numbers) - 1,), dtype, ())

    def close(self, made: Sequence[int]) -> None:
        """End the chain: the function has returned the values of these lines as new arrays."""
        self.made = [*made]
        shapes = {self.lines[line].shape for line in (*self.made, *(self.values[place] for place in self.written))}
        if len(shapes) != 1:
            raise NoChainError(f"a chain gives one shape, not {sorted(shapes)}")
        (shape,) = shapes
        if not all(_fits(array.shape, shape) for array in self.arrays):
            raise NoChainError(f"a chain of {shape} reads an array that does not fit")
        self.shape = shape

    # How it is computed ---------------------------------------------------------------------------------------

    @property
    def read_and_written(self) -> tuple[list[int], list[int]]:
        """The places of the arrays that are only read, and of those that are changed."""
        return [i for i in range(len(self.arrays)) if i not in self.written], sorted(self.written)

    def parameters(self) -> tuple[str, str]:
        """Declarations of what the source reads (arrays, then numbers) and writes (changed arrays, then new ones)."""
        read, written = ([f"{self.arrays[i].dtype} a{i}" for i in places] for places in self.read_and_written)
        numbers = [f"{number.dtype} n{i}" for i, number in enumerate(self.numbers)]
        made = [f"{self.lines[line].dtype} r{i}" for i, line in enumerate(self.made)]
        return ", ".join(read + numbers), ", ".join(written + made)

    def source(self) -> str:
        """The chain in C, for one element: arrays are a0, a1, .., numbers n0, n1, .., and new arrays r0, r1, .."""
        lines = [f"const {TYPES[line.dtype.name]} v{i} = {_expression(line)};" for i, line in enumerate(self.lines)]
        lines += [f"a{place} = v{self.values[place]};" for place in self.read_and_written[1]]
        lines += [f"r{i} = v{line};" for i, line in enumerate(self.made)]
        return "\n".join(lines)

    def evaluate(self, *given: Any) -> tuple[np.ndarray, ...]:
        """Compute the chain with NumPy on `given`, the arrays and then the numbers: change arrays, return new ones."""
        arrays = given[: len(self.arrays)]
        values: list[Any] = []
        for name, operands, dtype, _ in self.lines:
            if name == "array":
                value = arrays[operands[0]]
            elif name == "number":
                value = given[len(arrays) + operands[0]]
            elif name == "astype":
                value = values[operands[0]].astype(dtype)
            else:
                value = getattr(np, name)(*(values[i] for i in operands))
            values.append(value)
        made = tuple(np.array(values[line]) for line in self.made)
        for place in self.written:
            arrays[place][...] = values[self.values[place]]
        return made


def _fits(shape: tuple[int, ...], whole: tuple[int, ...]) -> bool:
    """Whether an array of this shape can be broadcast to the shape `whole`."""
    ends = zip(shape[::-1], whole[::-1], strict=False)
    return len(shape) <= len(whole) and all(n in (1, size) for n, size in ends)


def _expression(line: Line) -> str:
    names = [f"v{i}" for i in line.operands]
    if line.name == "astype":
        return f"({TYPES[line.dtype.name]}){names[0]}"
    if line.name in ("array", "number"):
        return f"{line.name[0]}{line.operands[0]}"
    return FUNCTIONS[line.name].format(*names)
