"""Looking at what passes between layers, without a word about it in any layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from xpnet.backend import Array
from xpnet.nn.layer import Layer

Visit = Callable[[str, Layer, str, Array | None], None]


@contextmanager
def traced(network: Layer, visit: Visit, containers: bool = False) -> Iterator[None]:
    """Inside the block, every layer (with or without those that hold others) calls `visit(path, layer, what, array)`.

    What is "forward", with its y, or "backward", with its dx (None where nobody needs it), in the order of the pass.
    """
    watched = {id(layer): (path, layer) for path, layer in network.walk() if containers or not any(layer.children())}
    before = [vars(layer).get("forward") for _, layer in watched.values()]  # of a block around this one
    for path, layer in watched.values():
        vars(layer)["forward"] = _watching(path, layer, visit)
    try:
        yield
    finally:
        for (_, layer), forward in zip(watched.values(), before, strict=True):
            del vars(layer)["forward"]
            vars(layer).update({"forward": forward} if forward else {})


def _watching(path: str, layer: Layer, visit: Visit) -> Callable:
    plain = layer.forward

    def forward(x: Array, backend: Any) -> tuple[Array, Callable]:
        y, plain_backward = plain(x, backend)
        visit(path, layer, "forward", y)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dx = plain_backward(dy, need_dx)
            visit(path, layer, "backward", dx if need_dx else None)
            return dx

        return y, backward

    return forward
