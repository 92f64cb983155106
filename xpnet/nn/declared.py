"""What a network declares before it holds any value: its shapes and its parameters, and which tensors fit them."""

from __future__ import annotations

import numpy as np

from xpnet.nn.layer import Layer, Parameter
from xpnet.nn.shapes import LayerFault, Shape, as_shape


def declare(network: Layer, input_shape: Shape) -> tuple[Shape, dict[str, Parameter]]:
    """Build the network on shapes alone; nothing is allocated. Gives its output shape and named parameters."""
    for _, layer in network.walk():
        layer._shapes = {}
    try:
        output_shape = network.built(as_shape(input_shape))
    except LayerFault as fault:
        raise fault.inside(network) from None
    named: dict[str, Parameter] = {}
    for name, parameter in network.parameters():
        if not any(parameter is known for known in named.values()):  # a layer used twice has one set
            parameter.name, named[name] = name, parameter
    return output_shape, named


def check_tensors(tensors: dict[str, np.ndarray], shapes: dict[str, Shape], dtype: np.dtype) -> None:
    """Raise ValueError unless these are, by name, finite floating point arrays of these shapes, no more and no less."""
    missing, extra = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or extra:
        raise ValueError(f"tensors are missing ({missing}), or belong to no layer ({extra})")
    for name, shape in shapes.items():
        values = np.asarray(tensors[name])
        if values.shape != shape:
            raise ValueError(f"{name} has shape {values.shape}, the network wants {shape}")
        if values.dtype.kind != "f":
            raise ValueError(f"{name} holds {values.dtype}, not floating point numbers")
        with np.errstate(over="ignore"):
            if not np.isfinite(values.astype(dtype)).all():
                raise ValueError(f"{name} holds values that are not finite in {dtype}")
