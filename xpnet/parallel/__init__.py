"""Several processes that train one model, on one machine or on many: data parallelism.

    group = parallel.join()
    train.fit(model, loss, optimizer, data, epochs=3, group=group)

in a program that is started by `mpiexec -n 4 python program.py`; `xpnet train --workers 4` starts itself so. It needs
the extra `mpi`; on several machines it needs nothing more, `mpiexec` knows how to reach them.

- Every process has the whole model, and of each batch a part: `batch_size` is that of all together. Between backward
  and clipping the gradients are added up over the processes and divided by the weight of the whole batch, so the update
  is the one that a process alone would make, but for rounding, and the same in all. For one number of processes the
  bits are the same each time.
- Processes of one machine share the update (`Optimizer.shared_by`): each adds up the gradients of a part of the
  parameters, updates these, and takes the rest from the others. So during an epoch each has the optimizer's state of
  its part alone; callbacks, checkpoints and who trains on have the whole.
- Every process draws its own dropout masks and augmentation. So runs with both differ from those of a process alone, as
  much as those of another seed.
- Statistics of a batch (`BatchNorm`) are each process's own, of its part of the batch. After each step the running ones
  are the mean over the processes. A part of a single sample has no variance, which is an error as it is in a process
  alone: choose a batch size that leaves no such last batch.
- The first process (`group.rank == 0`) writes checkpoints, prints, calls callbacks; what it finds decides for all. What
  a callback changes of parameters and optimizer, all processes take over; a schedule that reads something else must
  read the same in all, or they are told so. A run that was ended goes on from its checkpoint in a group of any size.
- An error in one process, or its death, ends all; so does `sys.exit` within a run, and not before or after it. Ctrl-C
  ends all after the same step.
- On a CPU a process multiplies on one BLAS thread, unless the backend was given more: start as many as there are free
  cores. Where other work runs on them, every step waits for the process that is last, and one alone may be faster.
- On GPUs each process has one of its own (`select(f"cuda:{group.machine_rank}")`); they meet through NCCL. Written and
  tested on stand-ins: it has never run on GPUs. Steps in a group are not captured.

Li, Zhao, Varma et al., "PyTorch Distributed: Experiences on accelerating data parallel training" (VLDB 2020), describe
the same for PyTorch.
"""

from xpnet.parallel.group import ALONE, Group, OthersFailed
from xpnet.parallel.mpi import join

__all__ = ["ALONE", "Group", "OthersFailed", "join"]
