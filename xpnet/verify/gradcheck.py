"""Gradients against central differences, in one random direction through all inputs and parameters at once.

With L = sum dy y, moving all inputs and parameters by +step and by -step along a direction d must give two values of L
that differ by 2 step (dL . d). One wrong entry in any gradient changes this product, as no component of d is near 0.
The check cannot see a wrong forward whose backward is its correct derivative: that is what references are for.

At a kink, such as a ReLU input that is nearer to 0 than the step, the quotient is neither of the two slopes. The
quotients of two steps then differ, and a shorter step, or other values, may avoid the kink. If the quotients of two
steps agree with each other but not with the gradients, there is no kink and a gradient is wrong. The shorter step is no
excuse then: its quotient is rounded more, so it allows a larger error.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from xpnet.backend import Backend
from xpnet.nn.shapes import in_tuple
from xpnet.verify.passes import SEED, BackendFactory, Pass, Subject, draw_values, is_data, run, signs, target_of
from xpnet.verify.report import Found, Mismatch
from xpnet.verify.tolerances import GRADIENT, STEPS, Arrays

DRAWS = 4  # sets of values to try: if all of them have kinks, the gradient counts as wrong


def gradient_error(subject: Subject, values: Arrays, kind: BackendFactory = Backend) -> Found:
    """The error of a layer's gradients in float64, and the allowed error; at a kink, those for other values."""
    found, smooth = _at(subject, values, kind)
    for seed in range(1, DRAWS):
        if smooth:
            break
        found, smooth = _at(subject, draw_values(subject, seed), kind)
    return found


def _at(subject: Subject, values: Arrays, kind: BackendFactory) -> tuple[Found, bool]:
    def forward(moved: Arrays) -> np.ndarray:
        one = Pass(subject, {**values, **moved}, kind("float64", SEED))  # a fresh backend: the same dropout masks
        y = one.forward(one.x)[0]
        return np.concatenate([np.array(one.backend.to_host(a)).ravel() for a in in_tuple(y)])

    result = run(subject, values, kind("float64", SEED))
    gradients = {name[2:]: g for name, g in result.items() if name.startswith("d ")}
    for name in filter(is_data, values):
        if name.startswith("x") and values[name].dtype.kind == "f":
            if f"d{name}" not in result:
                raise Mismatch(f"backward gives None for d{name}, although d{name} is needed")
            gradients[name] = result[f"d{name}"]
    weight = np.concatenate([values[name].ravel() for name in values if is_data(name) and name.startswith("dy")])
    return directional_error(forward, values, gradients, weight)


def loss_gradient_error(loss: Callable, values: Arrays, kind: BackendFactory = Backend) -> Found:
    """The error of a loss's dy in float64, and the allowed error. `values` come from `loss_values`."""
    backend = kind("float64", SEED)
    target = target_of(values, backend.asarray)

    def forward(moved: Arrays) -> np.ndarray:
        return np.array(backend.to_host(loss(backend.asarray(moved["y"]), target, backend)[0]))

    dy = np.array(backend.to_host(loss(backend.asarray(values["y"]), target, backend)[1]))
    return directional_error(forward, values, {"y": dy}, np.ones(()))[0]


def directional_error(
    forward: Callable[[Arrays], np.ndarray], values: Arrays, gradients: Arrays, weight: np.ndarray
) -> tuple[Found, bool]:
    """|difference quotient of sum(weight forward(values)) - gradients . direction|, and the allowed error.

    They are those of the first of `STEPS` that decides whether the gradients are right. The bool is False if none does,
    such as where there is a kink within every step.
    """
    rng = np.random.default_rng(1)
    direction = {name: signs(rng, g.shape) for name, g in gradients.items()}
    terms = [gradients[name] * d for name, d in direction.items()]
    expected, size = float(sum(t.sum() for t in terms)), sum(float(np.abs(t).sum()) for t in terms)
    before, last = math.inf, None
    for step in STEPS:
        ahead, behind = (forward({k: values[k] + way * step * d for k, d in direction.items()}) for way in (1, -1))
        quotient = float((weight * (ahead - behind)).sum() / (2 * step))
        # The two forwards are rounded, which shows even where every gradient is 0.
        allowed = GRADIENT * size + float(np.abs(weight * ahead).sum() * 2.0**-50 / step)
        found = abs(quotient - expected), allowed, ""
        right, same = found[0] <= allowed, not abs(quotient - before) > allowed  # `not >`: a NaN is no kink
        if right and same and last:
            return last, False  # no kink: right only because a shorter step allows more for rounding
        if right or same:
            return found, True
        before, last = quotient, found
    return found, False
