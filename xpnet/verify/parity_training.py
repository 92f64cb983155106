"""The same training steps on each device, from the same values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet import data as datasets
from xpnet.backend import Array, Backend
from xpnet.losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from xpnet.nn import Flatten, Model, Sequential, Standardize, mlp
from xpnet.nn.inputs import accepts_integers
from xpnet.nn.shapes import each, in_tuple
from xpnet.optim import Adam
from xpnet.train.checks import check_data
from xpnet.train.step import train_step
from xpnet.verify.parity_result import REFERENCE, Training
from xpnet.verify.passes import (
    SEED,
    BackendFactory,
    Float64,
    MovedProducts,
    concrete,
    in_float32,
    spread,
    spread_samples,
)
from xpnet.verify.tolerances import EPSILON, LOSS_CURVE, SURE, product_rounding

BATCHES = 8  # different batches; then they repeat
LARGEST = 256  # random whole numbers are below this

EPS = 1e-4
"""The epsilon of Adam. Where the terms of a gradient cancel, as they may in a trained network, rounding leaves about
1e-9 of it. With its usual epsilon of 1e-8, Adam would turn that into a step about as large as any other: a difference
that is no mistake."""


@dataclass(frozen=True)
class Task:
    """What is trained, on which data, for how many steps."""

    what: str
    model: Model
    loss: Loss
    data: datasets.Dataset
    batch: int
    steps: int


def digits_task(steps: int) -> Task:
    """A network with dropout on the embedded digits."""
    digits = datasets.load("digits").train
    mean, std = datasets.mean_std(digits.x)
    network = Sequential(Standardize(mean, std), Flatten(), *mlp([64, 32, 16, 10], dropout=0.1).layers)
    return task_for(Model(network, digits.x.shape[1:], Backend("float64", SEED)), digits, steps, 32)


def task_for(model: Model, data: datasets.Dataset | None, steps: int, batch: int) -> Task:
    """The task for a model: cross-entropy for class numbers (of two classes or more), else squared error.

    Targets are random if there are no data, or if the data have classes but the model's outputs are no classes: random
    classes for a model whose output is a vector of several numbers, random numbers for any other.
    """
    random = _random_data(model, batch * BATCHES)
    data = random if data is None else data[: batch * min(BATCHES, len(data) // batch)]
    if data.y.dtype.kind in "iu" and data.y.ndim != len(model.output_shape):
        data = datasets.Dataset(data.x, random.y[: len(data)], name="random")
    data = datasets.Dataset(each(_in_float32, data.x), _in_float32(data.y), data.classes, data.name)
    classes = data.y.dtype.kind in "iu"
    loss = SoftmaxCrossEntropy() if classes and model.output_shape[-1] > 1 else MeanSquaredError()
    check_data(model, loss, data)
    what = (
        f"{steps} steps of Adam, batches of {batch}, towards the {'classes' if classes else 'numbers'} of {data.name}"
    )
    return Task(what, model, loss, data, batch, steps)


def random_samples(model: Model, n: int, seed: int) -> Any:
    """n samples of random numbers in (-2, 2), or of whole numbers if the network takes no others (`nn.Embedding`)."""
    rng = np.random.default_rng(seed)
    x = spread_samples(rng, n, model.input_shape)
    arrays = in_tuple(x)
    several = accepts_integers(model.network, len(arrays))
    below = LARGEST
    while below and not _taken(model, x):
        drawn = tuple(rng.integers(0, below, a.shape) if w else a for a, w in zip(arrays, several, strict=True))
        x, below = drawn if isinstance(x, tuple) else drawn[0], below // 2
    return x


def _taken(model: Model, x: Any) -> bool:
    try:
        model.network.check_input(x)
    except ValueError:
        return False
    return True


def _random_data(model: Model, n: int) -> datasets.Dataset:
    rng, outputs = np.random.default_rng(1), concrete(model.output_shape)
    x = random_samples(model, n, seed=1)
    if len(outputs) == 1 and outputs[0] > 1:
        return datasets.Dataset(x, rng.integers(0, outputs[0], n), name="random")
    return datasets.Dataset(x, spread(rng, (n, *outputs)), name="random")


def train_everywhere(task: Task, kinds: dict[str, BackendFactory], precision: str | None = None) -> Training:
    """The loss curves of all devices, and of the reference.

    With a `precision`, they may differ from the reference by what rounding the operands of products explains.
    """
    reference = _curve(task, Float64())
    allowed = LOSS_CURVE if precision is None else LOSS_CURVE + _of_products(task, EPSILON[precision], reference)
    curves, problems = {REFERENCE: reference}, dict[str, str]()
    for device, kind in kinds.items():
        try:
            curves[device] = _curve(task, kind("float32", SEED))
        except Exception as error:  # that a device cannot train this is a result too
            problems[device] = f"{type(error).__name__}: {error}"
    smallest = SURE if isinstance(task.loss, SoftmaxCrossEntropy) else 0.0
    return Training(task.what, curves, problems, allowed, smallest)


def _curve(task: Task, backend: Backend) -> tuple[float, ...]:
    tensors = in_float32(task.model.tensors())
    model = Model(task.model.network.copy(), task.model.input_shape, backend, tensors=tensors)
    optimizer, feed = Adam(model, eps=EPS), task.data.feed(backend, model.as_input)
    starts = [i * task.batch % len(task.data) for i in range(task.steps)]
    batches = [slice(start, start + task.batch) for start in starts]
    feed.begin(np.arange(len(task.data)), batches)

    def step(*inputs: Array) -> Array:
        return train_step(model, task.loss, optimizer, *feed.batch(*inputs))[0]

    replayed = backend.capture(step)
    losses: list[float] = []
    with backend.mode(training=True), np.errstate(all="ignore"):
        while len(losses) < task.steps:
            draws, skipped = backend.rng.state, _skipped(optimizer)
            losses.append(float(backend.to_host(replayed(*feed.inputs(batches[len(losses)])))))
            if _skipped(optimizer) > skipped:  # repeat the step at the lower loss scale
                losses.pop()
                backend.rng.state = draws
    return tuple(losses)


def _of_products(task: Task, epsilon: float, reference: tuple[float, ...]) -> float:
    """How far `product_rounding` lets a curve be from the reference, as a fraction of its largest loss."""
    run = lambda draw: {"loss": np.array(_curve(task, MovedProducts(epsilon, draw)))}
    moved = product_rounding(run, {"loss": np.array(reference)})["loss"].max()
    return float(moved) / (max(map(abs, reference), default=0.0) or 1.0)


def _skipped(optimizer: Adam) -> float:
    """How many steps the loss scale has skipped."""
    return optimizer.loss_scale.figures["skipped_steps"] if optimizer.loss_scale is not None else 0


def _in_float32(x: np.ndarray) -> np.ndarray:
    return x.astype(np.float32) if x.dtype.kind == "f" else x
