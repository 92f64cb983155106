"""Every tolerance lets rounding pass and stops an error of fifty times its size; nothing that is missing or no number
passes a comparison."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import losses, nn, verify
from xpnet.backend import Backend
from xpnet.verify.check import agreement, tolerance
from xpnet.verify.gradcheck import gradient_error, loss_gradient_error
from xpnet.verify.invariants import settled_state
from xpnet.verify.parity import parity
from xpnet.verify.parity_result import REFERENCE, Comparison, Training
from xpnet.verify.passes import SEED, Subject, Trial, draw_values, spread
from xpnet.verify.report import Finding, Mismatch, Report, compare, finding
from xpnet.verify.strict import StrictBackend


def subject(make, shape=(6,), batch=3, training=False, draw=spread) -> Subject:
    return Subject(make, shape, batch, training, draw)


class Square(nn.Layer):
    """y = x^2, with a gradient that is off by a fraction."""

    def __init__(self, off=0.0):
        self.off = off

    def forward(self, x, backend):
        return x * x, lambda dy, need_dx=True: dy * 2 * x * (1 + self.off)


class Differs(nn.Layer):
    """The identity, off by a fraction on a device or in a mode."""

    def __init__(self, off=0.0, device="strict", training=None):
        self.off, self.device, self.training = off, device, training

    def forward(self, x, backend):
        here = self.device in ("", backend.device) and self.training in (None, backend.training)
        return x * (1 + self.off if here else 1), lambda dy, need_dx=True: dy


class Settles(nn.BatchNorm):
    """Batch normalisation whose outputs in evaluation are off by a fraction."""

    def __init__(self, off=0.0):
        super().__init__()
        self.off = off

    def forward(self, x, backend):
        y, backward = super().forward(x, backend)
        return (y if backend.training else y * (1 + self.off)), backward


# Tolerances -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("side", [1, -1])
def test_the_step_of_a_gradient_check_is_shorter_than_the_way_to_a_near_kink(side):
    near = subject(nn.ReLU, draw=lambda rng, shape: side * rng.uniform(1e-5, 2e-5, shape))
    error, allowed, _ = gradient_error(near, draw_values(near))
    assert error <= allowed


@pytest.mark.parametrize(
    ("off", "passes"), [(0, True), (5e-6, False), (-5e-6, False), (math.inf, False), (math.nan, False)]
)
def test_a_gradient_that_is_off(off, passes):
    one = subject(lambda: Square(off))
    assert finding("", "", lambda: gradient_error(one, draw_values(one))).ok == passes


@pytest.mark.parametrize(("off", "passes"), [(0, True), (5e-6, False)])
def test_a_loss_gradient_that_is_off(off, passes):
    def loss(y, target, backend):
        value, dy = losses.MeanSquaredError()(y, target, backend)
        return value, dy * (1 + off)

    rng = np.random.default_rng(0)
    values = {"y": rng.uniform(1, 2, (3, 4)), "target": rng.uniform(-1, 0, (3, 4))}
    error, allowed, _ = loss_gradient_error(loss, values)
    assert (error <= allowed) == passes


@pytest.mark.parametrize(
    ("dtype", "off", "passes"),
    [
        ("float64", 0, True),
        ("float64", 1e-14, True),
        ("float64", 1e-10, False),
        ("float32", 3e-7, True),
        ("float32", 1e-4, False),
    ],
)
def test_a_device_that_is_off(dtype, off, passes):
    one = subject(lambda: Differs(off))
    trial = Trial(one, draw_values(one), lambda: StrictBackend(dtype, SEED))
    error, allowed, where = agreement(trial, lambda: tolerance(one, trial.values, dtype))
    assert (error <= allowed) == passes
    assert where.startswith("y") or not off


@pytest.mark.parametrize(("off", "passes"), [(0, True), (0.1, False), (1, False)])
def test_an_evaluation_that_is_off_once_the_state_has_settled(off, passes):
    one = subject(lambda: Settles(off), batch=8, training=True)
    trial = Trial(one, draw_values(one), lambda: Backend("float64", 0))
    found = finding("settled", "", lambda: compare(*settled_state(trial)))
    assert found.ok == passes
    assert passes or "settled on" in found.problem


@pytest.mark.parametrize(("gap", "passes"), [(0, True), (5e-5, True), (5e-3, False), (math.nan, False)])
def test_a_curve_of_losses_that_is_off(gap, passes):
    training = Training("", {REFERENCE: (1.0, 0.5), "gpu": (1.0, 0.5 + gap)}, {})
    assert training.ok == passes


# What is compared -----------------------------------------------------------------------------------------------------


def arrays(**values):
    return {name: np.array(value, np.float64) for name, value in values.items()}


ANY = lambda: {"y": np.full(2, 1e300)}


@pytest.mark.parametrize(
    ("got", "want"),
    [([1, math.nan], [1, 2]), ([1, 2], [1, math.nan]), ([1, math.nan], [1, math.nan]), ([1, math.inf], [1, 2])],
)
def test_what_is_no_number_is_within_no_tolerance(got, want):
    error, allowed, where = compare(arrays(y=got), arrays(y=want), ANY)
    assert error > allowed
    assert where == "y[1]"


@pytest.mark.parametrize("got", [{}, arrays(y=[1, 2], dx=[1]), arrays(y=[1]), arrays(y=[[1, 2]])])
def test_results_that_are_missing_too_many_or_of_another_shape_are_not_compared(got):
    with pytest.raises(Mismatch, match="expected"):
        compare(got, arrays(y=[1, 2]), ANY)


def test_the_number_that_is_worst_against_its_own_tolerance_is_reported():
    got, want = arrays(y=[10, 1], dx=[1.5]), arrays(y=[0, 0], dx=[1])
    limits = {"y": np.array([100, 2]), "dx": np.array([0.1])}
    assert compare(got, want, lambda: limits) == (0.5, 0.1, "dx[0]")
    assert compare({"gaps, y": got["y"]}, {"gaps, y": want["y"]}, lambda: limits) == (1.0, 2.0, "gaps, y[1]")
    assert compare(got, want)[:2] == (10.0, 0.0)  # without limits: exact
    assert compare(want, want) == (0.0, 0.0, "")


@pytest.mark.parametrize(
    "found",
    [
        Finding("", "", math.nan, 1.0),
        Finding("", "", 2.0, 1.0),
        Finding("", "", 1.0, math.nan),
        Finding("", "", math.inf, math.inf),
        Finding("", "", 1.0, math.inf),
        Finding("", "", problem="no"),
    ],
)
def test_a_finding_that_says_nothing_is_not_ok(found):
    assert not found.ok
    assert found.fraction > 1
    assert not Report("", (Finding("", ""), found)).ok
    row = Comparison("", "", "gpu", error=found.error, allowed=found.allowed, problem=found.problem)
    assert not row.ok
    assert row.verdict == "differs"


def test_an_error_in_a_measurement_is_a_finding():
    found = finding("name", "setting", lambda: 1 / 0)
    assert not found.ok
    assert found.problem == "ZeroDivisionError: division by zero"


# Everywhere -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("device", ["cpu", "strict"])
@pytest.mark.parametrize("training", [False, True])
def test_check_looks_in_both_modes_and_on_both_devices(device, training):
    report = verify.check(Differs(0.01, device, training), (3,), raises=False)
    assert report.failed
    mode = "training" if training else "evaluation"
    assert {found.setting.rpartition(",")[0] for found in report.failed if found.name == "gradients"} == {
        f"{mode}, {device}"
    }


def network(*layers):
    return nn.Model(nn.Sequential(nn.Linear(4), *layers, nn.Linear(3)), (5,), Backend("float32", 5))


class NoLog(Backend):
    """Every layer works on it, but not the loss."""

    def __init__(self, dtype="float32", seed=0):
        super().__init__(dtype, seed, "no log")
        self.xp = _WithoutLog()


class _WithoutLog:
    def __getattr__(self, name):
        if name == "log":
            raise AttributeError("this device has no logarithm")
        return getattr(np, name)


def test_a_device_that_cannot_train_does_not_agree():
    found = parity(network(), steps=3, second=NoLog)
    assert all(row.ok for row in found.rows)
    assert not found.training.ok
    assert not found.ok
    assert "not the training (no log: AttributeError: this device has no logarithm" in found.verdict


class Silent(nn.Layer):
    """Gives no input gradient on the strict device."""

    def forward(self, x, backend):
        return x * 1, lambda dy, need_dx=True: None if backend.device == "strict" else dy * 1


def test_a_result_that_a_device_does_not_give_is_a_difference():
    found = parity(network(Silent()), steps=1, second=StrictBackend)
    assert not found.ok
    missing = [row for row in found.rows if row.what == "input gradient" and "Silent" in row.part and not row.ok]
    assert [row.device for row in missing] == ["strict"]
