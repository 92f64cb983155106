"""Finding where a value that is not finite first appeared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, Observer
from xpnet.nn import Layer, Parameter
from xpnet.nn.shapes import in_tuple
from xpnet.parallel.group import in_all
from xpnet.train.run import Run


class NotFiniteError(ArithmeticError):
    """Training met a NaN or an infinity. `step` counts from 1; `where` is the first place."""

    def __init__(self, step: int, where: str, precision: str | None = None):
        hint = " Products in float16 overflow above 65,504, those in bfloat16 do not." if precision == "float16" else ""
        super().__init__(
            f"step {step}: a NaN or an infinity in {where}. The model is as it was before that step. "
            f"Try a smaller learning rate, clipping (clip), or look at the data of that batch.{hint}"
        )
        self.step, self.where = step, where


class NotFinite(Exception):
    """Internal: the message names the place where a value that is not finite was found."""


class FiniteObserver(Observer):
    """Raises `NotFinite` at the first value in a step that is not finite; use a new one for each step.

    With float16 products, an overflow in the backward pass of the scaled loss is no error if the step is then skipped.
    So it is only remembered, and `updated` raises it if a value is not finite after the update.
    """

    def __init__(self, network: Layer, backend: Backend):
        self._paths = {id(layer): path for path, layer in network.walk()}
        self._backend = backend
        self._overflow: NotFinite | None = None  # the first of the step

    def forward(self, layer: Layer, x: Any, y: Any) -> None:
        self.require(f"the output of {self._name(layer)}", y)

    def loss(self, value: Array, dy: Array) -> None:
        self.require("the loss", value)
        self.require("the gradient of the loss", dy)

    def backward(self, layer: Layer, dy: Any, dx: Any) -> None:
        try:
            for key, parameter in vars(layer).items():
                if isinstance(parameter, Parameter):
                    self.require(f"the gradient of {self._name(layer)}'s {key}", parameter.grad)
            self.require(f"the input gradient of {self._name(layer)}", dx)
        except NotFinite as found:
            if self._backend.precision != "float16":
                raise
            self._overflow = self._overflow or found

    def updated(self, what: str, array: Array) -> None:
        """Raise `NotFinite` unless the array that an update has changed is finite; the message names the first overflow
        of the backward pass, if there was one."""
        try:
            self.require(what, array)
        except NotFinite as found:
            raise self._overflow or found from None

    def _name(self, layer: Layer) -> str:
        path, kind = self._paths.get(id(layer), ""), type(layer).__name__
        return f"{path} ({kind})" if path else kind

    def require(self, what: str, values: Any) -> None:
        """Raise `NotFinite(what)` unless all values of the array, or of each in a tuple, are finite."""
        for array in in_tuple(values):
            if array is None:
                continue
            with self._backend.observed_by(None):
                finite = np.isfinite(self._backend.to_host(array)).all()
            if not finite:
                raise NotFinite(what)


class _FirstPlace(FiniteObserver):
    """Records the first place instead of raising: in a group, a step left half done would keep the others waiting."""

    place = ""

    def forward(self, layer: Layer, x: Any, y: Any) -> None:
        self._note(lambda: FiniteObserver.forward(self, layer, x, y))

    def loss(self, value: Array, dy: Array) -> None:
        self._note(lambda: FiniteObserver.loss(self, value, dy))

    def backward(self, layer: Layer, dy: Any, dx: Any) -> None:
        self._note(lambda: FiniteObserver.backward(self, layer, dy, dx))

    def updated(self, what: str, array: Array) -> None:
        self._note(lambda: FiniteObserver.updated(self, what, array))

    def _note(self, look: Callable[[], None]) -> None:
        """Look, unless a place was found already; note the place of what is not finite."""
        try:
            if not self.place:
                look()
        except NotFinite as found:
            self.place = str(found)


def raise_culprit(run: Run, snapshot: tuple) -> None:
    """Repeat the steps since `snapshot` one by one, checking every layer, and raise `NotFiniteError`.

    The error names the first value that is not finite; the model is then as it was before that step. In a group, it is
    raised in all processes.
    """
    until, backend, group = run.position.batch, run.model.backend, run.group
    run.go_back(snapshot)
    while run.position.batch < until:
        before = run.snapshot()
        step, observer = run.steps_done + 1, _FirstPlace(run.model.network, backend)
        with backend.observed_by(observer):
            run.step()
        by_others = not (observer.place or observer._overflow)  # what is not finite now came with the summed gradients
        for name, array in run.changing().items():
            observer.updated(f"{name} after the update" if array is run.model.data else name, array)
        found = [entry for entry in group.gather((by_others, group.rank, observer.place)) if entry[2]]
        if found:
            run.go_back(before)
            _, rank, place = min(found)
            raise in_all(NotFiniteError(step, f"{place}, in process {rank}," if rank else place, backend.precision))
    # All values were finite this time: the device does not repeat itself.
    raise in_all(NotFiniteError(run.steps_done, "the loss", backend.precision))
