"""`Linear`, the fully connected layer; and `Standardize`, which gives inputs mean 0 and deviation 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.arguments import LARGEST, SMALLEST, a_function, whole
from xpnet.backend import Array, Backend
from xpnet.nn import init as initializers
from xpnet.nn.init import Initializer
from xpnet.nn.layer import Backward, Layer, Parameter
from xpnet.nn.shapes import Shape, ShapeError, channels_of

__all__ = ["Linear", "Standardize"]


class Linear(Layer):
    """y = x W + b over the last axis.  x: (N, ..., n_in), W: (n_in, n_out), b: (n_out,), y: (N, ..., n_out).

    With X, Y and dY the rows of all leading axes, Y_ij = sum_k X_ik W_kj + b_j. So dW_kj = sum_i X_ik dY_ij, that is
    dW = X^T dY; db_j = sum_i dY_ij; and dX = dY W^T (Rumelhart, Hinton and Williams, 1986).

    `n_in` need not be given: it is the last axis of the input. Where it is given, it is checked.
    """

    by_position = True

    def __init__(
        self,
        n_out: int,
        n_in: int | None = None,
        bias: bool = True,
        init: Initializer = initializers.he_normal,
    ):
        a_function("init is an initializer, such as nn.init.he_normal", init)
        self.n_out, self.n_in = whole("n_out of Linear", n_out, least=1), None if n_in is None else whole("n_in", n_in)
        self.bias, self.init = bias, init

    def build(self, shape: Shape) -> Shape:
        n_in = channels_of(shape)
        if self.n_in not in (None, n_in):
            hint = ": the outputs come first, nn.Linear(n_out, n_in)" if n_in == self.n_out else ""
            raise ShapeError(f"connects ({self.n_in},) to ({self.n_out},), but its input has shape {shape}{hint}")
        self.W = Parameter((n_in, self.n_out), self.init)
        if self.bias:
            self.b = Parameter((self.n_out,), initializers.zeros, decay=False)
        return (*shape[:-1], self.n_out)

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y = backend.matmul(x, self.W.data)
        if self.bias:
            y += self.b.data

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            rows_x, rows_dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, self.n_out)
            self.W.add_grad(rows_x.T, rows_dy)
            if self.bias:
                self.b.add_grad_sum(rows_dy)
            return backend.matmul(dy, self.W.data.T) if need_dx else None

        return y, backward


class Standardize(Layer):
    """y = (x - mean) / std, in the backend's dtype: images stay `uint8` until here.  x, y: (N, ...).

    `mean` and `std` come from the training set (see `data.mean_std`): two numbers for all values, or two arrays of
    one entry for each feature, whose shape is that of a sample's last axes. They are saved with the model, so that
    whoever uses it need not know them.  dx = dy / std.

    Raises ValueError for values that are not finite or a std that is not above 0, and for a mean beyond 1e30 or a std
    that is not from 1e-30 to 1e30, which float32 cannot compute with.
    """

    accepts_integers = True
    by_position = True

    def __init__(self, mean: Any, std: Any):
        m, s = np.asarray(mean, np.float64), np.asarray(std, np.float64)
        if not (np.isfinite(m).all() and np.isfinite(s).all() and (s > 0).all()):
            raise ValueError(f"Standardize needs a finite mean and std > 0, not {mean!r} and {std!r}")
        if m.shape != s.shape:
            raise ValueError(f"mean has shape {m.shape}, std has shape {s.shape}: they must be alike")
        if not ((np.abs(m) <= LARGEST) & (s >= SMALLEST) & (s <= LARGEST)).all():
            raise ValueError(
                "Standardize needs means up to 1e30 and std from 1e-30 to 1e30, for float32, not "
                f"{mean!r} and {std!r}: scale the data first"
            )
        self.mean: Any = m if m.shape else float(m)  # an array, which no walk through the network goes into
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
