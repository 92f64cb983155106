"""Several processes for one run: started by `--workers`, or by the user's own `mpiexec`."""

from __future__ import annotations

import os
import sys

from xpnet.parallel import Group, join
from xpnet.parallel.launch import mpiexec

FEW = 8  # up to so many workers or threads may be started on any machine, to try them


def started(workers: int, given: int | None) -> Group:
    """The group of processes that the command runs in. If the settings ask for several `workers` and this process is
    alone, the whole command is started again with so many processes, and this function does not return.

    `given` is the number on the command line: under `mpiexec -n N` it may only be N. A number in a file is ignored
    there.
    """
    group = join()
    if group.size > 1 and given not in (None, group.size):
        raise ValueError(f"--workers {given} under mpiexec -n {group.size}: leave one of them out")
    if workers < 1:
        raise ValueError(f"--workers must be at least 1, not {workers}")
    if group.size == 1:
        check_cores("workers", workers)
    if group.size == 1 and workers > 1:  # in place of this process, so that signals and the exit code are mpiexec's
        program = mpiexec()
        os.execv(program, [program, "-n", str(workers), sys.executable, *sys.orig_argv[1:]])
    return group


def check_cores(option: str, n: int | None) -> None:
    """Raise ValueError for more workers or threads than this machine has cores, if they are also more than FEW."""
    most = max(os.cpu_count() or 1, FEW)
    if n is not None and n > most:
        raise ValueError(f"--{option} {n}: each takes a core of this machine, and up to {most} are started")


def device_for(asked: str | None, group: Group) -> str | None:
    """The device of this process: several processes on one machine each have a GPU of their own."""
    named = asked or os.environ.get("XPNET_DEVICE") or "auto"
    if group.size == 1 or named == "cpu":
        return asked
    own = f"cuda:{group.machine_rank}"
    if named == "auto":
        from xpnet import probe

        works = group.gather(probe.cuda(group.machine_rank).ok)
        return own if all(works) else "cpu" if any(works) else asked
    if named != "cuda":
        raise ValueError(f"--device {named} is one GPU for several workers: with --device cuda each takes its own")
    return own
