"""Checks before a model is trained or measured: whether network, loss and data fit each other."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from xpnet.arguments import shown
from xpnet.data import Source
from xpnet.data.dataset import check_source
from xpnet.data.labels import check_classes
from xpnet.losses import BinaryCrossEntropy, Focal, KLDivergence, Loss, SoftmaxCrossEntropy
from xpnet.nn import LogSoftmax, Model, Sigmoid, Softmax
from xpnet.nn.ending import ending

if TYPE_CHECKING:
    from xpnet.schedules import Schedule

# Losses that apply a softmax or a sigmoid to the outputs, and last layers that must not have done so already. A softmax
# after `LogSoftmax` is correct: it gives the softmax of the input of `LogSoftmax`.
DOUBLED = {
    (SoftmaxCrossEntropy, KLDivergence): (Softmax, Sigmoid),
    (BinaryCrossEntropy, Focal): (Softmax, LogSoftmax, Sigmoid),
}


def check_data(model: Model, loss: Loss, data: Source) -> None:
    """Raise ValueError, naming the data, unless samples and classes fit the model and targets fit the loss.

    Raises TypeError for what is not a data set or not a loss.
    """
    check_source(data)
    if isinstance(loss, (type, Model)) or not callable(loss):  # a model's call is an error that says what to write
        example = f"{loss.__name__}()" if isinstance(loss, type) else "an object such as losses.MeanSquaredError()"
        raise TypeError(f"a loss is {example}, not {shown(loss)}")
    try:
        model.as_input(data.x)
        if isinstance(loss, Loss):  # a plain function has no `check`
            weights = getattr(data, "weights", None)  # of a `Dataset`; other sources need not have any
            loss.check(data.y if weights is None else (data.y, weights), model.output_shape)
    except ValueError as error:
        raise ValueError(f"{data.name}: {error}") from None
    check_classes(classes_of(data), model.classes, data.name, "model.classes")


def check_validation(model: Model, loss: Loss, validation: Source, train: Source) -> None:
    """`check_data` for validation data, which must also share the classes of `train`."""
    check_data(model, loss, validation)
    check_classes(classes_of(validation), classes_of(train), validation.name, "train.classes")


def check_parts(loss: Loss, *numbers: int) -> None:
    """Raise ValueError if a batch is to be cut into more than one part, but the loss needs it whole."""
    if max(numbers) > 1 and not getattr(loss, "by_sample", True):
        raise ValueError("the loss compares samples of a batch (by_sample = False): a batch cannot be cut in parts")


def classes_of(data: Source) -> Sequence[str]:
    """The names of the classes; sources other than `Dataset` and `Stored` need not have any."""
    return getattr(data, "classes", ())


def warn_of_doubled(model: Model, loss: Loss) -> None:
    """Warn, at the line that called `fit`, if the network ends in a function that the loss applies itself."""
    last = ending(model.network)
    if any(isinstance(loss, kinds) and isinstance(last, ends) for kinds, ends in DOUBLED.items()):
        warnings.warn(
            f"{type(loss).__name__} takes logits, and the network ends in {type(last).__name__}: it learns badly so. "
            "Leave that layer out; model.probabilities gives probabilities without it",
            stacklevel=3,
        )


def warn_of_early_end(schedule: Schedule | None, steps: int, epochs: int) -> None:
    """Warn, at the line that called `fit`, of a schedule whose rate is next to nothing after the first of several
    epochs of so many steps. Most often it was given a number of epochs, as other libraries count."""
    from xpnet.schedules import Cosine, Exponential, OneCycle, Step, WarmUp  # here, as in `run.remembering`

    falling = schedule.then if isinstance(schedule, WarmUp) else schedule
    if schedule is None or epochs == 1 or not isinstance(falling, (Cosine, Exponential, OneCycle, Step)):
        return
    if schedule(steps) < schedule(0) / 1000:
        warnings.warn(
            f"the rate falls from {schedule(0):g} to {schedule(steps):g} in the first of {epochs} epochs: a schedule "
            f"counts steps, {steps} in an epoch here",
            stacklevel=3,
        )
