"""`StrictArray`, a host array that behaves like an array on a GPU, and `StrictDevice`, which checks its use."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from numbers import Number
from typing import Any, NoReturn

import numpy as np

from xpnet.backend.tracing import StandIn
from xpnet.verify import strict_names as names
from xpnet.verify.strict_values import caller, refuse_what_numpy_takes


class HostReadError(RuntimeError):
    """Inside a step the host read from the device or sent data to it: on a GPU, one would wait for the other."""


class CaptureError(RuntimeError):
    """A step did something that a replay of its CUDA graph would not repeat."""


class StrictDevice:
    """The device that arrays belong to: all their operations pass through it.

    `in_step` is true while a step runs; `warm_up` during its first call, when a GPU records nothing yet and constants
    may still be uploaded. `watch`, if set, is called with every operation inside a step.
    """

    def __init__(self) -> None:
        self.in_step, self.warm_up, self.call = False, False, 0
        self.watch: Callable[[str], None] | None = None

    @contextmanager
    def step(self, warm_up: bool = False, watch: Callable[[str], None] | None = None) -> Iterator[None]:
        """Code in this block runs as part of a step."""
        if self.in_step:
            raise CaptureError("a captured step inside a step: a stream can be captured only once at a time")
        self.in_step, self.warm_up, self.watch, self.call = True, warm_up, watch, self.call + 1
        try:
            yield
        finally:
            self.in_step, self.warm_up, self.watch = False, False, None

    def reads(self, what: str) -> None:
        """The host needs a value from the device: raises HostReadError inside a step."""
        if self.in_step:
            raise HostReadError(f"{caller()}: {what} makes the host wait for the device, inside a step")

    def upload(self, host: Any) -> StrictArray:
        """A copy of `host` on the device: raises HostReadError inside a step, except during its warm-up."""
        if self.in_step and not self.warm_up:
            raise HostReadError(f"{caller()}: an array of the host is sent to the device inside a step")
        return StrictArray(self, np.array(host, order="C"))

    def run(self, name: str, function: Callable, args: tuple, kwargs: dict[str, Any] | None = None) -> Any:
        """function(*args, **kwargs) on the host arrays of the arguments; array results are `StrictArray`s again."""
        kwargs = kwargs or {}
        given: list[StrictArray] = []
        host_args = tuple(self._to_host(a, given) for a in args)
        host_kwargs = {key: self._to_host(a, given) for key, a in kwargs.items()}
        if name in names.READS_BACK:
            self.reads(name)
        if name == "repeat" and isinstance(args[1], (list, tuple)):
            self.upload(args[1])
        if len(given) > names.ARRAYS_OF.get(name, len(given)):
            self.reads(f"{name} of a number on the device")
        refuse_what_numpy_takes(name, args, kwargs)
        if self.watch:
            self.watch(f"{name}({', '.join(map(self._described, (*args, *kwargs.values())))})")
        with np.errstate(all="ignore"):  # a GPU gives no floating point warnings
            return self._wrap(function(*host_args, **host_kwargs), given)

    def _to_host(self, value: Any, given: list[StrictArray]) -> Any:
        if isinstance(value, StrictArray):
            if value._device is not self:
                raise TypeError("arrays of two devices in one operation")
            given.append(value)
            return value._host
        if isinstance(value, np.ndarray):
            raise TypeError(f"{caller()}: an array of the device together with one of the host: use backend.asarray")
        if isinstance(value, (list, tuple)):
            return type(value)(self._to_host(v, given) for v in value)
        return value

    def _described(self, value: Any) -> str:
        """What a graph of the step would record about an argument."""
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(self._described, value))}]"
        if not isinstance(value, StrictArray):
            return repr(value)
        # Memory allocated in this call may have another address next time; memory from before the call may not.
        place = "" if value._born == self.call else f" at {value._host.__array_interface__['data'][0]:#x}"
        return f"{value.dtype}{list(value.shape)}{place}"

    def _wrap(self, result: Any, given: list[StrictArray]) -> Any:
        if isinstance(result, (list, tuple)):
            return type(result)(self._wrap(r, given) for r in result)
        if result is None:
            return None
        for array in given:  # an output argument, or an array returned unchanged
            if result is array._host:
                return array
        host = np.asarray(result)
        sources = [array for array in given if np.may_share_memory(host, array._host)]
        if sources:
            return StrictArray(self, host, sources[0]._born)
        return StrictArray(self, host if host.flags.c_contiguous else host.copy())  # CuPy's results are C-ordered


class StrictArray:
    """Behaves for a layer like CuPy's ndarray, with memory on the host.

    It refuses what CuPy refuses (implicit conversion to a NumPy array, NumPy arrays in operations and indices), what is
    not portable (`strict_names.py`), and what breaks a captured step. It also raises where CuPy is silently wrong: for
    an integer index out of range, and for an assignment that writes one element twice.
    """

    __slots__ = ("_born", "_device", "_host")
    __array_ufunc__ = None  # makes NumPy's operators defer to those of this class
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, device: StrictDevice, host: np.ndarray, born: int | None = None):
        self._device, self._host = device, host
        self._born = device.call if born is None else born  # the step call in which its memory was allocated

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise TypeError("an array of the device does not become a NumPy array by itself: use backend.to_host")

    def __array_function__(self, function: Any, *args: Any) -> NoReturn:
        raise TypeError(f"numpy.{function.__name__} is for arrays of the host: use backend.xp")

    def __getattr__(self, name: str) -> Any:
        if name in names.METHODS:
            return _Method(self, name)
        if name not in names.PROPERTIES:
            raise AttributeError(f"an array has no {name!r} that NumPy 2 and CuPy 14 share (xpnet/verify/strict_names)")
        value = getattr(self._host, name)
        return StrictArray(self._device, value, self._born) if isinstance(value, np.ndarray) else value

    # Reading ----------------------------------------------------------------------------------------------

    def _read(self, what: str) -> np.ndarray:
        self._device.reads(what)
        return self._host

    def __float__(self) -> float:
        return float(self._read("float()"))

    def __int__(self) -> int:
        return int(self._read("int()"))

    def __index__(self) -> NoReturn:
        self._read("use as a plain number")
        raise TypeError("an array of the device is no plain number: use int(...), outside a step")

    def __bool__(self) -> bool:
        return bool(self._read("if or bool()"))

    def __repr__(self) -> str:
        return f"StrictArray({self._read('printing')!r})"

    def __contains__(self, value: Any) -> bool:
        return value in self._read("in")

    def item(self) -> Any:
        """The single element, as a plain number."""
        return self._read("item()").item()

    def tolist(self) -> Any:
        """The values as nested lists."""
        return self._read("tolist()").tolist()

    # Indexing ---------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._host)

    def __iter__(self) -> Iterator[StrictArray]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, key: Any) -> StrictArray:
        return self._device.run("index", operator.getitem, (self, self._checked(key)))

    def __setitem__(self, key: Any, value: Any) -> None:
        key = self._checked(key)
        refuse_others("an assignment", value)
        if isinstance(value, StrictArray) and value.size > 1 and any(isinstance(k, StrictArray) for k in key):
            host_key = tuple(k._host if isinstance(k, StrictArray) else k for k in key)
            places = np.arange(self.size).reshape(self.shape)[host_key]
            if np.unique(places).size < places.size:
                raise IndexError("an element is assigned to more than once: on a GPU, any of the values may stay")
        self._device.run("assign", operator.setitem, (self, key, value))

    def _checked(self, key: Any) -> tuple:
        plain = lambda n: int(n) if isinstance(n, StrictArray) else n  # CuPy reads slice bounds from the device
        key = tuple(
            slice(plain(k.start), plain(k.stop), plain(k.step)) if isinstance(k, slice) else k
            for k in (key if isinstance(key, tuple) else (key,))
        )
        for part in key:
            if isinstance(part, (list, tuple, np.ndarray)):
                raise TypeError(f"{caller()}: an array of the host as index: use backend.asarray")
            if isinstance(part, (bool, np.bool_)) or (isinstance(part, StrictArray) and part.dtype.kind == "b"):
                self._device.reads("a mask as index")
        # With an ellipsis, even a single element is a 0-d array and a view, as on a GPU.
        return key if any(part is Ellipsis for part in key) else (*key, Ellipsis)

    def __matmul__(self, other: Any) -> NoReturn:
        raise TypeError("a @ b cannot be captured on a GPU: use backend.matmul")

    __rmatmul__ = __imatmul__ = __matmul__


class _Method:
    """A method of an array, bound to it."""

    def __init__(self, array: StrictArray, name: str):
        self._array, self._name = array, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        check_call(f"array.{self._name}", names.METHODS[self._name], args, kwargs)
        if self._name == "sort" and not self._array.flags.c_contiguous:
            raise NotImplementedError(f"{caller()}: CuPy sorts in place only what is contiguous: use xp.sort")
        return self._array._device.run(self._name, getattr(np.ndarray, self._name), (self._array, *args), kwargs)


def check_call(name: str, arguments: names.Arguments, args: tuple, kwargs: dict[str, Any]) -> None:
    """Refuse arguments that are not portable. Raises TypeError."""
    problem = arguments.problem(args, kwargs)
    if problem:
        raise TypeError(f"{caller()}: {name}: {problem}")
    for parameter, value in (*zip(arguments.by_position, args, strict=False), *kwargs.items()):
        plain = names.PLAIN if isinstance(value, StrictArray) else {"axis"} if isinstance(value, list) else {}
        if parameter in names.ARRAYS:
            refuse_others(name, value, numbers=False)
        elif parameter in names.ARRAYS_OR_NUMBERS and value is not None:
            refuse_others(name, value)
        elif parameter in plain:
            raise TypeError(f"{caller()}: {name}: {parameter} is plain numbers, not a {type(value).__name__}")


def refuse_others(name: str, value: Any, numbers: bool = True) -> None:
    """Raise TypeError unless `value` is an array of the device (or a number, if `numbers`)."""
    if not isinstance(value, (StrictArray, Number, np.generic) if numbers else StrictArray):
        kind = f"{type(value).__module__}.{type(value).__name__}"
        more = " or a number" if numbers else ""
        raise TypeError(f"{caller()}: {name} takes an array of the device{more}, not {kind}: use backend.asarray")


def _operators() -> None:
    """Define the operators of `StrictArray`, each by that of NumPy arrays."""

    def define(name: str, function: Callable, reflected: bool = False) -> None:
        def method(self: StrictArray, *others: Any) -> Any:
            if any(isinstance(other, StandIn) for other in others):
                return NotImplemented
            for other in others:
                refuse_others(name, other)
            return self._device.run(name, function, (*others, self) if reflected else (self, *others))

        setattr(StrictArray, f"__{name}__", method)

    for name in ("neg", "pos", "abs", "invert", "lt", "le", "eq", "ne", "ge", "gt"):
        define(name, getattr(operator, f"__{name}__"))
    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift", "rshift"):
        define(name, getattr(operator, f"__{name}__"))
        define(f"r{name}", getattr(operator, f"__{name}__"), reflected=True)
        define(f"i{name}", getattr(operator, f"__i{name}__"))


_operators()
