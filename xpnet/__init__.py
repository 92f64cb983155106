"""xpnet: neural networks with hand-written forward and backward passes, on CPU (NumPy) and GPU (CuPy).

import xpnet
from xpnet import losses, nn, optim

backend = xpnet.select("auto", seed=0)
model = nn.Model(nn.mlp([784, 128, 10]), (784,), backend)
"""

from xpnet import backend, data, losses, nn, optim, schedules, train
from xpnet.backend import Backend, BackendError, select
from xpnet.nn import Layer, Model, Parameter, load

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendError",
    "Layer",
    "Model",
    "Parameter",
    "__version__",
    "backend",
    "data",
    "load",
    "losses",
    "nn",
    "optim",
    "schedules",
    "select",
    "train",
]
