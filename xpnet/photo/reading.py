"""From a picture to the digits in it: what was found, what a model says of it, and when to say "unsure"."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from xpnet.photo.digits import Shape, find_shapes, why_no_digit
from xpnet.photo.glyph import Pixels, draw_glyph
from xpnet.photo.ink import erase_lines, find_ink
from xpnet.photo.opening import Luma, Source, open_image
from xpnet.photo.page import find_page

SMALLEST = 256  # smaller pictures are enlarged to this long side first
Predict = Callable[[Pixels], NDArray]


@dataclass(frozen=True)
class Glyph:
    """One thing on the page. `pixels` uint8 (H, W), white on black, as a model wants it. `box` (left, top, right,
    bottom) in fractions of the upright picture's width and height. `reason`: why it is no digit, "" if it may be.
    """

    pixels: Pixels
    box: tuple[float, float, float, float]
    reason: str = ""


@dataclass(frozen=True)
class Sheet:
    """A picture taken apart. `glyphs` in reading order; `reason`: why there are none ("" if there are).
    `stages`: title -> picture (H, W) in [0, 1], in the order of the work."""

    glyphs: list[Glyph]
    reason: str
    stages: dict[str, Luma] = field(repr=False)


@dataclass(frozen=True)
class Digit:
    """What a model says of one glyph. `label` 0 to 9, or None for "unsure"; `probability` of the likeliest digit;
    `probabilities` (10,), the mean over the views; `reason`: why it is unsure, "" if it is not. A picture that is
    read as it is may have classes that are no digits, and another number of them.
    """

    label: int | None
    probability: float
    probabilities: NDArray
    glyph: Glyph
    reason: str = ""


@dataclass(frozen=True)
class Reading:
    """The digits of a picture in reading order. `reason`: why there are none ("" if there are)."""

    digits: list[Digit]
    reason: str
    sheet: Sheet

    @property
    def text(self) -> str:
        """The digits as one string, "?" for each unsure one."""
        return "".join("?" if digit.label is None else str(digit.label) for digit in self.digits)


def read(picture: Source, size: tuple[int, int] = (28, 28)) -> Sheet:
    """Find the digits in a picture and draw each as a model of input `size` (H, W) expects it.

    `picture`: whatever `open_image` takes. Raises `ImageError` for a picture that cannot be read; a readable one
    without digits is no error, but an empty sheet with its reason.
    """
    if min(size) < 4:
        raise ValueError(f"a digit needs a frame of at least 4 x 4 pixels, got {size}")
    luma = _large_enough(open_image(picture))
    page = find_page(luma)
    if page and (sheet := _taken_apart(luma, *page, size)).glyphs:
        return sheet
    return _taken_apart(luma, luma, (0, 0), size)


def _taken_apart(luma: Luma, page: Luma, corner: tuple[int, int], size: tuple[int, int]) -> Sheet:
    """What is on a page whose (left, top) in the picture `luma` is `corner`; it may be the whole picture."""
    ink = find_ink(page)
    soft = erase_lines(ink.soft)
    stages = {"picture": luma, "even light": _stretched(ink.even), "ink": ink.soft, "lines erased": soft}
    shapes, reason = find_shapes(ink, soft)
    stages["digits"] = _drawn(shapes, soft)
    glyphs = [
        Glyph(draw_glyph(shape, soft, size), _box(shape, corner, luma.shape), why_no_digit(shape)) for shape in shapes
    ]
    return Sheet(glyphs, reason, stages)


def _box(shape: Shape, corner: tuple[int, int], picture: tuple[int, ...]) -> tuple[float, float, float, float]:
    """The shape's box on a page, whose (left, top) is `corner`, in fractions of the whole picture (H, W)."""
    height, width = picture
    left, top, right, bottom = shape.box
    x, y = corner
    return (left + x) / width, (top + y) / height, (right + x) / width, (bottom + y) / height


def read_digits(picture: Source, predict: Predict, size: tuple[int, int] = (28, 28)) -> Reading:
    """Read the digits in a picture with a model.

    `predict` maps uint8 (k, H, W), white on black, to probabilities (k, 10). It is called once, with several
    shifted views of each glyph, whose mean decides. Raises as `read` does.
    """
    sheet = read(picture, size)
    if not sheet.glyphs:
        return Reading([], sheet.reason, sheet)
    views = np.stack([shifts(glyph.pixels) for glyph in sheet.glyphs])
    answers = np.asarray(predict(views.reshape(-1, *size)))
    if answers.shape != (views.shape[0] * views.shape[1], 10):
        raise ValueError(f"predict gives probabilities (k, 10) for k = {len(answers)} pictures, got {answers.shape}")
    per_glyph = answers.reshape(*views.shape[:2], 10)
    return Reading([_digit(*pair) for pair in zip(sheet.glyphs, per_glyph, strict=True)], "", sheet)


def read_as_it_is(luma: Luma, predict: Predict, *, white_ink: bool = False) -> Reading:
    """A picture (H, W) in [0, 1] of the model's own size and kind, such as one of its training set: nothing is
    searched for in it, all of it is the one glyph, and the likeliest class (of any number of classes) is the answer.
    `white_ink`: a model of digits knows only white on black, so that a picture with a light border is inverted.
    """
    border = np.concatenate([luma[0], luma[-1], luma[:, 0], luma[:, -1]])
    if white_ink and np.median(border) > 0.5:
        luma = 1 - luma
    pixels = np.round(luma * 255).astype(np.uint8)
    (probabilities,) = np.asarray(predict(pixels[None]))
    glyph = Glyph(pixels, (0.0, 0.0, 1.0, 1.0))
    label = int(probabilities.argmax())
    digit = Digit(label, float(probabilities[label]), probabilities, glyph)
    return Reading([digit], "", Sheet([glyph], "", {"picture": luma}))


def _digit(glyph: Glyph, probabilities: NDArray) -> Digit:
    label, probability, reason = decide(probabilities)
    if glyph.reason:
        label, reason = None, glyph.reason
    return Digit(label, probability, probabilities.mean(axis=0), glyph, reason)


def shifts(pixels: Pixels) -> Pixels:
    """Views of one glyph (H, W) -> (9, H, W): itself first, then moved by one pixel to all eight sides.

    A frame without margin (smaller than 16 pixels) has no room for that: (1, H, W).
    """
    if min(pixels.shape) < 16:
        return pixels[None]
    height, width = pixels.shape
    padded = np.pad(pixels, 1)
    moves = sorted(((dy, dx) for dy in range(3) for dx in range(3)), key=lambda move: move != (1, 1))
    return np.stack([padded[dy : dy + height, dx : dx + width] for dy, dx in moves])


def decide(probabilities: NDArray, margin: float = 0.2, agreement: float = 0.5) -> tuple[int | None, float, str]:
    """What the views of one glyph say together: probabilities (k, 10) -> (label or None, probability, reason).

    "Unsure" (None) when the two likeliest digits are closer than `margin`, or when fewer than `agreement` of the
    views vote for the likeliest.
    """
    mean = probabilities.mean(axis=0)
    second, first = (int(i) for i in np.argsort(mean, kind="stable")[-2:])
    votes = float((probabilities.argmax(axis=1) == first).mean())
    if mean[first] - mean[second] < margin:
        return None, float(mean[first]), f"unsure: {first} or {second}"
    if votes < agreement:
        return None, float(mean[first]), f"unsure: {first} or {second}, as it is shifted"
    return first, float(mean[first]), ""


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
    picture = np.zeros_like(soft)
    for shape in shapes:
        left, top, right, bottom = shape.box
        picture[top:bottom, left:right][shape.mask] = soft[top:bottom, left:right][shape.mask]
    return picture
