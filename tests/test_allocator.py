"""The C library's allocator: memory that is freed stays with the process, where that can be asked for."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from xpnet import data, losses, nn, optim, select, train
from xpnet.backend.allocator import keep_freed_memory, short_buffers

PROGRAM = """
import resource, sys
import numpy as np
from xpnet.backend.allocator import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
def step():
    arrays = [np.ones(1 << 18) for _ in range(40)]  # 2 MB each
for _ in range(3):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 5)
"""


@pytest.fixture(autouse=True)
def asked_anew(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_TUNABLES"))]:
        monkeypatch.delenv(name)
    keep_freed_memory.cache_clear()
    yield
    keep_freed_memory.cache_clear()


def faults_per_step(argument):
    run = subprocess.run([sys.executable, "-c", PROGRAM, argument], check=True, capture_output=True, text=True)
    return int(run.stdout)


@pytest.mark.skipif(not hasattr(os, "confstr") or "glibc" not in (os.confstr("CS_GNU_LIBC_VERSION") or ""),
                    reason="the C library is not glibc")  # fmt: skip
def test_pages_stay_with_the_process():
    assert faults_per_step("leave") > 1000
    assert faults_per_step("keep") < 100


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES"])
def test_what_the_environment_says_stays(name, monkeypatch):
    monkeypatch.setenv(name, "1")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: pytest.fail("the C library was asked"))
    assert not keep_freed_memory()


def test_the_two_thresholds_of_malloc_are_set(monkeypatch):
    """M_MMAP_THRESHOLD is -3 in malloc.h, M_TRIM_THRESHOLD -1."""
    asked = []
    library = SimpleNamespace(mallopt=lambda what, size: asked.append((what, size)) or 1)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert keep_freed_memory()
    assert asked == [(-3, 32 * 2**20), (-1, 512 * 2**20)]


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_another_c_library_is_left_alone(error, monkeypatch):
    def refuse(name):
        raise error(name)

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert not keep_freed_memory()


def test_a_training_run_asks_for_it(monkeypatch):
    asked = []
    monkeypatch.setattr(sys.modules["xpnet.train.fit"], "keep_freed_memory", lambda: asked.append(True))
    digits = data.load("digits").test
    model = nn.Model(nn.Sequential(nn.Standardize(5, 6), nn.Flatten(), nn.Linear(10)), (8, 8), select("cpu"))
    train.fit(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), digits, epochs=1, quiet=True)
    assert asked == [True]


def test_short_buffers_are_those_of_the_block_alone():
    before = np.getbufsize()
    with np.errstate(divide="raise"):
        with short_buffers():
            assert np.getbufsize() == 1024 < before
            with pytest.raises(FloatingPointError):
                np.ones(1) / 0
        assert np.getbufsize() == before
    assert np.getbufsize() == before
