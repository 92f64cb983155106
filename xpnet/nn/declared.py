"""What a network declares before it holds any values: its shapes and parameters, and which tensors fit them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.nn.layer import Layer, Parameter
from xpnet.nn.shapes import LayerFault, Shape, as_shape

SHOWN = 10  # at most so many names of tensors in a message


class Parameters(dict[str, Parameter]):
    """The parameters of a model by name, in order of declaration."""

    if not TYPE_CHECKING:

        def __call__(self, *args: Any, **options: Any) -> Any:
            raise TypeError("model.parameters is a dict, not a method; an optimizer takes the model: optim.Adam(model)")


def declare(network: Layer, input_shape: Shape) -> tuple[Shape, Parameters]:
    """Build the network on shapes alone, and return its output shape and named parameters. Nothing is allocated."""
    for _, layer in network.walk():
        layer._shapes = {}
    try:
        output_shape = network.built(as_shape(input_shape))
    except LayerFault as fault:
        raise fault.inside(network) from fault.__cause__
    named = Parameters()
    seen: set[int] = set()
    for name, parameter in network.parameters():
        if id(parameter) not in seen:  # a layer used twice has one set of parameters
            parameter.name, named[name] = name, parameter
            seen.add(id(parameter))
    return output_shape, named


def check_tensors(tensors: dict[str, np.ndarray], shapes: dict[str, Shape], dtype: np.dtype) -> None:
    """Raise ValueError unless `tensors` holds, by name, finite floating point arrays of exactly these shapes."""
    missing, extra = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or extra:
        found = ("tensors are missing", missing), ("tensors belong to no layer", extra)
        raise ValueError(", ".join(f"{what}: {_some(names)}" for what, names in found if names))
    for name, shape in shapes.items():
        values = np.asarray(tensors[name])
        if values.shape != shape:
            raise ValueError(f"{name} has shape {values.shape}, the network needs {shape}")
        if values.dtype.kind != "f":
            raise ValueError(f"{name} holds {values.dtype}, not floating point numbers")
        with np.errstate(over="ignore"):
            if not np.isfinite(values.astype(dtype)).all():
                raise ValueError(f"{name} holds values that are not finite in {dtype}")


def _some(names: list[str]) -> str:
    """The names; if there are many, the first ones and how many more there are."""
    return str(names) if len(names) <= SHOWN else f"{names[:SHOWN]} and {len(names) - SHOWN} more"
