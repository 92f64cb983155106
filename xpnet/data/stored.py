"""`Stored`: samples that stay in their files and are read batch by batch, for data larger than memory.

    train = data.open_npy("x.npy", "y.npy")                       # arrays that `numpy.save` has written
    train = data.open_shards(sorted(glob("train-*.safetensors")))  # tensors "x" and "y" in each
    train = data.open_images("photos/", size=(64, 64))             # a folder for each class

`fit` and `evaluate` accept all of them. Files are read in a thread of their own, some batches ahead of the training.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.arguments import class_names, whole
from xpnet.backend import Array, Backend
from xpnet.backend.random import host_generator
from xpnet.data.batches import permutation
from xpnet.data.dataset import Dataset, Feed, check_indices
from xpnet.data.images import as_size, files_of_classes
from xpnet.data.labels import renumbered
from xpnet.data.rows import Chosen, Images, Joined, Rows, numbers_in
from xpnet.data.statistics import check_finite
from xpnet.files import expanded

AnyPath = str | os.PathLike

AHEAD = 4  # batches read in advance
WINDOW = 1 << 14  # samples that are shuffled together
BLOCKS = 16  # blocks of consecutive samples in a window
DTYPES = {"F64": "f8", "F32": "f4", "I64": "i8", "I32": "i4", "I16": "i2", "I8": "i1", "U16": "u2", "U8": "u1"}


class Stored:
    """Samples that are read from files when they are needed, with their targets in memory.

    `rows` reads the samples; `y` and `classes` are as in `Dataset`. An epoch visits every sample once. It takes blocks
    of consecutive samples in random order, and shuffles the samples of 16 blocks at a time, `window` samples together.
    So files are read almost sequentially. The order depends only on the seed and the epoch, and a run can resume in the
    middle of it. Files whose samples are sorted (by class, say) need a window that is large compared with the sorted
    runs; better, shuffle the samples before writing them.

    `x` has the shape and dtype of all samples but repeats the first one throughout: use `read` to look at others.
    Floating point samples are checked as they are read; ValueError for a NaN or an infinity.
    """

    def __init__(
        self, rows: Rows, y: np.ndarray, classes: Sequence[str] = (), name: str = "data", window: int = WINDOW
    ):
        if len(rows) != len(y):
            raise ValueError(f"{name}: {len(rows)} samples and {len(y)} targets")
        self.name, self.window, self._rows = name, whole(f"{name}: window", window, least=1), rows
        targets = Dataset(np.zeros((len(y), 1), np.uint8), y, class_names(classes), name)
        self.y, self.classes = targets.y, targets.classes
        self.x = np.broadcast_to(self.read(np.zeros(1, np.int64)), (len(rows), *rows.shape))

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        shape = " x ".join(map(str, self.x.shape[1:])) or "1"
        return f"<{self.name}: {len(self)} samples of {shape} {self.x.dtype}, in files>"

    def read(self, indices: np.ndarray) -> np.ndarray:
        """The samples at `indices` (M,) integer, in that order. IndexError if one is not in 0..N-1."""
        indices = check_indices(indices)
        if len(indices) and not 0 <= indices.min() <= indices.max() < len(self):
            raise IndexError(f"{self.name} has samples 0..{len(self) - 1}, not {indices.min()}..{indices.max()}")
        x = self._rows.read(indices)
        check_finite(x, self.name, numbers_in(self._rows, indices))
        return x

    def take(self, indices: np.ndarray) -> Stored:
        """A selection of the samples, at `indices` (M,) integer, in that order; they stay in their files.

        IndexError if an index is out of range.
        """
        numbers = np.arange(len(self))[check_indices(indices)]
        return Stored(Chosen(self._rows, numbers), self.y[numbers], self.classes, self.name, self.window)

    def with_classes(self, classes: Sequence[str]) -> Stored:
        """The same samples with class numbers that index into `classes`, like `Dataset.with_classes`."""
        classes = class_names(classes)
        y = renumbered(self.y, self.classes, classes, self.name)
        return Stored(self._rows, y, classes, self.name, self.window)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The order in which an epoch visits the samples, (N,) int64."""
        n, block = len(self), max(self.window // BLOCKS, 1)
        place = np.argsort(permutation(-(-n // block), seed, "order", epoch))  # of each block in the random order
        window = place[np.arange(n) // block] // BLOCKS
        return np.lexsort((host_generator(seed, "window", epoch).bit_generator.random_raw(n), window))

    def feed(self, backend: Backend, as_input: Callable[[Any], Any]) -> Feed:
        return _Ahead(self, backend, as_input)

    def digest(self) -> str:
        """A checksum of all targets and of some samples."""
        some = self.read(np.linspace(0, len(self) - 1, min(len(self), 64)).astype(np.int64))
        arrays = (some, self.y, np.array([len(self), self.window]))
        return "-".join(f"{zlib.crc32(np.ascontiguousarray(a).data):08x}" for a in arrays)


class _Ahead:
    """Reads batches in a thread, in the order in which they will be asked for.

    (CuPy uploads arrays of the host through pinned memory of its own, without waiting.)
    """

    def __init__(self, source: Stored, backend: Backend, as_input: Callable[[Any], Any]):
        from concurrent.futures import Future, ThreadPoolExecutor

        self._source, self._backend, self._as_input = source, backend, as_input
        self._reader = ThreadPoolExecutor(1, "xpnet-reader")
        self._order = np.empty(0, np.int64)
        self._parts: list[slice] = []
        self._next = 0  # index of the next part to read
        self._read: deque[tuple[slice, Future]] = deque()

    def begin(self, order: np.ndarray, parts: Sequence[slice]) -> None:
        self._order, self._parts = order, list(parts)
        self._forget()

    def inputs(self, part: slice) -> tuple[Array, ...]:
        while self._read and self._read[0][0] != part:
            self._read.popleft()[1].cancel()
        if not self._read:  # the first part of an epoch or of a resumed run, or one that is asked for again
            self._next = self._parts.index(part)
            self._read_ahead()
        _, batch = self._read.popleft()
        self._read_ahead()
        try:
            return tuple(map(self._backend.asarray, batch.result()))
        finally:
            del batch  # it may hold an error, whose traceback holds this frame: a cycle that would keep all of it alive

    def batch(self, *inputs: Array) -> tuple[Any, Any]:
        x, y = inputs
        return x, y

    def close(self) -> None:
        """Drop the batches still to be read; one that is being read is read to its end."""
        self._read.clear()
        self._reader.shutdown(wait=False, cancel_futures=True)

    def _forget(self) -> None:
        for _, batch in self._read:
            batch.cancel()
        self._read.clear()

    def _read_ahead(self) -> None:
        while self._next < len(self._parts) and len(self._read) < AHEAD:
            part = self._parts[self._next]
            self._read.append((part, self._reader.submit(self._one, self._order[part])))
            self._next += 1

    def _one(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self._as_input(self._source.read(indices)), self._source.y[indices]


# Opening files ------------------------------------------------------------------------------------------------


def open_npy(
    x: AnyPath | Sequence[AnyPath], y: AnyPath | np.ndarray, classes: Sequence[str] = (), window: int = WINDOW
) -> Stored:
    """Samples in one or several .npy files of equal shape, mapped into memory; `y` may be a file too.

    Raises OSError or ValueError for what is not such a file, or does not fit the others.
    """
    paths = _paths(x)
    targets = _npy(Path(y), None, "buifU") if isinstance(y, (str, os.PathLike)) else np.asarray(y)
    return Stored(_joined(paths, [_npy(path, "r", "buif") for path in paths]), targets, classes, paths[0].name, window)


def open_shards(
    paths: AnyPath | Sequence[AnyPath], x: str = "x", y: str = "y", classes: Sequence[str] = (), window: int = WINDOW
) -> Stored:
    """Samples in one or several safetensors files, mapped into memory.

    Each file has tensors `x` and `y` of equal length; shapes (but for the length) and dtypes are the same in all files.
    Raises OSError or ValueError for what is not such a file, or does not fit the others.
    """
    files = _paths(paths)
    targets = [np.array(_tensor(path, y)) for path in files]  # copies, so that each file is kept open only once
    samples = [_tensor(path, x) for path in files]
    rows = _joined(files, samples)
    for path, these, theirs in zip(files, samples, targets, strict=True):
        if these.shape[:1] != theirs.shape[:1]:
            raise ValueError(f"{path} has {len(these)} samples, and targets of shape {theirs.shape}")
    _check_alike(files, targets, "targets")
    return Stored(rows, np.concatenate(targets), classes, files[0].name, window)


def open_images(folder: AnyPath, size: int | tuple[int, int], grey: bool = False) -> Stored:
    """Images in a folder with one folder per class, resized to `size` as uint8: the files of `image_folder`.

    `size` is (height, width), or a number for squares. All samples are shuffled together: with one file per sample, any
    order can be read equally well. Raises ValueError for fewer than two classes and for a class without an image of its
    own, OSError for what is not a folder.
    """
    root, size = expanded(folder), as_size(size)
    files, y, classes = files_of_classes(root)
    return Stored(Images(files, size, grey), y, classes, root.resolve().name, window=2 * len(y))


def _joined(paths: Sequence[Path], arrays: Sequence[np.ndarray]) -> Joined:
    if not arrays:
        raise ValueError("no file was named")
    for path, array in zip(paths, arrays, strict=True):
        if array.ndim == 0 or array.size == 0:
            raise ValueError(f"{path} has no sample in it, its shape is {array.shape}")
    _check_alike(paths, arrays, "samples")
    return Joined(arrays)


def _check_alike(paths: Sequence[Path], arrays: Sequence[np.ndarray], what: str) -> None:
    """Raise ValueError unless the arrays of all files have the same dtype and, except for the length, the same
    shape."""
    first = arrays[0]
    for path, array in zip(paths, arrays, strict=True):
        if (array.shape[1:], array.dtype) != (first.shape[1:], first.dtype):
            here, there = (f"{one.dtype} {one.shape[1:]}" for one in (array, first))
            raise ValueError(f"{path} has {what} of {here}, {paths[0]} of {there}")


def _paths(named: AnyPath | Sequence[AnyPath]) -> list[Path]:
    return [Path(path) for path in ([named] if isinstance(named, (str, os.PathLike)) else named)]


@contextmanager
def _opening(path: Path) -> Iterator[None]:
    """Open a file inside the block; if too many are open, the OSError says what to do.

    Every memory-mapped file counts as an open file.
    """
    try:
        yield
    except OSError as error:
        # safetensors then reports a file that exists as not found.
        if error.errno != errno.EMFILE and not (isinstance(error, FileNotFoundError) and path.exists()):
            raise
        what = "more files than may be open at once: use fewer, larger files, or raise the limit with ulimit -n"
        raise OSError(errno.EMFILE, what, str(path)) from None


def _npy(path: Path, mode: Any, kinds: str) -> np.ndarray:
    try:
        with _opening(path):
            array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (ValueError, EOFError) as error:
        # NumPy names its own argument, which these functions do not have.
        why = "it is no array, or one of Python objects" if "allow_pickle" in str(error) else str(error)
        raise ValueError(f"{path} is not a .npy file that can be read: {why}") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
        raise ValueError(f"{path} holds no array of numbers{' or strings' if 'U' in kinds else ''}")
    return array


def _tensor(path: Path, name: str) -> np.ndarray:
    """The tensor of this name in a safetensors file, mapped into memory."""
    import json  # here, as safetensors, to keep `from xpnet import data` light

    from safetensors import SafetensorError, safe_open

    try:
        with _opening(path), safe_open(path, framework="numpy") as file:  # checks that the header fits the file
            if name not in (names := list(file.keys())):
                raise ValueError(f"{path} has no tensor {name!r}: it has {', '.join(names) or 'none'}")
            held = file.get_slice(name)
            kind, shape = held.get_dtype(), tuple(held.get_shape())
    except SafetensorError as error:
        raise ValueError(f"{path} is not a complete safetensors file: {error}") from None
    if kind not in DTYPES:
        raise ValueError(f"{path}: {name} has dtype {kind}, but must have one of {', '.join(DTYPES)}")
    with _opening(path):
        with open(path, "rb") as file:  # the length of the header, the header, then the tensors
            length = int.from_bytes(file.read(8), "little")
            begin, _ = json.loads(file.read(length))[name]["data_offsets"]
        if 0 in shape:
            return np.empty(shape, DTYPES[kind])
        return np.memmap(path, f"<{DTYPES[kind]}", "r", offset=8 + length + begin, shape=shape)
