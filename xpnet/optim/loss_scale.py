"""Dynamic loss scaling, so that small gradients are not lost in float16."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from xpnet.backend import Array
from xpnet.nn import Model
from xpnet.nn.shapes import times

START, LOWEST, HIGHEST = 2.0**16, 2.0**-16, 2.0**24
EVERY = 2000  # good steps after which the scale is doubled


class LossScale:
    """Multiply the gradient of the loss by a scale before the backward pass, and divide the parameters' by it after.

    Without a scale, numbers below 3e-8 (half of the smallest positive float16) would be rounded to 0.

    If a gradient is then not finite, some number has exceeded 65,504, the largest of float16: the scale is halved, and
    the step is skipped. After 2000 good steps in a row the scale is doubled. Micikevicius et al., "Mixed precision
    training" (2018).

    All of this is arithmetic on the device, so that a step with it can be captured: a step to be skipped is made, and
    then undone from a copy of what it changes. Running statistics belong to the forward pass and are not undone; a
    schedule and a `WeightAverage` count the step all the same, as in PyTorch's usual loop. An overflow at the lowest
    scale cannot be cured by scaling: the step is not skipped, and the numbers that are not finite show up in the
    parameters.

    `state` is (scale, good steps since it changed, steps skipped so far).
    """

    def __init__(self, model: Model):
        self._model, self._xp = model, model.backend.xp
        self.state = model.backend.asarray(np.array([START, 0, 0], np.float32))
        self._pending = False  # whether the gradients are those of a scaled loss
        self._skip: Array | None = None  # on the device: whether the next step is to be undone

    @property
    def figures(self) -> dict[str, float]:
        """The scale and the number of skipped steps, for the history. Waits for the device."""
        scale, _, skipped = self._model.backend.to_host(self.state).tolist()
        return {"loss_scale": scale, "skipped_steps": skipped}

    @staticmethod
    def can_be(state: np.ndarray) -> bool:
        """Whether the numbers of a `state`, copied to the host, are possible."""
        scale, *counts = state.tolist()
        return LOWEST <= scale <= HIGHEST and min(counts) >= 0

    def scaled(self, dy: Array) -> Array:
        """dy, or each array of a tuple, times the scale."""
        self._pending = True
        return times(self.state[:1], dy)

    def unscale(self) -> None:
        """Divide the gradients by the scale if they were scaled; decide whether to skip the step; adapt the scale."""
        if not self._pending:
            return
        self._pending, model, xp = False, self._model, self._xp
        scale, good, skipped = (self.state[i : i + 1] for i in range(3))
        model.clear_frozen_gradients()
        model.grad *= 1 / scale  # a power of two: no digit is lost
        finite = xp.isfinite(model.grad).all()
        self._skip = xp.logical_not(finite) & (scale > LOWEST)
        grown = finite & (good >= EVERY - 1)
        good[...] = xp.where(finite & xp.logical_not(grown), good + 1, 0.0)
        scale[...] = xp.where(self._skip, scale / 2, xp.where(grown & (scale < HIGHEST), scale * 2, scale))
        skipped += self._skip

    @contextmanager
    def undone(self, arrays: Sequence[Array]) -> Iterator[None]:
        """Around an update of `arrays`: if the step is to be skipped, they get back the values from before."""
        self.unscale()
        if self._skip is None:  # the loss was not scaled
            yield
            return
        before = [array.copy() for array in arrays]
        yield
        for array, old in zip(arrays, before, strict=True):
            array[...] = self._xp.where(self._skip, old, array)
        self._skip = None
