"""The table of cases: at least one row for every public layer, loss, optimizer, initialiser and schedule.

Each family has a file with its rows (`CASES`) and their references: formulas computed one number at a time, which share
no code with what they check. Whoever adds a layer adds a row, and all checks then run on it on every device. A row may
also hold the PyTorch equivalent. `uncovered()` names what has no row.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType

from xpnet import losses, nn, optim, schedules
from xpnet.nn import Layer, init
from xpnet.verify.cases import (
    activation,
    attention,
    compose,
    conv,
    dropout,
    embedding,
    initialiser,
    linear,
    loss,
    norm,
    optimizer,
    pool,
    recurrent,
    reshape,
    schedule,
    table,
)
from xpnet.verify.rows import Case, InitCase, LayerCase, LossCase, OptimizerCase, ScheduleCase

FAMILIES = (linear, activation, dropout, conv, pool, norm, reshape, embedding, compose, recurrent, attention, table)
LAYERS: tuple[LayerCase, ...] = tuple(case for family in FAMILIES for case in family.CASES)
LOSSES: tuple[LossCase, ...] = loss.CASES
OPTIMIZERS: tuple[OptimizerCase, ...] = optimizer.CASES
INITIALISERS: tuple[InitCase, ...] = initialiser.CASES
SCHEDULES: tuple[ScheduleCase, ...] = schedule.CASES
NO_ROW = {"Loss", "TermLoss", "Optimizer", "WeightAverage"}  # base classes; and a class of a kind that has no rows
TABLE: tuple[Case, ...] = (*LAYERS, *LOSSES, *OPTIMIZERS, *INITIALISERS, *SCHEDULES)


def public_names() -> Iterator[str]:
    """The names of everything that must have a row."""
    layers = {n for n in nn.__all__ if inspect.isclass(kind := getattr(nn, n)) and issubclass(kind, Layer)}
    yield from layers - {"Layer"}
    yield from ("mlp", "cnn", "resnet")
    for module in (losses, optim, schedules):
        yield from (n for n in _defined_in(module) if n not in NO_ROW)
    yield from init.PLAIN | init.WITH_VALUE


def _defined_in(module: ModuleType) -> Iterator[str]:
    """Public classes and functions defined in the module (or in a submodule, for a package), without protocols."""
    for attribute, value in vars(module).items():
        place = getattr(value, "__module__", None) or ""
        own = callable(value) and (place == module.__name__ or place.startswith(f"{module.__name__}."))
        if own and not attribute.startswith("_") and not getattr(value, "_is_protocol", False):
            yield attribute


def uncovered() -> list[str]:
    """Public names that have no row."""
    covered = {case.of for case in TABLE}
    return sorted(set(public_names()) - covered)
