"""Loading weights into a model."""

from __future__ import annotations

import inspect
import os
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from xpnet import nn
from xpnet.arguments import of_kind
from xpnet.nn import Layer, Model
from xpnet.nn.declared import check_tensors
from xpnet.weights import h5, keras
from xpnet.weights.layouts import Arrays, joined, own_parts, parts_of
from xpnet.weights.matching import Match, Modules, modules_of, paired
from xpnet.weights.reading import arrays_of, check_file, has_order

KEEP_CHANNELS = (  # layers after a convolution that keep the channels as the last axis
    nn.ReLU, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.HardSwish, nn.Tanh,
    nn.Sigmoid, nn.Softmax, nn.LogSoftmax, nn.Dropout, nn.Standardize, nn.BatchNorm, nn.GroupNorm, nn.LayerNorm,
    nn.RMSNorm, nn.MaxPool2d, nn.AvgPool2d,
)  # fmt: skip
Source = str | os.PathLike | Mapping[str, Any]


def match(model: Model, source: Source, names: Mapping[str, str] | None = None) -> Match:
    """Which tensor of the source would go where, without changing the model. Raises as `load` does."""
    return _match(model, source, names)[0]


def load(model: Model, source: Source, names: Mapping[str, str] | None = None) -> Match:
    """Write weights of a PyTorch or Keras network into a model; returns which tensor went where.

    `source` is the path of a `.safetensors` file, a dict of arrays or of PyTorch tensors, such as `net.state_dict()`,
    or the path of a `.weights.h5` file of Keras 3. Layouts are converted: for PyTorch, kernels from OIHW to HWIO,
    matrices from (out, in) to (in, out), and the joint projections of attention; for both, the order of gates. Layers
    are matched by name, or by order and shapes (`xpnet.weights.matching`). Where that is ambiguous, `names` maps paths
    of layers here to modules there: {"layers.0": "conv1"} or {"layers.0": "layers/conv2d_1"}. A source with the names
    of the model itself (`Model.tensors`) is loaded without any conversion.

    Raises ValueError, which lists everything that does not fit, or for values that are not finite; ModelFileError for
    an incomplete or unsuitable file. The model is then unchanged.
    """
    found, tensors = _match(model, source, names)
    values: Arrays = {}
    for pair in found.pairs:
        converted = pair.part.to_ours({name: tensors[whole] for name, whole in pair.names.items()})
        values |= {joined(pair.part.path, name): converted[name] for name in pair.part.ours}
    check_tensors(values, {name: p.shape for name, p in model.parameters.items()}, model.backend.dtype)
    for name, parameter in model.parameters.items():
        parameter.data[...] = model.backend.asarray(values[name].astype(model.backend.dtype))
    return found


def _match(model: Model, source: Source, names: Mapping[str, str] | None) -> tuple[Match, Arrays]:
    """Which tensor goes where, and the tensors of the source."""
    of_kind("weights go into a Model, such as nn.Model(network, shape, backend)", model, Model)
    of_kind('names must be a dict from layers to modules, such as {"layers.0": "conv1"}', names, (Mapping, type(None)))
    if isinstance(source, (str, os.PathLike)) and Path(source).suffix in (".h5", ".hdf5"):
        held = h5.read(check_file(Path(source)))
        tensors = {joined(module, name): values for module, inside in held.items() for name, values in inside.items()}
        modules = {module: {name: v.shape for name, v in inside.items()} for module, inside in held.items()}
        in_order = all(re.fullmatch("layers/[^/]+", module) for module in modules)  # else models or layers are nested
        return paired(list(keras.parts_of(model.network)), modules, names, in_order), tensors
    tensors = arrays_of(source)
    if tensors.keys() == model.parameters.keys():
        own: Modules = {name: {"": values.shape} for name, values in tensors.items()}
        return paired(own_parts(model.parameters), own, names, in_order=True), tensors
    found = paired(list(parts_of(model.network)), modules_of(tensors), names, has_order(source))
    warn_of_flattened(model)
    return found, tensors


def warn_of_flattened(model: Model) -> None:
    """Warn if outputs of convolutions are flattened channels last before a Linear layer.

    PyTorch flattens them channels first, so the rows of that layer's matrix are in another order. The warning points to
    the user's line.
    """
    channels, flattened = 0, ""
    for path, layer in _in_line(model.network):
        if isinstance(layer, nn.Flatten) or (isinstance(layer, nn.Reshape) and len(layer.shape) == 1):
            flattened = path if channels > 1 else ""
        elif isinstance(layer, nn.Linear):
            if flattened and layer.W.shape[0] > channels:
                words = f"{flattened} flattens channels last, PyTorch channels first: put nn.Transpose(2, 0, 1) before "
                words += (
                    f"{flattened} (nn.Transpose(1, 0) for sequences), or the weights of {path} are in another order"
                )
                warnings.warn(words, stacklevel=_level_of_user())
            channels, flattened = 0, ""
        else:
            channels = _channels(layer, channels)


def _channels(layer: Layer, channels: int) -> int:
    """The number of channels (last axis) that a layer returns for an input with `channels`; 0 if unknown."""
    if isinstance(layer, nn.Conv2d):
        return layer.n_out
    if isinstance(layer, nn.Sequential):  # a Residual too: its sum has the channels of its inner layers
        return reduce(lambda before, inner: _channels(inner, before), layer.layers, channels)
    if isinstance(layer, nn.Parallel):
        known = all(_channels(branch, channels) for branch in layer.branches)
        return next(iter(layer._shapes.values()))[-1] if known else 0  # it may join along any axis
    return channels if isinstance(layer, KEEP_CHANNELS) else 0


def _in_line(layer: Layer, path: str = "") -> Iterator[tuple[str, Layer]]:
    """The layers one after the other; branches are represented by the layer that holds them."""
    if not isinstance(layer, (nn.Sequential, nn.Blocked)):
        yield path, layer
        return
    for key, inner in layer.children():
        yield from _in_line(inner, joined(path, key))


def _level_of_user() -> int:
    """The `stacklevel`, for the calling function, that makes a warning point outside of the package."""
    level, frame = 1, inspect.currentframe()
    while frame is not None and frame.f_globals.get("__name__", "").startswith("xpnet."):
        level, frame = level + 1, frame.f_back
    return level - 1
