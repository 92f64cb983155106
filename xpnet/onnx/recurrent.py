"""RNN, LSTM and GRU. In ONNX, time is the first axis, and directions have an axis of their own.

A mask may have holes, which the ONNX operators do not support: a layer with a mask is written as a Scan over its step.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper

from xpnet import nn
from xpnet.nn.shapes import in_tuple
from xpnet.nn.through_time import Cell, Recurrent
from xpnet.onnx.chain import DIRECTION, UNIT, Axes, Chain
from xpnet.onnx.graph import GraphWriter, Tensor
from xpnet.onnx.registry import exporter, importer
from xpnet.onnx.structure import Node

TIME_FIRST = (1, 0, 2)
GATES = {"RNN": (0,), "LSTM": (0, 2, 1, 3), "GRU": (1, 0, 2)}  # our gates in the order of ONNX: i o f c, and z r h


@exporter(nn.RNN, nn.LSTM, nn.GRU)
def recurrent(layer: Recurrent, x: Any, graph: GraphWriter) -> Any:
    x, *others = in_tuple(x)
    directions, n_states = layer.directions, len(layer.state_names)
    mask = graph.as_integers(graph.plain(others.pop(0))) if layer.mask else ""
    first = [graph.arranged(state, TIME_FIRST).name for state in others]  # (layers directions, N, units)
    y = graph.arranged(x, TIME_FIRST).name
    write = _scanned if mask else _operator
    last: list[list[str]] = [[] for _ in range(n_states)]
    for start in range(0, len(layer.cells), directions):
        rows = [graph.constant([i], "int64") for i in (start, start + directions)]
        before = [graph.op("Slice", state, *rows) for state in first]
        y, *after = write(layer, layer.cells[start : start + directions], y, mask, before, graph)
        for states, state in zip(last, after, strict=True):
            states.append(state)
    whole = Tensor(y, TIME_FIRST)
    if not layer.return_state:
        return whole
    return (whole, *(Tensor(graph.op("Concat", *states, axis=0), TIME_FIRST) for states in last))


def _operator(
    layer: Recurrent, cells: list[Cell], x: str, mask: str, before: list[str], graph: GraphWriter
) -> list[str]:
    """Write one layer; returns y (T, N, D units) and the last states (D, N, units)."""
    kind = type(layer).__name__
    stacked = [np.stack(parts) for parts in zip(*(_weights(kind, cell, graph) for cell in cells), strict=True)]
    more = {"linear_before_reset": 1} if kind == "GRU" else {}
    direction = "bidirectional" if len(cells) == 2 else "forward"
    inputs = [x, *map(graph.constant, stacked), *([""] if before else []), *before]
    y, *after = graph.ops(
        kind, *inputs, outputs=1 + len(layer.state_names), hidden_size=layer.units, direction=direction, **more
    )
    side_by_side = graph.op("Transpose", y, perm=[0, 2, 1, 3])  # from (T, D, N, units)
    return [graph.op("Reshape", side_by_side, graph.constant([0, 0, -1], "int64")), *after]


def _weights(kind: str, cell: Cell, graph: GraphWriter) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """W (k units, C), R (k units, units) and B (2 k units,), which holds the biases of x W and of h U."""
    W, U, b = (graph.values(cell[name]) for name in "WUb")
    own = np.zeros_like(b)
    if "b_hn" in cell:
        own[-len(U) :] = graph.values(cell["b_hn"])
    return _by_gate(kind, W.T), _by_gate(kind, U.T), np.concatenate([_by_gate(kind, b), _by_gate(kind, own)])


def _by_gate(kind: str, rows: np.ndarray) -> np.ndarray:
    """Rows (k units, ..) with their gates in the order of ONNX."""
    order = GATES[kind]
    blocks = rows.reshape(len(order), -1, *rows.shape[1:])
    return blocks[list(order)].reshape(rows.shape)


# With a mask ------------------------------------------------------------------------------------------------------


def _scanned(
    layer: Recurrent, cells: list[Cell], x: str, mask: str, before: list[str], graph: GraphWriter
) -> list[str]:
    """The same as `_operator`, with a Scan over the steps for each direction."""
    steps = graph.op("Unsqueeze", graph.op("Transpose", mask, perm=[1, 0]), graph.constant([2], "int64"))  # (T, N, 1)
    real = graph.op("Cast", steps, to=TensorProto.BOOL)
    outputs: list[list[str]] = []
    for direction, cell in enumerate(cells):
        a = graph.op("Add", graph.op("MatMul", x, graph.parameter(cell["W"])), graph.parameter(cell["b"]))
        states = [graph.op("Gather", state, graph.constant(direction, "int64"), axis=0) for state in before]
        states = states or [_zeros(layer, x, graph)] * len(layer.state_names)
        *after, y = graph.ops(
            "Scan", *states, a, real, outputs=len(states) + 1, body=_step(layer, cell, graph), num_scan_inputs=2,
            scan_input_directions=[direction] * 2, scan_output_directions=[direction],
        )  # fmt: skip
        first = graph.constant([0], "int64")
        outputs.append([y, *(graph.op("Unsqueeze", state, first) for state in after)])
    side_by_side, *last = zip(*outputs, strict=True)
    return [graph.op("Concat", *side_by_side, axis=2), *(graph.op("Concat", *states, axis=0) for states in last)]


def _zeros(layer: Recurrent, x: str, graph: GraphWriter) -> str:
    """An initial state (N, units) of zeros."""
    n = graph.op("Shape", x, start=1, end=2)
    shape = graph.op("Concat", n, graph.constant([layer.units], "int64"), axis=0)
    return graph.op("Expand", graph.constant(0.0), shape)


def _step(layer: Recurrent, cell: Cell, graph: GraphWriter) -> Any:
    """One step as a graph: states, a_t (N, k units), real (N, 1) -> states, y_t."""
    place = cell["W"].name
    given = [f"{place}/{name}" for name in layer.state_names]
    a, real = f"{place}/a", f"{place}/real"
    with graph.body() as nodes:
        g = graph.op("MatMul", given[0], graph.parameter(cell["U"]))
        stepped = FORMULAS[type(layer).__name__](a, g, given, cell, graph)
        after = [graph.op("Where", real, new, old) for new, old in zip(stepped, given, strict=True)]
        y = graph.op("Where", real, after[0], graph.constant(0.0))
    kinds = dict.fromkeys([*given, a, *after, y], TensorProto.FLOAT) | {real: TensorProto.BOOL}

    def declared(names: list[str]) -> list[Any]:
        return [helper.make_tensor_value_info(name, kinds[name], None) for name in names]

    return helper.make_graph(nodes, place, declared([*given, a, real]), declared([*after, y]))


def _rnn(a: str, g: str, states: list[str], cell: Cell, graph: GraphWriter) -> list[str]:
    return [graph.op("Tanh", graph.op("Add", a, g))]


def _lstm(a: str, g: str, states: list[str], cell: Cell, graph: GraphWriter) -> list[str]:
    i, f, o, n = graph.ops("Split", graph.op("Add", a, g), outputs=4, axis=-1, num_outputs=4)
    i, f, o, n = *(graph.op("Sigmoid", gate) for gate in (i, f, o)), graph.op("Tanh", n)
    c = graph.op("Add", graph.op("Mul", f, states[1]), graph.op("Mul", i, n))
    return [graph.op("Mul", o, graph.op("Tanh", c)), c]


def _gru(a: str, g: str, states: list[str], cell: Cell, graph: GraphWriter) -> list[str]:
    a_r, a_z, a_n = graph.ops("Split", a, outputs=3, axis=-1, num_outputs=3)
    g_r, g_z, g_n = graph.ops("Split", g, outputs=3, axis=-1, num_outputs=3)
    r, z = (graph.op("Sigmoid", graph.op("Add", *pair)) for pair in ((a_r, g_r), (a_z, g_z)))
    g_n = graph.op("Add", g_n, graph.parameter(cell["b_hn"]))
    n = graph.op("Tanh", graph.op("Add", a_n, graph.op("Mul", r, g_n)))
    return [graph.op("Add", n, graph.op("Mul", z, graph.op("Sub", states[0], n)))]


FORMULAS = {"RNN": _rnn, "LSTM": _lstm, "GRU": _gru}


# From ONNX ----------------------------------------------------------------------------------------------------------


ACTIVATIONS = {"RNN": ["Tanh"], "LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"]}


@importer("RNN", "LSTM", "GRU")
def from_recurrent(node: Node, chain: Chain) -> None:
    """A layer with initial states of 0; its first output, that of all steps, is used."""
    W, R, b = node.needed(1), node.needed(2), node.constant(3)
    directions, units = R.shape[0], R.shape[2]
    _check(node, directions)
    b = np.zeros((directions, 2 * W.shape[1]), W.dtype) if b is None else b
    cells = [_cell(node.kind, *cell) for cell in zip(W, R, b, strict=True)]
    values = {f"cells.{i}.{name}": a for i, cell in enumerate(cells) for name, a in cell.items()}
    axes: Axes = (1, DIRECTION, 0, UNIT) if directions == 2 else (1, None, 0, 2)
    chain.arrange(TIME_FIRST)
    chain.add(getattr(nn, node.kind)(units, bidirectional=directions == 2), values, axes)


def _check(node: Node, directions: int) -> None:
    """Raise `ModelFileError` for options that no layer has."""
    usual = {
        "activations": ACTIVATIONS[node.kind] * directions,
        "direction": ("forward", "bidirectional")[directions - 1],
        "hidden_size": node.get("hidden_size", 0),
        "linear_before_reset": 1 if node.kind == "GRU" else 0,
        "layout": 0,
        "input_forget": 0,
    }
    given = {"linear_before_reset": 0, **node.attributes}
    strange = {name: value for name, value in given.items() if value != usual.get(name)}
    if strange:
        raise node.error(f"no layer of xpnet has the attributes {strange}")
    if node.constant(4) is not None or node.constant(7) is not None:
        raise node.error("it has sequence lengths or peepholes, which no layer of xpnet has")
    if any(state is not None and state.any() for state in (node.constant(5), node.constant(6))):
        raise node.error("its initial state is not 0, which cannot be read")


def _cell(kind: str, W: np.ndarray, R: np.ndarray, b: np.ndarray) -> dict[str, np.ndarray]:
    """The reverse of `_weights`. The two biases are added, except for b_hn of a GRU, which gate r multiplies."""
    W, R, of_x, of_h = (_from_gates(kind, rows) for rows in (W, R, *b.reshape(2, -1)))
    if kind != "GRU":
        return {"W": W.T, "U": R.T, "b": of_x + of_h}
    units = R.shape[1]
    return {"W": W.T, "U": R.T, "b": of_x + np.append(of_h[:-units], np.zeros(units)), "b_hn": of_h[-units:]}


def _from_gates(kind: str, rows: np.ndarray) -> np.ndarray:
    """The reverse of `_by_gate`."""
    order = GATES[kind]
    blocks = rows.reshape(len(order), -1, *rows.shape[1:])
    return blocks[np.argsort(order)].reshape(rows.shape)
