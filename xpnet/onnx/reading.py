"""Loading ONNX files. Nothing in a file is trusted: sizes are checked before memory is allocated."""

from __future__ import annotations

import json
import os
from itertools import chain as flattened
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import ModelProto, TensorProto

from xpnet import nn
from xpnet.backend import select
from xpnet.nn.loading import MOST_LAYERS, MOST_VALUES
from xpnet.nn.model import Model
from xpnet.nn.saving import ModelFileError
from xpnet.nn.shapes import Shape, size_of
from xpnet.onnx.chain import Chain
from xpnet.onnx.graph import in_order
from xpnet.onnx.structure import BATCH, GraphReader

OLDEST_OPSET = 13
MOST_BYTES = 1 << 30  # limit for a file, and for all its external data together


def load(path: str | os.PathLike, device: str | None = None, output: str | None = None) -> Model:
    """The network in an ONNX file as a model of layers, which can be trained further, on any device (see `select`).

    Its input and output are those of the file, with axes in the file's order: images are (N, C, H, W) if PyTorch wrote
    it. Values are float32, whatever their dtype in the file. Weights that two nodes share are copied, one for each.
    `output` names the output to use, by default the only one of floating point numbers.

    Raises `ModelFileError` if the file is truncated, too large or inconsistent, refers to data outside of its folder,
    or has an operator that corresponds to no layer (the message names the node); OSError if it cannot be read.
    """
    path = Path(path)
    try:
        return model_of(read(path), device, output)
    except (ModelFileError, RecursionError, ValueError) as error:
        why = "the nodes are nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ModelFileError(f"{path}: {why}") from None


def model_of(file: ModelProto, device: str | None = None, output: str | None = None) -> Model:
    """The same as `load`, for a file in memory."""
    reader = GraphReader(file, output)
    batch, *rest = _shape_of_input(file, reader.input)
    reader.batch = batch or BATCH
    shape = tuple(rest)
    chain = Chain(reader, shape, in_order(len(shape) + 1), {})
    reader.shapes[reader.input] = chain.dims
    chain.follow(reader.steps())
    chain.plain()
    if size_of(chain.shape) > MOST_VALUES:
        raise ModelFileError(f"an output has shape {chain.shape}, more than the limit of {MOST_VALUES:,} values")
    network = nn.Sequential(*chain.layers)
    tensors = {
        f"{place}.{name}": np.asarray(value)
        for place, layer in network.walk()
        for name, value in chain.values.get(id(layer), {}).items()
    }
    return Model(network, shape, select(device, "float32"), reader.classes or _classes(file), tensors)


def read(path: Path) -> ModelProto:
    """The file as an `onnx.ModelProto`, checked, with the data that it keeps in other files."""
    if not path.is_file():
        raise FileNotFoundError(f"no ONNX file at {path}: {'a folder' if path.is_dir() else 'no such file'}")
    if path.stat().st_size > MOST_BYTES:
        raise ModelFileError(f"the file has {path.stat().st_size:,} bytes, more than the limit of {MOST_BYTES:,}")
    try:
        file = onnx.load_model_from_string(path.read_bytes())
    except (DecodeError, ValueError) as error:
        raise ModelFileError(f"not a complete ONNX file: {error}") from None
    if not file.graph.node:
        raise ModelFileError("not a complete ONNX file: it has no graph")
    if len(file.graph.node) > MOST_LAYERS:
        raise ModelFileError(f"the graph has {len(file.graph.node):,} nodes, more than the limit of {MOST_LAYERS:,}")
    if file.graph.sparse_initializer:
        raise ModelFileError("the graph has sparse initialisers, which cannot be read")
    version = max((s.version for s in file.opset_import if s.domain in ("", "ai.onnx")), default=0)
    if version < OLDEST_OPSET:
        raise ModelFileError(
            f"operator set {version} is too old: export the network again with {OLDEST_OPSET} or later"
        )
    _take_in_data(file, path.parent)
    try:
        onnx.checker.check_model(file)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise ModelFileError(f"not a valid ONNX file: {str(error).strip()}") from None
    return file


def _take_in_data(file: ModelProto, folder: Path) -> None:
    """Read tensors that are stored in other files, which must be in the same folder."""
    total = 0
    constants = (a.t for node in file.graph.node for a in node.attribute if a.HasField("t"))
    for tensor in flattened(file.graph.initializer, constants):
        if tensor.data_location != TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        data = _inside(folder, entries.get("location", ""), tensor.name)
        offset = _number(entries.get("offset", "0"), tensor.name)
        length = _number(entries.get("length", str(max(data.stat().st_size - offset, 0))), tensor.name)
        total += length
        if offset + length > data.stat().st_size or total > MOST_BYTES:
            raise ModelFileError(
                f"the data of {tensor.name!r} are cut off, or exceed the limit of {MOST_BYTES:,} bytes"
            )
        with open(data, "rb") as stream:
            stream.seek(offset)
            tensor.raw_data = stream.read(length)
        tensor.data_location = TensorProto.DEFAULT
        del tensor.external_data[:]


def _inside(folder: Path, location: str, name: str) -> Path:
    """The path of the data file, checked to be inside the folder after following links."""
    data = Path(os.path.realpath(folder / location)) if "\0" not in location else folder
    if not location or os.path.realpath(folder) not in map(str, data.parents):
        raise ModelFileError(f"the data of {name!r} are at {location!r}, which is not inside the file's folder")
    if not data.is_file():
        raise ModelFileError(f"the data of {name!r} are missing: there is no file {location!r} in the file's folder")
    return data


def _number(text: str, name: str) -> int:
    if not text.isdecimal() or len(text) > 18:
        raise ModelFileError(f"the data of {name!r} have an impossible offset or length, {text!r}")
    return int(text)


def _shape_of_input(file: ModelProto, name: str) -> Shape:
    """The shape of the input with the batch; None for an axis without a number in the file."""
    (kind,) = (i.type.tensor_type for i in file.graph.input if i.name == name)
    sizes: list[Any] = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    if not sizes:
        raise ModelFileError(f"the input {name!r} has no batch axis")
    shape = tuple(sizes)
    if any(n is not None and n < 1 for n in shape[1:]) or size_of(shape[1:]) > MOST_VALUES:
        limits = f"axes must be >= 1, and a sample may have {MOST_VALUES:,} values at most"
        raise ModelFileError(f"the input {name!r} has shape {shape}: {limits}")
    return shape


def _classes(file: ModelProto) -> list[str]:
    """The class names that `export` wrote, or an empty list."""
    try:
        classes = json.loads({p.key: p.value for p in file.metadata_props}.get("classes", "[]"))
    except (ValueError, RecursionError):
        return []
    return classes if isinstance(classes, list) and all(isinstance(name, str) for name in classes) else []
