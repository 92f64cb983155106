"""Opening models: what a file says is checked before any memory is allocated for the model."""

from __future__ import annotations

import os
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backend import DTYPES, select
from xpnet.files import MODEL
from xpnet.nn.declared import check_tensors, declare
from xpnet.nn.layer import Layer
from xpnet.nn.model import Model
from xpnet.nn.saving import FORMAT, RUN_PREFIX, ModelFileError, read_tensors, restore
from xpnet.nn.shapes import as_shape, size_of
from xpnet.nn.through_time import Recurrent

# Limits, because a small file can describe an endless network, or samples that fill the memory.
MOST_LAYERS = 10_000
MOST_VALUES = 1 << 26  # in one sample: an image of 8192 x 8192


def load(path: str | os.PathLike, device: str | None = None, dtype: str | None = None, seed: int = 0) -> Model:
    """Load a model from the file or checkpoint at `path`, or from the run in that folder, on any device (see `select`).

    Without `dtype`, the model has the dtype that it was saved in.

    Layers of your own must be imported before. Raises `ModelFileError` for a file that is no valid model (truncated,
    with wrong sizes, an unknown layer, or values that are missing, of another shape or not finite), and OSError for a
    file that cannot be read.
    """
    if (of_run := Path(path) / MODEL).is_file():
        path = of_run
    tensors, described = read_tensors(path)
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith(RUN_PREFIX)}
    return model_from(own, described, path, lambda saved: select(device, dtype or saved, seed))


def model_from(tensors: dict[str, np.ndarray], described: Any, path: Any, backend_for: Any) -> Model:
    """The model made from `described` (see `description`) and these tensors, on `backend_for(saved dtype)`."""
    try:
        if described["format"] != FORMAT:
            raise ModelFileError(f"its model format is {described['format']}, but this version of xpnet reads {FORMAT}")
        dtype, shape = described["dtype"], as_shape(described["input_shape"])
        if dtype not in DTYPES:
            raise ModelFileError(f"its dtype {dtype!r} must be one of {', '.join(DTYPES)}")
        if len(shape) > 64:
            raise ModelFileError(f"its input shape has {len(shape)} axes: an array has at most 64")
        network = restore(described["network"], {})
        if any(n > MOST_LAYERS for n in accumulate(_depth(layer) for _, layer in network.walk())):
            raise ModelFileError(f"its network has more than {MOST_LAYERS} layers")
        outputs, parameters = declare(network.copy(), shape)  # on shapes alone: memory is allocated once they agree
        for samples, of in ((shape, "inputs"), (outputs, "outputs")):
            if size_of(samples) > MOST_VALUES:
                raise ModelFileError(f"its {of} have shape {samples}, more than the limit of {MOST_VALUES:,} values")
        check_tensors(tensors, {name: p.shape for name, p in parameters.items()}, np.dtype(dtype))
        classes = described["classes"]
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ModelFileError("its class names must be a list of strings")
        if classes and len(classes) != outputs[-1]:
            raise ModelFileError(f"{len(classes)} class names for {outputs[-1]} outputs")
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, IndexError, RecursionError) as error:
        why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise ModelFileError(f"{path} is not a model: {why}") from None
    return Model(network, shape, backend_for(dtype), classes, tensors)


def _depth(layer: Layer) -> int:
    """How many layers this one counts as: a recurrent layer makes as many as the file says."""
    return layer.layers if isinstance(layer, Recurrent) else 1
