"""From an image to what a model reads in it."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xpnet.nn import Model
from xpnet.photo.digit import Digit, decide, shifted
from xpnet.photo.glyph import Glyph, Pixels
from xpnet.photo.model_input import as_model_input, image_size
from xpnet.photo.opening import ImageError, Luma, Source, open_image
from xpnet.photo.sheet import Sheet, find_glyphs

DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Reading:
    """The digits of an image in reading order. `reason`: why there are none ("" if there are). `classes`: the names
    of the labels."""

    digits: list[Digit]
    reason: str
    sheet: Sheet
    classes: Sequence[str] = DIGITS

    @property
    def text(self) -> str:
        """The names of the labels as one string, "?" for each unsure one."""
        return "".join("?" if digit.label is None else self.classes[digit.label] for digit in self.digits)


class ImageReader:
    """A model that reads images. It may be used from several threads: one at a time has the model itself (`lock`),
    because layers share scratch memory.

    `size`: (height, width) of the images that the model takes; `classes`: the names of its outputs.
    Raises ValueError for a model that takes no grey images, or whose output is not one number for each of at least
    two classes.
    """

    def __init__(self, model: Model):
        if len(model.output_shape) != 1 or model.output_shape[0] < 2:
            raise ValueError(f"the model has outputs of shape {model.output_shape}, not one number for each class")
        self.model, self.size = model, image_size(model)
        self.classes = model.classes or tuple(str(i) for i in range(model.output_shape[0]))
        self.lock = threading.Lock()

    @property
    def reads_digits(self) -> bool:
        """Whether the classes are the ten digits."""
        return self.classes == DIGITS

    def read(self, image: Source) -> Reading:
        """What the model reads in an image.

        An image of exactly the model's size is taken whole. In any other, digits are searched for; only a model of
        digits reads those. Raises `ImageError` for what cannot be read, OSError for a file that cannot be opened.
        """
        luma = open_image(image)
        if luma.shape == self.size:
            return self._read_whole(luma)
        if not self.reads_digits:
            name = f"{os.fspath(image)}: " if isinstance(image, (str, os.PathLike)) else ""
            raise ImageError(
                f"{name}the model takes images of {self.size[1]} x {self.size[0]} pixels, and this is none"
            )
        sheet = find_glyphs(luma, self.size)
        if not sheet.glyphs:
            return Reading([], sheet.reason, sheet)
        views = np.stack([shifted(glyph.pixels) for glyph in sheet.glyphs])
        answers = self.probabilities(views.reshape(-1, *self.size)).reshape(*views.shape[:2], -1)
        return Reading([decide(*pair) for pair in zip(sheet.glyphs, answers, strict=True)], "", sheet)

    def _read_whole(self, luma: Luma) -> Reading:
        """An image of the model's own kind, such as one of its training set: the likeliest class is the answer. A
        model of digits knows only light on dark, so that an image with a light border is inverted for it."""
        border = np.concatenate([luma[0], luma[-1], luma[:, 0], luma[:, -1]])
        if self.reads_digits and np.median(border) > 0.5:
            luma = 1 - luma
        pixels = np.round(luma * 255).astype(np.uint8)
        (probabilities,) = self.probabilities(pixels[None])
        glyph = Glyph(pixels, (0.0, 0.0, 1.0, 1.0))
        label = int(probabilities.argmax())
        digit = Digit(label, float(probabilities[label]), probabilities, glyph)
        return Reading([digit], "", Sheet([glyph], "", {"image": luma}), self.classes)

    def probabilities(self, pixels: Pixels) -> NDArray:
        """What the model says of images (k, H, W): (k, C)."""
        with self.lock:
            return self.model.probabilities(as_model_input(self.model, pixels))
