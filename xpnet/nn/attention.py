"""Attention: each position of a sequence reads from others, weighted by the products of queries and keys."""

from __future__ import annotations

import math
from typing import Any

from xpnet.arguments import a_function, switch, whole
from xpnet.backend import Array, Backend
from xpnet.nn import init as initializers
from xpnet.nn.init import Initializer
from xpnet.nn.layer import Backward, Layer
from xpnet.nn.linear import Linear
from xpnet.nn.position import rotated, waves
from xpnet.nn.shapes import Shape, ShapeError, in_tuple, is_several

__all__ = ["MultiHeadAttention"]


class MultiHeadAttention(Layer):
    """y = concat(head_1, ..., head_h) W_out, where each head is attention in d = C / h channels.  y: (N, T, C).

        x            self-attention, x (N, T, C) reads itself: q, k, v = x W_qkv, W_qkv: (C, 3C)
        (x, memory)  cross-attention, x reads memory (N, S, D): q = x W_q; k, v = memory W_kv, W_kv: (D, 2C)
        (.., mask)   either, and mask (N, S): 1 where a position may be read, 0 for padding

    Lengths may be free (None). A mask holds whole numbers or booleans and has no gradient. `causal`: position t reads
    no position after t. `rotary` rotates q and k by angles that grow with their positions, so that scores depend on
    distances (see `position.rotated`). Both are for self-attention only: between two sequences there are no distances.
    Where nothing may be read, the heads are 0, and so are their gradients. Masked inputs must be finite too, because 0
    times infinity is NaN.

    For one head with queries q: (T, d), keys k and values v: (S, d), a_ts are the scores, and p_ts are the attention
    weights, the probabilities of reading s at t:

        a_ts = q_t . k_s / sqrt(d),   p_ts = e^(a_ts) / sum_r e^(a_tr) (0 where masked),   y_t = sum_s p_ts v_s

    Backward: dv_s = sum_t p_ts dy_t,  dp_ts = dy_t . v_s,  and as dp_ts/da_tr = p_ts (1[s=r] - p_tr),

        da_ts = p_ts (dp_ts - sum_r p_tr dp_tr) = p_ts (dp_ts - dy_t . y_t),
        dq_t = sum_s da_ts k_s / sqrt(d),   dk_s = sum_t da_ts q_t / sqrt(d).

    Vaswani et al., "Attention is all you need" (2017). Replacing sum_r p_tr dp_tr by dy_t . y_t saves a pass over
    (S, T): Dao et al., "FlashAttention" (2022). Where p is nearly 1 for one s, dp - dy . y is the difference of two
    almost equal sums and has no correct digits: it is a rounding error of about 1e-7 |dy| |v| in float32, in place of
    something smaller.

    The probabilities are kept for the backward, N h S T numbers, and no other array of that size. Computing them again
    from q and k would cost one of the forward's two products over (S, T), and the exponentials.

    `init` draws the matrices; the scale of the default does not depend on how many outputs share a matrix.
    """

    def __init__(
        self,
        heads: int,
        causal: bool = False,
        rotary: bool = False,
        bias: bool = True,
        init: Initializer = initializers.lecun_normal,
    ):
        a_function("init is an initializer, such as nn.init.he_normal", init)
        self.heads = whole("heads of MultiHeadAttention", heads, least=1)
        self.causal, self.rotary = switch("causal", causal), switch("rotary", rotary)
        self.bias, self.init = switch("bias", bias), init

    def build(self, shape: Shape) -> Shape:
        inputs = shape if is_several(shape) else (shape,)
        self.masked = len(inputs) > 1 and len(inputs[-1]) == 1
        sequences = inputs[: len(inputs) - self.masked]
        if len(sequences) > 2 or any(len(s) != 2 or s[1] is None for s in sequences):
            raise ShapeError(f"takes (T, C), and optionally a memory (S, D) and a mask (S,) after it, got {shape}")
        if self.masked and inputs[-1][0] != sequences[-1][0]:
            raise ShapeError(f"its mask has shape {inputs[-1]}, which does not fit a sequence of shape {sequences[-1]}")
        self.crossed = len(sequences) == 2
        if self.crossed and (self.causal or self.rotary):
            raise ShapeError("takes no memory with causal or rotary, which compare positions within one sequence")
        C = sequences[0][1]
        if C % self.heads or (self.rotary and C // self.heads % 2):
            even = ", each of an even number, as rotary needs" if self.rotary else ""
            raise ShapeError(f"cannot split {C} channels into {self.heads} heads{even}")
        if self.crossed:
            self.q, self.kv = self._linear(C, sequences[0]), self._linear(2 * C, sequences[1])
        else:
            self.qkv = self._linear(3 * C, sequences[0])
        self.out = self._linear(C, sequences[0])
        several = (False,) * len(sequences) + (True,) * self.masked
        self.accepts_integers = several if len(several) > 1 else False
        return sequences[0]

    def _linear(self, n_out: int, shape: Shape) -> Linear:
        layer = Linear(n_out, bias=self.bias, init=self.init)
        layer.built(shape)
        return layer

    def forward(self, x: Any, backend: Backend) -> tuple[Array, Backward]:
        inputs = in_tuple(x)
        masks = [additive_mask(inputs[-1][:, None, :, None] == 0, backend)] if self.masked else []
        if self.crossed:
            (q, backward_q), (kv, backward_kv) = self.q(inputs[0], backend), self.kv(inputs[1], backend)
            (q,), (k, v) = self._split_heads(q), self._split_heads(kv)
        else:
            qkv, backward_qkv = self.qkv(inputs[0], backend)
            q, k, v = self._split_heads(qkv)
        if self.masked and inputs[-1].shape[1] != k.shape[2]:
            raise ShapeError(
                f"its mask has length {inputs[-1].shape[1]}, but the sequence that it reads {k.shape[2]}", self
            )
        if self.causal:
            masks.append(causal_mask(0, q.shape[2], backend))
        rotate, rotate_back = self._rotations(0, q, backend)
        heads, backward_heads = attention(rotate(q), rotate(k), v, masks, backend)
        y, backward_out = self.out(merged(backend, heads), backend)

        def backward(dy: Array, need_dx: bool = True) -> Any:
            (dheads,) = self._split_heads(backward_out(dy))
            dq, dk, dv = backward_heads(dheads)
            dq, dk = rotate_back(dq), rotate_back(dk)
            if self.crossed:
                dx = [backward_q(merged(backend, dq), need_dx), backward_kv(merged(backend, dk, dv), need_dx)]
            else:
                dx = [backward_qkv(merged(backend, dq, dk, dv), need_dx)]
            return (*dx, *[None] * self.masked) if isinstance(x, tuple) else dx[0]

        return y, backward

    def decode(self, x: Array, cache: dict[str, Any], backend: Backend) -> Array:
        """y for the next T positions of each sequence, without a backward.  x, y: (N, T, C).

        `cache`, {} at first, keeps the keys and values of all positions so far, so that nothing is computed twice.
        They are copied at each call, which reads them all anyway. Raises ValueError if the layer is not causal,
        or has a mask.
        """
        if not self.causal or self.masked:
            raise ValueError("only causal attention without a mask can continue from a cache")
        q, k, v = self._split_heads(self.qkv(x, backend)[0])
        start = cache["k"].shape[2] if cache else 0
        rotate, _ = self._rotations(start, q, backend)
        q, k = rotate(q), rotate(k)
        if cache:
            k, v = (backend.xp.concatenate([cache[name], new], axis=2) for name, new in (("k", k), ("v", v)))
        cache["k"], cache["v"] = k, v
        heads, _ = attention(q, k, v, [causal_mask(start, q.shape[2], backend)], backend)
        return self.out(merged(backend, heads), backend)[0]

    def weights(self, x: Array, backend: Backend) -> Array:
        """The attention weights p_ts of each head: (N, h, T, T), for x (N, T, C). Raises ValueError for a layer that
        reads another sequence or has a mask."""
        if self.crossed or self.masked:
            raise ValueError("weights can be shown only for self-attention without a mask")
        q, k, _ = self._split_heads(self.qkv(x, backend)[0])
        rotate, _ = self._rotations(0, q, backend)
        one_hot = backend.xp.eye(q.shape[2], dtype=q.dtype)  # with row s of it as v_s, y_t is the row p_t
        masks = [causal_mask(0, q.shape[2], backend)] if self.causal else []
        return attention(rotate(q), rotate(k), one_hot, masks, backend)[0]

    def _split_heads(self, a: Array) -> Array:
        """A view of (N, T, m C), with m = 3 for q, k and v, as (m, N, h, T, d). Products need no copy of it."""
        N, T, C = len(a), a.shape[1], self.out.W.shape[0]
        return a.reshape(N, T, a.shape[2] // C, self.heads, C // self.heads).transpose(2, 0, 3, 1, 4)

    def _rotations(self, start: int, q: Array, backend: Backend) -> tuple[Any, Any]:
        """Two functions: one rotates heads by their positions, from `start` on, the other rotates them back."""
        if not self.rotary:
            return (lambda a: a), (lambda a: a)
        cos, sin = waves(start, q.shape[2], q.shape[3], backend)
        return (lambda a: rotated(a, cos, sin, backend)), (lambda a: rotated(a, cos, -sin, backend))


def attention(q: Array, k: Array, v: Array, masks: list[Array], backend: Backend) -> tuple[Array, Any]:
    """y (N, h, T, d), and backward(dy) -> (dq, dk, dv), for q (N, h, T, d) and k, v (N, h, S, d).

    The `masks` are added to the scores: -inf where nothing may be read, 0 elsewhere. The scores are stored keys first,
    (N, h, S, T), so that the maximum and the sum over the keys work on rows, of which a CPU takes many numbers at once.
    """
    xp, scale = backend.xp, 1 / math.sqrt(q.shape[-1])
    of_keys, of_channels = backend.ones(k.shape[-2], k.dtype)[None, :], backend.ones(v.shape[-1], v.dtype)[:, None]
    p = backend.matmul(k, q.swapaxes(-1, -2))  # the scores a, turned into p in place
    p *= scale
    for mask in masks:
        p += mask
    if p.shape[-2]:  # without keys there is no maximum, and nothing to subtract it from
        # A query that may read nothing has the maximum -inf, and -inf - -inf is NaN: subtract a finite number there.
        p -= xp.maximum(p.max(axis=-2, keepdims=True), float(xp.finfo(p.dtype).min))
    xp.exp(p, out=p)
    p /= xp.maximum(backend.full_matmul(of_keys, p), 1)  # the sum is at least e^0, or 0 where nothing may be read
    y = backend.matmul(p.swapaxes(-1, -2), v)

    def backward(dy: Array) -> tuple[Array, Array, Array]:
        da = backend.matmul(v, dy.swapaxes(-1, -2))  # dp, turned into da in place
        da -= backend.full_matmul(dy * y, of_channels).swapaxes(-1, -2)
        da *= p
        da *= scale
        return backend.matmul(da.swapaxes(-1, -2), k), backend.matmul(da, q), backend.matmul(p, dy)

    return y, backward


def merged(backend: Backend, *parts: Array) -> Array:
    """m arrays (N, h, T, d) as (N, T, m h d): the reverse of `_split_heads`."""
    N, h, T, d = parts[0].shape
    whole = backend.xp.empty((N, T, len(parts), h, d), parts[0].dtype)
    for i, part in enumerate(parts):
        whole[:, :, i] = part.transpose(0, 2, 1, 3)
    return whole.reshape(N, T, len(parts) * h * d)


def additive_mask(unread: Array, backend: Backend) -> Array:
    """What is added to scores: -inf where a position may not be read, 0 elsewhere."""
    return backend.xp.where(unread, -math.inf, 0.0).astype(backend.dtype)


def causal_mask(start: int, T: int, backend: Backend) -> Array:
    """An additive mask (S, T) with S = start + T: each of the T positions from `start` on reads no later one."""
    arange = backend.xp.arange
    return additive_mask(arange(start + T)[:, None] > arange(start, start + T), backend)
