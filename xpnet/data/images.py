"""Folders of images, one per class, read by Pillow."""

from __future__ import annotations

import os
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.arguments import whole
from xpnet.data.dataset import Dataset
from xpnet.files import expanded

ENDS_IN = (
    *(".png", ".jpg", ".jpeg", ".jfif", ".ppm", ".pgm", ".webp", ".bmp", ".gif", ".tif", ".tiff"),
    ".avif",  # read by Pillow since 11.3
)
SHOWN = 5  # folders named in a message, at most
WHITE = 230  # of 255: a drawing with nothing darker than this would be invisible on white
GREY = ("1", "L", "LA")  # Pillow's modes without colour
OF_16_BITS = ("PNG", "PPM")  # formats in which Pillow's mode I holds 16 bits; in others it holds 32


def image_folder(
    path: str | os.PathLike[str], size: int | tuple[int, int] | None = None, grey: bool | None = None
) -> Dataset:
    """The images in a folder with one folder per class: x (N, height, width) or (N, height, width, 3) uint8.

    The classes are the names of the folders. Images are rotated upright, and converted to grey or RGB as `grey` says;
    without it they are grey if all of them are. Transparent images are put on white, or on black if they are white
    drawings. Of 16-bit images the upper 8 bits are kept. Folders inside a class's folder are searched too; hidden files
    and files without an image's extension are ignored. With `size`, (height, width) or a number for squares, all images
    are resized to it; without, they must all have the same size.

    Folders called 0, 1, 2, .. are as classes without names: `fit` and `evaluate` take them by their numbers, unless the
    model has classes of all these names at other places. `with_classes(model.classes)` takes them by their names.

    Raises ValueError, naming the file or the folder, for fewer than two classes, a class without an image of its own,
    images of different sizes, and files that are not images; OSError for what cannot be read; MemoryError if the images
    do not fit in memory.
    """
    path, size = expanded(path), None if size is None else as_size(size)
    files, y, classes = files_of_classes(path)
    try:
        x = _as_one([read_image(file, size, grey) for file in files], files)
    except MemoryError:
        raise MemoryError(
            f"the {len(files):,} images of {path} do not fit: make them smaller with xpnet train --size 64 or "
            "data.image_folder(..., size=64), or leave them on the disk with data.open_images"
        ) from None
    return Dataset(x, y, classes, path.resolve().name)


def _as_one(images: list[np.ndarray], files: list[Path]) -> np.ndarray:
    """The images of these files as one array, in colour if one of them is in colour."""
    for file, image in zip(files, images, strict=True):
        if image.shape[:2] != images[0].shape[:2]:
            one, first = (f"{shown.shape[1]} x {shown.shape[0]}" for shown in (image, images[0]))
            raise ValueError(
                f"{file} has {one} pixels, {files[0]} has {first}, and all must have one size: resize them with "
                "xpnet train --size 64, or in Python with data.image_folder(..., size=(64, 64))"
            )
    if any(image.ndim == 3 for image in images):
        images = [image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2) for image in images]
    return np.stack(images)


def as_size(size: Any) -> tuple[int, int]:
    """(height, width), both from one number if only one is given. Raises ValueError for anything else."""
    sides = size if isinstance(size, (tuple, list)) else (size, size)
    try:
        height, width = (whole("a side", side, 1) for side in sides)
    except ValueError:
        raise ValueError(f"size is (height, width) in pixels, or a number for squares, not {size!r}") from None
    return height, width


def files_of_classes(path: Path) -> tuple[list[Path], np.ndarray, tuple[str, ...]]:
    """The images in a folder with one folder per class: (files, class numbers (N,), names of the classes).

    Raises ValueError for fewer than two classes, for a class without an image, and for a class whose images are all in
    folders inside it, which are more likely classes themselves. Raises OSError for what is not a folder.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: {'no folder' if path.exists() else 'there is no such folder'}")
    folders = class_folders(path)
    if len(folders) < 2:
        raise ValueError(f"{path} needs a folder of images for each class, and two classes: it has {len(folders)}")
    files = [images_in(folder) for folder in folders]
    for folder, of_class in zip(folders, files, strict=True):
        if not of_class:
            raise ValueError(f"{folder} holds no image ({', '.join(ENDS_IN)})")
        if not any(file.parent == folder for file in of_class):
            inside = ", ".join(inner.name for inner in class_folders(folder)[:SHOWN])
            raise ValueError(
                f"{folder} holds no image itself, only folders ({inside}): if those are the classes, name {folder}, or "
                f"call the parts of {path} train and test; if {folder.name} is a class, move its images up into it"
            )
    y = np.repeat(np.arange(len(folders)), [len(of_class) for of_class in files])
    return [file for of_class in files for file in of_class], y, tuple(folder.name for folder in folders)


def class_folders(path: Path) -> list[Path]:
    """The folders in a folder, sorted by name, without hidden ones and the one that macOS adds to archives."""
    own = (folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith((".", "__MACOSX")))
    return sorted(own)


def has_images(path: Path) -> bool:
    """Whether a folder has folders with images in them."""
    return any(images_in(folder) for folder in class_folders(path))


def is_images(x: Any) -> bool:
    """Whether samples (N, ...) can be shown: grey (N, H, W) or (N, H, W, 1), or colour (N, H, W, 3)."""
    return not isinstance(x, tuple) and (x.ndim == 3 or (x.ndim == 4 and x.shape[3] in (1, 3)))


def of_one_colour(x: np.ndarray) -> bool:
    """Whether samples are images whose pixels all have the same colour."""
    return is_images(x) and not (x != x[:1, :1, :1]).any()


def as_colours(x: np.ndarray) -> np.ndarray:
    """Samples as colours in [0, 1], (N, H, W, 3), with the highest value drawn white.

    ValueError if the samples are not images.
    """
    if not is_images(x):
        raise ValueError(
            f"samples of shape {x.shape[1:]} are not images, whose shape is (H, W), (H, W, 1) or (H, W, 3)"
        )
    x = x[..., None] if x.ndim == 3 else x
    low, high = (float(end) for end in (x.min(), x.max())) if x.size else (0.0, 1.0)
    low = min(low, 0.0)
    return np.broadcast_to((x - low) / max(high - low, 1e-9), (*x.shape[:3], 3))


def images_in(folder: Path) -> list[Path]:
    """The images in a folder and in all folders inside it, without hidden ones."""
    return sorted(file for file in _files_in(folder) if file.suffix.lower() in ENDS_IN and file.is_file())


def others_in(path: Path) -> Counter[str]:
    """The numbers of files in the folders of a folder that are not images, by extension.

    Hidden files, and those that Windows makes (Thumbs.db, desktop.ini), are not counted.
    """
    files = (file for folder in class_folders(path) for file in _files_in(folder) if file.is_file())
    return Counter(file.suffix.lower() for file in files if file.suffix.lower() not in (*ENDS_IN, ".db", ".ini"))


def _files_in(folder: Path) -> Iterator[Path]:
    """All files in a folder and in the folders inside it, without hidden ones, such as Jupyter's .ipynb_checkpoints.

    Raises OSError for a folder that cannot be read, which `Path.rglob` would skip.
    """

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = (name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in names if not name.startswith("."))


def read_image(file: Path, size: tuple[int, int] | None, grey: bool | None) -> np.ndarray:
    """The `pixels` of an image file. Raises ValueError, naming it, if it is damaged or not an image; OSError."""
    from PIL import Image

    # Pillow only warns of images large enough to fill the memory, and of damage that it tolerates.
    with open(file, "rb") as opened, _warnings_as_errors():
        try:
            with Image.open(opened) as image:
                return pixels(image, size, grey)
        except MemoryError:  # which is not the image's fault
            raise
        except Exception as error:  # the bytes may be anything, and Pillow lets many kinds of errors through
            raise ValueError(f"{file} is not an image that can be read: {error}") from None


class _Reading(threading.local):
    """Takes the place of the pattern in a warnings filter: it matches every text in a thread that is reading an
    image."""

    now = False
    pattern = "(?!)"  # matches nothing: scikit-learn makes the filters anew from their patterns where it runs tasks,

    def match(self, text: str) -> bool:
        return self.now

    def __reduce__(self) -> str:  # and pickles the filters for other processes
        return "_reading"


_reading = _Reading()
# Warnings of Pillow's own modules: what Pillow will remove some day is told of in the module that uses it.
_FILTER: Any = ("error", _reading, Warning, re.compile(r"PIL\."), 0)


@contextmanager
def _warnings_as_errors() -> Iterator[None]:
    """Turn Pillow's warnings into errors inside the block, in this thread only.

    `warnings.catch_warnings` would change the filters of all threads, and data in files are read in another thread than
    the one that trains. The filter stays in place, since removing it could hide another filter from those threads.
    """
    import PIL

    filters: Any = warnings.filters
    if filters[:1] != [_FILTER]:
        filters.insert(0, _FILTER)
    for module in list(vars(PIL).values()):  # a warning that is registered here is not shown to any filter again
        getattr(module, "__warningregistry__", {}).clear()
    _reading.now = True
    try:
        yield
    finally:
        _reading.now = False


class NoWhiteError(ValueError):
    """An image with numbers of which none is known to mean white."""


def pixels(image: Any, size: tuple[int, int] | None, grey: bool | None = None) -> np.ndarray:
    """The pixels of an image, upright: (H, W) uint8 in grey, (H, W, 3) in colour.

    They are resized to `size` (height, width) if that is given. Without `grey` the image stays grey or coloured as it
    is. Transparent images are put on white, or on black if they are white drawings. Of 16 bits the upper 8 are kept.
    Raises `NoWhiteError` for 32-bit integers and floats, which some TIFF files hold: each image would need a scale of
    its own.
    """
    from PIL import Image, ImageOps

    ImageOps.exif_transpose(image, in_place=True)
    is_grey = image.mode in GREY or image.mode.startswith("I")
    converted = _of_8_bits(image) if image.mode.startswith(("I", "F")) else _opaque(image)
    converted = converted.convert("L" if (is_grey if grey is None else grey) else "RGB")
    if size is not None:
        converted = converted.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(converted)


def _of_8_bits(image: Any) -> Any:
    """The upper 8 of an image's 16 bits."""
    from PIL import Image

    if image.mode == "F" or (image.mode == "I" and image.format not in OF_16_BITS):
        kind = "floats" if image.mode == "F" else "numbers of 32 bits"
        raise NoWhiteError(f"it holds {kind}, and it is not known which value is white: save it with 8 or 16 bits")
    return Image.fromarray((np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))


def _opaque(image: Any) -> Any:
    """The image without transparency, on white, or on black if it would be invisible on white.

    The shape of a drawing may be in its transparency alone.
    """
    from PIL import Image

    if not image.has_transparency_data:
        return image
    drawing = image.convert("RGBA")
    on = lambda background: Image.alpha_composite(Image.new("RGBA", image.size, background), drawing)
    on_white = on("white")
    return on_white if np.asarray(on_white.convert("L")).min() < WHITE else on("black")
