"""One step of training, and measuring a model: the two plain functions that a loop is made of."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np

from xpnet.arguments import of_kind, shown
from xpnet.backend import Array
from xpnet.data import Source, batch_slices
from xpnet.data.dataset import check_source
from xpnet.data.labels import check_classes
from xpnet.losses import BinaryCrossEntropy, Focal, KLDivergence, Loss, SoftmaxCrossEntropy
from xpnet.losses.base import inverse, two
from xpnet.nn import LogSoftmax, Model, Sigmoid, Softmax
from xpnet.nn.ending import ending
from xpnet.nn.shapes import each, in_tuple, is_several, n_samples
from xpnet.optim import Optimizer, clip_norm
from xpnet.parallel import ALONE, Group
from xpnet.train.metrics import Metric, accuracy, centred

# Losses that apply a softmax or a sigmoid to the outputs, and what must not have done so before. A softmax of what
# `LogSoftmax` gives is right: it is the softmax of what went in.
DOUBLED = {
    (SoftmaxCrossEntropy, KLDivergence): (Softmax, Sigmoid),
    (BinaryCrossEntropy, Focal): (Softmax, LogSoftmax, Sigmoid),
}


def train_step(
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    x: Any,
    target: Any,
    clip: float | None = None,
    accumulate: int = 1,
    group: Group = ALONE,
) -> tuple[Array, Array | None]:
    """Forward, loss, backward, update. Gives (value of the loss, outputs), both still on the device.

    Where products are float16 the loss is scaled on the way (`optim.loss_scale`); its value is not.

    With `accumulate` k the batch goes through forward and backward in k parts, equally many samples to one or one more,
    with memory for the activations of a part, and the gradients are those of the whole batch. Statistics that a layer
    takes of its batch are those of a part.

    In a `group` of processes, x and target are this one's part of the batch, and value and outputs are those of the
    part; where it has no sample, they are 0 and None. The update is that of the whole batch, in all processes the same.
    Around a loop of steps, `with optimizer.shared_by(group):` lets each process make a part of it.

    Raises ValueError inside such a block without its group.
    """
    if optimizer.window is not None and group.size == 1:
        raise ValueError("processes share this optimizer's update: train_step needs their group, as shared_by got it")
    model.zero_grad()
    if accumulate == 1 and group.size == 1:
        value, y, _ = _pass(model, loss, optimizer, x, target)
    else:
        with _state_of_all(model, group):
            value, y, weight = _in_parts(model, loss, optimizer, x, target, accumulate)
        weight = (optimizer.window or group).sum_gradients(model.grad, weight)
        if not is_sum(loss):
            if model.backend.observer is not None:
                model.backend.observer.weighed(weight)
            own = model.grad[optimizer.own]
            own *= inverse(weight, model.backend)
    optimizer.unscale()
    if clip is not None:
        clip_norm(model, clip, optimizer.window)
    optimizer.step()
    return value, y


def _pass(
    model: Model, loss: Loss, optimizer: Optimizer, x: Any, target: Any, weigh: bool = False
) -> tuple[Array, Array, Array | float]:
    """(value, y, weight), the gradients being added; with `weigh` both the value and the gradients before they are a
    mean, that is times the weight."""
    backend = model.backend
    y, backward = model.forward(x)
    value, dy = two("a loss gives (value, dy)", loss(y, target, backend))
    if not isinstance(y, tuple) and (shape := getattr(dy, "shape", ())) != y.shape:
        raise ValueError(f"the dy of a loss needs the shape of the outputs, {y.shape}, not {shape}")
    if backend.observer is not None:
        backend.observer.loss(value, dy)
    weight: Array | float = 1.0
    if weigh and not is_sum(loss):
        weight = loss_weight(loss, y, target, backend)
        value, dy = value * weight, each(lambda d: d * weight, dy)
    backward(optimizer.scaled(dy), need_dx=False)
    return value, y, weight


def _in_parts(
    model: Model, loss: Loss, optimizer: Optimizer, x: Any, target: Any, n_parts: int
) -> tuple[Array | float, Array | None, Array | float]:
    """(value, outputs, weight) of a batch that goes through the model in parts. As the mean of the whole is
    sum_k weight_k mean_k / sum_k weight_k, each part adds weight_k times its gradients: they are still to be divided by
    the sum of the weights, unless the loss is a sum."""
    xp, n = model.backend.xp, n_samples(x)
    if n == 0:
        optimizer.scaled(model.grad[:0])  # the sum over the group is to be unscaled here too
        return 0.0, None, 0.0
    value: Any = 0.0
    weight: Any = 0.0
    outputs: Any = None
    n_parts = min(n_parts, n)
    for i in range(n_parts):
        part = slice(n * i // n_parts, n * (i + 1) // n_parts)
        x_part, target_part = (each(itemgetter(part), arrays) for arrays in (x, target))
        part_value, part_y, part_weight = _pass(model, loss, optimizer, x_part, target_part, weigh=True)
        if outputs is None:
            outputs = part_y if n_parts == 1 else each(lambda a: xp.empty((n, *a.shape[1:]), a.dtype), part_y)
        if n_parts > 1:
            for whole, its_part in zip(in_tuple(outputs), in_tuple(part_y), strict=True):
                whole[part] = its_part
        value, weight = value + part_value, weight + part_weight
    return value if is_sum(loss) else value * inverse(weight, model.backend), outputs, weight


@contextmanager
def _state_of_all(model: Model, group: Group) -> Iterator[None]:
    """Inside the block layers change state that is not trained, such as running statistics, each process by its own
    part of the batch; after it all processes have the mean of the changes."""
    state = model.data[model.n_parameters :]
    if group.size == 1 or not state.size:
        yield
        return
    before = state.copy()
    yield
    state -= before
    state[...] = before + group.sum(state) / group.size


@dataclass(frozen=True)
class Evaluation:
    """How a model does on some data: the mean loss, and the figures of the metrics by name."""

    loss: float
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """The fraction of right answers, where it was measured. Raises ValueError where it was not."""
        if "accuracy" not in self.metrics:
            raise ValueError(
                "no accuracy was measured, as the targets are no class numbers: evaluate(..., metrics=[train.accuracy])"
            )
        return self.metrics["accuracy"]


def evaluate(
    model: Model,
    loss: Loss,
    data: Source,
    batch_size: int = 1000,
    metrics: Sequence[Metric] | None = None,
    group: Group = ALONE,
) -> Evaluation:
    """Measure the model on `data` in evaluation mode, batch by batch on the device: means over all samples.

    Without `metrics`, those of the task: the accuracy where the targets are class numbers. In a `group`, each process
    measures its part of every batch, and all get the figures of the whole.
    """
    check_data(model, loss, data)
    metrics = as_metrics(metrics, model, data)
    summed = centred(metrics, data.y, getattr(data, "weights", None))
    backend, feed = model.backend, data.feed(model.backend, model.as_input)
    parts = [group.share(batch) for batch in batch_slices(len(data), min(batch_size, len(data)))]
    feed.begin(np.arange(len(data)), parts)
    totals = np.zeros(2 + sum(metric.size for metric in metrics))
    with backend.mode(training=False):
        for part in parts:
            if part.start == part.stop:
                continue
            x, target = feed.batch(*feed.inputs(part))
            y, _ = model.forward(x)
            value, _ = two("a loss gives (value, dy)", loss(y, target, backend))
            sums = batch_sums(loss, summed, y, target, value, backend)
            totals += [float(number) for number in sums]
    mean, figures = means(group.sum(totals), metrics)
    return Evaluation(mean, figures)


def check_data(model: Model, loss: Loss, data: Source) -> None:
    """Raise ValueError, naming the data, unless its samples and classes fit the model and its targets the loss;
    TypeError for what is no data set or no loss."""
    check_source(data)
    if isinstance(loss, type) or not callable(loss):
        example = f"{loss.__name__}()" if isinstance(loss, type) else "an object such as losses.MeanSquaredError()"
        raise TypeError(f"a loss is {example}, not {shown(loss)}")
    try:
        model.as_input(data.x)
        if isinstance(loss, Loss):  # a plain function has no more to say
            weights = getattr(data, "weights", None)  # of a `Dataset`; other sources need not have any
            loss.check(data.y if weights is None else (data.y, weights), model.output_shape)
    except ValueError as error:
        raise ValueError(f"{data.name}: {error}") from None
    check_classes(classes_of(data), model.classes, data.name, "model.classes")


def classes_of(data: Source) -> Sequence[str]:
    """The names of the classes; sources other than `Dataset` and `Stored` need not have any."""
    return getattr(data, "classes", ())


def warn_of_doubled(model: Model, loss: Loss) -> None:
    """Warn, at the line that called `fit`, of a network that ends in what the loss does itself."""
    last = ending(model.network)
    if any(isinstance(loss, kinds) and isinstance(last, ends) for kinds, ends in DOUBLED.items()):
        warnings.warn(
            f"{type(loss).__name__} takes logits, and the network ends in {type(last).__name__}: it learns badly so. "
            "Leave that layer out; model.probabilities gives probabilities without it",
            stacklevel=3,
        )


def as_metrics(metrics: Sequence[Metric] | None, model: Model, data: Source) -> tuple[Metric, ...]:
    """Those that were asked for, or where that is None those of the task."""
    if metrics is None:
        return usual_metrics(model, data)
    of_kind("metrics are a list, such as [train.mae]", metrics, (list, tuple))
    for metric in metrics:
        of_kind("a metric is a train.Metric, such as train.mae", metric, Metric)
    names = ["loss", *(metric.name for metric in metrics)]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ValueError(f"two figures would be called {twice!r}: give the metric another name")
    return tuple(metrics)


def usual_metrics(model: Model, data: Source) -> tuple[Metric, ...]:
    """Those that fit the targets: the accuracy of class numbers, or of whole numbers as one-hot rows, and none beside
    the loss for a regression, for several answers to a sample, or for several outputs."""
    if data.y.dtype.kind not in "iu" or is_several(model.output_shape):
        return ()
    rows = data.y.ndim > len(model.output_shape) and model.output_shape[-1] != 1
    return () if rows and ((data.y != 0).sum(axis=-1) != 1).any() else (accuracy,)


def batch_sums(
    loss: Loss, metrics: Sequence[Metric], y: Array, target: Any, value: Array, backend: Any
) -> list[Array | float]:
    """What is added up over batches: the loss before it is a mean, its weight, and the sums of each metric. On the
    device. So the figures are means over all that counts, also of a loss that is a sum."""
    weight = loss_weight(loss, y, target, backend)
    sums: list[Array | float] = [value if is_sum(loss) else value * weight, weight]
    for metric in metrics:
        given = metric.sums(y, target, backend.xp)
        if len(given) != metric.size:
            raise ValueError(f"the metric {metric.name!r} is of size {metric.size}, and gives {len(given)} sums")
        sums += given
    return sums


def loss_weight(loss: Loss, y: Array, target: Any, backend: Any) -> Array | float:
    """`Loss.weight`, or of a plain function the number of samples."""
    return loss.weight(y, target, backend) if isinstance(loss, Loss) else n_samples(y)


def is_sum(loss: Loss) -> bool:
    """Whether the loss is a sum over the batch, and no mean."""
    return isinstance(loss, Loss) and loss.reduction == "sum"


def means(totals: np.ndarray, metrics: Sequence[Metric]) -> tuple[float, dict[str, float]]:
    """(mean loss, figures by name) of such sums over all batches, on the host."""
    figures, at = {}, 2
    for metric in metrics:
        figures[metric.name] = metric.value(*totals[at : at + metric.size].tolist())
        at += metric.size
    return float(totals[0] / totals[1]) if totals[1] else 0.0, figures
