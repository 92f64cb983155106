"""Notes on table columns that may not be meant as they are read: the user is warned, nothing is refused."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from xpnet.frames import is_number

DATE = re.compile(r"(\d{4}([-/.])\d\d?\2\d\d?|\d\d?([-/.])\d\d?\3\d{4})([T ].*)?")
AROUND = "+-−$€£¥% \u00a0"  # signs, currencies and spaces
GROUPED = re.compile(r"\d[\d.,' \u00a0]*")  # 3,000 and 5,3
MEND = {
    "numbers": "make numbers of them, such as 1234.5, without signs or separators",
    "dates": "make numbers of them, such as days since the first",
}
EXACT = 2**53  # float64 holds all whole numbers up to here
FEW_STEPS = 1e3  # float32 steps per standard deviation: with fewer, different values may become equal


def look_like(texts: Collection[str]) -> str:
    """What most of the texts may represent: "numbers", "dates", or "" for plain texts."""
    return next((kind for kind, n in Counter(map(_kind, texts)).items() if n > len(texts) / 2), "")


def _kind(text: str) -> str:
    if DATE.fullmatch(text.strip()):
        return "dates"
    return "numbers" if is_number(text) or GROUPED.fullmatch(text.strip(AROUND)) else ""


def of_texts(name: str, texts: Sequence[str], what: str, option: str) -> list[str]:
    """Notes on a column that was read as `what` although no `option` asked for that; `texts` are its different
    texts."""
    kind = look_like(texts)
    if not kind:
        return []
    such = next(text for text in texts if _kind(text) == kind)
    return [
        f"column {name!r} holds texts that look like {kind}, such as {such!r}, and each is taken as a {what}: "
        f"{MEND[kind]}, or confirm this with {option}"
    ]


def of_numbers(name: str, values: np.ndarray) -> list[str]:
    """Notes on a column of numbers, in which NaN marks a missing one."""
    first = values[0]
    if first in (0, 1) and np.array_equal(values, first + np.arange(len(values))):
        return [
            f"column {name!r} counts the rows: if it is only a row number, which says nothing about new rows, leave it "
            f"out with ignore=[{name!r}] (--ignore {name!r})"
        ]
    return []


def of_rounding(name: str, there: np.ndarray) -> list[str]:
    """Notes on numbers, of a column or a target, so far from 0 that float32 hardly tells them apart."""
    if not are_rounded(there):
        return []
    whole = there.dtype.kind in "iu"
    low, high = (f"{end}" if whole else f"{end:.10g}" for end in (there.min(), there.max()))
    beyond = whole and max(-int(there.min()), int(there.max())) > EXACT  # here a table's float64 rounds too
    instead = "" if beyond else ", or compute in float64 (--dtype float64)"
    return [
        f"column {name!r} is so far from 0 ({low} to {high}) that {'float64' if beyond else 'float32'} rounds its "
        f"differences away: subtract a number from it first, such as {low}{instead}"
    ]


def are_rounded(numbers: np.ndarray) -> bool:
    """Whether the standard deviation spans so few steps of float32 that different numbers may become equal."""
    low, high = numbers.min(), numbers.max()
    return bool(low < high and numbers.std() < FEW_STEPS * np.finfo(np.float32).eps * max(-float(low), float(high)))
