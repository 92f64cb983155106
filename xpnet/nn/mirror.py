"""A copy of a layer for another thread, which shares the layer's values but has its own gradients."""

from __future__ import annotations

from typing import Any

from xpnet.backend import Array, Backend
from xpnet.nn.layer import Backward, Layer
from xpnet.nn.shapes import LayerFault


class Mirror:
    """A copy of a built layer that shares the values of its parameters, and has gradients of its own.

    So several threads can run one network at once, each on its own samples, and layers need no code for it.
    """

    def __init__(self, layer: Layer, backend: Backend):
        self._backend, self._copy = backend, layer.copy()
        for shape in layer._shapes:
            self._copy.built(shape)
        self._originals = {id(mine): its for (_, its), (_, mine) in zip(layer.walk(), self._copy.walk(), strict=True)}
        both = zip(layer.parameters(), self._copy.parameters(), strict=True)
        pairs = {id(mine): (its, mine) for (_, its), (_, mine) in both}.values()  # a layer used twice has one set
        self._trained = [(its, mine) for its, mine in pairs if its.trained]
        for its, mine in pairs:
            mine.bind(backend, its.data, backend.xp.empty(its.shape, backend.dtype) if its.trained else None)

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """The layer's forward, on the mirror's backend.

        After `backward`, the mirror has the gradients of this pass only.
        """
        try:
            y, backward_copy = self._copy.forward(x, self._backend)
        except LayerFault as fault:
            fault.layer = self._originals.get(id(fault.layer), fault.layer)
            raise

        def backward(dy: Array, need_dx: bool = True) -> Any:
            for _, mine in self._trained:
                mine.cleared = True
            return backward_copy(dy, need_dx)

        return y, backward

    def give_gradients(self) -> None:
        """Add the gradients of the last backward to those of the layer."""
        for its, mine in self._trained:
            its.grad += mine.grad
