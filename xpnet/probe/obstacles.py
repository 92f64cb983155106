"""What can keep a GPU from working: each obstacle as a `Diagnosis`, with the commands that remove it."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import dataclass

from xpnet.probe.installed import (
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
class Diagnosis:
    """The result for one GPU: its state, what was seen, and what to do about it.

    `state` is "ok", or the first obstacle: "no-cupy", "two-cupys", "broken-cupy", "no-driver",
    "driver-too-old", "no-device", "no-such-device", "libraries-missing", "wrong-result", or "fault" for any
    other. `detail` is one line. `fix` holds commands or actions, one per line; it is empty if the state is "ok".
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


def no_cupy() -> Diagnosis:
    if sys.platform == "darwin":
        seen = "CuPy has no packages for macOS, the CPU is the device here"
        return Diagnosis("no-cupy", seen, "none here; a GPU needs Linux or Windows with an NVIDIA card")
    driver = driver_version()
    install = install_commands(fitting_extra(driver))
    newer = f"{OLDEST_DRIVER['cuda12']} or newer"
    if driver == 0:
        seen = "CuPy is not installed, and no NVIDIA driver answers"
        return Diagnosis("no-cupy", seen, f"if there is an NVIDIA GPU, install its driver, {newer}\n{install}")
    if driver < 12000:
        seen = f"CuPy is not installed, and the driver is old, for CUDA {dotted(driver)} at most"
        return Diagnosis("no-cupy", seen, f"update the NVIDIA driver to {newer} and reboot\n{install}")
    return Diagnosis("no-cupy", f"CuPy is not installed (the driver is there, for CUDA {dotted(driver)})", install)


def two_cupys() -> Diagnosis:
    seen = f"{' and '.join(cupy_distributions())} are installed over each other's files"
    return Diagnosis("two-cupys", seen, install_commands(fitting_extra(driver_version())))


def broken_cupy(error: Exception) -> Diagnosis:
    installed = cupy_distributions()
    spec = None if installed else importlib.util.find_spec("cupy")
    if spec:
        where = spec.origin or next(iter(spec.submodule_search_locations or []), "cupy")
        seen = f"{where} is taken for CuPy, but no package installed it: {_line(error)}"
        return Diagnosis("broken-cupy", seen, f"rename or remove {where}")
    name, version = next(iter(installed.items()), ("cupy", "of unknown version"))
    newest = driver_version() or (13000 if name == "cupy-cuda13x" else 12000)
    install = install_commands(fitting_extra(newest), remove=name)
    return Diagnosis("broken-cupy", f"{name} {version} cannot be imported: {_line(error)}", install)


def for_rocm(version: str) -> Diagnosis:
    install = install_commands(fitting_extra(driver_version()))
    return Diagnosis("broken-cupy", f"CuPy {version} is built for AMD's ROCm, not for CUDA", install)


def old_cupy(version: str) -> Diagnosis:
    install = install_commands(fitting_extra(driver_version()))
    return Diagnosis("broken-cupy", f"CuPy {version} is too old, 14 or newer is needed", install)


def no_driver(wheel: int) -> Diagnosis:
    newer = f"{OLDEST_DRIVER[fitting_extra(wheel)]} or newer"
    fix = f"install the NVIDIA driver, {newer}, and reboot (in a container: start it with --gpus all)"
    return Diagnosis("no-driver", f"CuPy for CUDA {dotted(wheel)} is there, but no NVIDIA driver answers", fix)


def old_driver(driver: int, wheel: int) -> Diagnosis:
    seen = f"the driver supports CUDA {dotted(driver)} at most, CuPy is built for CUDA {dotted(wheel)}"
    if 12000 <= driver < 13000 <= wheel:
        return Diagnosis("driver-too-old", seen, install_commands("cuda12"))
    newer = f"{OLDEST_DRIVER[fitting_extra(wheel)]} or newer"
    return Diagnosis("driver-too-old", seen, f"update the NVIDIA driver to {newer} and reboot")


def no_device(driver: int) -> Diagnosis:
    fix = "unset the environment variable CUDA_VISIBLE_DEVICES"
    if "CUDA_VISIBLE_DEVICES" not in os.environ:
        fix = "see whether nvidia-smi -L lists a GPU (in a container: start it with --gpus all)"
    return Diagnosis("no-device", f"the driver is there, for CUDA {dotted(driver)}, but no GPU{_visible()}", fix)


def no_such_device(ordinal: int, count: int) -> Diagnosis:
    number = "1 GPU is" if count == 1 else f"{count} GPUs are"
    fix = f"choose {' or '.join(f'cuda:{i}' for i in range(count))}"
    return Diagnosis("no-such-device", f"there is no cuda:{ordinal}, {number} visible{_visible()}", fix)


def _visible() -> str:
    """A note of which GPUs programs may see, if CUDA_VISIBLE_DEVICES is set."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return "" if visible is None else f' (CUDA_VISIBLE_DEVICES is "{visible}")'


def wrong_result(gpu: str) -> Diagnosis:
    fix = 'run nvidia-smi -q and look for memory errors; until then use the CPU: device="cpu"'
    return Diagnosis("wrong-result", f"{gpu} computes wrong numbers", fix)


def first_kernel_failed(error: Exception, ordinal: int) -> Diagnosis:
    from cupy.cuda import runtime

    if re.search("OutOfMemory|OUT_OF_MEMORY|MemoryAllocation|ALLOC_FAILED", f"{type(error).__name__} {error}"):
        return Diagnosis("fault", f"cuda:{ordinal} has no memory left: {_line(error)}", _FAULTS[2])
    diagnosis = unwritable_cache(error) or _unsupported_gpu(ordinal)
    if diagnosis:
        return diagnosis
    if hasattr(error, "status"):  # CUDA or cuBLAS is there, and reported an error
        return fault(error)
    seen = f"the GPU is there, but a CUDA library or header is missing: {_line(error)}"
    return Diagnosis("libraries-missing", seen, install_commands(fitting_extra(runtime.runtimeGetVersion())))


def _unsupported_gpu(ordinal: int) -> Diagnosis | None:
    """The obstacle if the GPU is older or newer than the CUDA compiler that CuPy found supports; None otherwise."""
    try:
        import cupy
        from cupy.cuda import nvrtc, runtime

        known = [int(arch) for arch in nvrtc.getSupportedArchs()]
        capability = int(cupy.cuda.Device(ordinal).compute_capability)  # "86" for 8.6
        wheel, driver = runtime.runtimeGetVersion(), runtime.driverGetVersion()
    except Exception:
        return None  # there is no compiler to ask: that is the obstacle, and the first error says so
    low, high = min(known), max(known)
    if low <= capability <= high:
        return None
    seen = (
        f"cuda:{ordinal} has compute capability {capability / 10}, "
        f"but the CUDA compiler here knows {low / 10} to {high / 10}"
    )
    if capability > high:
        install = install_commands(fitting_extra(driver))
        return Diagnosis("fault", seen, install.replace("pip install", "pip install -U --upgrade-strategy eager"))
    if wheel >= 13000 and capability >= 50:  # CUDA 13 dropped GPUs below 7.5, CUDA 12 those below 5.0
        return Diagnosis("fault", seen, install_commands("cuda12"))
    return Diagnosis("fault", seen, 'none, this GPU is too old; use the CPU: device="cpu"')


def unwritable_cache(error: Exception) -> Diagnosis | None:
    """The obstacle if the kernel cache caused the error: CuPy makes that folder at import, and fails if it cannot."""
    problem = isinstance(error, OSError) and error.errno is not None and write_problem(kernel_cache())
    if not problem:
        return None
    seen = f"CuPy's kernel cache {kernel_cache()} cannot be written: {problem}"
    return Diagnosis("fault", seen, "set the environment variable CUPY_CACHE_DIR to a folder that can be written")


_FAULTS = {  # by cudaError_t
    2: "close other programs that use this GPU (nvidia-smi lists them), or choose another device",
    3: 'start worker processes by "spawn", as CUDA does not survive a fork; if there are none, reboot',
    34: "take the folder that holds CUDA's stub of libcuda out of LD_LIBRARY_PATH",
    46: "close the program that has this GPU for itself (nvidia-smi lists it)",
    803: "reboot: the driver was updated while it ran",
}


def fault(error: Exception) -> Diagnosis:
    fix = _FAULTS.get(getattr(error, "status", 0), "run nvidia-smi; if it fails as well, reboot")
    return Diagnosis("fault", f"CUDA fails: {_line(error)}", fix)


def _line(error: BaseException) -> str:
    """The error in one line. CuPy wraps import errors in a banner; the cause says more."""
    cause = error.__cause__ or error
    text = str(cause).strip().split("\n")[0]
    return f"{type(cause).__name__}: {text[:200]}".rstrip(": ")
