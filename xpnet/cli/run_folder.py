"""The folder of a run: a new one for each run, used by one process at a time; and messages for a run cut short."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from xpnet.cli.console import Failed, command, quoted, verdict
from xpnet.cli.settings import Settings, to_toml
from xpnet.cli.tables import is_table
from xpnet.files import LONGEST_NAME, MODEL, cut, locked

if TYPE_CHECKING:
    from xpnet import Model
    from xpnet.train import TensorBoard

CONFIG, CHECKPOINT = "config.toml", "checkpoint.safetensors"
DIVERGED = "diverged.safetensors"  # the model just before a NaN: it never replaces a finished one
HALF = r"\..+\.[0-9a-f]{12}\.part|\.tmp[A-Za-z0-9]{6}"  # half-written files: of `replacing`, and of safetensors


def new_folder(data: str, out: Path | None) -> Path:
    """`out`, which must be new, or empty except for hidden files; without it, the next free runs/<data>-<number>,
    where <data> is the name of the data (of a table, without the ending)."""
    if out is None:
        return next_folder(Path("runs"), Path(data).stem if is_table(data) else Path(data).name)
    out.mkdir(parents=True, exist_ok=True)
    if any(not path.name.startswith(".") for path in out.iterdir()):
        raise ValueError(
            f"{out} is not empty: name a new folder, or continue the run in it with --resume {quoted(out)}"
        )
    return out


def next_folder(parent: Path, name: str) -> Path:
    """Make the first of name-1, name-2, .. that does not exist. Two runs that start at once get different folders."""
    parent.mkdir(exist_ok=True)
    for n in count(1):
        folder = parent / f"{cut(name, LONGEST_NAME - len(f'-{n}'))}-{n}"
        with suppress(FileExistsError):
            folder.mkdir()
            break
    return folder


@contextmanager
def only_run_in(folder: Path) -> Iterator[None]:
    """Lock the folder against other runs. Raises `Failed` if one is already at work in it."""

    def refuse() -> None:
        raise Failed(f"another run is at work in {folder}: wait until it ends, or name another folder with --out")

    with locked(folder / ".lock", refuse):
        yield


def check_tensorboard() -> None:
    """Raise `Failed` if the library that writes event files is missing."""
    from xpnet.train.tensorboard import events_writer

    try:
        events_writer()
    except ModuleNotFoundError as error:
        raise Failed(f"--tensorboard: {error}") from None


@contextmanager
def event_file(folder: Path) -> Iterator[TensorBoard]:
    """A new event file in the folder of the run; it is deleted if the run's checkpoint is refused. Raises `Failed` if
    it cannot be written."""
    from xpnet.nn import ModelFileError
    from xpnet.train import TensorBoard

    before = {*folder.iterdir()}
    try:
        board = TensorBoard(folder)
    except OSError as error:
        _, line = verdict(error)
        raise Failed(f"--tensorboard: cannot write event files: {line}") from None
    new = {*folder.iterdir()} - before
    try:
        yield board
    except ModelFileError:
        for path in new:
            with suppress(OSError):  # of Windows, where an open file cannot be deleted
                path.unlink()
        raise


def is_run(folder: Path) -> bool:
    """Whether a run has been at work in the folder. A config.toml is not proof enough: other programs have them too."""
    if (folder / CHECKPOINT).is_file():
        return True
    with suppress(OSError):
        return (folder / CONFIG).read_bytes()[:8] == b"# xpnet "
    return False


def clear_halves(folder: Path) -> None:
    """Delete the files that a killed run left half written, before it is resumed. (Not for a new folder: the hidden
    files in it are the user's own.)"""
    for path in folder.iterdir():
        if re.fullmatch(HALF, path.name) and path.is_file():
            path.unlink(missing_ok=True)


@contextmanager
def with_settings(folder: Path, settings: Settings) -> Iterator[None]:
    """Write the settings into the folder of the run; if its checkpoint is refused, restore the previous ones."""
    from xpnet.cli.results import write_text
    from xpnet.nn import ModelFileError

    path = folder / CONFIG
    before = path.read_text(encoding="utf-8") if path.exists() else None
    write_text(path, to_toml(settings))
    try:
        yield
    except ModelFileError:
        if before is not None:
            write_text(path, before)
        raise


@contextmanager
def kept(folder: Path, model: Model) -> Iterator[None]:
    """If the run fails inside the block, keep what there is, and raise `Failed` with a message that says so."""
    from xpnet.train import NotFiniteError

    try:
        yield
    except NotFiniteError as error:
        model.save(folder / DIVERGED)
        done = folder / MODEL
        other = f"{done} is still the earlier model" if done.exists() else f"there is no {done}"
        raise Failed(f"{error} That model, which may give NaN, is saved in {folder / DIVERGED}; {other}.") from None
    except KeyboardInterrupt:  # outside the training loop, which handles Ctrl-C itself
        raise Failed(f"interrupted. {go_on(folder)}") from None
    except OSError as error:
        _, line = verdict(error)
        raise Failed(f"cannot write the results: {line}. {go_on(folder)}") from None


def go_on(folder: Path) -> str:
    """A line that says how to resume a run that was cut short."""
    if not (folder / CHECKPOINT).exists():
        return f"There is no checkpoint in {folder}."
    return f"The work is kept. To go on: {command('train --resume', folder)}"
