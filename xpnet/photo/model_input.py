"""Images as a model takes them: which size, and in which shape."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from xpnet.nn import Model
from xpnet.photo.glyph import Pixels


def image_size(model: Model) -> tuple[int, int]:
    """(height, width) of the images that the model takes; a row of n^2 values is a square.

    Raises ValueError for a model whose samples are no grey images.
    """
    shape = model.input_shape[:-1] if len(model.input_shape) == 3 and model.input_shape[2] == 1 else model.input_shape
    whole = all(isinstance(n, int) for n in shape)  # neither of several inputs, nor of free length
    if whole and len(shape) == 1 and math.isqrt(shape[0]) ** 2 == shape[0]:
        return math.isqrt(shape[0]), math.isqrt(shape[0])
    if not whole or len(shape) != 2:
        raise ValueError(f"the model takes samples of shape {model.input_shape}, which are no grey images")
    return shape[0], shape[1]


def as_model_input(model: Model, pixels: Pixels) -> NDArray[np.float32]:
    """One image (H, W), or several (k, H, W), as the model takes them. As floats: not all models take whole numbers."""
    return pixels.reshape(-1, *model.input_shape).astype(np.float32)
