"""What the commands say, and what becomes of errors: the one place that knows."""

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
    """The run failed, for the reason that the message gives to the user. Exit code 1."""


def check_file(option: str, path: Path, ending: str) -> None:
    """Raise ValueError or OSError, before any work, where no file can be written, or where its name is that of another
    kind: a model, whose place it would take."""
    from xpnet.files import check_place

    check_place(path)
    if path.suffix.lower() != ending:
        raise ValueError(f"{option}: the file to write must be called something{ending}, not {path}")


def check_plot(option: str, path: Path, ending: str) -> None:
    """`check_file`, and `Failed` where what this option asks for cannot be drawn."""
    check_file(option, path, ending)
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise Failed(f'{option} needs matplotlib: pip install "xpnet[plots]"') from None


def say(text: str, style: str = "", on_stderr: bool = False) -> None:
    """A line for people. It is not broken, so that commands in it can be copied."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=on_stderr, highlight=False)
    console.print(Text(printable(text, console.encoding), style=style), soft_wrap=True)


def complain(text: str) -> None:
    """Why it did not work, on standard error."""
    say(f"xpnet: {text}", on_stderr=True)


def check_output() -> None:
    """Raise `Failed` if standard output is closed, for a command whose answer goes there."""
    if sys.stdout is None:
        raise Failed("standard output is closed: there is nowhere to print the answer")


def print_json(result: dict[str, Any], indent: int | None = None) -> None:
    """One object on standard output, on one line unless it is indented. Raises `Failed` if that is closed."""
    check_output()
    sys.stdout.write(json_text(result, indent) + "\n")


def print_text(text: str) -> None:
    """Lines on standard output: in UTF-8, as a file or another program is to read them; a terminal may have no letter
    for some, and is not to be commanded by any."""
    check_output()
    if sys.stdout.isatty():
        sys.stdout.write(printable(text, sys.stdout.encoding))
        return
    sys.stdout.flush()
    sys.stdout.buffer.write(text.encode())


def json_text(result: dict[str, Any], indent: int | None) -> str:
    """JSON that every reader takes: null for a number that is not finite."""

    def finite(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: finite(inner) for name, inner in value.items()}
        if isinstance(value, (list, tuple)):
            return [finite(inner) for inner in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(finite(result), indent=indent, allow_nan=False)


def verdict(error: BaseException) -> tuple[int, str]:
    """(exit code, line) for an error that the user can mend; (0, "") for one that is ours, which needs its traceback.

    2 for a value that cannot be, 1 for everything that depends on files, devices and the run, and for Ctrl-C.
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
    """A file, or a class of a model from elsewhere, may have any name: what would command the terminal (escape codes,
    a change of the direction of writing) is shown as an escape, and so is what it has no letter for."""
    return escaped(text, but="\n\t").encode(encoding, "backslashreplace").decode(encoding)


def escaped(text: str, but: str = "") -> str:
    """A name as part of a line, which it does not break: all but letters, and what is excepted, as escapes."""
    return "".join(c if c.isprintable() or c in but else c.encode("unicode_escape").decode() for c in text)


def in_percent(fraction: float) -> str:
    """A probability for people. What is not certain never reads as if it were: > 99.9%, < 0.1%."""
    if 0.9995 <= fraction < 1:
        return "> 99.9%"
    return "< 0.1%" if 0 < fraction < 0.0005 else f"{fraction:.1%}"


def command(name: str, *files: Path) -> str:
    """A command to copy, as it works here: by its path where the plain `xpnet` is not on the search path."""
    program = "xpnet"
    if shutil.which(program) is None:
        called = Path(sys.argv[0])
        run_as_script = called.stem == program and os.access(called, os.X_OK)
        program = quoted(called) if run_as_script else f"{quoted(Path(sys.executable))} -m {program}"
    return " ".join([program, name, *map(quoted, files)])


def quoted(path: Path) -> str:
    """A path as part of a command, in quotes where the shell would take it for something else."""
    text = f"./{path}" if str(path).startswith("-") else str(path)  # no option
    if sys.platform == "win32":  # whose shells take ' for a letter
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)
