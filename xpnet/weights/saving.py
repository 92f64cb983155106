"""From a model to weights that a PyTorch network takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from xpnet.files import replacing
from xpnet.nn.model import Model
from xpnet.weights.layouts import Arrays, Counterpart, joined, parts_of
from xpnet.weights.loading import match, warn_of_flattened
from xpnet.weights.reading import IGNORED, arrays_of


def state_dict(model: Model, like: Mapping[str, Any] | None = None, names: Mapping[str, str] | None = None) -> Arrays:
    """The model's values as NumPy arrays under PyTorch's names and in its layouts.

    The names are those of a `torch.nn.Sequential` built alike; or those of `like`, the state dict of a network that is
    built in its own way, in its order and with whatever it counts besides. `names` is as in `load`.
    Raises ValueError where `like` does not fit.
    """
    tensors, theirs = model.tensors(), {} if like is None else arrays_of(like)
    out: Arrays = {}
    for part, names_there in _places(model, like, names):
        assert part.to_theirs is not None  # all of PyTorch's have it
        values = part.to_theirs({name: tensors[joined(part.path, name)] for name in part.ours})
        out |= {names_there[name]: np.ascontiguousarray(v) for name, v in values.items()}
        if like is None and "running_mean" in values:
            out[joined(part.module, IGNORED)] = np.array(0)
    return out if like is None else {name: out.get(name, values) for name, values in theirs.items()}


def _places(model: Model, like: Any, names: Any) -> list[tuple[Counterpart, dict[str, str]]]:
    """Each part with the names of its tensors."""
    if like is not None:
        return [(pair.part, pair.names) for pair in match(model, like, names).pairs]
    warn_of_flattened(model)
    return [(part, {name: joined(part.module, name) for name in part.theirs}) for part in parts_of(model.network)]


def as_torch(model: Model, like: Mapping[str, Any] | None = None, names: Mapping[str, str] | None = None) -> Any:
    """`state_dict` as tensors of PyTorch's on the CPU: `net.load_state_dict(as_torch(model, net.state_dict()))`."""
    try:
        import torch
    except ModuleNotFoundError:
        raise ModuleNotFoundError("as_torch needs PyTorch: pip install torch", name="torch") from None
    return {name: torch.from_numpy(np.array(values)) for name, values in state_dict(model, like, names).items()}


def save(
    model: Model, path: str | os.PathLike, like: Mapping[str, Any] | None = None, names: Mapping[str, str] | None = None
) -> None:
    """`state_dict` as a safetensors file, for `safetensors.torch.load_file`. OSError if it cannot be written."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors = state_dict(model, like, names)
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:
            raise OSError(f"cannot write {os.fspath(path)}: {error}") from None
