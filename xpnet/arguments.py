"""Checks of arguments: numbers, switches, objects of a class, functions, sequences of numbers, names of classes; and
how messages show values and numbers of things."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Set
from numbers import Real
from typing import Any

import numpy as np

SMALLEST, LARGEST = 1e-30, 1e30  # float32 holds numbers between these, their inverses, and both times ordinary numbers


def whole(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int, if it is a whole number of Python or NumPy. Otherwise ValueError, which names the argument."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        raise ValueError(f"{name} must be a whole number{'' if least is None else f' >= {least}'}, not {value!r}")
    return number


def number(
    name: str,
    value: Any,
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
) -> float:
    """`value` as a float, if it is a finite number of Python or NumPy within the limits that are given.

    Otherwise raises ValueError, which names the argument and the limits.
    """
    if getattr(value, "shape", None) == ():
        value = value.item()
    try:
        as_float = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:  # 10**400
        as_float = math.inf
    inside = (
        math.isfinite(as_float)
        and (above is None or as_float > above)
        and (least is None or as_float >= least)
        and (below is None or as_float < below)
        and (most is None or as_float <= most)
    )
    if not inside:
        ends = {"above": above, ">=": least, "below": below, "<=": most}
        words = " and".join(f" {word} {end:g}" for word, end in ends.items() if end is not None)
        raise ValueError(f"{name} must be a finite number{words}, not {value!r}")
    return as_float


def switch(name: str, value: Any) -> bool:
    """`value` as a bool, if it is True or False of Python or NumPy. Otherwise ValueError, which names the argument."""
    if getattr(value, "shape", None) == ():
        value = value.item()
    if not isinstance(value, bool):
        raise ValueError(f"{name} must be True or False, not {value!r}")
    return value


def in_float32(*sizes: float) -> bool:
    """Whether each lies from 1e-30 to 1e30, so that float32 can multiply and divide by it."""
    return all(SMALLEST <= size <= LARGEST for size in sizes)


def of_kind(words: str, value: Any, kind: type | tuple[type, ...]) -> None:
    """Raise TypeError unless `value` is of this class; `words` begin the message: what is expected, how it is made."""
    if not isinstance(value, kind):
        raise TypeError(f"{words}, not {shown(value)}")


def a_function(words: str, value: Any) -> None:
    """Raise TypeError unless `value` is callable; a class is refused too, as an instance of it was probably meant."""
    if isinstance(value, type) or not callable(value):
        raise TypeError(f"{words}, not {shown(value)}")


def shown(value: Any) -> str:
    """A wrong argument as shown in a message: strings, numbers and None as they are, other objects by their class."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return repr(value) if value is None or isinstance(value, (str, int, float)) else f"a {type(value).__name__}"


def counted(n: int, what: str) -> str:
    """A number of things for a message: "1 row", "2,000 rows"."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def plain(setting: Any) -> Any:
    """A setting, or a tuple of settings, with Python's numbers in place of NumPy's."""
    if isinstance(setting, tuple):
        return tuple(map(plain, setting))
    return setting.item() if isinstance(setting, np.generic) else setting


def class_names(classes: Any) -> tuple[str, ...]:
    """The items of a list, a tuple or an array as texts; of a text its characters.

    Raises TypeError for anything else: the items of a set have no order.
    """
    if isinstance(classes, (bytes, Mapping, set, frozenset)) or not hasattr(classes, "__iter__"):
        raise TypeError(f'classes are a list of names, such as ["cat", "dog"], not {shown(classes)}')
    return tuple(str(name) for name in classes)


def floats(words: str, values: Any) -> tuple[float, ...]:
    """The numbers of a list, a tuple or an array, as a tuple.

    Raises TypeError, with a message that begins with `words`, for anything else. This includes strings, dicts and sets:
    their items may be numbers, but not in an order that means anything.
    """
    try:
        if not isinstance(values, (str, Mapping, Set)):
            return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{words}, not {values!r}")
