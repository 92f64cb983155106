"""Weights from elsewhere as arrays of the host, by name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.nn.saving import ModelFileError

MOST_BYTES = 1 << 33
PICKLES = (b"PK\x03\x04", b"\x80")  # torch.save, today and before: an archive with a pickle in it, or a pickle
CONVERT = """it holds a pickle, which can run any program when it is opened: xpnet reads none. Where you trust it:
    import torch, safetensors.torch
    safetensors.torch.save_file(torch.load({name!r}, weights_only=True), {new!r})"""


def arrays_of(source: Any) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file, or of a dict of arrays or PyTorch tensors, in the order that they have there.

    Raises ModelFileError for what is no such file, TypeError for what is no such dict.
    """
    if isinstance(source, (str, os.PathLike)):
        return _read(Path(source))
    if not isinstance(source, Mapping):
        raise TypeError(
            f"weights come from a .safetensors file or a dict of arrays, not from a {type(source).__name__}"
        )
    arrays = {}
    for name, value in source.items():
        if hasattr(value, "detach"):  # a tensor of PyTorch's, which NumPy knows in some dtypes only
            value = value.detach().cpu()
            value = value.double() if value.is_floating_point() else value
        arrays[str(name)] = np.asarray(value)
        if arrays[str(name)].dtype.kind not in "fiub":
            raise TypeError(f"{name} is a {type(source[name]).__name__}, not an array of numbers")
    return arrays


def check_file(path: Path) -> Path:
    """The same path. Raises FileNotFoundError for what is no file, ModelFileError for one that is not to be read."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: {'a folder' if path.is_dir() else 'no such file'}")
    if path.stat().st_size > MOST_BYTES:
        raise ModelFileError(f"{path}: {path.stat().st_size:,} bytes are beyond the limit of {MOST_BYTES:,}")
    if path.suffix == ".keras":
        raise ModelFileError(f"{path} is a whole model of Keras: save its weights, model.save_weights('x.weights.h5')")
    return path


def _read(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, deserialize, safe_open

    with open(check_file(path), "rb") as file:
        start = file.read(9)
        if start.startswith(PICKLES) and not start.endswith(b"{"):  # a safetensors file has JSON after 8 bytes
            raise ModelFileError(f"{path}: " + CONVERT.format(name=path.name, new=path.stem + ".safetensors"))
    try:
        tensors = {name: _array(tensor) for name, tensor in deserialize(path.read_bytes())}
        with safe_open(path, framework="numpy") as file:
            is_model = "xpnet" in (file.metadata() or {})
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ModelFileError(f"{path} is not a whole safetensors file: {error}") from None
    if is_model:
        raise ModelFileError(f"{path} is a model file of xpnet, network and all: xpnet.load({str(path)!r}) opens it")
    return tensors


DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "BOOL": "?"}  # fmt: skip


def _array(tensor: dict[str, Any]) -> np.ndarray:
    if tensor["dtype"] == "BF16":  # the upper half of a float32
        values = (np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
    elif tensor["dtype"] in DTYPES:
        values = np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]])
    else:
        raise ValueError(f"it holds numbers of dtype {tensor['dtype']}")
    return values.reshape(tensor["shape"])
