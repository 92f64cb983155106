"""The weights file of a scalar network: JSON, checked when it is read.

A list of layers, first to last:

    {"label": "hidden", "activation": "relu", "ncount": 10, "wcount": 784, "neurons": [...]}

with `ncount` neurons of `wcount` weights each:

    {"data": [0.1, -0.2, ...], "bias": 0.5, "wcount": 784}

Files without "activation" are read as "relu" in every layer: so it is in the published weights of the
pure-Python tutorial network, whose format this is. Numbers are written so that exactly the same numbers are
read back.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

from xpnet.files import replacing

ACTIVATION_IF_ABSENT = "relu"


def read(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """The layers in `path`, as shown above, with all counts and numbers checked.

    Raises OSError if the file cannot be read, ValueError if it is not such a file: with the place and the
    reason.
    """
    try:
        layers = json.loads(Path(path).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # bad JSON, bad UTF-8, nested without end
        raise ValueError(f"{path} is not a weights file, or is cut short: {error}") from None
    try:
        return _checked(layers)
    except ValueError as error:
        raise ValueError(f"{path} is not a usable weights file: {error}") from None


def write(path: str | os.PathLike[str], layers: list[dict[str, Any]]) -> None:
    """Write `layers` to `path`. An older file is replaced whole or not at all, and keeps its permissions.

    Raises ValueError, before anything is written, if a number is nan or infinite; OSError if writing fails.
    """
    text = json.dumps(_checked(layers))
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _checked(layers: Any) -> list[dict[str, Any]]:
    if not isinstance(layers, list) or not layers:
        raise ValueError("it must be a list of at least one layer")
    checked = [_checked_layer(layer, f"layer {i}") for i, layer in enumerate(layers)]
    for i in range(1, len(checked)):
        outputs, inputs = checked[i - 1]["ncount"], checked[i]["wcount"]
        if inputs != outputs:
            raise ValueError(f"layer {i} has {inputs} weights per neuron, but layer {i - 1} has {outputs} neurons")
    return checked


def _checked_layer(layer: Any, where: str) -> dict[str, Any]:
    _need_keys(layer, ("label", "ncount", "wcount", "neurons"), where)
    activation = layer.get("activation", ACTIVATION_IF_ABSENT)
    if not isinstance(layer["label"], str) or not isinstance(activation, str):
        raise ValueError(f'{where}: "label" and "activation" must be text')
    neurons = _list_of(layer["neurons"], layer["ncount"], f'{where}: "neurons"')
    return {
        "label": layer["label"],
        "activation": activation,
        "ncount": layer["ncount"],
        "wcount": layer["wcount"],
        "neurons": [
            _checked_neuron(neuron, layer["wcount"], f"{where}, neuron {i}") for i, neuron in enumerate(neurons)
        ],
    }


def _checked_neuron(neuron: Any, wcount: Any, where: str) -> dict[str, Any]:
    _need_keys(neuron, ("data", "bias", "wcount"), where)
    if neuron["wcount"] != wcount:
        raise ValueError(f'{where}: "wcount" is {neuron["wcount"]!r:.40}, but {wcount!r:.40} for the layer')
    weights = _list_of(neuron["data"], wcount, f'{where}: "data"')
    return {
        "data": [_finite(w, f"{where}, weight {i}") for i, w in enumerate(weights)],
        "bias": _finite(neuron["bias"], f"{where}, bias"),
        "wcount": wcount,
    }


def _need_keys(record: Any, keys: tuple[str, ...], where: str) -> None:
    missing = [key for key in keys if not isinstance(record, dict) or key not in record]
    if missing:
        raise ValueError(f"{where}: no {', '.join(missing)}")


def _list_of(items: Any, count: Any, where: str) -> list[Any]:
    if not isinstance(items, list) or type(count) is not int or len(items) != count or count < 1:
        found = f"a list of {len(items)}" if isinstance(items, list) else f"a {type(items).__name__}"
        raise ValueError(f"{where}: {found}, but it must be a list as long as its count, >= 1, which is {count!r:.40}")
    return items


def _finite(x: Any, where: str) -> float:
    try:
        number = float(x) if type(x) in (int, float) else math.nan
    except OverflowError:  # a whole number of more than 308 digits
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{where}: {x!r:.40} is not a finite number")
    return number
