"""Clipping, between the backward pass and the update."""

from __future__ import annotations

from xpnet.nn import Model
from xpnet.optim.base import positive


def clip_norm(model: Model, limit: float) -> None:
    """Scale all gradients by the same factor, so that their norm together is at most `limit`.

    Between the backward pass and the update. Pascanu, Mikolov and Bengio (2013).
    """
    positive("limit", limit)
    for name in model.frozen:  # what is not updated does not count
        model.parameters[name].grad.fill(0)
    if model.n_parameters:
        xp = model.backend.xp
        largest = xp.maximum(xp.abs(model.grad).max(), limit)  # divided out first: a square overflows at 1e19
        scaled = model.grad / largest
        model.grad *= limit / largest / xp.maximum(xp.sqrt((scaled * scaled).sum()), limit / largest)
