"""Starting several processes together: where `mpiexec` is."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path

from xpnet.backend import BackendError


def mpiexec() -> str:
    """The path of `mpiexec`: that of this Python's environment, else the first on the search path.

    Raises `BackendError` if it or mpi4py is missing.
    """
    found = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
    missing = "mpiexec" if found is None else "mpi4py" if importlib.util.find_spec("mpi4py") is None else ""
    if found is None or missing:
        raise BackendError(f'several processes need MPI, but there is no {missing}: pip install "xpnet[mpi]"')
    return found
