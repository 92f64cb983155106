"""Losses: `loss(y, target, backend) -> (value, dy)`; the value is a 0-d array on the device, dy has y's shape.

By default a loss is a mean over the batch, so that a learning rate means the same for any batch size. `TermLoss`
describes what all losses share: weights, masks and sums. Each family has its own file, such as `cross_entropy.py`.
"""

from typing import TYPE_CHECKING

from xpnet import elsewhere
from xpnet.losses.base import Loss, TermLoss
from xpnet.losses.cross_entropy import BinaryCrossEntropy, Focal, SoftmaxCrossEntropy
from xpnet.losses.divergence import KLDivergence
from xpnet.losses.margin import MultiMargin
from xpnet.losses.regression import CosineDistance, Huber, MeanAbsoluteError, MeanSquaredError

__all__ = [
    "BinaryCrossEntropy",
    "CosineDistance",
    "Focal",
    "Huber",
    "KLDivergence",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "MultiMargin",
    "SoftmaxCrossEntropy",
    "TermLoss",
]

if not TYPE_CHECKING:  # which would then take any name for one that exists
    __getattr__ = elsewhere.names_of_module("losses", __all__)
