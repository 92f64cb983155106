"""Gradient clipping, between the backward pass and the update."""

from __future__ import annotations

import numpy as np

from xpnet.arguments import SMALLEST, number
from xpnet.nn import Model
from xpnet.parallel.window import Window


def clip_norm(model: Model, limit: float, window: Window | None = None) -> None:
    """Scale all gradients by the same factor, so that their joint norm is at most `limit`.

    g <- g min(1, limit / |g|), where g is the gradient of the whole model (Pascanu, Mikolov and Bengio, 2013).

    Call it between the backward pass and the update. Frozen parameters do not count: their gradients are set to 0. If
    several processes share the update in a `window`, each scales its own part, by the norm of the whole gradient.
    """
    number("limit", limit, least=SMALLEST)
    model.clear_frozen_gradients()
    if model.n_parameters:
        xp, grad = model.backend.xp, model.grad if window is None else model.grad[window.own]
        limit = min(limit, float(np.finfo(grad.dtype).max))
        # The largest number is divided out first, as a square overflows at 1e19: |g| = largest sqrt(squares).
        largest = xp.maximum(xp.abs(grad).max(), limit) if grad.size else limit
        scaled = grad / largest
        squares = (scaled * scaled).sum()
        if window is not None:
            of_all = window.gather(largest, squares)
            largest = of_all[:, 0].max()
            squares = (of_all[:, 1] * (of_all[:, 0] / largest) ** 2).sum()
        grad *= limit / largest / xp.maximum(xp.sqrt(squares), limit / largest)
