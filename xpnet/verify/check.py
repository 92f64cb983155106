"""The one-line check of a layer or a loss of your own: `check(layer, shape)`, `check_loss(loss, shape, target)`.

It needs no second implementation. Gradients are compared with difference quotients. Results in float32, and those of
the strict device (which behaves as a GPU does), are compared with float64 on the CPU. Every invariant is checked on
both devices, in both dtypes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache, partial

import numpy as np

from xpnet.arguments import a_function, shown, whole
from xpnet.backend import DTYPES, Array, Backend
from xpnet.losses import Loss
from xpnet.nn import Layer
from xpnet.nn.shapes import Shape, as_shape, is_several
from xpnet.train.step import is_sum, loss_weight
from xpnet.verify.gradcheck import gradient_error, loss_gradient_error
from xpnet.verify.invariants import INVARIANTS, ROUNDED, Invariant
from xpnet.verify.passes import (
    SEED,
    BackendFactory,
    Draw,
    Float64,
    MovedProducts,
    MovedSums,
    MovedTotals,
    Subject,
    Trial,
    draw_values,
    loss_values,
    run,
    spread,
    target_of,
)
from xpnet.verify.report import CheckFailed, Finding, Found, Mismatch, Report, compare, finding
from xpnet.verify.tolerances import (
    EPSILON,
    FLOAT32,
    FLOAT64,
    LONG,
    Arrays,
    product_rounding,
    rounding,
    scaled,
    summing,
)


def check(
    layer: Layer, shape: Shape, batch: int = 4, draw: Draw | tuple[Draw, ...] = spread, raises: bool = True
) -> Report:
    """Check a layer on samples of this shape, in evaluation and in training mode, on the CPU and the strict device.

    `draw(rng, (batch, *shape))` returns the inputs, as float64 or whole numbers. By default they are floats between -2
    and 2, all different and none of them 0. Pass your own if the layer takes other inputs or has a kink elsewhere than
    at 0. For several inputs, `shape` is a tuple of shapes, and `draw` may be a tuple with one function for each.

    Rounding limits the gradient check: an error of 1 % may pass if the outputs are over a million times as large as the
    gradients, and any error if they are a billion times as large. Check such a layer with smaller numbers.

    Compute sums of thousands of terms by `backend.matmul`, with ones if need be: there the check measures how far
    rounding may change them. NumPy's `x.sum` adds numbers one by one where they are not contiguous, and then loses more
    digits than the check allows ("strided input").

    Raises `CheckFailed` if any check failed, unless `raises` is false; `ShapeError` if the layer does not fit `shape`;
    ValueError if `draw` returns another shape.
    """
    if not isinstance(layer, Layer):
        raise TypeError(f"check takes a layer, such as nn.Linear(3), not {layer!r}")
    shape, batch = as_shape(shape), whole("batch", batch, least=1)
    findings: list[Finding] = []
    for training in (False, True):
        subject = Subject(layer.copy, shape, batch, training, draw)
        draw_values(subject)  # raises if the layer cannot be built or `draw` is wrong: that is not a finding
        mode = "training" if training else "evaluation"
        for device, kind in kinds().items():
            findings += layer_findings(subject, kind, f"{mode}, {device}")
    return _finished(Report(f"{layer!r} on {batch} samples of shape {shape}", tuple(findings)), raises)


def check_loss(loss: Loss, shape: tuple[int, ...], target: Draw, batch: int = 4, raises: bool = True) -> Report:
    """Check a loss on outputs of this shape per sample, on the CPU and the strict device.

    `target(rng, (batch, *shape))` draws the targets, or a tuple of targets and weights. Raises `CheckFailed` as `check`
    does; TypeError if `target` is an array, or `loss` a class; ValueError for the shapes of several outputs.

    The losses of the parts of a batch, combined by `Loss.weight`, must give the loss of the whole batch, unless the
    loss sets `by_sample = False`. A plain function counts as a mean over samples.
    """
    a_function("check_loss takes a loss, such as losses.Huber()", loss)
    if not callable(target):
        how = "lambda rng, shape: rng.standard_normal(shape)"
        raise TypeError(f"target must be a function that draws targets, such as {how}, not {shown(target)}")
    if is_several(as_shape(shape)):
        raise ValueError(
            "check_loss takes losses of one output: for several, wrap the loss in a function of one y that holds all "
            "outputs side by side, and that joins the parts of dy"
        )
    rng = np.random.default_rng(0)
    outputs = (whole("batch", batch, least=1), *as_shape(shape))
    values = loss_values(spread(rng, outputs), target(rng, outputs))
    findings: list[Finding] = []
    for device, kind in kinds().items():
        findings += loss_findings(loss, values, kind, device)
    title = f"{getattr(loss, '__name__', type(loss).__name__)} on {batch} outputs of shape {outputs[1:]}"
    return _finished(Report(title, tuple(findings)), raises)


def kinds() -> dict[str, BackendFactory]:
    """The devices that every machine has, by name."""
    from xpnet.verify.strict import StrictBackend

    return {"cpu": Backend, "strict": StrictBackend}


def _finished(report: Report, raises: bool) -> Report:
    if raises and not report.ok:
        raise CheckFailed(report)
    return report


# Layers -------------------------------------------------------------------------------------------------------


def layer_findings(subject: Subject, kind: BackendFactory, label: str) -> Iterator[Finding]:
    """All checks of a layer on one kind of backend that need no reference."""
    values = draw_values(subject)
    yield finding("gradients", f"{label}, float64", gradient_error, subject, values, kind)
    for dtype in DTYPES:
        setting, trial = f"{label}, {dtype}", Trial(subject, values, partial(kind, dtype, SEED))
        allowed = cache(partial(tolerance, subject, values, dtype))
        if kind is not Backend or dtype != "float64":  # float64 on the CPU is what the others are compared with
            yield finding("agrees with float64 on the CPU", setting, agreement, trial, allowed)
        for invariant in INVARIANTS:
            name = invariant.__name__.replace("_", " ")
            yield finding(name, setting, _holds, invariant, trial, allowed if invariant in ROUNDED else None)


def _holds(invariant: Invariant, trial: Trial, allowed: Callable[[], Arrays] | None) -> Found:
    return compare(*invariant(trial), allowed)


def agreement(trial: Trial, allowed: Callable[[], Arrays]) -> Found:
    """The worst difference between a pass and the same pass in float64 on the CPU."""
    return compare(trial.result, exact(trial.subject, trial.values, str(trial.fresh().dtype)), allowed)


def tolerance(subject: Subject, values: Arrays, dtype: str, precision: str | None = None) -> Arrays:
    """How far each number of a pass may be from its exact value."""
    result, chance = exact(subject, values, dtype), np.random.default_rng(1)
    of_terms = rounding(lambda changed: run(subject, changed, MovedSums(FLOAT32, chance, dtype)), values, result)
    of_sums = summing(partial(_in_moved_totals, subject, values, dtype), result)
    allowed = _in_dtype(dtype, {name: np.maximum(of_terms[name], of_sums[name]) for name in result})
    if precision is None:
        return allowed
    compute = lambda draw: run(subject, values, MovedProducts(EPSILON[precision], draw))
    products = product_rounding(compute, result)
    return {name: a + products[name] for name, a in allowed.items()}


def _in_moved_totals(subject: Subject, values: Arrays, dtype: str, draw: int) -> Arrays:
    """The results of a pass whose sums are perturbed, or {} if none of its sums is long."""
    backend = MovedTotals(draw, dtype)
    changed = run(subject, values, backend)
    return changed if backend.longest > LONG else {}


def _in_dtype(dtype: str, allowed: Arrays) -> Arrays:
    """Tolerances for float32, scaled to this dtype."""
    return allowed if dtype == "float32" else {k: a * (FLOAT64 / FLOAT32) for k, a in allowed.items()}


def exact(subject: Subject, values: Arrays, dtype: str) -> Arrays:
    """A pass in float64 on the CPU, with the dropout masks of a pass in `dtype`."""
    return run(subject, values, Float64(dtype))


# Losses -------------------------------------------------------------------------------------------------------


def loss_findings(loss: Loss, values: Arrays, kind: BackendFactory, label: str) -> Iterator[Finding]:
    """All checks of a loss on one kind of backend that need no reference. `values` come from `loss_values`."""
    yield finding("gradient", f"{label}, float64", loss_gradient_error, loss, values, kind)
    checks = {
        "agrees with float64 on the CPU": _loss_agrees,
        "inputs unmodified": _loss_keeps_inputs,
        "dtype kept": _loss_keeps_dtype,
        "strided input": _loss_of_strided,
        "captured": _loss_captured,
        "parts of a batch": _loss_of_parts,
    }
    for dtype in DTYPES:
        for name, measure in checks.items():
            yield finding(name, f"{label}, {dtype}", measure, loss, values, partial(kind, dtype, SEED))


def run_loss(loss: Loss, values: Arrays, backend: Backend, put: Callable[[np.ndarray], Array] | None = None) -> Arrays:
    """The loss and its dy, as host arrays. `put` copies the outputs and the target to the device."""
    put = put or backend.asarray
    return _on_host(backend, *loss(put(values["y"]), target_of(values, put), backend))


def _on_host(backend: Backend, value: Array, dy: Array) -> Arrays:
    return {"value": np.array(backend.to_host(value)), "dy": np.array(backend.to_host(dy))}


def loss_tolerance(loss: Loss, values: Arrays, dtype: str) -> Arrays:
    """How far a loss and its dy may be from their exact values."""
    cpu = Backend("float64", SEED)
    compute = lambda changed: run_loss(loss, {**values, **changed}, cpu)
    return _in_dtype(dtype, rounding(compute, {"y": values["y"]}, compute({})))


def _loss_agrees(loss: Loss, values: Arrays, fresh: Callable[[], Backend]) -> Found:
    """The loss and its dy are those of the same loss in float64 on the CPU."""
    backend, cpu = fresh(), Backend("float64", SEED)
    allowed = partial(loss_tolerance, loss, values, str(backend.dtype))
    return compare(run_loss(loss, values, backend), run_loss(loss, values, cpu), allowed)


def _loss_keeps_inputs(loss: Loss, values: Arrays, fresh: Callable[[], Backend]) -> Found:
    """Neither the outputs nor the target are changed."""
    backend = fresh()
    on_device = {name: backend.asarray(v.copy()) for name, v in values.items()}
    before = {name: np.array(backend.to_host(a)) for name, a in on_device.items()}
    loss(on_device["y"], target_of(on_device, backend.asarray), backend)
    return compare({name: np.array(backend.to_host(a)) for name, a in on_device.items()}, before)


def _loss_keeps_dtype(loss: Loss, values: Arrays, fresh: Callable[[], Backend]) -> Found:
    """The value is a 0-d array on the device, dy has y's shape, both the backend's dtype."""
    backend = fresh()
    value, dy = loss(backend.asarray(values["y"]), target_of(values, backend.asarray), backend)
    for name, array, shape in (("the value", value, ()), ("dy", dy, values["y"].shape)):
        if array.dtype != backend.dtype or array.shape != shape:
            raise Mismatch(f"{name} is {array.dtype} of shape {array.shape}, expected {backend.dtype} of {shape}")
    return 0.0, 0.0, ""


def _loss_of_strided(loss: Loss, values: Arrays, fresh: Callable[[], Backend]) -> Found:
    """Outputs and targets with gaps between their elements, or in column-major order, give the same result."""
    backend, in_rows = fresh(), run_loss(loss, values, fresh())
    ways: dict[str, Callable[[np.ndarray], Array]] = {
        "gaps": lambda v: backend.asarray(v.repeat(2, axis=-1))[..., ::2],
        "transposed": lambda v: backend.asarray(v.T.copy()).T,
    }
    got, want = dict[str, np.ndarray](), dict[str, np.ndarray]()
    for label, put in ways.items():
        got |= {f"{label}, {name}": a for name, a in run_loss(loss, values, backend, put).items()}
        want |= {f"{label}, {name}": a for name, a in in_rows.items()}
    return compare(got, want, partial(loss_tolerance, loss, values, str(backend.dtype)))


def _loss_captured(loss: Loss, values: Arrays, fresh: Callable[[], Backend]) -> Found:
    """A captured step (run, recorded, replayed) gives the same result: host and device exchange nothing in it."""
    backend = fresh()
    inputs = [backend.asarray(v) for v in values.values()]
    replayed = backend.capture(lambda y, *target: loss(y, target if len(target) > 1 else target[0], backend))
    for _ in range(4):  # on a GPU: two warm-ups, the recording, a replay
        value, dy = replayed(*inputs)
    got, want = _on_host(backend, value, dy), run_loss(loss, values, fresh())
    # With a tolerance: in a capture, products go through another cuBLAS handle.
    return compare(got, want, partial(loss_tolerance, loss, values, str(backend.dtype)))


def _loss_of_parts(loss: Loss, values: Arrays, fresh: Callable[[], Backend]) -> Found:
    """The losses of the parts of a batch, combined by their weights, give the loss of the batch; the weights add up.

    `evaluate` and training steps with `accumulate` combine losses this way. A plain function is a mean over samples.
    """
    if len(values["y"]) < 2 or not getattr(loss, "by_sample", True):
        return 0.0, 0.0, ""
    backend = fresh()
    want = run_loss(loss, values, backend) | {"weight": np.array(_weight_of(loss, values, backend))}
    parts = [{name: v[part] for name, v in values.items()} for part in (slice(1), slice(1, None))]  # of unlike weights
    results = [run_loss(loss, part, backend) for part in parts]
    weights = [_weight_of(loss, part, backend) for part in parts]
    total = sum(weights)
    shares = [1.0 if is_sum(loss) else weight / (total or 1.0) for weight in weights]
    got = {
        "value": np.array(sum(share * result["value"] for share, result in zip(shares, results, strict=True))),
        "dy": np.concatenate([share * result["dy"] for share, result in zip(shares, results, strict=True)]),
        "weight": np.array(total),
    }
    dtype = str(backend.dtype)
    of_weight = _in_dtype(dtype, {"weight": scaled(FLOAT32, want["weight"])})
    return compare(got, want, lambda: loss_tolerance(loss, values, dtype) | of_weight)


def _weight_of(loss: Loss, values: Arrays, backend: Backend) -> float:
    weight = loss_weight(loss, backend.asarray(values["y"]), target_of(values, backend.asarray), backend)
    return float(backend.to_host(backend.asarray(weight)))
