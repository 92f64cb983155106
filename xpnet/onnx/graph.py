"""A graph while it is written: its nodes, its constants, and the order of axes of each value.

ONNX has the channels of images and sequences before the other axes, (N, C, H, W); xpnet has them last. A value is
transposed only when an operator needs it. A `Tensor` knows its order of axes, and elementwise operators keep it, so
that no Transpose is written between two convolutions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from xpnet.nn.layer import Layer, Parameter
from xpnet.nn.model import Model
from xpnet.nn.shapes import in_tuple
from xpnet.onnx.registry import EXPORTERS, ExportError

Order = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """A value of the graph. Its axis i is axis `axes[i]` of the layer's array, whose axis 0 is the batch.

    `source` is the name of a graph input, if the value holds its unchanged numbers.
    """

    name: str
    axes: Order
    source: str = ""

    @property
    def channels(self) -> int:
        """The axis of the channels, which are the last axis of the layer's array."""
        return self.axes.index(len(self.axes) - 1)

    def computed(self, name: str) -> Tensor:
        """The value `name` that an operator computed from this one, with the same axes in the same order."""
        return Tensor(name, self.axes)

    def moved(self, name: str, axes: Order) -> Tensor:
        """The value `name`, which holds the same numbers with other axes."""
        return Tensor(name, axes, self.source)


def in_order(rank: int) -> Order:
    """The order of axes of the layer's array: (0, 1, .., rank - 1)."""
    return tuple(range(rank))


def channels_first(rank: int) -> Order:
    """The order (N, C, H, W) for any number of axes."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 2 else in_order(rank)


class GraphWriter:
    """Collects the nodes and constants of a graph; exporters write their layers with it.

    `op(kind, *inputs, **attributes)` adds a node and returns the name of its output. `parameter` and `constant` return
    names of constant values. `layer` writes a layer inside another one. `plain(x)` is x with its axes in the layer's
    order, `arranged(x, axes)` in another one. `as_integers(x)` is x for an operator that needs whole numbers,
    `as_numbers(x)` is x as float32 for a layer that accepts whole numbers too.
    """

    def __init__(self, model: Model):
        self._values = model.tensors()
        self._paths = {id(layer): path for path, layer in model.network.walk()}
        self._transposed: dict[tuple[str, Order], str] = {}
        self._place = ""
        self._count = 0
        self.nodes: list[NodeProto] = []
        self.initialisers: dict[str, TensorProto] = {}
        self.integers: set[str] = set()  # inputs that the graph takes as whole numbers
        self._numbers: set[str] = set()  # inputs that could be whole numbers but are float32

    def layer(self, layer: Layer, x: Any) -> Any:
        """Write the layer for x; returns its outputs. Raises `ExportError` if there is no exporter for its class."""
        write = EXPORTERS.get(type(layer))
        if write is None:
            name = type(layer).__name__
            raise ExportError(
                f"there is no ONNX exporter for {name}: write a function (layer, x, graph) -> Tensor and register it "
                f"with @xpnet.onnx.exporter({name})",
                layer,
            )
        outer, self._place = self._place, self._paths.get(id(layer), self._place)
        try:
            y = write(layer, x, self)
        finally:
            self._place = outer
        if not all(isinstance(part, Tensor) for part in in_tuple(y)):
            raise ExportError(f"its exporter must return a Tensor, such as x.computed(name), not {y!r}", layer)
        return y

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node and return the names of its outputs."""
        if not all(isinstance(name, str) for name in inputs):
            raise TypeError(f"{kind} takes its inputs by name: for a Tensor x, pass graph.plain(x).name")
        self._count += 1
        name = f"{self._place or 'network'}/{kind}_{self._count}"
        names = [name] if outputs == 1 else [f"{name}:{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name, **attributes))
        return names

    @contextmanager
    def body(self) -> Iterator[list[NodeProto]]:
        """`with graph.body() as nodes:` collects the nodes added in the block in `nodes`, for the body of a Scan."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    # Values that are known ----------------------------------------------------------------------------------

    def values(self, parameter: Parameter) -> np.ndarray:
        return self._values[parameter.name].astype(np.float32)

    def parameter(self, parameter: Parameter, change: Callable[[np.ndarray], np.ndarray] | None = None) -> str:
        """Add the values of a parameter and return their name; `change` brings them into the operator's layout."""
        name, values = parameter.name, self.values(parameter)
        values = values if change is None else change(values)
        while name in self.initialisers:  # a layer that is used twice is stored once, unless its layouts differ
            if np.array_equal(numpy_helper.to_array(self.initialisers[name]), values):
                return name
            name += "'"
        return self._keep(name, values)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Add constant numbers that belong to no parameter and return their name."""
        self._count += 1
        return self._keep(f"{self._place or 'network'}/constant_{self._count}", np.asarray(values, dtype))

    def _keep(self, name: str, values: np.ndarray) -> str:
        self.initialisers[name] = numpy_helper.from_array(np.asarray(values, order="C"), name)
        return name

    # The order of axes --------------------------------------------------------------------------------------

    def plain(self, x: Tensor) -> Tensor:
        """x with its axes in the layer's order, the channels last."""
        return self.arranged(x, in_order(len(x.axes)))

    def arranged(self, x: Tensor, axes: Order) -> Tensor:
        """x with its axes in this order, by a Transpose if necessary; the same one is written only once."""
        if x.axes == axes:
            return x
        perm = tuple(x.axes.index(axis) for axis in axes)
        key = (x.name, perm)  # one name may stand for several orders: `nn.Transpose` writes no node
        if key not in self._transposed:
            self._transposed[key] = self.op("Transpose", x.name, perm=perm)
        return x.moved(self._transposed[key], axes)

    # Whole numbers ------------------------------------------------------------------------------------------

    def as_integers(self, x: Tensor) -> str:
        """The name of x as whole numbers (int64). If x is an input of the graph, the graph takes it as int64.

        If one layer needs an input as whole numbers and another as float32, the first layer decides the input's type.
        """
        if x.source and x.source not in self._numbers:
            self.integers.add(x.source)
            return x.name
        return self.op("Cast", x.name, to=TensorProto.INT64)

    def as_numbers(self, x: Tensor) -> str:
        """The name of x as float32, for a layer that accepts whole numbers too."""
        if x.source in self.integers:
            return self.op("Cast", x.name, to=TensorProto.FLOAT)
        self._numbers.add(x.source)
        return x.name
