"""Normalisation: activations of mean 0 and variance 1, then a trained scale gamma and shift beta for each channel.

The channels are the last axis (NHWC): gamma, beta: (C,). The layers differ in which numbers of x (N, ..., C) share a
mean and a variance:

| layer | numbers that share a mean and a variance |
|---|---|
| `BatchNorm` | one channel of the whole batch; when not training, running statistics of past batches are used |
| `LayerNorm` | the channels of one position; `RMSNorm` the same, without the mean |
| `GroupNorm` | a group of channels of one sample |

gamma and beta have no weight decay: it would pull gamma to 0, not to 1.

The mean is subtracted in two rounds. In float32, the mean of numbers with mean 1e4 and standard deviation 1 is
uncertain by 1e-3, and so is everything normalised with it. Subtracting the mean of what is left corrects that.

For the backward the layers keep xhat or x - mean, not x: a closure that names x keeps it in memory until then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from xpnet.arguments import SMALLEST, number, whole
from xpnet.backend import Array, Backend
from xpnet.nn import init
from xpnet.nn.layer import Backward, Layer, Parameter
from xpnet.nn.shapes import Shape, ShapeError, channels_of

__all__ = ["BatchNorm", "GroupNorm", "LayerNorm", "RMSNorm"]


class BatchNorm(Layer):
    """y = gamma (x - mean) / sqrt(variance + eps) + beta, for each channel.  x, y: (N, C), (N, H, W, C), (N, ..., C).

    In training, mean and variance are those of the batch, over all axes but the last; the variance is divided by n, the
    count of numbers per channel. Running statistics follow them, with the variance divided by n - 1:

        running = (1 - momentum) running + momentum batch

    and replace them when not training. `momentum` and `eps` are defined as in PyTorch (in Keras, momentum is 1 minus
    this one). A training batch of one number per channel has no variance and raises ValueError. A bias before
    this layer has no effect, and its gradient is 0: leave it out.

    With xhat = (x - mean) / sqrt(variance + eps): dbeta = sum dy, dgamma = sum dy xhat. Mean and variance depend on x,
    so in training dx = gamma / sqrt(variance + eps) (dy - dbeta / n - xhat dgamma / n); otherwise only the first term.
    It is derived in `normalised_dx`: for d = gamma dy, mean d = gamma dbeta / n and mean(d xhat) = gamma dgamma / n.
    Ioffe and Szegedy, "Batch normalization" (2015).
    """

    by_sample = False
    by_position = True  # when not training: the statistics then do not depend on x

    def __init__(self, momentum: float = 0.1, eps: float = 1e-5):
        self.momentum, self.eps = number("momentum of BatchNorm", momentum, least=0, most=1), _eps(self, eps)

    def build(self, shape: Shape) -> Shape:
        self.gamma, self.beta = _gamma(shape), _beta(shape)
        self.running_mean = Parameter(shape[-1:], init.zeros, trained=False)
        self.running_var = Parameter(shape[-1:], init.constant(1), trained=False)
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        shape, rows = x.shape, x.reshape(-1, x.shape[-1])
        n = len(rows)
        of_batch = backend.training and n > 0
        if of_batch:
            centred, mean_left, variance = self._statistics(rows, backend)
        else:
            centred, mean_left, variance = rows - self.running_mean.data, 0.0, self.running_var.data
        inverse = backend.fuse(_inverse_root)(variance, self.eps, backend.xp)
        scale = self.gamma.data * inverse
        shift = self.beta.data - mean_left * scale  # xhat is (centred - mean_left) * inverse, never stored
        y = backend.fuse(_scaled_and_shifted)(centred, scale, shift)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            rows_dy = dy.reshape(centred.shape)
            dbeta = backend.sum_rows(rows_dy)
            dgamma = inverse * (backend.sum_rows(rows_dy * centred) - mean_left * dbeta)
            self.beta.add_grad_sum(dbeta)
            self.gamma.add_grad_sum(dgamma)
            if not need_dx:
                return None
            if not of_batch:
                return (rows_dy * scale).reshape(shape)
            # dx of the class docstring with xhat = (centred - mean_left) inverse: scale dy - slope centred + constant.
            slope = scale * inverse * dgamma / n
            constant = mean_left * slope - scale * dbeta / n
            return backend.fuse(_dx_of_batch)(rows_dy, scale, centred, slope, constant).reshape(shape)

        return y.reshape(shape), backward

    def _statistics(self, rows: Array, backend: Backend) -> tuple[Array, Array, Array]:
        """rows - mean, the mean that rounding has left in it, and the variance. Updates the running statistics."""
        n = len(rows)
        if n == 1:
            raise ValueError(
                "BatchNorm cannot train on a batch of one number per channel: it has no variance. "
                "Choose a batch size that leaves no last batch of one sample, and no part of one where accumulate or "
                "several processes cut a batch into parts"
            )
        mean = backend.sum_rows(rows) / n
        centred = rows - mean
        mean_left = backend.sum_rows(centred) / n
        variance = backend.xp.maximum(backend.sum_rows(centred * centred) / n - mean_left * mean_left, 0)
        for running, batch in ((self.running_mean, mean + mean_left), (self.running_var, variance * (n / (n - 1)))):
            backend.fuse(self._follow)(running.data, batch)
        return centred, mean_left, variance

    def _follow(self, running: Array, batch: Array) -> None:
        running *= 1 - self.momentum
        running += self.momentum * batch


class LayerNorm(Layer):
    """y = gamma xhat + beta, with xhat = (x - mean) / sqrt(variance + eps) over the last axis.  x, y: (N, ..., C).

    dgamma = sum dy xhat, dbeta = sum dy, dx as in `normalised_dx`. Ba, Kiros and Hinton, "Layer normalization" (2016).
    """

    by_position = True

    def __init__(self, eps: float = 1e-5):
        self.eps = _eps(self, eps)

    def build(self, shape: Shape) -> Shape:
        self.gamma, self.beta = _gamma(shape), _beta(shape)
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        shape, rows = x.shape, x.reshape(-1, x.shape[-1])
        mean = _mean_of_rows(rows, backend)
        xhat, inverse = normalised(rows, mean, self.eps, backend)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            rows_dy = dy.reshape(xhat.shape)
            self.gamma.add_grad_sum(rows_dy * xhat)
            self.beta.add_grad_sum(rows_dy)
            if not need_dx:
                return None
            return normalised_dx(rows_dy * self.gamma.data, xhat, inverse, mean, backend).reshape(shape)

        y = backend.fuse(_scaled_and_shifted)(xhat, self.gamma.data, self.beta.data)
        return y.reshape(shape), backward


class RMSNorm(Layer):
    """y = gamma xhat, with xhat = x / sqrt(mean x^2 + eps) over the last axis.  x, y: (N, ..., C), gamma: (C,).

    dgamma = sum dy xhat.  The mean square m depends on x, with dm/dx = 2 x / C, so with d = dy gamma:
    dx = (d - xhat mean(d xhat)) / sqrt(m + eps).  Zhang and Sennrich, "Root mean square layer normalization" (2019).
    """

    by_position = True

    def __init__(self, eps: float = 1e-6):
        self.eps = _eps(self, eps)

    def build(self, shape: Shape) -> Shape:
        self.gamma = _gamma(shape)
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        shape, rows = x.shape, x.reshape(-1, x.shape[-1])
        mean = _mean_of_rows(rows, backend)
        inverse = backend.fuse(_inverse_root)(mean(rows * rows), self.eps, backend.xp)
        xhat = rows * inverse

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            rows_dy = dy.reshape(xhat.shape)
            self.gamma.add_grad_sum(rows_dy * xhat)
            if not need_dx:
                return None
            d = rows_dy * self.gamma.data
            return backend.fuse(_dx_of_xhat)(d, xhat, mean(d * xhat), inverse).reshape(shape)

        return (xhat * self.gamma.data).reshape(shape), backward


class GroupNorm(Layer):
    """y = gamma xhat + beta, with xhat = (x - mean) / sqrt(variance + eps).  x, y: (N, ..., C), such as (N, H, W, C).

    Mean and variance are taken over C / groups neighbouring channels at all positions of one sample. With one group
    that is the whole sample; with C groups, one channel ("instance normalisation"). `groups` must divide C.
    dgamma = sum dy xhat, dbeta = sum dy, dx as in `normalised_dx`. Wu and He, "Group normalization" (2018).
    """

    def __init__(self, groups: int, eps: float = 1e-5):
        self.groups, self.eps = whole("groups of GroupNorm", groups, least=1), _eps(self, eps)

    def build(self, shape: Shape) -> Shape:
        self.gamma, self.beta = _gamma(shape), _beta(shape)
        if shape[-1] % self.groups:
            raise ShapeError(f"cannot put {shape[-1]} channels into {self.groups} groups of the same size")
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        shape, samples = x.shape, x.reshape(len(x), math.prod(x.shape[1:-1]), x.shape[-1])  # (N, positions, C)
        mean = self._mean_of_groups(samples, backend)
        xhat, inverse = normalised(samples, mean, self.eps, backend)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            samples_dy = dy.reshape(xhat.shape)
            self.gamma.add_grad_sum(samples_dy * xhat)
            self.beta.add_grad_sum(samples_dy)
            if not need_dx:
                return None
            return normalised_dx(samples_dy * self.gamma.data, xhat, inverse, mean, backend).reshape(shape)

        y = backend.fuse(_scaled_and_shifted)(xhat, self.gamma.data, self.beta.data)
        return y.reshape(shape), backward

    def _mean_of_groups(self, samples: Array, backend: Backend) -> Mean:
        """A function that gives the mean of each group in (N, positions, C), repeated for its channels: (N, 1, C)."""
        n, positions, channels = samples.shape
        each = channels // self.groups
        weights = backend.xp.full((1, positions), 1 / (positions * each), samples.dtype)

        def mean(a: Array) -> Array:
            of_channels = backend.full_matmul(weights, a).reshape(n, self.groups, each)
            return of_channels.sum(axis=-1).repeat(each, axis=-1).reshape(n, 1, channels)

        return mean


# What they share ------------------------------------------------------------------------------------------------

Mean = Callable[[Array], Array]  # the mean over some axes, which are kept (of length 1, or repeated)


def normalised(x: Array, mean: Mean, eps: float, backend: Backend) -> tuple[Array, Array]:
    """xhat = (x - mean x) / sqrt(variance + eps), and 1 / sqrt(variance + eps)."""
    xhat = x - mean(x)
    xhat -= mean(xhat)
    inverse = backend.fuse(_inverse_root)(mean(xhat * xhat), eps, backend.xp)
    xhat *= inverse
    return xhat, inverse


def normalised_dx(d: Array, xhat: Array, inverse: Array, mean: Mean, backend: Backend) -> Array:
    """dx of `normalised`, for the gradient d with respect to xhat; d is overwritten.

    With v the variance and r = 1 / sqrt(v + eps), small changes dx of x give the changes
    dxhat_i = r (dx_i - mean dx) - xhat_i r^2 dv / 2, where dv = 2 mean((x - mean x) dx) = 2 mean(xhat dx) / r.
    The transpose of this linear map gives the gradient dx = r (d - mean d - xhat mean(d xhat)).
    """
    mean_d_xhat = mean(d * xhat)
    d -= mean(d)
    return backend.fuse(_dx_of_xhat)(d, xhat, mean_d_xhat, inverse)


def _inverse_root(variance: Array, eps: float, xp: Any) -> Array:
    return 1 / xp.sqrt(variance + eps)


def _scaled_and_shifted(xhat: Array, gamma: Array, beta: Array) -> Array:
    y = xhat * gamma
    y += beta
    return y


def _dx_of_xhat(d: Array, xhat: Array, mean_d_xhat: Array, inverse: Array) -> Array:
    d -= xhat * mean_d_xhat
    d *= inverse
    return d


def _dx_of_batch(dy: Array, scale: Array, centred: Array, slope: Array, constant: Array) -> Array:
    dx = dy * scale
    dx -= centred * slope
    dx += constant
    return dx


def _mean_of_rows(rows: Array, backend: Backend) -> Mean:
    """A function that gives the mean over the last axis of matrices as wide as `rows`."""
    n = rows.shape[-1]
    ones = backend.ones(n, rows.dtype)[:, None]
    return lambda a: backend.full_matmul(a, ones) / n


def _gamma(shape: Shape) -> Parameter:
    return Parameter((channels_of(shape),), init.constant(1), decay=False)


def _beta(shape: Shape) -> Parameter:
    return Parameter(shape[-1:], init.zeros, decay=False)


def _eps(layer: Layer, eps: float) -> float:
    return number(f"eps of {type(layer).__name__}", eps, least=SMALLEST, below=1)  # not a number of channels
