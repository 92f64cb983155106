"""Attention, positions and transformer blocks: their formulas, one number at a time, and their rows."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn import Layer
from xpnet.nn.shapes import in_tuple
from xpnet.verify.cases.activation import gelu, softmax
from xpnet.verify.cases.arithmetic import Number, Numbers, Parameters, each, filled, inside, plain, residual, sequential
from xpnet.verify.cases.linear import linear
from xpnet.verify.cases.norm import layer_norm
from xpnet.verify.passes import spread
from xpnet.verify.rows import LayerCase

# From the formulas ----------------------------------------------------------------------------------------------


def attention(q: Numbers, k: Numbers, v: Numbers, heads: int, hidden: Any) -> Numbers:
    """q: (N, T, C), k, v: (N, S, C); hidden(n, t, s) says whether position t may not read position s."""
    y, d = np.empty(q.shape, object), q.shape[2] // heads
    for n, t, head in np.ndindex(*q.shape[:2], heads):
        read = [s for s in range(k.shape[1]) if not hidden(n, t, s)]
        channels = range(head * d, (head + 1) * d)
        scores = [sum((q[n, t, c] * k[n, s, c] for c in channels), start=0.0) / math.sqrt(d) for s in read]
        p = softmax(scores) if read else []
        for c in channels:
            y[n, t, c] = sum((p[i] * v[n, s, c] for i, s in enumerate(read)), start=q[n, t, c] * 0.0)
    return y


def multi_head(x: Any, p: Parameters, heads: int, causal: bool = False, rotary: bool = False) -> Numbers:
    """x as `nn.MultiHeadAttention` takes it."""
    inputs = in_tuple(x)
    mask = inputs[-1] if inputs[-1].ndim == 2 else None
    sequence, C = inputs[0], inputs[0].shape[2]
    if "q.W" in p:
        q, kv = linear(sequence, inside(p, "q")), linear(inputs[1], inside(p, "kv"))
        k, v = kv[:, :, :C], kv[:, :, C:]
    else:
        qkv = linear(sequence, inside(p, "qkv"))
        q, k, v = qkv[:, :, :C], qkv[:, :, C : 2 * C], qkv[:, :, 2 * C :]
    if rotary:
        q, k = turned(q, heads), turned(k, heads)

    def hidden(n: int, t: int, s: int) -> bool:
        return (causal and s > t) or (mask is not None and plain(mask[n, s]) == 0)

    return linear(attention(q, k, v, heads, hidden), inside(p, "out"))


def turned(a: Numbers, heads: int) -> Numbers:
    """Channels i and i + d/2 of each head, as coordinates of a point rotated by the angle t 10000^(-2i / d)."""
    y, d = np.empty(a.shape, object), a.shape[2] // heads
    for n, t, head, i in np.ndindex(*a.shape[:2], heads, d // 2):
        angle, one = t * 10000.0 ** (-2.0 * i / d), head * d + i
        other = one + d // 2
        y[n, t, one] = a[n, t, one] * math.cos(angle) - a[n, t, other] * math.sin(angle)
        y[n, t, other] = a[n, t, one] * math.sin(angle) + a[n, t, other] * math.cos(angle)
    return y


def sinusoidal(x: Numbers, p: Parameters) -> Numbers:
    def number(n: int, t: int, c: int) -> Number:
        angle = t / 10000.0 ** (2 * (c // 2) / x.shape[2])
        return x[n, t, c] + (math.cos(angle) if c % 2 else math.sin(angle))

    return filled(x.shape, number)


def learned(x: Numbers, p: Parameters) -> Numbers:
    return filled(x.shape, lambda n, t, c: x[n, t, c] + p["W"][t, c])


def block(x: Numbers, p: Parameters, heads: int, causal: bool = False, rotary: bool = False) -> Numbers:
    read = partial(multi_head, heads=heads, causal=causal, rotary=rotary)
    return sequential(residual(layer_norm, read), residual(layer_norm, linear, each(gelu), linear))(x, p)


# In PyTorch -----------------------------------------------------------------------------------------------------


def torch_multi_head(torch: Any, x: Any, p: dict[str, Any], heads: int, causal: bool = False) -> Any:
    inputs = in_tuple(x)
    mask = inputs[-1] == 0 if inputs[-1].ndim == 2 else None
    q, memory = inputs[0], inputs[1] if "q.W" in p else inputs[0]
    (T, C), S = q.shape[1:], memory.shape[1]
    weights: dict[str, Any] = {"in_proj_weight": None}
    bias = p.get("qkv.b")
    if "q.W" in p:
        weights |= {"q_proj_weight": p["q.W"].T, "use_separate_proj_weight": True}
        weights |= {"k_proj_weight": p["kv.W"][:, :C].T, "v_proj_weight": p["kv.W"][:, C:].T}
        bias = torch.cat([p["q.b"], p["kv.b"]]) if "q.b" in p else None
    else:
        weights["in_proj_weight"] = p["qkv.W"].T
    y, _ = torch.nn.functional.multi_head_attention_forward(
        *(a.transpose(0, 1) for a in (q, memory, memory)), C, heads, **weights, in_proj_bias=bias, bias_k=None,
        bias_v=None, add_zero_attn=False, dropout_p=0.0, out_proj_weight=p["out.W"].T, out_proj_bias=p.get("out.b"),
        key_padding_mask=mask, need_weights=False,
        attn_mask=torch.ones(T, S, dtype=torch.bool).triu(1) if causal else None,
    )  # fmt: skip
    return y.transpose(0, 1)


def _torch_block(torch: Any, x: Any, p: dict[str, Any], heads: int, causal: bool = False) -> Any:
    def norm(a: Any, q: dict[str, Any]) -> Any:
        return torch.nn.functional.layer_norm(a, a.shape[-1:], q["0.gamma"], q["0.beta"])

    first, second = (inside(p, f"layers.{i}.layers") for i in range(2))
    z = x + torch_multi_head(torch, norm(x, first), inside(first, "1"), heads, causal)
    hidden = torch.nn.functional.gelu(norm(z, second) @ second["1.W"] + second["1.b"], approximate="tanh")
    return z + hidden @ second["3.W"] + second["3.b"]


# Rows -----------------------------------------------------------------------------------------------------------


def padding(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Masks of zeros and ones, with a one in each row."""
    mask = rng.integers(0, 2, shape)
    mask[np.arange(len(mask)), np.arange(len(mask)) % shape[1]] = 1
    return mask


def nothing_at_last(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The same, but the mask of the last sample is all zeros."""
    mask = padding(rng, shape)
    mask[-1:] = 0
    return mask


def _row(
    kind: Callable[..., Layer], what: str, heads: int, shape: Any, draw: Any = spread, batches: tuple = (1, 3),
    **options: Any,
) -> LayerCase:  # fmt: skip
    formula, torch = (multi_head, torch_multi_head) if kind is nn.MultiHeadAttention else (block, _torch_block)
    told = {"heads": heads, **{name: value for name, value in options.items() if name in ("causal", "rotary")}}
    torch_has_it = "rotary" not in options and in_tuple(draw)[-1] is not nothing_at_last
    theirs = partial(torch, **told) if torch_has_it else None
    make, reference = partial(kind, heads, **options), partial(formula, **told)
    return LayerCase(kind.__name__, what, make, shape, reference, theirs, batches, draw=draw)


_attention, _block = partial(_row, nn.MultiHeadAttention), partial(_row, nn.TransformerBlock, heads=2, batches=(1, 2))

CASES: tuple[LayerCase, ...] = (
    _attention("one head", 1, (3, 2)),
    _attention("two heads", 2, (4, 6)),
    _attention("causal", 2, (None, 4), causal=True),
    _attention("no bias", 4, (3, 4), bias=False),
    _attention("rotary", 2, (5, 8), rotary=True),
    _attention("rotary, causal", 1, (None, 6), rotary=True, causal=True),
    _attention("padding", 2, ((4, 4), (4,)), (spread, padding)),
    _attention("padding, causal", 2, ((None, 4), (None,)), (spread, padding), causal=True),
    _attention("nothing to read", 2, ((3, 4), (3,)), (spread, nothing_at_last), (1, 4)),
    _attention("memory", 2, ((2, 4), (3, 6))),
    _attention("memory, no bias", 1, ((None, 2), (4, 3)), bias=False),
    _attention("memory with padding", 2, ((3, 4), (None, 2), (None,)), (spread, spread, padding)),
    _attention("memory with nothing to read", 2, ((2, 4), (3, 5), (3,)), (spread, spread, nothing_at_last), (1, 4)),
    LayerCase("SinusoidalPosition", "as long as is said", nn.SinusoidalPosition, (7, 6), sinusoidal),
    LayerCase("SinusoidalPosition", "any length", nn.SinusoidalPosition, (None, 2), sinusoidal),
    LayerCase("SinusoidalPosition", "one place", nn.SinusoidalPosition, (1, 4), sinusoidal),
    LayerCase("LearnedPosition", "as long as can be", lambda: nn.LearnedPosition(4), (4, 3), learned),
    LayerCase("LearnedPosition", "shorter", lambda: nn.LearnedPosition(9), (None, 2), learned),
    LayerCase("LearnedPosition", "of words", lambda: nn.LearnedPosition(2), (2, 5), learned),
    _block("plain", shape=(3, 4)),
    _block("causal", shape=(None, 4), causal=True),
    _block("rotary, no bias", shape=(4, 4), rotary=True, bias=False),
    _block("dropout, evaluation", shape=(3, 4), dropout=0.5),
)
