"""A data set as HTML, for notebooks: a few images with their labels, or the first rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xpnet import html
from xpnet.data.images import as_colours, is_images

if TYPE_CHECKING:
    from xpnet.data.dataset import Dataset
    from xpnet.frames import Form

IMAGES, ROWS, COLUMNS = 10, 5, 8  # at most


def as_html(data: Dataset) -> str | None:
    """The data set as HTML; None for samples that are neither images nor rows of numbers."""
    head = html.line(repr(data)[1:-1])
    if is_images(data.x):
        shown = np.arange(min(IMAGES, len(data))) * len(data) // min(IMAGES, len(data))  # spread over all of it
        return head + html.images(as_colours(data.x[shown]), [_target(data, i) for i in shown.tolist()])
    form: Form | None = getattr(data, "form", None)
    if form is not None:
        names, columns = _columns_of_table(data, form)
    elif not isinstance(data.x, tuple) and data.x.ndim == 2:
        names = [f"x{j}" for j in range(min(data.x.shape[1], COLUMNS + 1))]
        columns = [[_number(value) for value in column] for column in data.x[:ROWS, : len(names)].T]
    else:
        return None
    if len(names) > COLUMNS:
        names, columns = [*names[:COLUMNS], "…"], [*columns[:COLUMNS], ["…"] * len(columns[0])]
    target = (form and form.target) or "y"
    columns.append([_target(data, i) for i in range(len(columns[0]))])
    return head + html.table([*names, target], list(zip(*columns, strict=True)))


def _columns_of_table(data: Dataset, form: Form) -> tuple[list[str], list[list[str]]]:
    """The names of a table's columns, and the first values of each as text; category codes as their names."""
    parts = data.x if isinstance(data.x, tuple) else (data.x,)
    columns = [[_number(value) for value in column] for column in parts[0][:ROWS].T] if form.numbers else []
    for codes, levels in zip(parts[-1][:ROWS].T, form.levels, strict=False) if form.categories else ():
        columns.append([levels[code - 1] if code else "-" for code in codes.tolist()])  # 0: missing or unknown
    return [*form.numbers, *form.categories], columns


def _target(data: Dataset, i: int) -> str:
    """The target of sample `i` as text; of several numbers only their shape."""
    y = data.y[i]
    if y.size != 1:
        return "x".join(map(str, y.shape)) + " numbers"
    return data.classes[y.item()] if data.classes else _number(y.item())


def _number(value: float) -> str:
    return f"{value:.6g}"
