"""A chain of layers while it is read from a graph, and the shape and order of axes at its end."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import islice, takewhile
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn.layer import Layer
from xpnet.nn.saving import ModelFileError
from xpnet.nn.shapes import Shape, ShapeError
from xpnet.onnx.graph import Order, channels_first, in_order
from xpnet.onnx.registry import IMPORTERS, JOINERS
from xpnet.onnx.structure import FREE, GraphReader, Join, Node, Step

Axes = tuple[Any, ...]  # of whole numbers, None, DIRECTION and UNIT
DIRECTION, UNIT = "direction", "unit"  # two axes of the graph, of lengths 2 and `units`; xpnet joins them


class Chain:
    """The layers between two values of the graph.

    `shape` is the shape of a sample at the end of the chain, in xpnet. `axes[i]` is the axis of xpnet's array that is
    axis i of the value in the graph, where axis 0 of xpnet's array is the batch. It is None for an axis of length 1
    that xpnet's array does not have. A Transpose in the graph thus adds no layer: one is added only where the next
    operator needs another order (`arrange`).

    An importer calls `add(layer, {"W": ...})` with the values of the layer's parameters. It may read further nodes
    besides its own: `take` returns the next one if it is one of the given operators.
    """

    def __init__(self, reader: GraphReader, shape: Shape, axes: Axes, values: dict[int, dict[str, np.ndarray]]):
        self.reader, self.shape, self.axes, self.values = reader, shape, axes, values
        self.layers: list[Layer] = []
        self._following: deque[Step] = deque()
        self._read: list[Node] = []  # the nodes read by the current importer

    def add(self, layer: Layer, values: dict[str, Any] | None = None, axes: Axes | None = None) -> None:
        """Append a layer with the values of its parameters. `axes` is the order of axes after it, if it changes."""
        self.shape = layer.built(self.shape)
        self.layers.append(layer)
        self.values[id(layer)] = values or {}
        self.axes = self.axes if axes is None else axes

    def branch(self, steps: list[Step]) -> Chain:
        """A new chain for these steps, starting at the end of this one."""
        chain = Chain(self.reader, self.shape, self.axes, self.values)
        chain.follow(steps)
        return chain

    def follow(self, steps: list[Step]) -> None:
        """Add the layers of these steps. Raises `ModelFileError` at the first step that cannot be read."""
        self._following = deque(steps)
        while self._following:
            step = self._following.popleft()
            node = step.node if isinstance(step, Join) else step
            read = (JOINERS if isinstance(step, Join) else IMPORTERS).get(node.kind)
            if read is None:
                several = " with several computed inputs" if isinstance(step, Join) else ""
                raise node.error(f"no layer of xpnet corresponds to this operator{several}")
            self._read = [node]
            try:
                read(step, self)
            except ModelFileError:
                raise
            except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
                raise node.error(str(error)) from None
            for done in self._read:
                self.reader.shapes[done.outputs[0]] = self.dims

    def ahead(self, n: int) -> list[Node]:
        """The nodes of the next n steps, up to the first `Join`."""
        return list(takewhile(lambda step: isinstance(step, Node), islice(self._following, n)))  # type: ignore[arg-type]

    def take(self, *kinds: str, where: Callable[[Node], bool] = lambda node: True) -> Node | None:
        """Consume and return the next node if it is one of these operators and `where(node)` is true."""
        for node in self.ahead(1):
            if node.kind in kinds and where(node):
                self._following.popleft()
                self._read.append(node)
                return node
        return None

    # The order of axes --------------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """The number of axes of xpnet's array, with the batch."""
        return len(self.shape) + 1

    @property
    def dims(self) -> tuple[int, ...]:
        """The shape of the value in the graph, with placeholders for unknown lengths."""
        sizes = [self.reader.batch, *(FREE if n is None else n for n in self.shape)]
        special = {None: 1, DIRECTION: 2, UNIT: sizes[-1] // 2}
        return tuple(special[axis] if axis in special else sizes[axis] for axis in self.axes)

    def arrange(self, axes: Order) -> None:
        """Add a Transpose if the axes have another order, and a Reshape if the graph has extra axes of length 1."""
        if None in self.axes:
            self.drop_ones(keep=True)
        if self.axes == axes:
            return
        if UNIT in self.axes:
            raise ShapeError("the two directions of a recurrent layer have to be joined first (Transpose, Reshape)")
        if len(self.axes) != len(axes):
            raise ShapeError(f"an input of {len(axes)} axes is needed here, but it has {len(self.axes)}")
        if self.axes.index(0) != axes.index(0):
            raise ShapeError("the batch is not the first axis, as xpnet needs it: in PyTorch, use batch_first=True")
        here = [self.axes[axes.index(axis)] for axis in range(1, self.rank)]
        self.add(nn.Transpose(*(axis - 1 for axis in here)), axes=axes)

    def plain(self) -> None:
        """Bring xpnet's axes into the graph's order."""
        self.arrange(in_order(len(self.axes)))

    def channels_last(self) -> None:
        """Bring (N, C, H, W) of the graph into xpnet's order (N, H, W, C)."""
        self.arrange(channels_first(len(self.axes)))

    def as_last(self, axis: int) -> None:
        """Make this axis of the graph the last axis in xpnet; the others may have any order."""
        n = len(self.axes)
        if axis % n == 0:
            raise ShapeError("it works along the batch axis, which no layer of xpnet does")
        if self.axes[axis] != self.rank - 1:
            others = iter(range(1, n - 1))
            self.arrange(tuple(0 if i == 0 else n - 1 if i == axis % n else next(others) for i in range(n)))

    def drop_ones(self, keep: bool = False) -> None:
        """Bring the axes into the graph's order without its extra axes of length 1; `keep` adds these by a Reshape."""
        real = [axis for axis in self.axes if axis is not None]
        ones = [i for i, axis in enumerate(self.axes) if axis is None]
        self.axes = tuple(real)
        self.plain()
        if keep:
            shape = list(self.shape)
            for i in ones:
                shape.insert(i - 1, 1)
            self.add(nn.Reshape(*shape), axes=in_order(len(shape) + 1))
