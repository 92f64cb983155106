"""Measuring one pass through a model: shapes, multiply-adds and memory of each layer.

- Multiply-adds are counted where they happen: in `backend.matmul`, through which all matrix products go (sums that are
  written as products do not), and in depthwise convolutions, which multiply elementwise.
- What a layer keeps for its backward is every array that can be reached from the closure that its forward returned. An
  array that several layers keep is counted once, for the first of them.
- How much memory the pass takes while a layer runs is measured by `tracemalloc`, to which NumPy reports all that it
  allocates.
"""

from __future__ import annotations

import functools
import tracemalloc
import types
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.backend.observer import Observer
from xpnet.nn.conv import Conv2d, ConvTranspose2d
from xpnet.nn.layer import Layer, Parameter
from xpnet.nn.shapes import Shape, each, in_tuple

if TYPE_CHECKING:
    from xpnet.nn.model import Model


class _Counting(Backend):
    """The CPU, counting the multiply-adds of all matrix products."""

    products = 0

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        result = super().matmul(a, b, out=out)
        self.products += result.size * a.shape[-1]
        return result


class SeenPass(Observer):
    """A copy of the model after a training pass of n samples, and what was measured, by layer."""

    def __init__(self, model: Model, x: Any, n: int):
        self.backend = _Counting(str(model.backend.dtype), model.backend.seed)
        self.model = model.to(self.backend)
        self.named = dict(self.model.network.walk())
        self.outputs: dict[Layer, Shape] = {}
        self.products: dict[Layer, int] = defaultdict(int)
        self.kept: dict[Layer, int] = defaultdict(int)
        self.peaks: list[int] = []  # peak memory of the pass, from each begin or end of a layer to the next
        batch = each(lambda a: self.backend.asarray(np.resize(a, (n, *a.shape[1:]))), x)  # its samples, repeated
        self.inputs = size_in_bytes(batch)
        with self.backend.mode(training=True), np.errstate(all="ignore"):
            self._there_and_back(batch)  # allocates what layers share
            self.backend.products = 0
            with self.backend.observed_by(self), _traced_memory() as self._before:
                self._there_and_back(batch)
        self.working = sum(memory.nbytes for memory in self.backend.kept.values())

    def _there_and_back(self, batch: Any) -> None:
        y, backward = self.model.forward(batch)
        if self.backend.observer is not None:
            self._see_what_is_kept(backward, batch)
        self.model.zero_grad()
        backward(each(np.copy, y), need_dx=False)

    def forward_begins(self, layer: Layer, x: Any) -> None:
        self._see_peak()

    def forward(self, layer: Layer, x: Any, y: Any) -> None:
        self._see_peak()
        self.outputs[layer] = each(lambda a: a.shape[1:], y)
        self.products[layer] += self.backend.products  # counted since the layers inside it ended
        self.backend.products = 0
        if isinstance(layer, Conv2d) and layer._depthwise:
            pixels = x if isinstance(layer, ConvTranspose2d) else y
            self.products[layer] += pixels.size * layer.W.size // layer.groups

    def backward_begins(self, layer: Layer, dy: Any) -> None:
        self._see_peak()

    def backward(self, layer: Layer, dy: Any, dx: Any) -> None:
        self._see_peak()

    def _see_peak(self) -> None:
        self.peaks.append(tracemalloc.get_traced_memory()[1] - self._before)
        tracemalloc.reset_peak()

    def _see_what_is_kept(self, backward: Any, batch: Any) -> None:
        constants = self.backend._constants.values()
        known = [self.model.data, self.model.grad, batch, *self.backend.kept.values(), *constants]
        seen = {id(_owner(array)) for item in known for array in in_tuple(item)}
        for layer, array in held(backward):
            owner = _owner(array)
            if id(owner) not in seen:
                seen.add(id(owner))
                self.kept[layer] += owner.nbytes


@contextmanager
def _traced_memory() -> Iterator[int]:
    """Yields what `tracemalloc` counts at the start. Resets the peak, also for others who use `tracemalloc`."""
    began = not tracemalloc.is_tracing()
    if began:
        tracemalloc.start()
    try:
        tracemalloc.reset_peak()
        yield tracemalloc.get_traced_memory()[0]
    finally:
        if began:
            tracemalloc.stop()


def held(thing: Any, layer: Layer | None = None, seen: set[int] | None = None) -> Iterator[tuple[Any, np.ndarray]]:
    """Every array that a backward can reach, with the innermost layer that keeps it, in order of the forward.

    While there is an observer, the backward of a layer is a closure that names the layer as `self`.
    """
    seen = set() if seen is None else seen
    if id(thing) in seen or isinstance(thing, (Layer, Parameter, Backend, type, types.ModuleType, str, bytes)):
        return
    seen.add(id(thing))
    inside: Any = ()
    if isinstance(thing, np.ndarray):
        yield layer, thing
    elif isinstance(thing, types.FunctionType):
        cells = zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True)
        named = {name: _contents(cell) for name, cell in cells}
        layer = named["self"] if isinstance(named.get("self"), Layer) else layer
        inside = [*named.values(), *(thing.__defaults__ or ())]
    elif isinstance(thing, types.MethodType):
        inside = [thing.__self__]
    elif isinstance(thing, functools.partial):
        inside = [thing.func, *thing.args, *thing.keywords.values()]
    elif isinstance(thing, (list, tuple)):
        inside = thing
    elif isinstance(thing, dict):
        inside = thing.values()
    elif hasattr(thing, "__dict__"):
        inside = vars(thing).values()
    for item in inside:
        yield from held(item, layer, seen)


def _contents(cell: types.CellType) -> Any:
    """The value of a closure's variable; None if the forward took another branch and never set it."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory this one is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def size_in_bytes(arrays: Any) -> int:
    return sum(a.nbytes for a in in_tuple(arrays))
