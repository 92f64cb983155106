"""How much memory a device's arrays take."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class Memory(NamedTuple):
    """Bytes. On a GPU `used` are those of arrays and captured steps, `pooled` those that CuPy's pool holds, for these
    and for arrays to come, and `peak` the most that it has held. On the CPU `used` and `peak` are the whole process's
    (0 where the system does not say), `pooled` those of working memory that is kept for the next step."""

    used: int
    pooled: int
    peak: int


def of_process(pooled: int) -> Memory:
    """The memory of this process, as the system counts it."""
    used = peak = 0
    with suppress(ImportError):  # Windows has no such module
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        used = peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    with suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Memory(used, pooled, max(used, peak))
