"""Dropout."""

from __future__ import annotations

from xpnet.arguments import number
from xpnet.backend import Array, Backend
from xpnet.nn.layer import Backward, Layer

__all__ = ["Dropout"]


class Dropout(Layer):
    """In training, y = x m / (1 - p) with m = 0 with probability p, else 1; otherwise y = x.  dx = dy m / (1 - p).

    The mask comes from `backend.rng`: the same seed gives the same masks on every device.
    Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014), in the "inverted" form.
    """

    by_position = True

    def __init__(self, p: float = 0.5):
        self.p = number("p of Dropout", p, least=0, below=1)
        self.by_sample = self.p == 0  # the masks of a batch are drawn together

    @property
    def accepts_integers(self) -> bool | None:
        return False if self.p else None

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        if not backend.training or self.p == 0:
            return x, lambda dy, need_dx=True: dy
        y, mask = backend.fuse(self._masked)(x, backend.rng.random(x.shape, x.dtype))

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            return dy * mask

        return y, backward

    def _masked(self, x: Array, uniform: Array) -> tuple[Array, Array]:
        """y, and the scaled mask m / (1 - p)."""
        mask = (uniform >= self.p).astype(x.dtype)
        mask *= 1 / (1 - self.p)
        return x * mask, mask
