"""Recurrent layers: RNN, LSTM and GRU. Here is what they share.

Of N samples with T steps (the axis may be of free length), in D directions (2 if `bidirectional`, else 1):

    x     (N, T, C)
    mask  (N, T)                 with mask=True: integers or booleans, not 0 where a sample has a step
    h0    (N, layers D, units)   with state=True: the state before the first step, else 0 (LSTM: h0, c0)
    y     (N, T, D units)        the forward direction's h, then the backward direction's
    h     (N, layers D, units)   with return_state=True: the state after the last step (LSTM: h, c)

Several inputs or outputs are tuples in this order: `LSTM(8, mask=True, state=True)` takes (x, mask, h0, c0), and
`LSTM(8, return_state=True)` gives (y, h, c). Row i of a state belongs to `cells[i]`, which holds the parameters: layer
by layer, in each the forward direction, then the backward one. Layers above the first have y of the one below as x.

A step that is masked keeps the state, and y is 0 there; what x holds there does not matter, but must be finite. So the
padding may stand anywhere, and h is the state after the last real step. A sequence without steps has a y without
steps, and its last state is its first.

Truncated backpropagation through time (Williams and Peng, 1990), for sequences too long to keep: give the last state
of one chunk to the next as h0, and leave dh0 unread.

The parameters and the way through time are in `through_time.py`; here are the formulas of a step.

For dropout between layers, put several layers in a `Sequential`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.nn.init import Initializer
from xpnet.nn.through_time import Recurrent

__all__ = ["GRU", "LSTM", "RNN"]


class RNN(Recurrent):
    """h_t = tanh(x_t W + h_{t-1} U + b).  x: (N, T, C), W: (C, units), U: (units, units), b: (units,).

    y (N, T, units) is h of all steps.  da_t = dg_t = (1 - h_t^2) dh_t.  Elman, "Finding structure in time" (1990).

    Layers, directions, masks and states are described in `xpnet.nn.recurrent`.
    """

    gates = 1

    def _step(self, a: Array, g: Array, states: list[Array], xp: Any) -> tuple[list[Array], Callable]:
        h = xp.tanh(a + g)

        def backward(dstates: list[Array], da: Array, dg: Array) -> list[Any]:
            da[...] = dstates[0] * (1 - h * h)
            return [0.0]

        return [h], backward


# Blocks i, f, o, n: the forget gate's is 1.
FORGET_1 = Initializer("forget_1", lambda rng, shape: np.repeat([0.0, 1.0, 0.0, 0.0], shape[0] // 4))


class LSTM(Recurrent):
    """c_t = f c_{t-1} + i n,  h_t = o tanh(c_t).  x: (N, T, C), W: (C, 4 units), U: (units, 4 units), b: (4 units,).

    With z = x_t W + h_{t-1} U + b, whose blocks are in the order i, f, o, n (the three of one function side by side):
    i, f, o = sigmoid(z) are the input, forget and output gates, n = tanh(z) the candidate.  y: (N, T, units).

    With t = tanh(c_t), first dc_t += o (1 - t^2) dh_t. Then di = n dc_t, df = c_{t-1} dc_t, do = t dh_t and
    dn = i dc_t, each times s (1 - s) or 1 - n^2, are da_t = dg_t; and dc_{t-1} = f dc_t.

    The forget gate's bias starts at 1, so that at first the cell remembers (Jozefowicz, Zaremba and Sutskever, 2015).
    Hochreiter and Schmidhuber, "Long short-term memory" (1997), with the forget gate of Gers, Schmidhuber and Cummins
    (2000). Layers, directions, masks and states, here h and c, are described in `xpnet.nn.recurrent`.
    """

    gates = 4
    state_names = ("h", "c")
    first_bias = FORGET_1

    def _step(self, a: Array, g: Array, states: list[Array], xp: Any) -> tuple[list[Array], Callable]:
        z, u, before = a + g, self.units, states[1]
        s, n = _opened(z[:, : 3 * u], xp), xp.tanh(z[:, 3 * u :])
        i, f, o = s[:, :u], s[:, u : 2 * u], s[:, 2 * u :]
        c = f * before + i * n
        t = xp.tanh(c)

        def backward(dstates: list[Array], da: Array, dg: Array) -> list[Any]:
            dh, dc = dstates
            dc = dc + dh * o * (1 - t * t)
            da[:, :u] = n * dc
            da[:, u : 2 * u] = before * dc
            da[:, 2 * u : 3 * u] = t * dh
            da[:, : 3 * u] *= s * (1 - s)
            da[:, 3 * u :] = i * dc * (1 - n * n)
            return [0.0, f * dc]

        return [o * t, c], backward


class GRU(Recurrent):
    """h_t = (1 - z) n + z h_{t-1}.  x: (N, T, C), W: (C, 3 units), U: (units, 3 units), b: (3 units,).

    With a = x_t W + b and g = h_{t-1} U + (0, 0, b_hn), whose blocks are in the order r, z, n: the reset and update
    gates are r, z = sigmoid(a + g), the candidate is n = tanh(a_n + r g_n). Cho et al. (2014), in the variant that
    resets after the product, as in PyTorch: one product with U a step is enough.  b_hn: (units,), y: (N, T, units).

    With dn = (1 - z) (1 - n^2) dh_t: dr = g_n dn and dz = (h_{t-1} - n) dh_t, each times s (1 - s), are the same in
    da_t and dg_t; the last block is dn in da_t and r dn in dg_t; and dh_{t-1} = z dh_t, besides what g brings.

    Layers, directions, masks and states are described in `xpnet.nn.recurrent`.
    """

    gates = 3
    bias_of_product = True

    def _step(self, a: Array, g: Array, states: list[Array], xp: Any) -> tuple[list[Array], Callable]:
        u, before = self.units, states[0]
        s = _opened(a[:, : 2 * u] + g[:, : 2 * u], xp)
        r, z, g_n = s[:, :u], s[:, u:], g[:, 2 * u :]
        n = xp.tanh(a[:, 2 * u :] + r * g_n)

        def backward(dstates: list[Array], da: Array, dg: Array) -> list[Any]:
            (dh,) = dstates
            dn = dh * (1 - z) * (1 - n * n)
            da[:, :u] = g_n * dn
            da[:, u : 2 * u] = (before - n) * dh
            da[:, : 2 * u] *= s * (1 - s)
            da[:, 2 * u :] = dn
            dg[:, : 2 * u] = da[:, : 2 * u]
            dg[:, 2 * u :] = r * dn
            return [z * dh]

        return [n + z * (before - n)], backward


def _opened(z: Array, xp: Any) -> Array:
    """How far gates are open: sigmoid(z) = (1 + tanh(z / 2)) / 2. Half the operations of `activation.sigmoid`, which
    keeps all digits near 0; of what a gate lets through, an error of 1e-7 is none."""
    s = xp.tanh(0.5 * z)
    s *= 0.5
    s += 0.5
    return s
