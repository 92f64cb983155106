"""A graph while it is written: nodes, constants, and in which order the axes of a value stand there.

ONNX has the channels of images and sequences before their other axes, (N, C, H, W); xpnet has them last. Nothing is
transposed before an operator needs it: a `Tensor` says which order it has, elementwise operators keep it, and between
two convolutions no Transpose is left.
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
    """A value of the graph: axis i of it is axis `axes[i]` of the layer's array, whose axis 0 is the batch.

    `source` is the name of the input whose numbers it holds, if nothing has been computed yet.
    """

    name: str
    axes: Order
    source: str = ""

    @property
    def channels(self) -> int:
        """At which axis the channels are, the last of the layer's."""
        return self.axes.index(len(self.axes) - 1)

    def computed(self, name: str) -> Tensor:
        """What an operator made of it, with as many axes in the same order."""
        return Tensor(name, self.axes)

    def moved(self, name: str, axes: Order) -> Tensor:
        """The same numbers in other places."""
        return Tensor(name, axes, self.source)


def in_order(rank: int) -> Order:
    """The order of axes that the layer's array has: the batch, `rank - 1` others."""
    return tuple(range(rank))


def channels_first(rank: int) -> Order:
    """(N, C, H, W)."""
    return (0, rank - 1, *range(1, rank - 1)) if rank > 2 else in_order(rank)


class GraphWriter:
    """The nodes and constants so far.

    `op(kind, *inputs, **attributes)` adds a node and gives the name of its output. `parameter` and `constant` give
    names of values that are known. `layer` writes a layer inside another one. `plain(x)` is x with its axes in the
    layer's order, `arranged(x, axes)` in another one. `as_integers(x)` is x for an operator that needs whole numbers,
    `as_numbers(x)` for a layer that takes them, but needs float32.
    """

    def __init__(self, model: Model):
        self._values = model.tensors()
        self._paths = {id(layer): path for path, layer in model.network.walk()}
        self._transposed: dict[tuple[str, Order], str] = {}
        self._place = ""
        self._count = 0
        self.nodes: list[NodeProto] = []
        self.initialisers: dict[str, TensorProto] = {}
        self.integers: set[str] = set()  # inputs that are read as whole numbers
        self._numbers: set[str] = set()  # inputs that could be, and are not

    def layer(self, layer: Layer, x: Any) -> Any:
        """The outputs of the layer for x. Raises `ExportError` where nobody has said how such a layer is written."""
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
        """Add a node; the name of its output."""
        return self.ops(kind, *inputs, outputs=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, outputs: int, **attributes: Any) -> list[str]:
        """Add a node; the names of its outputs."""
        if not all(isinstance(name, str) for name in inputs):
            raise TypeError(f"{kind} takes the names of its inputs: that of a Tensor is graph.plain(x).name")
        self._count += 1
        name = f"{self._place or 'network'}/{kind}_{self._count}"
        names = [name] if outputs == 1 else [f"{name}:{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name, **attributes))
        return names

    @contextmanager
    def body(self) -> Iterator[list[NodeProto]]:
        """`with graph.body() as nodes:` what is added in there goes into `nodes`, for the body of a Scan."""
        outer, self.nodes = self.nodes, []
        try:
            yield self.nodes
        finally:
            self.nodes = outer

    # Values that are known ----------------------------------------------------------------------------------

    def values(self, parameter: Parameter) -> np.ndarray:
        return self._values[parameter.name].astype(np.float32)

    def parameter(self, parameter: Parameter, change: Callable[[np.ndarray], np.ndarray] | None = None) -> str:
        """The values of a parameter, under its name; `change` brings them into the operator's layout."""
        name, values = parameter.name, self.values(parameter)
        values = values if change is None else change(values)
        while name in self.initialisers:  # a layer that is used twice has one set, unless its layouts differ
            if np.array_equal(numpy_helper.to_array(self.initialisers[name]), values):
                return name
            name += "'"
        return self._keep(name, values)

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Numbers that are no parameter's."""
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
        """x with its axes in this order, by a Transpose if need be. Asked twice, it is written once."""
        if x.axes == axes:
            return x
        perm = tuple(x.axes.index(axis) for axis in axes)
        key = (x.name, perm)  # one name may stand for several orders: `nn.Transpose` writes no node
        if key not in self._transposed:
            self._transposed[key] = self.op("Transpose", x.name, perm=perm)
        return x.moved(self._transposed[key], axes)

    # Whole numbers ------------------------------------------------------------------------------------------

    def as_integers(self, x: Tensor) -> str:
        """The name of x as whole numbers: where it is an input, that is what the graph takes.

        An input that layers read as both, such as pixels that are looked up too, is what the first of them reads.
        """
        if x.source and x.source not in self._numbers:
            self.integers.add(x.source)
            return x.name
        return self.op("Cast", x.name, to=TensorProto.INT64)

    def as_numbers(self, x: Tensor) -> str:
        """The name of x as float32, for an operator of a layer that takes whole numbers too."""
        if x.source in self.integers:
            return self.op("Cast", x.name, to=TensorProto.FLOAT)
        self._numbers.add(x.source)
        return x.name
