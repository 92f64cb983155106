"""The structure of a graph that is read: its nodes, its constants, and the sequence of steps with their branches.

A network of layers is a sequence of steps. Where a value is used in several branches that meet again, the sequence has
a `Join`: a node with several computed inputs. Its branches start at the last value through which every path to the node
passes, its immediate dominator (Cooper, Harvey and Kennedy, "A simple, fast dominance algorithm", 2001).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, TypeProto, helper, numpy_helper

from xpnet.nn.saving import ModelFileError
from xpnet.onnx.known import OPERATORS, worked_out

READS_NO_NUMBERS_OF = {"Shape": 0, "CastLike": 1}  # operators that read no values of their inputs, from this index on
FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)
BATCH, FREE = 1009, 1013  # primes that stand for the batch and for free axes when shapes are computed


@dataclass(eq=False)
class Node:
    """An operator: its kind (with the domain unless it is ONNX's own), the names of its inputs and outputs."""

    kind: str
    name: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    proto: NodeProto
    reader: GraphReader
    computed: list[str] = field(default_factory=list)  # inputs that depend on values of the graph's input

    def constant(self, i: int) -> np.ndarray | None:
        """Input i, which must not depend on the graph's input; None if it is not given."""
        if i >= len(self.inputs) or not self.inputs[i]:
            return None
        if self.inputs[i] in self.computed:
            raise self.error(f"its input {i} depends on the network's input: only a constant can be read there")
        return self.reader.constant(self.inputs[i])

    def needed(self, i: int) -> np.ndarray:
        """As `constant`, for an input that must be given."""
        value = self.constant(i)
        if value is None:
            raise self.error(f"its input {i} is missing")
        return value

    @property
    def operand_is_second(self) -> bool:
        """Whether the constant is the second input, for an operator on a value and a constant."""
        return self.inputs[0] in self.computed

    @property
    def operand(self) -> np.ndarray:
        """The constant input, for an operator on a value and a constant."""
        return self.needed(int(self.operand_is_second))

    def get(self, attribute: str, default: Any) -> Any:
        return self.attributes.get(attribute, default)

    def number(self, attribute: str, default: float) -> float:
        """An attribute that is one number."""
        return as_meant(self.get(attribute, default))

    def ints(self, attribute: str, i: int) -> list[int]:
        """Whole numbers that are an attribute or, in later operator sets, input i."""
        if attribute in self.attributes:
            return list(self.attributes[attribute])
        value = self.constant(i)
        return [] if value is None else [int(n) for n in value.ravel()]

    def error(self, why: str) -> ModelFileError:
        return ModelFileError(f"the node {self.name!r} ({self.kind}) cannot be read: {why}")


@dataclass(eq=False)
class Join:
    """A node where branches meet; each branch is a list of steps from the value where they start."""

    node: Node
    branches: list[list[Step]]

    @property
    def ways(self) -> list[tuple[str, ...]]:
        """The kinds of operators on each branch."""
        return [tuple(s.node.kind if isinstance(s, Join) else s.kind for s in branch) for branch in self.branches]


Step = Node | Join


class GraphReader:
    """The graph of a file. `shapes` holds the shapes of values that are known so far: see `constant`."""

    def __init__(self, file: ModelProto, output: str | None):
        self._file = file
        self._constants = {t.name: t for t in file.graph.initializer}
        self._known: dict[str, np.ndarray] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.classes: list[str] = []  # class names, if a node gives them
        self.batch = BATCH  # or the batch size in the file
        self.nodes = [self._node(i, proto) for i, proto in enumerate(file.graph.node)]
        self._producer = {name: node for node in self.nodes for name in node.outputs if name}
        self.input = self._only_input()
        self._parent: dict[str, str] = {}  # the immediate dominator of each value that depends on the input
        self._depth = {self.input: 0}
        for node in self.nodes:
            self._follow(node)
        self.output = self._chosen(output)
        self.integers = {i.name: _kind_of(i.type) for i in file.graph.input}[self.input] not in FLOATS

    def _node(self, i: int, proto: NodeProto) -> Node:
        kind = proto.op_type if proto.domain in ("", "ai.onnx") else f"{proto.domain}.{proto.op_type}"
        attributes = {a.name: _decoded(helper.get_attribute_value(a)) for a in proto.attribute}
        return Node(kind, proto.name or f"#{i}", list(proto.input), list(proto.output), attributes, proto, self)

    def _only_input(self) -> str:
        inputs = [i.name for i in self._file.graph.input if i.name not in self._constants]
        if len(inputs) != 1:
            named = f" ({', '.join(inputs)})" if inputs else ""
            raise ModelFileError(f"the network has {len(inputs)} inputs{named}: only a network with one can be read")
        return inputs[0]

    def _chosen(self, output: str | None) -> str:
        """The name of the requested output, or of the only output of floating point numbers."""
        outputs = {o.name: _kind_of(o.type) for o in self._file.graph.output}
        names = [name for name, kind in outputs.items() if kind in FLOATS] if output is None else [output]
        if len(names) != 1:
            raise ModelFileError(f"the network has the outputs {', '.join(outputs) or 'none'}: choose one with output=")
        if names[0] not in self._depth:
            raise ModelFileError(f"no value {names[0]!r} depends on the input: the outputs are {', '.join(outputs)}")
        return names[0]

    # What does not depend on the input -----------------------------------------------------------------------

    def _follow(self, node: Node) -> None:
        """Add the node's outputs to the dominator tree if they depend on values of the graph's input."""
        node.computed = [name for name in node.inputs[: READS_NO_NUMBERS_OF.get(node.kind)] if name in self._depth]
        if not node.computed:
            return
        parent = reduce(self._common, node.computed)
        for name in filter(None, node.outputs):
            self._parent[name], self._depth[name] = parent, self._depth[parent] + 1

    def _common(self, a: str, b: str) -> str:
        """The nearest value through which all paths to a and to b pass: their nearest common dominator."""
        while a != b:
            if self._depth[a] < self._depth[b]:
                a, b = b, a
            a = self._parent[a]
        return a

    def producer(self, name: str) -> Node | None:
        """The node that computes this value, or None for an initialiser or an input."""
        return self._producer.get(name)

    def constant(self, name: str) -> np.ndarray:
        """The value of an initialiser, or one that the graph computes from initialisers and shapes.

        In shapes, `batch` stands for the batch and FREE for an axis of free length. The numbers in a Reshape thus show
        which axes are meant.
        """
        if name not in self._known:
            if name in self._constants:
                self._known[name] = self._read(self._constants[name])
            else:
                self._known[name] = self._worked_out(self._producer[name])
        return self._known[name]

    def _read(self, tensor: TensorProto) -> np.ndarray:
        try:
            return numpy_helper.to_array(tensor)
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"the initialiser {tensor.name!r} cannot be read: {error}") from None

    def _worked_out(self, node: Node) -> np.ndarray:
        if node.kind == "Shape":
            name = node.inputs[0]
            if name in self._depth and name not in self.shapes:
                raise node.error("the shape of its input is not known where it is needed")
            whole = self.shapes[name] if name in self._depth else self.constant(name).shape
            return np.array(whole[node.get("start", 0) : node.get("end", len(whole))], np.int64)
        if node.kind == "CastLike":
            return self.constant(node.inputs[0])
        if node.kind not in OPERATORS or len(node.outputs) != 1:
            raise node.error("xpnet does not compute this operator on constants or shapes")
        given = {name: self.constant(name) for name in node.inputs if name}
        try:
            return worked_out(node.proto, given, self._file)
        except ValueError as error:
            raise node.error(str(error)) from None

    # Steps --------------------------------------------------------------------------------------------------

    def steps(self) -> list[Step]:
        """The steps from the input to the output."""
        return self._row(self.input, self.output, set())

    def _row(self, start: str, end: str, taken: set[int]) -> list[Step]:
        row: list[Step] = []
        while end != start:
            node = self._producer[end]
            if id(node) in taken or end != node.outputs[0]:
                raise node.error(
                    "its outputs are used in a way that no layer of xpnet has, such as branches that cross"
                )
            taken.add(id(node))
            if len(node.computed) == 1:
                row.append(node)
                end = node.computed[0]
            else:
                fork = self._parent[end]
                row.append(Join(node, [self._row(fork, name, taken) for name in node.computed]))
                end = fork
        return row[::-1]


def as_meant(number: float) -> float:
    """The decimal number that was meant by a float32 of a file: 1e-5, not 9.999999747e-06."""
    return float(str(np.float32(number)))


def _decoded(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return [_decoded(v) for v in value] if isinstance(value, list) else value


def _kind_of(kind: TypeProto) -> int:
    """The element type of a tensor, or of the probabilities in the mappings that a ZipMap returns."""
    in_table = kind.sequence_type.elem_type.map_type.value_type
    return kind.tensor_type.elem_type or in_table.tensor_type.elem_type
