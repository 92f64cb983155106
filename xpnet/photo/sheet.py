"""From an image file to the glyphs in it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from PIL import Image

from xpnet.photo.glyph import Glyph, draw_glyph
from xpnet.photo.ink import erase_lines, find_ink
from xpnet.photo.opening import Luma, Source, open_image
from xpnet.photo.page import find_page
from xpnet.photo.shapes import Shape, find_shapes, why_no_digit

SMALLEST = 256  # smaller images are enlarged to this long side first


@dataclass(frozen=True)
class Sheet:
    """What was found in an image. `glyphs` in reading order; `reason`: why there are none ("" if there are).
    `stages`: title -> image (H, W) in [0, 1], in the order of processing."""

    glyphs: list[Glyph]
    reason: str
    stages: dict[str, Luma] = field(repr=False)


def find_glyphs(image: Source, size: tuple[int, int] = (28, 28)) -> Sheet:
    """Find the digits in an image and draw each as a model of input `size` (H, W) expects it.

    `image`: whatever `open_image` takes. Raises `ImageError` for an image that cannot be read. A readable image
    without digits is no error: it gives a sheet without glyphs, and with a reason.
    """
    if min(size) < 4:
        raise ValueError(f"a digit needs a frame of at least 4 x 4 pixels, got {size}")
    luma = _large_enough(open_image(image))
    page = find_page(luma)
    if page and (sheet := _taken_apart(luma, *page, size)).glyphs:
        return sheet
    return _taken_apart(luma, luma, (0, 0), size)


def _taken_apart(luma: Luma, page: Luma, corner: tuple[int, int], size: tuple[int, int]) -> Sheet:
    """The sheet of a page whose (left, top) in the image `luma` is `corner`; the page may be the whole image."""
    ink = find_ink(page)
    soft = erase_lines(ink.soft)
    stages = {"image": luma, "even light": _stretched(ink.even), "ink": ink.soft, "lines erased": soft}
    shapes, reason = find_shapes(ink, soft)
    stages["digits"] = _drawn(shapes, soft)
    glyphs = [
        Glyph(draw_glyph(shape, soft, size), _box(shape, corner, luma.shape), why_no_digit(shape)) for shape in shapes
    ]
    return Sheet(glyphs, reason, stages)


def _box(shape: Shape, corner: tuple[int, int], image: tuple[int, ...]) -> tuple[float, float, float, float]:
    """The shape's box in fractions of the whole image (H, W); `corner` is the (left, top) of its page in the image."""
    height, width = image
    left, top, right, bottom = shape.box
    x, y = corner
    return (left + x) / width, (top + y) / height, (right + x) / width, (bottom + y) / height


def _large_enough(luma: Luma) -> Luma:
    scale = SMALLEST / max(luma.shape)
    if scale <= 1:
        return luma
    height, width = (round(n * scale) for n in luma.shape)
    larger = Image.fromarray(luma).resize((width, height), Image.Resampling.BICUBIC)
    return np.clip(np.asarray(larger), 0, 1)


def _stretched(image: Luma) -> Luma:
    low, high = float(image.min()), float(image.max())
    return 1 - (image - low) / max(high - low, 1e-6)


def _drawn(shapes: list[Shape], soft: Luma) -> Luma:
    drawn = np.zeros_like(soft)
    for shape in shapes:
        left, top, right, bottom = shape.box
        drawn[top:bottom, left:right][shape.mask] = soft[top:bottom, left:right][shape.mask]
    return drawn
