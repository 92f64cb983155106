"""What `benchmarks/bench.py` times: for each work the data and the first weights, the same for every contender.

A step is forward, loss, backward and update of one batch; `N_BATCHES` batches are used in turn. Images are NHWC and
weight matrices (inputs, outputs), as in xpnet; a rival converts them to its own layout before anything is timed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xpnet import nn, select
from xpnet.nn import init

N_BATCHES = 8
Arrays = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Work:
    """`network()` is xpnet's, for samples of `shape`; `batches(rng)` gives x (N_BATCHES, batch, ...) and targets.

    `rate` is the learning rate of plain SGD. The name of a rival is a file of `rivals/`, then its options, then its
    threads if not one; with "tuned malloc", its process keeps the memory that it frees.
    """

    kind: str
    title: str
    shape: tuple[int, ...]
    network: Callable[[], nn.Layer]
    batches: Callable[[np.random.Generator], Arrays]
    rate: float
    rivals: tuple[str, ...]

    @property
    def trains(self) -> bool:
        """Whether a step changes the model, which is work that several processes can share."""
        return self.kind != "answers"

    def data(self) -> Arrays:
        return self.batches(np.random.default_rng(0))

    def tensors(self) -> dict[str, np.ndarray]:
        """The first weights, by name, in the order of the layers."""
        return nn.Model(self.network(), self.shape, select("cpu", seed=1)).tensors()


TORCH = ("pytorch", "pytorch, 2 threads")
LAST = ("pytorch, channels last", "pytorch, channels last, 2 threads")
TUNED = ("pytorch, tuned malloc, 2 threads", "pytorch, channels last, tuned malloc, 2 threads")
COMPILED = ("pytorch, compiled", "pytorch, compiled, 2 threads")


def mlp(batch: int) -> Work:
    return Work(
        "mlp",
        f"MLP 784-128-64-32-10, batch {batch}, SGD",
        (784,),
        lambda: nn.mlp([784, 128, 64, 32, 10]),
        lambda rng: (rng.standard_normal((N_BATCHES, batch, 784), np.float32), rng.integers(0, 10, (N_BATCHES, batch))),
        0.1,
        (*TORCH, *COMPILED, "jaxed", "scikit"),
    )


def cnn() -> Work:
    def network() -> nn.Layer:
        image = [nn.Conv2d(32, 3, padding="valid"), nn.ReLU(), nn.Conv2d(64, 3, padding="valid"), nn.ReLU()]
        blocked = nn.Blocked(*image, nn.MaxPool2d(2))
        return nn.Sequential(blocked, nn.Flatten(), nn.Linear(128), nn.ReLU(), nn.Linear(10))

    return Work(
        "cnn",
        "CNN conv 32, conv 64, pool, 128, 10, batch 64, SGD",
        (28, 28, 1),
        network,
        lambda rng: (rng.standard_normal((N_BATCHES, 64, 28, 28, 1), np.float32), rng.integers(0, 10, (N_BATCHES, 64))),
        0.01,
        (*TORCH, *LAST, *TUNED, *COMPILED),
    )


def gpt() -> Work:
    def network() -> nn.Layer:
        small = init.normal(0.02)
        blocks = [nn.TransformerBlock(4, causal=True, bias=False, init=small) for _ in range(4)]
        first = [nn.Embedding(65, 128, init=small), nn.LearnedPosition(64, init=small)]
        return nn.Blocked(*first, *blocks, nn.LayerNorm(), nn.Linear(65, bias=False, init=small))

    def batches(rng: np.random.Generator) -> Arrays:
        tokens = rng.integers(0, 65, (N_BATCHES, 12, 65))
        return tokens[..., :-1].copy(), tokens[..., 1:].copy()

    title = "character GPT, 4 layers, 4 heads, width 128, context 64, batch 12, SGD"
    return Work("gpt", title, (64,), network, batches, 0.1, (*TORCH, *COMPILED))


def lstm() -> Work:
    def batches(rng: np.random.Generator) -> Arrays:
        return rng.standard_normal((N_BATCHES, 32, 64, 128), np.float32), rng.integers(0, 10, (N_BATCHES, 32, 64))

    return Work(
        "lstm",
        "LSTM 128, 64 steps, then 10 outputs a step, batch 32, SGD",
        (64, 128),
        lambda: nn.Sequential(nn.LSTM(128), nn.Linear(10)),
        batches,
        0.1,
        TORCH,
    )


def adam() -> Work:
    """Only the update, of 1.2 million parameters, with constant gradients."""
    names = ("pytorch, fused", "pytorch, foreach")
    rivals = (*names, *(f"{name}, 2 threads" for name in names))
    no_data = np.zeros((N_BATCHES, 1)), np.zeros(N_BATCHES)
    return Work("adam", "Adam on 1.2 M parameters", (1096,), lambda: nn.Linear(1095), lambda rng: no_data, 1e-3, rivals)


def answers(batch: int) -> Work:
    """Only the forward pass in evaluation mode, from samples on the host to outputs on the host."""
    return Work(
        "answers",
        f"outputs of that MLP for {batch:,} sample{'s' * (batch > 1)}",
        (784,),
        lambda: nn.mlp([784, 128, 64, 32, 10]),
        lambda rng: (rng.standard_normal((N_BATCHES, batch, 784), np.float32), np.zeros((N_BATCHES, batch), np.int64)),
        0.0,
        TORCH,
    )


WORKS: dict[str, Callable[[], Work]] = {
    "mlp-64": lambda: mlp(64),
    "mlp-128": lambda: mlp(128),
    "mlp-512": lambda: mlp(512),
    "cnn": cnn,
    "gpt": gpt,
    "lstm": lstm,
    "adam": adam,
    "answer-1": lambda: answers(1),
    "answer-10000": lambda: answers(10_000),
}
