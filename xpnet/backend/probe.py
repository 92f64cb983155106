"""Whether a GPU works, why not, and the line that cures it.

CuPy's own `is_available()` says yes as soon as a driver names a device. That a compiler, cuBLAS or a header is
missing shows only at the first kernel. So a GPU counts here only once it has computed something, and got it
right. Nothing in this file touches CuPy before `cuda()` is called.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import warnings
from dataclasses import dataclass

import numpy as np

from xpnet.backend.installed import (
    OLDEST_DRIVER,
    cupy_distributions,
    dotted,
    driver_version,
    fitting_extra,
    install_commands,
    kernel_cache,
    write_problem,
)


@dataclass(frozen=True)
class Finding:
    """The answer for one GPU: `state`, what was seen, and what to do about it.

    `state` is "ok", or the first obstacle: "no-cupy", "two-cupys", "broken-cupy", "no-driver",
    "driver-too-old", "no-device", "no-such-device", "libraries-missing", "wrong-result", or "fault" for all
    else. `detail` is one line. `fix` holds commands or actions, one per line; it is empty when all is well.
    """

    state: str
    detail: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        return self.state == "ok"

    def __str__(self) -> str:
        steps = self.fix.replace("\n", ", then ")
        return self.detail if self.ok else f"no usable GPU: {self.detail}. Fix: {steps}"


_working: dict[tuple[int, int], Finding] = {}


def cuda(ordinal: int = 0) -> Finding:
    """Whether CUDA device `ordinal` works: a product, an elementwise operation and a sum are run and checked.

    Never raises. Only success is remembered, and only for this process: CUDA does not survive a fork.
    """
    key = os.getpid(), ordinal
    if key not in _working:
        finding = _check_cupy() or _check_driver(ordinal) or _try_out(ordinal)
        if not finding.ok:
            return finding
        _working[key] = finding
    return _working[key]


# The three steps. Each returns what stands in the way; the last returns success as well. -----------------------


def _check_cupy() -> Finding | None:
    if importlib.util.find_spec("cupy") is None:
        return _no_cupy()
    installed = cupy_distributions()
    install = install_commands(fitting_extra(driver_version()))
    if len(installed) > 1:
        return Finding("two-cupys", f"{' and '.join(installed)} are installed over each other's files", install)
    try:
        with warnings.catch_warnings():
            # Said on Windows when there is no CUDA toolkit but that of the wheels, which is the usual case.
            warnings.filterwarnings("ignore", "CUDA path could not be detected")
            import cupy
            from cupy.cuda import runtime

            is_hip = runtime.is_hip
    except Exception as error:
        return _unwritable_cache(error) or _broken_cupy(error)
    if is_hip:
        return Finding("broken-cupy", f"CuPy {cupy.__version__} is built for AMD's ROCm, not for CUDA", install)
    return None


def _check_driver(ordinal: int) -> Finding | None:
    from cupy.cuda import runtime

    driver = count = wheel = 0
    try:
        wheel, driver = runtime.runtimeGetVersion(), runtime.driverGetVersion()
        if driver == 0:
            return _no_driver(wheel)
        count = runtime.getDeviceCount()
    except Exception as error:
        status = getattr(error, "status", None)
        if status == 35 and driver // 1000 < wheel // 1000:  # cudaErrorInsufficientDriver
            return _old_driver(driver, wheel)
        if status != 100:  # cudaErrorNoDevice
            return _fault(error)
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = "" if hidden is None else f' (CUDA_VISIBLE_DEVICES is "{hidden}")'
    if count == 0:
        fix = "unset the environment variable CUDA_VISIBLE_DEVICES"
        if hidden is None:
            fix = "see whether nvidia-smi -L lists a GPU (in a container: start it with --gpus all)"
        return Finding("no-device", f"the driver is there, for CUDA {dotted(driver)}, but no GPU{visible}", fix)
    if not 0 <= ordinal < count:
        number = "1 GPU is" if count == 1 else f"{count} GPUs are"
        fix = f"choose {' or '.join(f'cuda:{i}' for i in range(count))}"
        return Finding("no-such-device", f"there is no cuda:{ordinal}, {number} visible{visible}", fix)
    return None


def _try_out(ordinal: int) -> Finding:
    import cupy

    # Whole numbers, so small that every device must get them exactly, in whatever order it adds.
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
        return _first_kernel_failed(error, ordinal)
    if not right:
        fix = 'run nvidia-smi -q and look for memory errors; until then use the CPU: device="cpu"'
        return Finding("wrong-result", f"{seen} computes wrong numbers", fix)
    return Finding("ok", f"{seen}: a product, an elementwise operation and a sum came out right")


def _describe(ordinal: int) -> str:
    import cupy
    from cupy.cuda import runtime

    gpu = runtime.getDeviceProperties(ordinal)
    return (
        f"{gpu['name'].decode()} (compute capability {gpu['major']}.{gpu['minor']}, "
        f"{gpu['totalGlobalMem'] / 2**30:.1f} GiB), CuPy {cupy.__version__} for CUDA "
        f"{dotted(runtime.runtimeGetVersion())}, driver for CUDA {dotted(runtime.driverGetVersion())}"
    )


# What the obstacles mean ---------------------------------------------------------------------------------------


def _no_cupy() -> Finding:
    if sys.platform == "darwin":
        seen = "CuPy has no packages for macOS, the CPU is the device here"
        return Finding("no-cupy", seen, "none here; a GPU needs Linux or Windows with an NVIDIA card")
    driver = driver_version()
    install = install_commands(fitting_extra(driver))
    newer = f"{OLDEST_DRIVER['cuda12']} or newer"
    if driver == 0:
        seen = "CuPy is not installed, and no NVIDIA driver answers"
        return Finding("no-cupy", seen, f"if there is an NVIDIA GPU, install its driver, {newer}\n{install}")
    if driver < 12000:
        seen = f"CuPy is not installed, and the driver is old, for CUDA {dotted(driver)} at most"
        return Finding("no-cupy", seen, f"update the NVIDIA driver to {newer} and reboot\n{install}")
    return Finding("no-cupy", f"CuPy is not installed (the driver is there, for CUDA {dotted(driver)})", install)


def _broken_cupy(error: Exception) -> Finding:
    installed = cupy_distributions()
    spec = None if installed else importlib.util.find_spec("cupy")
    if spec:
        where = spec.origin or next(iter(spec.submodule_search_locations or []), "cupy")
        seen = f"{where} is taken for CuPy, but no package installed it: {_line(error)}"
        return Finding("broken-cupy", seen, f"rename or remove {where}")
    name, version = next(iter(installed.items()), ("cupy", "of unknown version"))
    newest = driver_version() or (13000 if name == "cupy-cuda13x" else 12000)
    install = install_commands(fitting_extra(newest), remove=name)
    return Finding("broken-cupy", f"{name} {version} cannot be imported: {_line(error)}", install)


def _no_driver(wheel: int) -> Finding:
    newer = f"{OLDEST_DRIVER[fitting_extra(wheel)]} or newer"
    fix = f"install the NVIDIA driver, {newer}, and reboot (in a container: start it with --gpus all)"
    return Finding("no-driver", f"CuPy for CUDA {dotted(wheel)} is there, but no NVIDIA driver answers", fix)


def _old_driver(driver: int, wheel: int) -> Finding:
    seen = f"the driver supports CUDA {dotted(driver)} at most, CuPy is built for CUDA {dotted(wheel)}"
    if 12000 <= driver < 13000 <= wheel:
        return Finding("driver-too-old", seen, install_commands("cuda12"))
    newer = f"{OLDEST_DRIVER[fitting_extra(wheel)]} or newer"
    return Finding("driver-too-old", seen, f"update the NVIDIA driver to {newer} and reboot")


def _first_kernel_failed(error: Exception, ordinal: int) -> Finding:
    from cupy.cuda import runtime

    if re.search("OutOfMemory|OUT_OF_MEMORY|MemoryAllocation|ALLOC_FAILED", f"{type(error).__name__} {error}"):
        return Finding("fault", f"cuda:{ordinal} has no memory left: {_line(error)}", _FAULTS[2])
    finding = _unwritable_cache(error) or _unsupported_gpu(ordinal)
    if finding:
        return finding
    if hasattr(error, "status"):  # CUDA or cuBLAS is there, and refused
        return _fault(error)
    seen = f"the GPU is there, but a CUDA library or header is missing: {_line(error)}"
    return Finding("libraries-missing", seen, install_commands(fitting_extra(runtime.runtimeGetVersion())))


def _unsupported_gpu(ordinal: int) -> Finding | None:
    """Whether the GPU is older or newer than the CUDA compiler that CuPy found."""
    try:
        import cupy
        from cupy.cuda import nvrtc, runtime

        known = [int(arch) for arch in nvrtc.getSupportedArchs()]
        capability = int(cupy.cuda.Device(ordinal).compute_capability)  # "86" for 8.6
        wheel, driver = runtime.runtimeGetVersion(), runtime.driverGetVersion()
    except Exception:
        return None  # there is no compiler to compare with: that is the obstacle, and the error says so
    low, high = min(known), max(known)
    if low <= capability <= high:
        return None
    seen = (
        f"cuda:{ordinal} has compute capability {capability / 10}, "
        f"but the CUDA compiler here knows {low / 10} to {high / 10}"
    )
    if capability > high:
        install = install_commands(fitting_extra(driver))
        return Finding("fault", seen, install.replace("pip install", "pip install -U --upgrade-strategy eager"))
    if wheel >= 13000 and capability >= 50:  # CUDA 13 gave up what is older than 7.5, CUDA 12 what is below 5.0
        return Finding("fault", seen, install_commands("cuda12"))
    return Finding("fault", seen, 'none, this GPU is too old; use the CPU: device="cpu"')


def _unwritable_cache(error: Exception) -> Finding | None:
    """Whether the kernel cache is to blame: CuPy makes that folder at import, and fails where it cannot."""
    problem = isinstance(error, OSError) and error.errno is not None and write_problem(kernel_cache())
    if not problem:
        return None
    seen = f"CuPy's kernel cache {kernel_cache()} cannot be written: {problem}"
    return Finding("fault", seen, "set the environment variable CUPY_CACHE_DIR to a folder that can be written")


_FAULTS = {  # by cudaError_t
    2: "close other programs that use this GPU (nvidia-smi lists them), or choose another device",
    3: 'start worker processes by "spawn", as CUDA does not survive a fork; if there are none, reboot',
    34: "take the folder that holds CUDA's stub of libcuda out of LD_LIBRARY_PATH",
    46: "close the program that has this GPU for itself (nvidia-smi lists it)",
    803: "reboot: the driver was updated while it ran",
}


def _fault(error: Exception) -> Finding:
    fix = _FAULTS.get(getattr(error, "status", 0), "run nvidia-smi; if it fails as well, reboot")
    return Finding("fault", f"CUDA fails: {_line(error)}", fix)


def _line(error: BaseException) -> str:
    """The error in one line. CuPy puts a banner around import errors; their cause says more."""
    cause = error.__cause__ or error
    text = str(cause).strip().split("\n")[0]
    return f"{type(cause).__name__}: {text[:200]}".rstrip(": ")
