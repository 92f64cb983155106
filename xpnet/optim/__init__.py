"""Optimizers: each updates a model's flat buffer in place, so a whole network takes only a few operations.

Whatever changes from step to step (rate, step count) is an array on the device, so that a step can be captured
and replayed. `lr` is set and read as a plain number.
"""

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
