"""Layers that only rearrange numbers: Flatten, Reshape, Transpose; and Dropout, the identity in evaluation."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable

from xpnet import nn
from xpnet.onnx.chain import DIRECTION, UNIT, Chain
from xpnet.onnx.graph import GraphWriter, Tensor, in_order
from xpnet.onnx.norm import group_norm_of
from xpnet.onnx.registry import exporter, importer
from xpnet.onnx.structure import BATCH, FLOATS, FREE, Node, as_meant


@exporter(nn.Flatten)
def flatten(layer: nn.Flatten, x: Tensor, graph: GraphWriter) -> Tensor:
    x = graph.plain(x)
    return x.moved(graph.op("Flatten", x.name, axis=1), in_order(2))


@exporter(nn.Reshape)
def reshape(layer: nn.Reshape, x: Tensor, graph: GraphWriter) -> Tensor:
    x = graph.plain(x)
    shape = graph.constant([0, *layer.shape], "int64")  # 0 keeps the length of the batch
    return x.moved(graph.op("Reshape", x.name, shape), in_order(len(layer.shape) + 1))


@exporter(nn.Transpose)
def transpose(layer: nn.Transpose, x: Tensor, graph: GraphWriter) -> Tensor:
    """Writes no node: only the numbering of axes changes."""
    there = [0, *(axis + 1 for axis in layer.axes)]
    return x.moved(x.name, tuple(there.index(axis) for axis in x.axes))


@exporter(nn.Dropout)
def dropout(layer: nn.Dropout, x: Tensor, graph: GraphWriter) -> Tensor:
    return x


# From ONNX ----------------------------------------------------------------------------------------------------------


@importer("Identity", "Dropout", "Cast", "CastLike")
def from_nothing(node: Node, chain: Chain) -> None:
    """Operators that change no number. Dropout becomes a layer only if the file has it in training mode."""
    if node.kind == "Cast" and not chain.reader.integers and node.get("to", 0) not in FLOATS:
        raise node.error("no layer of xpnet converts to another dtype than a floating point one")
    if node.kind == "Dropout":
        ratio, training = node.constant(1), node.constant(2)
        if training is not None and training.item():
            chain.add(nn.Dropout(0.5 if ratio is None else as_meant(ratio.item())))


@importer("ai.onnx.ml.ZipMap")
def from_zip_map(node: Node, chain: Chain) -> None:
    """The mapping from classes to probabilities that scikit-learn writes; only the class names are read."""
    chain.reader.classes = [str(c) for c in node.get("classlabels_strings", []) or node.get("classlabels_int64s", [])]


@importer("Transpose")
def from_transpose(node: Node, chain: Chain) -> None:
    """Adds no layer yet: the next one that needs a certain order does."""
    n = len(chain.axes)
    order = node.get("perm", list(range(n))[::-1])
    if sorted(order) != list(range(n)):
        raise node.error(f"perm={order} does not fit an input of {n} axes")
    chain.axes = tuple(chain.axes[i] for i in order)


@importer("Squeeze")
def from_squeeze(node: Node, chain: Chain) -> None:
    dims = chain.dims
    axes = [axis % len(dims) for axis in node.ints("axes", 1)] or [i for i, n in enumerate(dims) if n == 1]
    _reshaped(node, chain, [n for i, n in enumerate(dims) if i not in axes])


@importer("Unsqueeze")
def from_unsqueeze(node: Node, chain: Chain) -> None:
    given = node.ints("axes", 1)
    rank = len(chain.axes) + len(given)
    dims, axes = iter(chain.dims), {axis % rank for axis in given}
    if len(axes) != len(given):
        raise node.error(f"axes={given} contains an axis twice")
    _reshaped(node, chain, [1 if i in axes else next(dims) for i in range(rank)])


@importer("Flatten")
def from_flatten(node: Node, chain: Chain) -> None:
    axis = node.get("axis", 1)
    axis += len(chain.axes) if axis < 0 else 0
    _reshaped(node, chain, [math.prod(chain.dims[:axis]), math.prod(chain.dims[axis:])])


@importer("Reshape")
def from_reshape(node: Node, chain: Chain) -> None:
    if group_norm_of(node, chain):
        return
    dims = chain.dims
    asked = [int(n) for n in node.needed(1).ravel()]
    asked = [dims[i] if n == 0 and not node.get("allowzero", 0) else n for i, n in enumerate(asked)]
    left = math.prod(dims) // max(math.prod(n for n in asked if n != -1), 1)
    _reshaped(node, chain, [left if n == -1 else n for n in asked])


def _reshaped(node: Node, chain: Chain, asked: list[int]) -> None:
    """Change the shape of the value. If only axes of length 1 are added or removed, this adds no layer."""
    if chain.axes == (1, 0, DIRECTION, UNIT) and asked == [*chain.dims[:2], 2 * chain.dims[3]]:
        chain.axes = (1, 0, 2)  # both directions side by side, as in xpnet
        return
    left = deque((axis, n) for axis, n in zip(chain.axes, chain.dims, strict=True) if axis is not None)
    same = [left.popleft()[0] if left and left[0][1] == n else None if n == 1 else -1 for n in asked]
    if not left and -1 not in same:
        chain.axes = tuple(same)
        return
    chain.drop_ones()
    if asked[:1] != [chain.reader.batch] or math.prod(asked) != math.prod(chain.dims):
        kept = "number of values" if asked[:1] == [chain.reader.batch] else "batch axis"
        raise node.error(f"it reshapes {_shown(chain.dims)} to {_shown(asked)}, which does not keep the {kept}")
    if None in chain.shape:
        raise node.error("it reshapes an axis of free length: export the network with fixed lengths")
    chain.add(nn.Flatten() if len(asked) == 2 else nn.Reshape(*asked[1:]), axes=in_order(len(asked)))


def _shown(sizes: Iterable[int]) -> str:
    """A shape as text, with names in place of the primes that stand for unknown lengths: (batch, 4), (2*batch, 2)."""
    texts = []
    for n in sizes:
        names = [name for prime, name in ((BATCH, "batch"), (FREE, "free")) if n and n % prime == 0]
        rest = n // math.prod(prime for prime in (BATCH, FREE) if n and n % prime == 0)
        texts.append("*".join([str(rest)] * (rest != 1 or not names) + names))
    return f"({', '.join(texts)})"
