"""A chain of elementwise operations as one kernel: what `backend.fuse(f)` does on a GPU.

On a GPU each array operation is a kernel launch of its own, which reads and writes all its numbers in memory. To avoid
this, `trace` calls f with stand-ins for its arrays. They record what f does to them as a `FusedChain`, and `kernels.py`
makes one kernel of it. f is written once, in array operations; on a CPU it runs unchanged.

f may use the operations in `FUNCTIONS`, as functions of `xp` or as operators, also in place, and `astype`. Its
arguments, their defaults and the arrays of its closure are replaced by stand-ins; other arrays, such as attributes of
an object, it may only read. An array that f changes must not overlap any other, and all arrays that it changes or
returns must have the same shape. A function that does more is not a chain and runs unchanged. By then `trace` has
already called it, so f must have no other effect, and must keep none of its arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from numbers import Real
from types import CellType, FunctionType
from typing import Any, NoReturn

import numpy as np

from xpnet.backend.fusion import COMPARISONS, FUNCTIONS, Array, FusedChain, NoChainError

OPERATORS = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "neg": "negative", "abs": "absolute",
    "gt": "greater", "ge": "greater_equal", "lt": "less", "le": "less_equal", "eq": "equal", "ne": "not_equal",
}  # fmt: skip
NO_OPERATIONS = ("bool", "float", "int", "index", "len", "iter", "contains", "getitem", "setitem", "copy", "deepcopy")


class StandIn:
    """Stands in for an array while a function is traced: for an argument, or for the result of an operation."""

    __slots__ = ("_array", "_chain", "_line", "dtype", "shape")
    __array_priority__ = 1e6  # so that CuPy's arrays leave operations to this class
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
        return _applied(self._chain, name, inputs, out)

    def _now(self) -> int:
        """The line of its current value."""
        return self._line if self._array is None else self._chain.value(self._array)

    def _becomes(self, line: int) -> None:
        """Take the value of this line, as the array does when an operation writes to it."""
        value = self._chain.lines[line]
        if value.shape != self.shape or not np.can_cast(value.dtype, self.dtype, "same_kind"):
            raise NoChainError(f"{value.dtype}{value.shape} cannot be written to {self.dtype}{self.shape}")
        self._line = self._chain.cast(line, self.dtype)
        if self._array is not None:
            place = self._chain.place(self._array)
            self._chain.values[place] = self._line
            self._chain.written.add(place)

    def astype(self, dtype: Any) -> StandIn:
        """A copy of another dtype."""
        return StandIn(self._chain, self._chain.cast(self._now(), np.dtype(dtype)), dtype, self.shape)

    def _no_operation(self, *_: Any, **__: Any) -> NoReturn:
        raise NoChainError("a chain looks at no value")

    __array__ = __array_function__ = _no_operation

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise NoChainError(f"{name} of an array is no operation of a chain")


def _applied(chain: FusedChain, name: str, inputs: Sequence[Any], out: StandIn | None = None) -> StandIn:
    """Add an operation on stand-ins, arrays and numbers to the chain, in the dtypes in which NumPy computes it."""
    if name not in FUNCTIONS:
        raise NoChainError(f"{name} is no operation of a chain")
    kinds = [type(x) if type(x) in (int, float) else np.dtype(getattr(x, "dtype", type(x))) for x in inputs]
    try:
        *types, dtype = getattr(np, name).resolve_dtypes((*kinds, None))
        operands = [_operand(chain, x, t) for x, t in zip(inputs, types, strict=True)]
        shape = np.broadcast_shapes(*(chain.lines[i].shape for i in operands))
    except (TypeError, ValueError, OverflowError) as error:  # raised by NumPy again when f then runs unchanged
        raise NoChainError(str(error)) from None
    if dtype.kind != "f" and name not in COMPARISONS:
        raise NoChainError(f"{name} of {dtype}")
    line = chain.add(name, operands, dtype, shape)
    if out is None:
        return StandIn(chain, line, dtype, shape)
    out._becomes(line)
    return out


def _operand(chain: FusedChain, x: Any, dtype: np.dtype) -> int:
    """The line of x, in this dtype."""
    if isinstance(x, Real):
        return chain.number(x, dtype)
    if isinstance(x, StandIn) and x._chain is chain:
        return chain.cast(x._now(), dtype)
    if isinstance(x, chain.array_type):
        return chain.cast(chain.value(x), dtype)
    raise NoChainError(f"a {type(x).__name__} in a chain")


def _operators() -> None:
    """Give `StandIn` its operators."""
    for operator, name in OPERATORS.items():

        def plain(self: StandIn, *others: Any, name: str = name) -> StandIn:
            return _applied(self._chain, name, (self, *others))

        def reflected(self: StandIn, other: Any, name: str = name) -> StandIn:
            return _applied(self._chain, name, (other, self))

        def in_place(self: StandIn, other: Any, name: str = name) -> StandIn:
            return _applied(self._chain, name, (self, other), self)

        setattr(StandIn, f"__{operator}__", plain)
        if operator in ("add", "sub", "mul", "truediv"):
            setattr(StandIn, f"__r{operator}__", reflected)
            setattr(StandIn, f"__i{operator}__", in_place)
    for name in NO_OPERATIONS:
        setattr(StandIn, f"__{name}__", StandIn._no_operation)


_operators()


def _traced(f: Callable, array_type: type, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """The result of `trace`; None if f is not a chain, or is called inside one that is being traced."""
    try:
        if any(isinstance(a, StandIn) for a in (*args, *kwargs.values(), *_closure(f))):
            return None
        return trace(f, array_type, args, kwargs)
    except TypeError as error:
        if type(error) not in (TypeError, NoChainError):
            raise  # a subclass with another meaning, such as `Float64Error` of `xpnet.debug`
        return None


def trace(f: Callable, array_type: type, args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[FusedChain, Any]:
    """Call f with stand-ins; return the chain that it is on these arguments, and what it returned, stand-ins included.

    No array is changed. Raises TypeError if f is not a chain.
    """
    chain = FusedChain(array_type)
    stand_ins = {name: _stand_in(a, chain) for name, a in kwargs.items()}
    result = _of_stand_ins(f, chain)(*(_stand_in(a, chain) for a in args), **stand_ins)
    results = _in_tuple(result)
    if not all(r is None or isinstance(r, (Real, StandIn, chain.array_type)) for r in results):
        raise NoChainError("a chain returns an array, or a tuple of them")
    if any(isinstance(r, StandIn) and r._chain is not chain for r in results):
        raise NoChainError("a chain inside a chain is part of it")
    chain.close([r._line for r in _new(results)])
    return chain, result


def _in_tuple(result: Any) -> tuple:
    return result if type(result) is tuple else (result,)


def _new(results: tuple) -> list[StandIn]:
    """The stand-ins for new arrays, each once."""
    return list({id(r): r for r in results if isinstance(r, StandIn) and r._array is None}.values())


def _stand_in(value: Any, chain: FusedChain) -> Any:
    """A stand-in for an array; any other value unchanged."""
    return StandIn(chain, -1, value.dtype, value.shape, value) if isinstance(value, chain.array_type) else value


def _of_stand_ins(f: Callable, chain: FusedChain) -> Callable:
    """f, with stand-ins for the arrays in its closure and among its defaults too."""
    if not isinstance(f, FunctionType):
        return f
    cells = tuple(CellType(_stand_in(value, chain)) for value in _closure(f))
    defaults = tuple(_stand_in(value, chain) for value in f.__defaults__ or ())
    twin = FunctionType(f.__code__, f.__globals__, f.__name__, defaults, cells)
    twin.__kwdefaults__ = {name: _stand_in(value, chain) for name, value in (f.__kwdefaults__ or {}).items()}
    return twin


def _closure(f: Callable) -> list[Any]:
    """The values in the closure of f. Raises NoChainError if one of its variables has no value yet."""
    try:
        return [cell.cell_contents for cell in getattr(f, "__closure__", None) or ()]
    except ValueError:
        raise NoChainError("a variable of the closure has no value yet") from None


def fused(f: Callable, array_type: type, launch: Callable[[FusedChain], Sequence[Array]]) -> Callable:
    """f as a function that takes one launch if f is a chain; `launch` computes the chain and returns its new arrays."""

    def run(*args: Any, **kwargs: Any) -> Any:
        traced = _traced(f, array_type, args, kwargs)
        if traced is None:
            return f(*args, **kwargs)
        chain, result = traced
        results = _in_tuple(result)
        arrays = {id(new): array for new, array in zip(_new(results), launch(chain), strict=True)}
        real = tuple(arrays.get(id(r), r._array) if isinstance(r, StandIn) else r for r in results)
        return real if type(result) is tuple else real[0]

    return run
