"""What `test_mpi.py` runs under mpiexec: `python mpi_job.py JOB FOLDER`. The first process writes what came out."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from xpnet import data, losses, nn, optim, parallel, train
from xpnet.backend import Backend
from xpnet.parallel.mpi import MpiGroup


def samples():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 50)
    return data.Dataset((np.eye(3)[y] + 0.5 * rng.standard_normal((50, 3))).astype(np.float32), y, weights=1 + y)


def trained(group, **options):
    layers = [nn.Linear(8), nn.BatchNorm(), nn.ReLU(), nn.Dropout(0.3), nn.Linear(3)]
    model = nn.Model(nn.Sequential(*layers), (3,), Backend("float32", 3))
    result = train.fit(
        model, losses.SoftmaxCrossEntropy(), optim.AdamW(model, 0.01), samples(), samples()[:21], epochs=3,
        batch_size=25, clip=1.0, quiet=True, group=group, **options,
    )  # fmt: skip
    return model, result


def sums(group: MpiGroup, folder: Path) -> None:
    """Every way to add up, against the sum in the order of the ranks; what differs is an AssertionError."""
    from mpi4py import MPI

    def gradients(rank):
        return np.random.default_rng(rank).standard_normal(1000).astype(np.float32)

    expected = sum((gradients(rank) for rank in range(1, group.size)), start=gradients(0))
    # On one machine, and as on two of so many processes: the sum, the parameters, and numbers of all, again and again.
    n, half = 1000, (group.size + 1) // 2
    two = MPI.COMM_WORLD.Split(group.rank // half, group.rank)
    for several in (group, MpiGroup(MPI.COMM_WORLD, two)):
        window = several.window(np.empty(n, np.float32))
        if several is not group and group.size % 2:  # machines with different numbers of processes
            assert window is None
            continue
        assert several.window(window.grad) is window
        assert not window.grad.any()
        of_machine = group.size if several is group else half
        assert window.own == slice(n * several.machine_rank // of_machine, n * (several.machine_rank + 1) // of_machine)
        values = np.zeros(n, np.float32)
        for _ in range(20):
            window.grad[...] = gradients(group.rank)
            assert window.sum_gradients(window.grad, 1 + group.rank) == group.size * (group.size + 1) / 2
            np.testing.assert_allclose(window.grad[window.own], expected[window.own], rtol=1e-5, atol=1e-6)
            assert window.gather(several.machine_rank, 3).tolist() == [[rank, 3] for rank in range(of_machine)]
            values[window.own] += window.grad[window.own]
            window.exchange(values)
        np.testing.assert_allclose(values, 20 * expected, rtol=1e-4, atol=1e-4)
        assert len(set(group.gather(values.tobytes()))) == 1
    elsewhere = gradients(group.rank)
    assert group.sum_gradients(elsewhere, 0.5) == group.size / 2
    np.testing.assert_allclose(elsewhere, expected, rtol=1e-5, atol=1e-6)
    assert group.sum(gradients(group.rank)).tobytes() == expected.tobytes()
    assert group.sum(2) == 2 * group.size
    assert [group.any(group.rank == 1), group.any(False)] == [True, False]
    assert group.gather(group.rank) == list(range(group.size))
    assert group.first(lambda: group.rank) == 0
    assert group.machine_rank == group.rank
    assert parallel.join() is group


def fits(group: MpiGroup, folder: Path) -> None:
    """A run, the same again, and one that is cut off and resumed."""
    model, _ = trained(group)
    again, _ = trained(group)
    trained(group, checkpoint=folder / "run", callbacks=[lambda row, model: row["epoch"] == 1])
    resumed, _ = trained(group, checkpoint=folder / "run", resume=True)
    for other in (again, resumed):
        assert other.data.tobytes() == model.data.tobytes()
    assert len(set(group.gather(model.data.tobytes()))) == 1
    group.first(lambda: model.save(folder / "model"))
    halved, _ = trained(group, callbacks=[lambda row, model: model.data.__imul__(0.5)])
    assert len(set(group.gather(halved.data.tobytes()))) == 1
    assert halved.data.tobytes() != model.data.tobytes()


def error(group: MpiGroup, folder: Path) -> None:
    """Something goes wrong in the last process alone, in the midst of a run."""

    def astray(x, backend):
        if group.rank == group.size - 1:
            raise LookupError("lost")
        return x

    trained(group, augment=astray)


def leaves(group: MpiGroup, folder: Path) -> None:
    """The first process leaves by `sys.exit`, as callbacks do."""
    trained(group, callbacks=[lambda row, model: sys.exit(3)])


def shared_error(group: MpiGroup, folder: Path) -> None:
    trained(group, checkpoint=folder / "missing" / "run")


if __name__ == "__main__":
    {"sums": sums, "fits": fits, "error": error, "leaves": leaves, "shared_error": shared_error}[sys.argv[1]](
        parallel.join(), Path(sys.argv[2])
    )
