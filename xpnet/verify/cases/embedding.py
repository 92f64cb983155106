"""Embedding: rows of a table of trained vectors."""

from __future__ import annotations

from typing import Any

from xpnet import nn
from xpnet.verify.cases.arithmetic import Numbers, Parameters, filled, plain
from xpnet.verify.passes import Draw
from xpnet.verify.rows import LayerCase


def embedding(x: Numbers, p: Parameters) -> Numbers:
    W = p["W"]
    return filled((*x.shape, W.shape[1]), lambda *at: W[int(plain(x[at[:-1]])), at[-1]])


def _torch_embedding(torch: Any, x: Any, p: dict[str, Any]) -> Any:
    return torch.nn.functional.embedding(x.long(), p["W"])


def few(n: int) -> Draw:
    """Draws from only four of the numbers 0 to n - 1, among them the first and the last, so that they repeat."""
    return lambda rng, shape: rng.integers(0, 4, shape) * (n - 1) // 3


def _embedding(what: str, n: int, shape: tuple[int, ...], kind: str = "int64") -> LayerCase:
    draw = lambda rng, shape: few(n)(rng, shape).astype(kind)
    return LayerCase("Embedding", what, lambda: nn.Embedding(n, 3), shape, embedding, _torch_embedding, draw=draw)


CASES: tuple[LayerCase, ...] = (
    _embedding("words", 10, (6,)),
    _embedding("one word", 7, ()),
    _embedding("bytes in rows", 200, (2, 5), "uint8"),
    _embedding("a large table", 700, (9,)),
    _embedding("a large table, rows", 1000, (4, 5), "uint16"),
)
