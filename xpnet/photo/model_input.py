"""Images as a model takes them: which size, and in which shape."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xpnet.nn import Columns, Model, Standardize
from xpnet.photo.glyph import Pixels


def image_kind(model: Model) -> tuple[tuple[int, int], bool]:
    """((height, width), grey) of the images that the model takes; a row of n^2 values is a grey square.

    Raises ValueError for a model whose samples are no images, grey or of three colours.
    """
    shape = model.input_shape
    if any(isinstance(layer, Columns) for _, layer in model.network.walk()):
        raise ValueError("the model takes rows of a table, which are no images")
    if all(isinstance(n, int) for n in shape):  # neither of several inputs, nor of free length
        if len(shape) == 1 and math.isqrt(shape[0]) ** 2 == shape[0]:
            return (math.isqrt(shape[0]), math.isqrt(shape[0])), True
        if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)):
            return (shape[0], shape[1]), shape[2:] != (3,)
    raise ValueError(f"the model takes samples of shape {shape}, which are no images")


def learned_from_light(model: Model) -> bool:
    """Whether the images that it was trained on were light for the most part, as ink on paper is: by the mean that its
    `Standardize` takes away, which is that of its training images (0 to 255)."""
    first = next((layer for _, layer in model.network.walk() if isinstance(layer, Standardize)), None)
    return first is not None and float(np.mean(first.mean)) > 127.5


def as_model_input(model: Model, pixels: Pixels) -> NDArray[np.float32]:
    """One image (H, W) or (H, W, 3), or several, as the model takes them. As floats: not all take whole numbers."""
    return pixels.reshape(-1, *model.input_shape).astype(np.float32)
