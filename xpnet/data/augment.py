"""Pictures a little different each time they are seen: shifted, turned, scaled, sheared, bent, thicker, erased.

Everything is drawn from `backend.rng` and computed in float32 with elementwise operations and gathers alone (no
products or sums whose order a device could choose, no sine that it could round its own way), and the pictures come
back as `uint8`. So the same seed gives the same pictures, bit for bit, on every device.

Simard, Steinkraus and Platt, "Best practices for convolutional neural networks" (2003), for the elastic part; Zhong et
al., "Random erasing" (2020).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np

from xpnet.backend import Array, Backend

GRID = 5  # control points of the elastic deformation along each axis, besides one more on either side


@dataclass(frozen=True)
class Augment:
    """augment(x, backend) -> pictures of the same shape, for x (N, H, W) uint8, light on a background of 0.

    Every setting is the largest amount, either way, drawn uniformly for each picture; 0 leaves that out.

    `shift` in parts of the picture's side; `rotate` in degrees; `scale` and `shear` as factors (0.1: from 0.9 to
    1.1); `elastic` in pixels, how far a control point of a 5 x 5 grid moves; `thickness` from -1 (the darkest of the
    neighbours) to 1 (the lightest); `erase`, the probability that a rectangle of up to half the sides is blanked.
    """

    shift: float = 0.0
    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    elastic: float = 0.0
    thickness: float = 0.0
    erase: float = 0.0

    def __post_init__(self) -> None:
        limits = {"shift": 0.5, "rotate": 45.0, "scale": 0.5, "shear": 0.5, "elastic": 8.0, "thickness": 1, "erase": 1}
        for field in fields(self):
            value = getattr(self, field.name)
            if not 0 <= value <= limits[field.name]:
                raise ValueError(f"{field.name} must be in 0..{limits[field.name]}, not {value!r}")

    def __call__(self, x: Array, backend: Backend) -> Array:
        if x.ndim != 3 or x.dtype != np.uint8 or min(x.shape[1:]) < 2:
            raise ValueError(f"augmentation takes uint8 pictures of shape (N, H, W), not {x.dtype} of shape {x.shape}")
        # Every number is drawn whatever the settings are, so that one setting does not change what another does.
        signed = lambda *shape: 2 * backend.rng.random(shape, np.float32) - 1
        amounts, bends = signed(8, len(x), 1, 1), signed(2, len(x), GRID + 2, GRID + 2)
        if self.thickness:
            x = self._thicken(x, amounts[0], backend)
        if self.shift or self.rotate or self.scale or self.shear or self.elastic:
            x = sample(x, *self._sources(x.shape, amounts, bends, backend), backend)
        if self.erase:
            x = self._erase(x, backend.rng.random((5, len(x), 1, 1), np.float32), backend)
        return x

    def _sources(self, shape: tuple, amounts: Array, bends: Array, backend: Backend) -> tuple[Array, Array]:
        """Where in the old picture each pixel of the new one comes from: rows and columns, (N, H, W)."""
        _, height, width = shape
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
        amount = self.thickness * amount
        value = value + xp.maximum(amount, 0) * (lightest - value) + xp.minimum(amount, 0) * (value - darkest)
        return to_bytes(value, backend)

    def _erase(self, x: Array, numbers: Array, backend: Backend) -> Array:
        _, height, width = x.shape
        xp = backend.xp
        tall, wide = numbers[1] * (height / 2), numbers[2] * (width / 2)
        top, left = numbers[3] * (height - tall), numbers[4] * (width - wide)
        down = xp.arange(height, dtype=np.float32).reshape(1, height, 1)
        right = xp.arange(width, dtype=np.float32).reshape(1, 1, width)
        inside = (down >= top) & (down < top + tall) & (right >= left) & (right < left + wide)
        return x * (~(inside & (numbers[0] < self.erase))).astype(np.uint8)


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
    """x (N, H, W) uint8 read at fractional rows and columns (N, H, W), bilinear; 0 outside the picture."""
    xp, (n, height, width) = backend.xp, x.shape
    padded = xp.zeros((n, height + 2, width + 2), np.float32)  # a border of 0 stands for all that is outside
    padded[:, 1:-1, 1:-1] = x
    rows, columns = xp.clip(rows + 1, 0, height + 0.999), xp.clip(columns + 1, 0, width + 0.999)
    top, left = xp.floor(rows), xp.floor(columns)
    down, right = rows - top, columns - left
    first = xp.arange(n, dtype=np.int64).reshape(n, 1, 1) * ((height + 2) * (width + 2))
    corner = first + top.astype(np.int64) * (width + 2) + left.astype(np.int64)
    flat = padded.reshape(-1)
    pixel = lambda offset: backend.take(flat, corner + offset)
    upper = pixel(0) * (1 - right) + pixel(1) * right
    lower = pixel(width + 2) * (1 - right) + pixel(width + 3) * right
    return to_bytes(upper * (1 - down) + lower * down, backend)


def to_bytes(value: Array, backend: Backend) -> Array:
    """Rounded to uint8."""
    return backend.xp.floor(backend.xp.clip(value, 0, 255) + 0.5).astype(np.uint8)
