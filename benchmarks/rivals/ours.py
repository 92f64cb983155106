"""xpnet as it is installed: one process, or several that train one model together, each with its part of a batch."""

from __future__ import annotations

import platform
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.works import Work
from xpnet import __version__, losses, nn, optim, select
from xpnet.parallel import join
from xpnet.train.step import train_step


def make(work: Work, threads: int, *options: str) -> Callable[[int], Any]:
    backend = select("cpu", threads=threads)
    model = nn.Model(work.network(), work.shape, backend, tensors=work.tensors())
    if work.kind == "adam":
        return updates(model, work.rate)
    x, y = work.data()
    if work.kind == "answers":
        return lambda i: model.predict(x[i])
    group = join()
    model.keep_gradients_in(group.room_for(model.grad))
    part = group.share(slice(0, x.shape[1]))
    x, y = x[:, part], y[:, part]
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.SGD(model, work.rate)
    backend.training = True
    return lambda i: train_step(model, loss, optimizer, x[i], y[i], group=group)[0]


def updates(model: nn.Model, rate: float) -> Callable[[int], Any]:
    optimizer = optim.Adam(model, rate)
    model.grad[...] = 0.5

    def step(i: int) -> Any:
        optimizer.step()
        return model.parameters["W"].data

    return step


def versions() -> dict[str, str]:
    return {"Python": platform.python_version(), "xpnet": __version__, "NumPy": np.__version__}
