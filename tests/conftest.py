"""What all tests share: the backends, and what happens to tests of a GPU where there is none."""

from __future__ import annotations

import functools
import os
import sys
from types import SimpleNamespace
from typing import Any

import fake_cupy
import hypothesis
import numpy as np
import pytest

from xpnet import probe
from xpnet.backend import Backend
from xpnet.verify import cases
from xpnet.verify.passes import BackendFactory
from xpnet.verify.strict import StrictBackend

# The same examples each time, and no limit on how long one takes: a test that fails now and then helps nobody.
hypothesis.settings.register_profile("xpnet", derandomize=True, deadline=None, max_examples=40, database=None)
hypothesis.settings.load_profile("xpnet")


@functools.cache
def gpu() -> probe.Diagnosis:
    return probe.cuda(0)  # which looks again each time where there is none: some 30 ms


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` are skipped without a GPU that works, and fail with XPNET_REQUIRE_GPU=1."""
    if item.get_closest_marker("gpu"):
        diagnosis = gpu()
        if not diagnosis.ok:
            stop = pytest.fail if os.environ.get("XPNET_REQUIRE_GPU") == "1" else pytest.skip
            stop(f"no GPU: {diagnosis}")


@pytest.fixture(params=["cpu", "strict", pytest.param("cuda", marks=pytest.mark.gpu)])
def kind(request: pytest.FixtureRequest) -> BackendFactory:
    """Every kind of backend: `kind(dtype, seed)`."""
    if request.param == "cuda":
        from xpnet.backend.cuda import CudaBackend

        return CudaBackend
    return {"cpu": Backend, "strict": StrictBackend}[request.param]


@pytest.fixture
def cuda(monkeypatch) -> Any:
    """`xpnet.backend.cuda` on a CuPy that notes which device is used."""
    cupy = fake_cupy.module()
    cupy.used = []
    cupy.cuda.Device = lambda ordinal=0: SimpleNamespace(use=lambda: cupy.used.append(ordinal))
    cupy.ndarray = np.ndarray
    cupy.asarray = np.asarray
    loaded = fake_cupy.load_cuda(monkeypatch, cupy)
    monkeypatch.setitem(sys.modules, "xpnet.backend.cuda", loaded)
    return loaded


@pytest.fixture
def few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of cases has few rows, for tests of those who go through all of it."""
    for name in ("LAYERS", "LOSSES", "OPTIMIZERS"):
        rows = {case.of: case for case in getattr(cases, name)}
        chosen = [rows[of] for of in ("Linear", "Sigmoid", "SoftmaxCrossEntropy", "SGD") if of in rows]
        monkeypatch.setattr(cases, name, chosen)
