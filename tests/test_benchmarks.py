"""The harness of `make bench`: what it compares with, what it leaves out, how several processes take part."""

from __future__ import annotations

import json
import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)


def contenders(**medians):
    return {name.replace("_", ", "): {"median": median} for name, median in medians.items()}


@pytest.mark.parametrize(
    ("given", "best"),
    [
        (contenders(ours=1.0, pytorch=5.0, pytorch_compiled=2.0), 5.0),
        ({"pytorch, 2 threads": {"median": 4.0}, "pytorch, tuned malloc, 2 threads": {"median": 3.0}}, 4.0),
        (contenders(ours=1.0, numpy=6.0, pytorch=5.0), 6.0),
        (contenders(ours=1.0, jaxed=0.5), None),
    ],
)
def test_the_ratio_is_to_the_fastest_eager_pytorch_as_installed(given, best):
    from benchmarks.bench_report import best_rival

    assert best_rival(given) == best


def test_processes_that_fail_or_give_a_wrong_answer_are_left_out(capsys):
    from benchmarks.processes import race

    commands = {
        "right": ["-c", "import sys; print(0.99, file=sys.stdout)"],
        "wrong": ["-c", "print(0.5)"],
        "fails": ["-c", "raise SystemExit('no such package')"],
    }
    found = race(commands, rounds=2, check=lambda printed: float(printed) > 0.9)
    assert list(found) == ["right"]
    assert len(found["right"]) == 2
    assert all(wall > 0 and processor > 0 for wall, processor in found["right"])
    said = capsys.readouterr().err
    assert "left out: wrong: 0.5" in said
    assert "left out: fails: no such package" in said


def test_each_round_of_a_cold_start_has_a_seed_of_its_own(tmp_path):
    from benchmarks.processes import race

    code = f"import sys; open({str(tmp_path / 'seeds')!r}, 'a').write(sys.argv[1])"
    race({"one": ["-c", code]}, rounds=3, seeds=True)
    assert (tmp_path / "seeds").read_text() == "0012"  # the first round is not counted


def test_an_installed_size_is_that_of_all_that_is_required(tmp_path):
    from benchmarks.installed import files, size, table

    found = files("rich")
    assert {"rich", "pygments"} <= found.keys()
    assert size(found["rich"], compiled=True) >= size(found["rich"], compiled=False) > 100_000
    ours = files("xpnet")
    assert {"xpnet", "numpy", "rich", "pygments"} <= ours.keys()
    assert not {"matplotlib", "fastapi", "torch"} & ours.keys()  # those are extras, or nothing of ours
    assert ROOT / "xpnet" / "nn" / "layer.py" in ours["xpnet"]
    assert not any("__pycache__" in path.parts for path in ours["xpnet"])
    source = ROOT / "xpnet" / "nn" / "layer.py"
    compiled = Path(py_compile.compile(str(source), cfile=str(tmp_path / "layer.pyc")))
    assert size([source], compiled=True) == source.stat().st_size + compiled.stat().st_size
    assert table().count("\n") >= 3


def test_two_workers_take_the_same_steps_as_one_process():
    """The same losses; orders reach both, and both end when there are no more."""
    pytest.importorskip("mpi4py", reason="the workers of the harness need mpi4py")
    from xpnet.cli.workers import mpiexec

    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}
    losses = []
    for start, name in (([], "ours"), ([mpiexec(), "-n", "2"], "ours, 2 workers")):
        command = [*start, sys.executable, "-m", "benchmarks.bench", "--serve", "mlp-64", name]
        done = subprocess.run(command, env=environment, input="1\n2\n", capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        first, *rounds = done.stdout.splitlines()
        losses.append(json.loads(first)["losses"])
        assert [len(line.split()) for line in rounds] == [2, 2]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert len(set(losses[0])) == 5


def test_a_work_of_which_all_contenders_were_left_out_is_left_out_too(tmp_path, monkeypatch):
    from benchmarks import bench

    times = {name: [(1.0, 1.0), (2.0, 1.0)] for name in ("ours", "numpy", "pytorch", "jaxed", "scikit")}
    works = {"imports": ("imports", lambda _: times), "cold-start": ("from a cold start", lambda _: {})}
    monkeypatch.setattr(bench, "PROCESSES", works)
    monkeypatch.setattr(sys, "argv", ["bench", *works, "--rounds", "2", "--out", str(tmp_path)])
    bench.main()
    assert list(json.loads((tmp_path / "bench.json").read_text())["works"]) == ["imports"]
    assert (tmp_path / "bench.png").exists()
