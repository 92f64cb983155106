"""From a source of weights into a model."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from xpnet.nn.model import Model, check_tensors
from xpnet.weights.layouts import Arrays, joined, parts_of
from xpnet.weights.matching import Match, paired
from xpnet.weights.reading import arrays_of

Source = str | os.PathLike | Mapping[str, Any]


def match(model: Model, source: Source, names: Mapping[str, str] | None = None) -> Match:
    """Which tensor of the source would go where. Nothing is changed. Raises as `load` does."""
    return _match(model, arrays_of(source), names)


def load(model: Model, source: Source, names: Mapping[str, str] | None = None) -> Match:
    """Write weights of a PyTorch network into a model that has been built; what went where is returned.

    `source` is the path of a `.safetensors` file, or a dict of arrays or of tensors on the CPU, such as
    `net.state_dict()`. Layouts are converted: kernels OIHW to HWIO, matrices (out, in) to (in, out), gates of an LSTM,
    the joint projections of attention. Layers are found by name or by order and shapes (`xpnet.weights.matching`);
    `names` maps paths of layers here to modules there, {"layers.0": "conv1"}, where that leaves a doubt.

    Raises ValueError, which names all that does not fit at once, or values that are not finite; ModelFileError for
    what is no whole safetensors file; the model is then as it was.
    """
    tensors = arrays_of(source)
    found = _match(model, tensors, names)
    values: Arrays = {}
    for pair in found.pairs:
        converted = pair.part.to_ours({name: tensors[whole] for name, whole in pair.names.items()})
        values |= {joined(pair.part.path, name): converted[name] for name in pair.part.ours}
    check_tensors(values, {name: p.shape for name, p in model.parameters.items()}, model.backend.dtype)
    for name, parameter in model.parameters.items():
        parameter.data[...] = model.backend.asarray(values[name].astype(model.backend.dtype))
    return found


def _match(model: Model, tensors: Arrays, names: Mapping[str, str] | None) -> Match:
    order = list(tensors)
    return paired(list(parts_of(model.network)), tensors, names, in_order=order != sorted(order))
