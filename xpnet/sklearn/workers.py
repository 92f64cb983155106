"""`n_jobs`: an estimator trained by several processes, which `mpiexec` starts for each call of `fit` and which end with
it.

The task is passed to them in a temporary folder of their own, pickled as joblib pickles work for its processes, so that
layers defined in a notebook are included. The results come back as arrays.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import tempfile
from collections import deque
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblib import effective_n_jobs, wrap_non_picklable_objects

from xpnet.nn.saving import read_tensors
from xpnet.parallel.launch import mpiexec
from xpnet.parallel.mpi import SIZES
from xpnet.train import Result
from xpnet.train.worker import RESULT, TASK, packed

if TYPE_CHECKING:
    from xpnet.data import Dataset
    from xpnet.sklearn.estimator import XPEstimator

LAST = 20  # lines of the workers' output that an error repeats


def n_workers(n_jobs: Any) -> int:
    """The number of processes: 1 for None, as many as there are cores for -1, one less for -2."""
    if n_jobs is None:
        return 1
    if isinstance(n_jobs, bool) or not isinstance(n_jobs, Integral) or n_jobs == 0:
        raise ValueError(f"n_jobs must be None, a number of processes, or -1 for all cores, not {n_jobs!r}")
    return effective_n_jobs(int(n_jobs))


def check_start(n: int, device: str) -> None:
    """Check that n processes can train a model on this device, before a new model replaces the trained one.

    Raises `BackendError` without MPI; ValueError on any device but the CPU, and in a program started by mpiexec.
    """
    mpiexec()
    if device != "cpu":
        raise ValueError(
            f"n_jobs={n} starts processes on the CPU, but the device is {device}: leave out one of the two"
        )
    if any(int(os.environ.get(name, 1)) > 1 for name in SIZES):
        raise ValueError(f"n_jobs={n} starts processes of its own: leave it out in a program that mpiexec has started")


def fit_by(n: int, estimator: XPEstimator, data: Dataset, validation: Dataset | None, options: dict) -> Result:
    """`fit` by n processes; the estimator's model and optimizer get the new values only when all is done.

    Raises RuntimeError with the last lines of the workers' output if they fail, and `BackendError` without MPI.
    """
    model, program = estimator.model_, mpiexec()
    with tempfile.TemporaryDirectory(prefix="xpnet-") as folder:
        # A pickled model has no frozen parameters.
        task = model, model.frozen, estimator._loss, packed(estimator._optimizer), data, validation, options
        Path(folder, TASK).write_bytes(pickle.dumps(wrap_non_picklable_objects(task, keep_wrapper=False)))
        command = [program, "-n", str(n), sys.executable, "-m", "xpnet.train.worker", folder]
        _run(command, show=not options["quiet"])
        tensors, said = read_tensors(Path(folder, RESULT))
    for name, parameter in model.parameters.items():
        parameter.data[...] = tensors[f"model.{name}"]
    prefix = "optimizer."
    estimator._optimizer.load_tensors({k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)})
    model.backend.rng.state = tensors["rng"]
    return Result(**said)


def _run(command: list[str], show: bool) -> None:
    """Run the command to its end; if it is interrupted, its processes are ended too."""
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)  # so that the workers find the same modules
    environment = {**os.environ, "PYTHONPATH": paths}
    last: deque[str] = deque(maxlen=LAST)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, text=True, errors="replace"
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            last.append(line)
            if show and sys.stderr is not None:
                sys.stderr.write(line)
        code = process.wait()
    finally:
        process.stderr.close()
        if process.poll() is None:
            process.terminate()  # mpiexec ends the processes that it has started
            process.wait()
    if code:
        raise RuntimeError(f"the workers failed:\n{''.join(last)}")
