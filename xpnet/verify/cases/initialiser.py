"""Initialisers: the variance that each must have."""

from __future__ import annotations

from collections.abc import Iterator

from xpnet.nn import init
from xpnet.verify.rows import InitCase


def _scaled_cases(shape: tuple[int, ...], n_in: int, n_out: int) -> Iterator[InitCase]:
    for form in ("normal", "uniform"):
        for name, variance in (("he", 2 / n_in), ("glorot", 2 / (n_in + n_out)), ("lecun", 1 / n_in)):
            yield InitCase(f"{name}_{form}", f"shape {shape}", getattr(init, f"{name}_{form}"), shape, variance)


CASES: tuple[InitCase, ...] = (
    *_scaled_cases((300, 100), 300, 100),
    *_scaled_cases((100, 300), 100, 300),
    *_scaled_cases((3, 5, 20, 70), 300, 1050),
    *_scaled_cases((5000,), 1, 5000),
    InitCase("orthogonal", "square", init.orthogonal, (150, 150), 1 / 150),
    InitCase("orthogonal", "tall", init.orthogonal, (3, 60, 70), 1 / 180),
    InitCase("orthogonal", "wide", init.orthogonal, (70, 180), 1 / 180),
    InitCase("zeros", "a matrix", init.zeros, (30, 20), 0.0),
    InitCase("constant", "0.7", init.constant(0.7), (30, 20), 0.0, mean=0.7),
    InitCase("normal", "deviation 0.02", init.normal(0.02), (200, 100), 0.02**2),
    InitCase("uniform", "(-0.3, 0.3)", init.uniform(0.3), (200, 100), 0.03),
)
