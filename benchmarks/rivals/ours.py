"""xpnet in one process, or in several that train one model together, each with its part of a batch."""

from __future__ import annotations

import platform
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import numpy as np

from benchmarks.works import Work
from xpnet import __version__, losses, nn, optim, select
from xpnet.backend.allocator import keep_freed_memory
from xpnet.parallel import Group, join
from xpnet.train.step import train_step

_entered = ExitStack()


def make(work: Work, threads: int, *options: str) -> Callable[[int], Any]:
    backend = select("cpu", threads=threads)
    model = nn.Model(work.network(), work.shape, backend, tensors=work.tensors())
    x, y = work.data()
    if work.kind == "answers":
        return lambda i: model.predict(x[i])
    keep_freed_memory()  # as `fit` does; it also enters the context below
    _entered.enter_context(backend.threads_for(len(x[0]) * model.n_parameters))
    group = join()
    if work.kind == "adam":
        return updates(shared(optim.Adam(model, work.rate), group))
    part = group.share(slice(0, x.shape[1]))
    x, y = x[:, part], y[:, part]
    loss, optimizer = losses.SoftmaxCrossEntropy(), shared(optim.SGD(model, work.rate), group)
    backend.training = True
    return lambda i: train_step(model, loss, optimizer, x[i], y[i], group=group)[0]


def shared(optimizer: optim.Optimizer, group: Group) -> optim.Optimizer:
    """The optimizer, in the context that `fit` enters while it trains; here until the process ends."""
    _entered.enter_context(optimizer.shared_by(group))
    return optimizer


def updates(optimizer: optim.Optimizer) -> Callable[[int], Any]:
    """A step that updates with constant gradients. Processes that share an update meet before it, as they do when they
    add up their gradients."""
    model, window = optimizer.model, optimizer.window
    model.grad[...] = 0.5

    def step(i: int) -> Any:
        if window is not None:
            window.meet()
        optimizer.step()
        return model.parameters["W"].data

    return step


def versions() -> dict[str, str]:
    return {"Python": platform.python_version(), "xpnet": __version__, "NumPy": np.__version__}
