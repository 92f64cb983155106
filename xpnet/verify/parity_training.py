"""The same steps of training on each device, from the same values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from xpnet import data as datasets
from xpnet.backend import Backend
from xpnet.losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from xpnet.nn import Flatten, Model, Sequential, Standardize, mlp
from xpnet.optim import Adam
from xpnet.train.step import samples, train_step
from xpnet.verify.parity_result import REFERENCE, Training
from xpnet.verify.passes import SEED, Float64, Kind, in_float32, spread

BATCHES = 8  # different ones; then they come again


@dataclass(frozen=True)
class Task:
    """What is trained, on what, for how many steps."""

    what: str
    model: Model
    loss: Loss
    x: np.ndarray
    target: np.ndarray
    batch: int
    steps: int


def digits_task(steps: int) -> Task:
    """A network with dropout on the embedded digits."""
    digits = datasets.load("digits").train
    mean, std = datasets.mean_std(digits.x)
    network = Sequential(Standardize(mean, std), Flatten(), *mlp([64, 32, 16, 10], dropout=0.1).layers)
    return task_for(Model(network, digits.x.shape[1:], Backend("float64", SEED)), digits, steps, 32)


def task_for(model: Model, data: datasets.Dataset | None, steps: int, batch: int) -> Task:
    """Classes for a model with a vector of several outputs, numbers for any other; random ones without data."""
    rng, classes = np.random.default_rng(1), model.output_shape[-1] if len(model.output_shape) == 1 else 1
    n = batch * BATCHES if data is None else batch * min(BATCHES, len(data) // batch)
    x = spread(rng, (n, *model.input_shape)) if data is None else samples(model, data.x[:n])
    loss: Loss
    if classes > 1:
        loss, kind = SoftmaxCrossEntropy(), "classes"
        target = rng.integers(0, classes, n) if data is None else data.y[:n]
        if target.max() >= classes:
            raise ValueError(f"the data have the label {target.max()}, but the model has {classes} outputs")
    else:
        loss, kind = MeanSquaredError(), "numbers"
        target = spread(rng, (n, *model.output_shape))
    source = "random" if data is None or classes == 1 else data.name
    what = f"{steps} steps of Adam at batch {batch} towards {source} {kind}"
    values = in_float32({"x": x, "target": target})
    return Task(what, model, loss, values["x"], values["target"], batch, steps)


def train_everywhere(task: Task, kinds: dict[str, Kind]) -> Training:
    """The loss curves of all devices, and of the reference."""
    curves, problems = {REFERENCE: _curve(task, Float64())}, dict[str, str]()
    for device, kind in kinds.items():
        try:
            curves[device] = _curve(task, kind("float32", SEED))
        except Exception as error:  # a device that cannot train this is a finding
            problems[device] = f"{type(error).__name__}: {error}"
    return Training(task.what, curves, problems)


def _curve(task: Task, backend: Backend) -> tuple[float, ...]:
    tensors = in_float32(task.model.tensors())
    model = Model(task.model.network.copy(), task.model.input_shape, backend, tensors=tensors)
    optimizer = Adam(model)
    step: Callable = backend.capture(lambda x, target: train_step(model, task.loss, optimizer, x, target)[0])
    losses = []
    with backend.mode(training=True), np.errstate(all="ignore"):
        for i in range(task.steps):
            start = i * task.batch % len(task.x)
            x, target = (backend.asarray(a[start : start + task.batch].copy()) for a in (task.x, task.target))
            losses.append(float(backend.to_host(step(x, target))))
    return tuple(losses)
