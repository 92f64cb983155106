"""`Standardize`, which gives inputs mean 0 and standard deviation 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.arguments import LARGEST, SMALLEST
from xpnet.backend import Array, Backend
from xpnet.nn.layer import Backward, Layer
from xpnet.nn.shapes import Shape, ShapeError

__all__ = ["Standardize"]


class Standardize(Layer):
    """y = (x - mean) / std, in the backend's dtype: images stay `uint8` until here.  x, y: (N, ...).

    `mean` and `std` come from the training set (see `data.mean_std`): two numbers for all values, or two arrays
    with one entry per feature, whose shape is that of a sample's last axes. They are saved with the model, so that
    whoever uses it need not know them.  dx = dy / std.

    Raises ValueError for values that are not finite, for a std that is not above 0, and for what float32 cannot compute
    with: a mean beyond +-1e30, or a std outside 1e-30 to 1e30.
    """

    accepts_integers = True
    by_position = True

    def __init__(self, mean: Any, std: Any):
        try:
            m, s = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"mean and std are numbers or arrays of numbers, not {mean!r} and {std!r}") from None
        if not (np.isfinite(m).all() and np.isfinite(s).all() and (s > 0).all()):
            raise ValueError(f"Standardize needs a finite mean and std > 0, not {mean!r} and {std!r}")
        if m.shape != s.shape:
            raise ValueError(f"mean has shape {m.shape}, std has shape {s.shape}: they must be equal")
        if not ((np.abs(m) <= LARGEST) & (s >= SMALLEST) & (s <= LARGEST)).all():
            raise ValueError(
                "Standardize needs means up to 1e30 and std from 1e-30 to 1e30, for float32, not "
                f"{mean!r} and {std!r}: scale the data first"
            )
        self.mean: Any = m if m.shape else float(m)  # an array: `Layer.walk` does not search arrays for layers
        self.std: Any = s if s.shape else float(s)
        self._shape, self._means, self._factors = m.shape, m.tobytes(), (1 / s).tobytes()

    def config(self) -> dict[str, Any]:
        return {"mean": np.asarray(self.mean).tolist(), "std": np.asarray(self.std).tolist()}

    def build(self, shape: Shape) -> Shape:
        features = self._shape
        if features != tuple(shape)[len(shape) - len(features) :]:
            raise ShapeError(f"has means of shape {features}, its input has shape {shape}")
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        if self._shape:
            mean, factor = (backend.constant(a).reshape(self._shape) for a in (self._means, self._factors))
        else:
            mean, factor = self.mean, 1 / self.std
        y = x.astype(backend.dtype)
        y -= mean
        y *= factor

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * factor

        return y, backward
