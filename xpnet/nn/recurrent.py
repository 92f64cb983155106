"""Recurrent layers: RNN, LSTM and GRU. What follows holds for all three.

For N samples of T steps (an axis that may be of free length), in D directions (2 if `bidirectional`, else 1):

    x     (N, T, C)
    mask  (N, T)                 with mask=True: integers or booleans, nonzero where a sample has a step
    h0    (N, layers D, units)   with state=True: the state before the first step, otherwise 0 (LSTM: h0, c0)
    y     (N, T, D units)        the forward direction's h, then the backward direction's
    h     (N, layers D, units)   with return_state=True: the state after the last step (LSTM: h, c)

Several inputs or outputs are tuples in this order: `LSTM(8, mask=True, state=True)` takes (x, mask, h0, c0), and
`LSTM(8, return_state=True)` gives (y, h, c). Row i of a sample's state belongs to `cells[i]`, which holds the
parameters. The cells are in order of the layers; within a layer the forward direction comes before the backward one.
The input x of each layer after the first is the y of the layer before it.

A step whose mask is 0 leaves the state unchanged, and its y is 0. Its x does not matter, but must be finite. So padding
may be anywhere, and h is the state after the last real step. For a sequence without steps, y has no steps either, and
the last state is the initial one.

For sequences too long to keep in memory, use truncated backpropagation through time (Williams and Peng, 1990): pass the
last state of one chunk to the next as h0, and ignore dh0.

Let a_t = x_t W + b and g_t = h_{t-1} U. This file has the formulas of one step, and of da_t and dg_t, the gradients
with respect to a_t and g_t. The gradients of W, U, b, x and h_{t-1} follow from these in `through_time.py`, which also
has the loop over time.

For dropout between layers, put several recurrent layers in a `Sequential`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.nn.init import Initializer
from xpnet.nn.through_time import Cell, Recurrent

__all__ = ["GRU", "LSTM", "RNN"]


class RNN(Recurrent):
    """h_t = tanh(x_t W + h_{t-1} U + b).  x: (N, T, C), W: (C, units), U: (units, units), b: (units,).

    y (N, T, units) is h of all steps.  The gradients with respect to x_t W + b and to h_{t-1} U are
    da_t = dg_t = (1 - h_t^2) dh_t.
    Elman, "Finding structure in time" (1990).

    Layers, directions, masks and states are described in `xpnet.nn.recurrent`.
    """

    gates = 1

    def _steps(self, before: list[Array], after: list[Array], cell: Cell, backend: Backend) -> tuple[Callable, ...]:
        (h,), xp = after, backend.xp

        def step(t: int, a: Array, g: Array) -> None:
            g += a
            xp.tanh(g[0], out=h[t])

        def slopes(da: Array, dg: Array) -> Callable:
            backend.fuse(_slope_of_tanh)(h, da[:, 0], xp)

            def step_back(t: int, dh: Array) -> list[Any]:
                da[t] *= dh
                return [0.0]

            return step_back

        return step, slopes


# Blocks i, f, o, n: the bias of the forget gate f is 1, the others are 0.
FORGET_1 = Initializer("forget_1", lambda rng, shape: np.repeat([0.0, 1.0, 0.0, 0.0], shape[0] // 4))


class LSTM(Recurrent):
    """c_t = f c_{t-1} + i n,  h_t = o tanh(c_t).  x: (N, T, C), W: (C, 4 units), U: (units, 4 units), b: (4 units,).

    With z = x_t W + h_{t-1} U + b, whose blocks are in the order i, f, o, n (the three sigmoid gates side by side):
    i, f, o = sigmoid(z) are the input, forget and output gates, n = tanh(z) the candidate.  y: (N, T, units).

    Backward: first dc_t += o (1 - tanh^2 c_t) dh_t, then di = n dc_t, df = c_{t-1} dc_t, do = tanh(c_t) dh_t and
    dn = i dc_t. The blocks of dz = da_t = dg_t are di, df and do, each times s (1 - s) of its gate s, and dn times
    1 - n^2. Last, dc_{t-1} = f dc_t.

    The forget gate's bias starts at 1, so that at first the cell remembers (Jozefowicz, Zaremba and Sutskever, 2015).
    Hochreiter and Schmidhuber, "Long short-term memory" (1997), with the forget gate of Gers, Schmidhuber and Cummins
    (2000). Layers, directions, masks and states, here h and c, are described in `xpnet.nn.recurrent`.
    """

    gates, sigmoids = 4, 3
    state_names = ("h", "c")
    first_bias = FORGET_1

    def _steps(self, before: list[Array], after: list[Array], cell: Cell, backend: Backend) -> tuple[Callable, ...]:
        (_, c_before), (h, c), xp = before, after, backend.xp
        gates, tanh_c = _empty_blocks(4, c, xp), xp.empty(c.shape, c.dtype)
        s, (i, f, o, n) = gates[:, :3], (gates[:, k] for k in range(4))

        @backend.fuse
        def tanh_of_sum(a: Array, g: Array, out: Array) -> None:
            g += a
            xp.tanh(g, out=out)

        @backend.fuse
        def states(i: Array, f: Array, o: Array, n: Array, c_before: Array, c: Array, tanh_c: Array, h: Array) -> None:
            xp.multiply(f, c_before, out=c)
            c += i * n
            xp.tanh(c, out=tanh_c)
            xp.multiply(o, tanh_c, out=h)

        def step(t: int, a: Array, g: Array) -> None:
            tanh_of_sum(a, g, gates[t])  # of z / 2 for the sigmoid gates s, of z for the candidate n
            backend.fuse(_gate_of_tanh)(s[t])
            states(i[t], f[t], o[t], n[t], c_before[t], c[t], tanh_c[t], h[t])

        @backend.fuse
        def slopes_of_states(di: Array, df: Array, do: Array, dn: Array, dc_of_dh: Array) -> None:
            di *= n
            df *= c_before
            do *= tanh_c
            _slope_of_tanh(n, dn, xp)
            dn *= i
            _slope_of_tanh(tanh_c, dc_of_dh, xp)
            dc_of_dh *= o

        @backend.fuse
        def dstates(dh: Array, dc: Array, dc_of_dh: Array, do: Array, dn: Array, f: Array) -> Array:
            dc += dc_of_dh * dh
            do *= dh
            dn *= dc
            return f * dc

        # After `slopes`, da holds the factors known without a gradient, for all steps: i (1-i) n, f (1-f) c_{t-1},
        # o (1-o) tanh c_t and (1-n^2) i. `step_back` then multiplies the third by dh_t and the others by dc_t.
        def slopes(da: Array, dg: Array) -> Callable:
            di, df, do, dn = (da[:, k] for k in range(4))
            dc_of_dh = xp.empty(c.shape, c.dtype)
            backend.fuse(_slope_of_sigmoid)(s, da[:, :3], xp)
            slopes_of_states(di, df, do, dn, dc_of_dh)

            def step_back(t: int, dh: Array, dc: Array) -> list[Any]:
                dc_before = dstates(dh, dc, dc_of_dh[t], do[t], dn[t], f[t])
                di_and_df = da[t, :2]
                di_and_df *= dc
                return [0.0, dc_before]

            return step_back

        return step, slopes


class GRU(Recurrent):
    """h_t = (1 - z) n + z h_{t-1}.  x: (N, T, C), W: (C, 3 units), U: (units, 3 units), b: (3 units,).

    With a = x_t W + b and g = h_{t-1} U + (0, 0, b_hn), whose blocks are in the order r, z, n: the reset and update
    gates are r, z = sigmoid(a + g), the candidate is n = tanh(a_n + r g_n). Cho et al. (2014), in the variant that
    applies the reset gate after the product with U, as in PyTorch: one such product per step is then enough.
    b_hn: (units,), y: (N, T, units).

    Backward: let dn = (1 - z) (1 - n^2) dh_t, dr = g_n dn and dz = (h_{t-1} - n) dh_t. The first two blocks of da_t and
    dg_t are the same, dr and dz, each times s (1 - s) of its gate s; the last block is dn in da_t and r dn in dg_t.
    dh_{t-1} = z dh_t, plus the part that comes through g.

    Layers, directions, masks and states are described in `xpnet.nn.recurrent`.
    """

    gates, sigmoids = 3, 2
    bias_of_product = True

    def _steps(self, before: list[Array], after: list[Array], cell: Cell, backend: Backend) -> tuple[Callable, ...]:
        (h_before,), (h,), b_hn, xp = before, after, cell["b_hn"].data, backend.xp
        gates, g_n = _empty_blocks(3, h, xp), xp.empty(h.shape, h.dtype)
        s, (r, z, n) = gates[:, :2], (gates[:, k] for k in range(3))

        @backend.fuse
        def sigmoids(a: Array, g: Array, s: Array) -> None:
            xp.add(a, g, out=s)
            xp.tanh(s, out=s)
            _gate_of_tanh(s)

        @backend.fuse
        def state(a: Array, g: Array, r: Array, z: Array, h_before: Array, g_n: Array, n: Array, h: Array) -> None:
            xp.add(g, b_hn, out=g_n)
            xp.multiply(r, g_n, out=n)
            n += a
            xp.tanh(n, out=n)
            xp.subtract(h_before, n, out=h)
            h *= z
            h += n

        def step(t: int, a: Array, g: Array) -> None:
            sigmoids(a[:2], g[:2], s[t])
            state(a[2], g[2], r[t], z[t], h_before[t], g_n[t], n[t], h[t])

        @backend.fuse
        def slopes_of_state(dr: Array, dz: Array, dn: Array) -> None:
            _slope_of_tanh(n, dn, xp)
            dn *= 1 - z
            dr *= g_n
            dr *= dn
            dz *= h_before - n

        @backend.fuse
        def times(dh: Array, da: Array, dg: Array) -> None:
            da *= dh
            dg *= dh

        # After `slopes`, da and dg hold the factors known without a gradient; `step_back` multiplies them by dh_t.
        def slopes(da: Array, dg: Array) -> Callable:
            backend.fuse(_slope_of_sigmoid)(s, da[:, :2], xp)
            slopes_of_state(*(da[:, k] for k in range(3)))
            dg[...] = da
            dg[:, 2] *= r

            def step_back(t: int, dh: Array) -> list[Any]:
                times(dh, da[t], dg[t])
                return [z[t] * dh]

            return step_back

        return step, slopes


def _empty_blocks(n: int, state: Array, xp: Any) -> Array:
    """Uninitialised memory (T, n, N, units) for n gates of a state (T, N, units)."""
    return xp.empty((len(state), n, *state.shape[1:]), state.dtype)


def _gate_of_tanh(s: Array) -> None:
    """Turn tanh(z / 2) into the gate sigmoid(z) = (1 + tanh(z / 2)) / 2, in place.

    This takes half the operations of `activation.sigmoid`. That function is also accurate for results near 0; in a
    gate, an error of 1e-7 does not matter.
    """
    s *= 0.5
    s += 0.5


def _slope_of_sigmoid(s: Array, out: Array, xp: Any) -> None:
    """s (1 - s)."""
    xp.multiply(s, s, out=out)
    xp.subtract(s, out, out=out)


def _slope_of_tanh(y: Array, out: Array, xp: Any) -> None:
    """1 - y^2."""
    xp.multiply(y, y, out=out)
    xp.subtract(1, out, out=out)
