"""What the commands say, and what becomes of errors: the one place that knows."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any


class Failed(Exception):
    """The run failed, for the reason that the message gives to the user. Exit code 1."""


def say(text: str, style: str = "", on_stderr: bool = False) -> None:
    """A line for people. It is not broken, so that commands in it can be copied."""
    from rich.console import Console
    from rich.text import Text

    console = Console(stderr=on_stderr, highlight=False)
    console.print(Text(_printable(text, console.encoding), style=style), soft_wrap=True)


def complain(text: str) -> None:
    """Why it did not work, on standard error."""
    say(f"xpnet: {text}", on_stderr=True)


def print_json(result: dict[str, Any]) -> None:
    """One object on one line of standard output."""
    sys.stdout.write(json.dumps(result) + "\n")


def verdict(error: Exception) -> tuple[int, str]:
    """(exit code, line) for an error that the user can mend; (0, "") for one that is ours, which needs its traceback.

    2 for a value that cannot be, 1 for everything that depends on files, devices and the run.
    """
    from xpnet import BackendError
    from xpnet.data import IdxError
    from xpnet.nn import ModelFileError
    from xpnet.train import NotFiniteError

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


def _printable(text: str, encoding: str) -> str:
    """A file may have any name; what the terminal cannot show is escaped."""
    return text.encode(encoding, "backslashreplace").decode(encoding)


def quoted(path: Path) -> str:
    """A path as part of a command."""
    return f'"{path}"' if " " in str(path) else str(path)
