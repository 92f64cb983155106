"""Writing files so that nothing is ever half there."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """`with replacing(path) as temporary:` write to `temporary`; it takes `path`'s place once it is complete.

    After an error, a full disk or a kill, whatever was at `path` before is still there, whole.
    """
    path = Path(os.path.realpath(path))  # where a link leads, not the link
    if not path.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(path.parent))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "there is a folder of that name", str(path))
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
    except OSError as error:  # it would name the temporary file, which nobody knows
        raise type(error)(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb+") as file:  # on the disk before it takes the name
            os.fsync(file.fileno())
        _take_permissions(temporary, path)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _take_permissions(new: Path, old: Path) -> None:
    """Those of the file that it replaces, else what `open` would have given: mkstemp's are for the owner alone."""
    if os.name != "posix":
        return
    if old.exists():
        new.chmod(old.stat().st_mode & 0o777)
    else:
        umask = os.umask(0)
        os.umask(umask)
        new.chmod(0o666 & ~umask)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut, where the system can."""
    if os.name == "posix":
        with suppress(OSError):  # some file systems refuse; the file itself is written
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
