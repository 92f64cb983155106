"""Arguments that count something."""

from __future__ import annotations

import operator
from typing import Any


def whole(name: str, value: Any, least: int | None = None) -> int:
    """`value` as an int, if it is a whole number, of Python or NumPy. Raises ValueError, which names the argument."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or (least is not None and number < least):
        raise ValueError(f"{name} must be a whole number{'' if least is None else f' >= {least}'}, not {value!r}")
    return number
