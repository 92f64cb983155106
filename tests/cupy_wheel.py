"""Where the tests find CuPy: in this environment, or in the folder that XPNET_CUPY_WHEEL names.

The folder is one that `pip install --target FOLDER --no-deps cupy-cuda12x cuda-pathfinder fastrlock` has filled; no
GPU and no driver is needed to import it. For the CUDA sources, add nvidia-cuda-nvrtc-cu12 and
nvidia-cuda-runtime-cu12.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


def run_with_cupy(script: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run a Python file where CuPy can be imported; skips the test where it cannot."""
    environment = {**os.environ, "CUPY_CACHE_IN_MEMORY": "1"}
    folder = os.environ.get("XPNET_CUPY_WHEEL")
    if folder:
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, [folder, os.environ.get("PYTHONPATH")]))
        cuda = Path(folder) / "nvidia"
        environment["LD_LIBRARY_PATH"] = os.pathsep.join(map(str, cuda.glob("*/lib")))  # CuPy looks in site-packages
        environment["CUDA_PATH"] = str(cuda / "cuda_runtime")
    elif importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed, and XPNET_CUPY_WHEEL names no folder that holds it")
    command = [sys.executable, str(script), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)
