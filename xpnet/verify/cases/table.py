"""Columns: the columns of a table as features."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet import nn
from xpnet.verify.cases.arithmetic import Numbers, plain
from xpnet.verify.passes import spread
from xpnet.verify.rows import LayerCase

MEAN, STD = (0.5, -2.0), (2.0, 0.25)
NUMBERS: dict[str, Any] = {"numbers": ["a", "b"], "mean": MEAN, "std": STD, "fill": [0.0, 0.0]}
NO_NUMBERS: dict[str, Any] = {"numbers": [], "mean": [], "std": [], "fill": []}
CATEGORIES: dict[str, Any] = {
    "categories": ["c", "d", "e"],
    "levels": [["x", "y", "z"], list("pqrstu"), ["no", "yes"]],
    "sizes": [0, 4, 0],
}


def features(numbers: Numbers | None, codes: Any, p: dict[str, Numbers]) -> Numbers:
    """By row: standardised numbers, one-hot codes of 3 levels, an embedding of 4 numbers, one-hot codes of 2 levels."""
    rows = []
    for n in range(len(codes) if numbers is None else len(numbers)):
        row = [] if numbers is None else [(numbers[n, j] - MEAN[j]) / STD[j] for j in range(2)]
        if codes is not None:
            c, d, e = (int(plain(code)) for code in codes[n])
            zero = 0.0 * p["tables.1.W"][0, 0]  # of the parameters' type: a float, or a `Value`
            row += [zero + float(c == level) for level in (1, 2, 3)]
            row += list(p["tables.1.W"][d])
            row += [zero + float(e == level) for level in (1, 2)]
        rows.append(row)
    return np.array(rows, object)


def codes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Codes of categories. The one-hot columns include the unknown category 0, the embedded column does not.

    Row 0 of an embedding gets no gradient (see `nn.Embedding`), although a difference quotient would show one.
    """
    n = shape[0]
    return np.stack([rng.integers(0, 4, n), rng.integers(1, 7, n), rng.integers(0, 3, n)], axis=1)


CASES: tuple[LayerCase, ...] = (
    LayerCase(
        "Columns", "numbers and categories", lambda: nn.Columns(**NUMBERS, **CATEGORIES), ((2,), (3,)),
        lambda x, p: features(x[0], x[1], p), draw=(spread, codes),
    ),
    LayerCase("Columns", "numbers", lambda: nn.Columns(**NUMBERS), (2,), lambda x, p: features(x, None, p)),
    LayerCase(
        "Columns", "categories", lambda: nn.Columns(**NO_NUMBERS, **CATEGORIES), (3,),
        lambda x, p: features(None, x, p), draw=codes,
    ),
)  # fmt: skip
