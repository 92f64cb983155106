"""The fully connected layer, and what brings an input into its form."""

from __future__ import annotations

import math
import operator

from xpnet.backend import Array, Backend
from xpnet.nn import init as initializers
from xpnet.nn.init import Initializer
from xpnet.nn.layer import Backward, Layer, Parameter, Shape, ShapeError


class Linear(Layer):
    """y = x W + b over the last axis.  x: (N, ..., n_in), W: (n_in, n_out), b: (n_out,), y: (N, ..., n_out).

    With X and dY the rows of all leading axes: dW = X^T dY, db = the column sums of dY, dX = dY W^T
    (Rumelhart, Hinton and Williams, 1986).

    `n_in` need not be given: it is the last axis of the input. Where it is given, it is checked.
    """

    def __init__(
        self,
        n_out: int,
        n_in: int | None = None,
        bias: bool = True,
        init: Initializer = initializers.he_normal,
    ):
        if not callable(init):
            raise TypeError(f"init must be an initializer such as nn.init.he_normal, not {init!r}")
        self.n_out, self.n_in = operator.index(n_out), None if n_in is None else operator.index(n_in)
        if self.n_out < 1:
            raise ValueError(f"Linear needs at least one output, not {n_out}")
        self.bias, self.init = bias, init

    def build(self, shape: Shape) -> Shape:
        if not shape:
            raise ShapeError("needs an input of at least one axis, got shape ()")
        if self.n_in not in (None, shape[-1]):
            raise ShapeError(f"connects ({self.n_in},) to ({self.n_out},), but its input has shape {shape}")
        self.W = Parameter((shape[-1], self.n_out), self.init)
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
    """y = (x - mean) / std, in the backend's dtype: pictures stay `uint8` until here.  x, y: (N, ...).

    `mean` and `std` are numbers (of the whole training set, see `data.mean_std`) and are saved with the model, so
    that whoever uses it need not know them.  dx = dy / std.
    """

    whole_numbers = True

    def __init__(self, mean: float, std: float):
        if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
            raise ValueError(f"Standardize needs a finite mean and std > 0, not {mean!r} and {std!r}")
        self.mean, self.std = float(mean), float(std)

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y = x.astype(backend.dtype)
        y -= self.mean
        y *= 1 / self.std

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * (1 / self.std)

        return y, backward
