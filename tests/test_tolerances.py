"""Every tolerance lets rounding pass and stops an error of fifty times its size; nothing that is missing or no number
passes a comparison."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import losses, nn, verify
from xpnet.backend import Backend
from xpnet.verify.check import agreement, exact, tolerance
from xpnet.verify.gradcheck import DRAWS, directional_error, gradient_error, loss_gradient_error
from xpnet.verify.invariants import settled_state
from xpnet.verify.parity import parity
from xpnet.verify.parity_result import REFERENCE, Comparison, Training
from xpnet.verify.passes import (
    SEED,
    Float64,
    MovedSums,
    MovedTotals,
    Subject,
    Trial,
    draw_values,
    in_float32,
    run,
    spread,
)
from xpnet.verify.report import Finding, Mismatch, Report, compare, finding
from xpnet.verify.strict import StrictBackend
from xpnet.verify.tolerances import DEVIATIONS, FLOAT32, LONG, SUM, rounding, summing


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


class Rectifier(nn.Layer):
    """ReLU, with a gradient that is off by a fraction."""

    def __init__(self, off=0.0):
        self.off = off

    def forward(self, x, backend):
        return backend.xp.maximum(x, 0), lambda dy, need_dx=True: dy * (x > 0) * (1 + self.off)


@pytest.mark.parametrize("size", [3e-7, 3e-8])
@pytest.mark.parametrize(("off", "passes"), [(0, True), (1e-2, False), (-0.5, False)])
def test_a_kink_within_a_step_is_no_mistake_and_hides_none(size, off, passes):
    one = subject(lambda: Rectifier(off), draw=lambda rng, shape: size * rng.uniform(1, 2, shape))
    error, allowed, _ = gradient_error(one, draw_values(one))
    assert (error <= allowed) == passes


class Far(nn.Layer):
    """x plus much, so that quotients are rounded, with a gradient that is off by a fraction."""

    def __init__(self, off=0.0):
        self.off = off

    def forward(self, x, backend):
        return x + 1e5, lambda dy, need_dx=True: dy * (1 + self.off)


@pytest.mark.parametrize(("off", "passes"), [(0, True), (3e-3, False)])
def test_a_shorter_step_excuses_no_gradient_where_there_is_no_kink(off, passes):
    """Its quotient is rounded ten times as much, and so is what is allowed."""
    one = subject(lambda: Far(off))
    error, allowed, _ = gradient_error(one, draw_values(one))
    assert (error <= allowed) == passes
    values = {"y": spread(np.random.default_rng(0), (6,)), "target": np.zeros(1)}
    error, allowed, _ = loss_gradient_error(lambda y, _, backend: (y.sum() + 1e5, 1 + off + 0 * y), values)
    assert (error <= allowed) == passes


@pytest.mark.parametrize(("off", "passes"), [(0, True), (1e-2, False)])
def test_values_at_a_kink_are_drawn_anew(off, passes):
    drawn = []

    def draw(rng, shape):
        drawn.append(shape)
        return 1e-11 + spread(rng, shape) * (len(drawn) > 2)

    one = subject(lambda: Rectifier(off), draw=draw)
    error, allowed, _ = gradient_error(one, draw_values(one))
    assert (error <= allowed) == passes
    assert len(drawn) == 3


def test_where_all_values_are_at_a_kink_nothing_passes():
    drawn = []
    one = subject(Rectifier, draw=lambda rng, shape: drawn.append(shape) or np.full(shape, 1e-11))
    error, allowed, _ = gradient_error(one, draw_values(one))
    assert error > allowed
    assert len(drawn) == DRAWS


def test_rounding_of_the_two_forwards_is_no_wrong_gradient():
    """Of a sum of softmaxes, say: every gradient is 0, and the values differ in their last bit."""
    two = iter([1.0, 1 + 2.0**-52])
    forward = lambda moved: np.array([next(two)])
    found, smooth = directional_error(forward, {"x": np.zeros(1)}, {"x": np.zeros(1)}, np.ones(1))
    assert smooth
    assert found[:2] == pytest.approx((2.0**-53 / 1e-6, 2.0**-50 / 1e-6), rel=1e-12)


def test_the_gradients_of_a_network_of_many_rectifiers():
    """Some are within a step of their kinks: it was accused in training."""
    network = nn.resnet((16, 16, 3), 10, depth=8, width=8)
    for training in (False, True):
        one = subject(network.copy, (16, 16, 3), batch=4, training=training)
        error, allowed, _ = gradient_error(one, draw_values(one))
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
    assert passes or "on a batch to which the state (running_mean, running_var) has converged" in found.problem


def test_a_layer_that_draws_random_numbers_is_not_waited_for():
    """Its state never settles: that took thousands of passes."""
    passes = []

    class Counted(nn.Dropout):
        def forward(self, x, backend):
            passes.append(x)
            return super().forward(x, backend)

    one = subject(lambda: nn.Sequential(Counted(0.5), nn.BatchNorm()), batch=8, training=True)
    trial = Trial(one, draw_values(one), lambda: Backend("float64", 0))
    assert settled_state(trial) == ({}, {})
    assert len(passes) < 20


@pytest.mark.parametrize(("gap", "passes"), [(0, True), (5e-5, True), (5e-3, False), (math.nan, False)])
def test_a_curve_of_losses_that_is_off(gap, passes):
    training = Training("", {REFERENCE: (1.0, 0.5), "gpu": (1.0, 0.5 + gap)}, {})
    assert training.ok == passes


# Long sums ------------------------------------------------------------------------------------------------------------


class Products(Backend):
    """float32 with a product of its own: all samples at once, as on a GPU."""

    def __init__(self, product):
        super().__init__("float32", SEED)
        self.product = product

    def chunks(self, size, numbers=1):
        yield slice(0, size)

    def _product(self, a, b, out):
        y = self.product(a, b)
        if out is None:
            return y
        out[...] = y
        return out


def one_after_the_other(a, b):
    """The terms are added to a single number, in float32."""
    y = np.matmul(a[..., :0], b[:0])
    for k in range(a.shape[-1]):
        y += a[..., k, None] * b[k] if a.ndim > 1 else a[k] * b[k]
    return y


def without(share):
    """Long sums forget the terms from the middle on: one of them, or a part."""

    def product(a, b):
        n = a.shape[-1]
        kept = np.ones(n, bool)
        kept[n // 2 : n // 2 + max(int(share * n), 1)] = n < 1000
        return np.matmul(a[..., kept], b[kept])

    return product


def in_16_bits(a, b):
    """Sums of float16."""
    y = np.float16(0)
    for k in range(0, a.shape[-1], 32):
        y = np.float16(y + np.matmul(a[..., k : k + 32], b[k : k + 32]).astype(np.float16))
    return y.astype(np.float32)


def tf32(a):
    """Rounded to 10 bits after the point, as TF32 does."""
    return ((a.copy().view(np.uint32) + (1 << 12)) & np.uint32(0xFFFFE000)).view(np.float32)


def cancelling(n=4096):
    """A Linear and its values for n samples, whose gradients are sums that grow to n / 2 terms and then cancel."""
    one = subject(lambda: nn.Linear(3), (2,), n)
    values = draw_values(one)
    values["x"] = 0.4 + 0.01 * values["x"]
    values["dy"] = np.abs(values["dy"]) * np.where(np.arange(n) < n // 2, 1, -1)[:, None]
    return one, in_float32(values)


def of_gradients(backend, one, values, allowed):
    want, got = exact(one, values, "float32"), run(one, values, backend)
    return {name: float((np.abs(got[name] - want[name]) / allowed[name]).max()) for name in ("d W", "d b")}


def test_a_long_sum_whose_terms_cancel_is_rounding_in_whatever_order_it_is_added_up():
    one, values = cancelling()
    allowed = tolerance(one, values, "float32")
    terms = rounding(lambda changed: run(one, changed, Float64()), values, exact(one, values, "float32"))
    found = of_gradients(Products(one_after_the_other), one, values, allowed)
    assert all(0.05 < fraction < 0.7 for fraction in found.values())
    assert all(f > 1 for f in of_gradients(Products(one_after_the_other), one, values, terms).values())
    assert all(f < 0.7 for f in of_gradients(Backend("float32", SEED), one, values, allowed).values())


@pytest.mark.parametrize(
    "product",
    [
        without(0),
        without(0.01),
        in_16_bits,
        lambda a, b: np.matmul(tf32(a), tf32(b)),
        lambda a, b: np.matmul(a, b) * np.float32(1 + 1e-2),
    ],
    ids=["one term of 4096", "one in a hundred", "sums of 16 bits", "TF32", "a factor"],
)
def test_a_mistake_in_a_long_sum_whose_terms_cancel_is_no_rounding(product):
    one, values = cancelling()
    found = of_gradients(Products(product), one, values, tolerance(one, values, "float32"))
    assert max(found.values()) > 1


def test_what_is_measured_of_sums_is_what_float32_does():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(1, 2000)).astype(np.float32), rng.normal(size=(2000, 500)).astype(np.float32)
    exactly = np.matmul(a.astype(np.float64), b.astype(np.float64))
    error = one_after_the_other(a, b) - exactly
    moves = MovedTotals(0, "float32").matmul(a.astype(np.float64), b.astype(np.float64)) - exactly
    assert 0.85 < np.sqrt((moves**2).mean() / (error**2).mean()) < 1.15
    partial_sums = np.cumsum(a[0, :, None].astype(np.float64) * b, axis=0)
    assert np.abs(moves[0]) == pytest.approx(SUM * np.sqrt((partial_sums**2).sum(axis=0)), rel=0.2)
    assert {-1, 1} == set(np.sign(moves[0]))


def test_sums_are_as_long_as_on_a_gpu_which_takes_all_samples_at_once():
    images = subject(lambda: nn.Conv2d(8, 3), (30, 30, 8), 9)
    backend = MovedTotals(0, "float32")
    run(images, draw_values(images), backend)
    assert backend.longest == 9 * 28 * 28


@pytest.mark.parametrize(("terms", "same"), [(LONG, True), (LONG + 1, False)])
def test_the_tolerance_of_short_sums_is_that_of_their_terms(terms, same):
    one, values = cancelling(terms)
    want, chance = exact(one, values, "float32"), np.random.default_rng(1)
    of_terms = rounding(lambda changed: run(one, changed, MovedSums(FLOAT32, chance, "float32")), values, want)
    allowed = tolerance(one, values, "float32")
    assert all(np.array_equal(allowed[name], of_terms[name]) for name in want) == same
    assert all((allowed[name] >= of_terms[name]).all() for name in want)


def test_the_sums_of_a_tensor_that_few_draws_miss_have_the_measure_of_the_others():
    result = {"y": np.zeros(4)}
    found = summing(lambda draw: {"y": np.array([0, 0, 0, 2.0])}, result)["y"]
    assert found == pytest.approx(DEVIATIONS * np.array([1, 1, 1, np.sqrt(5)]))
    assert not summing(lambda draw: {}, result)["y"].any()
    signs = summing(lambda draw: {"y": np.full(4, -1.0 if draw % 2 else 1.0)}, result)["y"]
    assert signs == pytest.approx(np.full(4, DEVIATIONS * np.sqrt(2)))


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
