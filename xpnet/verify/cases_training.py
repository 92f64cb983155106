"""The table of cases, second part: losses, optimizers, initialisers and schedules. `cases.py` has the layers."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnet import losses, optim, schedules
from xpnet.nn import init
from xpnet.verify import reference as ref
from xpnet.verify.passes import Draw, spread
from xpnet.verify.rows import InitCase, LossCase, OptimizerCase, ScheduleCase

# Losses -------------------------------------------------------------------------------------------------------


def labels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Class numbers for logits of this shape."""
    return rng.integers(0, shape[1], shape[0])


def one_hot(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The same as rows of 0 and one 1."""
    return np.eye(shape[1])[labels(rng, shape)]


def distributions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rows that sum to 1."""
    return rng.dirichlet(np.ones(shape[1]), shape[0])


def shares(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1), some of them exactly 0 or 1."""
    return rng.choice([0.0, 1.0, 0.25, 0.9], shape)


_WEIGHTS = (0.5, 2.0, 1.0, 0.25)


def _cross_entropy(what: str, target: Draw, smoothing: float, weights: Sequence[float] | None, n: int = 4) -> LossCase:
    def torch_value(torch: Any, y: Any, target: Any) -> Any:
        weight = None if weights is None else y.new_tensor(weights)
        return torch.nn.functional.cross_entropy(y, target, weight, label_smoothing=smoothing)

    # With class weights PyTorch divides by the number of samples where the target is a distribution, and by the sum of
    # their weights where it is a label; here both give the same.
    other = weights is not None and target is distributions
    return LossCase(
        "SoftmaxCrossEntropy",
        what,
        lambda: losses.SoftmaxCrossEntropy(smoothing, weights),
        (n,),
        target,
        partial(ref.cross_entropy, smoothing=smoothing, weights=weights or ()),
        None if other else torch_value,
    )


LOSSES: tuple[LossCase, ...] = (
    _cross_entropy("labels", labels, 0.0, None),
    _cross_entropy("labels, ten classes", labels, 0.0, None, 10),
    _cross_entropy("uint8 labels", lambda rng, shape: labels(rng, shape).astype(np.uint8), 0.0, None),
    _cross_entropy("one class", labels, 0.0, None, 1),
    _cross_entropy("one-hot", one_hot, 0.0, None),
    _cross_entropy("distributions", distributions, 0.0, None),
    _cross_entropy("smoothing", labels, 0.1, None),
    _cross_entropy("one-hot, smoothing", one_hot, 0.2, None),
    _cross_entropy("class weights", labels, 0.0, _WEIGHTS),
    _cross_entropy("class weights, smoothing", labels, 0.1, _WEIGHTS),
    _cross_entropy("distributions, class weights, smoothing", distributions, 0.1, _WEIGHTS),
    *(
        LossCase(
            "MeanSquaredError", what, losses.MeanSquaredError, shape, spread, ref.squared_error,
            lambda t, y, target: t.nn.functional.mse_loss(y, target),
        )
        for what, shape in {"vectors": (3,), "pictures": (2, 3, 2), "numbers": (1,)}.items()
    ),
    *(
        LossCase(
            "BinaryCrossEntropy", what, losses.BinaryCrossEntropy, shape, shares, ref.binary_cross_entropy,
            lambda t, y, target: t.nn.functional.binary_cross_entropy_with_logits(y, target),
        )
        for what, shape in {"vectors": (3,), "pictures": (2, 3, 2), "numbers": (1,)}.items()
    ),
)  # fmt: skip


# Optimizers ---------------------------------------------------------------------------------------------------


_ADAM: dict[str, Any] = {"lr": 0.02, "betas": (0.8, 0.95), "eps": 1e-6}

OPTIMIZERS: tuple[OptimizerCase, ...] = (
    OptimizerCase("SGD", "plain", optim.SGD, ref.sgd, {"lr": 0.1}),
    OptimizerCase("SGD", "decay", optim.SGD, ref.sgd, {"lr": 0.1}, 0.05),
    OptimizerCase("SGD", "momentum", optim.SGD, ref.sgd, {"lr": 0.1, "momentum": 0.9}),
    OptimizerCase("SGD", "momentum, decay", optim.SGD, ref.sgd, {"lr": 0.1, "momentum": 0.6}, 0.05),
    OptimizerCase("SGD", "Nesterov", optim.SGD, ref.sgd, {"lr": 0.1, "momentum": 0.7, "nesterov": True}, 0.05),
    OptimizerCase("RMSProp", "plain", optim.RMSProp, ref.rmsprop, {"lr": 0.01, "rho": 0.8, "eps": 1e-3}),
    OptimizerCase("RMSProp", "decay", optim.RMSProp, ref.rmsprop, {"lr": 0.01, "rho": 0.95, "eps": 1e-6}, 0.05),
    OptimizerCase("AdaGrad", "plain", optim.AdaGrad, ref.adagrad, {"lr": 0.1, "eps": 1e-2}),
    OptimizerCase("AdaGrad", "decay", optim.AdaGrad, ref.adagrad, {"lr": 0.1, "eps": 1e-8}, 0.05),
    OptimizerCase("Adam", "plain", optim.Adam, ref.adam, _ADAM),
    OptimizerCase("Adam", "large eps, decay", optim.Adam, ref.adam, {**_ADAM, "eps": 1e-2}, 0.05),
    OptimizerCase("Adam", "no mean", optim.Adam, ref.adam, {**_ADAM, "betas": (0.0, 0.9)}),
    OptimizerCase("AdamW", "plain", optim.AdamW, ref.adam, _ADAM),
    OptimizerCase("AdamW", "decay", optim.AdamW, ref.adam, _ADAM, 0.3),
    OptimizerCase("clip_norm", "always", optim.SGD, ref.sgd, {"lr": 1.0}, clip=0.5),
    OptimizerCase("clip_norm", "sometimes", optim.SGD, ref.sgd, {"lr": 1.0, "momentum": 0.5}, clip=6.0),
    OptimizerCase("clip_norm", "never", optim.SGD, ref.sgd, {"lr": 1.0}, clip=1e6),
)


# Initialisers and schedules -----------------------------------------------------------------------------------


def _scaled_cases(shape: tuple[int, ...], n_in: int, n_out: int) -> Iterator[InitCase]:
    for form in ("normal", "uniform"):
        for name, variance in (("he", 2 / n_in), ("glorot", 2 / (n_in + n_out)), ("lecun", 1 / n_in)):
            yield InitCase(f"{name}_{form}", f"shape {shape}", getattr(init, f"{name}_{form}"), shape, variance)


INITIALISERS: tuple[InitCase, ...] = (
    *_scaled_cases((300, 100), 300, 100),
    *_scaled_cases((100, 300), 100, 300),
    *_scaled_cases((3, 5, 20, 70), 300, 70),
    *_scaled_cases((5000,), 1, 5000),
    InitCase("zeros", "a matrix", init.zeros, (30, 20), 0.0),
    InitCase("constant", "0.7", init.constant(0.7), (30, 20), 0.0, mean=0.7),
    InitCase("normal", "deviation 0.02", init.normal(0.02), (200, 100), 0.02**2),
    InitCase("uniform", "(-0.3, 0.3)", init.uniform(0.3), (200, 100), 0.03),
)


_HALF = math.sqrt(0.5)  # cos of an eighth of a turn

SCHEDULES: tuple[ScheduleCase, ...] = (
    ScheduleCase("Constant", "", lambda: schedules.Constant(0.3), {0: 0.3, 1: 0.3, 1000: 0.3}),
    ScheduleCase("Step", "halves", lambda: schedules.Step(0.1, 3, 0.5), {0: 0.1, 2: 0.1, 3: 0.05, 5: 0.05, 6: 0.025}),
    ScheduleCase("Step", "usual factor", lambda: schedules.Step(1.0, 2), {0: 1.0, 1: 1.0, 2: 0.1, 4: 0.01}),
    ScheduleCase(
        "Exponential",
        "four powers of ten",
        lambda: schedules.Exponential(1.0, 4, 1e-4),
        {0: 1.0, 1: 0.1, 2: 0.01, 3: 1e-3, 4: 1e-4, 5: 1e-4},
    ),
    ScheduleCase(
        "Cosine",
        "to 0",
        lambda: schedules.Cosine(0.2, 4),
        {0: 0.2, 1: 0.1 + 0.1 * _HALF, 2: 0.1, 3: 0.1 - 0.1 * _HALF, 4: 0.0, 9: 0.0},
    ),
    ScheduleCase("Cosine", "to 0.1", lambda: schedules.Cosine(0.5, 10, 0.1), {0: 0.5, 5: 0.3, 10: 0.1, 11: 0.1}),
    ScheduleCase(
        "WarmUp",
        "to a constant",
        lambda: schedules.WarmUp(3, schedules.Constant(0.8)),
        {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 4: 0.8},
    ),
    ScheduleCase(
        "WarmUp",
        "to steps",
        lambda: schedules.WarmUp(2, schedules.Step(0.9, 1, 0.5)),
        {0: 0.3, 1: 0.6, 2: 0.9, 3: 0.45, 4: 0.225},
    ),
    ScheduleCase(
        "OneCycle",
        "40 steps",
        lambda: schedules.OneCycle(1.0, 40),
        {0: 0.04, 3: 0.52 - 0.48 * _HALF, 6: 0.52, 12: 1.0, 19: 0.500002 + 0.499998 * _HALF, 26: 0.500002}
        | {40: 4e-6, 50: 4e-6},
    ),
    ScheduleCase(
        "Plateau",
        "patience 2",
        lambda: schedules.Plateau(0.8, 0.5, 2, 0.15),
        dict(enumerate([0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.2, 0.15, 0.15, 0.15, 0.15, 0.15])),
        (5.0, 4.0, 4.0, 4.1, 4.0, 4.0, 3.9, 3.95, 3.95, 3.95, 4.0, 4.0, 4.0),
    ),
)
