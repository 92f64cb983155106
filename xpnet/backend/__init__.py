"""Where and how a pass runs: `select` picks a device and makes the `Backend` that layers, losses and optimizers use."""

from __future__ import annotations

import os
import re

from xpnet.backend.base import DTYPES, Array, Backend
from xpnet.backend.observer import Observer
from xpnet.backend.precision import PRECISIONS

__all__ = ["DTYPES", "PRECISIONS", "Array", "Backend", "BackendError", "Observer", "select"]


class BackendError(RuntimeError):
    """A device or library that was asked for does not work; the message says why, and how to fix it."""


def select(
    device: str | None = None,
    dtype: str = "float32",
    seed: int = 0,
    threads: int | None = None,
    precision: str | None = None,
    max_memory: int | None = None,
) -> Backend:
    """A backend on `device`: "auto", "cpu", "cuda" or "cuda:1".

    The argument takes precedence over the environment variable XPNET_DEVICE, which takes precedence over "auto". "auto"
    takes a GPU only if a matrix product, an elementwise operation and a sum really ran there and gave the right
    numbers. Otherwise it takes the CPU, and `backend.why` says why and how to fix it. A device that was named and does
    not work is an error.

    `dtype` is "float32" or "float64"; `seed` (>= 0) starts every random stream: the same seed gives the same
    weights, batches and dropout masks on every device. `threads` is a number of threads on a CPU: for BLAS in `fit` and
    `xpnet serve` (by default one for small steps, see `Backend.threads_for`), and for sharing the batch in `nn.Blocked`
    and large updates (by default one). `precision` "float16" or "bfloat16" lets a GPU multiply 16-bit numbers; weights,
    gradients and all sums stay float32 (`precision.py` says what it gains). A CPU refuses it.
    `max_memory` is a limit in bytes (see `Backend.limit_memory`).

    Raises ValueError for an invalid device, dtype, seed, number of threads, precision or limit; `BackendError` for a
    named device that does not work, and for "auto" without a GPU if the precision needs one.
    """
    backend = _selected(device, dtype, seed, threads, precision)
    if max_memory is not None:
        backend.limit_memory(max_memory)
    return backend


def _selected(device: str | None, dtype: str, seed: int, threads: int | None, precision: str | None) -> Backend:
    asked = device if device is not None else os.environ.get("XPNET_DEVICE") or "auto"
    by = "asked for" if device is not None else "asked for by XPNET_DEVICE"
    if asked == "cpu":
        return Backend(dtype, seed, why=by, threads=threads, precision=precision)
    match = re.fullmatch(r"(auto|cuda)(?::(\d+))?", str(asked))
    if not match or (match[1] == "auto" and match[2]):
        where = "XPNET_DEVICE: " if device is None else ""
        raise ValueError(f"{where}unknown device {asked!r}: choose auto, cpu, cuda or cuda:<number>")

    from xpnet import probe  # here, to keep `import xpnet` light

    ordinal = int(match[2] or 0)
    diagnosis = probe.cuda(ordinal)
    if diagnosis.ok:
        from xpnet.backend.cuda import CudaBackend

        return CudaBackend(dtype, seed, ordinal, by if asked != "auto" else diagnosis.detail, threads, precision)
    if asked == "auto" and precision in PRECISIONS:
        raise BackendError(f"precision {precision!r} needs a GPU: {diagnosis}")
    if asked == "auto":
        return Backend(dtype, seed, why=str(diagnosis), threads=threads, precision=precision)
    raise BackendError(f"device {asked!r} ({by}): {diagnosis}")
