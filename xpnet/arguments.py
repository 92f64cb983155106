"""Arguments that count or measure something, that are of a kind, or that are rows of numbers."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Set
from numbers import Real
from typing import Any

SMALLEST, LARGEST = 1e-30, 1e30  # float32 holds a number between them, its inverse, and both times ordinary numbers


def whole(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int, if it is a whole number, of Python or NumPy. Raises ValueError, which names the argument."""
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
    """`value` as a float, if it is a finite number, of Python or NumPy, that lies between the ends that are given.

    Raises ValueError, which names the argument and the ends.
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


def in_float32(*sizes: float) -> bool:
    """Whether each lies from 1e-30 to 1e30, so that float32 can multiply and divide by it."""
    return all(SMALLEST <= size <= LARGEST for size in sizes)


def of_kind(words: str, value: Any, kind: type | tuple[type, ...]) -> None:
    """Raise TypeError unless `value` is of this class; `words` say what is asked for, and how it is made."""
    if not isinstance(value, kind):
        raise TypeError(f"{words}, not {shown(value)}")


def a_function(words: str, value: Any) -> None:
    """Raise TypeError unless `value` can be called, and is no class that is still to be made something of."""
    if isinstance(value, type) or not callable(value):
        raise TypeError(f"{words}, not {shown(value)}")


def shown(value: Any) -> str:
    """A wrong argument, as a message names it: texts, numbers and None as they are, of others the class."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return repr(value) if value is None or isinstance(value, (str, int, float)) else f"a {type(value).__name__}"


def floats(words: str, values: Any) -> tuple[float, ...]:
    """The numbers of a list, a tuple or an array. Raises TypeError for what has another order or none, as the keys of a
    dict, a set and a text; `words` say what is asked for."""
    try:
        if not isinstance(values, (str, Mapping, Set)):
            return tuple(float(value) for value in values)
    except (TypeError, ValueError):
        pass
    raise TypeError(f"{words}, not {values!r}")
