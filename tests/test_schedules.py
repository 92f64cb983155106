"""Every schedule of the table of cases, against rates worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet import schedules
from xpnet.verify.cases import SCHEDULES
from xpnet.verify.rows import name


@pytest.mark.parametrize("case", SCHEDULES, ids=name)
def test_rates(case):
    schedule, watched = case.make(), iter(case.watched)
    for step, rate in case.rates.items():
        for value in watched:
            schedule.observe(value)
            break
        assert schedule(step) == pytest.approx(rate, rel=1e-12, abs=1e-15), f"step {step}"


@pytest.mark.parametrize("factor", [2, 2.0, 1e300])
@pytest.mark.parametrize("step", [2000, 10**18])
def test_a_rate_beyond_all_numbers_is_infinite(factor, step):
    assert schedules.Step(0.1, every=1, factor=factor)(step) == math.inf


@given(st.integers(2, 500), st.floats(1e-4, 10.0))
def test_rates_stay_between_their_ends(steps, lr):
    for schedule, low, high in (
        (schedules.Cosine(lr, steps, lr / 10), lr / 10, lr),
        (schedules.Exponential(lr, steps, lr / 100), lr / 100, lr),
        (schedules.OneCycle(lr, steps), lr / 250_000, lr),
        (schedules.WarmUp(steps, schedules.Constant(lr)), lr / (steps + 1), lr),
    ):
        rates = [schedule(step) for step in range(steps + 3)]
        assert all(low * (1 - 1e-9) <= rate <= high * (1 + 1e-9) for rate in rates), schedule


@given(st.integers(4, 300))
def test_one_cycle_rises_once_and_falls_once(steps):
    rates = [schedules.OneCycle(1.0, steps)(step) for step in range(steps + 1)]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert abs(top - 0.3 * steps) <= 1


def test_plateau_counts_a_value_that_is_no_number_as_no_progress():
    schedule = schedules.Plateau(1.0, factor=0.1, patience=1)
    for value in (2.0, math.nan, math.nan):
        schedule.observe(value)
    assert schedule(0) == pytest.approx(0.01)


def test_plateau_waits_as_long_as_asked_from_the_first_epoch_on():
    schedule = schedules.Plateau(1.0, final=1.0)  # patience 3
    rates = []
    for _ in range(4):
        schedule.observe(math.nan)
        rates.append((schedule(0), schedule.waited))
    assert rates == [(1.0, 1), (1.0, 2), (1.0, 0), (1.0, 1)]
    schedule = schedules.Plateau(1.0)
    for _ in range(3):
        schedule.observe(math.nan)
    assert schedule(0) == 0.5


def test_plateau_holds_a_plain_number():
    schedule = schedules.Plateau(np.array(0.5), patience=1)
    assert type(schedule.lr) is type(schedule.first) is float
    schedule.begin()
    assert type(schedule(0)) is float


def test_plateau_begins_anew_for_another_run():
    schedule, seen = schedules.Plateau(1.0, factor=0.1, patience=2), [3.0, 2.0, 2.5, 2.5, 2.5]
    runs = []
    for _ in range(2):
        schedule.begin()
        assert schedule == schedules.Plateau(1.0, factor=0.1, patience=2)
        runs.append([(schedule.observe(value), schedule(0), schedule.waited) for value in seen])
    assert runs[0] == runs[1]
    assert schedule(0) == pytest.approx(0.1)


@pytest.mark.parametrize("state", ["best", "waited", "first"])
def test_what_plateau_has_seen_is_no_setting(state):
    schedules.Plateau(1.0, 0.5, 3, 0.0)
    with pytest.raises(TypeError, match=state):
        schedules.Plateau(1.0, **{state: 1})


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: schedules.Constant(math.nan), "lr"),
        (lambda: schedules.Constant(math.inf), "lr"),
        (lambda: schedules.Constant(0.0), "lr"),
        (lambda: schedules.Step(0.0, 1), "lr"),
        (lambda: schedules.Step(0.1, 0), "every"),
        (lambda: schedules.Step(0.1, 1, 0.0), "factor"),
        (lambda: schedules.Exponential(0.0, 10, 0.1), "lr"),
        (lambda: schedules.Exponential(0.1, 0, 0.1), "steps"),
        (lambda: schedules.Exponential(0.1, 10, -0.1), "final"),
        (lambda: schedules.Cosine(0.0, 10), "lr"),
        (lambda: schedules.Cosine(0.1, 0), "steps"),
        (lambda: schedules.Cosine(0.1, 10, -0.1), "final"),
        (lambda: schedules.Cosine(0.1, 10, math.inf), "final"),
        (lambda: schedules.OneCycle(0.0, 10), "lr"),
        (lambda: schedules.OneCycle(0.1, -1), "steps"),
        (lambda: schedules.WarmUp(0, schedules.Constant(0.1)), "steps"),
        (lambda: schedules.WarmUp(3, schedules.Plateau(0.1)), "Plateau"),
        (lambda: schedules.Step(0.1, 2.5), "every must be a whole number >= 1, not 2.5"),
        (lambda: schedules.Exponential(0.1, 2.5, 0.1), "steps must be a whole number >= 1, not 2.5"),
        (lambda: schedules.Cosine(0.1, 2.5), "steps must be a whole number >= 1, not 2.5"),
        (lambda: schedules.OneCycle(0.1, 2.5), "steps must be a whole number >= 1, not 2.5"),
        (lambda: schedules.WarmUp(2.5, schedules.Constant(0.1)), "steps must be a whole number >= 1, not 2.5"),
        (lambda: schedules.Plateau(0.0), "lr"),
        (lambda: schedules.Plateau(0.1, patience=0), "patience"),
        (lambda: schedules.Plateau(0.1, patience=2.5), "patience must be a whole number >= 1, not 2.5"),
        (lambda: schedules.Plateau(0.1, factor=0.0), "factor"),
        (lambda: schedules.Plateau(0.1, factor=1.0), "factor"),
        (lambda: schedules.Plateau(0.1, final=0.2), "final"),
        (lambda: schedules.Plateau(0.1, final=-0.1), "final"),
    ],
)
def test_settings_that_cannot_be(make, named):
    with pytest.raises(ValueError, match=named):
        make()


@pytest.mark.parametrize("then", [0.1, None, schedules.Cosine])
def test_a_warm_up_is_followed_by_a_schedule(then):
    with pytest.raises(
        TypeError, match=r"WarmUp needs a schedule to follow it, such as schedules.Cosine\(0.01, steps=1000\)"
    ):
        schedules.WarmUp(5, then)
    assert schedules.WarmUp(1, lambda step: 0.5)(7) == 0.5
