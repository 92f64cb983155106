"""Finding where a value that is not finite came from."""

from __future__ import annotations

import numpy as np

from xpnet.backend import Array
from xpnet.nn.layer import Layer, Parameter
from xpnet.nn.trace import traced
from xpnet.train.run import Run


class NotFiniteError(ArithmeticError):
    """Training met a NaN or an infinity. `step` counts from 1; `where` is the first place."""

    def __init__(self, step: int, where: str):
        super().__init__(
            f"step {step}: {where} is not finite. The model is as it was before that step. "
            "Try a smaller learning rate, clipping (clip), or look at the data of that batch."
        )
        self.step, self.where = step, where


class _Found(Exception):
    pass


def raise_culprit(run: Run, snapshot: tuple) -> None:
    """Repeat the steps since `snapshot`, one by one, looking at every layer; raise `NotFiniteError` at the first
    value that is not finite, with the model as it was before that step."""
    until = run.progress.batch
    run.go_back(snapshot)
    while run.progress.batch < until:
        before = run.snapshot()
        step = run.steps_done + 1
        try:
            with traced(run.model.network, lambda *seen: _look(run, *seen)):
                run.step()
            _require(run, "the loss", run.totals[:1])
            _require(run, "a parameter after the update", run.model.data)
        except _Found as found:
            run.go_back(before)
            raise NotFiniteError(step, str(found)) from None
    raise NotFiniteError(until, "the loss")  # it did not come back: the device does not repeat itself


def _look(run: Run, path: str, layer: Layer, what: str, array: Array | None) -> None:
    name = f"{path} ({type(layer).__name__})" if path else type(layer).__name__
    if what == "forward":
        _require(run, f"the output of {name}", array)
        return
    for key, parameter in vars(layer).items():
        if isinstance(parameter, Parameter):
            _require(run, f"the gradient of {name}'s {key}", parameter.grad)
    if array is not None:
        _require(run, f"the input gradient of {name}", array)


def _require(run: Run, what: str, array: Array | None) -> None:
    if array is not None and not np.isfinite(run.model.backend.to_host(array)).all():
        raise _Found(what)
