"""Windows that move over images: the geometry that convolution and pooling have in common.

Images are (N, *size, C) with any number of spatial axes; every field of `Windows` is a tuple with one number for each
of these. Padding lies around an image, `before` its first row or column and `after` its last.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

from xpnet.arguments import whole
from xpnet.backend import Array, Backend
from xpnet.backend.allocator import short_buffers
from xpnet.nn.shapes import Shape, ShapeError


@dataclass(frozen=True)
class Windows:
    """Windows of `kernel` entries, `dilation` apart, that move by `stride` over images of `size`."""

    size: Shape
    kernel: Shape
    stride: Shape
    dilation: Shape
    before: Shape
    after: Shape

    @classmethod
    def on(cls, size: Shape, kernel: Shape, stride: Shape, padding: Shape | str, dilation: Shape) -> Windows:
        """The windows on an image of this size, with `padding` "valid" (none), "same", or numbers for both sides.

        "same" is TensorFlow's: ceil(size / stride) windows along each axis. The padding needed for that is split in
        half between the two sides; of an odd number, the larger part comes after. (PyTorch's is the same, but only for
        stride 1.)

        Raises `ShapeError` where a window is larger than the padded image.
        """
        extent = _extent(kernel, dilation)
        if padding == "same":
            missing = [max((-(-n // s) - 1) * s + e - n, 0) for n, s, e in zip(size, stride, extent, strict=True)]
            before, after = tuple(m // 2 for m in missing), tuple(m - m // 2 for m in missing)
        else:
            before = after = (0,) * len(size) if isinstance(padding, str) else padding
        windows = cls(size, kernel, stride, dilation, before, after)
        if any(e > n for e, n in zip(extent, windows.padded_size, strict=True)):
            dilated = f" with dilation {dilation} spans {extent} and" if extent != kernel else ""
            raise ShapeError(f"its kernel {kernel}{dilated} is larger than the padded image {windows.padded_size}")
        return windows

    @cached_property
    def padded_size(self) -> Shape:
        return tuple(map(sum, zip(self.before, self.size, self.after, strict=True)))

    @cached_property
    def output(self) -> Shape:
        """How many windows there are along each axis: floor((padded size - extent) / stride) + 1."""
        extents = zip(self.padded_size, _extent(self.kernel, self.dilation), self.stride, strict=True)
        return tuple((n - extent) // stride + 1 for n, extent, stride in extents)

    def blocks(self, n: int, channels: int, backend: Backend) -> Iterator[slice]:
        """Slices of a batch of n images: on a CPU a few at a time, so that their columns stay in its cache."""
        columns = math.prod(self.output) * math.prod(self.kernel) * channels
        return backend.chunks(n, max(columns // 6, 1))  # at most 1.5 MB in float32, unless a single image has more

    def parts(self, x: Array, backend: Backend, outside: float = 0.0) -> Iterator[Array]:
        """For each entry of a window, in row-major order, the values of all windows there: (n, *output, C).

        They are views of x (n, *size, C), or of x with padding.
        """
        padded = self._padded(x, backend, outside)
        yield from (padded[place] for place in self._places)

    def add_up(self, parts: Iterable[Array], out: Array, backend: Backend) -> None:
        """The transpose of `parts`: out (n, *size, C) sums all parts (n, *output, C), each where it was taken from.

        No two windows have the same entry in the same place, so adding one part writes no number twice.
        """
        sums = self._memory("sums", out, backend)
        sums.fill(0)
        with short_buffers():
            for place, part in zip(self._places, parts, strict=True):
                if self._apart:  # each place is in one window at most
                    sums[place] = part
                else:
                    target = sums[place]
                    target += part
        if sums is not out:
            out[...] = sums[self._inside]

    def columns(self, x: Array, groups: int, backend: Backend) -> Array:
        """Every window of x (n, *size, C) as a row: (rows, entries C), the rows in order of n and *output.

        With several groups of channels, one matrix for each: (groups, rows, entries C / groups). The result is in
        scratch memory, or is a view of x.
        """
        if groups == 1 and self.are_pixels:
            return x.reshape(-1, x.shape[-1])
        x = self._padded(x, backend)
        n, channels = x.shape[0], x.shape[-1]
        first, *steps, last = x.strides
        jumps = (step * s for step, s in zip(steps, self.stride, strict=True))
        gaps = (step * d for step, d in zip(steps, self.dilation, strict=True))
        shape, strides = (n, *self.output, *self.kernel, channels), (first, *jumps, *gaps, last)
        view = backend.xp.lib.stride_tricks.as_strided(x, shape, strides)
        matrix: Shape = (n * math.prod(self.output), math.prod(self.kernel) * (channels // groups))
        if groups > 1:
            view = backend.xp.moveaxis(view.reshape(*shape[:-1], groups, channels // groups), -2, 0)
            matrix = (groups, *matrix)
        columns = backend.scratch("columns", matrix)
        columns.reshape(view.shape)[...] = view
        return columns

    def entries(self, columns: Array, groups: int) -> Iterator[Array]:
        """What such rows (see `columns`) hold for each entry of a window, in the order of `parts`: (n, *output, C)."""
        n_entries = math.prod(self.kernel)
        rows = columns.reshape(*columns.shape[:-2], -1, *self.output, n_entries, columns.shape[-1] // n_entries)
        for entry in range(n_entries):
            part = rows[..., entry, :]
            if groups > 1:  # the groups are the first axis
                channels = groups * part.shape[-1]
                part = part.transpose(*range(1, part.ndim - 1), 0, -1).reshape(*part.shape[1:-1], channels)
            yield part

    @cached_property
    def are_pixels(self) -> bool:
        """Whether each pixel is a window of its own: no padding, and a window at every pixel, as only kernel 1 has."""
        return self.size == self.padded_size == self.output

    @cached_property
    def _apart(self) -> bool:
        """Whether each window ends before the next begins, along every axis."""
        return all(e <= s for e, s in zip(_extent(self.kernel, self.dilation), self.stride, strict=True))

    @property
    def _inside(self) -> tuple[slice, ...]:
        """Where the image lies in the padded one, as an index of (n, *padded size, C)."""
        return (slice(None), *(slice(b, b + n) for b, n in zip(self.before, self.size, strict=True)))

    @cached_property
    def _places(self) -> list[tuple[slice, ...]]:
        """For each entry of a window, where it lies in all windows: an index of (n, *padded size, C)."""
        places = []
        for entry in product(*map(range, self.kernel)):
            axes = zip(entry, self.dilation, self.output, self.stride, strict=True)
            places.append((slice(None), *(slice(i * d, i * d + (n - 1) * s + 1, s) for i, d, n, s in axes)))
        return places

    def _padded(self, x: Array, backend: Backend, outside: float = 0.0) -> Array:
        """x with the number `outside` around it; x itself if there is no padding."""
        padded = self._memory("padded", x, backend)
        if padded is not x:
            padded.fill(outside)
            padded[self._inside] = x
        return padded

    def _memory(self, name: str, x: Array, backend: Backend) -> Array:
        """Scratch memory for x with its padding; x itself if there is none."""
        if self.padded_size == self.size:
            return x
        return backend.scratch(name, (x.shape[0], *self.padded_size, x.shape[-1]))


def _extent(kernel: Shape, dilation: Shape) -> Shape:
    """How far a window reaches, gaps included."""
    return tuple((k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True))


def per_axis(name: str, value: Any, n_axes: int, least: int = 1) -> Shape:
    """A tuple from an argument that is one number for all axes, or one for each. Raises ValueError for others."""
    values = tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,) * n_axes
    try:
        numbers = tuple(whole(name, v) for v in values)
    except ValueError:
        numbers = ()
    if len(numbers) != n_axes or min(numbers) < least:
        of_each = f" or {n_axes} of them" if n_axes > 1 else ""
        raise ValueError(f"{name} must be a whole number >= {least}{of_each}, not {value!r}")
    return numbers


def padding_of(value: Any, n_axes: int) -> Shape | str:
    """ "valid", "same", or numbers of rows and columns. Raises ValueError for others."""
    if isinstance(value, str):
        if value in ("valid", "same"):
            return value
        raise ValueError(f'padding must be "valid", "same" or whole numbers >= 0, not {value!r}')
    return per_axis("padding", value, n_axes, least=0)
