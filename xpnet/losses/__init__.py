"""Losses: `loss(y, target, backend) -> (value, dy)`, the value a 0-d array on the device, dy of y's shape.

By default means over the batch, so that a learning rate means the same for any batch size. See `TermLoss` for what
all of them share: weights, masks and sums. Then `cross_entropy.py` and its neighbours, a file for each family.
"""

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
