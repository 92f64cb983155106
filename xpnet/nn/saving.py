"""A model as one safetensors file: the tensors by name, the architecture as JSON in the file's metadata.

Nothing in a file is ever executed or unpickled: it names classes of layers, which must be known already, and
gives the arguments they are made with.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import DTYPES, select
from xpnet.files import replacing
from xpnet.nn.init import Initializer, named
from xpnet.nn.layer import Layer, construct

if TYPE_CHECKING:
    from xpnet.nn.model import Model

FORMAT = 1
RUN_PREFIX = "run/"  # tensors of a checkpoint that are not the model's


class ModelFileError(ValueError):
    """A file that is no model, or not a whole one; the message says what is wrong with it."""


def save(model: Model, path: str | os.PathLike) -> None:
    """Write the model to `path` (its folder must exist); what was there before stays until the new file is whole."""
    write_tensors(path, model.tensors(), description(model))


def description(model: Model) -> dict[str, Any]:
    """All there is to know of a model but its values, JSON-able."""
    return {
        "format": FORMAT,
        "input_shape": list(model.input_shape),
        "classes": list(model.classes),
        "dtype": str(model.backend.dtype),
        "network": describe(model.network),
    }


def load(path: str | os.PathLike, device: str | None = None, dtype: str | None = None, seed: int = 0) -> Model:
    """The model in the file (or the checkpoint) at `path`, on any device (see `select`).

    Without `dtype`, in the one it was saved in.

    Layers of your own must be imported before. Raises `ModelFileError` for what is no model (cut short, sizes
    that lie, an unknown layer, values that are missing, of another shape or not finite), OSError for a file that
    cannot be read.
    """
    tensors, described = read_tensors(path)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(RUN_PREFIX)}
    return model_from(own, described, path, lambda saved: select(device, dtype or saved, seed))


def write_tensors(path: str | os.PathLike, tensors: dict[str, np.ndarray], described: dict[str, Any]) -> None:
    """A safetensors file with `described` as JSON in its metadata; what `read_tensors` reads. OSError if it fails."""
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"xpnet": json.dumps(described)})
        except SafetensorError as error:  # a full disk, most often
            raise OSError(f"cannot write {os.fspath(path)}: {error}") from None


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors of a safetensors file and the JSON that this package put into its metadata."""
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model at {path}: {'a folder' if path.is_dir() else 'no such file'}")
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} is not a whole safetensors file: {error}") from None
    try:
        return tensors, json.loads(metadata["xpnet"])
    except (KeyError, ValueError, RecursionError):
        raise ModelFileError(f"{path} is a safetensors file, but not one that xpnet has written") from None


def model_from(tensors: dict[str, np.ndarray], described: Any, path: Any, backend_for: Any) -> Model:
    """The model that `described` (see `description`) and these tensors make, on `backend_for(saved dtype)`."""
    from xpnet.nn.model import Model, declare

    try:
        if described["format"] != FORMAT:
            raise ModelFileError(f"{path} has model format {described['format']}; this xpnet reads {FORMAT}")
        network = restore(described["network"], {})
        shape = tuple(int(n) for n in described["input_shape"])
        outputs, parameters = declare(network.copy(), shape)  # on shapes alone: memory is taken once they agree
        _check_tensors(tensors, {name: p.shape for name, p in parameters.items()}, path)
        classes, dtype = [str(c) for c in described["classes"]], str(described["dtype"])
        if classes and len(classes) != outputs[-1]:
            raise ModelFileError(f"{path} has {len(classes)} class names for {outputs[-1]} outputs")
        if dtype not in DTYPES:
            raise ModelFileError(f"{path} has the unknown dtype {dtype!r}: there is {', '.join(DTYPES)}")
    except ModelFileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError) as error:
        raise ModelFileError(f"{path} does not describe a network: {type(error).__name__} {error}") from None
    return Model(network, shape, backend_for(dtype), classes, tensors)


def _check_tensors(tensors: dict[str, np.ndarray], expected: dict[str, tuple], path: Any) -> None:
    missing, extra = expected.keys() - tensors.keys(), tensors.keys() - expected.keys()
    if missing or extra:
        raise ModelFileError(f"{path}: tensors missing {sorted(missing)}, tensors of no layer {sorted(extra)}")
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ModelFileError(f"{path}: {name} has shape {tensors[name].shape}, the network wants {shape}")
        if not np.isfinite(tensors[name]).all():
            raise ModelFileError(f"{path}: {name} holds values that are not finite")


# The architecture as JSON ---------------------------------------------------------------------------------


def describe(value: Any, seen: dict[int, int] | None = None) -> Any:
    """A layer (or an argument of one) as JSON. A layer met again is written as {"same_as": its number}."""
    seen = {} if seen is None else seen
    if isinstance(value, Layer):
        if id(value) in seen:
            return {"same_as": seen[id(value)]}
        seen[id(value)] = len(seen)
        return {"layer": type(value).__name__, **{k: describe(v, seen) for k, v in value.config().items()}}
    if isinstance(value, Initializer):
        return {"initializer": value.name, "value": value.value}
    if isinstance(value, (list, tuple)):
        return [describe(v, seen) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"an argument of a layer is {value!r}: only numbers, texts, lists and layers can be saved")


def restore(value: Any, seen: dict[int, Layer]) -> Any:
    """What `describe` described. Raises `ModelFileError` for a layer that is not known here."""
    if isinstance(value, list):
        return [restore(v, seen) for v in value]
    if not isinstance(value, dict):
        return value
    if "same_as" in value:
        return seen[value["same_as"]]
    if "initializer" in value:
        return named(value["initializer"], value["value"])
    kind = known_layers().get(value["layer"])
    if kind is None:
        raise ModelFileError(
            f"it has a layer {value['layer']!r}, which is not known here: "
            "import the module that defines it before loading"
        )
    number = len(seen)
    seen[number] = Layer()  # takes the number that `describe` gave it, before its children take theirs
    try:
        layer = construct(kind, {k: restore(v, seen) for k, v in value.items() if k != "layer"})
    except ValueError as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"a layer {value['layer']} cannot be made: {error}") from None
    seen[number] = layer
    return layer


def known_layers() -> dict[str, type[Layer]]:
    """All layer classes that have been defined, by name; the newest of that name wins."""

    def subclasses(kind: type[Layer]) -> Iterator[type[Layer]]:
        for sub in kind.__subclasses__():
            yield sub
            yield from subclasses(sub)

    return {kind.__name__: kind for kind in subclasses(Layer)}
