"""IDX files, the format of MNIST: a small header, then the numbers, all big endian; plain or gzip-compressed.

    2 zero bytes, 1 byte for the dtype, 1 byte for the number of dimensions,
    one uint32 per dimension, then the values in C order

Format: Y. LeCun, C. Cortes, C. J. C. Burges, "The MNIST database of handwritten digits", 1998.
"""

from __future__ import annotations

import math
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol

import numpy as np

from xpnet.files import replacing

DTYPES: dict[int, np.dtype] = {
    0x08: np.dtype(np.uint8),
    0x09: np.dtype(np.int8),
    0x0B: np.dtype(np.int16),
    0x0C: np.dtype(np.int32),
    0x0D: np.dtype(np.float32),
    0x0E: np.dtype(np.float64),
}
CODES = {dtype: code for code, dtype in DTYPES.items()}
MAX_DIMS = 64  # the format allows 255, a NumPy array 64
CHUNK = 1 << 20  # bytes


class IdxError(ValueError):
    """A file is not a valid IDX file of the expected kind, or an array cannot be written as one."""


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Read an IDX file, plain or gzip (detected by its content), into a new array of native byte order.

    Every header field is checked. Memory grows with the bytes actually read, never with a number in the header, and a
    gzip file is unpacked no further than the header promises. Raises IdxError, naming the file, what was found and what
    was expected; OSError if the file cannot be read.
    """
    with decompressed(path) as stream:
        return idx_array(stream, path)


def idx_array(stream: Stream, path: str | os.PathLike[str]) -> np.ndarray:
    """The array of an IDX file, read from `stream` to its end; `path` is for error messages. See `read_idx`."""
    dtype, shape = _read_header(stream, path)
    n_bytes = math.prod(shape) * dtype.itemsize
    data = _read(stream, n_bytes)
    promise = f"the header promises {_describe(shape, dtype)}, that is {n_bytes} bytes of data"
    if len(data) < n_bytes:
        raise IdxError(f"{path}: truncated: {promise}, but there are only {len(data)}")
    if stream.read(1):
        raise IdxError(f"{path}: too long: {promise}, but more follow")
    big_endian = np.frombuffer(data, dtype.newbyteorder(">"))
    return big_endian.reshape(shape).astype(dtype, copy=False)


def idx_shape(path: str | os.PathLike[str]) -> tuple[int, ...]:
    """The shape that an IDX file promises in its header; the data is not read. Raises as `read_idx` does."""
    with decompressed(path) as stream:
        return _read_header(stream, path)[1]


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Write `array` as an IDX file, gzip-compressed if the name ends in .gz; equal arrays give equal bytes.

    The file is replaced as a whole: an older one of the same name stays until the new one is on the disk. Raises
    IdxError if the format has no such dtype or shape, OSError if the file cannot be written.
    """
    array = np.asarray(array)
    native = array.dtype.newbyteorder("=")
    if native not in CODES:
        known = ", ".join(str(dtype) for dtype in CODES)
        raise IdxError(f"{path}: IDX has no {array.dtype}; convert the array to one of {known} first")
    if not 1 <= array.ndim <= MAX_DIMS or max(array.shape) >= 2**32:
        raise IdxError(f"{path}: IDX has no shape {array.shape}, only 1 to {MAX_DIMS} sizes below 2**32")
    header = struct.pack(f">HBB{array.ndim}I", 0, CODES[native], array.ndim, *array.shape)
    data = np.ascontiguousarray(array, native.newbyteorder(">")).data
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}")
    with replacing(path) as temporary, open(temporary, "wb") as file:
        if path.suffix == ".gz":
            import gzip  # here, to keep `from xpnet import train` light

            with gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed:
                packed.write(header)
                packed.write(data)
        else:
            file.write(header)
            file.write(data)


@contextmanager
def decompressed(path: str | os.PathLike[str]) -> Iterator[Stream]:
    """The content of a file as a stream, unpacked if it is gzip, as its first two bytes tell.

    Reading to the end checks gzip's own length and checksum. Raises IdxError if the gzip data are damaged.
    """
    with open(path, "rb") as file:
        is_gzip = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        try:
            yield _Gunzip(file) if is_gzip else file
        except (EOFError, zlib.error) as error:
            raise IdxError(f"{path}: the gzip data is damaged or cut off: {error}") from error


class Stream(Protocol):
    """What can be read from start to end."""

    def read(self, size: int, /) -> bytes: ...


class _Gunzip:
    """A gzip file of one member as a stream; `gzip.GzipFile` would go through any number of empty members to read a
    byte."""

    def __init__(self, file: IO[bytes]):
        self._file, self._unpack = file, zlib.decompressobj(zlib.MAX_WBITS | 16)  # 16: gzip's header and checksum

    def read(self, size: int, /) -> bytes:
        """Up to `size` bytes, b'' at the end. Raises EOFError or zlib.error for damaged data."""
        while not self._unpack.eof:
            packed = self._unpack.unconsumed_tail or self._file.read(CHUNK)
            data = self._unpack.decompress(packed, size)
            if data:
                return data
            if not packed and not self._unpack.eof:
                raise EOFError("it ends before its end marker")
        if self._unpack.unused_data or self._file.read(1):
            raise EOFError("more data follows its end marker")
        return b""


def _read_header(stream: Stream, path: str | os.PathLike[str]) -> tuple[np.dtype, tuple[int, ...]]:
    magic = _read(stream, 4)
    if not magic:
        raise IdxError(f"{path}: the file is empty, expected an IDX file")
    if magic[:2] != b"\0\0"[: len(magic)]:
        raise IdxError(f"{path}: not an IDX file: it begins with bytes {magic.hex(' ')}, expected 00 00")
    if len(magic) < 4:
        raise IdxError(f"{path}: truncated: {len(magic)} bytes, expected an IDX header of at least 8")
    code, ndim = magic[2:]
    if code not in DTYPES:
        known = ", ".join(f"{code:#04x} {dtype}" for code, dtype in DTYPES.items())
        raise IdxError(f"{path}: unknown IDX dtype {code:#04x}, expected one of {known}")
    if not 1 <= ndim <= MAX_DIMS:
        raise IdxError(f"{path}: the header says {ndim} dimensions, expected 1 to {MAX_DIMS}")
    sizes = _read(stream, 4 * ndim)
    if len(sizes) < 4 * ndim:
        found, expected = 4 + len(sizes), 4 + 4 * ndim
        raise IdxError(f"{path}: truncated: it ends in the header, after {found} bytes of {expected}")
    shape = struct.unpack(f">{ndim}I", sizes)
    dtype = DTYPES[code]
    # Sizes of 0 are left out, as in NumPy's own check: 0 x (2**32 - 1) x (2**32 - 1) holds nothing but is too large.
    if math.prod(size for size in shape if size) * dtype.itemsize > sys.maxsize:
        raise IdxError(f"{path}: the header promises {_describe(shape, dtype)}, more than any array can hold")
    return dtype, shape


def _read(stream: Stream, n: int) -> bytearray:
    """Up to n bytes; fewer only if the stream ends. Read in chunks, since read(n) may allocate n bytes at once."""
    data = bytearray()
    while len(data) < n and (chunk := stream.read(min(n - len(data), CHUNK))):
        data += chunk
    return data


def _describe(shape: tuple[int, ...], dtype: np.dtype) -> str:
    return f"{' x '.join(str(size) for size in shape)} {dtype}"
