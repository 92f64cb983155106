"""The weights in a `.weights.h5` file of Keras 3, read with h5py.

A layer's variables are at `layers/dense_1/vars/0` and so on, numbered in the order in which the layer created them. A
recurrent layer's are at its cell, `layers/lstm/cell/vars/0`. Layers of one class are numbered in the order of the
model: dense, dense_1, .. (keras/src/saving/saving_lib.py). Files of Keras 2 have another structure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.nn.saving import ModelFileError
from xpnet.weights.reading import MOST_BYTES

MOST_DEPTH = 64  # of nested groups
VARIABLES = {  # the variables in the order of their numbers, by class of layer
    "dense": ("kernel", "bias"),
    "conv1d": ("kernel", "bias"),
    "conv2d": ("kernel", "bias"),
    "embedding": ("embeddings",),
    "batch_normalization": ("gamma", "beta", "moving_mean", "moving_variance"),
    "layer_normalization": ("gamma", "beta"),
}
OF_A_CELL = ("kernel", "recurrent_kernel", "bias")
BACKWARD = "backward "  # prefix of the names of a Bidirectional layer's backward half
NOT_WEIGHTS = ("optimizer", "seed_generator", "_metrics", "metrics", "_loss_tracker")  # groups that are skipped


def read(path: Path) -> dict[str, dict[str, np.ndarray]]:
    """The variables by layer ("layers/dense_1") and name ("kernel"), with layers in the order of their numbers.

    Raises ModuleNotFoundError without h5py, ModelFileError if it is no such file or holds an unknown layer.
    """
    try:
        import h5py
    except ModuleNotFoundError as error:
        message = f'reading {path} needs h5py ({error}): pip install "xpnet[keras]"'
        raise ModuleNotFoundError(message, name=error.name) from None
    try:
        with h5py.File(path, "r") as file:
            if "layer_names" in file.attrs:
                raise ModelFileError(
                    f"{path} is a file of Keras 2: load it in Keras 3, and save it there with "
                    "model.save_weights('x.weights.h5')"
                )
            groups = dict(_variables(file, h5py))
    except ModelFileError:
        raise
    except ValueError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except (OSError, RuntimeError, KeyError) as error:
        raise ModelFileError(f"{path} is not a complete .weights.h5 file: {error}") from None
    modules: dict[str, dict[str, np.ndarray]] = {}
    unknown = []
    for place in sorted(groups, key=_in_order):
        name, arrays = groups[place]
        module, variables = _named(place, name, arrays)
        modules.setdefault(module, {}).update(zip(variables, arrays, strict=False))
        if len(variables) < len(arrays):
            unknown.append(place or "the model itself")
    if unknown or not modules:
        what = f"variables of layers that xpnet cannot read: {', '.join(unknown)}" if unknown else "no variables"
        raise ModelFileError(f"{path} holds {what}")
    return modules


def _variables(group: Any, h5py: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, tuple[str, list]]]:
    """(path, (name of the layer in Keras, its variables)) of all groups inside that have variables."""
    if depth > MOST_DEPTH:
        raise ValueError(f"groups are nested more than {MOST_DEPTH} deep")
    for key in group:
        inner = f"{place}/{key}".strip("/")
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise ValueError(f"{inner} is a link, which is not followed")
        item = group[key]
        if isinstance(item, h5py.Group) and key == "vars":
            if len(item):
                yield place, (str(item.attrs.get("name", "")), [_array(item, str(i), h5py) for i in range(len(item))])
        elif isinstance(item, h5py.Group) and key not in NOT_WEIGHTS:
            yield from _variables(item, h5py, inner, depth + 1)


def _array(group: Any, key: str, h5py: Any) -> np.ndarray:
    link = group.get(key, getlink=True)
    if link is not None and not isinstance(link, h5py.HardLink):  # any other link is not even opened
        raise ValueError(f"{group.name}/{key} is a link, which is not followed")
    found = None if link is None else group[key]
    if not isinstance(found, h5py.Dataset):
        raise ValueError(f"{group.name} lacks variable {key}: it has {', '.join(sorted(group))}")
    if found.external or found.is_virtual:
        raise ValueError(f"the data of {found.name} are in another file, which is not read")
    if found.dtype.kind not in "fiu":
        raise ValueError(f"{found.name} holds values of dtype {found.dtype}, not numbers")
    if math.prod(found.shape) * found.dtype.itemsize > MOST_BYTES:
        raise ValueError(f"{found.name} of shape {found.shape} exceeds the limit of {MOST_BYTES:,} bytes")
    return found[()]


def _named(place: str, name: str, arrays: list[np.ndarray]) -> tuple[str, list[str]]:
    """(path of the layer, names of its known variables) of a group. `name` is the layer's name in Keras."""
    before, parts = "", place.split("/")
    if parts[-1] == "cell":
        parts.pop()
        if parts[-1] in ("forward_layer", "backward_layer"):
            before = BACKWARD if parts.pop() == "backward_layer" else ""
        if len(arrays) == 3 and arrays[2].ndim == 1 and arrays[1].shape[-1] == 3 * len(arrays[1]):
            raise ModelFileError(
                f"{'/'.join(parts)} is a GRU with reset_after=False, which has another formula than nn.GRU: in Keras, "
                "build it with reset_after=True and train it again"
            )
        return "/".join(parts), [before + variable for variable in OF_A_CELL]
    # In a Sequential or Functional model, the path names the layer's class; elsewhere the layer's name may do so.
    classes = (re.sub(r"_\d+$", "", text) for text in (parts[-1], name))
    return place, next((list(VARIABLES[c]) for c in classes if c in VARIABLES), [])


def _in_order(place: str) -> list[tuple[str, int]]:
    """A sort key: dense before dense_1, dense_9 before dense_10, a forward_layer before its backward_layer."""
    parts = [re.fullmatch(r"(.*?)(?:_(\d+))?", part) for part in place.split("/")]
    return [(part[1].replace("forward_layer", ""), int(part[2] or 0)) for part in parts if part]
