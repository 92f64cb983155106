"""Compares rows of the table with computations independent of the code under test: plain loops, the scalar engine.

Each function returns (largest error, what is allowed there, where). All work in float64. Whether float32 agrees with
float64, and one device with another, is checked in `check.py`, which needs no row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.backend import Backend
from xpnet.nn.shapes import each, in_tuple
from xpnet.scalar import Value
from xpnet.verify.cases.arithmetic import filled
from xpnet.verify.cases.optimizer import clipped
from xpnet.verify.check import run_loss
from xpnet.verify.passes import (
    SEED,
    BackendFactory,
    draw_values,
    is_data,
    named,
    run,
    run_optimizer,
    target_of,
    unnamed,
)
from xpnet.verify.report import Found, compare
from xpnet.verify.rows import LayerCase, LossCase, OptimizerCase
from xpnet.verify.tolerances import FLOAT64, Arrays, scaled


def layer_by_formula(case: LayerCase, batch: int, kind: BackendFactory = Backend) -> Found:
    """Compares y with the plain loops of the row's reference, and the state after the pass if the row has one."""
    assert case.reference, f"{case.of}: {case.what} has no reference"
    subject = case.subject(batch)
    values = draw_values(subject)
    y = case.reference(_inputs(values), _parameters(values))
    want = {name: np.asarray(v, np.float64) for name, v in named("y", y).items()}
    got = run(subject, values, kind("float64", SEED))
    if case.state:
        want |= {f"state {name}": np.asarray(v, np.float64) for name, v in case.state(values).items()}
    return _close({name: got[name] for name in want}, want)


def layer_by_scalars(case: LayerCase, batch: int, kind: BackendFactory = Backend) -> Found:
    """Compares y, dx and all gradients with the scalar engine, which differentiates the row's reference."""
    assert case.reference, f"{case.of}: {case.what} has no reference"
    subject = case.subject(batch)
    values = draw_values(subject)
    x, parameters = _inputs(values, _as_values), _parameters(values, _as_values)
    y = case.reference(x, parameters)
    pairs = zip(in_tuple(y), in_tuple(unnamed("dy", values)), strict=True)
    sum((number for one, weight in pairs for number in (one * weight).ravel()), Value(0.0)).backward()
    got = run(subject, values, kind("float64", SEED))
    want = named("y", each(_data, y)) | named("dx", each(_grad, x))
    want |= {f"d {name}": _grad(p) for name, p in parameters.items()}
    names = [name for name in got if not name.startswith("state ")]
    return _close({name: got[name] for name in names}, {name: want[name] for name in names})


def loss_by_formula(case: LossCase, batch: int, kind: BackendFactory = Backend) -> Found:
    """Compares the value with the row's reference."""
    values = case.values(batch)
    got = run_loss(case.make(), values, kind("float64", SEED))
    want = np.array(float(case.reference(values["y"], target_of(values))))
    return _close({"value": got["value"]}, {"value": want})


def loss_by_scalars(case: LossCase, batch: int, kind: BackendFactory = Backend) -> Found:
    """Compares the value and dy with the scalar engine, which differentiates the row's reference."""
    values = case.values(batch)
    y = _as_values(values["y"])
    value = case.reference(y, target_of(values))
    value.backward()
    want = {"value": np.array(value.data), "dy": _grad(y)}
    return _close(run_loss(case.make(), values, kind("float64", SEED)), want)


def optimizer_values(steps: int = 10) -> Arrays:
    """Weights (7, 4), biases (4,), and their gradients for each step."""
    rng = np.random.default_rng(3)
    shapes = {"W": (7, 4), "b": (4,), "gradients W": (steps, 7, 4), "gradients b": (steps, 4)}
    return {name: rng.standard_normal(shape).astype(np.float32).astype(np.float64) for name, shape in shapes.items()}


def optimizer_by_formula(case: OptimizerCase, values: Arrays, kind: BackendFactory = Backend) -> Found:
    """Compares weights and biases after some steps with the row's formula."""
    got = run_optimizer(case.make, values, kind("float64", SEED), case.clip)
    return _close(got, optimizer_reference(case, values))


def optimizer_reference(case: OptimizerCase, values: Arrays) -> Arrays:
    """Weights and biases after all steps, by the row's formula: for one number, or one parameter, at a time."""
    if case.kind.by_parameter:
        ends = {k: case.reference(values[k].tolist(), values[f"gradients {k}"].tolist(), k == "W") for k in ("W", "b")}
        return {name: np.array(end) for name, end in ends.items()}
    n_steps, n_weights = len(values["gradients W"]), values["W"].size
    flat = [values[name].reshape(n_steps, -1) for name in ("gradients W", "gradients b")]
    steps = [[float(g) for g in step] for step in np.concatenate(flat, axis=1)]
    if case.clip is not None:
        steps = [clipped(gradients, case.clip) for gradients in steps]
    start = [float(x) for x in np.concatenate([values["W"].ravel(), values["b"]])]
    end = [case.reference(x, [step[i] for step in steps], i < n_weights) for i, x in enumerate(start)]
    return {"W": np.array(end[:n_weights]).reshape(values["W"].shape), "b": np.array(end[n_weights:])}


def _close(got: Arrays, want: Arrays) -> Found:
    return compare(got, want, lambda: {name: scaled(FLOAT64, w) for name, w in want.items()})


def _parameters(values: Arrays, convert: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Arrays:
    return {name: convert(v) for name, v in values.items() if not is_data(name)}


def _inputs(values: Arrays, convert: Callable[[np.ndarray], np.ndarray] = np.asarray) -> Any:
    """x for a reference, as float64 or `Value`s."""
    return each(lambda v: convert(v.astype(np.float64)), unnamed("x", values))


# Arrays of `Value`s -------------------------------------------------------------------------------------------


def _as_values(numbers: np.ndarray) -> np.ndarray:
    return filled(numbers.shape, lambda *at: Value(float(numbers[at])))


def _data(values: np.ndarray) -> np.ndarray:
    return filled(values.shape, lambda *at: values[at].data).astype(np.float64)


def _grad(values: np.ndarray) -> np.ndarray:
    return filled(values.shape, lambda *at: values[at].grad).astype(np.float64)
