"""Open any image safely, as an upright grey image of a moderate size."""

from __future__ import annotations

import importlib
import io
import os
import threading
import warnings
from collections.abc import Callable
from typing import BinaryIO, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from xpnet.data.images import NoWhiteError, pixels

Luma = NDArray[np.float32]
T = TypeVar("T")
File = str | os.PathLike[str] | bytes | BinaryIO
Source = File | np.ndarray

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")
HEIF = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # brands of images; videos have others
MAX_PIXELS = 8192 * 6144  # the largest photo of a common phone
TOO_LARGE = f"too large: at most {MAX_PIXELS // 1_000_000} million pixels; make it smaller first"
MAX_SCANS = 100  # of a progressive JPEG, which commonly has ten; each scan is another pass over the whole image
MIN_SIDE = 8
LONG_SIDE = 1024  # a digit that matters is at least 40 of these pixels tall

# Warning filters are global to the process: two threads that open images at once would mix them up.
_one_at_a_time = threading.Lock()


class ImageError(ValueError):
    """An image that cannot be read; the message is one line that says why."""


class ImageTooLargeError(ImageError):
    """An image of too many pixels."""


def open_image(source: Source, max_pixels: int = MAX_PIXELS) -> Luma:
    """The image as float32 luma (H, W) in [0, 1], upright, its long side at most 1024 pixels.

    `source`: a path, the bytes of a file, an open binary file, or luma that is already an array (uint8, or float
    in [0, 1]). Only the first frame of an animation is read. Raises `ImageError` for anything that is not a readable
    image, `ImageTooLargeError` for a file of more than `max_pixels`, and `OSError` if the file cannot be opened.
    """
    if isinstance(source, np.ndarray):
        return _checked(_from_array(source))
    return _opened(source, max_pixels, lambda image: _checked(_to_luma(image)))


def open_whole(source: Source, size: tuple[int, int], grey: bool, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The whole image, upright and brought to `size` (height, width), as `data.image_folder` does it: uint8, (H, W) if
    `grey`, else (H, W, 3).

    `source` and the errors raised are as in `open_image`, but an array is uint8, (H, W) or (H, W, 3).
    """
    if not isinstance(source, np.ndarray):
        return _opened(source, max_pixels, lambda image: pixels(image, size, grey))
    if source.dtype != np.uint8 or source.size == 0 or not (source.ndim == 2 or source.shape[2:] == (3,)):
        raise ImageError(f"an image as an array is uint8 (H, W) or (H, W, 3), not {source.dtype} {source.shape}")
    return pixels(Image.fromarray(source), size, grey)


def _opened(source: File, max_pixels: int, convert: Callable[[Image.Image], T]) -> T:
    """Open the image and return `convert(image)`; the errors for a path name the file."""
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), max_pixels, convert)
    if not isinstance(source, (str, os.PathLike)):
        return _decode(source, max_pixels, convert)
    with open(source, "rb") as file:
        try:
            return _decode(file, max_pixels, convert, ("PPM",))
        except ImageError as error:
            raise type(error)(f"{os.fspath(source)}: {error}") from error


def _from_array(array: np.ndarray) -> Luma:
    if array.ndim != 2 or array.size == 0:
        raise ImageError(f"an image as an array has the shape (H, W), got {array.shape}")
    if array.dtype == np.uint8:
        return _shrunk(array.astype(np.float32) / np.float32(255))
    if not np.issubdtype(array.dtype, np.floating) or not (array.min() >= 0 and array.max() <= 1):
        raise ImageError("an image as an array holds uint8, or floats from 0 to 1; this one holds something else")
    return _shrunk(array.astype(np.float32))


def _decode(file: BinaryIO, max_pixels: int, convert: Callable[[Image.Image], T], more: tuple[str, ...] = ()) -> T:
    """Open the image and return `convert(image)`.

    `more`: formats that are accepted only from files on this machine, because Pillow takes long for some of them.
    """
    start = file.read(32)
    scans = file.read().count(b"\xff\xda") if start.startswith(b"\xff\xd8") else 0  # the marker that begins a scan
    file.seek(0)
    if scans > MAX_SCANS:
        raise ImageError(f"a JPEG of {scans} scans, which would take too long to open (at most {MAX_SCANS})")
    formats = (*_formats(start), *more)
    Image.init()  # before this call, Pillow knows only some of its formats
    with _one_at_a_time, warnings.catch_warnings():
        warnings.filterwarnings("error", module=r"PIL\.")
        try:
            with Image.open(file, formats=formats) as image:
                width, height = image.size
                if width * height > max_pixels:  # the header says so; nothing has been decoded yet
                    raise ImageTooLargeError(f"{width} x {height} is {TOO_LARGE}")
                return convert(image)
        except ImageError:
            raise
        except UnidentifiedImageError:
            known = "PNG, JPEG, WebP, BMP, GIF or TIFF"
            what = "an empty file" if not start else f"not an image file ({known}), or its header is damaged"
            raise ImageError(what) from None
        except (Image.DecompressionBombError, Image.DecompressionBombWarning):
            raise ImageTooLargeError(TOO_LARGE) from None
        except NoWhiteError as error:
            raise ImageError(str(error)) from None
        except MemoryError:
            raise ImageError("too large for the memory that there is; make it smaller first") from None
        except Exception as error:  # a decoder meets hostile bytes here, and Pillow lets many kinds through
            raise ImageError(f"damaged or cut off ({error})") from error


def _formats(start: bytes) -> tuple[str, ...]:
    """The formats that Pillow may try for a file that begins with `start`.

    HEIC needs the plug-in pillow-heif, which is imported only for such a file; AVIF needs Pillow 11.3 or later.
    """
    if start[4:8] != b"ftyp":
        return FORMATS
    brands = {start[8:12], *(start[i : i + 4] for i in range(16, 32, 4))}  # the main one, and others that it fits
    if brands & {b"avif", b"avis"}:
        if ".avif" not in Image.registered_extensions():
            raise ImageError("an AVIF image, which this Pillow cannot read: pip install --upgrade pillow")
        return (*FORMATS, "AVIF")
    if start[8:12] not in HEIF:
        return FORMATS
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        raise ImageError("a HEIC image; to read those: pip install pillow-heif") from None
    return (*FORMATS, "HEIF")


def _to_luma(image: Image.Image) -> Luma:
    width, height = image.size
    if min(width, height) < MIN_SIDE:
        raise ImageError(f"{width} x {height} is too small for a digit (at least {MIN_SIDE} x {MIN_SIDE})")
    image.draft(None, (LONG_SIDE, LONG_SIDE))  # a large JPEG is decoded at a half, a quarter or an eighth of its size
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_grey(_small(image))
    if image.mode == "LAB":  # the only mode that Pillow can open but not convert
        raise ImageError("its colours (LAB) cannot be read; save it as RGB first")
    if image.has_transparency_data:
        return _flattened(_small(image if image.mode == "RGBA" else image.convert("RGBA")))
    grey = image.convert("L") if image.mode in ("1", "P", "CMYK", "HSV", "YCbCr") else image
    return np.asarray(_small(grey).convert("L"), np.float32) / np.float32(255)


def _deep_grey(image: Image.Image) -> Luma:
    """Deep grey values in [0, 1]. 16 bits have a known white; 32 bits and floats do not: their range is stretched."""
    values = np.asarray(image).astype(np.float64)
    if image.mode.startswith("I;16"):
        return (values / 65535).astype(np.float32)
    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():
        raise ImageError("values that are not numbers")
    return ((values - low) / max(high - low, 1e-12)).astype(np.float32)


def _flattened(image: Image.Image) -> Luma:
    """Fill transparent pixels with a background: the opposite of the ink if the image is mostly transparent, as a
    drawing is; otherwise the mean grey of what is visible."""
    bands = image.convert("L"), image.getchannel("A")
    grey, alpha = (np.asarray(band, np.float32) / np.float32(255) for band in bands)
    seen = float((grey * alpha).sum() / max(float(alpha.sum()), 1e-6))
    opposite = 0.0 if seen > 0.5 else 1.0
    behind = opposite if alpha.mean() < 0.5 else seen
    return (grey * alpha + behind * (1 - alpha)).astype(np.float32)


def _small(image: Image.Image) -> Image.Image:
    """The image with its long side reduced to `LONG_SIDE` by area averages, if it is larger."""
    scale = LONG_SIDE / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(round(side * scale), 1) for side in image.size)
    gap = None if image.mode.startswith("I;16") else 2.0  # Pillow cannot first reduce these roughly
    return image.resize((width, height), Image.Resampling.BOX, reducing_gap=gap)


def _shrunk(luma: Luma) -> Luma:
    return luma if max(luma.shape) <= LONG_SIDE else np.asarray(_small(Image.fromarray(luma)))


def _checked(luma: Luma) -> Luma:
    if min(luma.shape) < MIN_SIDE:
        raise ImageError(f"too small or too narrow for a digit (at least {MIN_SIDE} pixels when reduced)")
    if luma.max() - luma.min() < 1 / 255:
        raise ImageError("all one colour, so there is nothing to read in it")
    return luma
