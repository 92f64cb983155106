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
                raise ModelFileError(f"{path} belongs to another run: its {what} is {saved!r}, this one's is {ours!r}")
        for name, parameter in run.model.parameters.items():
            parameter.data[...] = run.model.backend.asarray(tensors[name])
        run.load_tensors({k[len(RUN_PREFIX) :]: v for k, v in tensors.items() if k.startswith(RUN_PREFIX)})
        run.progress = Progress(**{**theirs["progress"], "best": _from_json(theirs["progress"]["best"])})
        run.history = [{k: _from_json(v) for k, v in row.items()} for row in theirs["history"]]
        for name, value in theirs["schedule"].items():
            setattr(run.schedule, name, _from_json(value))
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelFileError(f"{path} is not a checkpoint of this run: {type(error).__name__} {error}") from None


def _numbers(run: Run) -> dict[str, Any]:
    optimizer = {
        k: v for k, v in vars(run.optimizer).items() if isinstance(v, (bool, int, float, tuple)) and k != "_lr"
    }
    schedule = vars(run.schedule) if isinstance(run.schedule, Plateau) else {}  # the only kind with a memory
    return {
        "progress": {k: _to_json(v) for k, v in asdict(run.progress).items()},
        "history": [{k: _to_json(v) for k, v in row.items()} for row in run.history],
        "optimizer": json.loads(json.dumps({"kind": type(run.optimizer).__name__, **optimizer})),
        "schedule": {k: _to_json(v) for k, v in schedule.items()},
        "settings": run.settings,
    }


def _to_json(value: Any) -> Any:
    """JSON has no infinity."""
    return repr(value) if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value
