"""`Model.summary()`: what a model costs, layer by layer.

Layers do not report their cost. `SeenPass` measures a pass of a few samples and one of twice as many; the difference
shows what grows with the batch and what does not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import html
from xpnet.arguments import whole
from xpnet.nn.inputs import accepts_integers
from xpnet.nn.layer import Layer, Parameter
from xpnet.nn.shapes import Shape, each, in_tuple, is_several, size_of

if TYPE_CHECKING:
    from xpnet.nn.model import Model


NUMPYS_BUFFER = 8192
"""How many numbers NumPy converts at a time where types are mixed. Its memory for that grows up to this size only: with
too few samples to fill it, it would seem to grow with the batch."""


@dataclass(frozen=True)
class LayerCost:
    """What a layer costs.

    `parameters` counts the trained numbers of the layer itself, not of layers inside it; `kept` is the bytes that it
    keeps for the backward.
    """

    path: str
    layer: str
    output_shape: Shape
    parameters: int
    multiply_adds: int  # per sample, forward
    kept: int


@dataclass(frozen=True)
class Summary:
    """What a model costs; `str()` of it is a table. All memory is in bytes, for batches of `batch_size`.

    `activations` is the sum of what the rows keep. `on_top` is the extra memory at the worst moment: the inputs
    and outputs of the layer that is running, their gradients, and its temporary arrays. `working` is the memory that
    layers share (`backend.scratch`), as the larger measured pass needed it; in convolutions it may become a few
    megabytes more. A GPU processes all images of a convolution at once: there `working` grows with the batch, up to
    kh kw times the input, which is not counted here.
    """

    rows: tuple[LayerCost, ...]
    batch_size: int
    inputs: int
    values: int
    gradients: int
    on_top: int
    working: int

    @property
    def parameters(self) -> int:
        return sum(row.parameters for row in self.rows)

    @property
    def multiply_adds(self) -> int:
        """Per sample, forward. A backward takes about twice as many."""
        return sum(row.multiply_adds for row in self.rows)

    @property
    def activations(self) -> int:
        return sum(row.kept for row in self.rows)

    @property
    def step(self) -> int:
        """The peak memory of a training step, without the optimizer.

        The optimizer's state (Adam: two numbers for each parameter) and its working memory come on top. Measured on a
        CPU, the peak was 0.99 to 1.1 times this, for networks of Linear, convolutional and recurrent networks, and
        transformers.
        """
        return self.values + self.gradients + self.inputs + self.activations + self.on_top + self.working

    def cells(self) -> list[tuple[str, ...]]:
        """The cells of the table as strings: its header, a row for each layer, the totals."""
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
            "activations": self.activations, "a layer at work": self.on_top, "working memory": self.working,
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
    from xpnet.nn.seen_pass import SeenPass  # imported here: few runs need tracemalloc

    whole("batch_size", batch_size, least=1)
    x = _example(model) if example is None else each(np.asarray, model.as_input(example))
    if len(in_tuple(x)[0]) < 3:
        raise ValueError("the example must have at least 3 samples")
    n = max(2, NUMPYS_BUFFER // max(map(size_of, SeenPass(model, x, 2).outputs.values())))
    few, more = SeenPass(model, x, n), SeenPass(model, x, 2 * n)

    def at(of_few: int, of_more: int) -> int:
        """A quantity extrapolated to the whole batch from its values for n and for 2 n samples."""
        return max(of_few + (of_more - of_few) * (batch_size - n) // n, 0)

    rows, counted = [], set[int]()
    for path, layer in few.model.network.walk():
        own = {id(p): p.size for p in _own(layer) if p.trained and id(p) not in counted}
        kept = at(few.kept[layer], more.kept[more.named[path]])
        shape, products = few.outputs.get(layer, ()), few.products[layer] // n
        row = LayerCost(path, type(layer).__name__, shape, sum(own.values()), products, kept)
        is_container = any(True for _ in layer.children())
        if id(layer) not in counted and (not is_container or row.parameters or row.multiply_adds or row.kept):
            rows.append(row)
        counted |= own.keys() | {id(layer)}  # a layer that is used twice counts once
    peak = max(at(*of_both) for of_both in zip(few.peaks, more.peaks, strict=True))
    return Summary(
        tuple(rows),
        batch_size,
        inputs=at(few.inputs, more.inputs),
        values=model.data.nbytes,
        gradients=model.grad.nbytes,
        on_top=max(0, peak - sum(row.kept for row in rows)),
        working=more.working,
    )


def as_html(model: Model) -> str | None:
    """What notebooks show of a model: its summary, or None if that needs an example; they then show its text."""
    try:
        costs = model.summary()
    except ValueError:
        return None
    return html.line(repr(model).splitlines()[0][1:-1]) + costs._repr_html_()


def _own(layer: Layer) -> list[Parameter]:
    """The parameters of this layer that belong to no layer inside it."""
    inside = {id(p) for _, child in layer.children() for _, p in child.parameters()}
    return [p for _, p in layer.parameters() if id(p) not in inside]


def _example(model: Model) -> Any:
    """Three samples of zeros, in `uint8` where the model takes integers."""

    def zeros(shape: Shape, integers: Any) -> np.ndarray:
        if None in shape:
            raise ValueError(f"an axis of {model.input_shape} is free: summary needs an example, a batch of 3 samples")
        return np.zeros((3, *shape), np.uint8 if integers else model.backend.dtype)

    shape = model.input_shape
    if not is_several(shape):
        return zeros(shape, model.network.accepts_integers)
    return tuple(map(zeros, shape, accepts_integers(model.network, len(shape))))
