"""Data parallelism: several processes train one model, on one machine or on several.

    group = parallel.join()
    train.fit(model, loss, optimizer, data, epochs=3, group=group)

in a program that is started by `mpiexec -n 4 python program.py`; `xpnet train --workers 4` starts itself in this way.
It needs the extra `mpi`, and nothing more on several machines: `mpiexec` knows how to reach them.

- Every process has the whole model and a part of each batch; `batch_size` is that of the whole batch. Between backward
  and clipping the gradients are summed over the processes and divided by the weight of the whole batch. So the update
  is the same in all processes and, up to rounding, the one that a single process would make. With the same number of
  processes the bits are the same each time.
- Processes on one machine share the update (`Optimizer.shared_by`): each sums the gradients of a part of the
  parameters, updates that part, and takes the rest from the others. So during an epoch each process has the optimizer's
  state for its own part only; for callbacks, checkpoints and further training all have the whole state.
- Every process draws its own dropout masks and augmentation. So a run with either of them differs from that of a single
  process as much as a run with another seed does.
- Batch statistics (`BatchNorm`) are those of a process's own part of the batch. After each step the running statistics
  become the mean over the processes. A part of one sample has no variance, which is an error, as it is in a single
  process: choose a batch size that leaves no such last batch.
- The first process (`group.rank == 0`) writes checkpoints, prints and calls callbacks; its results decide for all.
  Changes that a callback makes to parameters and optimizer are passed on to all processes. A schedule that depends on
  anything but the step must give the same rate in all processes; a difference is an error. A run that was stopped can
  be resumed from its checkpoint by a group of any size.
- An error in one process, or its death, ends all processes. So does `sys.exit` during a run, but not before or after
  it. Ctrl-C ends all of them after the same step.
- On a CPU each process uses one BLAS thread, unless its backend was given more: start as many processes as there are
  free cores. If other work runs on these, every step waits for the slowest process, and one alone may be faster.
- On GPUs each process has a GPU of its own (`select(f"cuda:{group.machine_rank}")`); gradients are summed by NCCL. This
  has been tested on stand-ins only and has never run on GPUs. Steps in a group are not captured.

Li, Zhao, Varma et al., "PyTorch Distributed: Experiences on accelerating data parallel training" (VLDB 2020), describe
the same for PyTorch.
"""

from xpnet.parallel.group import ALONE, Group, OthersFailed
from xpnet.parallel.mpi import join

__all__ = ["ALONE", "Group", "OthersFailed", "join"]
