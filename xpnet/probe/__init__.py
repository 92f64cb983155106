"""Whether a GPU works, why not, and the line that fixes it: what `xpnet.select` asks before it takes one.

CuPy's own `is_available()` says yes as soon as a driver names a device. A missing compiler, cuBLAS or header shows
only at the first kernel. So here a GPU counts as working only after it has computed something correctly. This file
makes the checks; `obstacles.py` says what each failure means and how to fix it; `installed.py` finds out what is
installed. CuPy is not imported before `cuda()` is called.
"""

from __future__ import annotations

import importlib.util
import os
import warnings

import numpy as np

from xpnet.probe import obstacles
from xpnet.probe.installed import cupy_distributions, dotted
from xpnet.probe.obstacles import Diagnosis

__all__ = ["Diagnosis", "cuda"]

OLDEST_CUPY = 14

_working: dict[tuple[int, int], Diagnosis] = {}


def cuda(ordinal: int = 0) -> Diagnosis:
    """Whether CUDA device `ordinal` works: a product, an elementwise operation and a sum are run and checked.

    Never raises. Only success is remembered, and only for this process: CUDA does not survive a fork.
    """
    key = os.getpid(), ordinal
    if key not in _working:
        diagnosis = _check_cupy() or _check_driver(ordinal) or _try_out(ordinal)
        if not diagnosis.ok:
            return diagnosis
        _working[key] = diagnosis
    return _working[key]


# The three steps. Each returns the obstacle that it finds, if any; the last one also returns success.


def _check_cupy() -> Diagnosis | None:
    if importlib.util.find_spec("cupy") is None:
        return obstacles.no_cupy()
    if len(cupy_distributions()) > 1:
        return obstacles.two_cupys()
    try:
        with warnings.catch_warnings():
            # A warning on Windows if the only CUDA toolkit is the one from the wheels, which is the usual case.
            warnings.filterwarnings("ignore", "CUDA path could not be detected")
            import cupy
            from cupy.cuda import runtime

            is_hip = runtime.is_hip
    except Exception as error:
        return obstacles.unwritable_cache(error) or obstacles.broken_cupy(error)
    if is_hip:
        return obstacles.for_rocm(cupy.__version__)
    if int(cupy.__version__.partition(".")[0]) < OLDEST_CUPY:
        return obstacles.old_cupy(cupy.__version__)
    return None


def _check_driver(ordinal: int) -> Diagnosis | None:
    from cupy.cuda import runtime

    driver = count = wheel = 0
    try:
        wheel, driver = runtime.runtimeGetVersion(), runtime.driverGetVersion()
        if driver == 0:
            return obstacles.no_driver(wheel)
        count = runtime.getDeviceCount()
    except Exception as error:
        status = getattr(error, "status", None)
        if status == 35 and driver // 1000 < wheel // 1000:  # cudaErrorInsufficientDriver
            return obstacles.old_driver(driver, wheel)
        if status != 100:  # cudaErrorNoDevice
            return obstacles.fault(error)
    if count == 0:
        return obstacles.no_device(driver)
    if not 0 <= ordinal < count:
        return obstacles.no_such_device(ordinal, count)
    return None


def _try_out(ordinal: int) -> Diagnosis:
    import cupy

    # Integers so small that every device must get the exact result, in whatever order it adds.
    a = (np.arange(48 * 64) % 7 - 3).reshape(48, 64)
    b = (np.arange(64 * 32) % 5 - 2).reshape(64, 32)
    expected = (a @ b) * 2 + 1
    try:
        with cupy.cuda.Device(ordinal):
            y = cupy.asarray(a.astype(np.float32)) @ cupy.asarray(b.astype(np.float32)) * 2 + 1
            total = float(y.sum())
            right = np.array_equal(cupy.asnumpy(y), expected) and total == expected.sum()
            seen = _describe(ordinal)
    except Exception as error:
        return obstacles.first_kernel_failed(error, ordinal)
    if not right:
        return obstacles.wrong_result(seen)
    return Diagnosis("ok", f"{seen}: a product, an elementwise operation and a sum came out right")


def _describe(ordinal: int) -> str:
    import cupy
    from cupy.cuda import runtime

    gpu = runtime.getDeviceProperties(ordinal)
    return (
        f"{gpu['name'].decode()} (compute capability {gpu['major']}.{gpu['minor']}, "
        f"{gpu['totalGlobalMem'] / 2**30:.1f} GiB), CuPy {cupy.__version__} for CUDA "
        f"{dotted(runtime.runtimeGetVersion())}, driver for CUDA {dotted(runtime.driverGetVersion())}"
    )
