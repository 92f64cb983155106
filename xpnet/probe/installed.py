"""What is installed for a GPU, found without importing CuPy, and the commands that correct it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import os
import re
import sys
from pathlib import Path

OLDEST_DRIVER = {"cuda12": 525, "cuda13": 580}  # per extra of xpnet: NVIDIA's driver branch (CUDA release notes)


def driver_version() -> int:
    """The newest CUDA that the installed driver supports (12040 for 12.4), or 0 if no driver answers."""
    version = ctypes.c_int(0)
    try:
        driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
        status = driver.cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return 0
    return version.value if status == 0 else 0


def fitting_extra(cuda: int) -> str:
    """The extra of xpnet whose CuPy fits this CUDA version: "cuda12" or "cuda13"."""
    return "cuda13" if cuda >= 13000 else "cuda12"


def cupy_distributions() -> dict[str, str]:
    """Installed packages that provide the module `cupy`, name to version. There should be at most one."""
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        metadata = distribution.metadata  # a package that was only partly removed has none
        name = str(metadata["Name"] if metadata else "").lower().replace("_", "-")
        if re.fullmatch(r"(amd-)?cupy(-(cuda|rocm)[\w-]*)?", name):
            found.setdefault(name, str(distribution.version))
    return dict(sorted(found.items()))


def install_commands(extra: str, remove: str = "") -> str:
    """The commands after which exactly the CuPy of `extra` is installed, with the CUDA libraries it needs.

    Another CuPy is uninstalled first; if there are several, all of them are: they share files, so removing one damages
    the rest. `remove` names a package to uninstall even if it is the right one, because it is broken.
    """
    installed = list(cupy_distributions())
    install = f'pip install "xpnet[{extra}]"'
    if installed in ([], [f"cupy-{extra}x"]) and remove not in installed:
        return install
    return f"pip uninstall -y {' '.join(installed)}\n{install}"


def kernel_cache() -> Path:
    """The folder where CuPy keeps compiled kernels. As in CuPy, it begins with "~" for a user without a home."""
    return Path(os.environ.get("CUPY_CACHE_DIR") or os.path.expanduser("~/.cupy/kernel_cache"))


def write_problem(folder: Path) -> str:
    """Why no file can be written in `folder`, or "" if one can. Leaves nothing behind.

    For a folder that does not exist yet, the nearest parent that exists is tried.
    """
    try:
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        trial = folder / f".xpnet-{os.getpid()}"
        trial.write_bytes(b"x")
        trial.unlink()
    except OSError as error:
        return f"{error.strerror or error} ({folder})"
    return ""


def dotted(version: int) -> str:
    """CUDA's version number as text: "12.4" for 12040."""
    return f"{version // 1000}.{version % 1000 // 10}"
