"""Dynamic loss scaling: small gradients survive float16."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from xpnet.backend import Array
from xpnet.nn import Model
from xpnet.nn.shapes import each

START, LOWEST, HIGHEST = 2.0**16, 2.0**-16, 2.0**24
EVERY = 2000  # good steps after which the scale is doubled


class LossScale:
    """The gradient of the loss is multiplied by a scale before the backward pass, those of the parameters are divided
    by it after: numbers below 3e-8, which are 0 in float16 (half of its least number), come through.

    Where a gradient is then not finite, one has been above 65,504: the scale is halved, and the step skipped. After
    2000 good steps in a row the scale is doubled. Micikevicius et al., "Mixed precision training" (2018).

    All of it is arithmetic on the device, so that a step with it can be captured: a skipped step is made, and undone
    from a copy of what it changes. (Running statistics belong to the forward pass, and stay.) At the lowest scale an
    overflow is nothing that a scale could mend: the step is not skipped, and what is not finite shows in the
    parameters.

    `state` is (scale, good steps since it changed, steps skipped so far).
    """

    def __init__(self, model: Model):
        self._model, self._xp = model, model.backend.xp
        self.state = model.backend.asarray(np.array([START, 0, 0], np.float32))
        self._pending = False  # whether the gradients are of a scaled loss
        self._skip: Array | None = None  # whether the next step is to be undone, on the device

    @property
    def figures(self) -> dict[str, float]:
        """The scale and the number of skipped steps, for the history. Waits for the device."""
        scale, _, skipped = self._model.backend.to_host(self.state).tolist()
        return {"loss_scale": scale, "skipped_steps": skipped}

    @staticmethod
    def can_be(state: np.ndarray) -> bool:
        """Whether a `state` on the host is one."""
        scale, *counts = state.tolist()
        return LOWEST <= scale <= HIGHEST and min(counts) >= 0

    def scaled(self, dy: Array) -> Array:
        """dy, or each in a tuple, times the scale."""
        self._pending = True
        return each(lambda d: d * self.state[:1], dy)

    def unscale(self) -> None:
        """Divide the gradients by the scale if they were scaled, and settle whether the step is to be skipped."""
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
        """Around an update of `arrays`: if the step is to be skipped, they have the values from before again."""
        self.unscale()
        if self._skip is None:  # the loss was not scaled
            yield
            return
        before = [array.copy() for array in arrays]
        yield
        for array, old in zip(arrays, before, strict=True):
            array[...] = self._xp.where(self._skip, old, array)
        self._skip = None
