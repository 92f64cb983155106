"""Images as a model takes them: their size, and the shape of the array."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xpnet.nn import Columns, Model, Standardize
from xpnet.photo.glyph import Pixels


def image_kind(model: Model) -> tuple[tuple[int, int], bool]:
    """((height, width), grey) of the images that the model takes; n^2 values in a row are a square grey image.

    Raises ValueError for a model whose samples are not images, grey or of three colours.
    """
    shape = model.input_shape
    if any(isinstance(layer, Columns) for _, layer in model.network.walk()):
        raise ValueError("the model takes rows of a table, which are not images")
    if all(isinstance(n, int) for n in shape):  # neither several inputs nor an input of free length
        if len(shape) == 1 and math.isqrt(shape[0]) ** 2 == shape[0]:
            return (math.isqrt(shape[0]), math.isqrt(shape[0])), True
        if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3)):
            return (shape[0], shape[1]), shape[2:] != (3,)
    raise ValueError(f"the model takes samples of shape {shape}, which are not images")


def learned_from_light(model: Model) -> bool:
    """Whether the model's training images were mostly light, like ink on paper.

    This is read from the mean that its `Standardize` subtracts, the mean of the training images (0 to 255).
    """
    first = next((layer for _, layer in model.network.walk() if isinstance(layer, Standardize)), None)
    return first is not None and float(np.mean(first.mean)) > 127.5


def as_model_input(model: Model, pixels: Pixels) -> NDArray[np.float32]:
    """Images (H, W) or (H, W, 3), one or several, in the model's input shape; floats: not all models take integers."""
    return pixels.reshape(-1, *model.input_shape).astype(np.float32)
