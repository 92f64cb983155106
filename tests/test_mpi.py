"""Groups under mpiexec: sums in shared memory and between machines, whole runs, and how they end."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import call

import xpnet
from xpnet.parallel import launch

HERE = Path(__file__).parent
MPIEXEC = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
pytestmark = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason='needs mpi4py and mpiexec: pip install "xpnet[mpi]"',
)
ENVIRONMENT = {**os.environ, "XPNET_DEVICE": "cpu", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}


def job(size, *arguments):
    command = [MPIEXEC, "-n", str(size), sys.executable, HERE / "mpi_job.py", *arguments]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, timeout=100, check=False)


def command(*arguments, mpiexec=()):
    line = [*mpiexec, sys.executable, "-m", "xpnet", *map(str, arguments)]
    return subprocess.Popen(line, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        return [float(row["train_loss"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("size", [3, 4])
def test_gradients_are_added_up(size, tmp_path):
    done = job(size, "sums", tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_run_has_the_same_bits_each_time_also_resumed(tmp_path):
    done = job(2, "fits", tmp_path)
    assert done.returncode == 0, done.stderr
    assert np.isfinite(xpnet.load(tmp_path / "model", device="cpu").data).all()


def test_an_error_in_one_process_ends_all_with_its_message(tmp_path):
    done = job(2, "error", tmp_path)
    assert done.returncode != 0
    assert "process 1 of 2:" in done.stderr
    assert "LookupError: lost" in done.stderr


def test_a_process_that_leaves_in_the_midst_of_a_run_ends_all(tmp_path):
    done = job(2, "leaves", tmp_path)
    assert done.returncode == 3
    assert "sys.exit(3) in one process ends the run of 2 processes" in done.stderr


def test_an_error_that_all_have_is_said_once(tmp_path):
    done = job(2, "shared_error", tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("Traceback") == 1
    assert "missing" in done.stderr
    assert "Abort" not in done.stderr


def test_workers_train_and_one_of_them_speaks_and_writes(tmp_path):
    settings = ["train", "--epochs", "2", "--dropout", "0", "--json", "--quiet", "--val", "0.2"]
    done = command(*settings, "--workers", "2", "--out", tmp_path / "two")
    out, err = done.communicate(timeout=100)
    assert done.returncode == 0, err
    assert json.loads(out)["epochs"] == 2
    assert err.count("results in") == 1
    assert "2 workers, 1 BLAS thread each" in err
    call(*settings, "--device", "cpu", "--out", tmp_path / "one")
    np.testing.assert_allclose(history(tmp_path / "two"), history(tmp_path / "one"), rtol=1e-4)
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert "workers = 2\n" in (tmp_path / "two" / "config.toml").read_text()


def started(folder, *options):
    """A run by two workers that has done an epoch, and the processes' numbers by rank."""
    run = command("train", "--epochs", "2000", "--workers", "2", "--schedule", "constant", "--out", folder, *options)
    lines = []
    while "epoch   1/" not in (line := run.stderr.readline()):
        assert line, "".join(lines)
        lines.append(line)
    ranks = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            variables = dict(v.split("=", 1) for v in (path / "environ").read_text().split("\0") if "=" in v)
            if "PMI_RANK" in variables and str(folder) in (path / "cmdline").read_text():
                ranks[int(variables["PMI_RANK"])] = int(path.name)
        except OSError:
            pass
    return run, ranks


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the processes in /proc")


@needs_proc
def test_killing_one_worker_ends_the_run_which_goes_on_with_another_number(tmp_path):
    run, ranks = started(tmp_path / "run")
    os.kill(ranks[1], signal.SIGKILL)
    begun = time.monotonic()
    _, err = run.communicate(timeout=60)
    assert time.monotonic() - begun < 30
    assert run.returncode != 0
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("epochs = 2000", "epochs = 1"))
    epochs = len(xpnet.nn.saving.read_tensors(checkpoint)[1]["run"]["history"])
    resumed = command("train", "--resume", tmp_path / "run", "--epochs", epochs + 1, mpiexec=[MPIEXEC, "-n", "3"])
    out, err = resumed.communicate(timeout=100)
    assert resumed.returncode == 0, err
    assert len(history(tmp_path / "run")) == epochs + 1
    assert "3 workers" in out


@needs_proc
def test_ctrl_c_ends_all_workers_with_the_work_kept(tmp_path):
    run, ranks = started(tmp_path / "run")
    assert sorted(ranks) == [0, 1]
    run.send_signal(signal.SIGINT)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 1
    assert "To go on: " in err
    assert "Traceback" not in err
    assert "test accuracy" in out
    assert (tmp_path / "run" / "model.safetensors").exists()


def test_a_number_of_workers_that_cannot_be():
    assert "--workers must be at least 1, not 0" in call("train", "--workers", "0", code=2).stderr
    most = max(os.cpu_count(), 8)
    refused = call("train", "--workers", str(most + 1), code=2).stderr
    assert f"--workers {most + 1}: each takes a core of this machine, and up to {most} are started" in refused
    run = command("train", "--workers", "3", mpiexec=[MPIEXEC, "-n", "2"])
    _, err = run.communicate(timeout=60)
    assert (run.returncode, err.count("--workers 3 under mpiexec -n 2: leave one of them out")) == (2, 1), err


def test_without_mpi_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(xpnet.BackendError, match=r'there is no mpiexec: pip install "xpnet\[mpi\]"'):
        launch.mpiexec()
