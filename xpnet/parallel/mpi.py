"""Groups of processes that were started by `mpiexec`: MPI through mpi4py.

Gradients are added up in memory that the processes of a machine share (an MPI-3 window), between machines by
`Allreduce`, between GPUs by NCCL. All else is small and rare, and goes through MPI on the host.
"""

from __future__ import annotations

import os
import sys
import time
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.backend import Array, BackendError
from xpnet.parallel.group import ALONE, Group, is_in_all

if TYPE_CHECKING:
    from xpnet.parallel.nccl import NcclSum

SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE")  # variables in which MPICH's and Open MPI's mpiexec tell their number
PATIENCE = 1.0  # seconds that the others give the first process to say an error that all have
LINE = 64  # bytes

_joined: list[Group] = []


def join() -> Group:
    """The group of the processes that `mpiexec -n N` has started together; one that was started by hand is alone.

    From then on an error that nobody catches, in one process, ends all of them with its message.

    Raises `BackendError` where mpi4py is missing, or belongs to another MPI than `mpiexec`.
    """
    if _joined:
        return _joined[0]
    size = max(int(os.environ.get(name, 1)) for name in SIZES)
    if size == 1:
        return ALONE
    # Without it a process that waits keeps its core from others: on a busy machine steps take ten times as long.
    os.environ.setdefault("MPIR_CVAR_CH4_PROGRESS_THROTTLE", "1")  # read by MPICH when it starts
    try:
        from mpi4py import MPI
    except ImportError as error:
        raise BackendError(f'{size} processes were started together: pip install "xpnet[mpi]" ({error})') from None
    if size != MPI.COMM_WORLD.size:
        raise BackendError(
            f"mpiexec has started {size} processes, of which mpi4py sees {MPI.COMM_WORLD.size}: they belong to two "
            f'kinds of MPI. mpi4py has {MPI.Get_library_version().splitlines()[0]}; pip install "xpnet[mpi]" has both'
        )
    group = MpiGroup(MPI.COMM_WORLD, MPI.COMM_WORLD.Split_type(MPI.COMM_TYPE_SHARED))
    sys.excepthook = group.uncaught
    _joined.append(group)
    return group


def joined() -> Group:
    """The group that `join` has given, if it was called."""
    return _joined[0] if _joined else ALONE


class MpiGroup(Group):
    """All processes of the communicator `everyone`; those of `machine` share memory with this one."""

    def __init__(self, everyone: Any, machine: Any):
        self._everyone, self._machine = everyone, machine
        self.rank, self.size, self.machine_rank = everyone.rank, everyone.size, machine.rank
        # The first of each machine add up between machines; others have a communicator that they do not use.
        self._between = everyone.Split(machine.rank == 0, everyone.rank)
        self._machines = self.sum(int(machine.rank == 0))
        self._windows: dict[int, _Window] = {}  # by the address of the gradients
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
        self._everyone.Allgather(np.ascontiguousarray(own), theirs)
        return theirs.sum(axis=0)

    def room_for(self, grad: Array) -> Array:
        if not isinstance(grad, np.ndarray) or not grad.size or grad.ctypes.data in self._windows:
            return grad
        window = _Window(self._machine, grad.size, grad.dtype)
        self._windows[window.own.ctypes.data] = window
        return window.own[:-1]

    def sum_gradients(self, grad: Array, weight: Array | float) -> Array | float:
        if not isinstance(grad, np.ndarray):
            nccl = self._on_devices()
            total = nccl.number(weight, grad.dtype)
            nccl.sum_up(grad)
            nccl.sum_up(total)
            return total
        if grad.ctypes.data in self._windows:
            between = self._between if self._machines > 1 else None
            return self._windows[grad.ctypes.data].sum_up(weight, between)
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
            time.sleep(PATIENCE)  # if the first has this error too, it ends this process meanwhile
            print(f"process {self.rank} of {self.size}:", file=sys.stderr)  # noqa: T201
        complain()
        sys.stdout.flush()
        sys.stderr.flush()
        self._everyone.Abort(code)

    def uncaught(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """What becomes of an error that nobody has caught."""
        self.fail(error, lambda: traceback.print_exception(kind, error, trace))


class _Window:
    """Memory of one machine: the gradients of each of its processes with the weight behind them, and their sum.

    Each process adds up a slice of all gradients, in the order of the ranks, so that it is the same bits every time;
    then all copy the whole. A process that is ahead cannot spoil the sum for the others: it writes gradients that
    nobody reads before all have met again.
    """

    def __init__(self, machine: Any, size: int, dtype: np.dtype):
        from mpi4py import MPI

        def window(n: int) -> Any:
            in_lines = -(-n * dtype.itemsize // LINE) * LINE  # so that no line of a cache is of two processes
            allocated = MPI.Win.Allocate_shared(in_lines, dtype.itemsize, comm=machine)
            allocated.Lock_all()  # for `Sync`; nobody else is ever kept out
            return allocated

        def of(held: Any, rank: int) -> np.ndarray:
            return np.frombuffer(held.Shared_query(rank)[0], dtype, size)

        size += 1  # the weight
        self._machine, self._held = machine, (window(size), window(size if machine.rank == 0 else 0))
        self._gradients = [of(self._held[0], rank) for rank in range(machine.size)]
        self._sum = of(self._held[1], 0)
        self._mine = slice(size * machine.rank // machine.size, size * (machine.rank + 1) // machine.size)
        self.own = self._gradients[machine.rank]
        self.own.fill(0)

    def sum_up(self, weight: Array | float, between: Any | None) -> np.ndarray:
        """The gradients become the sum over this machine's processes, and with `between` over those of all machines.
        Gives the sum of the weights, (1,)."""
        self.own[-1:] = weight
        self._meet()
        total = self._sum[self._mine]
        total[...] = self._gradients[0][self._mine]
        for gradients in self._gradients[1:]:
            total += gradients[self._mine]
        self._meet()
        if between is not None:
            if self._machine.rank == 0:
                between.Allreduce(_in_place(), self._sum)
            self._meet()
        self.own[...] = self._sum
        return self.own[-1:].copy()

    def _meet(self) -> None:
        """All processes of the machine are here, and see what the others have written."""
        for window in self._held:
            window.Sync()
        self._machine.Barrier()
        for window in self._held:
            window.Sync()


def _in_place() -> Any:
    from mpi4py import MPI

    return MPI.IN_PLACE
