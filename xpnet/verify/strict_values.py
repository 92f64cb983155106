"""Calls that NumPy and CuPy both have, with values that only NumPy accepts, or that they take differently."""

from __future__ import annotations

import sys
from itertools import product
from pathlib import Path
from typing import Any

from numpy.exceptions import AxisError

from xpnet.verify import strict_names as names

_HERE = Path(__file__).parent
_NOT_THE_CALLER = (str(_HERE / "strict"), str(_HERE.parent / "backend"))


def refuse_what_numpy_takes(name: str, args: tuple, kwargs: dict[str, Any]) -> None:
    """Raise as CuPy does for values that only NumPy accepts, and TypeError where the two give different results."""
    if name in names.ALONG_AN_AXIS and not args[0].shape and kwargs.get("axis", (*args, None)[1]) not in (None, ()):
        raise AxisError(f"{caller()}: {name} along an axis of an array that has none")
    if name in ("clip", "where"):  # whole numbers beyond the range of the array's dtype
        values = args[name == "where" :]
        for array, number in product(values, values):
            if _is_array(array) and array.dtype.kind in "iu" and type(number) is int:
                array.dtype.type(number)  # OverflowError
    if name in ("take", "var"):  # CuPy's take refuses an output of another dtype; its var returns another array
        dtype, out = (kwargs.get(key, (*args, None, None, None)[at]) for key, at in (("dtype", 2), ("out", 3)))
        own = args[0].dtype if name == "take" or args[0].dtype.kind == "f" else "float64"
        if out is not None and out.dtype != (own if name == "take" or dtype is None else dtype):
            raise TypeError(f"{caller()}: {name} into an array of {out.dtype}: CuPy needs the dtype of the result")
    mode = kwargs.get("mode", (*args[2:], "constant")[0])
    if name == "pad" and mode not in names.PADDINGS:
        raise TypeError(f"{caller()}: the mode of pad is one of {', '.join(sorted(names.PADDINGS))}, not {mode!r}")
    if name in ("pow", "ipow", "power") and not _is_array(args[1]) and getattr(args[0], "dtype", None) == "bool":
        raise TypeError(
            f"{caller()}: the dtype of a power of booleans depends on the exponent and the device: use astype"
        )


def _is_array(value: Any) -> bool:
    return hasattr(value, "_host")


def caller() -> str:
    """The file and line of the innermost caller outside the strict device and the backends."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_code.co_filename.startswith(_NOT_THE_CALLER):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
