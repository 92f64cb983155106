"""Measuring a model on data: the mean loss and the metrics."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import numpy as np

from xpnet.arguments import of_kind, shown
from xpnet.backend import Array
from xpnet.data import Source, batch_slices
from xpnet.losses import Loss
from xpnet.losses.base import pair
from xpnet.nn import Model
from xpnet.nn.shapes import is_several
from xpnet.parallel import ALONE, Group
from xpnet.train.checks import check_data
from xpnet.train.metrics import Metric, accuracy, centred
from xpnet.train.step import is_sum, loss_weight


@dataclass(frozen=True)
class Evaluation:
    """The result of `evaluate`: the mean loss, and the values of the metrics by name."""

    loss: float
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def accuracy(self) -> float:
        """The fraction of correct answers. Raises ValueError if it was not measured."""
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

    Without `metrics`, the default ones for the task are used: accuracy if the targets are class numbers. In a `group`,
    each process measures its part of every batch, and all get the figures of the whole.
    """
    check_data(model, loss, data)
    metrics = as_metrics(metrics, model, data)
    summed = centred(metrics, data.y, getattr(data, "weights", None))
    backend, feed = model.backend, data.feed(model.backend, model.as_input)
    parts = [group.share(batch) for batch in batch_slices(len(data), min(batch_size, len(data)))]
    feed.begin(np.arange(len(data)), parts)
    totals = np.zeros(2 + sum(metric.size for metric in metrics))
    with closing(feed), backend.mode(training=False):
        for part in parts:
            if part.start == part.stop:
                continue
            x, target = feed.batch(*feed.inputs(part))
            y, _ = model.forward(x)
            value, _ = pair("a loss gives (value, dy)", loss(y, target, backend))
            sums = batch_sums(loss, summed, y, target, value, backend)
            totals += [float(number) for number in sums]
    mean, figures = means(group.sum(totals), metrics)
    return Evaluation(mean, figures)


def as_metrics(metrics: Sequence[Metric] | None, model: Model, data: Source) -> tuple[Metric, ...]:
    """The given metrics, checked; if None, the default ones for the task."""
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
    """The default metrics for the targets: accuracy for class numbers or integer one-hot rows, otherwise none.

    None also for several targets per sample that are not one-hot rows, and for a model with several outputs.
    """
    if data.y.dtype.kind not in "iu" or is_several(model.output_shape):
        return ()
    single = model.output_shape[-1] == 1
    if single and ((data.y > 1).any() or len(np.unique(data.y[data.y < 0])) > 1):  # numbers, not one of two classes
        return ()
    rows = data.y.ndim > len(model.output_shape) and not single
    return () if rows and ((data.y != 0).sum(axis=-1) != 1).any() else (accuracy,)


def batch_sums(
    loss: Loss, metrics: Sequence[Metric], y: Array, target: Any, value: Array, backend: Any
) -> list[Array | float]:
    """The sums over one batch, on the device: the loss times its weight, the weight, and the sums of each metric.

    Added up over batches, they give means over everything that counts, even for a loss that is itself a sum.
    """
    weight = loss_weight(loss, y, target, backend)
    sums: list[Array | float] = [value if is_sum(loss) else value * weight, weight]
    for metric in metrics:
        given = metric.sums(y, target, backend.xp)
        if isinstance(given, (int, float)) or getattr(given, "shape", None) == ():
            raise TypeError(f"the metric {metric.name!r} gives a list of sums, such as [hits, n], not {shown(given)}")
        if len(given) != metric.size:
            raise ValueError(f"the metric {metric.name!r} is of size {metric.size}, and gives {len(given)} sums")
        sums += given
    return sums


def means(totals: np.ndarray, metrics: Sequence[Metric]) -> tuple[float, dict[str, float]]:
    """(mean loss, metrics by name) from the totals of `batch_sums` over all batches, on the host."""
    figures, at = {}, 2
    for metric in metrics:
        figure: Any = metric.value(*totals[at : at + metric.size].tolist())
        figure = figure.item() if getattr(figure, "shape", None) == () else figure
        of_kind(f"the metric {metric.name!r} gives a number", figure, Real)
        figures[metric.name] = float(figure)  # a checkpoint holds no bool or fraction
        at += metric.size
    return float(totals[0] / totals[1]) if totals[1] else 0.0, figures
