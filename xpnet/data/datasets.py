"""Loading data sets: the embedded digits, MNIST, CIFAR-10, a folder of IDX files or of images."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from xpnet.data import cifar, download
from xpnet.data.dataset import Dataset
from xpnet.data.idx import IdxError, decompressed, idx_array, idx_shape, read_idx
from xpnet.data.images import class_folders, has_images, image_folder, images_in
from xpnet.data.split import split
from xpnet.files import DATA_SETS, expanded

MNIST_MIRRORS = (
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
)
MNIST_SHA256 = {  # of the decompressed content: archives from two mirrors may differ in their gzip headers
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
INTO_FOLDERS = "put those of each class into a folder that has the name of the class"
VALIDATION = ("val", "valid", "validation")  # folders of a part that `load` does not read


class Splits(NamedTuple):
    """The data to train on, and the data to test with."""

    train: Dataset
    test: Dataset


def load(
    source: str | os.PathLike[str],
    *,
    seed: int = 0,
    size: int | tuple[int, int] | None = None,
    grey: bool | None = None,
) -> Splits:
    """A data set by name, or from a folder.

    "digits"  1,797 real handwritten digits, 8 x 8 uint8, which come with the package; their 17 grey levels are
              scaled to 0..255, the usual range of images. A stratified fifth is held out as the test split,
              chosen by `seed`.
              The test set of E. Alpaydin and C. Kaynak, "Optical Recognition of Handwritten Digits", UCI
              Machine Learning Repository, 1998, doi:10.24432/C50P49, licence CC BY 4.0.
    "mnist"   60,000 + 10,000 handwritten digits, 28 x 28 uint8 of 0..255 (LeCun, Cortes and Burges). From
              $XPNET_DATA/mnist, else $XPNET_DATA, else the cache ($XPNET_CACHE/mnist, or the user's cache
              folder), else downloaded into the cache. Its SHA-256 is checked wherever it comes from.
    "cifar10" 50,000 + 10,000 images of things and animals, 32 x 32 x 3 uint8 (A. Krizhevsky, "Learning multiple
              layers of features from tiny images", 2009). The archive cifar-10-binary.tar.gz (162 MB) is looked
              for and downloaded like MNIST, but in folders named cifar10; its SHA-256 is checked.
    a folder  of four IDX files, plain or .gz, named like MNIST's: train-images-idx3-ubyte,
              train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte (or .idx3-ubyte ..);
              or with one folder of images per class, of which a stratified fifth, chosen by `seed`, is the test
              split; or with folders `train` and `test`, each with such class folders (but no validation folder).
              `size` and `grey` apply only to folders of images: see `image_folder`. All other splits are fixed.

    Raises ValueError for an unknown name and for wrong content (IdxError if it is not a valid IDX file),
    FileNotFoundError for a missing file, DownloadError for a data set that is not found and cannot be downloaded.
    """
    if (size, grey) != (None, None) and not holds_images(source):
        raise ValueError(
            f"size and grey are for a folder with one folder of images per class, not for {os.fspath(source)!r}"
        )
    if source == "digits":
        return _digits(seed)
    if source == "mnist":
        return _splits([_mnist_array(name) for name in MNIST_SHA256], "mnist")
    if source == "cifar10":
        return Splits(*cifar.read_cifar(_cifar_archive()))
    folder = expanded(source)
    if not os.fspath(source) or not folder.is_dir():
        known = "'digits', 'mnist', 'cifar10', or the path of a folder with four IDX files, or with images"
        raise ValueError(f"unknown data set {os.fspath(source)!r}: use {known}")
    if holds_images(source):
        return _of_images(folder, seed, size, grey)
    if not any(_find(folder, name) for name in MNIST_SHA256) and images_in(folder):
        raise FileNotFoundError(f"{folder} has images, but no folders that tell their classes: {INTO_FOLDERS}")
    return _of_files([_file_in(folder, name) for name in MNIST_SHA256], folder.resolve().name)


def holds_images(source: str | os.PathLike[str]) -> bool:
    """Whether `load` treats this as a folder with one folder of images per class."""
    if source in DATA_SETS or not os.fspath(source):
        return False
    folder = expanded(source)
    if not folder.is_dir() or any(_find(folder, name) for name in MNIST_SHA256):
        return False
    return bool(class_folders(folder))


def has_parts(folder: Path) -> bool:
    """Whether a folder of images is already divided into `train` and `test`."""
    return all((folder / part).is_dir() and has_images(folder / part) for part in ("train", "test"))


def _digits(seed: int) -> Splits:
    here = Path(__file__).parent
    x, y = (read_idx(here / f"digits-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    x = np.rint(x * (255 / 16)).astype(np.uint8)
    train, test = split(Dataset(x, y, name="digits"), 1 / 5, seed)
    return Splits(replace(train, name="digits train"), replace(test, name="digits test"))


def _of_images(folder: Path, seed: int, size: int | tuple[int, int] | None, grey: bool | None) -> Splits:
    name, parts = folder.resolve().name, (folder / "train", folder / "test")
    there = [one for one in ("train", "test", *VALIDATION) if (folder / one).is_dir() and has_images(folder / one)]
    if "train" in there and "test" not in there and parts[1].is_dir() and images_in(parts[1]):
        raise ValueError(
            f"{parts[1]} has images, but no folders that tell their classes: {INTO_FOLDERS}; or load {parts[0]} "
            "alone, of which a fifth is then held out"
        )
    if there[:1] == ["train"] and there[-1] in VALIDATION:
        what_to_do = "move its images into train, or move it elsewhere" if "test" in there else "rename it to test"
        raise ValueError(
            f"{folder} has a part {there[-1]}, but only train and test are read: {what_to_do}. To validate during a "
            f"run, hold out a part of train with data.split or xpnet train --val 0.1"
        )
    if has_parts(folder):
        train, test = (image_folder(part, size, grey) for part in parts)
        for part, one, other in (("train", train, test), ("test", test, train)):
            if lacking := ", ".join(repr(of_class) for of_class in other.classes if of_class not in one.classes):
                raise ValueError(f"{name}: both parts need the same classes, but {part} has no folder {lacking}")
        if train.x.shape[1:] != test.x.shape[1:]:
            found = f"{train!r} in train, {test!r} in test"
            raise ValueError(f"{name}: both parts need images of one size and kind: {found}")
    else:
        train, test = split(image_folder(folder, size, grey), 1 / 5, seed)
    return Splits(replace(train, name=f"{name} train"), replace(test, name=f"{name} test"))


def _of_files(paths: list[Path], name: str) -> Splits:
    """The data set in four files, in the order of MNIST_SHA256."""
    shapes = [idx_shape(path) for path in paths]
    for images, labels in ((0, 1), (2, 3)):  # before any data are read: headers may promise gigabytes
        if len(shapes[images]) < 2:
            expected = "(N, height, width), or (N, values)"
            raise ValueError(f"{name}: {paths[images].name} has shape {shapes[images]}, samples need {expected}")
        if shapes[images][:1] != shapes[labels]:
            found = f"{shapes[images]} in {paths[images].name}, {shapes[labels]} in {paths[labels].name}"
            raise ValueError(f"{name}: samples and labels need equal lengths: {found}")
    if shapes[0][1:] != shapes[2][1:]:
        found = f"{shapes[0][1:]} in {paths[0].name}, {shapes[2][1:]} in {paths[2].name}"
        raise ValueError(f"{name}: the samples differ in shape: {found}")
    return _splits([read_idx(path) for path in paths], name)


def _splits(arrays: list[np.ndarray], name: str) -> Splits:
    """The data set of four arrays, in the same order; both splits get the same classes."""
    train_x, train_y, test_x, test_y = arrays
    train = Dataset(train_x, train_y, name=f"{name} train")
    test = Dataset(test_x, test_y, name=f"{name} test")
    classes = max(train.classes, test.classes, key=len)
    return Splits(replace(train, classes=classes), replace(test, classes=classes))


def _mnist_array(name: str) -> np.ndarray:
    """The content of one file of MNIST, checked: from $XPNET_DATA, else from the cache, else downloaded into it."""
    sha256 = MNIST_SHA256[name]
    for folder in _own_folders("mnist"):
        if path := _find(folder, name):
            return _read_checked(path, sha256)
    folder, packed = cache_folder() / "mnist", f"{name}.gz"
    array = _read_if(folder / packed, sha256)
    if array is not None:
        return array
    urls = [f"{mirror}{packed}" for mirror in MNIST_MIRRORS]
    try:
        return _read_checked(download.fetch(packed, urls, sha256, folder), sha256)
    except download.DownloadError as error:
        needed = ", ".join(f"{name}.gz" for name in MNIST_SHA256)
        raise download.DownloadError(f"{error}\nMNIST is made of {needed}.") from None


def _read_checked(path: Path, sha256: str) -> np.ndarray:
    """The content of a file of MNIST; any other file is read a second time, to report what is wrong with it."""
    array = _read_if(path, sha256)
    if array is None:
        raise _other(path, "MNIST", sha256, download.content_sha256(path), "by the path of its folder")
    return array


def _read_if(path: Path, sha256: str) -> np.ndarray | None:
    """The array in an IDX file if its content has this SHA-256, in one pass over the file; otherwise None, for any
    reason."""
    try:
        with decompressed(path) as stream:
            hashed = download.Hashed(stream, path)
            array = idx_array(hashed, path)
    except (OSError, IdxError):
        return None
    return array if hashed.sha256 == sha256 else None


def _cifar_archive() -> Path:
    """The path of CIFAR-10's archive, checked, looked for in the same places as MNIST."""
    for folder in _own_folders("cifar10"):
        path = folder / cifar.ARCHIVE
        if path.is_file():
            found = download.content_sha256(path, packed=True)
            if found != cifar.SHA256:
                raise _other(path, "CIFAR-10", cifar.SHA256, found, "by data.read_cifar")
            return path
    urls = [f"{mirror}{cifar.ARCHIVE}" for mirror in cifar.MIRRORS]
    return download.fetch(cifar.ARCHIVE, urls, cifar.SHA256, cache_folder() / "cifar10", packed=True)


def _own_folders(name: str) -> tuple[Path, ...]:
    """The folders in $XPNET_DATA, if it is set, where the files of a data set may be."""
    folder = folder_in("XPNET_DATA")
    if folder is None:
        return ()
    if not folder.is_dir():
        raise FileNotFoundError(f"XPNET_DATA is set to {os.environ['XPNET_DATA']!r}, which is not a folder")
    return folder / name, folder


def _other(path: Path, whose: str, sha256: str, found: str, how: str) -> ValueError:
    return ValueError(
        f"{path} is not {whose}'s: its content has SHA-256 {found}, expected {sha256}. "
        f"Replace it; or load other data of this form {how}"
    )


def cache_folder() -> Path:
    """The folder for downloads: $XPNET_CACHE, or else the system's folder for caches."""
    if folder := folder_in("XPNET_CACHE"):
        return folder
    from platformdirs import user_cache_dir  # here, to keep `import xpnet` light

    return Path(user_cache_dir("xpnet"))


def folder_in(variable: str) -> Path | None:
    """The folder that an environment variable names, if set. Raises FileNotFoundError if it has the home of an unknown
    user."""
    try:
        return expanded(os.environ[variable]) if os.environ.get(variable) else None
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{variable} is set to {error}") from None


def _file_in(folder: Path, name: str) -> Path:
    path = _find(folder, name)
    if path is None:
        raise FileNotFoundError(
            f"{folder} has no {name} (nor {', '.join(_spellings(name)[1:])}); "
            f"a data folder needs all of {', '.join(MNIST_SHA256)}, or a folder of images for each class"
        )
    return path


def _find(folder: Path, name: str) -> Path | None:
    return next((folder / file for file in _spellings(name) if (folder / file).is_file()), None)


def _spellings(name: str) -> tuple[str, ...]:
    dotted = name.replace("-idx", ".idx")
    return name, f"{name}.gz", dotted, f"{dotted}.gz"
