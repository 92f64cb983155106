"""Convolutions. Images are (N, H, W, C), sequences (N, T, C): the channels come last.

With the windows of x as the rows of a matrix ("im2col": `Windows.columns`), a convolution is one matrix product. The
transpose of "im2col" adds the rows back where they came from ("col2im": `Windows.add_up`). It gives dx here, and y in a
transposed convolution.
Chellapilla, Puri and Simard, "High performance convolutional neural networks for document processing" (2006);
Dumoulin and Visin, "A guide to convolution arithmetic for deep learning" (2016).

A CPU processes a few images at a time, so that their columns stay in its cache; a GPU processes all at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from xpnet.arguments import a_function, switch, whole
from xpnet.backend import Array, Backend
from xpnet.nn import init as initializers
from xpnet.nn.init import Initializer
from xpnet.nn.layer import Backward, Layer, Parameter
from xpnet.nn.shapes import Shape, ShapeError, axis_of_channels
from xpnet.nn.windows import Windows, padding_of, per_axis

__all__ = ["Conv1d", "Conv2d", "ConvTranspose2d"]


class Conv2d(Layer):
    """y[n, i, j, o] = b[o] + sum_{a, c, k} W[a, c, k, o] x[n, i s + a d - p, j s + c d - p, k], x being 0 outside.

    x: (N, H, W, C), W: (kh, kw, C / groups, n_out), b: (n_out,), y: (N, H', W', n_out), where, with padding p on both
    sides, stride s and dilation d, H' = floor((H + 2 p - d (kh - 1) - 1) / s) + 1, and likewise W'.

    `kernel`, `stride` and `dilation` are numbers or (rows, columns). `padding` may be given in the same way, or as
    "valid" (none), or as "same": H' = ceil(H / s), as in TensorFlow (and, with stride 1, as in PyTorch). Where an
    odd number of rows must be added, as for an even kernel, one more is below than above; of columns, one more is on
    the right.
    `groups` splits the channels of input and output; each group of outputs depends only on its own group of inputs.
    With groups = C the convolution is depthwise. `n_in`, if given, is checked against C.

    With X the matrix of windows: y = X W + b, so dW = X^T dy, dX = dy W^T, and dx is the rows of dX added where they
    came from. The backward computes X again instead of keeping it, because it is many times as large as x.
    """

    n_axes = 2

    def __init__(
        self,
        n_out: int,
        kernel: int | tuple[int, ...],
        *,
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | str = "valid",
        dilation: int | tuple[int, ...] = 1,
        groups: int = 1,
        bias: bool = True,
        init: Initializer = initializers.he_normal,
        n_in: int | None = None,
    ):
        a_function("init is an initializer, such as nn.init.he_normal", init)
        self.n_out, self.groups = whole("n_out", n_out), whole("groups", groups)
        self.n_in = None if n_in is None else whole("n_in", n_in)
        self.kernel = per_axis("kernel", kernel, self.n_axes)
        self.stride = per_axis("stride", stride, self.n_axes)
        self.dilation = per_axis("dilation", dilation, self.n_axes)
        self.padding = padding_of(padding, self.n_axes)
        if self.n_out < 1 or self.groups < 1 or self.n_out % self.groups:
            raise ValueError(f"{type(self).__name__} cannot have {n_out} output channels in {groups} groups")
        self.bias, self.init = switch("bias", bias), init

    def build(self, shape: Shape) -> Shape:
        *size, n_in = self._checked(shape)
        self.windows = Windows.on(tuple(size), self.kernel, self.stride, self.padding, self.dilation)
        self.W = Parameter((*self.kernel, n_in // self.groups, self.n_out), self.init)
        if self.bias:
            self.b = Parameter((self.n_out,), initializers.zeros, decay=False)
        return (*self.windows.output, self.n_out)

    def _checked(self, shape: Shape) -> Shape:
        """The shape of a sample, after checking that it fits."""
        if len(shape) != self.n_axes + 1:
            axes = "(height, width, channels)" if self.n_axes == 2 else "(time, channels)"
            raise ShapeError(f"needs samples {axes}, got shape {shape}{axis_of_channels(shape, self.n_axes)}")
        if None in shape:
            raise ShapeError(f"needs axes of fixed length, got shape {shape}")
        if self.n_in not in (None, shape[-1]):
            raise ShapeError(f"connects {self.n_in} channels to {self.n_out}, but its input has shape {shape}")
        if shape[-1] % self.groups:
            raise ShapeError(f"{self.groups} groups do not divide the {shape[-1]} channels of an input {shape}")
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp, windows = backend.xp, self.windows
        y = xp.empty((x.shape[0], *windows.output, self.n_out), x.dtype)
        for images in windows.blocks(x.shape[0], x.shape[-1], backend):
            pixels = y[images]
            self._gather(x[images], pixels, backend)
            if self.bias:
                pixels += self.b.data

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dx: Array = xp.empty(x.shape, x.dtype) if need_dx else None
            for images in windows.blocks(x.shape[0], x.shape[-1], backend):
                self._add_grad(x[images], dy[images], backend)
                if self.bias:
                    self.b.add_grad_sum(dy[images])
                if need_dx:
                    self._spread(dy[images], dx[images], backend)
            return dx

        return y, backward

    # The parts of a convolution and its transpose. The windows lie on `image`; `pixels` has one pixel for each window.

    def _gather(self, image: Array, pixels: Array, backend: Backend) -> None:
        """pixels = X W, with X the windows of the image."""
        windows, groups = self.windows, self.groups
        if self._depthwise:
            pixels.fill(0)
            for part, W in zip(windows.parts(image, backend), _taps(self.W.data), strict=True):
                pixels += backend.xp.multiply(part, W[0], out=backend.scratch("product", part.shape))
            return
        columns, W = windows.columns(image, groups, backend), _by_group(self.W.data, groups)
        if groups == 1:
            backend.matmul(columns, W, out=_by_group(pixels, 1))
        else:
            pixels[...] = _joined(_product(columns, W, backend)).reshape(pixels.shape)

    def _spread(self, pixels: Array, image: Array, backend: Backend) -> None:
        """image = pixels W^T, each row added where its window lies: the transpose of `_gather`."""
        windows, groups = self.windows, self.groups
        if groups == 1 and windows.are_pixels:
            backend.matmul(_by_group(pixels, 1), _by_group(self.W.data, 1).mT, out=_by_group(image, 1))
            return
        parts: Iterator[Array]
        if self._depthwise:
            memory = backend.scratch("product", pixels.shape)
            parts = (backend.xp.multiply(pixels, W[0], out=memory) for W in _taps(self.W.data))
        else:
            columns = _product(_by_group(pixels, groups), _by_group(self.W.data, groups).mT, backend, "columns")
            parts = windows.entries(columns, groups)
        windows.add_up(parts, image, backend)

    def _add_grad(self, image: Array, pixels: Array, backend: Backend) -> None:
        """W.grad += X^T pixels, with X the windows of the image."""
        windows, groups = self.windows, self.groups
        if self._depthwise:
            for part, grad in zip(windows.parts(image, backend), _taps(self.W.grad), strict=True):
                products = backend.xp.multiply(part, pixels, out=backend.scratch("product", part.shape))
                grad += backend.sum_rows(products.reshape(-1, groups))
        else:
            product = _product(windows.columns(image, groups, backend).mT, _by_group(pixels, groups), backend)
            self.W.grad += _joined(product).reshape(self.W.shape)

    @property
    def _depthwise(self) -> bool:
        """Whether each group has one channel in and one out.

        Elementwise products then take 0.4 of the time of products with matrices of one column.
        """
        return self.W.shape[-2:] == (1, self.groups)


class Conv1d(Conv2d):
    """`Conv2d` with one axis: x (N, T, C), W (k, C / groups, n_out), b (n_out,), y (N, T', n_out)."""

    n_axes = 1


class ConvTranspose2d(Conv2d):
    """The transpose of a `Conv2d` from n_out to C channels: each input is spread over a window of the output.

    y[n, i s + a d - p, j s + c d - p, o] = b[o] + the sum of W[a, c, o, k] x[n, i, j, k] over all (i, j, a, c, k) that
    lead to this position.  x: (N, H, W, C), W: (kh, kw, n_out / groups, C), b: (n_out,), y: (N, H', W', n_out),
    H' = (H - 1) s - 2 p + d (kh - 1) + 1 + output_padding, and likewise W'. With "same", H' = H s.

    `output_padding` (< stride) adds rows below and columns on the right: a strided convolution gives the same H for
    several H', and this chooses one of them. Everything else is as in `Conv2d`.

    With Y the matrix of windows of y: Y = x W^T, and y is the rows of Y added where their windows lie. With dY the
    matrix of windows of dy: dx = dY W and dW = dY^T x.

    With stride (sh, sw), an output sums on average only 1 / (sh sw) of the kernel's entries, so y starts with that part
    of the variance that `init` aims at. Zeiler, Krishnan, Taylor and Fergus, "Deconvolutional networks" (2010).
    """

    def __init__(
        self,
        n_out: int,
        kernel: int | tuple[int, int],
        *,
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = "valid",
        output_padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        init: Initializer = initializers.he_normal,
        n_in: int | None = None,
    ):
        super().__init__(
            n_out, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, bias=bias, init=init,
            n_in=n_in,
        )  # fmt: skip
        self.output_padding = per_axis("output_padding", output_padding, self.n_axes, least=0)
        if any(more >= s for more, s in zip(self.output_padding, self.stride, strict=True)):
            raise ValueError(f"output_padding {output_padding} must be less than stride {stride}")
        if self.padding == "same" and any(self.output_padding):
            raise ValueError('padding="same" sets the size of the output: leave out output_padding')

    def build(self, shape: Shape) -> Shape:
        *size, n_in = self._checked(shape)
        numbers = (0, 0) if isinstance(self.padding, str) else self.padding
        axes = zip(size, self.kernel, self.stride, numbers, self.dilation, self.output_padding, strict=True)
        output = tuple((n - 1) * s - 2 * p + d * (k - 1) + 1 + more for n, k, s, p, d, more in axes)
        if self.padding == "same":
            output = tuple(n * s for n, s in zip(size, self.stride, strict=True))
        if min(output) < 1:
            raise ShapeError(f"padding {self.padding} leaves nothing of the output: its size would be {output}")
        self.windows = Windows.on(output, self.kernel, self.stride, self.padding, self.dilation)
        first = Initializer("transposed", partial(_transposed, self.init, self.groups))
        self.W = Parameter((*self.kernel, self.n_out // self.groups, n_in), first)
        if self.bias:
            self.b = Parameter((self.n_out,), initializers.zeros, decay=False)
        return (*output, self.n_out)

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        xp, windows = backend.xp, self.windows
        y = xp.empty((x.shape[0], *windows.size, self.n_out), x.dtype)
        for images in windows.blocks(x.shape[0], self.n_out, backend):
            self._spread(x[images], y[images], backend)
            if self.bias:
                pixels = y[images]
                pixels += self.b.data

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dx: Array = xp.empty(x.shape, x.dtype) if need_dx else None
            for images in windows.blocks(x.shape[0], self.n_out, backend):
                self._add_grad(dy[images], x[images], backend)
                if self.bias:
                    self.b.add_grad_sum(dy[images])
                if need_dx:
                    self._gather(dy[images], dx[images], backend)
            return dx

        return y, backward


def _transposed(init: Initializer, groups: int, rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Initial values of W (kh, kw, n_out / groups, C).

    They are drawn as (kh, kw, C / groups, n_out), so that the initializer counts the fan-in correctly.
    """
    *kernel, n_out, n_in = shape
    W = init(rng, (*kernel, n_in // groups, n_out * groups))
    return W.reshape(*kernel, n_in // groups, groups, n_out).swapaxes(-1, -3).reshape(shape)


def _taps(W: Array) -> Iterator[Array]:
    """The entries of a kernel in the order of `Windows.parts`: (channels in / groups, channels out) each."""
    return iter(W.reshape(-1, *W.shape[-2:]))


def _by_group(a: Array, groups: int) -> Array:
    """(..., channels) as a matrix (rows, channels); with several groups, (groups, rows, channels / groups)."""
    rows = math.prod(a.shape[:-1])
    if groups == 1:
        return a.reshape(rows, a.shape[-1])
    return a.reshape(rows, groups, a.shape[-1] // groups).swapaxes(0, 1)


def _product(a: Array, b: Array, backend: Backend, name: str = "product") -> Array:
    """a @ b in scratch memory of this name."""
    return backend.matmul(a, b, out=backend.scratch(name, (*a.shape[:-1], b.shape[-1])))


def _joined(product: Array) -> Array:
    """The inverse of `_by_group`: the channels of all groups side by side."""
    if product.ndim == 2:
        return product
    groups, rows, channels = product.shape
    return product.swapaxes(0, 1).reshape(rows, groups * channels)
