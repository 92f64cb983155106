"""One step of training, and measuring a model: the two plain functions that a loop is made of."""

from __future__ import annotations

import math
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
    y, target = model.backend.asarray(outputs), model.backend.asarray(data.y)
    value, right = loss(y, target, model.backend)[0], right_answers(y, target)
    return Evaluation(float(value), int(right) / len(outputs), outputs)


def right_answers(y: Array, target: Array) -> Array:
    """How many of the class labels (N,) the outputs (N, C) hit, still on the device: the highest, or for a single
    output (N, 1), class 1 where it is above 0."""
    predicted = y.argmax(axis=1) if y.shape[1] > 1 else y[:, 0] > 0
    return (predicted == target).sum()


def samples(model: Model, x: np.ndarray) -> np.ndarray:
    """x (N, ...) in the shape that the model takes: pictures (28, 28) for a model of (784,), or the reverse.

    Raises ValueError where neither the shapes agree, nor one is the other in a row.
    """
    theirs, ours = x.shape[1:], model.input_shape
    in_a_row = 1 in (len(theirs), len(ours)) and math.prod(theirs) == math.prod(ours)
    if theirs != ours and not in_a_row:
        raise ValueError(f"samples of shape {x.shape[1:]} do not fit a model that takes {model.input_shape}")
    return x.reshape(len(x), *model.input_shape)
