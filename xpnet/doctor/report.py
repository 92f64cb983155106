"""The report behind `xpnet doctor`: the facts that decide how xpnet runs here, as one dictionary."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np

from xpnet import probe
from xpnet.backend import select
from xpnet.data.datasets import cache_folder
from xpnet.doctor.machine import cpu, environment, folder, software
from xpnet.probe.installed import cupy_distributions, dotted, driver_version, kernel_cache

PRODUCT_LIMIT = 1e-6  # of a float32 product, |error| <= limit * |row| * |column|; correct ones reach about 1.5e-7


def machine_report() -> dict[str, Any]:
    """All that is known about this machine, in types that JSON has.

    Every device that works computes a product, which is compared with the same product in float64. "problems" lists
    what would stop xpnet or make its results wrong, each with its fix; "ok" says that there are none. A machine
    without a GPU is ok, and so is one whose GPU does not work, unless the GPU was asked for: "gpu" says why.
    """
    gpu = probe.cuda()
    gpus = _gpus(gpu)
    products = [product(device) for device in ["cpu", *(g["device"] for g in gpus if g["ok"])]]
    facts = {
        "software": software(),
        "cpu": cpu(),
        "gpu": {
            **_plain(gpu),
            "cupy": cupy_distributions(),
            "driver_cuda": dotted(driver_version()) if driver_version() else None,
            "devices": gpus,
        },
        "folders": {"data": _downloads(), "kernels": folder(kernel_cache())},
        "environment": environment(),
        "products": products,
        "choice": _choice(),
    }
    problems = list(_problems(facts))
    return {"ok": not problems, "problems": problems, **facts}


def product(device: str, seed: int = 0) -> dict[str, Any]:
    """A 256 x 256 float32 product on `device` against float64: "error" is the largest |difference| / (|row| |column|).

    Rounding errors scale with the norms of the row and the column that were multiplied, and not with the result, in
    which terms may cancel. "seconds" is the shortest of five times, for information only. For a device that fails,
    both are None, and "why_not" gives the reason.
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


def _gpus(first: probe.Diagnosis) -> list[dict[str, Any]]:
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
        return gpus  # there is no driver, or it does not answer: `first` says so
    return gpus


def _downloads() -> dict[str, Any]:
    """The folder where downloads are kept; no error even if XPNET_CACHE names an impossible one."""
    try:
        return folder(cache_folder())
    except (OSError, RuntimeError) as error:  # such as "~name/cache" where there is no user called name
        path = os.environ.get("XPNET_CACHE", "")
        return {"path": path, "exists": False, "writable": False, "why_not": str(error), "free": None}


def _plain(diagnosis: probe.Diagnosis) -> dict[str, Any]:
    return {"ok": diagnosis.ok, **asdict(diagnosis)}


def _choice() -> dict[str, Any]:
    """The device for a program that names none, and why; the device is None if selecting one raises an error."""
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
        by = " (asked for by XPNET_CACHE)" if os.environ.get("XPNET_CACHE") else ""
        what = f"downloads cannot be kept in {data['path']}{by}: {data['why_not']}"
        yield {"what": what, "fix": "set the environment variable XPNET_CACHE to a folder that can be written"}
    given = os.environ.get("XPNET_DATA")
    if given and not os.path.isdir(os.path.expanduser(given)):
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
