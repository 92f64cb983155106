"""Pictures as a model takes them: which size, and in which shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xpnet.photo.glyph import Pixels


def picture_size(model: Any) -> tuple[int, int]:
    """(height, width) of the pictures that the model takes; a row of n^2 values is a square.

    Raises ValueError for a model whose samples are no grey pictures.
    """
    shape = model.input_shape[:-1] if len(model.input_shape) == 3 and model.input_shape[2] == 1 else model.input_shape
    side = math.isqrt(shape[0])
    if len(shape) == 1 and side * side == shape[0]:
        return side, side
    if len(shape) != 2:
        raise ValueError(f"the model takes samples of shape {model.input_shape}, which are no grey pictures")
    return shape[0], shape[1]


def as_samples(model: Any, pixels: Pixels) -> NDArray[np.float32]:
    """One picture (H, W), or several (k, H, W), as samples for the model: not all take whole numbers."""
    return pixels.reshape(-1, *model.input_shape).astype(np.float32)
