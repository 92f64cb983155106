"""Checks of what a model is given: arrays of its device, dtype and shape."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnet.backend import Backend
from xpnet.nn.layer import Layer
from xpnet.nn.shapes import Shape, ShapeError, fits, in_tuple, is_several, n_samples, shape_of, size_of


def accepts_integers(network: Layer, n: int) -> tuple:
    """`Layer.accepts_integers` for each of n inputs: the network's tuple, or its one answer for all n."""
    accepts = network.accepts_integers
    return accepts if isinstance(accepts, tuple) else (accepts,) * n


def check_on_device(x: Any, shape: Shape, network: Layer, backend: Backend) -> None:
    """Raise TypeError for arrays on another device or of another dtype, ShapeError for those of another shape."""
    arrays = in_tuple(x)
    several = accepts_integers(network, len(arrays))
    if len(several) != len(arrays):
        raise ShapeError(f"the model takes {len(several)} arrays, of shapes {shape}, and was given {len(arrays)}")
    for array, integers in zip(arrays, several, strict=True):
        if not isinstance(array, backend.array_type):
            raise TypeError(
                f"the model is on {backend.device}, its input is a {type(array).__module__}."
                f"{type(array).__name__}: put it there with backend.asarray(x)"
            )
        if array.dtype.kind == "f":
            if array.dtype != backend.dtype:
                raise TypeError(f"the model runs in {backend.dtype}, its input is {array.dtype}: use backend.asarray")
        elif not integers:
            raise TypeError(
                f"the model takes {backend.dtype}, its input is {array.dtype}: convert it with "
                "x.astype, let the network begin with nn.Standardize, or, if a layer of your own takes whole "
                "numbers, set its accepts_integers = True"
            )
    if not fits(shape_of(x), shape):
        raise ShapeError(f"the model takes samples of shape {shape}, got {shape_of(x)}")
    n_samples(x)


def check_dy(dy: Any, shapes: Any) -> None:
    """Raise ShapeError unless dy has the shape of the outputs.

    For several outputs it is a tuple, in which None stands for an output that nobody used. Without this check, a dy
    that only broadcasts would give wrong gradients.
    """
    if getattr(dy, "shape", None) == shapes:  # the usual case, kept short
        return
    several = is_several(shapes)
    arrays = tuple(dy) if several and isinstance(dy, (tuple, list)) else (dy,)
    wanted = shapes if several else (shapes,)
    if len(arrays) != len(wanted) or any(
        getattr(d, "shape", ()) != shape and not (several and d is None)
        for d, shape in zip(arrays, wanted, strict=True)
    ):
        given = ", ".join(str(getattr(d, "shape", type(d).__name__)) for d in arrays)
        raise ShapeError(f"backward takes dy of the shape of the outputs, {', '.join(map(str, wanted))}, not {given}")


def in_shape(x: Any, shape: Shape, network: Layer) -> Any:
    """x (N, ...) in the shape that the model takes (see `Model.as_input`)."""
    given = shape_of(x)
    if not fits(given, shape):
        rows = not (is_several(shape) or None in shape or isinstance(x, tuple)) and 1 in (len(given), len(shape))
        if not rows or math.prod(given) != math.prod(shape):
            alone = not isinstance(x, tuple) and (fits(x.shape, shape) or x.size == size_of(shape))
            hint = ": one sample needs a batch axis, x[None]" if alone else ""
            raise ShapeError(f"samples of shape {given} do not fit a model that takes {shape}{hint}")
        x = x.reshape(len(x), *shape)
    if all(isinstance(array, np.ndarray) for array in in_tuple(x)):
        network.check_input(x)
    return x
