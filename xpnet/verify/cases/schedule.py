"""Schedules, with rates worked out by hand."""

from __future__ import annotations

import math

from xpnet import schedules
from xpnet.verify.rows import ScheduleCase

_HALF = math.sqrt(0.5)  # cos of an eighth of a turn


CASES: tuple[ScheduleCase, ...] = (
    ScheduleCase("Constant", "", lambda: schedules.Constant(0.3), {0: 0.3, 1: 0.3, 1000: 0.3}),
    ScheduleCase("Step", "halves", lambda: schedules.Step(0.1, 3, 0.5), {0: 0.1, 2: 0.1, 3: 0.05, 5: 0.05, 6: 0.025}),
    ScheduleCase("Step", "usual factor", lambda: schedules.Step(1.0, 2), {0: 1.0, 1: 1.0, 2: 0.1, 4: 0.01}),
    ScheduleCase(
        "Exponential", "four powers of ten", lambda: schedules.Exponential(1.0, 4, 1e-4),
        {0: 1.0, 1: 0.1, 2: 0.01, 3: 1e-3, 4: 1e-4, 5: 1e-4},
    ),
    ScheduleCase(
        "Cosine", "to 0", lambda: schedules.Cosine(0.2, 4),
        {0: 0.2, 1: 0.1 + 0.1 * _HALF, 2: 0.1, 3: 0.1 - 0.1 * _HALF, 4: 0.0, 9: 0.0},
    ),
    ScheduleCase("Cosine", "to 0.1", lambda: schedules.Cosine(0.5, 10, 0.1), {0: 0.5, 5: 0.3, 10: 0.1, 11: 0.1}),
    ScheduleCase(
        "WarmUp", "to a constant", lambda: schedules.WarmUp(3, schedules.Constant(0.8)),
        {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 4: 0.8},
    ),
    ScheduleCase(
        "WarmUp", "to steps", lambda: schedules.WarmUp(2, schedules.Step(0.9, 1, 0.5)),
        {0: 0.3, 1: 0.6, 2: 0.9, 3: 0.45, 4: 0.225},
    ),
    ScheduleCase(
        "OneCycle", "40 steps", lambda: schedules.OneCycle(1.0, 40),
        {0: 0.04, 3: 0.52 - 0.48 * _HALF, 6: 0.52, 12: 1.0, 19: 0.500002 + 0.499998 * _HALF, 26: 0.500002}
        | {40: 4e-6, 50: 4e-6},
    ),
    ScheduleCase(
        "Plateau", "patience 2", lambda: schedules.Plateau(0.8, 0.5, 2, 0.15),
        dict(enumerate([0.8, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.2, 0.15, 0.15, 0.15, 0.15, 0.15])),
        (5.0, 4.0, 4.0, 4.1, 4.0, 4.0, 3.9, 3.95, 3.95, 3.95, 4.0, 4.0, 4.0),
    ),
)  # fmt: skip
