"""How much memory a device's arrays take."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """Numbers of bytes.

    On a GPU, `used` counts arrays and captured steps, `pooled` all that CuPy's pool holds, for these and for future
    arrays, and `peak` is the most that it has held. On the CPU, `used` and `peak` are those of the whole process (0 if
    the system does not tell), and `pooled` counts the working memory that is kept for the next step.
    """

    used: int
    pooled: int
    peak: int


def of_process(pooled: int) -> Memory:
    """The memory of this process, as the operating system counts it."""
    used = peak = 0
    with suppress(ImportError):  # Windows has no such module
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        used = peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    with suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Memory(used, pooled, max(used, peak))
