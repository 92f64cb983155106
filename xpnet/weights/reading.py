"""Reading weights from other libraries as host arrays, by name."""

from __future__ import annotations

import os
import re
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.nn.saving import ModelFileError

IGNORED = "num_batches_tracked"  # a count that affects no output
MOST_BYTES = 1 << 33
PICKLES = (b"PK\x03\x04", b"\x80")  # of torch.save: a zip archive with a pickle in it, or formerly a pickle
CONVERT = """the file holds a pickle, which can run any program when it is opened, so xpnet does not read it. If you
trust the file, convert it:
    import torch, safetensors.torch
    safetensors.torch.save_file(torch.load({name!r}, weights_only=True), {new!r})"""


NUMPYS = "the file holds NumPy arrays, not tensors: pass them as a dict, dict(numpy.load({name!r}))"


def arrays_of(source: Any) -> dict[str, np.ndarray]:
    """The tensors of a .safetensors file, or of a dict of arrays or PyTorch tensors (in its order), by name.

    Raises ModelFileError if the file is no such file, TypeError if `source` is no such dict.
    """
    if isinstance(source, (str, os.PathLike)):
        return _read(Path(source))
    if not isinstance(source, Mapping):
        raise TypeError(
            "weights come from a file (.safetensors, .weights.h5), from net.state_dict() or a dict of arrays, not "
            f"from a {type(source).__name__}"
        )
    arrays = {}
    for name, value in source.items():
        if hasattr(value, "detach"):  # a PyTorch tensor; NumPy does not have all of its dtypes
            value = value.detach().cpu()
            value = value.float() if value.is_floating_point() and value.element_size() < 4 else value
        arrays[str(name)] = np.asarray(value)
        if arrays[str(name)].dtype.kind not in "fiub":
            raise TypeError(f"{name} is a {type(source[name]).__name__}, not an array of numbers")
    return arrays


def has_order(source: Any) -> bool:
    """Whether a source names its modules in the order of its network, as a `state_dict` does.

    A safetensors file does not keep it. A dict from `load_file` is sorted by dtype, then by name; there a module's bias
    comes before its weight, which never happens in a `state_dict`. If no module has two tensors, such a dict is
    recognised by names that are sorted within each dtype.
    """
    if isinstance(source, (str, os.PathLike)):
        return False
    by_dtype, by_module = defaultdict[str, list[str]](list), defaultdict[tuple[str, str], list[str]](list)
    for name, value in source.items():
        module, _, last = str(name).rpartition(".")
        if last != IGNORED:
            dtype = str(getattr(value, "dtype", ""))
            by_dtype[dtype].append(str(name))
            by_module[dtype, module].append(last)
    several = [names for names in by_module.values() if len(names) > 1]
    return any(names != sorted(names) for names in several or by_dtype.values())


def numbers(name: str) -> list[int]:
    """The numbers in a name, in their order."""
    return [int(n) for n in re.findall(r"\d+", name)]


def unnumbered(name: str) -> str:
    """The name with # for every number: the part that numbered modules have in common."""
    return re.sub(r"\d+", "#", name)


def check_file(path: Path) -> Path:
    """The path itself. Raises FileNotFoundError without such a file, ModelFileError if it cannot be used."""
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: {'a folder' if path.is_dir() else 'no such file'}")
    if path.stat().st_size > MOST_BYTES:
        raise ModelFileError(f"{path} has {path.stat().st_size:,} bytes, more than the limit of {MOST_BYTES:,}")
    if path.suffix == ".keras":
        raise ModelFileError(
            f"{path} is a whole Keras model: save its weights alone, model.save_weights('x.weights.h5')"
        )
    return path


def _read(path: Path) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError, deserialize, safe_open

    with open(check_file(path), "rb") as file:
        start = file.read(9)
        if start.startswith(PICKLES) and not start.endswith(b"{"):  # a safetensors file has JSON after 8 bytes
            if _is_npz(path):
                raise ModelFileError(f"{path}: " + NUMPYS.format(name=path.name))
            raise ModelFileError(f"{path}: " + CONVERT.format(name=path.name, new=path.stem + ".safetensors"))
    try:
        tensors = {name: _array(tensor) for name, tensor in sorted(deserialize(path.read_bytes()), key=itemgetter(0))}
        with safe_open(path, framework="numpy") as file:
            is_model = "xpnet" in (file.metadata() or {})
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise ModelFileError(f"{path} cannot be read as a safetensors file: {error}") from None
    if is_model:
        raise ModelFileError(
            f"{path} is a model file of xpnet, with its network: open it with xpnet.load({str(path)!r})"
        )
    return tensors


def _is_npz(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return all(name.endswith(".npy") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError):  # no zip archive, or a damaged one
        return False


DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1",
          "U64": "<u8", "U32": "<u4", "U16": "<u2", "BOOL": "?"}  # fmt: skip


def _array(tensor: dict[str, Any]) -> np.ndarray:
    if tensor["dtype"] == "BF16":  # the upper half of a float32
        values = (np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16).view(np.float32)
    elif tensor["dtype"] in DTYPES:
        values = np.frombuffer(tensor["data"], DTYPES[tensor["dtype"]])
    else:
        raise ValueError(f"tensors of dtype {tensor['dtype']} are not supported")
    return values.reshape(tensor["shape"])
