"""JAX: the MLP, its step compiled by `jit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks.works import Work


def make(work: Work, threads: int, *options: str) -> Callable[[int], Any]:
    tensors = [jnp.asarray(t) for t in work.tensors().values()]
    weights = list(zip(tensors[::2], tensors[1::2], strict=True))
    x, y = (list(map(jnp.asarray, a)) for a in work.data())

    def loss(weights: Any, x: Any, y: Any) -> Any:
        for W, b in weights[:-1]:
            x = jax.nn.relu(x @ W + b)
        W, b = weights[-1]
        return -jnp.mean(jax.nn.log_softmax(x @ W + b)[jnp.arange(len(y)), y])

    @jax.jit
    def update(weights: Any, x: Any, y: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x, y)
        return value, jax.tree.map(lambda w, g: w - work.rate * g, weights, gradients)

    def step(i: int) -> Any:
        nonlocal weights
        value, weights = update(weights, x[i], y[i])
        return value.block_until_ready()

    return step


def versions() -> dict[str, str]:
    return {"JAX": jax.__version__}
