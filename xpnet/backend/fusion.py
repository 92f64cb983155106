"""A chain of elementwise operations as one kernel: what `backend.fuse(f)` does on a GPU.

There each operation on arrays is a launch of its own, and takes all its numbers through memory. So `trace` calls f with
stand-ins for its arrays. They write down what f does to them, as a `FusedChain`, and `kernels.py` makes one kernel of
that. f is written once, in array operations, and on a CPU it runs as it stands.

f may use what is in `FUNCTIONS`, as functions of `xp` or as operators, in place too, and `astype`. There are stand-ins
for its arguments and for the arrays of its closure; others, of an object say, it may read. No two that it changes may
overlap, and all that it changes or returns has one shape. What does more is no chain: it runs as it stands there too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from types import CellType, FunctionType
from typing import Any, NamedTuple, NoReturn

import numpy as np

Array = Any

# NumPy's name, and the expression in C. A NaN goes through maximum, minimum and sign.
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
}
OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "neg": "negative", "abs": "absolute",
    "gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal",
}  # fmt: skip
TYPES = {"float32": "float", "float64": "double", "bool": "bool", "uint8": "unsigned char", "int64": "long long"}


class NoChainError(TypeError):
    """The function does more than a chain of elementwise operations."""


class Line(NamedTuple):
    """One value: an operation on earlier ones. An "array" or a "number" has its place among the chain's as operand."""

    name: str
    operands: tuple[int, ...]
    dtype: np.dtype
    shape: tuple[int, ...]


class FusedChain:
    """What a function did to its arrays, line by line. `values` has the line of what an array holds now, by its place
    in `arrays`; `written` are the places of those that were changed; `made` the lines of new arrays that it returned.
    """

    def __init__(self, array_type: type):
        self.array_type: Any = array_type
        self.arrays: list[Array] = []
        self.numbers: list[Any] = []
        self.lines: list[Line] = []
        self.values: dict[int, int] = {}
        self.written: set[int] = set()
        self.made: list[int] = []
        self.shape: tuple[int, ...] = ()

    def add(self, name: str, operands: Sequence[int], dtype: np.dtype, shape: tuple[int, ...]) -> int:
        if dtype.name not in TYPES:
            raise NoChainError(f"no chain of {dtype}")
        self.lines.append(Line(name, tuple(operands), dtype, shape))
        return len(self.lines) - 1

    def apply(self, name: str, inputs: Sequence[Any], out: StandIn | None = None) -> StandIn:
        """The operation on stand-ins, arrays and numbers, in the types in which NumPy computes it."""
        if name not in FUNCTIONS:
            raise NoChainError(f"{name} is no operation of a chain")
        kinds = [type(x) if type(x) in (int, float) else np.dtype(getattr(x, "dtype", type(x))) for x in inputs]
        *types, dtype = getattr(np, name).resolve_dtypes((*kinds, None))
        operands = [self._operand(x, t) for x, t in zip(inputs, types, strict=True)]
        shape = np.broadcast_shapes(*(self.lines[i].shape for i in operands))
        line = self.add(name, operands, dtype, shape)
        if out is None:
            return StandIn(self, line, dtype, shape)
        out._becomes(line)
        return out

    def _operand(self, x: Any, dtype: np.dtype) -> int:
        """The line of x, in this type."""
        if isinstance(x, Real):
            self.numbers.append(x)
            return self.add("number", (len(self.numbers) - 1,), dtype, ())
        if isinstance(x, StandIn):
            return self.cast(x._now(), dtype)
        if isinstance(x, self.array_type):
            return self.cast(self.value(x), dtype)
        raise NoChainError(f"a {type(x).__name__} in a chain")

    def cast(self, line: int, dtype: np.dtype) -> int:
        same = self.lines[line].dtype == dtype
        return line if same else self.add("astype", (line,), dtype, self.lines[line].shape)

    def place(self, array: Array) -> int:
        """The place of an array from outside: the same each time."""
        place = next((i for i, other in enumerate(self.arrays) if other is array), len(self.arrays))
        if place == len(self.arrays):
            self.arrays.append(array)
        return place

    def value(self, array: Array) -> int:
        """The line of what an array from outside holds now."""
        place = self.place(array)
        if place not in self.values:
            self.values[place] = self.add("array", (place,), array.dtype, array.shape)
        return self.values[place]

    def close(self, results: Sequence[Any]) -> None:
        """The function has returned these."""
        if not all(r is None or isinstance(r, (Real, StandIn, self.array_type)) for r in results):
            raise NoChainError("a chain returns an array, or a tuple of them")
        self.made = [r._line for r in results if isinstance(r, StandIn) and r._array is None]
        shapes = {self.lines[line].shape for line in (*self.made, *(self.values[place] for place in self.written))}
        if len(shapes) != 1:
            raise NoChainError(f"a chain gives one shape, not {sorted(shapes)}")
        (self.shape,) = shapes
        if any(np.broadcast_shapes(array.shape, self.shape) != self.shape for array in self.arrays):
            raise NoChainError(f"a chain of {self.shape} reads an array that does not fit")

    # What becomes of it ---------------------------------------------------------------------------------------

    def parameters(self) -> tuple[str, str]:
        """What the source reads, arrays before numbers, and what it writes: arrays that it changes before new ones."""
        arrays = [f"{array.dtype} a{place}" for place, array in enumerate(self.arrays)]
        numbers = [f"{line.dtype} n{line.operands[0]}" for line in self.lines if line.name == "number"]
        made = [f"{self.lines[line].dtype} r{i}" for i, line in enumerate(self.made)]
        read, written = ([a for i, a in enumerate(arrays) if (i in self.written) == w] for w in (False, True))
        return ", ".join(read + numbers), ", ".join(written + made)

    def source(self) -> str:
        """In C, for one element of the arrays a0, a1, .. and the numbers n0, n1, ..; new ones are r0, r1, .."""
        lines = [f"const {TYPES[line.dtype.name]} v{i} = {_expression(line)};" for i, line in enumerate(self.lines)]
        lines += [f"a{place} = v{self.values[place]};" for place in sorted(self.written)]
        lines += [f"r{i} = v{line};" for i, line in enumerate(self.made)]
        return "\n".join(lines)

    def evaluate(self, *given: Any) -> tuple[np.ndarray, ...]:
        """With NumPy: changes the `arrays`, returns the new ones. `given`: the arrays, then the numbers."""
        arrays = given[: len(self.arrays)]
        values: list[Any] = []
        for name, operands, dtype, _ in self.lines:
            if name == "array":
                value = arrays[operands[0]]
            elif name == "number":
                value = dtype.type(given[len(arrays) + operands[0]])
            elif name == "astype":
                value = values[operands[0]].astype(dtype)
            else:
                value = getattr(np, name)(*(values[i] for i in operands))
            values.append(value)
        made = tuple(np.array(values[line]) for line in self.made)
        for place in self.written:
            arrays[place][...] = values[self.values[place]]
        return made


def _expression(line: Line) -> str:
    names = [f"v{i}" for i in line.operands]
    if line.name == "astype":
        return f"({TYPES[line.dtype.name]}){names[0]}"
    if line.name in ("array", "number"):
        return f"{line.name[0]}{line.operands[0]}"
    return FUNCTIONS[line.name].format(*names)


class StandIn:
    """What a function gets for an array while it is traced, and the result of each operation: `array_type`'s face."""

    __array_priority__ = 1e6  # CuPy's arrays leave the operation to this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, chain: FusedChain, line: int, dtype: Any, shape: tuple[int, ...], array: Array = None):
        self._chain, self._line, self._array = chain, line, array
        self.dtype, self.shape = np.dtype(dtype), tuple(shape)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: tuple = (None,), **others: Any) -> StandIn:
        return self.called(ufunc.__name__, method == "__call__" and not others, inputs, *out)

    def __cupy_override_elementwise_kernel__(
        self, kernel: Any, *inputs: Any, out: Any = None, **others: Any
    ) -> StandIn:
        name = kernel.name.removeprefix("cupy_")
        return self.called({"true_divide": "divide"}.get(name, name), not others, inputs, out)

    def called(self, name: str, plain: bool, inputs: Sequence[Any], out: Any = None) -> StandIn:
        if not plain or not (out is None or isinstance(out, StandIn)):
            raise NoChainError(f"{name}: only plain calls, with an argument of the function as out")
        return self._chain.apply(name, inputs, out)

    def _now(self) -> int:
        """The line of its value."""
        return self._line if self._array is None else self._chain.value(self._array)

    def _becomes(self, line: int) -> None:
        value = self._chain.lines[line]
        if value.shape != self.shape or not np.can_cast(value.dtype, self.dtype, "same_kind"):
            raise NoChainError(f"{value.dtype}{value.shape} cannot be written to {self.dtype}{self.shape}")
        self._line = self._chain.cast(line, self.dtype)
        if self._array is not None:
            place = self._chain.place(self._array)
            self._chain.values[place] = self._line
            self._chain.written.add(place)

    def astype(self, dtype: Any) -> StandIn:
        """A copy, of another type."""
        return StandIn(self._chain, self._chain.cast(self._now(), np.dtype(dtype)), dtype, self.shape)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NoChainError(f"{name} of an array is no operation of a chain")


def _operators() -> None:
    """Give `StandIn` its operators."""
    for operator, name in OPERATORS.items():

        def plain(self: StandIn, *others: Any, name: str = name) -> StandIn:
            return self._chain.apply(name, (self, *others))

        def reflected(self: StandIn, other: Any, name: str = name) -> StandIn:
            return self._chain.apply(name, (other, self))

        def in_place(self: StandIn, other: Any, name: str = name) -> StandIn:
            return self._chain.apply(name, (self, other), self)

        setattr(StandIn, f"__{operator}__", plain)
        if operator in ("add", "sub", "mul", "truediv"):
            setattr(StandIn, f"__r{operator}__", reflected)
            setattr(StandIn, f"__i{operator}__", in_place)


_operators()


def trace(f: Callable, array_type: type, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[FusedChain, Any]:
    """The chain that f is on these arguments, and what it returned, with stand-ins in it. f changes nothing.

    Raises TypeError where it is no chain.
    """
    chain = FusedChain(array_type)
    result = _of_stand_ins(f, chain)(*(_stand_in(a, chain) for a in args), **kwargs)
    chain.close(result if isinstance(result, tuple) else (result,))
    return chain, result


def _stand_in(value: Any, chain: FusedChain) -> Any:
    """For an array; anything else is itself."""
    return StandIn(chain, -1, value.dtype, value.shape, value) if isinstance(value, chain.array_type) else value


def _of_stand_ins(f: Callable, chain: FusedChain) -> Callable:
    """f, with stand-ins for the arrays in its closure too."""
    if not isinstance(f, FunctionType) or not f.__closure__:
        return f
    cells = tuple(CellType(_stand_in(cell.cell_contents, chain)) for cell in f.__closure__)
    return FunctionType(f.__code__, f.__globals__, f.__name__, f.__defaults__, cells)


def fused(f: Callable, array_type: type, launch: Callable[[FusedChain], Sequence[Array]]) -> Callable:
    """f, in one launch wherever it is a chain. `launch` computes the chain, and gives its new arrays."""

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            chain, result = trace(f, array_type, args, kwargs)
        except TypeError:
            return f(*args, **kwargs)
        made = iter(launch(chain))

        def real(value: Any) -> Any:
            if not isinstance(value, StandIn):
                return value
            return next(made) if value._array is None else value._array

        return tuple(map(real, result)) if isinstance(result, tuple) else real(result)

    return run
