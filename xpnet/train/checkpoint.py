"""Checkpoints: one safetensors file that holds a run whole, and that `xpnet.load` opens as a model.

The model's tensors and description are those of `model.save`; the rest of the run lies beside them, tensors under
"run/", numbers as JSON. Host bytes only: it opens on a machine that has no GPU and no CuPy.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict
from typing import Any

import numpy as np

from xpnet.nn.model import check_tensors
from xpnet.nn.saving import RUN_PREFIX, ModelFileError, description, read_tensors, write_tensors
from xpnet.schedules import Plateau
from xpnet.train.run import Progress, Run


def save_checkpoint(run: Run, path: str | os.PathLike) -> None:
    """Write the run to `path`; the checkpoint that was there stays until the new one is whole."""
    tensors = {**run.model.tensors(), **{RUN_PREFIX + name: a for name, a in run.tensors().items()}}
    described = {**description(run.model), "run": _numbers(run)}
    write_tensors(path, tensors, described)


def load_checkpoint(run: Run, path: str | os.PathLike) -> None:
    """Bring a freshly made run to where the one in the file stood; its next step is the next one of that run.

    Raises `ModelFileError` if the file is no checkpoint, or one of another network, optimizer or data.
    """
    tensors, described = read_tensors(path)
    mine = {**description(run.model), "run": _numbers(run)}
    try:
        theirs = described["run"]
        for what, ours, saved in [
            ("network", mine["network"], described["network"]),
            ("dtype", mine["dtype"], described["dtype"]),
            ("optimizer", mine["run"]["optimizer"], theirs["optimizer"]),
            *((name, value, theirs["settings"][name]) for name, value in run.settings.items()),
        ]:
            if ours != saved:
                raise ModelFileError(f"it belongs to another run: its {what} is {saved!r}, this one's is {ours!r}")
        progress = Progress(**{**theirs["progress"], "best": _from_json(theirs["progress"]["best"])})
        history = [{k: _from_json(v) for k, v in row.items()} for row in theirs["history"]]
        _check(run, tensors, progress, theirs["schedule"].keys() == mine["run"]["schedule"].keys())
        lr = float(theirs["lr"])
    except ModelFileError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"{path} is not a checkpoint of this run: {type(error).__name__} {error}") from None

    # Only now that all of it is known to fit is anything of the run changed.
    for name, parameter in run.model.parameters.items():
        parameter.data[...] = run.model.backend.asarray(tensors[name])
    run.load_tensors({k[len(RUN_PREFIX) :]: v for k, v in tensors.items() if k.startswith(RUN_PREFIX)})
    run.progress, run.history, run.optimizer.lr = progress, history, lr
    for name, value in theirs["schedule"].items():
        setattr(run.schedule, name, _from_json(value))


def _check(run: Run, tensors: dict[str, np.ndarray], progress: Progress, same_schedule: bool) -> None:
    dtype = run.model.backend.dtype
    own = {name: a for name, a in tensors.items() if not name.startswith(RUN_PREFIX)}
    check_tensors(own, {name: p.shape for name, p in run.model.parameters.items()}, dtype)
    rest = {name[len(RUN_PREFIX) :]: a for name, a in tensors.items() if name.startswith(RUN_PREFIX)}
    shapes = {name: a.shape for name, a in run.tensors().items()}
    rng = rest.pop("rng")
    if rng.shape != shapes.pop("rng") or rng.dtype != np.uint64:
        raise ModelFileError("its random state is damaged")
    check_tensors(rest, shapes, dtype)
    counts = (progress.epoch, progress.batch, progress.best_epoch, progress.waited)
    if not all(type(n) is int and n >= 0 for n in counts) or progress.batch > len(run.slices):
        raise ModelFileError(f"its progress cannot be: {progress}")
    if not same_schedule:
        raise ModelFileError("it belongs to a run with another kind of schedule (Plateau remembers, others do not)")


def _numbers(run: Run) -> dict[str, Any]:
    optimizer = {
        k: v for k, v in vars(run.optimizer).items() if isinstance(v, (bool, int, float, tuple)) and k != "_lr"
    }
    schedule = asdict(run.schedule) if isinstance(run.schedule, Plateau) else {}  # the only kind with a memory
    return {
        "progress": {k: _to_json(v) for k, v in asdict(run.progress).items()},
        "history": [{k: _to_json(v) for k, v in row.items()} for row in run.history],
        "optimizer": json.loads(json.dumps({"kind": type(run.optimizer).__name__, **optimizer})),
        "schedule": {k: _to_json(v) for k, v in schedule.items()},
        "settings": run.settings,
        "lr": run.optimizer.lr,
    }


def _to_json(value: Any) -> Any:
    """JSON has no infinity."""
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value
