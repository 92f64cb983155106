"""Finding where a value that is not finite came from."""

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
    """Internal: the message names the place where a value was found that is not finite."""


class FiniteObserver(Observer):
    """Raises `NotFinite` at the first value in a step that is not finite; each step has one of its own.

    An overflow in the backward of a scaled loss is no fault if the step is then skipped: it is told by `updated`.
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
        """Raise `NotFinite` unless what an update has changed is finite, with the place where it began."""
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
    """Notes the first place instead: in a group a step that is left half done would keep the others waiting."""

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
        try:
            if not self.place:
                look()
        except NotFinite as found:
            self.place = str(found)


def raise_culprit(run: Run, snapshot: tuple) -> None:
    """Repeat the steps since `snapshot`, one by one, looking at every layer; raise `NotFiniteError` at the first
    value that is not finite, with the model as it was before that step. In a group, in all processes."""
    until, backend, group = run.position.batch, run.model.backend, run.group
    run.go_back(snapshot)
    while run.position.batch < until:
        before = run.snapshot()
        step, observer = run.steps_done + 1, _FirstPlace(run.model.network, backend)
        with backend.observed_by(observer):
            run.step()
        by_others = not (observer.place or observer._overflow)  # what is not finite now has come by the sum
        for name, array in run.changing().items():
            observer.updated(f"{name} after the update" if array is run.model.data else name, array)
        found = [entry for entry in group.gather((by_others, group.rank, observer.place)) if entry[2]]
        if found:
            run.go_back(before)
            _, rank, place = min(found)
            raise in_all(NotFiniteError(step, f"{place}, in process {rank}," if rank else place, backend.precision))
    # It did not come back: the device does not repeat itself.
    raise in_all(NotFiniteError(run.steps_done, "the loss", backend.precision))
