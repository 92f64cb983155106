"""From an image to what a model reads in it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xpnet.nn import Embedding, Model
from xpnet.photo.cells import border
from xpnet.photo.digit import Digit, decide, shifted
from xpnet.photo.glyph import Glyph, Pixels
from xpnet.photo.model_input import as_model_input, image_kind, learned_from_light
from xpnet.photo.opening import Source, open_image, open_whole
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
    """A model that reads images. Several threads may use it; they take turns with the model itself (`lock`), because
    its layers share scratch memory.

    The model is given pixels from 0 to 255, as they are in files: scaling must be a layer of its network, such as
    `nn.Standardize(0, 255)`, and not code before it.

    `size`: (height, width) of the images that the model takes; `grey`: whether they are grey, else of three colours;
    `classes`: the names of its outputs. `ink`: 1, or -1 for a model of digits that learned them dark on light. Raises
    ValueError for a model that does not take images, or whose output is not one number for each of at least two
    classes; and for one with an Embedding, which takes no floats.
    """

    def __init__(self, model: Model):
        self.model, (self.size, self.grey) = model, image_kind(model)
        if len(model.output_shape) != 1 or model.output_shape[0] < 2:
            raise ValueError(f"the model has outputs of shape {model.output_shape}, not one number for each class")
        if any(isinstance(layer, Embedding) for _, layer in model.network.walk()):
            raise ValueError("the model has an Embedding, which takes whole numbers: images are given to it as floats")
        self.classes = model.classes or tuple(str(i) for i in range(model.output_shape[0]))
        self.ink = -1 if self.reads_digits and learned_from_light(model) else 1
        self.lock = threading.Lock()

    @property
    def reads_digits(self) -> bool:
        """Whether the model takes grey images and its classes are the ten digits."""
        return self.grey and self.classes == DIGITS

    def read(self, image: Source) -> Reading:
        """What the model reads in an image.

        A model of digits searches the image for digits, unless the image has exactly the model's own size: then it is
        taken as a whole, and it counts as dark on light if its border is light. The model is given digits light on
        dark, or dark on light if it learned them that way. Any other model takes the whole image, brought to its size
        as `data.image_folder` does it. Raises `ImageError` for an image that cannot be read, OSError for a file that
        cannot be opened.
        """
        if not self.reads_digits:
            return self._read_whole(open_whole(image, self.size, self.grey))
        luma = open_image(image)
        if luma.shape == self.size:
            light_on_dark = 1 - luma if np.median(border(luma)) > 0.5 else luma
            return self._read_whole(np.round(light_on_dark * 255).astype(np.uint8))
        sheet = find_glyphs(luma, self.size)
        if not sheet.glyphs:
            return Reading([], sheet.reason, sheet)
        views = np.stack([shifted(glyph.pixels) for glyph in sheet.glyphs])
        answers = self.probabilities(views.reshape(-1, *self.size)).reshape(*views.shape[:2], -1)
        return Reading([decide(*pair) for pair in zip(sheet.glyphs, answers, strict=True)], "", sheet)

    def _read_whole(self, pixels: Pixels) -> Reading:
        """An image of the model's own kind, such as one of its training set: the likeliest class is the answer."""
        (probabilities,) = self.probabilities(pixels[None])
        glyph = Glyph(pixels, (0.0, 0.0, 1.0, 1.0))
        label = int(probabilities.argmax())
        digit = Digit(label, float(probabilities[label]), probabilities, glyph)
        shown = (pixels if self.grey else pixels.mean(axis=2)).astype(np.float32) / np.float32(255)
        return Reading([digit], "", Sheet([glyph], "", {"image": shown}), self.classes)

    def inputs(self, pixels: Pixels) -> NDArray[np.float32]:
        """Images (k, H, W), or (k, H, W, 3), digits being light on dark, as the array that the model takes."""
        return as_model_input(self.model, pixels if self.ink > 0 else 255 - pixels)

    def probabilities(self, pixels: Pixels) -> NDArray:
        """The model's probabilities for images as `inputs` takes them: (k, C)."""
        with self.lock:
            return self.model.probabilities(self.inputs(pixels))
