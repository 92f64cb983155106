"""How the commands print, and how errors become a message and an exit code."""

from __future__ import annotations

import json
import math
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any


class Failed(Exception):
    """The run failed; the message tells the user why. Exit code 1."""


def check_file(option: str, path: Path, ending: str) -> None:
    """Raise OSError or ValueError, before any work, if the file cannot be written or its name has another ending.

    A name with another ending may be the name of a model, which the file would replace.
    """
    from xpnet.files import check_place

    check_place(path)
    if path.suffix.lower() != ending:
        raise ValueError(f"{option}: the file to write must be called something{ending}, not {path}")


def check_plot(option: str, path: Path, ending: str) -> None:
    """`check_file`; and raise `Failed` if matplotlib, which draws what the option asks for, is missing."""
    check_file(option, path, ending)
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise Failed(f'{option} needs matplotlib: pip install "xpnet[plots]"') from None


def say(text: str, style: str = "", on_stderr: bool = False) -> None:
    """Print a line for people. It is not wrapped, so that commands in it can be copied."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=on_stderr, highlight=False)
    console.print(Text(printable(text, console.encoding), style=style), soft_wrap=True)


def complain(text: str) -> None:
    """Print on standard error why something did not work."""
    say(f"xpnet: {text}", on_stderr=True)


def check_output() -> None:
    """Raise `Failed` if standard output is closed: for a command that prints its answer there."""
    if sys.stdout is None:
        raise Failed("standard output is closed: there is nowhere to print the answer")


def print_json(result: dict[str, Any], indent: int | None = None) -> None:
    """Print one object on standard output, on one line unless indented. Raises `Failed` if the output is closed."""
    check_output()
    sys.stdout.write(json_text(result, indent) + "\n")


def print_text(text: str) -> None:
    """Print lines on standard output: for a file or another program, in UTF-8; for a terminal, as `printable`."""
    check_output()
    if sys.stdout.isatty():
        sys.stdout.write(printable(text, sys.stdout.encoding))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())


def json_text(result: dict[str, Any], indent: int | None) -> str:
    """JSON that every reader accepts: null for a number that is not finite."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: finite(inner) for name, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [finite(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(result), indent=indent, allow_nan=False)


def verdict(error: BaseException) -> tuple[int, str]:
    """(exit code, line) for an error that the user can fix; (0, "") for a bug, which needs its traceback.

    2 for an impossible value, 1 for everything that depends on files, devices and the run, and for Ctrl-C.
    """
    from xpnet import BackendError
    from xpnet.data import IdxError
    from xpnet.nn import ModelFileError
    from xpnet.train import NotFiniteError

    if isinstance(error, KeyboardInterrupt):
        return 1, "interrupted"
    if isinstance(error, BrokenPipeError):  # `xpnet data | head`: nobody is left to read a complaint
        return 0, ""
    if isinstance(error, OSError) and error.strerror:
        return 1, f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return 1, f"not enough memory: {error}"
    failed = (Failed, OSError, BackendError, ModelFileError, IdxError, NotFiniteError)
    if isinstance(error, failed):
        return 1, str(error)
    return (2, str(error)) if isinstance(error, ValueError) else (0, "")


def printable(text: str, encoding: str) -> str:
    """The text with escapes for what would control the terminal (escape codes, a change of the writing direction) and
    for what its encoding lacks: a file, or a class of a model from elsewhere, may have any name."""
    return escaped(text, but="\n\t").encode(encoding, "backslashreplace").decode(encoding)


def escaped(text: str, but: str = "") -> str:
    """The text with escapes for all characters that are not printable, such as line breaks, except those in `but`."""
    return "".join(c if c.isprintable() or c in but else c.encode("unicode_escape").decode() for c in text)


def in_percent(fraction: float) -> str:
    """A probability for people. One that is not 0 or 1 is never shown as 0% or 100%: > 99.9%, < 0.1%."""
    if 0.9995 <= fraction < 1:
        return "> 99.9%"
    return "< 0.1%" if 0 < fraction < 0.0005 else f"{fraction:.1%}"


def command(name: str, *files: Path) -> str:
    """A command to copy that works here: with the program's path if the plain `xpnet` is not on the search path."""
    program = "xpnet"
    if shutil.which(program) is None:
        called = Path(sys.argv[0])
        run_as_script = called.stem == program and os.access(called, os.X_OK)
        program = quoted(called) if run_as_script else f"{quoted(Path(sys.executable))} -m {program}"
    return " ".join([program, name, *map(quoted, files)])


def quoted(path: Path) -> str:
    """A path as part of a command, in quotes where the shell would take it for something else."""
    text = f"./{path}" if str(path).startswith("-") else str(path)  # not to be taken for an option
    if sys.platform == "win32":  # whose shells take ' for a letter
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)
