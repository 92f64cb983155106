"""Tables of named columns as arrays: data frames of pandas or polars, tables of Arrow, dicts of columns.

None of those libraries is imported: only the interface that they share is used. A missing value is None, NaN, NaT or
pandas' NA. Rows are counted from 0.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from numbers import Integral, Number, Real
from typing import Any

import numpy as np

MISSING = ("refuse", "fill")
UNSEEN = ("refuse", "zeros")
SHOWN = 10  # names in a message
CATEGORICAL = ("category", "dictionary", "Categorical", "Enum")  # how the names of categorical types begin


@dataclass(frozen=True)
class Form:
    """What must be known about a table in order to read another one of the same form.

    `fill` holds the replacement for missing values in each column of `numbers`, if `missing` is "fill". The categories
    of a column are numbered from 1, in the order of its `levels`. 0 stands for a missing category, if `missing` is
    "fill", and for one that is not among the levels, if `unseen` is "zeros". `target` is the name of the column to be
    predicted.
    """

    numbers: Sequence[str]
    fill: Sequence[float]
    categories: Sequence[str]
    levels: Sequence[Sequence[str]]
    missing: str
    unseen: str
    target: str

    def arrays(self, frame: Any) -> Any:
        """The frame as numbers (N, n) float64, categories (N, k) int64, or a tuple of both.

        Raises ValueError for columns that are absent or of the wrong kind, and for missing values and unseen categories
        if these are refused; the message names the column and the row.
        """
        columns = columns_of(frame)
        absent = [name for name in (*self.numbers, *self.categories) if name not in columns]
        if absent:
            raise ValueError(f"there is no column {listed(absent)}: there are {listed(columns)}")
        values = {name: as_numbers(values_of(columns[name], name), name) for name in self.numbers}
        of_each = list(zip(self.categories, self.levels, strict=True))
        values |= {name: texts_of(columns[name], name, levels) for name, levels in of_each}
        if self.missing == "refuse":
            refuse_missing(values, "fill them in, leave those rows out, or train with missing='fill' (--missing fill)")
        parts = []
        if self.numbers:
            each = zip(self.numbers, self.fill, strict=True)
            parts.append(np.stack([np.where(np.isnan(values[n]), fill, values[n]) for n, fill in each], axis=1))
        if self.categories:
            parts.append(np.stack([self._counted(values[n], n, levels) for n, levels in of_each], axis=1))
        return tuple(parts) if len(parts) > 1 else parts[0]

    def _counted(self, texts: np.ndarray, name: str, levels: Sequence[str]) -> np.ndarray:
        number: dict[str | None, int] = {level: i for i, level in enumerate(levels, 1)}
        codes = np.array([number.get(text, -1 if text is not None else 0) for text in texts.tolist()], np.int64)
        if self.unseen == "refuse" and (codes < 0).any():
            row, n = int((codes < 0).argmax()), int((codes < 0).sum())
            others = f" and {n - 1:,} more" if n > 1 else ""
            raise ValueError(
                f"column {name!r}, row {row}{others}: {texts[row]!r} did not occur in training, which had "
                f"{listed(levels)}: correct it, or train with unseen='zeros' (--unseen zeros)"
            )
        return np.maximum(codes, 0)


def is_frame(x: Any) -> bool:
    """Whether x is a table of named columns, as opposed to an array."""
    return isinstance(x, dict) or hasattr(x, "column_names") or (hasattr(x, "columns") and hasattr(x, "__getitem__"))


def columns_of(frame: Any) -> dict[str, Any]:
    """The columns by name, in their order.

    Raises ValueError for two columns of the same name, for columns of different lengths and for a table without rows;
    TypeError for a column that is a single value.
    """
    names = list(frame) if isinstance(frame, dict) else list(getattr(frame, "column_names", None) or frame.columns)
    texts = [str(name) for name in names]
    refuse_twice(texts)
    columns = {text: frame[name] for text, name in zip(texts, names, strict=True)}
    for name, column in columns.items():
        if isinstance(column, str) or not hasattr(column, "__len__") or getattr(column, "ndim", 1) == 0:
            raise TypeError(
                f"column {name!r} is {column!r}: a column has a value for each row, {{{name!r}: [{column!r}]}}"
            )
    lengths = sorted({len(column) for column in columns.values()})
    if lengths == [0]:
        raise ValueError("a table needs at least one row, and this one has none")
    if len(lengths) != 1:
        raise ValueError(f"a table needs columns of one length, and at least one row, not lengths {lengths}")
    return columns


def refuse_twice(names: Sequence[str]) -> None:
    """Raise ValueError if two columns have the same name."""
    for i, name in enumerate(names):
        if name in names[:i]:
            raise ValueError(f"several columns are called {name!r}: each needs a name of its own")


def values_of(column: Any, name: str) -> np.ndarray:
    """A column as numbers, (N,) float64 with NaN for missing values, or as strings, (N,) objects with None for these.

    A column of a categorical type becomes strings, whatever it holds. Raises ValueError for a column of anything else,
    such as dates, and for one that mixes strings and numbers.
    """
    return texts_of(column, name) if is_categorical(column) else _values(column, name)


def texts_of(column: Any, name: str, levels: Sequence[str] = ()) -> np.ndarray:
    """A column as categories: strings, (N,) objects, with None for missing values.

    Booleans become "False" and "True", but "0" and "1" if those are the levels, as in models that were saved when
    booleans were treated as numbers here. Raises ValueError as `values_of` and `as_texts` do.
    """
    values = _values(column, name)
    numbered = bool(levels) and {*levels} <= {"0", "1"}
    if values.dtype == object or numbered or not is_boolean(column):
        return as_texts(values, name)
    return np.array([None if v != v else str(bool(v)) for v in values.tolist()], object)


def _values(column: Any, name: str) -> np.ndarray:
    array = np.asarray(column)
    if array.ndim != 1:
        raise ValueError(f"column {name!r} has shape {array.shape}: it needs one value for each row")
    if array.dtype.kind in "OUT":
        values = column if isinstance(column, (list, tuple)) else array.tolist()  # NumPy turns [1, "2"] into strings
        array = _of_objects([None if _is_missing(value) else value for value in values], name)
    elif array.dtype.kind not in "biuf":
        what = "dates or times" if array.dtype.kind in "mM" else str(array.dtype)
        raise ValueError(f"column {name!r} holds {what}: make numbers or texts of them, or leave the column out")
    if array.dtype != object:
        array = array.astype(np.float64)
        if np.isinf(array).any():
            raise ValueError(f"column {name!r}, row {np.isinf(array).argmax()}: the number is infinite")
    return array


def whole_of(column: Any) -> np.ndarray | None:
    """The values of a column of whole numbers or booleans, without the missing ones; None for any other column."""
    array = np.asarray(column)
    if array.dtype.kind == "O":
        there = [value for value in array.tolist() if not _is_missing(value)]
        if not all(isinstance(value, (Integral, np.bool_)) for value in there):
            return None
        array = np.array(there)
    return array if array.dtype.kind in "biu" else None


def is_boolean(column: Any) -> bool:
    """Whether the values of the column, except missing ones, are booleans."""
    whole = whole_of(column)
    return whole is not None and whole.dtype.kind == "b"


def is_categorical(column: Any) -> bool:
    """Whether the column is of a categorical type."""
    return str(getattr(column, "dtype", getattr(column, "type", ""))).startswith(CATEGORICAL)


def _of_objects(values: list[Any], name: str) -> np.ndarray:
    """An array of Python objects, which must be all strings or all numbers; None stands for a missing value."""
    from decimal import Decimal  # here, to keep `from xpnet import nn` light

    first = next((value for value in values if value is not None), None)
    kind: Any = str if isinstance(first, str) else (Real, Decimal, np.bool_)
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, kind):
            wanted = "a text, as the first of the column is" if kind is str else "a number"
            raise ValueError(f"column {name!r}, row {row}: {value!r} is not {wanted}")
    if kind is str:
        return np.array(values, object)
    return np.array([np.nan if value is None else float(value) for value in values])


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    return isinstance(value, Number) and value != value


def as_numbers(values: np.ndarray, name: str) -> np.ndarray:
    """The values of a column, which must be numbers (or all missing)."""
    if values.dtype != object:
        return values
    texts = [row for row, value in enumerate(values) if value is not None]
    if texts:  # in a CSV file, a single value that is no number turns the whole column into strings: name that one
        row = next((row for row in texts if not is_number(values[row])), texts[0])
        raise ValueError(f"column {name!r}, row {row}: {values[row]!r} is a text, where numbers should be")
    return np.full(len(values), np.nan)


def is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def as_texts(values: np.ndarray, name: str) -> np.ndarray:
    """Categories as strings, even if they are numbers: "3" for 3 and 3.0.

    Raises ValueError for numbers from 2^53 on: as float64, two different ones may be equal.
    """
    if values.dtype == object:
        return values
    large = np.abs(values) >= 2**53
    if large.any():
        raise ValueError(
            f"column {name!r} has the category {values[large.argmax()]:.0f}: numbers as large as this cannot be told "
            "from their neighbours, make texts of the column (in a CSV file, by a letter before each)"
        )
    return np.array([None if v != v else _in_text(v) for v in values.tolist()], object)


def _in_text(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def written_as_values(texts: Collection[str]) -> bool:
    """Whether all strings are as `as_texts` writes numbers ("3", but not "03" or "3.0"), or all are booleans."""
    return {*texts} <= {"True", "False"} or all(is_number(text) and text == _in_text(float(text)) for text in texts)


def missing_in(values: np.ndarray) -> np.ndarray:
    """Which values of a column are missing, (N,) bool."""
    return np.array([v is None for v in values], bool) if values.dtype == object else np.isnan(values)


def refuse_missing(values: dict[str, np.ndarray], advice: str) -> None:
    """Raise ValueError if values are missing; the message gives the columns, the counts and the first rows."""
    missing = {name: missing_in(column) for name, column in values.items()}
    counts = [f"{name!r} lacks {m.sum():,} (the first in row {m.argmax()})" for name, m in missing.items() if m.any()]
    if counts:
        more = f", and {len(counts) - SHOWN} more" if len(counts) > SHOWN else ""
        raise ValueError(f"values are missing: column {', '.join(counts[:SHOWN])}{more}: {advice}")


def span(values: np.ndarray) -> str:
    """The smallest and the largest value, for a message, with enough digits to tell the two apart."""
    low, high = values.min(), values.max()
    digits = next((n for n in (6, 10) if f"{low:.{n}g}" != f"{high:.{n}g}"), 17 if low < high else 6)
    return f"{low:.{digits}g} to {high:.{digits}g}"


def listed(names: Any) -> str:
    """The first few names, for a message."""
    names = list(names)
    return ", ".join(map(repr, names[:SHOWN])) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
