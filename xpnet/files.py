"""Files: replacing them completely or not at all, locking them, and checking and expanding their paths."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

LONGEST_NAME = 255  # bytes, on most file systems
MODEL = "model.safetensors"  # in the folder of a run
DATA_SETS = ("digits", "mnist", "cifar10")  # known by name, not by path
TABLES = (".csv", ".tsv", ".parquet")  # endings of the names of files with tables
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Inside `with replacing(path) as temporary:` write to `temporary`; it replaces `path` when the block ends.

    After an error, a full disk or a kill, the file that was at `path` before is still there, complete.
    """
    path = _place_of(path)
    old_mode = path.stat().st_mode & 0o777 if path.exists() else None
    temporary = _beside(path)
    # The replacement of a file that only its owner can read is never readable by others, not even for a moment.
    _create(temporary, path, 0o666 if old_mode is None else 0o600)
    mode = temporary.stat().st_mode & 0o777 if old_mode is None else old_mode
    try:
        yield temporary
        with open(temporary, "rb+") as file:  # on the disk before it takes the name
            os.fsync(file.fileno())
        temporary.chmod(mode)  # whoever wrote may have made the file anew
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def check_place(path: str | os.PathLike) -> None:
    """Raise OSError if no file can be written at `path`: to be called before hours of work whose result goes there."""
    path = _place_of(path)
    temporary = _beside(path)
    _create(temporary, path, 0o600)
    temporary.unlink()


def _place_of(path: str | os.PathLike) -> Path:
    """The path with links followed. Raises OSError if its folder does not exist, or if it is itself a folder."""
    path = Path(os.path.realpath(path))  # where a link leads, not the link
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "there is a folder of that name", str(path))
    return path


def _beside(path: Path) -> Path:
    """A temporary name in the same folder, for the file that is to replace `path`."""
    return path.with_name(f".{cut(path.name, 100)}.{os.urandom(6).hex()}.part")


def _create(temporary: Path, path: Path, mode: int) -> None:
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    except OSError as error:  # it names the temporary file, which the user does not know
        raise type(error)(error.errno, error.strerror, str(path)) from None


def _sync_folder(folder: Path) -> None:
    """Make the new name of a file survive a power cut, too, where the system supports that."""
    if os.name == "posix":
        with suppress(OSError):  # some file systems refuse; the file itself is written
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


@contextmanager
def locked(path: Path, if_taken: Callable[[], object]) -> Iterator[None]:
    """Inside the block, hold the operating system's lock on a file. It ends with the process, so it never goes stale.

    If another process holds the lock, `if_taken` is called once. If it raises no error, this waits for the lock.
    """
    with open(path, "ab") as file:
        if not _try_lock(file):
            if_taken()
            while not _try_lock(file):
                time.sleep(0.1)
        yield  # closing the file gives the lock back


def _try_lock(file: IO[bytes]) -> bool:
    """Lock an open file; False if another process holds it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(0)
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    except OSError as error:
        # Some network drives do not support locks. Files are replaced completely there, too: two processes at once may
        # undo each other's work, but neither ever reads half a file.
        if error.errno not in NO_LOCKS:
            raise
    return True


def expanded(path: str | os.PathLike) -> Path:
    """The path with ~ replaced by the home folder. Raises FileNotFoundError if there is no such home folder."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise FileNotFoundError(f"{os.fspath(path)}: there is no such home folder") from None


def cut(name: str, most: int = LONGEST_NAME) -> str:
    """The beginning of a name, cut to at most `most` bytes in UTF-8."""
    return name.encode("utf-8", "replace")[:most].decode("utf-8", "ignore")
