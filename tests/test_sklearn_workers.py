"""`n_jobs`: several processes train an estimator, with the result of one."""

from __future__ import annotations

import importlib.util
import io
import os
import pickle
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import nn, optim
from xpnet.verify.strict import StrictBackend

pytest.importorskip("sklearn", reason='scikit-learn is not installed: pip install -e ".[sklearn]"')

from sklearn.base import clone
from sklearn.datasets import load_iris

from xpnet.parallel import launch
from xpnet.sklearn import XPClassifier, XPRegressor, estimator, workers
from xpnet.train import worker
from xpnet.train.worker import packed, unpacked

needs_mpi = pytest.mark.skipif(
    importlib.util.find_spec("mpi4py") is None
    or shutil.which("mpiexec", path=str(Path(sys.executable).parent)) is None,
    reason='needs mpi4py and mpiexec: pip install "xpnet[mpi]"',
)
X, Y = load_iris(return_X_y=True)


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch):
    monkeypatch.setenv("XPNET_DEVICE", "cpu")


def quick(kind=XPClassifier, **options):
    return kind(**{"hidden_layer_sizes": (16,), "epochs": 6, "learning_rate": 0.02, "random_state": 0, **options})


@needs_mpi
def test_workers_give_the_result_of_one_process_also_when_they_go_on(monkeypatch):
    commands, real = [], workers._run
    monkeypatch.setattr(workers, "_run", lambda command, show: (commands.append(command), real(command, show))[1])
    one = quick(early_stopping=True, patience=1, epochs=40, learning_rate=0.1)
    two = clone(one).set_params(n_jobs=2)
    for trained in (one, two):
        trained.fit(X, Y, sample_weight=1.0 + Y)
    assert one.n_iter_ == two.n_iter_ < 40
    np.testing.assert_allclose(two.predict_proba(X), one.predict_proba(X), rtol=1e-9)
    np.testing.assert_array_equal(two._optimizer.steps, one._optimizer.steps)
    for trained in (one, two):
        trained.partial_fit(X, Y)
    np.testing.assert_allclose(two.predict_proba(X), one.predict_proba(X), rtol=1e-9)
    assert [command[1:3] for command in commands] == [["-n", "2"]] * 2
    assert not any(Path(command[-1]).exists() for command in commands), "their folders are gone"


@needs_mpi
def test_a_layer_of_ones_own_goes_along_and_its_error_comes_back(capsys):
    class Fragile(nn.Layer):
        def forward(self, x, backend):
            if backend.training and len(x) < 32:  # the part of one process of two
                raise LookupError("lost")
            return x, lambda dy, need_dx=True: dy

    network = nn.Sequential(nn.Linear(4), Fragile())
    regressor = XPRegressor(network=network, epochs=1, n_jobs=2, batch_size=50, verbose=True)
    with pytest.raises(RuntimeError, match=r"the workers failed:\n(.|\n)*LookupError: lost"):
        regressor.fit(X, Y)
    assert "LookupError: lost" in capsys.readouterr().err
    assert not hasattr(regressor, "history_")


@needs_mpi
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="looks for processes in /proc")
def test_ctrl_c_leaves_no_process_behind(monkeypatch, tmp_path):
    class Terminal(io.StringIO):
        def write(self, text):
            super().write(text)
            if self.getvalue().count("\n") == 2:
                raise KeyboardInterrupt

    monkeypatch.setattr(sys, "stderr", Terminal())
    job = "import os, sys, time; os.write(2, b'%d\\n' % os.getpid()); time.sleep(20); open(sys.argv[1], 'w')"
    with pytest.raises(KeyboardInterrupt):
        workers._run([launch.mpiexec(), "-n", "2", sys.executable, "-c", job, str(tmp_path / "end")], show=True)
    started = [Path("/proc", number) for number in sys.stderr.getvalue().split()]
    assert len(started) == 2
    assert not (tmp_path / "end").exists(), "nobody has waited for the workers"
    for _ in range(200):
        if not any(path.exists() for path in started):
            return
        time.sleep(0.1)
    pytest.fail("the workers still run")


# Without any process --------------------------------------------------------------------------------------------


def test_what_goes_to_a_worker_and_comes_back_is_all_there_is(monkeypatch):
    """The work done in this process alone: bit for bit what `fit` does, random stream and all."""
    monkeypatch.setattr(workers, "mpiexec", lambda: "mpiexec")
    monkeypatch.setattr(workers, "_run", lambda command, show: worker.work(command[-1]))
    network = nn.Sequential(nn.Linear(8), nn.Dropout(0.5))
    one = quick(network=network, hidden_layer_sizes=(100,), early_stopping=True, patience=2)
    two = clone(one).set_params(n_jobs=2)
    for trained in (one, two):
        trained.fit(X, Y).partial_fit(X, Y)
        trained.model_.freeze("layers.1.*")
        before = trained.model_.parameters["layers.1.layers.0.W"].data.copy()
        trained.partial_fit(X, Y)
        np.testing.assert_array_equal(trained.model_.parameters["layers.1.layers.0.W"].data, before)
    np.testing.assert_array_equal(two.model_.data, one.model_.data)
    np.testing.assert_array_equal(two.model_.backend.rng.state, one.model_.backend.rng.state)
    for mine, theirs in zip(two._optimizer.tensors().values(), one._optimizer.tensors().values(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    "make",
    [
        lambda model: optim.Adam(model, betas=(0.5, 0.9), eps=1e-5),
        lambda model: optim.SGD(model, 0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
        lambda model: optim.RMSProp(model, rho=0.5),
        lambda model: optim.NAdam(model, momentum_decay=0.1),
        lambda model: optim.Muon(model, momentum=0.5, groups={"*.b": {"lr": 0.1}, "*.W": {"weight_decay": 2.0}}),
    ],
)
def test_an_optimizer_keeps_its_options_on_the_way(make):
    model = nn.Model(nn.mlp([4, 3, 2]), (4,), xpnet.select("cpu"))
    optimizer, gradient = make(model), np.linspace(-1, 1, model.n_parameters)
    step = lambda optimizer: (optimizer.model.grad.__setitem__(..., gradient), optimizer.step())
    step(optimizer)
    copied = model.to(xpnet.select("cpu"))
    again = unpacked(copied, pickle.loads(pickle.dumps(packed(optimizer))))
    assert (type(again), again.lr, again.described) == (type(optimizer), optimizer.lr, optimizer.described)
    for one in (optimizer, again):
        step(one)
    assert copied.data.tobytes() == model.data.tobytes()


def test_an_optimizer_that_does_not_keep_its_options_is_refused():
    class Hidden(optim.SGD):
        def __init__(self, model, lr, half=False):
            super().__init__(model, lr, momentum=0.5 if half else 0.0)

    model = nn.Model(nn.Linear(2), (4,), xpnet.select("cpu"))
    with pytest.raises(
        ValueError,
        match="Hidden cannot be made again in the workers: keep each argument of its __init__ as an attribute",
    ):
        unpacked(model, packed(Hidden(model, 0.1, half=True)))
    assert unpacked(model, packed(Hidden(model, 0.1))).momentum == 0


def test_how_many_processes_that_is():
    cores = workers.n_workers(-1)
    assert 1 <= cores <= os.cpu_count()
    assert [workers.n_workers(n) for n in (None, 1, np.int64(3))] == [1, 1, 3]
    assert workers.n_workers(-2) == max(cores - 1, 1)
    for n in (0, True, 2.0, "all"):
        with pytest.raises(ValueError, match=rf"n_jobs must be None, a number of processes, or -1.*not {n!r}"):
            quick(n_jobs=n).fit(X, Y)


def test_without_mpi_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: f"/bin/{name}")
    with pytest.raises(xpnet.BackendError, match=r'there is no mpi4py: pip install "xpnet\[mpi\]"'):
        quick(n_jobs=2).fit(X, Y)


def test_workers_are_on_the_cpu_and_not_inside_of_others(monkeypatch):
    monkeypatch.setattr(workers, "mpiexec", lambda: "mpiexec")
    monkeypatch.setattr(workers, "_run", lambda *command: pytest.fail("was started"))
    with monkeypatch.context() as patched:
        patched.setenv("PMI_SIZE", "2")
        with pytest.raises(ValueError, match="n_jobs=2 starts processes of its own: leave it out in a program"):
            quick(n_jobs=2).fit(X, Y)
    monkeypatch.setattr(estimator, "chosen", lambda *asked: "strict")
    monkeypatch.setattr(estimator, "select", lambda device, dtype, seed: StrictBackend(dtype, seed))
    with pytest.raises(
        ValueError, match="n_jobs=2 starts processes on the CPU, but the device is strict: leave out one"
    ):
        quick(n_jobs=2).fit(X, Y)


def test_what_cannot_begin_leaves_what_was_trained(monkeypatch):
    monkeypatch.setattr(workers, "_run", lambda *command: pytest.fail("was started"))
    trained = quick().fit(X, Y)
    model, answers = trained.model_, trained.predict_proba(X)
    trained.set_params(n_jobs=2)
    with monkeypatch.context() as patched:
        patched.setattr(workers, "mpiexec", lambda: "mpiexec")
        patched.setenv("PMI_SIZE", "2")
        for train in (trained.fit, trained.partial_fit):
            with pytest.raises(ValueError, match="n_jobs=2 starts processes of its own"):
                train(X[:, :2] if train == trained.fit else X, Y)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None)
    with pytest.raises(xpnet.BackendError, match="there is no mpiexec"):
        trained.fit(X[:, :2], Y)
    with pytest.raises(ValueError, match="unknown optimizer 'newton'"):
        trained.set_params(n_jobs=None, optimizer="newton").fit(X, Y)
    assert trained.model_ is model
    np.testing.assert_array_equal(trained.predict_proba(X), answers)
