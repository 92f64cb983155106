"""`with xpnet.debug():` finds, as it happens, what a training step must not do, and names the line that did it.

No layer, loss or optimizer contains any code for it: inside the block it is the observer of all backends. Outside, it
costs nothing.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend, Observer
from xpnet.nn import Layer, Model
from xpnet.optim import Optimizer
from xpnet.train.finite import FiniteObserver, NotFinite, NotFiniteError
from xpnet.train.lines import Float64Watch, line_of_user

HOST_READS = ("__float__", "__int__", "__index__", "__bool__", "item", "tolist", "get", "set")  # of a device's arrays


class TransferError(RuntimeError):
    """Data were transferred between host and device inside a step, where that was forbidden."""


class Watch:
    """What a `debug` block has seen so far.

    `steps` counts the finished steps. `transfers` has a line "file:line: what" for every time that the host and the
    device waited for each other inside a step.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.transfers: list[str] = []


@contextmanager
def debug(forbid_transfers: bool = False) -> Iterator[Watch]:
    """Watch over every training step in the block, on any device, in any loop: `fit`'s or your own.

    A step is what runs between `model.zero_grad()` and the end of `optimizer.step()`. Inside a step,

    - every transfer between host and device is recorded with its line, in the `transfers` of the `Watch` that the block
      is given. With `forbid_transfers` it raises `TransferError` instead. `backend.constant` is exempt: it uploads
      once;
    - the first float64 array or NumPy number in a float32 model's layers, losses or optimizer raises `Float64Error`,
      which names its file and line;
    - the first value that is not finite raises `NotFiniteError`, which names the layer, and whether it was its output,
      a gradient of its parameters or its input gradient. The model's values, including untrained state, are then those
      it had before the step.

    A block in which no step begins warns that it has seen nothing.

    Cost: each layer is inspected and each line of its code traced, so a step takes some ten times as long, on a GPU
    longer. Steps that would be captured run eagerly.

    Limits: on the CPU a device array is an ordinary host array, so only `to_host` and uploads of lists are seen there
    (the strict device and a GPU see everything listed in `HOST_READS`; on a GPU, CuPy's own detector is used too when
    transfers are forbidden). A float64 value is seen once it has a name, is an argument or is returned, but not inside
    one expression that ends in float32. It works for one thread, and replaces a debugger's line tracing. A backend that
    already has another observer, as it has while `fit` looks for a NaN, is not watched.
    """
    observer, before = _StepObserver(forbid_transfers), Backend.observer
    Backend.observer = observer
    try:
        yield observer.watch
    finally:
        observer.end_step()
        Backend.observer = before
    if not observer.begun:
        warnings.warn("xpnet.debug() saw no training step: a step begins with model.zero_grad()", stacklevel=3)


class _StepObserver(Observer):
    """Observes everything between the beginning and the end of a step."""

    def __init__(self, forbid: bool):
        self.watch = Watch()
        self._forbid = forbid
        self.begun = False  # whether any step has been seen
        self._in_step, self._exempt = False, False
        self._step = ExitStack()  # contexts to leave when the step ends
        self._float64: Float64Watch | None = None
        self._finite: FiniteObserver
        self._before: tuple[Model, Array]

    # The step -----------------------------------------------------------------------------------------------

    def step_begins(self, model: Model) -> None:
        self.end_step()  # an earlier step that had no update
        self._in_step = self.begun = True
        self._finite = FiniteObserver(model.network, model.backend)
        self._before = model, model.data.copy()
        self._step.enter_context(self._array_reads(model.backend))
        if model.backend.dtype == np.float32:
            self._float64 = self._step.enter_context(Float64Watch(model.backend.array_type))
        if self._forbid and model.backend.device.startswith("cuda"):
            self._step.enter_context(_synchronizing(False))

    def step_ends(self, optimizer: Optimizer) -> None:
        if self._in_step:
            self._look(lambda: self._finite.updated("a parameter after the update", optimizer.model.data))
            self.end_step()
            self.watch.steps += 1

    def end_step(self) -> None:
        self._in_step, self._float64 = False, None
        self._step.close()

    # Values -------------------------------------------------------------------------------------------------

    def forward(self, layer: Layer, x: Any, y: Any) -> None:
        if self._in_step:
            self._look(lambda: self._finite.forward(layer, x, y))

    def loss(self, value: Array, dy: Array) -> None:
        if self._in_step:
            self._look(lambda: self._finite.loss(value, dy))

    def backward_begins(self, layer: Layer, dy: Any) -> None:
        if self._in_step and layer is self._before[0].network:
            if self._float64:
                self._float64.argument("dy", dy)
            self._look(lambda: self._finite.require("the gradient of the loss, before any layer,", dy))

    def backward(self, layer: Layer, dy: Any, dx: Any) -> None:
        if self._in_step:
            self._look(lambda: self._finite.backward(layer, dy, dx))

    def _look(self, look: Callable[[], None]) -> None:
        """Check values, without counting the transfers that this takes; if a value is not finite, undo the step and
        raise `NotFiniteError`."""
        try:
            with self._exempted():
                look()
        except NotFinite as found:
            model, before = self._before
            model.data[...] = before
            self.end_step()
            raise NotFiniteError(self.watch.steps + 1, str(found), model.backend.precision) from None

    # Transfers ----------------------------------------------------------------------------------------------

    def transfer(self, what: str) -> None:
        if self._in_step and not self._exempt:
            seen = f"{line_of_user()}: {what} inside a step"
            self.watch.transfers.append(seen)
            if self._forbid:
                raise TransferError(f"{seen}: the host and the device have to wait for each other")

    @contextmanager
    def _array_reads(self, backend: Backend) -> Iterator[None]:
        """Report reads of a device's arrays: inside the block, wrappers around their reading methods call
        `transfer`."""
        kind = backend.array_type
        names = [] if kind is np.ndarray else [name for name in HOST_READS if hasattr(kind, name)]  # NumPy's are fixed
        before = {name: vars(kind).get(name) for name in names}
        for name in names:
            setattr(kind, name, self._counted(getattr(kind, name), backend))
        try:
            yield
        finally:
            for name, own in before.items():
                if own is None:
                    delattr(kind, name)
                else:
                    setattr(kind, name, own)

    def _counted(self, plain: Callable, backend: Backend) -> Callable:
        @wraps(plain)
        def method(*args: Any, **kwargs: Any) -> Any:
            if backend.observer is self:  # not inside `to_host`, which has reported it
                self.transfer(plain.__name__)
            with self._exempted():
                return plain(*args, **kwargs)

        return method

    @contextmanager
    def _exempted(self) -> Iterator[None]:
        """Inside the block transfers are not counted: they are not the user's, or have been counted already."""
        before, self._exempt = self._exempt, True
        try:
            with _synchronizing(True):
                yield
        finally:
            self._exempt = before


@contextmanager
def _synchronizing(allowed: bool) -> Iterator[None]:
    """Allow or forbid waits to CuPy's own detector, if CuPy is loaded: it sees waits that no method of an array
    shows."""
    detector = getattr(sys.modules.get("cupyx"), "allow_synchronize", None)
    with ExitStack() as stack:
        if detector:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns that it does not see all waits
                stack.enter_context(detector(allowed))
        yield
