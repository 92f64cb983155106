"""What all tests share: the backends, and what happens to tests of a GPU where there is none."""

from __future__ import annotations

import os

import hypothesis
import pytest

from xpnet import probe
from xpnet.backend import Backend
from xpnet.verify.passes import BackendFactory
from xpnet.verify.strict import StrictBackend

# The same examples each time, and no limit on how long one takes: a test that fails now and then helps nobody.
hypothesis.settings.register_profile("xpnet", derandomize=True, deadline=None, max_examples=40, database=None)
hypothesis.settings.load_profile("xpnet")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` are skipped without a GPU that works, and fail with XPNET_REQUIRE_GPU=1."""
    if item.get_closest_marker("gpu"):
        diagnosis = probe.cuda(0)
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
