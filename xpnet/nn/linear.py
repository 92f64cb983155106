"""`Linear`, the fully connected layer."""

from __future__ import annotations

from xpnet.arguments import a_function, switch, whole
from xpnet.backend import Array, Backend
from xpnet.nn import init as initializers
from xpnet.nn.init import Initializer
from xpnet.nn.layer import Backward, Layer, Parameter
from xpnet.nn.shapes import Shape, ShapeError, channels_of

__all__ = ["Linear"]


class Linear(Layer):
    """y = x W + b over the last axis.  x: (N, ..., n_in), W: (n_in, n_out), b: (n_out,), y: (N, ..., n_out).

    Flattening the leading axes of x, y and dy into rows gives matrices X, Y and dY with Y_ij = sum_k X_ik W_kj + b_j.
    So dW_kj = sum_i X_ik dY_ij, that is dW = X^T dY; db_j = sum_i dY_ij; and dX = dY W^T (Rumelhart, Hinton and
    Williams, 1986).

    `n_in` is optional: it is the length of the input's last axis. If it is given, it is checked against that.
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
        self.bias, self.init = switch("bias", bias), init

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
