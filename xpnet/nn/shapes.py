"""Shapes of samples, and the errors that name a layer.

A shape is that of one sample, without the batch axis: `(28, 28)`. An axis of free length, such as that of a sequence,
is `None`: `(None, 64)`. For several inputs or outputs there is a tuple of shapes: `((None, 64), (None,))`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

Shape = tuple[Any, ...]  # of whole numbers and None, or of such tuples
Fault = TypeVar("Fault", bound="LayerFault")


class LayerFault(Exception):
    """Something is wrong with a layer. `message` says what; `layer` is that layer, once it is known."""

    def __init__(self, message: str, layer: Any = None, path: str = ""):
        super().__init__(f"{path}: {message}" if path else message)
        self.message, self.layer, self.path = message, layer, path

    def inside(self: Fault, network: Any) -> Fault:
        """The same error, naming the layer's place in the network."""
        for path, layer in network.walk():
            if layer is self.layer:
                name = type(layer).__name__
                return type(self)(self.message, layer, f"{path} ({name})" if path else name)
        return self


class ShapeError(LayerFault, ValueError):
    """Shapes that do not fit; the message names the layer and both shapes."""


class ContractError(LayerFault, TypeError):
    """A layer's `build` or `forward` returned something else than it must; the message names the layer."""


def axis_of_channels(shape: Shape, n_axes: int) -> str:
    """A hint for samples that have `n_axes` axes of fixed length and no channels, like grey images; else ""."""
    if len(shape) != n_axes or not all(isinstance(n, int) for n in shape):
        return ""
    return f": nn.Reshape({', '.join(map(str, (*shape, 1)))}) before it adds the channels"


def each(function: Callable[[Any], Any], values: Any) -> Any:
    """`function` of an array, or of each array in a tuple."""
    return tuple(map(function, values)) if isinstance(values, tuple) else function(values)


def times(factor: Any, gradients: Any) -> Any:
    """A gradient, or each one in a tuple, times the factor; None, which stands for no gradient, stays None."""
    return each(lambda d: None if d is None else d * factor, gradients)


def in_tuple(values: Any) -> tuple:
    """One array, or several, as a tuple."""
    return values if isinstance(values, tuple) else (values,)


def shape_of(arrays: Any) -> Shape:
    """The shape of one sample of these arrays (N, ...)."""
    return each(lambda a: a.shape[1:], arrays)


def n_samples(arrays: Any) -> int:
    """How many samples there are in an array, or in each array of a tuple.

    Raises ShapeError if the arrays of a tuple differ in this, and for a single number.
    """
    if any(getattr(array, "ndim", 1) == 0 for array in in_tuple(arrays)):
        raise ShapeError("an input is a single number: give one for each sample, such as np.full(n, 7)")
    counts = {len(array) for array in in_tuple(arrays)}
    if len(counts) > 1:
        lengths = ", ".join(str(len(a)) for a in arrays)
        raise ShapeError(f"the inputs have {lengths} samples, but all must have the same number")
    return counts.pop()


def size_of(shape: Shape) -> int:
    """How many values a sample has at least: an axis of free length counts as 1."""
    if is_several(shape):
        return sum(map(size_of, shape))
    return math.prod(1 if n is None else n for n in shape)


def is_several(shape: Shape) -> bool:
    """Whether this is a tuple of shapes, for several arrays."""
    return bool(shape) and isinstance(shape[0], tuple)


def channels_of(shape: Shape) -> int:
    """The length of the last axis. Raises ShapeError unless it is fixed, because parameters need it."""
    if not shape or shape[-1] is None or is_several(shape):
        raise ShapeError(f"needs an input whose last axis has a fixed length, got shape {shape}")
    return shape[-1]


def fits(shape: Shape, declared: Shape) -> bool:
    """Whether `shape` equals the one declared, in which a free axis (None) matches any length."""
    if is_several(declared):
        return is_several(shape) and len(shape) == len(declared) and all(map(fits, shape, declared))
    return len(shape) == len(declared) and all(
        free is None or n == free for n, free in zip(shape, declared, strict=True)
    )


def as_shape(shape: Any) -> Shape:
    """A shape as users write it, converted: lists become tuples, whole numbers of any type become `int`.

    Raises ShapeError for what is no tuple or list, and for an axis that is neither None nor a whole number >= 1.
    """
    if not isinstance(shape, (tuple, list)):
        raise ShapeError(f"the shape of a sample is a tuple, such as (784,), not {shape!r}")
    if any(isinstance(part, (tuple, list)) for part in shape):
        return tuple(as_shape(part) for part in shape)
    if not all(n is None or (isinstance(n, int) and not isinstance(n, bool)) or hasattr(n, "__index__") for n in shape):
        raise ShapeError(f"an axis is a whole number, or None where its length is free, not {tuple(shape)}")
    whole = tuple(None if n is None else int(n) for n in shape)
    if not all(n is None or n > 0 for n in whole):
        raise ShapeError(f"every axis of an input must be >= 1, got {whole}")
    return whole
