"""CIFAR-10 in its binary form: a `.tar.gz` with five files of training images and one of test images.

A record of such a file has 3,073 bytes: the class number, then 1,024 bytes each of red, green and blue, row by row.
Nothing is unpacked to disk, and nothing is unpickled (as the archive "for Python" would require).
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xpnet.data.dataset import Dataset

if TYPE_CHECKING:
    import tarfile

MIRRORS = (
    "https://www.cs.toronto.edu/~kriz/",
    "https://storage.googleapis.com/s4tf-hosted-binaries/datasets/CIFAR10/",
)
ARCHIVE = "cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"  # of the archive as it is, not unpacked

TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST = ("test_batch.bin",)
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE, CHANNELS = 32, 3
RECORD = 1 + CHANNELS * SIDE * SIDE  # bytes
MOST = 10_000 * RECORD  # bytes of a file: the size of CIFAR-10's files


class CifarError(ValueError):
    """A file is not a valid CIFAR-10 archive; the message says what is wrong with it."""


def read_cifar(path: str | os.PathLike[str], name: str = "cifar10") -> tuple[Dataset, Dataset]:
    """The training and the test images of an archive: x (N, 32, 32, 3) uint8, y class numbers (N,).

    A file in it may have fewer records than CIFAR-10's 10,000. Raises CifarError for an archive that is damaged, lacks
    one of the six files, or holds anything else in one of them; OSError if it cannot be read.
    """
    import gzip  # here, to keep `from xpnet import train` light
    import tarfile

    content: dict[str, np.ndarray] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                file = Path(member.name).name
                if file in TRAIN + TEST:
                    content[file] = _records(archive, member, path)
    except (tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CifarError(f"{path} is not a whole .tar.gz archive: {error}") from None
    missing = [file for file in TRAIN + TEST if file not in content]
    if missing:
        raise CifarError(f"{path} has no {', '.join(missing)}")
    return (
        _dataset([content[file] for file in TRAIN], f"{name} train"),
        _dataset([content[file] for file in TEST], f"{name} test"),
    )


def _records(archive: tarfile.TarFile, member: tarfile.TarInfo, path: str | os.PathLike[str]) -> np.ndarray:
    """The records (n, RECORD) uint8 of one file."""
    stream = archive.extractfile(member) if member.isreg() else None
    if stream is None or not 0 < member.size <= MOST or member.size % RECORD:
        raise CifarError(
            f"{path}: {member.name} should be a file of 1 to {MOST // RECORD} records of {RECORD} bytes, "
            f"it has {member.size} bytes"
        )
    return np.frombuffer(stream.read(), np.uint8).reshape(-1, RECORD)


def _dataset(files: list[np.ndarray], name: str) -> Dataset:
    """The data set of some records, in which the label comes first, then one colour after the other: here the last
    axis."""
    y = np.concatenate([records[:, 0] for records in files])
    x = np.concatenate([records[:, 1:].reshape(-1, CHANNELS, SIDE, SIDE).transpose(0, 2, 3, 1) for records in files])
    return Dataset(np.ascontiguousarray(x), y, CLASSES, name)
