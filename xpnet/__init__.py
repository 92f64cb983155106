"""xpnet: neural networks with hand-written forward and backward passes, on CPU (NumPy) and GPU (CuPy).

import xpnet
from xpnet import losses, nn, optim

backend = xpnet.select("auto", seed=0)
model = nn.Model(nn.mlp([784, 128, 10]), (784,), backend)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpnet import backend, bench, data, losses, nn, optim, parallel, scalar, schedules, train, verify, weights
    from xpnet.backend import Backend, BackendError, select
    from xpnet.nn import Layer, Model, Parameter, load
    from xpnet.train.debug import debug

__version__ = "0.1.0"

PARTS = (
    "backend", "bench", "data", "losses", "nn", "onnx", "optim", "parallel", "photo", "scalar", "schedules", "sklearn",
    "train", "verify", "weights",
)  # fmt: skip
PLACES = {
    **dict.fromkeys(("Backend", "BackendError", "select"), "backend"),
    **dict.fromkeys(("Layer", "Model", "Parameter", "load"), "nn"),
    "debug": "train.debug",
}


def __getattr__(name: str) -> Any:
    """Load each part when it is first used, so that the command line can answer Ctrl-C before NumPy is loaded."""
    if name in PARTS:
        return import_module(f"xpnet.{name}")
    if name in PLACES:
        return getattr(import_module(f"xpnet.{PLACES[name]}"), name)
    from xpnet.elsewhere import hint

    raise AttributeError(f"module 'xpnet' has no attribute {name!r}{hint('xpnet', name)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


__all__ = [
    "Backend",
    "BackendError",
    "Layer",
    "Model",
    "Parameter",
    "__version__",
    "backend",
    "bench",
    "data",
    "debug",
    "load",
    "losses",
    "nn",
    "optim",
    "parallel",
    "scalar",
    "schedules",
    "select",
    "train",
    "verify",
    "weights",
]
