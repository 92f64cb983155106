"""One step of training, and measuring a model: the two plain functions that a loop is made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xpnet.backend import Array
from xpnet.data import Dataset
from xpnet.losses import Loss
from xpnet.nn import Model
from xpnet.optim import Optimizer, clip_norm


def train_step(
    model: Model, loss: Loss, optimizer: Optimizer, x: Array, target: Array, clip: float | None = None
) -> tuple[Array, Array]:
    """Forward, loss, backward, update. Gives (value of the loss, outputs), both still on the device."""
    model.zero_grad()
    y, backward = model.forward(x)
    value, dy = loss(y, target, model.backend)
    backward(dy, need_dx=False)
    if clip is not None:
        clip_norm(model, clip)
    optimizer.step()
    return value, y


class Evaluation(NamedTuple):
    """How a model does on some data: the mean loss, the share of right answers, and its outputs (N, ...)."""

    loss: float
    accuracy: float
    outputs: np.ndarray


def evaluate(model: Model, loss: Loss, data: Dataset, batch_size: int = 1000) -> Evaluation:
    """Measure the model on `data`, in evaluation mode (no dropout)."""
    outputs = model.predict(samples(model, data.x), batch_size)
    total = 0.0
    for i in range(0, len(outputs), batch_size):
        y, target = (model.backend.asarray(a[i : i + batch_size]) for a in (outputs, data.y))
        total += float(loss(y, target, model.backend)[0]) * len(y)
    return Evaluation(total / len(outputs), float((outputs.argmax(axis=1) == data.y).mean()), outputs)


def samples(model: Model, x: np.ndarray) -> np.ndarray:
    """x (N, ...) in the shape that the model takes: pictures (28, 28) for a model of (784,), say.

    Raises ValueError where the numbers of values differ.
    """
    if np.prod(x.shape[1:]) != np.prod(model.input_shape):
        raise ValueError(f"samples of shape {x.shape[1:]} do not fit a model that takes {model.input_shape}")
    return x.reshape(len(x), *model.input_shape)
