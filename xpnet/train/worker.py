"""One of several processes that train for another program: `mpiexec -n 4 python -m xpnet.train.worker FOLDER`.

The program has written the task into the folder, pickled; the first process writes the result there, as arrays. The
program and its workers belong to one user on one machine: see `xpnet.sklearn.workers`.
"""

from __future__ import annotations

import inspect
import pickle
import sys
from pathlib import Path
from typing import Any

from xpnet.nn import Model
from xpnet.nn.saving import write_tensors
from xpnet.optim import Optimizer
from xpnet.parallel import join
from xpnet.train.fit import fit

TASK, RESULT = "task", "result"


def packed(optimizer: Optimizer) -> tuple[Any, ...]:
    """An optimizer with its options and state, and the random stream of its backend, with all arrays on the host."""
    stream = optimizer.model.backend.rng.state
    return type(optimizer), optimizer.lr, optimizer.described, optimizer.tensors(), stream


def unpacked(model: Model, state: tuple[Any, ...]) -> Optimizer:
    """The packed optimizer, for the same model or a copy of it.

    Raises ValueError for a custom optimizer whose options are not attributes of the same names.
    """
    kind, lr, described, tensors, stream = state
    options = {name: described[name] for name in inspect.signature(kind).parameters if name in described}
    if "groups" in options:
        options["groups"] = {pattern: {"lr": f, "weight_decay": w} for pattern, f, w in options["groups"]}
    optimizer = kind(model, lr=lr, **options)
    if optimizer.described != described:
        what_to_do = "keep each argument of its __init__ as an attribute of the same name"
        raise ValueError(f"{kind.__name__} cannot be made again in the workers: {what_to_do}")
    optimizer.load_tensors(tensors)
    model.backend.rng.state = stream
    return optimizer


def work(folder: str) -> None:
    """Run one of the processes."""
    group = join()
    model, frozen, loss, state, data, validation, options = pickle.loads(Path(folder, TASK).read_bytes())
    model.frozen = frozen
    optimizer = unpacked(model, state)
    result = fit(model, loss, optimizer, data, validation, group=group, **options)
    if group.rank == 0:
        tensors = {f"model.{name}": values for name, values in model.tensors().items()}
        tensors |= {f"optimizer.{name}": values for name, values in optimizer.tensors().items()}
        write_tensors(Path(folder, RESULT), {**tensors, "rng": model.backend.rng.state}, vars(result))


if __name__ == "__main__":
    work(sys.argv[1])
