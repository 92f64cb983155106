"""Every state that `probe.cuda` can find, with stand-ins for CuPy: no GPU is needed, and none is used."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from xpnet import probe
from xpnet.probe import installed, obstacles

CUDA12, CUDA13 = 'pip install "xpnet[cuda12]"', 'pip install "xpnet[cuda13]"'


class CudaError(RuntimeError):
    """What CuPy raises for an error of the CUDA runtime."""

    def __init__(self, status: int, text: str = "cudaErrorSomething: no luck"):
        super().__init__(text)
        self.status = status


class OutOfMemoryError(MemoryError):
    """Known by its name, as CuPy's is."""


class Device:
    compute_capability = "86"

    def __init__(self, ordinal: int):
        self.ordinal = ordinal

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


class FakeCupy(types.ModuleType):
    """A CuPy that computes with NumPy on one device of a machine with driver and libraries for CUDA 12.9."""

    def __init__(self):
        super().__init__("cupy")
        self.__spec__ = ModuleSpec("cupy", None)
        self.__version__ = "14.2.0"
        self.asarray, self.asnumpy = np.asarray, np.asarray
        self.cuda = types.ModuleType("cupy.cuda")
        self.cuda.Device = type("Device", (Device,), {})
        self.cuda.runtime = types.SimpleNamespace(
            is_hip=False,
            runtimeGetVersion=lambda: 12090,
            driverGetVersion=lambda: 12090,
            getDeviceCount=lambda: 1,
            getDeviceProperties=lambda i: {
                "name": b"Fake GPU", "major": 8, "minor": 6, "totalGlobalMem": 8 * 2**30
            },
        )  # fmt: skip
        self.cuda.nvrtc = types.SimpleNamespace(getSupportedArchs=lambda: (50, 86, 121))


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    """A machine of which nothing is known: no driver, no package, no variable, nothing remembered."""
    for name in ("CUDA_VISIBLE_DEVICES", "CUPY_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(probe, "_working", {})
    monkeypatch.setattr(obstacles, "driver_version", lambda: 0)
    packages(monkeypatch)


@pytest.fixture
def cupy(monkeypatch):
    fake = FakeCupy()
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setitem(sys.modules, "cupy.cuda", fake.cuda)
    packages(monkeypatch, "cupy-cuda12x")
    return fake


def packages(monkeypatch, *names):
    for module in (probe, obstacles, installed):
        monkeypatch.setattr(module, "cupy_distributions", lambda: dict.fromkeys(names, "14.2.0"))


def fails(error):
    def call(*args):
        raise error

    return call


def without_cupy(monkeypatch, driver, platform="linux"):
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(obstacles, "driver_version", lambda: driver)
    return probe.cuda()


# A GPU that works -----------------------------------------------------------------------------------------------


def test_a_gpu_that_computes_right_is_accepted(cupy):
    diagnosis = probe.cuda()
    assert (diagnosis.state, diagnosis.ok, diagnosis.fix) == ("ok", True, "")
    assert "Fake GPU (compute capability 8.6, 8.0 GiB), CuPy 14.2.0 for CUDA 12.9" in diagnosis.detail
    assert str(diagnosis) == diagnosis.detail


def test_success_is_remembered_for_this_process_only(cupy, monkeypatch):
    probe.cuda()
    cupy.cuda.runtime.getDeviceCount = fails(CudaError(3))
    assert probe.cuda().ok
    monkeypatch.setattr(os, "getpid", lambda: -1)  # as after a fork
    diagnosis = probe.cuda()
    assert diagnosis.state == "fault"
    assert '"spawn"' in diagnosis.fix


def test_failure_is_not_remembered(cupy):
    works = cupy.cuda.runtime.getDeviceCount
    cupy.cuda.runtime.getDeviceCount = fails(CudaError(46))
    assert not probe.cuda().ok
    cupy.cuda.runtime.getDeviceCount = works
    assert probe.cuda().ok


def test_the_device_that_was_asked_for_is_tried(cupy):
    cupy.cuda.runtime.getDeviceCount = lambda: 2
    seen = []
    cupy.cuda.Device.__enter__ = lambda self: seen.append(self.ordinal)
    assert probe.cuda(1).ok
    assert seen == [1]


# CuPy -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("driver", "words", "fix"),
    [
        (12020, "for CUDA 12.2", CUDA12),
        (13010, "for CUDA 13.1", CUDA13),
        (11040, "the driver is old", f"update the NVIDIA driver to 525 or newer and reboot\n{CUDA12}"),
        (0, "no NVIDIA driver", f"if there is an NVIDIA GPU, install its driver, 525 or newer\n{CUDA12}"),
    ],
)
def test_no_cupy_names_the_extra_that_fits_the_driver(monkeypatch, driver, words, fix):
    diagnosis = without_cupy(monkeypatch, driver)
    assert (diagnosis.state, diagnosis.fix) == ("no-cupy", fix)
    assert words in diagnosis.detail


def test_no_cupy_on_macos_offers_no_command_that_would_fail(monkeypatch):
    diagnosis = without_cupy(monkeypatch, 0, platform="darwin")
    assert diagnosis.state == "no-cupy"
    assert "macOS" in diagnosis.detail
    assert "pip" not in diagnosis.fix


def test_two_cupys_are_refused_before_they_are_imported(cupy, monkeypatch):
    monkeypatch.setattr(cupy.cuda, "runtime", None)  # would fail if it were looked at
    packages(monkeypatch, "cupy-cuda12x", "cupy-cuda13x")
    monkeypatch.setattr(obstacles, "driver_version", lambda: 13000)
    diagnosis = probe.cuda()
    assert diagnosis.state == "two-cupys"
    assert diagnosis.detail.startswith("cupy-cuda12x and cupy-cuda13x are installed")
    assert diagnosis.fix == f"pip uninstall -y cupy-cuda12x cupy-cuda13x\n{CUDA13}"
    assert str(diagnosis).endswith(f"Fix: pip uninstall -y cupy-cuda12x cupy-cuda13x, then {CUDA13}")


def test_cupy_for_rocm_is_refused(cupy, monkeypatch):
    cupy.cuda.runtime.is_hip = True
    packages(monkeypatch, "cupy-rocm-7-0")
    diagnosis = probe.cuda()
    assert diagnosis.state == "broken-cupy"
    assert "ROCm" in diagnosis.detail
    assert diagnosis.fix == f"pip uninstall -y cupy-rocm-7-0\n{CUDA12}"


def test_a_cupy_that_is_too_old_is_refused(cupy, monkeypatch):
    cupy.__version__ = "13.6.0"
    packages(monkeypatch, "cupy-cuda12x")
    diagnosis = probe.cuda()
    assert (diagnosis.state, diagnosis.detail) == ("broken-cupy", "CuPy 13.6.0 is too old, 14 or newer is needed")
    assert "pip install" in diagnosis.fix


def run(folder: Path, code: str, **environment: str) -> str:
    """What Python prints for `code` in a process of its own, with `folder` in front of its path."""
    path = os.pathsep.join([str(folder), str(Path(probe.__file__).parents[2])])
    env = {**os.environ, "PYTHONPATH": path, **environment}
    result = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return result.stdout


FIND = "from xpnet import probe; f = probe.cuda(); print(f.state, f.detail, f.fix, sep='\\n')"
FIND_HERE = f"""
import importlib.metadata, os
every = importlib.metadata.distributions
importlib.metadata.distributions = lambda: every(path=os.environ["PYTHONPATH"].split(os.pathsep)[:1])
{FIND}
"""  # as if nothing were installed but what lies in the folder


def write_cupy(folder: Path, code: str, *names: str) -> Path:
    (folder / "cupy").mkdir()
    (folder / "cupy" / "__init__.py").write_text(code)
    for name in names:
        info = folder / f"{name.replace('-', '_')}-14.2.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 14.2.0\n")
    return folder


def test_a_broken_cupy_is_told_by_its_cause(tmp_path):
    banner = "try:\n    import no_such_thing\nexcept ImportError as e:\n    raise ImportError('=====') from e\n"
    state, detail, *fix = run(write_cupy(tmp_path, banner, "cupy-cuda12x"), FIND_HERE).splitlines()
    assert state == "broken-cupy"
    assert "cupy-cuda12x 14.2.0" in detail
    assert "No module named 'no_such_thing'" in detail
    assert fix[0] == "pip uninstall -y cupy-cuda12x"
    assert fix[1].startswith('pip install "xpnet[cuda')


def test_any_error_at_import_is_kept(tmp_path):
    code = "raise AttributeError('numpy has no attribute bool8')"
    state, detail, *_ = run(write_cupy(tmp_path, code, "cupy-cuda13x"), FIND_HERE).splitlines()
    assert state == "broken-cupy"
    assert "AttributeError: numpy has no attribute bool8" in detail


def test_that_cupy_finds_no_toolkit_is_no_obstacle_of_its_own(tmp_path):
    code = "import warnings; warnings.warn('CUDA path could not be detected. Set CUDA_PATH.')"
    told = run(
        write_cupy(tmp_path, code, "cupy-cuda12x"), f"import warnings; warnings.simplefilter('error')\n{FIND_HERE}"
    )
    assert "No module named 'cupy.cuda'" in told
    assert "CUDA path" not in told


def test_a_module_that_is_mistaken_for_cupy_is_pointed_at(tmp_path):
    state, detail, fix = run(write_cupy(tmp_path, "answer = 42"), FIND_HERE).splitlines()
    assert state == "broken-cupy"
    assert "No module named 'cupy.cuda'" in detail
    assert fix == f"rename or remove {tmp_path / 'cupy' / '__init__.py'}"


def test_an_unwritable_kernel_cache_is_blamed_for_a_failed_import(tmp_path):
    (tmp_path / "file").write_text("")
    code = "import os; os.makedirs(os.environ['CUPY_CACHE_DIR'])"
    write_cupy(tmp_path, code, "cupy-cuda12x")
    state, detail, fix = run(tmp_path, FIND_HERE, CUPY_CACHE_DIR=str(tmp_path / "file" / "cache")).splitlines()
    assert state == "fault"
    assert f"kernel cache {tmp_path / 'file' / 'cache'} cannot be written" in detail
    assert "CUPY_CACHE_DIR" in fix


def test_cupy_is_not_touched_before_it_is_asked_for(tmp_path):
    write_cupy(tmp_path, "raise SystemExit('cupy was imported')")
    assert run(tmp_path, "import xpnet, xpnet.probe; print('fine')") == "fine\n"


def test_packages_are_found_by_their_metadata(tmp_path, monkeypatch):
    monkeypatch.undo()  # the real `cupy_distributions`
    write_cupy(tmp_path, "", "cupy-cuda12x", "Cupy_ROCm_7_0", "cupy-xarray", "amd-cupy")
    (tmp_path / "left_over-1.0.dist-info").mkdir()  # as a removal by halves leaves it
    monkeypatch.syspath_prepend(str(tmp_path))
    found = installed.cupy_distributions()
    assert {"cupy-cuda12x", "cupy-rocm-7-0", "amd-cupy"} <= set(found)
    assert "cupy-xarray" not in found
    assert found["cupy-cuda12x"] == "14.2.0"


# The driver and the device --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("wheel", "driver"), [(12090, "525"), (13000, "580")])
def test_no_driver_names_the_one_to_install(cupy, wheel, driver):
    cupy.cuda.runtime.runtimeGetVersion = lambda: wheel
    cupy.cuda.runtime.driverGetVersion = lambda: 0
    cupy.cuda.runtime.getDeviceCount = fails(CudaError(35))
    diagnosis = probe.cuda()
    assert diagnosis.state == "no-driver"
    assert f"install the NVIDIA driver, {driver} or newer" in diagnosis.fix


@pytest.mark.parametrize(
    ("package", "wheel", "driver", "fix"),
    [
        ("cupy-cuda12x", 12090, 11040, "update the NVIDIA driver to 525 or newer and reboot"),
        ("cupy-cuda13x", 13000, 11040, "update the NVIDIA driver to 580 or newer and reboot"),
        ("cupy-cuda13x", 13000, 12040, f"pip uninstall -y cupy-cuda13x\n{CUDA12}"),
    ],
)
def test_an_old_driver_gets_the_wheel_that_fits_if_there_is_one(cupy, monkeypatch, package, wheel, driver, fix):
    packages(monkeypatch, package)
    cupy.cuda.runtime.runtimeGetVersion = lambda: wheel
    cupy.cuda.runtime.driverGetVersion = lambda: driver
    cupy.cuda.runtime.getDeviceCount = fails(CudaError(35))
    diagnosis = probe.cuda()
    assert (diagnosis.state, diagnosis.fix) == ("driver-too-old", fix)
    assert f"CUDA {driver // 1000}.4 at most" in diagnosis.detail


def test_a_driver_that_is_new_enough_is_not_called_old(cupy):
    cupy.cuda.runtime.getDeviceCount = fails(CudaError(35))
    assert probe.cuda().state == "fault"


@pytest.mark.parametrize("count", [lambda: 0, fails(CudaError(100))])
def test_no_device(cupy, count):
    cupy.cuda.runtime.getDeviceCount = count
    diagnosis = probe.cuda()
    assert diagnosis.state == "no-device"
    assert "nvidia-smi" in diagnosis.fix


@pytest.mark.parametrize("value", ["", "-1"])
def test_a_device_that_is_hidden_by_the_environment(cupy, monkeypatch, value):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    cupy.cuda.runtime.getDeviceCount = fails(CudaError(100))
    diagnosis = probe.cuda()
    assert diagnosis.state == "no-device"
    assert f'CUDA_VISIBLE_DEVICES is "{value}"' in diagnosis.detail
    assert diagnosis.fix == "unset the environment variable CUDA_VISIBLE_DEVICES"


@pytest.mark.parametrize("ordinal", [2, -1])
def test_a_device_that_does_not_exist(cupy, ordinal):
    cupy.cuda.runtime.getDeviceCount = lambda: 2
    diagnosis = probe.cuda(ordinal)
    assert (diagnosis.state, diagnosis.fix) == ("no-such-device", "choose cuda:0 or cuda:1")
    assert f"no cuda:{ordinal}, 2 GPUs are visible" in diagnosis.detail


@pytest.mark.parametrize(
    ("status", "words"),
    [(34, "stub"), (46, "close the program"), (2, "close other programs"), (803, "reboot"), (999, "nvidia-smi")],
)
def test_faults_say_what_to_do(cupy, status, words):
    cupy.cuda.runtime.getDeviceCount = fails(CudaError(status))
    diagnosis = probe.cuda()
    assert diagnosis.state == "fault"
    assert "no luck" in diagnosis.detail
    assert words in diagnosis.fix


# The first kernel -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ImportError('Failure diagnosis "libcublasLt.so.12"'),
        RuntimeError("Failed to find CUDA headers"),
        OSError("libnvrtc.so.12: cannot open shared object file"),
    ],
)
@pytest.mark.parametrize(("wheel", "fix"), [(12090, CUDA12), (13000, CUDA13)])
def test_missing_libraries_name_the_extra_of_this_wheel(cupy, monkeypatch, error, wheel, fix):
    packages(monkeypatch, "cupy-cuda13x" if wheel == 13000 else "cupy-cuda12x")
    cupy.cuda.runtime.runtimeGetVersion = lambda: wheel
    cupy.cuda.nvrtc.getSupportedArchs = fails(error)
    cupy.asarray = fails(error)
    diagnosis = probe.cuda()
    assert (diagnosis.state, diagnosis.fix) == ("libraries-missing", fix)
    assert str(error) in diagnosis.detail


def test_missing_libraries_never_lead_to_a_second_cupy(cupy, monkeypatch):
    packages(monkeypatch, "cupy")  # built from source, or by conda
    cupy.asarray = fails(RuntimeError("Failed to find CUDA headers"))
    assert probe.cuda().fix == f"pip uninstall -y cupy\n{CUDA12}"


@pytest.mark.parametrize(
    "spoil",
    [lambda a: a + np.float32(1e-3), lambda a: np.zeros_like(a), lambda a: np.full_like(a, np.nan)],
)
def test_wrong_numbers_are_refused(cupy, spoil):
    cupy.asarray = spoil
    diagnosis = probe.cuda()
    assert diagnosis.state == "wrong-result"
    assert 'device="cpu"' in diagnosis.fix


def test_a_wrong_sum_is_refused(cupy):
    class Array(np.ndarray):
        def sum(self):
            return 0.0

    cupy.asarray = lambda a: a.view(Array)
    assert probe.cuda().state == "wrong-result"


def test_numbers_in_the_wrong_places_are_refused(cupy):
    cupy.asnumpy = lambda a: a[::-1]  # the sum is right
    assert probe.cuda().state == "wrong-result"


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError("Out of memory allocating 512 bytes"),
        CudaError(2, "cudaErrorMemoryAllocation: out of memory"),
        CudaError(3, "CUBLAS_STATUS_ALLOC_FAILED"),
    ],
)
def test_a_full_gpu_is_a_fault_with_advice(cupy, error):
    cupy.asarray = fails(error)
    diagnosis = probe.cuda()
    assert diagnosis.state == "fault"
    assert "no memory left" in diagnosis.detail
    assert "close other programs" in diagnosis.fix


def test_a_refusal_by_cuda_itself_is_a_fault(cupy):
    cupy.asarray = fails(CudaError(700, "cudaErrorIllegalAddress: an illegal memory access"))
    diagnosis = probe.cuda()
    assert diagnosis.state == "fault"
    assert "illegal memory access" in diagnosis.detail


@pytest.mark.parametrize(
    ("capability", "wheel", "driver", "package", "fix"),
    [
        ("35", 12090, 12090, "cupy-cuda12x", 'none, this GPU is too old; use the CPU: device="cpu"'),
        ("61", 13000, 13000, "cupy-cuda13x", f"pip uninstall -y cupy-cuda13x\n{CUDA12}"),
        ("130", 12090, 12090, "cupy-cuda12x", 'pip install -U --upgrade-strategy eager "xpnet[cuda12]"'),
        (
            "130", 12090, 13020, "cupy-cuda12x",
            'pip uninstall -y cupy-cuda12x\npip install -U --upgrade-strategy eager "xpnet[cuda13]"',
        ),
    ],
)  # fmt: skip
def test_a_gpu_that_the_compiler_does_not_know(cupy, monkeypatch, capability, wheel, driver, package, fix):
    packages(monkeypatch, package)
    cupy.cuda.Device.compute_capability = capability
    cupy.cuda.runtime.runtimeGetVersion = lambda: wheel
    cupy.cuda.runtime.driverGetVersion = lambda: driver
    cupy.cuda.nvrtc.getSupportedArchs = lambda: (75, 86, 121) if wheel == 13000 else (50, 86, 121)
    cupy.asarray = fails(RuntimeError("nvrtc: error: invalid value for --gpu-architecture"))
    diagnosis = probe.cuda()
    assert (diagnosis.state, diagnosis.fix) == ("fault", fix)
    assert f"compute capability {int(capability) / 10}" in diagnosis.detail


@pytest.mark.parametrize("capability", ["50", "121"])
def test_the_oldest_and_the_newest_gpu_that_the_compiler_knows_are_not_blamed(cupy, capability):
    cupy.cuda.Device.compute_capability = capability
    cupy.asarray = fails(RuntimeError("something else"))
    assert "the CUDA compiler here knows" not in probe.cuda().detail


def test_a_kernel_that_cannot_be_kept_blames_the_cache(cupy, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CUPY_CACHE_DIR", str(tmp_path / "file"))
    cupy.asarray = fails(NotADirectoryError(20, "Not a directory"))
    diagnosis = probe.cuda()
    assert diagnosis.state == "fault"
    assert "CUPY_CACHE_DIR" in diagnosis.fix


# What is installed ----------------------------------------------------------------------------------------------


def test_write_problem_leaves_nothing_behind(tmp_path):
    assert installed.write_problem(tmp_path / "not" / "yet") == ""
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("kept")
    assert str(tmp_path / "file") in installed.write_problem(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_text() == "kept"


def test_every_diagnosis_is_one_line_without_surprises(cupy):
    cupy.cuda.runtime.getDeviceCount = fails(CudaError(999, "first line\nsecond line " + "x" * 500))
    diagnosis = probe.cuda()
    assert "\n" not in str(diagnosis)
    assert "second" not in diagnosis.detail
    assert len(diagnosis.detail) < 300


# The real thing -------------------------------------------------------------------------------------------------


def test_the_real_cupy_without_a_driver():
    """With a real wheel (of this environment, or unpacked in the folder XPNET_CUPY_WHEEL) and no driver."""
    wheel = os.environ.get("XPNET_CUPY_WHEEL", "")
    if not wheel and find_spec("cupy") is None:
        pytest.skip("CuPy is not installed, and XPNET_CUPY_WHEEL names no folder with its wheel")
    if installed.driver_version():
        pytest.skip("this machine has an NVIDIA driver")
    state, detail, fix = run(Path(wheel), FIND).splitlines()
    assert state == "no-driver"
    assert "CuPy for CUDA 1" in detail
    assert "install the NVIDIA driver" in fix
