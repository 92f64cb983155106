"""What this machine has: versions, processors, memory, folders, environment variables."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from xpnet.probe.installed import write_problem

THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OMP_NUM_THREADS")
OTHER_VARIABLES = ("LD_LIBRARY_PATH", "NVIDIA_TF32_OVERRIDE", "NVIDIA_VISIBLE_DEVICES")


def software() -> dict[str, str]:
    """Versions of xpnet, Python and NumPy, and the system's name."""
    from xpnet import __version__

    return {
        "xpnet": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "platform": platform.platform(),
    }


def cpu() -> dict[str, Any]:
    """CPUs, memory in bytes (None if the system does not tell), and the BLAS that NumPy multiplies with."""
    blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
    usable = os.cpu_count()
    if sys.platform == "linux":
        usable = len(os.sched_getaffinity(0))
    total, available = memory()
    threads = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {
        "name": platform.machine(),
        "count": os.cpu_count(),
        "usable": usable,
        "memory_total": total,
        "memory_available": available,
        "blas": {
            "name": blas.get("name", "unknown"),
            "version": blas.get("version", "unknown"),
            "threads": max(threads, default=None),
        },
    }


def memory() -> tuple[int | None, int | None]:
    """Total and available main memory in bytes; None for a number that the system does not tell."""
    if sys.platform == "win32":
        return _windows_memory()
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kib = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
        return kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024
    except (OSError, KeyError, ValueError):
        pass  # not Linux, or one without these entries
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), None
    except (OSError, ValueError):
        return None, None


def _windows_memory() -> tuple[int | None, int | None]:
    class Status(ctypes.Structure):  # MEMORYSTATUSEX
        _fields_ = [
            ("length", ctypes.c_uint32),
            ("load_percent", ctypes.c_uint32),
            ("total", ctypes.c_uint64),
            ("available", ctypes.c_uint64),
            ("rest", ctypes.c_uint64 * 5),
        ]

    status = Status(length=ctypes.sizeof(Status))
    kernel32 = ctypes.CDLL("kernel32")
    if not kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None, None
    return status.total, status.available


def folder(path: Path) -> dict[str, Any]:
    """Whether files can be written to the folder (one is written to find out), why not, and the free bytes."""
    problem = write_problem(path)
    existing = next((p for p in (path, *path.parents) if os.path.isdir(p)), None)
    return {
        "path": str(path),
        "exists": os.path.isdir(path),
        "writable": not problem,
        "why_not": problem,
        "free": shutil.disk_usage(existing).free if existing else None,
    }


def environment() -> dict[str, str]:
    """The environment variables that affect xpnet, CuPy, CUDA or the BLAS."""
    named = (*THREAD_VARIABLES, *OTHER_VARIABLES)
    ours = (name for name in os.environ if name.startswith(("XPNET_", "CUDA_", "CUPY_")) or name in named)
    return {name: os.environ[name] for name in sorted(ours)}
