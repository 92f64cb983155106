"""The facts about this machine that decide how xpnet runs on it, as one dictionary: what `xpnet doctor` prints."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from xpnet.backend import probe, select
from xpnet.backend.installed import cupy_distributions, dotted, driver_version, kernel_cache, write_problem

PRODUCT_LIMIT = 1e-6  # of a float32 product, |error| <= limit * |row| * |column|; right ones reach some 1.5e-7
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OMP_NUM_THREADS")
OTHER_VARIABLES = ("LD_LIBRARY_PATH", "NVIDIA_TF32_OVERRIDE", "NVIDIA_VISIBLE_DEVICES")


def report(data_cache: Path, seed: int = 0) -> dict[str, Any]:
    """All that is known of this machine, in types that JSON has. `data_cache` is where downloads are kept.

    Every device that works computes a product that is compared with the same one in float64. "problems" lists
    what would stop xpnet or make it wrong, each with its fix, and "ok" says that there are none. A machine
    without a GPU is well; so is one whose GPU does not work, as long as no one asked for it: "gpu" tells why.
    """
    gpu = probe.cuda()
    gpus = _gpus(gpu)
    products = [product(device, seed) for device in ["cpu", *(g["device"] for g in gpus if g["ok"])]]
    facts = {
        "software": software(),
        "cpu": cpu(),
        "gpu": {
            **_plain(gpu),
            "cupy": cupy_distributions(),
            "driver_cuda": dotted(driver_version()) if driver_version() else None,
            "devices": gpus,
        },
        "folders": {"data": folder(data_cache), "kernels": folder(kernel_cache())},
        "environment": environment(),
        "products": products,
        "choice": _choice(),
    }
    problems = list(_problems(facts))
    return {"ok": not problems, "problems": problems, **facts}


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
    """CPUs, memory in bytes (None where the system does not tell), and the BLAS that NumPy multiplies with."""
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
    """Total and available main memory in bytes; None for what the system does not tell."""
    if sys.platform == "win32":
        return _windows_memory()
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        kib = {name: int(rest.split()[0]) for name, rest in (line.split(":") for line in lines)}
        return kib["MemTotal"] * 1024, kib["MemAvailable"] * 1024
    except (OSError, KeyError, ValueError):
        pass  # not Linux, or an odd one
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
    """Whether files can be written there (one is written), why not, and the free space in bytes."""
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
    """The environment variables that change what xpnet, CuPy, CUDA or the BLAS do."""
    named = (*THREAD_VARIABLES, *OTHER_VARIABLES)
    ours = (name for name in os.environ if name.startswith(("XPNET_", "CUDA_", "CUPY_")) or name in named)
    return {name: os.environ[name] for name in sorted(ours)}


def product(device: str, seed: int = 0) -> dict[str, Any]:
    """A 256 x 256 float32 product on `device` against float64: "error" is the largest |difference| / (|row| |column|).

    The norms of the row and the column that were multiplied are the scale of rounding; the result itself is not,
    where terms cancel. "seconds" is the quickest of five, for information only. A device that fails has
    neither, but "why_not".
    """
    a, b = np.random.default_rng(seed).standard_normal((2, 256, 256), dtype=np.float32)
    exact = a.astype(np.float64) @ b.astype(np.float64)
    scale = np.linalg.norm(a, axis=1)[:, None] * np.linalg.norm(b, axis=0)
    row = {"device": device, "ok": False, "error": None, "limit": PRODUCT_LIMIT, "seconds": None, "why_not": ""}
    try:
        result, seconds = _timed_product(device, a, b)
    except Exception as failure:
        return {**row, "why_not": f"{type(failure).__name__}: {failure}"}
    error = float(np.max(np.abs(result - exact) / scale))
    row.update(ok=error <= PRODUCT_LIMIT, error=error if np.isfinite(error) else None, seconds=seconds)
    if not row["ok"]:
        row["why_not"] = f"a float32 product is wrong by {error:.1e}, more than {PRODUCT_LIMIT:.0e}"
    return row


def _timed_product(device: str, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, float]:
    backend = select(device)
    on_device = backend.asarray(a), backend.asarray(b)
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        result = backend.matmul(*on_device)
        backend.synchronize()
        seconds.append(time.perf_counter() - start)
    return backend.to_host(result), min(seconds)


def _gpus(first: probe.Finding) -> list[dict[str, Any]]:
    """What each visible GPU is, and whether it works."""
    if first.state in ("no-cupy", "two-cupys", "broken-cupy"):
        return []
    gpus = []
    try:
        from cupy.cuda import runtime

        for i in range(runtime.getDeviceCount()):
            gpu = runtime.getDeviceProperties(i)
            gpus.append(
                {
                    "device": f"cuda:{i}",
                    "name": gpu["name"].decode(),
                    "compute_capability": f"{gpu['major']}.{gpu['minor']}",
                    "memory_total": int(gpu["totalGlobalMem"]),
                    **_plain(probe.cuda(i)),
                }
            )
    except Exception:
        return gpus  # no driver, or none that answers: `first` says it
    return gpus


def _plain(finding: probe.Finding) -> dict[str, Any]:
    return {"ok": finding.ok, **asdict(finding)}


def _choice() -> dict[str, Any]:
    """What a program gets that names no device; None if that is an error."""
    try:
        backend = select()
    except Exception as error:
        return {"device": None, "why": str(error)}
    return {"device": backend.device, "why": backend.why}


def _problems(facts: dict[str, Any]) -> Iterator[dict[str, str]]:
    for row in facts["products"]:
        if not row["ok"]:
            yield {"what": f"{row['device']}: {row['why_not']}", "fix": _product_fix(row["device"])}
    data = facts["folders"]["data"]
    if not data["writable"]:
        what = f"downloads cannot be kept in {data['path']}: {data['why_not']}"
        yield {"what": what, "fix": "set the environment variable XPNET_CACHE to a folder that can be written"}
    given = os.environ.get("XPNET_DATA")
    if given and not Path(given).expanduser().is_dir():
        what = f"XPNET_DATA is set to {given!r}, which is not a folder"
        yield {"what": what, "fix": "set XPNET_DATA to a folder that holds mnist/, or unset it"}
    if facts["choice"]["device"] is None:
        yield {"what": facts["choice"]["why"], "fix": "set the environment variable XPNET_DEVICE to auto or cpu"}


def _product_fix(device: str) -> str:
    if device == "cpu":
        return "pip install --force-reinstall --no-cache-dir numpy"
    if os.environ.get("CUPY_TF32", "0") != "0":  # the products of CuPy then round to 10 bits
        return "unset the environment variable CUPY_TF32"
    return "set the environment variable XPNET_DEVICE to cpu"
