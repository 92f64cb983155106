"""Finding where a value that is not finite came from."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, Observer
from xpnet.nn import Layer, Parameter
from xpnet.parallel.group import in_all
from xpnet.train.run import Run


class NotFiniteError(ArithmeticError):
    """Training met a NaN or an infinity. `step` counts from 1; `where` is the first place."""

    def __init__(self, step: int, where: str):
        super().__init__(
            f"step {step}: {where} is not finite. The model is as it was before that step. "
            "Try a smaller learning rate, clipping (clip), or look at the data of that batch."
        )
        self.step, self.where = step, where


class NotFinite(Exception):
    """Internal: the message names the place where a value was found that is not finite."""


class FiniteObserver(Observer):
    """Raises `NotFinite` at the first value in a pass that is not finite."""

    def __init__(self, network: Layer, backend: Backend):
        self._paths = {id(layer): path for path, layer in network.walk()}
        self._backend = backend

    def forward(self, layer: Layer, x: Any, y: Any) -> None:
        self.require(f"the output of {self._name(layer)}", y)

    def loss(self, value: Array, dy: Array) -> None:
        self.require("the loss", value)
        self.require("the gradient of the loss", dy)

    def backward(self, layer: Layer, dy: Any, dx: Any) -> None:
        for key, parameter in vars(layer).items():
            if isinstance(parameter, Parameter):
                self.require(f"the gradient of {self._name(layer)}'s {key}", parameter.grad)
        self.require(f"the input gradient of {self._name(layer)}", dx)

    def _name(self, layer: Layer) -> str:
        path, kind = self._paths.get(id(layer), ""), type(layer).__name__
        return f"{path} ({kind})" if path else kind

    def require(self, what: str, values: Any) -> None:
        """Raise `NotFinite(what)` unless all values of the array, or of each in a tuple, are finite."""
        for array in values if isinstance(values, tuple) else (values,):
            if array is None:
                continue
            with self._backend.observed_by(None):
                finite = np.isfinite(self._backend.to_host(array)).all()
            if not finite:
                raise NotFinite(what)


class _FirstPlace(FiniteObserver):
    """Notes the first place instead: in a group a step that is left half done would keep the others waiting."""

    place = ""

    def require(self, what: str, values: Any) -> None:
        try:
            if not self.place:
                super().require(what, values)
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
        in_pass = bool(observer.place)  # of this process; after the update all have it
        for name, array in run.changing().items():
            observer.require(f"{name} after the update" if array is run.model.data else name, array)
        found = [entry for entry in group.gather((not in_pass, group.rank, observer.place)) if entry[2]]
        if found:
            run.go_back(before)
            _, rank, place = min(found)
            raise in_all(NotFiniteError(step, f"{place}, in process {rank}," if rank else place))
    raise in_all(NotFiniteError(run.steps_done, "the loss"))  # it did not come back: the device does not repeat itself
