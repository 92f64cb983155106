"""Tables of customers, houses, patients: named columns of numbers and categories, and a column to be predicted."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.arguments import of_kind
from xpnet.data import doubts
from xpnet.data.dataset import Dataset
from xpnet.data.statistics import mean_std, refuse_far
from xpnet.data.table_file import read_frame
from xpnet.frames import (
    MISSING,
    UNSEEN,
    Form,
    as_numbers,
    as_texts,
    columns_of,
    is_boolean,
    is_categorical,
    is_frame,
    is_number,
    listed,
    missing_in,
    refuse_missing,
    texts_of,
    values_of,
    whole_of,
)

TASKS = ("classification", "regression")
ONE_HOT = 16  # categories with more levels are embedded by default
FEW = 20  # a target of whole numbers is taken for classes up to this many different ones
MOST_LEVELS = 50  # a category with more levels, and more than half as many as rows, is taken for names


@dataclass(frozen=True, eq=False, repr=False)
class Table(Dataset):
    """A data set that was read from a table by the function `table`.

    x: numbers (N, n) float64 as they are in the table, categories (N, k) as whole numbers, or a tuple of both. `form`
    records how they were read. `sizes` are those of the embeddings, 0 for one-hot rows. `notes` are the warnings that
    `table` gave about columns that may not be meant as they were read.
    """

    form: Form | None = None
    sizes: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> dict[str, Any]:
        """The arguments of `nn.Columns`; means and deviations are of these rows, so use the training part."""
        assert self.form is not None
        numbers = self.x[0] if isinstance(self.x, tuple) else self.x
        mean, std = mean_std(numbers, axis=0) if self.form.numbers else (np.empty(0), np.empty(0))
        return {**vars(self.form), "mean": mean.tolist(), "std": std.tolist(), "sizes": list(self.sizes)}

    @property
    def input_shape(self) -> tuple[Any, ...]:
        """The shape of a sample, as `nn.Model` takes it."""
        return tuple(a.shape[1:] for a in self.x) if isinstance(self.x, tuple) else self.x.shape[1:]


def table(
    source: Any,
    target: str,
    *,
    task: str | None = None,
    ignore: Collection[str] = (),
    categories: Collection[str] = (),
    missing: str = "refuse",
    unseen: str = "refuse",
    embeddings: Mapping[str, int] | None = None,
    name: str | None = None,
) -> Table:
    """A table as a data set: every column except `target` and those in `ignore` is an input.

    `source` is a data frame (pandas, polars), a table of Arrow, a dict of columns, or the path of a CSV, TSV or Parquet
    file, which pandas reads (`pip install "xpnet[tables]"`).

    - Columns of numbers and of booleans are numbers. Columns of texts, columns of a categorical type and those named in
      `categories` are categories; values of the latter in a CSV or TSV file are kept as written ("01"). Categories
      become one-hot rows up to 16 levels, else embeddings of 1.6 n^0.56 numbers (the rule of fastai). `embeddings`
      gives the columns to be embedded, and their sizes, explicitly.
    - `task` is "classification" or "regression". The default is classification for a target of texts, booleans, a
      categorical type or up to 20 different whole numbers, else regression.
    - Missing values are an error that names them. With `missing="fill"` a missing number is replaced by the column's
      median, a missing category by a row of zeros, here and in every table that the model is given later.
    - A category that occurs only in a later table is an error there; with `unseen="zeros"` it becomes a row of zeros.

    Raises ValueError, naming column and row, for a target that is missing or of one value only, for texts among
    numbers, for numbers too large or too small for float32, for a column of dates or of names (more than 50 texts, and
    more than half as many as rows), and for an impossible option, or a column without a name. Warns of texts that look
    like numbers or dates, of a column that counts the rows, and of numbers, including the target, that float32 cannot
    tell apart: the `notes`.
    """
    _check_options(target, task, ignore, categories, missing, unseen, embeddings)
    if not is_frame(source):
        if not isinstance(source, (str, os.PathLike)):
            raise TypeError(
                "a table is a data frame, a dict of columns such as {'age': [30, 41]}, or the path of a file, not a "
                f"{type(source).__name__}: pandas.DataFrame makes one of records and arrays"
            )
        name = Path(source).name if name is None else name
        source = read_frame(source, categories)
    columns = columns_of(source)
    unknown = [column for column in (target, *ignore, *categories, *(embeddings or ())) if column not in columns]
    if unknown:
        raise ValueError(f"there is no column {listed(unknown)}: there are {listed(columns)}")
    y, classes = _target(columns[target], target, task)
    inputs = {key: column for key, column in columns.items() if key != target and key not in ignore}
    if not inputs:
        raise ValueError(f"there is no column to predict {target!r} from")
    _refuse_unnamed(inputs)
    read = {key: values_of(column, key) for key, column in inputs.items()}
    read |= {key: texts_of(inputs[key], key) for key in categories if key in read}
    if missing == "refuse":
        refuse_missing(read, "fill them in, leave those rows or columns out, or use missing='fill' (--missing fill)")
    meant = {*categories, *(key for key, column in columns.items() if is_categorical(column))}
    form = _form(read, meant, missing, unseen, target)
    for key in form.numbers:
        refuse_far(key, read[key][~np.isnan(read[key])])
    if not classes:
        refuse_far(target, y[:, 0])
    sizes = _sizes(form, embeddings)
    notes = _doubts(form, inputs, read, meant, classes if task is None else ())
    if not classes:
        notes += tuple(doubts.of_rounding(target, _exact(columns[target], y[:, 0])))
    for note in notes:
        warnings.warn(note, stacklevel=2)
    return Table(form.arrays(source), y, classes, name or "table", None, form, sizes, notes)


def _check_options(
    target: Any, task: Any, ignore: Any, categories: Any, missing: Any, unseen: Any, embeddings: Any
) -> None:
    of_kind("the target is the name of a column, such as 'churn'", target, str)
    for option, names in (("ignore", ignore), ("categories", categories)):
        if isinstance(names, str):
            raise TypeError(f"{option} is a list of names of columns, [{names!r}], not {names!r}")
    if embeddings is not None:
        of_kind("embeddings are sizes by columns, such as {'city': 4}", embeddings, Mapping)
    for option, value, choices in (("missing", missing, MISSING), ("unseen", unseen, UNSEEN), ("task", task, TASKS)):
        if value not in choices and not (option == "task" and value is None):
            raise ValueError(f"{option} is one of {', '.join(choices)}, not {value!r}")


def _refuse_unnamed(names: Collection[str]) -> None:
    """Raise ValueError for a column without a name, such as the row numbers that pandas' `to_csv` writes."""
    for name in names:
        if not name or re.fullmatch(r"Unnamed: \d+", name):  # pandas reads an empty name as this
            raise ValueError(
                f"column {name!r} has no name in the header, like the row numbers that pandas writes unless "
                f"index=False: name it, or {_left_out(name)}"
            )


def _doubts(
    form: Form, columns: dict[str, Any], read: dict[str, np.ndarray], meant: Collection[str], classes: tuple[str, ...]
) -> tuple[str, ...]:
    """Notes on columns that may not be meant as they were read.

    `meant` are the categories that were asked for; `classes` are those of the target if nobody asked for
    classification.
    """
    notes: list[str] = []
    for name in form.numbers:
        there = read[name][~np.isnan(read[name])]
        notes += doubts.of_numbers(name, read[name]) or doubts.of_rounding(name, _exact(columns[name], there))
    for name, levels in zip(form.categories, form.levels, strict=True):
        if name not in meant:
            notes += doubts.of_texts(name, levels, "category", f"categories=[{name!r}] (--categories {name!r})")
    if form.target not in meant and len(classes) > FEW:
        notes += doubts.of_texts(form.target, classes, "class", "task='classification' (--task classification)")
    return tuple(notes)


def _exact(column: Any, as_floats: np.ndarray) -> np.ndarray:
    """The numbers present in a column: whole numbers in their own type, since float64 rounds those beyond 2^53."""
    whole = whole_of(column)
    return as_floats if whole is None or whole.dtype.kind == "b" else whole


def target_of(source: Any, name: str, classes: tuple[str, ...]) -> np.ndarray:
    """The target of a later table: class numbers (N,) that index into `classes`, or numbers (N, 1) if there are none.

    Raises ValueError for a missing column, a missing value, and a class that is not in `classes`.
    """
    columns = columns_of(source)
    if name not in columns:
        raise ValueError(f"there is no column {name!r} to compare with: there are {listed(columns)}")
    values = values_of(columns[name], name)
    refuse_missing({name: values}, "leave those rows out")
    if not classes:
        return as_numbers(values, name)[:, None]
    texts, number = _class_names(columns[name], values, name), {label: i for i, label in enumerate(classes)}
    for row, text in enumerate(texts):
        if text not in number:
            raise ValueError(f"column {name!r}, row {row}: {text!r} is not one of the classes {listed(classes)}")
    return np.array([number[text] for text in texts])


def _target(column: Any, name: str, task: str | None) -> tuple[np.ndarray, tuple[str, ...]]:
    """(class numbers (N,), their names), or (numbers (N, 1), ())."""
    values = values_of(column, name)
    refuse_missing({name: values}, "leave those rows out: nothing can be learnt from them")
    different, whole = np.unique(values), whole_of(column)
    if len(different) == 1:
        if whole is not None and whole.min() < whole.max():
            raise ValueError(
                f"the target {name!r} holds {whole.min()} to {whole.max()}, numbers so large that float64 rounds them "
                f"all to one: subtract {whole.min()} from them first"
            )
        raise ValueError(f"the target {name!r} is {different.tolist()[0]!r} in every row: there is nothing to learn")
    if task is None:
        few = whole is not None and len(different) <= FEW
        task = "classification" if values.dtype == object or few else "regression"
    if task == "regression":
        return as_numbers(values, name)[:, None], ()
    names = _class_names(column, different, name)
    return np.searchsorted(different, values), tuple(names)


def _class_names(column: Any, values: np.ndarray, name: str) -> list[str]:
    """Classes as texts: "True" and "False" for booleans, "3" for 3."""
    if values.dtype != object and is_boolean(column):
        return [str(bool(v)) for v in values.tolist()]
    return as_texts(values, name).tolist()


def _form(read: dict[str, np.ndarray], meant: Collection[str], missing: str, unseen: str, target: str) -> Form:
    """How to read the columns; `meant` are the categories that were asked for. Raises ValueError for useless
    columns."""
    fill, levels = dict[str, float](), dict[str, list[str]]()
    for name, values in read.items():
        there = values[~missing_in(values)]
        if not len(there):
            raise ValueError(f"column {name!r} has no values: {_left_out(name)}")
        if values.dtype != object:
            fill[name] = float(np.median(there))
            continue
        levels[name] = sorted(set(there.tolist()))
        if name not in meant:
            _refuse_numbers(values, name)
        if len(levels[name]) > max(MOST_LEVELS, len(there) // 2):
            kind = "" if name in meant else doubts.look_like(levels[name])
            why = (
                f"that look like {kind}: {doubts.MEND[kind]}, or"
                if kind
                else "like a column of names, from which nothing is learnt:"
            )
            raise ValueError(
                f"column {name!r} has {len(levels[name]):,} different texts in {len(there):,} rows, {why} "
                f"{_left_out(name)}"
            )
    return Form(list(fill), list(fill.values()), list(levels), list(levels.values()), missing, unseen, target)


def _refuse_numbers(texts: np.ndarray, name: str) -> None:
    """Raise ValueError for a column of numbers that has a few texts among them."""
    wrong = [row for row, text in enumerate(texts) if text is not None and not is_number(text)]
    present = sum(text is not None for text in texts)
    if 0 < len(wrong) < present / 2:
        others = f" and {len(wrong) - 1:,} more" if len(wrong) > 1 else ""
        raise ValueError(
            f"column {name!r}, row {wrong[0]}{others}: {texts[wrong[0]]!r} is a text, where the others are numbers: "
            f"correct it, leave the value empty, name it in categories=[{name!r}] (--categories {name!r}), "
            f"or {_left_out(name)}"
        )


def _left_out(name: str) -> str:
    """Advice on a column that is of no use."""
    return f"leave the column out with ignore=[{name!r}] (--ignore {name!r})"


def _sizes(form: Form, embeddings: Mapping[str, int] | None) -> tuple[int, ...]:
    """The size of each category's embedding, 0 for a one-hot row."""
    if embeddings is None:
        return tuple(
            min(50, round(1.6 * len(levels) ** 0.56)) if len(levels) > ONE_HOT else 0 for levels in form.levels
        )
    for name, size in embeddings.items():
        if name not in form.categories or size < 1:
            raise ValueError(f"embeddings must map columns of categories to sizes >= 1, not {name!r} to {size!r}")
    return tuple(embeddings.get(name, 0) for name in form.categories)
