"""The columns of a table as features; what was learnt about them is part of the layer, and so of the model's file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from xpnet.arguments import LARGEST, in_float32
from xpnet.backend import Array, Backend
from xpnet.frames import MISSING, UNSEEN, Form
from xpnet.nn.embedding import Embedding
from xpnet.nn.layer import Backward, Layer
from xpnet.nn.shapes import Shape, ShapeError, in_tuple

__all__ = ["Columns"]


class Columns(Layer):
    """Numbers standardised, then each category as a one-hot row or an embedding, side by side: y (N, width).

    x: a tuple of numbers (N, n) and categories (N, k), which are whole numbers; an array if there is only one of these.
    y = [(x_numbers - mean) / std, rows of category 1, .., rows of category k]. Category j has values from 1 to the
    number of its `levels`; 0 stands for missing or unknown, and gives a row of zeros. If `sizes[j]` is 0, the row is
    one-hot over the levels; otherwise it is a trained vector of `sizes[j]` numbers, row x of a table W_j
    (`nn.Embedding`).

    dx_numbers = dy_numbers / std; dW_j as in `Embedding`; categories have no gradient.

    It is the first layer of a network, made by `nn.Columns(**data.table(...).columns)`. It knows the names of the
    columns, so that `model.predict(frame)` takes a data frame: see `frames.Form` for `fill`, `missing`, `unseen` and
    `target`.
    """

    def __init__(
        self,
        numbers: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        fill: Sequence[float],
        categories: Sequence[str] = (),
        levels: Sequence[Sequence[str]] = (),
        sizes: Sequence[int] = (),
        missing: str = "refuse",
        unseen: str = "refuse",
        target: str = "",
    ):
        if not (len(numbers) == len(mean) == len(std) == len(fill) and len(categories) == len(levels) == len(sizes)):
            needs = "a mean, a std and a fill for each name in numbers, levels and a size for each in categories"
            raise ValueError(f"Columns needs {needs}")
        if not (numbers or categories):
            raise ValueError("Columns needs at least one column")
        if not all(map(math.isfinite, (*mean, *std, *fill))) or min(std, default=1) <= 0:
            raise ValueError("Columns needs finite means and fills, and finite std > 0")
        for name, m, s in zip(numbers, mean, std, strict=True):
            if not (abs(m) <= LARGEST and in_float32(s)):
                raise ValueError(
                    f"column {name!r} has mean {m:g} and std {s:g}, and float32 needs a mean up to 1e30 and a std from "
                    "1e-30 to 1e30: scale the column first"
                )
        if missing not in MISSING or unseen not in UNSEEN:
            raise ValueError(f"missing must be in {MISSING} and unseen in {UNSEEN}, not {missing!r} and {unseen!r}")
        self.numbers, self.categories, self.target = list(numbers), list(categories), target
        self.mean, self.std, self.fill = (list(map(float, values)) for values in (mean, std, fill))
        self.levels, self.sizes = [list(of_column) for of_column in levels], list(sizes)
        self.missing, self.unseen = missing, unseen
        self.tables = {
            j: Embedding(len(of_column) + 1, size, padding=0)
            for j, (of_column, size) in enumerate(zip(self.levels, self.sizes, strict=True))
            if size
        }
        widths = [size or len(of_column) for of_column, size in zip(self.levels, self.sizes, strict=True)]
        self.width = len(self.numbers) + sum(widths)
        kinds = [*([False] if self.numbers else []), *([True] if self.categories else [])]
        self.accepts_integers = tuple(kinds) if len(kinds) > 1 else kinds[0]

    def build(self, shape: Shape) -> Shape:
        shapes = [(len(names),) for names in (self.numbers, self.categories) if names]
        wanted: Shape = tuple(shapes) if len(shapes) > 1 else shapes[0]
        if tuple(shape) != wanted:
            raise ShapeError(f"has columns of shape {wanted}, its input has shape {tuple(shape)}")
        for table in self.tables.values():
            table.built(())
        return (self.width,)

    def arrays_of(self, frame: Any) -> Any:
        """A frame as x, on the host. Raises ValueError as `frames.Form.arrays` does."""
        form = Form(self.numbers, self.fill, self.categories, self.levels, self.missing, self.unseen, self.target)
        return form.arrays(frame)

    def check_input(self, x: Any) -> None:
        """Raise ValueError unless categories are whole numbers from 0 to the number of levels. `x` is on the host."""
        codes = x[-1] if isinstance(x, tuple) else x
        if self.levels and codes.dtype.kind not in "iu":
            raise ValueError(f"categories are whole numbers, counted from 1, not {codes.dtype}")
        for j, levels in enumerate(self.levels):
            if codes.size and (codes[:, j].min() < 0 or codes[:, j].max() > len(levels)):
                raise ValueError(
                    f"column {self.categories[j]!r} has categories 0..{len(levels)}, its input holds "
                    f"{codes[:, j].min()}..{codes[:, j].max()}"
                )

    def forward(self, x: Any, backend: Backend) -> tuple[Array, Backward]:
        xp, n = backend.xp, len(self.numbers)
        parts = in_tuple(x)
        y = xp.empty((len(parts[0]), self.width), backend.dtype)
        backwards = []
        if n:
            factor = backend.constant(tuple(1 / s for s in self.std))
            y[:, :n] = (parts[0] - backend.constant(tuple(self.mean))) * factor
        start = n
        for j, levels in enumerate(self.levels):
            codes = parts[-1][:, j]
            if j in self.tables:
                rows, backward_rows = self.tables[j](codes, backend)
                backwards.append((slice(start, start + rows.shape[1]), backward_rows))
            else:
                rows = codes[:, None] == xp.arange(1, len(levels) + 1)
            y[:, start : start + rows.shape[1]] = rows
            start += rows.shape[1]

        def backward(dy: Array, need_dx: bool = True) -> Any:
            for place, backward_rows in backwards:
                backward_rows(dy[:, place], need_dx=False)
            if not (need_dx and n):
                return None
            dx = dy[:, :n] * factor
            return (dx, None) if self.categories else dx

        return y, backward
