"""Finding where a value that is not finite came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from xpnet.backend import Array, Backend
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


class NotFinite(Exception):
    """Internal: the message names the place where a value was found that is not finite."""


def raise_culprit(run: Run, snapshot: tuple) -> None:
    """Repeat the steps since `snapshot`, one by one, looking at every layer; raise `NotFiniteError` at the first
    value that is not finite, with the model as it was before that step."""
    until, backend = run.progress.batch, run.model.backend
    run.go_back(snapshot)
    while run.progress.batch < until:
        before = run.snapshot()
        step = run.steps_done + 1
        try:
            with traced(run.model.network, lambda *seen: look(backend, *seen), containers=True), looked_at(run):
                run.step()
            for name, array in run.optimizer.state.items():
                require(backend, f"the optimizer's {name}", array)
            require(backend, "a parameter after the update", run.model.data)
        except NotFinite as found:
            run.go_back(before)
            raise NotFiniteError(step, str(found)) from None
    raise NotFiniteError(run.steps_done, "the loss")  # it did not come back: the device does not repeat itself


@contextmanager
def looked_at(run: Run) -> Iterator[None]:
    """Inside the block, the run's loss looks at its own value and gradient before anybody uses them."""
    plain = run.loss

    def loss(y: Array, target: Array, backend: Backend) -> tuple[Array, Array]:
        value, dy = plain(y, target, backend)
        require(backend, "the loss", value)
        require(backend, "the gradient of the loss", dy)
        return value, dy

    run.loss = loss
    try:
        yield
    finally:
        run.loss = plain


def look(backend: Backend, path: str, layer: Layer, what: str, array: Array | None) -> None:
    """Raise `NotFinite` if a layer has just handed on what is not finite: a visitor for `traced`."""
    name = f"{path} ({type(layer).__name__})" if path else type(layer).__name__
    if what == "forward":
        require(backend, f"the output of {name}", array)
        return
    for key, parameter in vars(layer).items():
        if isinstance(parameter, Parameter):
            require(backend, f"the gradient of {name}'s {key}", parameter.grad)
    require(backend, f"the input gradient of {name}", array)


def require(backend: Backend, what: str, array: Array | None) -> None:
    """Raise `NotFinite(what)` unless all values of the array, if there is one, are finite."""
    if array is not None and not np.isfinite(backend.to_host(array)).all():
        raise NotFinite(what)
