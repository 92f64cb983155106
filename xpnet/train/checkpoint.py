"""Checkpoints: one safetensors file that holds a whole run, and that `xpnet.load` opens as a model.

The model's tensors and description are those of `model.save`. The rest of the run is stored in the same file: tensors
under "run/", numbers as JSON. All data are host bytes, so the file opens on a machine that has no GPU and no CuPy.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, fields, replace
from typing import Any

import numpy as np

from xpnet.nn.declared import check_tensors
from xpnet.nn.saving import RUN_PREFIX, ModelFileError, description, read_tensors, write_tensors
from xpnet.train.run import Position, Row, Run, remembering


def save_checkpoint(run: Run, path: str | os.PathLike) -> None:
    """Write the run to `path`; an existing checkpoint is replaced only once the new one is complete.

    In a group, all processes call it and the first one writes.
    """
    tensors = {**run.model.tensors(), **{RUN_PREFIX + name: a for name, a in run.tensors().items()}}
    described = {**description(run.model), "run": _numbers(run)}
    run.group.first(lambda: write_tensors(path, tensors, described))


def load_checkpoint(run: Run, path: str | os.PathLike) -> None:
    """Restore a freshly made run to the state in the file; its next step is the next one of that run.

    Raises `ModelFileError` if the file is not a checkpoint, belongs to another network, optimizer or data, or holds
    impossible values; the run is then unchanged. In a group, all processes call it and the first one reads; the group
    that wrote the file may have had another size.
    """
    import json  # here, to keep `from xpnet import train` light

    tensors, described = run.group.first(lambda: read_tensors(path))
    mine = json.loads(json.dumps({**description(run.model), "run": _numbers(run)}))
    try:
        _check_same_run(mine, described)
        theirs = described["run"]
        own, rest = _tensors(run, tensors)
        position = _position(run, theirs["progress"])
        history = _history(run, theirs["history"], position)
        lr = _number("lr", theirs["lr"], 0, float(np.finfo(run.model.backend.dtype).max))
        schedule = _schedule(run, theirs["schedule"])
        if position.watched != run.position.watched:  # losses on other data are neither better nor worse
            fresh = Position(watched=run.position.watched)
            position = replace(fresh, epoch=position.epoch, batch=position.batch)
            schedule |= {"best": fresh.best, "waited": fresh.waited} if schedule else {}
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        why = str(error) if isinstance(error, ValueError) else f"{type(error).__name__} {error}"
        raise ModelFileError(f"{path} is not a checkpoint of this run: {why}") from None

    # Everything in the file has been checked: only now is the run changed.
    for name, parameter in run.model.parameters.items():
        parameter.data[...] = run.model.backend.asarray(own[name])
    run.load_tensors(rest)
    run.position, run.history, run.optimizer.lr = position, history, lr
    for name, value in schedule.items():
        setattr(run.schedule, name, value)


# The contents of a file, checked -----------------------------------------------------------------------------


def _check_same_run(mine: dict[str, Any], described: dict[str, Any]) -> None:
    """Raise `ModelFileError` unless this run, described in the same way as the one in the file, can continue it."""
    if "run" not in described:
        raise ModelFileError("it is a model, not a checkpoint: the state of a run is needed to resume")
    own, theirs = mine["run"], described["run"]
    for what, ours, saved in [
        ("format", mine["format"], described["format"]),
        ("data", own["settings"]["data"], theirs["settings"]["data"]),  # a network may depend on them
        ("network", mine["network"], described["network"]),
        ("dtype", mine["dtype"], described["dtype"]),
        ("optimizer", own["optimizer"], theirs["optimizer"]),
        *((name, value, theirs["settings"][name]) for name, value in own["settings"].items()),
    ]:
        if ours == saved:
            continue
        if what == "data":
            there, here = theirs["settings"]["samples"], own["settings"]["samples"]
            raise ModelFileError(
                f"its data is not this run's ({there} samples, here {here}): the data has changed since, or "
                f"another data set is given"
            )
        if what == "optimizer" and ours["kind"] == saved["kind"]:
            differing = (name for name in ours.keys() | saved.keys() if ours.get(name) != saved.get(name))
            names = sorted({*differing} - {"state_names"})  # nobody sets these: they follow from the momentum
            there, here = ({name: one.get(name) for name in names} for one in (saved, ours))
            raise ModelFileError(
                f"it belongs to another run, or a callback has changed settings: its optimizer is {saved['kind']} "
                f"with {there}, this run's with {here}. To continue it, make the optimizer with those of the file"
            )
        raise ModelFileError(f"it belongs to another run: its {what} is {saved!r}, this run's is {ours!r}")


def _tensors(run: Run, tensors: dict[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """(The model's tensors, the rest of the run's), once both are checked."""
    own = {name: a for name, a in tensors.items() if not name.startswith(RUN_PREFIX)}
    check_tensors(own, {name: p.shape for name, p in run.model.parameters.items()}, run.model.backend.dtype)
    rest = {name[len(RUN_PREFIX) :]: a for name, a in tensors.items() if name.startswith(RUN_PREFIX)}
    shapes = {name: a.shape for name, a in run.tensors().items()}
    words, rng = shapes.pop("rng")[-1], rest.get("rng")
    if rng is None or rng.ndim not in (1, 2) or not rng.size or rng.shape[-1] != words or rng.dtype != np.uint64:
        raise ModelFileError("its state of the random stream is damaged")
    floats = {name: a for name, a in rest.items() if name != "rng"}
    check_tensors(floats, shapes, run.model.backend.dtype)
    for name in ("steps", *run.optimizer.never_negative):
        if (floats[f"optimizer.{name}"] < 0).any():
            raise ModelFileError(f"the optimizer's {name} cannot be negative")
    scale = run.optimizer.loss_scale
    if scale is not None and not scale.can_be(floats["optimizer.loss_scale"]):
        raise ModelFileError(f"its loss scale cannot be {floats['optimizer.loss_scale'].tolist()}")
    return own, rest


def _position(run: Run, saved: Any) -> Position:
    if isinstance(saved, dict):
        saved = {"watched": run.position.watched, **saved}  # older files do not name the data
    if not isinstance(saved, dict) or saved.keys() != {field.name for field in fields(Position)}:
        raise ModelFileError(f"its progress is damaged: {saved!r}")
    if not isinstance(saved["watched"], str):
        raise ModelFileError(f"its digest of the validation data cannot be {saved['watched']!r}")
    epoch = _count("epoch", saved["epoch"])
    position = Position(
        epoch=epoch,
        batch=_count("batch", saved["batch"], len(run.slices)),
        best=_number("best loss", saved["best"], -math.inf, math.inf),
        best_epoch=_count("best_epoch", saved["best_epoch"], epoch),
        waited=_count("waited", saved["waited"], epoch),
        watched=saved["watched"],
    )
    # `waited` counts from the best epoch. If there is none, it counts from the start of the run or from the epoch at
    # which other validation data came, which the file does not name.
    since = position.epoch - position.best_epoch if position.best_epoch else position.waited
    if position.waited != since or (position.best < math.inf) != (position.best_epoch > 0):
        raise ModelFileError(f"its progress contradicts itself: {saved!r}")
    return position


def _history(run: Run, saved: Any, position: Position) -> list[Row]:
    needed = {"epoch", "train_loss", "lr", "seconds"} | {f"train_{metric.name}" for metric in run.metrics}
    if not isinstance(saved, list) or len(saved) != position.epoch:
        raise ModelFileError(f"its history must have one row per epoch, {position.epoch} in all")
    history: list[Row] = []
    for number, row in enumerate(saved, start=1):
        if not isinstance(row, dict) or not needed <= row.keys() or row["epoch"] != number:
            raise ModelFileError(f"row {number} of its history is damaged: {row!r}")
        values = {name: _number(name, value, -math.inf, math.inf, nan=True) for name, value in row.items()}
        history.append({**values, "epoch": number})
    return history


def _schedule(run: Run, saved: Any) -> dict[str, Any]:
    mine = _memory(run)
    if not isinstance(saved, dict) or saved.keys() != mine.keys():
        raise ModelFileError(
            "it belongs to a run with another kind of schedule: Plateau has a state, other schedules have none"
        )
    return {
        name: _count(name, saved[name]) if name == "waited" else _number(name, saved[name], -math.inf, math.inf)
        for name in mine
    }


def _count(name: str, value: Any, most: float = math.inf) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ModelFileError(f"its {name} cannot be {value!r}")
    return value


def _number(name: str, value: Any, low: float, high: float, nan: bool = False) -> float:
    """A number from the file; one that JSON cannot express is stored as text ("inf")."""
    if isinstance(value, bool) or not (isinstance(value, (int, float)) or value in ("inf", "-inf", "nan")):
        raise ModelFileError(f"its {name} cannot be {value!r}")
    number = float(value)
    if not (low <= number <= high or (nan and math.isnan(number))):
        raise ModelFileError(f"its {name} cannot be {value!r}")
    return number


# What is written ----------------------------------------------------------------------------------------------


def _numbers(run: Run) -> dict[str, Any]:
    return {
        "progress": {k: _to_json(v) for k, v in asdict(run.position).items()},
        "history": [{k: _to_json(v) for k, v in row.items()} for row in run.history],
        "optimizer": run.optimizer.described,
        "schedule": {k: _to_json(v) for k, v in _memory(run).items()},
        "settings": run.settings,
        "lr": run.optimizer.lr,
    }


def _memory(run: Run) -> dict[str, Any]:
    """The state of the schedule: `Plateau` is the only kind that has one."""
    names = ("lr", "best", "waited") if remembering(run.schedule) else ()
    return {name: getattr(run.schedule, name) for name in names}


def _to_json(value: Any) -> Any:
    """A value that JSON can hold: Python's numbers instead of NumPy's, and infinity and NaN as text."""
    value = value.item() if isinstance(value, np.generic) else value
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value
