"""`Model.summary()`: layer by layer what a model costs.

No layer is asked what it costs. A copy of the model runs a small batch forward and backward on the CPU, and

- multiply-adds are counted where they happen: in `backend.matmul`, through which all matrix products go (sums that are
  written as products do not), and in depthwise convolutions, which multiply elementwise;
- what a layer keeps for its backward is read off the closure that its forward returned: every array that can be
  reached from there. One that several layers hold is counted once, with the first of them.

A forward of two samples and one of three tell what grows with the batch from what does not.
"""

from __future__ import annotations

import functools
import types
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import html
from xpnet.backend import Array, Backend
from xpnet.backend.observer import Observer
from xpnet.nn.conv import Conv2d, ConvTranspose2d
from xpnet.nn.layer import Layer, Parameter
from xpnet.nn.shapes import Shape, each, is_several

if TYPE_CHECKING:
    from xpnet.nn.model import Model


@dataclass(frozen=True)
class LayerCost:
    """A layer. `parameters` are those that are trained and its own; `kept`: bytes that it keeps for the backward."""

    path: str
    layer: str
    output_shape: Shape
    parameters: int
    multiply_adds: int  # of a sample, forward
    kept: int


@dataclass(frozen=True)
class Summary:
    """What a model costs; `str()` of it is a table. All memory is in bytes, for batches of `batch_size`.

    `activations` is the sum of what the rows keep. `largest` is what one layer adds to that while it works: its input
    and output, or their gradients. `working` is the memory that layers share (`backend.scratch`), as the small batch
    needed it; in convolutions it may become a few megabytes more. A GPU does all images of a convolution at once: there
    it grows with the batch, to kh kw times the input, which is not counted here.
    """

    rows: tuple[LayerCost, ...]
    batch_size: int
    inputs: int
    values: int
    gradients: int
    largest: int
    working: int

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Of a sample, forward. A backward takes about twice as many."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def activations(self) -> int:
        return sum(row.kept for row in self.rows)

    @property
    def step(self) -> int:
        """The peak of a training step, but for the optimizer: its state (Adam: two numbers for each parameter) and its
        working memory come on top.

        Measured on a CPU, the peak was 0.95 to 1.04 times this for networks of Linear and of convolutions, and 1.2 to
        1.4 times for an LSTM and a GRU, whose backward makes arrays of its own.
        """
        return self.values + self.gradients + self.inputs + self.activations + self.largest + self.working

    def cells(self) -> list[tuple[str, ...]]:
        """The table as texts: its head, a row for each layer, the totals."""
        head = ("path", "layer", "output shape", "parameters", "multiply-adds", f"kept, batch of {self.batch_size}")
        body = [
            (r.path, r.layer, str(r.output_shape), f"{r.parameters:,}", f"{r.multiply_adds:,}", in_bytes(r.kept))
            for r in self.rows
        ]
        total = ("", "all", "", f"{self.parameters:,}", f"{self.multiply_adds:,}", in_bytes(self.activations))
        return [head, *body, total]

    def of_a_step(self) -> str:
        """The memory of a training step, and what it is made of."""
        parts = {
            "parameters": self.values, "gradients": self.gradients, "batch": self.inputs,
            "activations": self.activations, "the largest layer": self.largest, "working memory": self.working,
        }  # fmt: skip
        listed = ", ".join(f"{name} {in_bytes(size)}" for name, size in parts.items())
        return f"a training step, without the optimizer: {in_bytes(self.step)} ({listed})"

    def __str__(self) -> str:
        cells = self.cells()
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]

        def line(cells: tuple[str, ...]) -> str:
            texts = [c.ljust(w) if i < 3 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
            return "  ".join(texts).rstrip()

        head, *body, total = map(line, cells)
        rule = "-" * len(head)
        return "\n".join([head, rule, *body, rule, total, "", self.of_a_step()])

    def _repr_html_(self) -> str:
        head, *body, total = self.cells()
        return html.table(head, body, total, left=3) + html.line(self.of_a_step())


def in_bytes(size: int) -> str:
    """ "1.5 MB", "312 B"."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} B"


def summary(model: Model, batch_size: int, example: Any) -> Summary:
    """See `Model.summary`."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    x = _example(model) if example is None else each(np.asarray, model.as_input(example))
    if len(x[0] if isinstance(x, tuple) else x) < 3:
        raise ValueError("the example must have at least 3 samples")
    two, three = _Pass(model, x, 2), _Pass(model, x, 3)

    def at(n_two: int, n_three: int) -> int:
        """What is so much for two and for three samples, for the whole batch."""
        return max(n_two + (n_three - n_two) * (batch_size - 2), 0)

    rows, counted = [], set[int]()
    for path, layer in two.model.network.walk():
        own = {id(p): p.size for p in _own(layer) if p.trained and id(p) not in counted}
        kept = at(two.kept[layer], three.kept[three.named[path]])
        shape, products = two.outputs.get(layer, ()), two.products[layer] // 2
        row = LayerCost(path, type(layer).__name__, shape, sum(own.values()), products, kept)
        is_container = any(True for _ in layer.children())
        if id(layer) not in counted and (not is_container or row.parameters or row.multiply_adds or row.kept):
            rows.append(row)
        counted |= own.keys() | {id(layer)}  # a layer that is used twice is one
    return Summary(
        tuple(rows),
        batch_size,
        inputs=at(two.inputs, three.inputs),
        values=model.data.nbytes,
        gradients=model.grad.nbytes,
        largest=at(two.largest, three.largest),
        working=three.working,
    )


def as_html(model: Model) -> str | None:
    """What notebooks show of a model: its summary; None, and so its text, where that needs an example."""
    try:
        costs = model.summary()
    except ValueError:
        return None
    return html.line(repr(model).splitlines()[0][1:-1]) + costs._repr_html_()


def _own(layer: Layer) -> list[Parameter]:
    """The parameters of this layer that are of none inside it."""
    inside = {id(p) for _, child in layer.children() for _, p in child.parameters()}
    return [p for _, p in layer.parameters() if id(p) not in inside]


def _example(model: Model) -> Any:
    """Three samples of zeros: of bytes where the model takes integers."""

    def zeros(shape: Shape, integers: Any) -> np.ndarray:
        if None in shape:
            raise ValueError(f"an axis of {model.input_shape} is free: summary needs an example, a batch of 3 samples")
        return np.zeros((3, *shape), np.uint8 if integers else model.backend.dtype)

    shape, accepts = model.input_shape, model.network.accepts_integers
    if not is_several(shape):
        return zeros(shape, accepts)
    return tuple(map(zeros, shape, accepts if isinstance(accepts, tuple) else (accepts,) * len(shape)))


class _Counting(Backend):
    """The CPU, counting the multiply-adds of all matrix products."""

    products = 0

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        result = super().matmul(a, b, out=out)
        self.products += result.size * a.shape[-1]
        return result


class _Pass(Observer):
    """A copy of the model after a training pass of n samples, and what was seen of it, by layer."""

    def __init__(self, model: Model, x: Any, n: int):
        self.backend = _Counting(str(model.backend.dtype), model.backend.seed)
        self.model = model.to(self.backend)
        self.named = dict(self.model.network.walk())
        self.outputs: dict[Layer, Shape] = {}
        self.products: dict[Layer, int] = defaultdict(int)
        self.kept: dict[Layer, int] = defaultdict(int)
        self.largest = 0
        batch = each(lambda a: self.backend.asarray(a[:n]), x)
        self.inputs = _size(batch)
        with self.backend.mode(training=True), self.backend.observed_by(self), np.errstate(all="ignore"):
            y, backward = self.model.forward(batch)
            self._see_what_is_kept(backward, batch)
            backward(each(np.copy, y), need_dx=False)
        self.working = sum(memory.nbytes for memory in self.backend.kept.values())

    def forward(self, layer: Layer, x: Any, y: Any) -> None:
        self.outputs[layer] = each(lambda a: a.shape[1:], y)
        self.products[layer] += self.backend.products  # since the layers inside of it have ended
        self.backend.products = 0
        if isinstance(layer, Conv2d) and layer._depthwise:
            pixels = x if isinstance(layer, ConvTranspose2d) else y
            self.products[layer] += pixels.size * layer.W.size // layer.groups
        self.largest = max(self.largest, _size(x) + _size(y))

    def _see_what_is_kept(self, backward: Any, batch: Any) -> None:
        constants = self.backend._constants.values()
        known = [self.model.data, self.model.grad, batch, *self.backend.kept.values(), *constants]
        seen = {id(_owner(array)) for item in known for array in (item if isinstance(item, tuple) else (item,))}
        for layer, array in held(backward):
            owner = _owner(array)
            if id(owner) not in seen:
                seen.add(id(owner))
                self.kept[layer] += owner.nbytes


def held(thing: Any, layer: Layer | None = None, seen: set[int] | None = None) -> Iterator[tuple[Any, np.ndarray]]:
    """Every array that a backward can reach, with the innermost layer whose backward that is, in order of the forward.

    A layer's backward, while an observer is there, is a closure that names the layer as `self`.
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
    """What a closure has of a name; None where the forward took another way and never set it."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _owner(array: np.ndarray) -> np.ndarray:
    """The array whose memory this one is a view of."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array


def _size(arrays: Any) -> int:
    return sum(a.nbytes for a in (arrays if isinstance(arrays, tuple) else (arrays,)))
