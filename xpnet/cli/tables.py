"""Tables on the command line: CSV and Parquet files to train on, to measure on, and to predict row by row."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.arguments import counted
from xpnet.cli.console import Failed, print_json, print_text, say
from xpnet.files import TABLES, expanded

if TYPE_CHECKING:
    from xpnet import Model
    from xpnet.cli.settings import Settings
    from xpnet.data import Dataset, Splits, Table
    from xpnet.nn import Columns

TEST = 1 / 5  # of the rows of a table; if there are classes, of each class


def is_table(source: str | Path) -> bool:
    """Whether `source` is the name of a table file."""
    return Path(source).suffix.lower() in TABLES


def load(settings: Settings) -> Splits:
    """The table that the settings name, a fifth of it for testing. Raises ValueError for a bad column or value."""
    from xpnet import data

    path = expanded(settings.data)
    frame = read(path)
    ignore, categories = (names(listed, list(frame)) for listed in (settings.ignore, settings.categories))
    if categories:  # which are read as text
        frame = read(path, categories)
    if settings.target is None:
        raise ValueError(
            f"which column is to be predicted? Name it with --target: there are {', '.join(map(str, frame))}"
        )
    if settings.target in ignore:
        raise ValueError(f"--ignore {settings.target!r}: that is the column to be predicted")
    if both := [name for name in categories if name in ignore]:
        raise ValueError(f"column {both[0]!r} is in --ignore and in --categories: take it out of one of them")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # `in_words` says them
        whole = data.table(
            frame,
            settings.target,
            task=settings.task,
            ignore=ignore,
            categories=categories,
            missing=settings.missing,
            unseen=settings.unseen,
            name=path.name,
        )
    return parts(whole)


def names(text: str, columns: Collection[str]) -> list[str]:
    """The columns that a text names: one column, or several, separated by commas.

    If these are not all columns, the text is read as a line of CSV, where a name can be put in quotes that contains a
    comma, begins or ends with a space, or is empty.
    """
    if not text:  # nothing was asked for
        return []
    if text in columns:
        return [text]
    plain = [name.strip() for name in text.split(",") if name.strip()]
    if all(name in columns for name in plain):
        return plain
    listed = [name for row in csv.reader(io.StringIO(text, newline=""), skipinitialspace=True) for name in row]
    return [name if name in columns else name.strip() for name in listed if name in columns or name.strip()]


def read(path: Path, texts: Collection[str] = ()) -> Any:
    """The file as a data frame, with the columns `texts` read as text. Raises `Failed` if pandas is missing."""
    from xpnet.data.table_file import read_frame

    try:
        return read_frame(path, texts)
    except ModuleNotFoundError as error:
        raise Failed(str(error)) from None


def in_words(table: Table) -> list[str]:
    """Lines that say what is learnt, from which columns, and which options change that."""
    from xpnet.frames import listed

    assert table.form is not None
    kinds = {"numbers": table.form.numbers, "categories": table.form.categories}
    read = "; ".join(f"{kind}: {listed(of_kind)}" for kind, of_kind in kinds.items() if of_kind)
    return [_target_in_words(table, table.form.target), f"from {read}", *table.notes]


def _target_in_words(table: Table, target: str) -> str:
    from xpnet.data.table import FEW
    from xpnet.frames import is_number, span

    if not table.classes:
        different = set(table.y.ravel().tolist())
        few = len(different) <= FEW and all(map(float.is_integer, different))
        otherwise = f"; --task classification takes them as {len(different)} classes" if few else ""
        return f"{target}: regression, of numbers from {span(table.y)}{otherwise}"
    shown = ", ".join(table.classes[:8]) + (", .." if len(table.classes) > 8 else "")
    otherwise = "; --task regression takes them as numbers" if all(map(is_number, table.classes)) else ""
    return f"{target}: classification, of {len(table.classes)} classes ({shown}){otherwise}"


def describe(path: Path) -> None:
    """Print what each column of a table holds, and how many of its values are missing."""
    from xpnet import frames
    from xpnet.data.doubts import look_like

    columns = frames.columns_of(read(path))
    n_rows = len(next(iter(columns.values())))
    say(f"{path.name}: {counted(n_rows, 'row')}, {counted(len(columns), 'column')}", style="bold")
    for name, column in columns.items():
        try:
            values = frames.values_of(column, name)
        except ValueError as error:
            say(f"  {error}")
            continue
        missing = frames.missing_in(values)
        there = values[~missing]
        if values.dtype != object and len(there):
            what = f"numbers from {frames.span(there)}"
        else:
            levels = sorted(set(there.tolist()))
            kind = look_like(levels)
            what = (
                f"{counted(len(levels), 'different text')}{kind and f' that look like {kind}'}, {frames.listed(levels)}"
            )
        say(f"  {name}: {what}{f', {missing.sum():,} missing' if missing.any() else ''}")


def columns_of(model: Model, path: Path | str) -> Columns:
    """The first layer of a model of tables. Raises ValueError for any other model."""
    from xpnet.nn import Columns

    for _, layer in model.network.walk():
        if isinstance(layer, Columns):
            return layer
    raise ValueError(f"{path} is a table, and the model was not trained on one")


def rows_for(model: Model, path: str) -> Dataset:
    """The rows of a file as samples to measure the model on."""
    from xpnet import data
    from xpnet.data.table import target_of

    columns = columns_of(model, path)
    frame = read(Path(path), texts_for(model, columns))
    y = target_of(frame, columns.target, model.classes)
    return data.Dataset(columns.arrays_of(frame), y, model.classes, Path(path).name)


def texts_for(model: Model, columns: Columns) -> list[str]:
    """The columns that were text in training, and must be read as text from another file too.

    A column with nothing but "01" or "True" would otherwise be read as numbers or booleans.
    """
    from xpnet.frames import written_as_values

    known = dict(zip(columns.categories, columns.levels, strict=True)) | {columns.target: list(model.classes)}
    return [name for name, texts in known.items() if not written_as_values(texts)]


def parts(whole: Dataset) -> Splits:
    """The rows that a run trains on, and the rows that it holds out."""
    from xpnet import data

    return data.Splits(*data.split(whole, TEST, 0))


def predict(model: Model, path: Path, as_json: bool) -> None:
    """Print the model's answer for each row of a table on standard output: as CSV, or as one JSON object."""
    columns = columns_of(model, path)
    target, frame = columns.target, read(path, texts_for(model, columns))
    if model.classes:
        probabilities = model.probabilities(frame)
        rows = [_answer(target, model.classes, row, as_json) for row in probabilities]
    else:  # with as many digits as distinguish it from its neighbours
        rows = [{target: float(value) if as_json else str(value)} for value in model.predict(frame)[:, 0]]
    if as_json:
        print_json({"table": str(path), "device": model.backend.device, "predictions": rows})
        return
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    print_text(text.getvalue())


def _answer(target: str, classes: Sequence[str], probabilities: Any, as_json: bool) -> dict[str, Any]:
    """The likeliest class and its probability; for programs, the probabilities of all classes too.

    If the target is itself called "probability" or "probabilities", that key gets the prefix class_.
    """
    one, all_of_them = (f"class_{name}" if name == target else name for name in ("probability", "probabilities"))
    best = int(probabilities.argmax())
    if not as_json:
        return {target: classes[best], one: f"{probabilities[best]:.6g}"}
    of_all = dict(zip(classes, probabilities.tolist(), strict=True))
    return {target: classes[best], one: of_all[classes[best]], all_of_them: of_all}
