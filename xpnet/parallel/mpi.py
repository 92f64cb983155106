"""Groups of processes that were started by `mpiexec`: MPI through mpi4py.

Processes on one machine share the update in shared memory (a `Window`, made from one of MPI-3). Gradients are summed
between machines by `Allreduce`, between GPUs by NCCL. Everything else is small and goes through MPI on the host.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array, BackendError
from xpnet.parallel.group import ALONE, Group, is_in_all
from xpnet.parallel.window import Window

if TYPE_CHECKING:
    from xpnet.parallel.nccl import NcclSum

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # variables in which the mpiexec of MPICH or Open MPI tells the size
PATIENCE = 1.0  # seconds for which the others let the first process report an error that all of them have
HEARD = 0.1  # seconds for mpiexec to pass on the output: what it has not read when it ends the others is lost
LINE = 16  # numbers; memory is divided in multiples of this, so that no cache line belongs to two processes
LOOKS, NAP = 500, 20e-6  # tests of a request without a pause, and seconds of sleep between those that follow

_joined: list[Group] = []


def join() -> Group:
    """The group of the processes that `mpiexec -n N` started together; a process started otherwise is a group of one.

    After this call, an uncaught error in one process ends all of them, with its message.

    Raises `BackendError` if mpi4py is missing, or belongs to a different MPI than `mpiexec`.
    """
    if _joined:
        return _joined[0]
    size = max(int(os.environ.get(name, 1)) for name in SIZES)
    if size == 1:
        return ALONE
    # Without this a waiting process keeps its core busy: on a machine with other work, steps take ten times as long.
    os.environ.setdefault("MPIR_CVAR_CH4_PROGRESS_THROTTLE", "1")  # read by MPICH when it starts
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise BackendError(
            f'{size} processes were started together, which needs mpi4py ({error}): pip install "xpnet[mpi]"'
        ) from None
    if size != MPI.COMM_WORLD.size:
        raise BackendError(
            f"mpiexec has started {size} processes, but mpi4py sees {MPI.COMM_WORLD.size}: they belong to different "
            f"MPI libraries. mpi4py uses {MPI.Get_library_version().splitlines()[0]}; "
            'pip install "xpnet[mpi]" installs both of one library'
        )
    group = MpiGroup(MPI.COMM_WORLD, MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED))
    sys.excepthook = group.uncaught
    _joined.append(group)
    return group


def joined() -> Group:
    """The group that `join` returned, or `ALONE` if it was not called."""
    return _joined[0] if _joined else ALONE


class MpiGroup(Group):
    """All processes of the communicator `everyone`; those of `machine` share memory with this one."""

    def __init__(self, everyone: Any, machine: Any):
        self._everyone, self._machine = everyone, machine
        self.rank, self.size, self.machine_rank = everyone.rank, everyone.size, machine.rank
        # The processes with this rank on each machine, which sum their parts of the gradients.
        self._between = everyone.Split(machine.rank, everyone.rank)
        self._machines = set(self.gather((machine.size, self._between.size)))
        self._windows: dict[int, Window] = {}  # by the address of this process's gradients
        self._nccl: NcclSum | None = None

    def gather(self, value: Any) -> list[Any]:
        return self._everyone.allgather(value)

    def sum(self, values: Array | float) -> Any:
        if not isinstance(values, (int, float, np.ndarray, np.generic)):
            total = values.copy()
            self._on_devices().sum_up(total)
            return total
        own = np.asarray(values)
        theirs = np.empty((self.size, *own.shape), own.dtype)
        _wait(self._everyone.Iallgather(np.ascontiguousarray(own), theirs))
        return theirs.sum(axis=0)

    def window(self, grad: Array) -> Window | None:
        """None on GPUs, and if the machines have different numbers of processes: their parts would not match."""
        if not isinstance(grad, np.ndarray) or not grad.size or len(self._machines) > 1:
            return None
        window = self._windows.get(grad.ctypes.data)
        if window is None:
            window = self._allocated(grad.size, grad.dtype)
            self._windows[window.grad.ctypes.data] = window
        return window

    def _allocated(self, n: int, dtype: np.dtype) -> Window:
        """A window for n numbers. Its memory is never freed: views of the gradients may be in use after a run."""
        from mpi4py import MPI

        machine, (size, machines) = self._machine, next(iter(self._machines))
        room = -(-n // LINE) * LINE
        of_first = 2 * room + size * LINE  # its gradients, and what all share: values and notes
        own = of_first if machine.rank == 0 else room
        held = MPI.Win.Allocate_shared(own * dtype.itemsize, dtype.itemsize, comm=machine)
        held.Lock_all()  # needed for `Sync`; it is a shared lock, so it keeps nobody out

        def memory(rank: int, count: int) -> np.ndarray:
            start: Any = held.Shared_query(rank)[0]
            return np.frombuffer(start, dtype, count)

        def meet() -> None:
            held.Sync()
            _wait(machine.Ibarrier())
            held.Sync()

        memory(machine.rank, own).fill(0)
        meet()
        gradients, common = [memory(rank, n) for rank in range(size)], memory(0, of_first)
        values, notes = common[room : room + n], common[2 * room :].reshape(size, LINE)
        between = (lambda array: self._between.Allreduce(_in_place(), array)) if machines > 1 else None
        return Window(machine.rank, gradients, values, notes, meet, between)

    def sum_gradients(self, grad: Array, weight: Array | float) -> Array | float:
        if not isinstance(grad, np.ndarray):
            nccl = self._on_devices()
            total = nccl.number(weight, grad.dtype)
            nccl.sum_up(grad)
            nccl.sum_up(total)
            return total
        self._everyone.Allreduce(_in_place(), grad)
        return self.sum(np.full(1, weight, grad.dtype))

    def _on_devices(self) -> NcclSum:
        if self._nccl is None:
            from xpnet.parallel.nccl import NcclSum

            self._nccl = NcclSum(self)
        return self._nccl

    # The end ------------------------------------------------------------------------------------------------

    def fail(self, error: BaseException, complain: Callable[[], None], code: int = 1) -> None:
        if is_in_all(error):
            if self.rank == 0:
                complain()
            return
        if self.rank:
            time.sleep(PATIENCE)  # if the first process has this error too, it ends this one meanwhile
            print(f"process {self.rank} of {self.size}:", file=sys.stderr)  # noqa: T201
        complain()
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(HEARD)
        self._everyone.Abort(code)

    def uncaught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """Handle an error that nobody has caught, as `sys.excepthook`."""
        import traceback

        text = "".join(traceback.format_exception(kind, error, trace))  # mpiexec may lose all but the first piece
        self.fail(error, lambda: print(text, end="", file=sys.stderr))  # noqa: T201


def _wait(request: Any) -> None:
    """Wait until an MPI request is done.

    MPI's own waiting can keep a busy core from the very process that it waits for: on two cores with four other
    processes, a step of two workers took 3 ms with it, and takes 0.9 ms in this way.
    """
    for look in itertools.count():
        if request.Test():
            return
        if look >= LOOKS:
            time.sleep(NAP)


def _in_place() -> Any:
    from mpi4py import MPI

    return MPI.IN_PLACE
