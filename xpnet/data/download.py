"""Files from the network, downloaded once: several mirrors, interrupted downloads resumed, checked by SHA-256."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from xpnet.data.idx import IdxError, Stream, decompressed
from xpnet.files import locked

TIMEOUT = 30  # seconds without a byte before a mirror counts as dead
CHUNK = 1 << 16  # bytes
MOST = 1 << 28  # bytes; a larger file cannot be one of ours, and is read no further


class DownloadError(OSError):
    """No mirror could deliver a file; the message has the reason for each mirror, and what to do instead."""


def fetch(filename: str, urls: Sequence[str], sha256: str, folder: Path, packed: bool = False) -> Path:
    """The path of folder/filename; if it is missing, it is downloaded from the first of `urls` that delivers it.

    sha256 is the checksum of the content: of the unpacked data of a gzip file, or with `packed` of the file as it is. A
    file with other content is replaced.

    An interrupted download resumes where it stopped (filename.part). Processes that need the same file at once wait for
    the first of them. The file is moved into place only when complete and checked. Raises DownloadError if no mirror
    delivers it, or the folder cannot be written.
    """
    path, part, lock = (folder / f"{filename}{suffix}" for suffix in ("", ".part", ".lock"))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if _mismatch(path, sha256, packed) is None:
            return path
        with locked(lock, lambda: _say(f"waiting for another process that downloads {filename}")):
            found = _mismatch(path, sha256, packed)  # another process may have downloaded it meanwhile
            if found:
                if path.exists():
                    _say(f"downloading again, since {found}")
                _download(part, urls, sha256, packed)
                os.replace(part, path)
    except DownloadError as error:
        raise DownloadError(
            f"no mirror delivers {filename}:\n{error}\nTo do without the download, put {filename} into {folder}, "
            f"or into a folder {folder.name} inside the folder that XPNET_DATA names."
        ) from None
    except OSError as error:
        raise DownloadError(
            f"cannot keep {filename} in {folder}: {error}. Set XPNET_CACHE to a folder that can be written."
        ) from error
    with suppress(OSError):
        lock.unlink()  # whoever still waits for it, or makes a new one, finds the file complete
    return path


def content_sha256(path: Path, packed: bool = False) -> str:
    """SHA-256 in hex of a file's content: unpacked if it is gzip, unless `packed`, otherwise as it is.

    Raises IdxError for damaged gzip data and for huge content.
    """
    with open(path, "rb") if packed else decompressed(path) as stream:
        hashed = Hashed(stream, path)
        while hashed.read(CHUNK):
            pass
    return hashed.sha256


class Hashed:
    """A stream that computes the SHA-256 of what has been read from it. It raises IdxError for huge content."""

    def __init__(self, stream: Stream, path: Path):
        import hashlib  # not needed to import the package

        self._stream, self._path, self._digest, self._length = stream, path, hashlib.sha256(), 0

    def read(self, size: int, /) -> bytes:
        chunk = self._stream.read(size)
        self._digest.update(chunk)
        self._length += len(chunk)
        if self._length > MOST:
            raise IdxError(f"{self._path}: it holds more than {MOST} bytes, which is no file of ours")
        return chunk

    @property
    def sha256(self) -> str:
        """In hex."""
        return self._digest.hexdigest()


def _mismatch(path: Path, sha256: str, packed: bool) -> str | None:
    """Why the file at `path` is not the wanted one; None if it is."""
    try:
        found = content_sha256(path, packed)
    except FileNotFoundError:
        return f"there is no {path}"
    except IdxError as error:
        return str(error)
    return None if found == sha256 else f"the content of {path.name} has SHA-256 {found}, expected {sha256}"


def _download(part: Path, urls: Sequence[str], sha256: str, packed: bool) -> None:
    """Fill `part` from the first mirror with the right content. Raises DownloadError, one line per mirror."""
    from http.client import HTTPException  # here, as urllib below, to keep `import xpnet` light

    failures = []
    for url in urls:
        try:
            resumed = _transfer(url, part)
            found = _mismatch(part, sha256, packed)
            if found and resumed:  # the part may belong to another file: start once more, from nothing
                part.unlink()
                _transfer(url, part)
                found = _mismatch(part, sha256, packed)
        except (OSError, HTTPException) as error:  # the part is kept for the next mirror or the next call
            failures.append(f"  {url}: {error}")
            continue
        if found is None:
            return
        failures.append(f"  {url}: {found}")
        part.unlink()
    raise DownloadError("\n".join(failures))


def _transfer(url: str, part: Path) -> bool:
    """Download to `part`, resuming at its end if the server can. True if some of the old part was kept."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "xpnet"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code == 416 and have:  # nothing to add to the part; its checksum tells whether it is right
            return True
        raise
    with response:
        resumed = response.status == 206
        if resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise ConnectionError("the server sent another range than the one asked for")
        start, expected = have if resumed else 0, response.length
        received = 0
        with open(part, "ab" if resumed else "wb") as file, _progress(url, start, expected) as advance:
            while chunk := response.read(CHUNK):
                file.write(chunk)
                received += len(chunk)
                advance(len(chunk))
                if start + received > MOST:
                    raise ConnectionError(f"the server sends more than {MOST} bytes")
            file.flush()
            os.fsync(file.fileno())
    if expected is not None and received < expected:
        raise ConnectionError(f"the connection broke off after {received} of {expected} bytes")
    return resumed


@contextmanager
def _progress(url: str, start: int, expected: int | None) -> Iterator[Callable[[int], None]]:
    """A function to call with the number of bytes received; shows a bar on a terminal, else one line at the start."""
    if sys.stderr is None or not sys.stderr.isatty():
        _say(f"downloading {url}" + (f" from byte {start}" if start else ""))
        yield lambda n: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

    columns = BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
    with Progress("{task.description}", *columns, console=Console(stderr=True)) as bar:
        total = None if expected is None else start + expected
        task = bar.add_task(url.rsplit("/", 1)[-1], total=total, completed=start)
        yield lambda n: bar.advance(task, n)


def _say(line: str) -> None:
    if sys.stderr is not None:  # a program without a console has no stderr
        sys.stderr.write(f"xpnet: {line}\n")
