"""The format of a model's file, safetensors: tensors by name, and the architecture as JSON in the file's metadata.

Nothing in a file is ever executed or unpickled: it names classes of layers, which must be known already, and
gives the arguments to make them with.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np

from xpnet.files import replacing
from xpnet.nn.init import Initializer, named
from xpnet.nn.layer import Layer, construct, kind_name

FORMAT = 1
OTHER_FILES = {
    ".onnx": "onnx.load reads",
    ".h5": "weights.load reads",
    **dict.fromkeys((".keras", ".pt", ".pth"), "weights.load says how to convert"),
}
RUN_PREFIX = "run/"  # begins the names of a checkpoint's tensors that are not the model's


class ModelFileError(ValueError):
    """A file that is no model, or an incomplete one; the message says what is wrong with it."""


def description(model: Any) -> dict[str, Any]:
    """Everything about a model except its values, as data that JSON can hold."""
    return {
        "format": FORMAT,
        "input_shape": model.input_shape,
        "classes": list(model.classes),
        "dtype": str(model.backend.dtype),
        "network": describe(model.network),
    }


def write_tensors(path: str | os.PathLike, tensors: dict[str, np.ndarray], described: dict[str, Any]) -> None:
    """Write a safetensors file with `described` as JSON in its metadata. Raises OSError if that fails."""
    import json  # imported here, like safetensors, to keep `from xpnet import nn` light

    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    with replacing(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={"xpnet": json.dumps(described)})
        except SafetensorError as error:  # a full disk, most often
            raise OSError(f"cannot write {os.fspath(path)}: {error}") from None


def read_tensors(path: str | os.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The tensors of a safetensors file and the JSON that this package put into its metadata."""
    import json

    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no model at {path}: {'a folder' if path.is_dir() else 'no such file'}")
    with open(path, "rb"):  # a locked file raises the system's own error: safetensors says there is no file
        pass
    try:
        with safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, ValueError, TypeError, AttributeError) as error:
        other = OTHER_FILES.get(path.suffix.lower())
        why = f"in Python, xpnet.{other} such files" if other else str(error)
        raise ModelFileError(f"{path} is not a complete safetensors file: {why}") from None
    try:
        return tensors, json.loads(metadata["xpnet"])
    except (KeyError, ValueError, RecursionError):
        raise ModelFileError(f"{path} is a safetensors file, but not one that xpnet has written") from None


# The architecture as JSON ---------------------------------------------------------------------------------


def describe(value: Any, seen: dict[int, int] | None = None) -> Any:
    """A layer (or an argument of one) as JSON. A layer met again is written as {"same_as": its number}."""
    seen = {} if seen is None else seen
    if isinstance(value, Layer):
        if id(value) in seen:
            return {"same_as": seen[id(value)]}
        seen[id(value)] = len(seen)
        # "layer" holds the class, so an argument called "layer" is written as "layer=", which no name can be.
        arguments = {"layer=" if k == "layer" else k: describe(v, seen) for k, v in value.config().items()}
        return {"layer": _name_of(value), **arguments}
    if isinstance(value, np.generic):
        return describe(value.item(), seen)
    if isinstance(value, Initializer):
        named(value.name, value.value)  # ValueError for an initializer of your own: it could not be read back
        return {"initializer": value.name, "value": value.value}
    if isinstance(value, (list, tuple)):
        return [describe(v, seen) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"an argument of a layer is {value!r}: only numbers, strings, lists and layers can be saved")


def _name_of(layer: Layer) -> str:
    """The name of the layer's class.

    Raises TypeError if a function has since defined another class of that name: a file could not tell the two apart.
    """
    name = kind_name(type(layer))
    if "<locals>" in name and _does(Layer.known[name]) != _does(type(layer)):
        raise TypeError(
            f"another layer class is called {name} by now: define the class once, and pass what differs to its __init__"
        )
    return name


def _does(kind: type) -> dict[str, Any]:
    """What a class does, to compare it with another of its name: its code, and the values that the code uses."""
    does: dict[str, Any] = {}
    for name, value in vars(kind).items():
        if isinstance(value, FunctionType):
            around = [cell.cell_contents for cell in value.__closure__ or ()]
            does[name] = value.__code__, value.__defaults__, [_plain(seen) for seen in around if seen is not kind]
        elif not name.startswith("__"):
            does[name] = _plain(value)
    return does


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, tuple, type(None))) else id(value)


def restore(value: Any, seen: dict[int, Layer]) -> Any:
    """What `describe` described. Raises `ModelFileError` for a layer that is not known here."""
    if isinstance(value, list):
        return [restore(v, seen) for v in value]
    if not isinstance(value, dict):
        return value
    if "layer" not in value:  # checked first, as a layer's arguments may have the other two names
        if "initializer" in value:
            return named(value["initializer"], value["value"])
        if type(seen[value["same_as"]]) is Layer:
            raise ModelFileError("a layer contains itself")
        return seen[value["same_as"]]
    kind = Layer.known.get(value["layer"])
    if kind is None:
        raise ModelFileError(
            f"it has a layer {value['layer']!r}, which is not known here: "
            "import the module that defines it before loading"
        )
    number = len(seen)
    seen[number] = Layer()  # holds the number that `describe` gave the layer, before its children get theirs
    try:
        layer = construct(kind, {k.removesuffix("="): restore(v, seen) for k, v in value.items() if k != "layer"})
    except ValueError as error:
        if isinstance(error, ModelFileError):
            raise
        raise ModelFileError(f"a layer {value['layer']} cannot be made: {error}") from None
    seen[number] = layer
    return layer
