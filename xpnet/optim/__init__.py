"""Optimizers: each updates a model's flat buffer in place, so a whole network takes only a few operations.

In the formulas, x is the parameters, g the gradient of the loss with respect to them, and lr the learning rate; m, s
and v are state, which starts at 0. All of these but lr have shape (n_parameters,) and the backend's dtype. The
operations are elementwise, except in LAMB and Muon, which treat each parameter as a whole.

Whatever changes from step to step (rate, step count) is an array on the device, so that a step can be captured
and replayed. `lr` is set and read as a plain number.
"""

from typing import TYPE_CHECKING

from xpnet import elsewhere
from xpnet.optim.adaptive import AdaGrad, Adam, AdamW, NAdam, RMSProp
from xpnet.optim.average import WeightAverage
from xpnet.optim.base import Optimizer
from xpnet.optim.clip import clip_norm
from xpnet.optim.groups import Groups
from xpnet.optim.layerwise import LAMB, Muon
from xpnet.optim.sgd import SGD, Lion

__all__ = [
    "LAMB",
    "SGD",
    "AdaGrad",
    "Adam",
    "AdamW",
    "Groups",
    "Lion",
    "Muon",
    "NAdam",
    "Optimizer",
    "RMSProp",
    "WeightAverage",
    "clip_norm",
]

if not TYPE_CHECKING:  # which would then take any name for one that exists
    __getattr__ = elsewhere.names_of_module("optim", __all__)
