"""RNN, LSTM and GRU: their formulas, and the rows of the table of cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn.shapes import in_tuple
from xpnet.verify.cases.activation import sigmoid
from xpnet.verify.cases.arithmetic import Number, Numbers, Parameters, plain, tanh
from xpnet.verify.passes import spread
from xpnet.verify.rows import LayerCase

States = list[list[Number]]  # of one sample: h, or h and c, one number for each unit
Step = Callable[[list[Number], States, dict[str, Numbers]], States]

C, UNITS = 3, 2

# From the formulas ----------------------------------------------------------------------------------------------


def product(row: list[Number], M: Numbers, column: int) -> Number:
    total = 0.0
    for i, number in enumerate(row):
        total = total + number * M[i, column]
    return total


def rnn(x: list[Number], states: States, p: Parameters) -> States:
    (h,) = states
    return [[tanh(product(x, p["W"], j) + product(h, p["U"], j) + p["b"][j]) for j in range(len(h))]]


def lstm(x: list[Number], states: States, p: Parameters) -> States:
    h, c = states
    new_h, new_c = [], []
    for j in range(len(h)):
        i, f, o, n = (product(x, p["W"], k) + product(h, p["U"], k) + p["b"][k] for k in places(j, h, 4))
        new_c.append(sigmoid(f) * c[j] + sigmoid(i) * tanh(n))
        new_h.append(sigmoid(o) * tanh(new_c[j]))
    return [new_h, new_c]


def gru(x: list[Number], states: States, p: Parameters) -> States:
    (h,) = states
    new = []
    for j in range(len(h)):
        reset, update, candidate = ((product(x, p["W"], k) + p["b"][k], product(h, p["U"], k)) for k in places(j, h))
        r, z = sigmoid(reset[0] + reset[1]), sigmoid(update[0] + update[1])
        n = tanh(candidate[0] + r * (candidate[1] + p["b_hn"][j]))
        new.append((1.0 - z) * n + z * h[j])
    return [new]


def places(j: int, h: list[Number], blocks: int = 3) -> list[int]:
    """The columns of unit j, one in the block of each gate."""
    return [block * len(h) + j for block in range(blocks)]


def unrolled(
    x: Any, p: Parameters, step: Step, layers=1, bidirectional=False, mask=False, state=False, return_state=False
) -> Any:
    """The layer on x or (x, mask, h0, ..), one sample after the other; returns y or (y, h, ..)."""
    x, *others = in_tuple(x)
    given = others.pop(0) if mask else None
    directions, n_states = 1 + bidirectional, 2 if step is lstm else 1
    y = np.empty((*x.shape[:2], directions * UNITS), object)
    ends = [np.empty((len(x), layers * directions, UNITS), object) for _ in range(n_states)]
    for n in range(len(x)):
        rows = [list(row) for row in x[n]]
        real = [given is None or plain(given[n, t]) != 0 for t in range(len(rows))]
        for layer in range(layers):
            outputs: list[list[Number]] = [[] for _ in rows]
            for direction in range(directions):
                i = layer * directions + direction
                cell = {key.split(".")[-1]: v for key, v in p.items() if key.startswith(f"cells.{i}.")}
                states = [list(others[k][n, i]) if state else [0.0] * UNITS for k in range(n_states)]
                for t in sorted(range(len(rows)), reverse=direction == 1):
                    if real[t]:
                        states = step(rows[t], states, cell)
                    outputs[t] += states[0] if real[t] else [0.0 * rows[t][0]] * UNITS
                for end, values in zip(ends, states, strict=True):
                    end[n, i, :] = values
            rows = outputs
        for t, row in enumerate(rows):
            y[n, t, :] = row
    return (y, *ends) if return_state else y


# PyTorch --------------------------------------------------------------------------------------------------------


def _torch(
    torch: Any, x: Any, p: Any, kind: str, layers=1, bidirectional=False, mask=False, state=False, return_state=False
) -> Any:
    """The same with PyTorch's module. A mask must be 1 up to each sample's length."""
    x, *others = in_tuple(x)
    rnn_utils = torch.nn.utils.rnn
    module = getattr(torch.nn, kind)(C, UNITS, layers, batch_first=True, bidirectional=bidirectional, dtype=x.dtype)
    weights: dict[str, Any] = {}
    for i in range(layers * (1 + bidirectional)):
        layer, reverse = divmod(i, 1 + bidirectional)
        W, U, b = (p[f"cells.{i}.{key}"] for key in ("W", "U", "b"))
        own = p.get(f"cells.{i}.b_hn")
        b_h = torch.zeros_like(b) if own is None else torch.cat([torch.zeros_like(b[: 2 * UNITS]), own])
        order = _torch_order(kind)
        values = {"weight_ih": W.T[order], "weight_hh": U.T[order], "bias_ih": b[order], "bias_hh": b_h}
        weights |= {f"{key}_l{layer}{'_reverse' * reverse}": value for key, value in values.items()}
    steps = x.shape[1]
    if mask:
        x = rnn_utils.pack_padded_sequence(x, others.pop(0).sum(1), batch_first=True, enforce_sorted=False)
    first = tuple(s.swapaxes(0, 1).contiguous() for s in others) if state else None
    first = first[0] if first and len(first) == 1 else first
    y, ends = torch.func.functional_call(module, weights, (x,) if first is None else (x, first))
    if mask:
        y, _ = rnn_utils.pad_packed_sequence(y, batch_first=True, total_length=steps)
    return (y, *(end.swapaxes(0, 1) for end in in_tuple(ends))) if return_state else y


def _torch_order(kind: str) -> list[int]:
    """Columns in PyTorch's order, which has an LSTM's candidate before its output gate."""
    blocks = {"RNN": [0], "LSTM": [0, 1, 3, 2], "GRU": [0, 1, 2]}[kind]
    return [block * UNITS + j for block in blocks for j in range(UNITS)]


# Rows -----------------------------------------------------------------------------------------------------------


def up_to_a_length(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A mask (N, T) for samples of 1 to T - 1 steps, followed by padding."""
    return (np.arange(shape[1]) < rng.integers(1, shape[1], (shape[0], 1))).astype(np.int8)


def with_holes(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A random mask (N, T) of 0 and 1, in which every sample has a masked step before one that is not masked."""
    mask = rng.integers(0, 2, shape, dtype=np.int8)
    mask[:, 1], mask[:, 2] = 0, 1
    return mask


def _row(
    kind: str, what: str, steps: int | None = 4, draw_mask: Any = with_holes, batches: tuple[int, ...] = (1, 3),
    **options: Any,
) -> LayerCase:  # fmt: skip
    mask, n_states = options.get("mask", False), options.get("state", False) * (2 if kind == "LSTM" else 1)
    n_cells = options.get("layers", 1) * (1 + options.get("bidirectional", False))
    shapes: Any = ((steps, C), *[(steps,)] * mask, *[(n_cells, UNITS)] * n_states)
    draws: Any = (spread, *[draw_mask] * mask, *[spread] * n_states)
    make, step = partial(getattr(nn, kind), UNITS, **options), {"RNN": rnn, "LSTM": lstm, "GRU": gru}[kind]
    torch = None if mask and draw_mask is with_holes else partial(_torch, kind=kind, **options)
    shape, draw = (several if len(several) > 1 else several[0] for several in (shapes, draws))
    return LayerCase(kind, what, make, shape, partial(unrolled, step=step, **options), torch, batches, draw=draw)


def _rows(kind: str) -> Iterator[LayerCase]:
    yield _row(kind, "plain")
    yield _row(kind, "one step", 1)
    yield _row(kind, "two layers", layers=2)
    yield _row(kind, "both directions", bidirectional=True)
    yield _row(kind, "initial state", state=True)
    yield _row(kind, "mask", mask=True)
    yield _row(kind, "ragged batch", draw_mask=up_to_a_length, bidirectional=True, mask=True, return_state=True)
    yield _row(kind, "returned state", return_state=True)
    options = {"layers": 2, "bidirectional": True, "mask": True, "state": True, "return_state": True}
    yield _row(kind, "everything, any length", None, batches=(3,), **options)


CASES: tuple[LayerCase, ...] = (*_rows("RNN"), *_rows("LSTM"), *_rows("GRU"))
