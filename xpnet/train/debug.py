"""`with xpnet.debug():` finds, while it happens, what a training step must not do, and names the line that did it.

Nothing of it is in any layer, loss or optimizer: entering the block replaces a few methods of `Model`, `Optimizer`
and the backends, leaving it puts them back. Off, it costs nothing.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.nn import Layer, Model
from xpnet.nn.trace import traced
from xpnet.optim import Optimizer
from xpnet.train.finite import NotFinite, NotFiniteError, look, require
from xpnet.train.lines import Float64Watch, line_of_user

TRAVELLING = ("_upload", "to_host", "synchronize")  # of a backend
READING = ("__float__", "__int__", "__index__", "__bool__", "item", "tolist", "get", "set")  # of a device's arrays


class TransferError(RuntimeError):
    """Something travelled between host and device inside a step, where that was forbidden."""


class Watch:
    """What a `debug` block has seen so far.

    `steps` counts those that were finished; `transfers` has a line "file:line: what" for every time that the host
    and the device waited for each other inside a step.
    """

    def __init__(self) -> None:
        self.steps = 0
        self.transfers: list[str] = []


@contextmanager
def debug(forbid_transfers: bool = False) -> Iterator[Watch]:
    """Watch over every training step in the block, on any device, in any loop: `fit`'s or your own.

    A step is what runs between `model.zero_grad()` and the end of `optimizer.step()`. In it,

    - everything that travels between host and device is counted, with its line (`transfers` of what the block is
      given). With `forbid_transfers` it raises `TransferError` instead. `backend.constant` is exempt: it uploads once;
    - the first float64 array or NumPy number in a float32 model's layers, losses or optimizer raises `Float64Error`,
      which names its file and line;
    - the first value that is not finite raises `NotFiniteError`, which names the layer, and whether it was its
      output, a gradient of its parameters or its input gradient. The values of the model are then those it had
      before the step.

    A block in which no step begins warns that it has seen nothing.

    What it costs: each layer is looked at and each line of its code traced, so a step takes some ten times as long,
    on a GPU longer. A step that would be captured into a graph runs as it stands, if it was captured in the block.

    Where it ends: on the CPU an array of the host looks like one of the device, so there only `to_host` and uploads
    of lists are seen (the strict device and a GPU see all that the list `READING` holds; a GPU is also asked by
    CuPy's own detector when transfers are forbidden). A float64 value is seen once it has a name, is an argument or
    is returned: not inside one expression that ends in float32. Sums of layers, such as x + f(x) in `Residual`, are
    seen by the layer after them. It works for one thread, and takes the place of a debugger's line tracing.
    """
    guards = _Guards(forbid_transfers)
    try:
        guards.install()
        yield guards.watch
    finally:
        guards.end_step()
        guards.remove()
    if not guards.begun:
        warnings.warn("xpnet.debug() saw no training step: a step begins with model.zero_grad()", stacklevel=3)


class _Guards:
    """The methods that stand in for others inside the block, and what they share."""

    def __init__(self, forbid_transfers: bool):
        self.watch = Watch()
        self._forbid = forbid_transfers
        self._replaced: list[tuple[type, str, Any]] = []
        self._classes: set[type] = set()
        self._in_step, self._exempt = False, False
        self.begun = False  # whether a step has been seen at all
        self._step = ExitStack()  # what is undone when the step ends
        self._float64: Float64Watch | None = None

    # Replacing methods --------------------------------------------------------------------------------------

    def install(self) -> None:
        self._replace(Model, "zero_grad", self._zero_grad)
        self._replace(Model, "forward", self._forward)
        self._replace(Optimizer, "step", self._update)
        self._replace(Backend, "constant", self._exempted)
        self._replace(Backend, "__init__", self._made)
        for kind in _family(Backend):
            self._guard(kind)

    def remove(self) -> None:
        for owner, name, own in reversed(self._replaced):
            if own is None:
                delattr(owner, name)
            else:
                setattr(owner, name, own)

    def _replace(self, owner: type, name: str, make: Callable[[Callable], Callable]) -> None:
        plain = getattr(owner, name)
        self._replaced.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, wraps(plain)(make(plain)))

    def _guard(self, kind: type[Backend]) -> None:
        """Watch over what travels to and from this kind of backend."""
        if kind in self._classes:
            return
        self._classes.add(kind)
        for name in {*TRAVELLING, "capture"} & vars(kind).keys():
            self._replace(kind, name, self._uncaptured if name == "capture" else self._counted)
        arrays = kind.array_type
        if arrays is not np.ndarray and arrays not in self._classes:  # NumPy's cannot be changed, and need not
            self._classes.add(arrays)
            for name in READING:
                if hasattr(arrays, name):
                    self._replace(arrays, name, self._counted)

    def _made(self, plain: Callable) -> Callable:
        def __init__(backend: Backend, *args: Any, **kwargs: Any) -> None:
            self._guard(type(backend))  # one that was not imported yet when the block began
            plain(backend, *args, **kwargs)

        return __init__

    @staticmethod
    def _uncaptured(plain: Callable) -> Callable:
        return lambda backend, step: step

    # Transfers ----------------------------------------------------------------------------------------------

    def _counted(self, plain: Callable) -> Callable:
        def method(owner: Any, *args: Any, **kwargs: Any) -> Any:
            if self._in_step and not self._exempt:
                seen = f"{line_of_user()}: {plain.__name__} inside a step"
                self.watch.transfers.append(seen)
                if self._forbid:
                    raise TransferError(f"{seen}: the host and the device have to wait for each other")
            with self._looking():
                return plain(owner, *args, **kwargs)

        return method

    def _exempted(self, plain: Callable) -> Callable:
        def method(*args: Any) -> Any:
            with self._looking():
                return plain(*args)

        return method

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """What travels inside this block is not the user's, or is counted already."""
        before, self._exempt = self._exempt, True
        try:
            with _synchronizing(True):
                yield
        finally:
            self._exempt = before

    # The step -----------------------------------------------------------------------------------------------

    def _zero_grad(self, plain: Callable) -> Callable:
        def zero_grad(model: Model) -> None:
            self.end_step()  # one that was left without an update
            plain(model)
            self._in_step = self.begun = True
            if model.backend.dtype == np.float32:
                self._float64 = self._step.enter_context(Float64Watch(model.backend.array_type))
            if self._forbid and model.backend.device.startswith("cuda"):
                self._step.enter_context(_synchronizing(False))

        return zero_grad

    def end_step(self) -> None:
        self._in_step, self._float64 = False, None
        self._step.close()

    def _forward(self, plain: Callable) -> Callable:
        def forward(model: Model, x: Array) -> tuple[Array, Callable]:
            if not self._in_step or _is_traced(model.network):
                return plain(model, x)
            with self._finite(), traced(model.network, lambda *seen: self._look(model.backend, *seen)):
                y, plain_backward = plain(model, x)

            def backward(dy: Array, need_dx: bool = True) -> Array | None:
                if self._float64:
                    self._float64.argument("dy", dy)
                with self._finite():
                    self._require(model.backend, "the gradient of the loss, before any layer,", dy)
                    return plain_backward(dy, need_dx)

            return y, backward

        return forward

    def _update(self, plain: Callable) -> Callable:
        def step(optimizer: Optimizer) -> None:
            if not self._in_step:
                plain(optimizer)
                return
            model = optimizer.model
            before = model.data.copy()
            plain(optimizer)
            with self._finite():
                try:
                    self._require(model.backend, "a parameter after the update", model.data)
                except NotFinite:
                    model.data[...] = before
                    raise
            self.end_step()
            self.watch.steps += 1

        return step

    @contextmanager
    def _finite(self) -> Iterator[None]:
        try:
            yield
        except NotFinite as found:
            self.end_step()
            raise NotFiniteError(self.watch.steps + 1, str(found)) from None

    def _look(self, *seen: Any) -> None:
        with self._looking():
            look(*seen)

    def _require(self, *seen: Any) -> None:
        with self._looking():
            require(*seen)


def _is_traced(network: Layer) -> bool:
    """Whether somebody looks at its layers already: `fit`, on its way back to a loss that was not finite."""
    return any("forward" in vars(layer) for _, layer in network.walk())


@contextmanager
def _synchronizing(allowed: bool) -> Iterator[None]:
    """Where CuPy is loaded, its own detector of waits: it sees those that no method of an array shows."""
    detector = getattr(sys.modules.get("cupyx"), "allow_synchronize", None)
    with ExitStack() as stack:
        if detector:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns that it does not see all of them
                stack.enter_context(detector(allowed))
        yield


def _family(kind: type[Backend]) -> Iterator[type[Backend]]:
    """The class and all that are derived from it."""
    yield kind
    for sub in kind.__subclasses__():
        yield from _family(sub)
