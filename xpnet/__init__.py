"""xpnet: neural networks with hand-written forward and backward passes, on CPU (NumPy) and GPU (CuPy).

import xpnet
from xpnet import losses, nn, optim

backend = xpnet.select("auto", seed=0)
model = nn.Model(nn.mlp([784, 128, 10]), (784,), backend)
"""

from importlib import import_module
from types import ModuleType

from xpnet import backend, data, losses, nn, optim, schedules, train
from xpnet.backend import Backend, BackendError, select
from xpnet.nn import Layer, Model, Parameter, load
from xpnet.train.debug import debug

__version__ = "0.1.0"

LATER = ("scalar", "verify")  # subpackages that are loaded when they are first named


def __getattr__(name: str) -> ModuleType:
    if name in LATER:
        return import_module(f"xpnet.{name}")
    raise AttributeError(f"module 'xpnet' has no attribute {name!r}")


__all__ = [
    "Backend",
    "BackendError",
    "Layer",
    "Model",
    "Parameter",
    "__version__",
    "backend",
    "data",
    "debug",
    "load",
    "losses",
    "nn",
    "optim",
    "schedules",
    "select",
    "train",
]
