"""Normalisation: the formula of each layer, one number at a time, and the rows of the table of cases."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn import Layer
from xpnet.verify.cases.arithmetic import Number, Numbers, Parameters, each_row, filled, sequential
from xpnet.verify.cases.linear import standardize
from xpnet.verify.passes import pixels
from xpnet.verify.rows import LayerCase

# From the formulas ----------------------------------------------------------------------------------------------


def mean(values: Sequence[Any]) -> Any:
    return sum(values, start=0.0) / float(len(values))


def variance(values: Sequence[Any]) -> Any:
    middle = mean(values)
    return mean([(v - middle) * (v - middle) for v in values])


def normalised(x: Numbers, together: list[list[tuple[int, ...]]], p: Parameters, eps: float) -> Numbers:
    """y, if the numbers at the places of each list in `together` share a mean and a variance."""
    y = np.empty(x.shape, object)
    for places in together:
        values = [x[at] for at in places]
        middle, deviation = mean(values), (variance(values) + eps) ** 0.5
        for at in places:
            y[at] = (x[at] - middle) / deviation * p["gamma"][at[-1]] + p["beta"][at[-1]]
    return y


def batch_norm(x: Numbers, p: Parameters, eps: float = 1e-5) -> Numbers:
    places = [[(*at, c) for at in np.ndindex(*x.shape[:-1])] for c in range(x.shape[-1])]
    return normalised(x, places, p, eps)


def batch_norm_evaluation(x: Numbers, p: Parameters, eps: float = 1e-5) -> Numbers:
    def number(*at: int) -> Number:
        mean, var, gamma, beta = (p[name][at[-1]] for name in ("running_mean", "running_var", "gamma", "beta"))
        return (x[at] - mean) / (var + eps) ** 0.5 * gamma + beta

    return filled(x.shape, number)


def running(values: Parameters, training: bool) -> Parameters:
    """The running statistics after one pass, with momentum 0.1 and variances divided by n - 1."""
    before = {name: np.array(values[name], object) for name in ("running_mean", "running_var")}
    x = values["x"]
    for c in range(x.shape[-1] if training else 0):
        of_channel = [float(v) for v in x[..., c].ravel()]
        n = len(of_channel)
        batch = {"running_mean": mean(of_channel), "running_var": variance(of_channel) * n / (n - 1)}
        for name, now in batch.items():
            before[name][c] = 0.9 * before[name][c] + 0.1 * now
    return before


def layer_norm(x: Numbers, p: Parameters, eps: float = 1e-5) -> Numbers:
    places = [[(*at, c) for c in range(x.shape[-1])] for at in np.ndindex(*x.shape[:-1])]
    return normalised(x, places, p, eps)


def group_norm(x: Numbers, p: Parameters, groups: int, eps: float = 1e-5) -> Numbers:
    each = x.shape[-1] // groups
    places = [
        [(n, *at, c) for at in np.ndindex(*x.shape[1:-1]) for c in range(g * each, (g + 1) * each)]
        for n in range(len(x))
        for g in range(groups)
    ]
    return normalised(x, places, p, eps)


def rms_norm(x: Numbers, p: Parameters, eps: float = 1e-6) -> Numbers:
    def normalised(row: Numbers) -> list[Number]:
        size = (mean([v * v for v in row]) + eps) ** 0.5
        return [v / size * gamma for v, gamma in zip(row, p["gamma"], strict=True)]

    return each_row(normalised)(x, p)


# Rows -----------------------------------------------------------------------------------------------------------


def _torch_batch_norm(torch: Any, x: Any, p: dict[str, Any], training: bool, eps: float = 1e-5) -> Any:
    running = (None, None) if training else (p["running_mean"].detach(), p["running_var"].detach())
    y = torch.nn.functional.batch_norm(x.movedim(-1, 1), *running, p["gamma"], p["beta"], training, eps=eps)
    return y.movedim(1, -1)


def _torch_layer_norm(torch: Any, x: Any, p: dict[str, Any], eps: float = 1e-5) -> Any:
    return torch.nn.functional.layer_norm(x, x.shape[-1:], p["gamma"], p["beta"], eps)


def _torch_group_norm(torch: Any, x: Any, p: dict[str, Any], groups: int) -> Any:
    return torch.nn.functional.group_norm(x.movedim(-1, 1), groups, p["gamma"], p["beta"]).movedim(1, -1)


def _torch_rms_norm(torch: Any, x: Any, p: dict[str, Any], eps: float = 1e-6) -> Any:
    return torch.nn.functional.rms_norm(x, x.shape[-1:], p["gamma"], eps)


def _batch_norm(
    what: str, shape: tuple[int, ...], batches: tuple[int, ...], training: bool, eps: float = 1e-5
) -> LayerCase:
    formula = partial(batch_norm if training else batch_norm_evaluation, eps=eps)
    torch, state = partial(_torch_batch_norm, training=training, eps=eps), partial(running, training=training)
    what = f"{what}, {'training' if training else 'evaluation'}"
    make = lambda: nn.BatchNorm(eps=eps)
    return LayerCase("BatchNorm", what, make, shape, formula, torch, batches, training, state=state)


def _of_the_last_axis(kind: Callable[..., Layer], formula: Callable, torch: Callable) -> Iterator[LayerCase]:
    for what, shape in {"vectors": (7,), "sequences": (5, 6), "images": (2, 3, 4)}.items():
        yield LayerCase(kind.__name__, what, kind, shape, formula, torch)
    formula, torch = partial(formula, eps=0.5), partial(torch, eps=0.5)
    yield LayerCase(kind.__name__, "large eps", partial(kind, 0.5), (3, 5), formula, torch)


def _group_norm(what: str, shape: tuple[int, ...], groups: int) -> LayerCase:
    reference, torch = partial(group_norm, groups=groups), partial(_torch_group_norm, groups=groups)
    return LayerCase("GroupNorm", what, partial(nn.GroupNorm, groups), shape, reference, torch)


CASES: tuple[LayerCase, ...] = (
    # Two normalised vectors are always +-1, so a batch of two has no gradient to compare.
    _batch_norm("vectors", (4,), (5, 9), True),
    _batch_norm("vectors, large eps", (4,), (5,), True, eps=0.5),
    _batch_norm("vectors", (4,), (1, 5), False),
    _batch_norm("vectors, large eps", (4,), (3,), False, eps=0.5),
    _batch_norm("one channel", (1,), (6,), True),
    _batch_norm("sequences", (6, 3), (1, 4), True),
    _batch_norm("images", (3, 2, 4), (1, 4), True),
    _batch_norm("images", (3, 2, 4), (1, 4), False),
    LayerCase(
        "BatchNorm", "behind Standardize, training", lambda: nn.Sequential(nn.Standardize(120.0, 70.0), nn.BatchNorm()),
        (4, 3), sequential(standardize(120.0, 70.0), batch_norm), batches=(4,), training=True, draw=pixels,
    ),
    *_of_the_last_axis(nn.LayerNorm, layer_norm, _torch_layer_norm),
    *_of_the_last_axis(nn.RMSNorm, rms_norm, _torch_rms_norm),
    _group_norm("vectors", (6,), 2),
    _group_norm("sequences", (5, 6), 3),
    _group_norm("images", (3, 2, 4), 2),
    _group_norm("one group", (3, 4), 1),
    _group_norm("each channel alone", (3, 2, 4), 4),
)  # fmt: skip
