"""The loop over time that all recurrent layers share (`recurrent.py`).

Each cell has W (C, k units), U (units, k units) and b (k units,) for k gates side by side. Let A = X W + b, one product
for all steps, and g_t = h_{t-1} U, one product per step. A step is then an elementwise formula f of a_t, g_t and the
state: s_t = f(a_t, g_t, s_{t-1}). W is initialised by `init.glorot_uniform` and U by `init.orthogonal`, each gate
separately.

Backpropagation through time (Werbos, 1990) goes from the last step to the first. At each step, dy_t is first added to
dh_t, which is part of ds_t; then (da_t, dg_t, ds_{t-1}) = f'^T ds_t, and dh_{t-1} += dg_t U^T. After the loop, for all
steps at once: dW = X^T dA, db = sum_t da_t, dU = sum_t h_{t-1}^T dg_t, dX = dA W^T. A bias that is added to the product
alone, g_t + b_hn, has the gradient sum_t dg_t.

With a mask m_t of 0 or 1, s_t = m_t f(a_t, g_t, s_{t-1}) + (1 - m_t) s_{t-1} and y_t = m_t h_t. So in the backward dy_t
is multiplied by m_t, f'^T is applied to m_t ds_t, and (1 - m_t) ds_t is added to ds_{t-1}.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.arguments import switch, whole
from xpnet.backend import Array, Backend
from xpnet.nn import init as initializers
from xpnet.nn.init import Initializer
from xpnet.nn.layer import Backward, Layer, Parameter, require_unused
from xpnet.nn.shapes import Shape, ShapeError, in_tuple, is_several

Cell = dict[str, Parameter]


class Recurrent(Layer):
    """All but the formula of a step (`_steps`): layers, directions, masks, states, and the loop over time.

    Internally, numbers that are used together are contiguous in memory: time is the first axis, and the products of a
    step have shape (gates, N, units), with one matrix (units, units) per gate. BLAS uses such small matrices where they
    lie. It would first copy one matrix of all gates, which for the few rows of a step takes as long as the product.
    """

    gates: int  # blocks of `units` columns in W, U and b
    state_names: tuple[str, ...] = ("h",)
    first_bias: Initializer = initializers.zeros
    sigmoids = 0  # how many of these blocks, the first ones, are sigmoid gates
    bias_of_product = False  # whether the last block of h U has its own bias, and so a gradient other than X W's

    def __init__(
        self,
        units: int,
        *,
        layers: int = 1,
        bidirectional: bool = False,
        mask: bool = False,
        state: bool = False,
        return_state: bool = False,
    ):
        kind = type(self).__name__
        self.units, self.layers = whole(f"units of {kind}", units, least=1), whole(f"layers of {kind}", layers, least=1)
        self.bidirectional, self.mask = switch("bidirectional", bidirectional), switch("mask", mask)
        self.state, self.return_state = switch("state", state), switch("return_state", return_state)
        self.directions = 2 if bidirectional else 1

    @property
    def accepts_integers(self) -> Any:
        several = (False, *[True] * self.mask, *[False] * (self.state * len(self.state_names)))
        return several if len(several) > 1 else False

    def build(self, shape: Shape) -> Shape:
        x = shape[0] if is_several(shape) else shape
        if len(x) != 2 or x[1] is None:
            raise ShapeError(f"takes sequences of shape (T, C), where C has a fixed length, got {x}")
        state = (self.layers * self.directions, self.units)
        inputs = {"x": x}
        if self.mask:
            inputs["mask"] = x[:1]
        if self.state:
            inputs |= {f"{name}0": state for name in self.state_names}
        if shape != (tuple(inputs.values()) if len(inputs) > 1 else x):
            raise ShapeError(f"takes {', '.join(f'{k} {v}' for k, v in inputs.items())}, got {shape}")
        n_out = self.directions * self.units
        widths = [x[1], *[n_out] * (self.layers - 1)]
        self.cells = [self._cell(width) for width in widths for _ in range(self.directions)]
        return ((x[0], n_out), *[state] * len(self.state_names)) if self.return_state else (x[0], n_out)

    def _cell(self, n_in: int) -> Cell:
        """The parameters of one direction of one layer."""
        width = self.gates * self.units
        cell = {
            "W": Parameter((n_in, width), _by_gate(initializers.glorot_uniform, self.gates)),
            "U": Parameter((self.units, width), _by_gate(initializers.orthogonal, self.gates)),
            "b": Parameter((width,), self.first_bias, decay=False),
        }
        if self.bias_of_product:
            cell["b_hn"] = Parameter((self.units,), initializers.zeros, decay=False)
        return cell

    def forward(self, x: Any, backend: Backend) -> tuple[Any, Backward]:
        xp, dtype = backend.xp, backend.dtype
        h, mask, first = self._given(x, backend)
        last = [xp.empty(s.shape, dtype) for s in first]
        several, backwards = isinstance(x, tuple), []
        for layer in range(self.layers):
            h, backward_one = self._layer(layer, h, mask, first, last, backend)
            backwards.append(backward_one)
        shape = h.shape

        def backward(dy: Any, need_dx: bool = True) -> Any:
            require_unused(backwards, self.layers)
            dy, *dlast = dy if self.return_state else (dy, *[None] * len(last))
            dh = xp.zeros(shape, dtype) if dy is None else dy.swapaxes(0, 1)
            dlast = [xp.zeros(s.shape, dtype) if d is None else d for d, s in zip(dlast, last, strict=True)]
            dfirst = [xp.empty(s.shape, dtype) for s in last]
            while backwards:
                backward_one = backwards.pop()
                dh = backward_one(dh, dlast, dfirst, need_dx or len(backwards) > 0)
            if not need_dx:
                return None
            dx = dh.swapaxes(0, 1)
            return (dx, *[None] * self.mask, *dfirst * self.state) if several else dx

        y = xp.ascontiguousarray(h.swapaxes(0, 1))
        return (y, *last) if self.return_state else y, backward

    def _given(self, x: Any, backend: Backend) -> tuple[Array, Array | None, list[Array]]:
        """x (T, N, C), the mask (T, N, 1) if there is one, and the states before the first step."""
        xp, mask = backend.xp, None
        x, *others = in_tuple(x)
        if self.mask:
            mask, *others = others
            if mask.dtype.kind not in "biu":
                raise TypeError(f"a mask holds booleans or integers, not {mask.dtype}")
            if mask.shape != x.shape[:2]:
                raise ShapeError(f"a mask of shape {mask.shape} does not fit x of shape {x.shape}", self)
            mask = (mask != 0).astype(backend.dtype).T[:, :, None]
        if any(len(state) != len(x) for state in others):
            raise ShapeError(f"has states of {', '.join(str(len(s)) for s in others)} samples, but x of {len(x)}", self)
        if not self.state:
            others = [xp.zeros((len(x), len(self.cells), self.units), backend.dtype)] * len(self.state_names)
        return xp.ascontiguousarray(x.swapaxes(0, 1)), mask, others

    def _layer(
        self, layer: int, x: Array, mask: Array | None, first: list[Array], last: list[Array], backend: Backend
    ) -> tuple[Array, Callable]:
        """One layer in all its directions: y (T, N, D units) for x (T, N, C). Writes the last states into `last`."""
        rows = range(layer * self.directions, (layer + 1) * self.directions)
        outputs, backwards = [], []
        for i in rows:
            states = [s[:, i] for s in first]
            y, states, backward_one = self._along(x, mask, states, self.cells[i], i > rows[0], backend)
            for of_all, state in zip(last, states, strict=True):
                of_all[:, i] = state
            outputs.append(y)
            backwards.append(backward_one)

        def backward(dy: Array, dlast: list[Array], dfirst: list[Array], need_dx: bool) -> Array | None:
            dx = None
            for place, i in enumerate(rows):
                part = dy[..., place * self.units : (place + 1) * self.units]
                dx_one, dstates = backwards[place](part, [d[:, i] for d in dlast], need_dx)
                for of_all, d in zip(dfirst, dstates, strict=True):
                    of_all[:, i] = d
                dx = dx_one if dx is None else dx + dx_one
            return dx

        return backend.xp.concatenate(outputs, axis=-1) if len(outputs) > 1 else outputs[0], backward

    def _along(
        self, x: Array, mask: Array | None, first: list[Array], cell: Cell, reverse: bool, backend: Backend
    ) -> tuple[Array, list[Array], Callable]:
        """One direction of a layer over time: y (T, N, units), the last states, and `backward(dy, dlast, need_dx)`."""
        xp, W, U, b_hn = backend.xp, cell["W"], cell["U"], cell.get("b_hn")
        order = range(len(x))[::-1] if reverse else range(len(x))
        before, after, last = _room_for_states(first, len(x), reverse, backend)
        a = backend.matmul(x, self._halved(W))
        a += self._halved(cell["b"])
        a_blocks, U_blocks = self._blocks(a), xp.ascontiguousarray(self._blocks(self._halved(U)))
        kept: Any = None if mask is None else 1 - mask
        step, slopes = self._steps(before, after, cell, backend)
        for t in order:
            step(t, a_blocks[t], backend.matmul(before[0][t], U_blocks))
            if mask is not None:
                for new, old in zip(after, before, strict=True):
                    new[t] *= mask[t]
                    new[t] += kept[t] * old[t]
        shape = a_blocks.shape  # (T, gates, N, units): `backward` does not name a, which would then stay in memory

        def backward(dy: Array, dlast: list[Array], need_dx: bool) -> tuple[Array | None, list[Array]]:
            da = xp.empty(shape, dy.dtype)
            dg = da if b_hn is None else xp.empty(shape, dy.dtype)
            step_back = slopes(da, dg)
            if mask is not None:
                dy = dy * mask
            dstates = [d.copy() for d in dlast]
            U_blocks_T = xp.ascontiguousarray(self._blocks(U.data).swapaxes(1, 2))
            for t in order[::-1]:
                dstates[0] += dy[t]
                through = dstates if mask is None else [mask[t] * d for d in dstates]
                direct = step_back(t, *through)  # f'^T of these; what comes through g_t is added below
                if mask is not None:
                    direct = [d + kept[t] * around for d, around in zip(direct, dstates, strict=True)]
                dstates = [direct[0] + backend.matmul(dg[t], U_blocks_T).sum(axis=0), *direct[1:]]
            dA = self._rows(da, xp)
            dG = dA if b_hn is None else self._rows(dg, xp)
            W.add_grad(x.reshape(-1, x.shape[-1]).T, dA)
            U.add_grad(before[0].reshape(-1, self.units).T, dG)
            cell["b"].add_grad_sum(dA)
            if b_hn is not None:
                b_hn.add_grad_sum(dg[:, -1])
            return backend.matmul(dA, W.data.T).reshape(x.shape) if need_dx else None, dstates

        return after[0] if mask is None else after[0] * mask, last, backward

    def _halved(self, p: Parameter) -> Array:
        """W, U or b with the columns of the sigmoid gates halved, as sigmoid(z) is computed from tanh(z / 2)."""
        columns = p.data.copy()
        columns[..., : self.sigmoids * self.units] *= 0.5
        return columns

    def _blocks(self, rows: Array) -> Array:
        """(..., N, gates units) seen as (..., gates, N, units)."""
        return rows.reshape(*rows.shape[:-1], self.gates, self.units).swapaxes(-2, -3)

    def _rows(self, blocks: Array, xp: Any) -> Array:
        """(T, gates, N, units) copied to (T N, gates units)."""
        return xp.ascontiguousarray(blocks.swapaxes(1, 2)).reshape(-1, self.gates * self.units)

    def _steps(self, before: list[Array], after: list[Array], cell: Cell, backend: Backend) -> tuple[Callable, ...]:
        """`step(t, a, g)` and `slopes(da, dg)`, for the states (T, N, units) before and after each step.

        `step` takes a_t and g_t (gates, N, units), with the blocks of sigmoids halved (`_halved`), and writes the
        states after step t. It may overwrite g.

        `slopes` writes the factors that gradients are multiplied by into da and dg (T, gates, N, units), for all steps
        at once, and returns `step_back(t, *dstates)`. That multiplies the factors of step t by the gradients, and
        returns the gradients of the states before the step, without the part through g. It may overwrite `dstates`.

        da and dg are the same array where X W and h U are only added.
        """
        raise NotImplementedError


def _room_for_states(
    first: list[Array], n_steps: int, reverse: bool, backend: Backend
) -> tuple[list[Array], list[Array], list[Array]]:
    """Three lists with an array for each kind of state: before each step, after each step, and after the last step.

    The first two are overlapping views (T, N, units) of the same memory, into which the steps write. The first states
    (N, units) are copied to the place where the first step looks for them.
    """
    begin, end = (-1, 0) if reverse else (0, -1)
    states = [backend.xp.empty((n_steps + 1, *state.shape), backend.dtype) for state in first]
    for of_all, state in zip(states, first, strict=True):
        of_all[begin] = state
    earlier, later, last = [s[:-1] for s in states], [s[1:] for s in states], [s[end] for s in states]
    return (later, earlier, last) if reverse else (earlier, later, last)


def _by_gate(init: Initializer, gates: int) -> Initializer:
    """Draws each gate's block of columns separately, so that the number of outputs (fan-out) is one gate's."""

    def draw(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        return np.concatenate([init(rng, (shape[0], shape[1] // gates)) for _ in range(gates)], axis=1)

    return Initializer(f"{init.name} by gate", draw)
