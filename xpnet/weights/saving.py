"""Weights of a model for a PyTorch network."""

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

    The names are those of a `torch.nn.Sequential` of the same structure. For a PyTorch network that is built in another
    way, pass its state dict as `like`: the result has its names and order, and its entries that the model lacks, such
    as `num_batches_tracked`. `names` is as in `load`. Raises ValueError if `like` does not fit.
    """
    tensors, theirs = model.tensors(), {} if like is None else arrays_of(like)
    out: Arrays = {}
    for part, names_there in _places(model, like, names):
        assert part.to_theirs is not None  # every counterpart in PyTorch has one
        values = part.to_theirs({name: tensors[joined(part.path, name)] for name in part.ours})
        out |= {names_there[name]: np.ascontiguousarray(v) for name, v in values.items()}
        if like is None and "running_mean" in values:
            out[joined(part.module, IGNORED)] = np.array(0)
    return out if like is None else {name: out.get(name, values) for name, values in theirs.items()}


def _places(model: Model, like: Any, names: Any) -> list[tuple[Counterpart, dict[str, str]]]:
    """Each part with the full names of its tensors in PyTorch."""
    if like is not None:
        return [(pair.part, pair.names) for pair in match(model, like, names).pairs]
    warn_of_flattened(model)
    return [(part, {name: joined(part.module, name) for name in part.theirs}) for part in parts_of(model.network)]


def as_torch(model: Model, like: Mapping[str, Any] | None = None, names: Mapping[str, str] | None = None) -> Any:
    """`state_dict` as PyTorch tensors on the CPU: `net.load_state_dict(as_torch(model, net.state_dict()))`."""
    try:
        import torch
    except ModuleNotFoundError:
        raise ModuleNotFoundError("as_torch needs PyTorch: pip install torch", name="torch") from None
    return {name: torch.from_numpy(np.array(values)) for name, values in state_dict(model, like, names).items()}


def save(
    model: Model, path: str | os.PathLike, like: Mapping[str, Any] | None = None, names: Mapping[str, str] | None = None
) -> None:
    """Write `state_dict` as a safetensors file, for `safetensors.torch.load_file`. Raises OSError if that fails."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    tensors = state_dict(model, like, names)
    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary)
        except SafetensorError as error:
            raise OSError(f"cannot write {os.fspath(path)}: {error}") from None
