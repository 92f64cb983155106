"""Random changes of images, different each time they are used: shifted, rotated, scaled, sheared, bent, thicker,
erased, cropped, mirrored, mixed.

All random numbers come from `backend.rng`, and everything is computed by elementwise operations and gathers (no
products or sums whose order a device could choose, no sine that it could round its own way). `Augment` works in float32
and returns `uint8`, `mixup` returns the backend's dtype. So the same seed gives the same images, bit for bit, on every
device.

Simard, Steinkraus and Platt, "Best practices for convolutional neural networks" (2003), for the elastic part; He,
Zhang, Ren and Sun, "Deep residual learning for image recognition" (2016), 4.2, for crop and flip; Zhong et al., "Random
erasing" (2020); Zhang, Cisse, Dauphin and Lopez-Paz, "mixup: beyond empirical risk minimization" (2018).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from xpnet.arguments import number, whole
from xpnet.backend import Array, Backend
from xpnet.data.labels import check_labels

LIMITS = {
    "shift": 0.5, "rotate": 45.0, "scale": 0.5, "shear": 0.5, "elastic": 8.0, "thickness": 1, "crop": 64, "flip": 1,
    "erase": 1,
}  # fmt: skip
GRID = 5  # control points of the elastic deformation along each axis, plus one more on either side


@dataclass(frozen=True)
class Augment:
    """augment(x, backend) -> images of the same shape, for x (N, H, W) or (N, H, W, C) uint8, on a background of 0.

    Unless stated otherwise, a setting is the largest amount in either direction; the amount is drawn uniformly for each
    image. 0 switches the change off. All channels of an image are changed alike.

    `shift` as a fraction of the image's sides; `rotate` in degrees; `scale` and `shear` as factors (0.1: from 0.9 to
    1.1); `elastic` in pixels, how far a control point of a 5 x 5 grid moves; `thickness` from -1 (the darkest of the
    neighbours) to 1 (the lightest); `crop`, the width in whole pixels of a border of 0 around the image, out of which
    an image of the original size is cut; `flip`, the probability that left and right are swapped (not for digits or
    letters); `erase`, the probability that a rectangle of up to half the sides is blanked. Thickness is applied first,
    then everything that moves pixels by fractions, in one pass, then crop and flip, and erase last.
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    thickness: float = 0.0
    crop: int = 0
    flip: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        for field in fields(self):
            number(field.name, getattr(self, field.name), least=0, most=LIMITS[field.name])
        whole("crop", self.crop)

    def __call__(self, x: Array, backend: Backend) -> Array:
        if x.ndim not in (3, 4) or x.dtype != np.uint8 or min(x.shape[1:3]) < 2:
            raise ValueError(
                f"augmentation takes uint8 images of shape (N, H, W) or (N, H, W, C), not {x.dtype} of shape {x.shape}"
            )
        # Every number is drawn whatever the settings are, so that one setting does not change the numbers of another.
        signed = lambda *shape: 2 * backend.rng.random(shape, np.float32) - 1
        amounts, bends = signed(8, len(x), 1, 1), signed(2, len(x), GRID + 2, GRID + 2)
        if self.thickness:
            x = self._thicken(x, amounts[0], backend)
        if self.shift or self.rotate or self.scale or self.shear or self.elastic:
            x = sample(x, *self._sources(x.shape, amounts, bends, backend), backend)
        if self.crop or self.flip or self.erase:
            numbers = backend.rng.random((8, len(x), 1, 1), np.float32)
            if self.crop or self.flip:
                x = self._cut_out(x, numbers[5:], backend)
            if self.erase:
                x = self._erase(x, numbers[:5], backend)
        return x

    def _sources(self, shape: tuple, amounts: Array, bends: Array, backend: Backend) -> tuple[Array, Array]:
        """Where in the old image each pixel of the new one comes from: rows and columns, (N, H, W)."""
        _, height, width = shape[:3]
        xp = backend.xp
        down = (xp.arange(height, dtype=np.float32) - (height - 1) / 2).reshape(1, height, 1)
        right = (xp.arange(width, dtype=np.float32) - (width - 1) / 2).reshape(1, 1, width)
        sine, cosine = sine_cosine(math.radians(self.rotate) * amounts[1])
        tall, wide = 1 + self.scale * amounts[2], 1 + self.scale * amounts[3]
        slant = self.shear * amounts[4]
        rows = tall * (cosine * down - sine * right) + (amounts[5] * (self.shift * height) + (height - 1) / 2)
        columns = wide * (sine * down + cosine * right) + slant * down
        columns = columns + (amounts[6] * (self.shift * width) + (width - 1) / 2)
        if self.elastic:
            rows = rows + spline(bends[0] * self.elastic, height, width, backend)
            columns = columns + spline(bends[1] * self.elastic, height, width, backend)
        return rows, columns

    def _thicken(self, x: Array, amount: Array, backend: Backend) -> Array:
        xp, value = backend.xp, x.astype(np.float32)
        lightest, darkest = value.copy(), value.copy()
        for axis in (1, 2):
            for ahead, behind in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
                there, here = ((slice(None),) * axis + (s,) for s in (ahead, behind))
                xp.maximum(lightest[here], value[there], out=lightest[here])
                xp.minimum(darkest[here], value[there], out=darkest[here])
        amount = per_image(self.thickness * amount, x)
        value = value + xp.maximum(amount, 0) * (lightest - value) + xp.minimum(amount, 0) * (value - darkest)
        return to_bytes(value, backend)

    def _cut_out(self, x: Array, numbers: Array, backend: Backend) -> Array:
        """Pad each image with a border of 0, cut an image of the original size out at a random place, maybe flip it."""
        xp, (n, height, width), border = backend.xp, x.shape[:3], self.crop
        places = 2 * border + 1
        first = xp.minimum(xp.floor(numbers[:2] * places), places - 1).astype(np.int64)  # rounding could give `places`
        flipped = (numbers[2] < self.flip).astype(np.int64)
        rows = xp.arange(height).reshape(1, height, 1) + first[0]
        right = xp.arange(width).reshape(1, 1, width)
        columns = right + flipped * (width - 1 - 2 * right) + first[1]
        padded = xp.zeros((n, height + 2 * border, width + 2 * border, *x.shape[3:]), np.uint8)
        padded[:, border : border + height, border : border + width] = x
        image = xp.arange(n).reshape(n, 1, 1)
        pixels = (image * padded.shape[1] + rows) * padded.shape[2] + columns
        return backend.take(padded.reshape(-1, *x.shape[3:]), pixels)

    def _erase(self, x: Array, numbers: Array, backend: Backend) -> Array:
        _, height, width = x.shape[:3]
        xp = backend.xp
        tall, wide = numbers[1] * (height / 2), numbers[2] * (width / 2)
        top, left = numbers[3] * (height - tall), numbers[4] * (width - wide)
        down = xp.arange(height, dtype=np.float32).reshape(1, height, 1)
        right = xp.arange(width, dtype=np.float32).reshape(1, 1, width)
        inside = (down >= top) & (down < top + tall) & (right >= left) & (right < left + wide)
        return x * per_image((~(inside & (numbers[0] < self.erase))).astype(np.uint8), x)


def mixup(x: Array, target: Array, n_classes: int, backend: Backend) -> tuple[Array, Array]:
    """Mix each sample with the next of the batch: (a x + (1 - a) x', a q + (1 - a) q'), a uniform in [0, 1).

    x: (N, ...) of any real dtype; target: class numbers (N,), whose one-hot rows are q. Returns both in the backend's
    dtype: the mixed samples, and distributions (N, n_classes) for `losses.SoftmaxCrossEntropy`. Uniform is Beta(1, 1),
    the paper's choice for CIFAR-10. A batch is in random order, so the next sample is as good as any; the last is mixed
    with the first. Raises ValueError for class numbers out of range, but only on the host, where checking them costs
    nothing.

    `fit` cannot use it, as its `augment` is given the images only, not their targets. In your own loop:

        with backend.mode(training=True):
            x, target = data.mixup(x, target, 10, backend)
            train.train_step(model, loss, optimizer, x, target)
    """
    xp, n = backend.xp, len(x)
    if isinstance(target, np.ndarray):
        check_labels(target, n_classes)
    x, q = x.astype(backend.dtype), (target.reshape(n, 1) == xp.arange(n_classes)).astype(backend.dtype)
    following = (xp.arange(n) + 1) % n
    amount = backend.rng.random((n,), np.float32).astype(backend.dtype)

    def mixed(a: Array) -> Array:
        own = amount.reshape(n, *(1,) * (a.ndim - 1))
        return own * a + (1 - own) * backend.take(a, following)

    return mixed(x), mixed(q)


def per_image(values: Array, x: Array) -> Array:
    """Values (N, H, W), or (N, 1, 1), with an axis added for the channels if the images x have one."""
    return values.reshape(*values.shape, *(1,) * (x.ndim - 3))


def sine_cosine(angle: Array) -> tuple[Array, Array]:
    """sin and cos of an angle within 45 degrees, to 4e-7, from their series: the same bits everywhere."""
    square = angle * angle
    sine = angle * (1 - square / 6 * (1 - square / 20 * (1 - square / 42)))
    cosine = 1 - square / 2 * (1 - square / 12 * (1 - square / 30 * (1 - square / 56)))
    return sine, cosine


def spline(control: Array, height: int, width: int, backend: Backend) -> Array:
    """A smooth field (N, height, width) that follows the control points (N, GRID + 2, GRID + 2): cubic B-splines."""
    xp = backend.xp
    for axis, size in ((1, height), (2, width)):
        at = xp.arange(size, dtype=np.float32) * ((GRID - 1) / (size - 1))
        first = xp.minimum(xp.floor(at), GRID - 2)
        t = (at - first).reshape((1, size, 1) if axis == 1 else (1, 1, size))
        taps = (
            (1 - t) * (1 - t) * (1 - t) / 6,
            (4 + t * t * (3 * t - 6)) / 6,
            (1 + 3 * t * (1 + t * (1 - t))) / 6,
            t * t * t / 6,
        )
        first = first.astype(np.int64)
        parts = [tap * control.take(first + i, axis=axis) for i, tap in enumerate(taps)]
        control = parts[0] + parts[1] + parts[2] + parts[3]
    return control


def sample(x: Array, rows: Array, columns: Array, backend: Backend) -> Array:
    """x (N, H, W) or (N, H, W, C) uint8 read at fractional rows and columns (N, H, W), bilinear; outside it is 0."""
    xp, (n, height, width) = backend.xp, x.shape[:3]
    padded = xp.zeros((n, height + 2, width + 2, *x.shape[3:]), np.float32)  # a border of 0: everything outside
    padded[:, 1:-1, 1:-1] = x
    rows, columns = xp.clip(rows + 1, 0, height + 0.999), xp.clip(columns + 1, 0, width + 0.999)
    top, left = xp.floor(rows), xp.floor(columns)
    down, right = per_image(rows - top, x), per_image(columns - left, x)
    first = xp.arange(n, dtype=np.int64).reshape(n, 1, 1) * ((height + 2) * (width + 2))
    corner = first + top.astype(np.int64) * (width + 2) + left.astype(np.int64)
    flat = padded.reshape(-1, *x.shape[3:])
    pixel = lambda offset: backend.take(flat, corner + offset)
    upper = pixel(0) * (1 - right) + pixel(1) * right
    lower = pixel(width + 2) * (1 - right) + pixel(width + 3) * right
    return to_bytes(upper * (1 - down) + lower * down, backend)


def to_bytes(value: Array, backend: Backend) -> Array:
    """Rounded to uint8."""
    return backend.xp.floor(backend.xp.clip(value, 0, 255) + 0.5).astype(np.uint8)
