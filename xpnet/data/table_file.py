"""Tables in files: CSV, TSV and Parquet, read by pandas."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Collection
from itertools import islice
from pathlib import Path
from typing import IO, Any

from xpnet.files import TABLES, expanded
from xpnet.frames import refuse_twice


def read_frame(path: str | os.PathLike[str], texts: Collection[str]) -> Any:
    """A CSV, TSV or Parquet file as a pandas data frame.

    In a CSV or TSV file the columns `texts` are read as text, even if all of it looks like numbers. Raises ValueError
    for a file that is not a table; OSError.
    """
    path = expanded(path)
    if path.suffix.lower() not in TABLES:
        raise ValueError(f"{path} is not a table: its name must end in one of {', '.join(TABLES)}")
    try:
        import pandas
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f'reading {path} needs pandas ({error}): pip install "xpnet[tables]"', name=error.name
        ) from None
    with open(path, "rb"):  # a missing or locked file raises the system's own error
        pass
    try:
        return pandas.read_parquet(path) if path.suffix.lower() == ".parquet" else _read_text(path, texts)
    except ImportError as error:
        raise ModuleNotFoundError(
            f'reading {path} needs pyarrow: pip install "xpnet[tables]"', name="pyarrow"
        ) from error
    except UnicodeError:
        raise ValueError(f"{path} is not written in UTF-8: save it as UTF-8, in Excel as 'CSV UTF-8'") from None
    except (ValueError, OSError, csv.Error) as error:  # pandas' own are ValueErrors
        raise ValueError(f"{path} cannot be read as {path.suffix[1:].upper()}: {_why(error)}") from None


def _why(error: Exception) -> str:
    """What was wrong, with the line: pandas counts lines from 1, but rows in which a quoted field starts from 0."""
    said = str(error).strip()
    if found := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", said):
        names, line, fields = found.groups()
        return (
            f"line {line} has {fields} fields, the lines before it {names}: quote a field that contains the separator"
        )
    if found := re.search(r"EOF inside string starting at row (\d+)", said):
        return f"the quotes that are opened in line {int(found[1]) + 1} or later are not closed"
    return said


def _read_text(path: Path, texts: Collection[str]) -> Any:
    """A CSV or TSV file as a data frame, with the columns `texts` as they are written."""
    import pandas

    with open(path, encoding="utf-8-sig", newline="") as file:
        sep = "\t" if path.suffix.lower() == ".tsv" else _separator(file)
        file.seek(0)
        rows = filter(None, csv.reader(file, delimiter=sep))  # an empty line is no row
        names, first = next(rows, []), next(rows, [])
    if not names:
        raise ValueError("the file is empty")
    if len(first) > len(names):  # pandas would take the first fields for row names, and shift all columns
        raise ValueError(
            f"its rows have {len(first)} fields, its header {len(names)} names: give each column a name, or remove "
            "the fields that have none"
        )
    refuse_twice([name for name in names if name])  # pandas would call the second "a.1"
    # Excel separates by semicolons if the comma is the decimal sign; other programs also if it is not.
    as_text = dict.fromkeys(texts, str)
    frames = [pandas.read_csv(path, sep=sep, decimal=sign, dtype=as_text) for sign in (",." if sep == ";" else ".")]
    return max(frames, key=lambda frame: frame.select_dtypes("number").shape[1])


def _separator(file: IO[str]) -> str:
    """Semicolon or comma: the one that cuts both header and first row into equally many fields, two or more.

    If both or neither do, the one that cuts the header into more; on a tie the semicolon, as the commas are then within
    names, and decimal signs in the row.
    """
    lines = list(islice(filter(str.strip, file), 2))
    if lines and re.match(r'"?sep=', lines[0]):
        raise ValueError(f"its first line is {lines[0].strip()!r}, which only Excel understands: remove this line")

    def merit(sep: str) -> tuple[bool, int]:
        fields = [len(row) for row in csv.reader(lines, delimiter=sep)]
        return len(fields) == 2 and fields[0] == fields[1] > 1, max(fields[:1], default=0)

    return max(";,", key=merit)
