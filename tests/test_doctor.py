"""The facts about this machine, and the page and the JSON object that `xpnet doctor` makes of them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from xpnet import Backend, probe
from xpnet.cli import doctor
from xpnet.doctor import machine, report
from xpnet.probe import installed

NO_CUPY = probe.Diagnosis("no-cupy", "CuPy is not installed", 'pip install "xpnet[cuda12]"')


@pytest.fixture(autouse=True)
def laptop(monkeypatch, tmp_path):
    """A machine without a GPU, with its cache in a folder of the test."""
    for name in ("XPNET_DATA", "XPNET_DEVICE", "CUPY_CACHE_DIR", *machine.THREAD_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XPNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(probe, "cuda", lambda ordinal=0: NO_CUPY)
    monkeypatch.setattr(report, "driver_version", lambda: 0)
    monkeypatch.setattr(report, "cupy_distributions", dict)


def spoil_products(monkeypatch, spoil):
    right = Backend.matmul
    monkeypatch.setattr(Backend, "matmul", lambda self, a, b, out=None: spoil(right(self, a, b, out)))


def gpu_machine(monkeypatch, *diagnoses):
    """As if there were these GPUs. Their products are the CPU's."""
    monkeypatch.setattr(probe, "cuda", lambda ordinal=0: diagnoses[ordinal])
    cpu_only = report.select
    monkeypatch.setattr(report, "select", lambda device=None: cpu_only("cpu"))
    gpus = [
        {
            "device": f"cuda:{i}", "name": "Fake GPU", "compute_capability": "8.6", "memory_total": 2**33,
            **report._plain(diagnosis),
        }
        for i, diagnosis in enumerate(diagnoses)
    ]  # fmt: skip
    monkeypatch.setattr(report, "_gpus", lambda first: gpus)


# The facts ------------------------------------------------------------------------------------------------------


def test_a_laptop_is_well():
    found = report.machine_report()
    assert (found["ok"], found["problems"]) == (True, [])
    assert found["software"]["numpy"] == np.__version__
    assert found["choice"]["device"] == "cpu"
    assert "CuPy is not installed" in found["choice"]["why"]
    assert [row["device"] for row in found["products"]] == ["cpu"]
    assert found["gpu"]["state"] == "no-cupy"
    assert found["gpu"]["driver_cuda"] is None


def test_the_report_survives_json():
    found = report.machine_report()
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_cpu_is_described():
    cpu = machine.cpu()
    assert 1 <= cpu["usable"] <= cpu["count"]
    assert cpu["blas"]["name"] != "unknown"
    assert cpu["blas"]["threads"] is None or cpu["blas"]["threads"] >= 1
    total, available = machine.memory()
    assert total is None or total > 2**28
    assert available is None or 0 < available <= total
    assert (available is not None) == os.path.exists("/proc/meminfo")


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="needs a system that ties processes to processors")
def test_the_usable_processors_are_those_of_this_process():
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(own)})
    try:
        assert machine.cpu()["usable"] == 1
    finally:
        os.sched_setaffinity(0, own)


def test_a_right_product_is_within_the_limit_for_any_seed():
    rows = [report.product("cpu", seed) for seed in range(3)]
    assert all(row["ok"] and 1e-9 < row["error"] < row["limit"] for row in rows)
    assert len({row["error"] for row in rows}) == 3
    assert rows[0].keys() == {"device", "ok", "error", "limit", "seconds", "why_not"}


@pytest.mark.parametrize(
    ("spoil", "error"),
    [(lambda y: y + np.float32(0.01), True), (lambda y: y * np.float32("nan"), False), (lambda y: 0 * y, True)],
)
def test_a_wrong_product_is_a_problem(monkeypatch, spoil, error):
    spoil_products(monkeypatch, spoil)
    found = report.machine_report()
    assert not found["ok"]
    assert found["problems"][0]["what"].startswith("cpu: a float32 product is wrong by")
    assert "numpy" in found["problems"][0]["fix"]
    assert (found["products"][0]["error"] is not None) == error
    json.dumps(found, allow_nan=False)


def test_half_precision_would_not_pass(monkeypatch):
    spoil_products(monkeypatch, lambda y: y.astype(np.float16).astype(np.float32))
    assert not report.product("cpu")["ok"]


def test_a_product_that_raises_is_a_problem_not_a_crash(monkeypatch):
    def fail(y):
        raise RuntimeError("no BLAS today")

    spoil_products(monkeypatch, fail)
    found = report.machine_report()
    assert found["problems"][0]["what"] == "cpu: RuntimeError: no BLAS today"


@pytest.mark.parametrize(
    ("cache", "why"),
    [("{file}/cache", "Not a directory"), (os.devnull, "Not a directory"), ("~nobody-here/cache", "home")],
)
def test_a_cache_that_cannot_be_written_is_a_problem(monkeypatch, tmp_path, cache, why):
    (tmp_path / "file").write_text("")
    cache = cache.format(file=tmp_path / "file")
    monkeypatch.setenv("XPNET_CACHE", cache)
    found = report.machine_report()
    assert not found["ok"]
    assert found["problems"][0]["what"].startswith(f"downloads cannot be kept in {cache} (asked for by XPNET_CACHE): ")
    assert why in found["problems"][0]["what"]
    assert "set the environment variable XPNET_CACHE" in found["problems"][0]["fix"]


def test_folders_are_tested_and_left_alone(tmp_path):
    place = machine.folder(tmp_path / "new")
    assert place["writable"]
    assert not place["exists"]
    assert place["free"] > 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["cuda", "cuda:3", "abacus"])
def test_a_device_that_was_asked_for_and_does_not_work_is_a_problem(monkeypatch, device):
    monkeypatch.setenv("XPNET_DEVICE", device)
    found = report.machine_report()
    assert found["choice"]["device"] is None
    assert device in found["problems"][0]["what"]
    assert "XPNET_DEVICE" in found["problems"][0]["what"]
    assert "XPNET_DEVICE" in found["problems"][0]["fix"]


@pytest.mark.parametrize("folder", ["no/such/folder", "~nobody-here/data"])
def test_a_data_folder_that_is_none_is_a_problem(monkeypatch, folder):
    monkeypatch.setenv("XPNET_DATA", folder)
    (problem,) = report.machine_report()["problems"]
    assert problem["what"] == f"XPNET_DATA is set to {folder!r}, which is not a folder"


def test_only_variables_that_matter_are_told(monkeypatch):
    monkeypatch.setenv("XPNET_DEVICE", "cpu")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setenv("CUPY_TF32", "1")
    threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    for name in threads:
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("MY_PASSWORD", "secret")
    told = machine.environment()
    assert told["XPNET_DEVICE"] == "cpu"
    assert told["CUDA_VISIBLE_DEVICES"] == ""
    assert told["CUPY_TF32"] == "1"
    assert [told[name] for name in threads] == ["2"] * 3
    assert "MY_PASSWORD" not in told


def test_a_cache_without_a_home_has_no_path(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XPNET_CACHE")
    monkeypatch.setattr(report, "cache_folder", nowhere)
    assert (report._downloads()["path"], report._downloads()["writable"]) == ("", False)


def test_every_gpu_that_works_computes_a_product(monkeypatch):
    fault = probe.Diagnosis("fault", "CUDA fails", "reboot")
    gpu_machine(monkeypatch, probe.Diagnosis("ok", "Fake GPU"), fault)
    found = report.machine_report()
    assert [row["device"] for row in found["products"]] == ["cpu", "cuda:0"]
    assert [gpu["ok"] for gpu in found["gpu"]["devices"]] == [True, False]
    assert found["ok"]


def test_tf32_is_named_where_it_spoils_a_product(monkeypatch):
    monkeypatch.setenv("CUPY_TF32", "1")
    assert report._product_fix("cuda:0") == "unset the environment variable CUPY_TF32"
    monkeypatch.setenv("CUPY_TF32", "0")
    assert "XPNET_DEVICE" in report._product_fix("cuda:0")


# The page -------------------------------------------------------------------------------------------------------


def test_the_page_of_a_laptop(capsys):
    assert doctor.doctor() == 0
    page = capsys.readouterr().out
    assert "no GPU is used" in page
    assert "not ok" not in page
    assert "programs run on cpu by default" in page
    assert 'pip install "xpnet[cuda12]"' in [line.strip() for line in page.splitlines()]


def test_commands_are_never_broken_nor_eaten_as_markup(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    command = 'pip install "xpnet[cuda12]" and [bold]much[/bold] more than fits in a narrow window'
    monkeypatch.setattr(probe, "cuda", lambda ordinal=0: probe.Diagnosis("no-cupy", "none", f"first\n{command}"))
    doctor.doctor()
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines.index(command) == lines.index("first") + 1


@pytest.mark.parametrize(
    ("name", "value", "what", "fix"),
    [
        (
            "XPNET_CACHE", os.devnull, f"downloads cannot be kept in {os.devnull} (asked for by XPNET_CACHE)",
            "set the environment variable XPNET_CACHE to a folder that can be written",
        ),
        (
            "XPNET_DEVICE", "abacus", "XPNET_DEVICE: unknown device 'abacus'",
            "set the environment variable XPNET_DEVICE to auto or cpu",
        ),
    ],
)  # fmt: skip
def test_a_problem_is_shown_with_its_fix_and_fails(capsys, monkeypatch, name, value, what, fix):
    monkeypatch.setenv(name, value)
    assert doctor.doctor() == 1
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines.index(fix) > next(i for i, line in enumerate(lines) if line.startswith(f"not ok  {what}"))


def test_a_wrong_product_is_shown_and_fails(capsys, monkeypatch):
    spoil_products(monkeypatch, lambda y: y * np.float32("nan"))
    assert doctor.doctor() == 1
    assert "not ok  cpu: a float32 product is wrong by nan" in capsys.readouterr().out


def test_gpus_are_shown_one_by_one(capsys, monkeypatch):
    gpu_machine(monkeypatch, probe.Diagnosis("ok", "Fake GPU"), probe.Diagnosis("fault", "CUDA fails", "reboot"))
    assert doctor.doctor() == 0
    page = capsys.readouterr().out
    assert "ok      cuda:0: Fake GPU, compute capability 8.6, 8.0 GiB" in page
    assert "not ok  cuda:1: Fake GPU" in page
    assert "reboot" in [line.strip() for line in page.splitlines()]
    assert "no GPU is used" not in page


def test_unknown_memory_is_said_to_be_unknown(capsys, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: (None, None))
    doctor.doctor()
    assert "memory: unknown" in capsys.readouterr().out


def test_a_name_that_the_terminal_cannot_show_does_no_harm(capsys, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", "d\udce9j\u00e0")  # a folder's name that is not UTF-8
    assert doctor.doctor() == 1  # and there is no such folder
    assert "XPNET_DATA=d\\udce9j\u00e0" in capsys.readouterr().out


def test_json_is_one_object_and_nothing_else(capsys, tmp_path):
    assert doctor.doctor(as_json=True) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert captured.err == ""
    assert report["folders"]["data"]["path"] == str(tmp_path / "cache")


def test_the_kernel_cache_is_where_cupy_keeps_it(monkeypatch, tmp_path):
    assert installed.kernel_cache() == Path.home() / ".cupy" / "kernel_cache"
    monkeypatch.setitem(os.environ, "CUPY_CACHE_DIR", str(tmp_path))
    assert installed.kernel_cache() == tmp_path


def test_a_user_without_a_home_has_a_report(monkeypatch, capsys):
    pwd = pytest.importorskip("pwd", reason="Windows knows users in another way")
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # raises KeyError, as it does
    assert installed.kernel_cache() == Path("~/.cupy/kernel_cache")
    doctor.doctor(as_json=True)
    assert json.loads(capsys.readouterr().out)["folders"]["kernels"]["path"] == "~/.cupy/kernel_cache"
