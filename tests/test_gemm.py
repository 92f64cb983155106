"""The products of a captured step: what cuBLAS is asked for, seen by a cuBLAS written for the host."""

from __future__ import annotations

import ctypes
import gc
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import fake_cupy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet.backend.precision import to_bfloat16, widened

STREAM = SimpleNamespace(ptr=4096)


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is neither gcc nor clang")
    built = tmp_path_factory.mktemp("cublas") / "libcublas.so"
    source = Path(__file__).with_name("fake_cublas.c")
    subprocess.run([compiler, "-O1", "-shared", "-fPIC", str(source), "-o", str(built), "-lm"], check=True)
    return built


@pytest.fixture(scope="module")
def gemm(library):
    pathfinder: Any = ModuleType("cuda.pathfinder")
    pathfinder.load_nvidia_dynamic_lib = {"cublas": SimpleNamespace(abs_path=str(library))}.__getitem__
    with pytest.MonkeyPatch.context() as patch:
        fakes = {"cupy": fake_cupy.module(), "cuda": ModuleType("cuda"), "cuda.pathfinder": pathfinder}
        for name, fake in fakes.items():
            patch.setitem(sys.modules, name, fake)
        return fake_cupy.load("gemm")


@pytest.fixture
def counts(library):
    seen = ctypes.CDLL(str(library))

    def count(name: str) -> int:
        return ctypes.c_int.in_dll(seen, name).value

    return count


def array(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> fake_cupy.Array:
    return np.random.default_rng(seed).integers(-9, 10, shape).astype(dtype).view(fake_cupy.Array)


LAYOUTS = {
    "row-major": lambda a: a.copy(),
    "column-major": lambda a: np.asarray(a, order="F").view(fake_cupy.Array),
    "a transposed view": lambda a: a.T.copy().T,
    "rows of a larger one": lambda a: within(a, (slice(1, -1), slice(2, -3))),
    "columns of a larger one, transposed": lambda a: within(a.T, (slice(1, -1), slice(2, -3))).T,
    "every second row": lambda a: within(a, (slice(None, None, 2), slice(None))),
    "every second column": lambda a: within(a, (slice(None), slice(None, None, 2))),
    "backwards": lambda a: a[::-1, ::-1].copy()[::-1, ::-1],
}


def within(a: np.ndarray, cut: tuple[slice, slice]) -> np.ndarray:
    """The values of `a` as a cut out of a larger array."""
    sizes = [n * (s.step or 1) + (s.start or 0) - (s.stop or 0) for n, s in zip(a.shape, cut, strict=True)]
    large = np.full(sizes, 999.0, a.dtype).view(fake_cupy.Array)
    np.ndarray.__setitem__(large, cut, a)
    return large[cut]


SIZES = [(2, 3, 4), (1, 3, 4), (2, 1, 4), (2, 3, 1), (1, 1, 4), (1, 3, 1), (2, 1, 1), (1, 1, 1)]


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("of_b", LAYOUTS)
@pytest.mark.parametrize("of_a", LAYOUTS)
def test_every_layout(gemm, of_a, of_b, sizes):
    m, k, n = sizes
    multiply = gemm.CublasGemm(STREAM)
    a, b = LAYOUTS[of_a](array((m, k), "float32")), LAYOUTS[of_b](array((k, n), "float32", 1))
    c = multiply(a, b)
    assert (c.dtype, c.flags.c_contiguous) == (np.float32, True)
    assert np.array_equal(c, np.asarray(a) @ np.asarray(b))
    out = within(np.full((m, n), np.nan, np.float32), (slice(1, -1), slice(2, -3)))  # to be written, not added to
    assert multiply(a, b, out) is out
    assert np.array_equal(out, c)
    assert (np.delete(out.base, np.s_[1 : m + 1], axis=0) == 999).all()


@given(st.data())
@settings(max_examples=150)
def test_any_shapes_agree_with_numpy(gemm, data):
    side, dtype = st.integers(0, 4), data.draw(st.sampled_from(["float32", "float64"]))
    m, k, n = (data.draw(side) for _ in range(3))
    batch = data.draw(st.lists(st.integers(0, 3), max_size=2))
    a_shape, b_shape = data.draw(
        st.sampled_from(
            [
                ((m, k), (k, n)),
                ((*batch, m, k), (k, n)),
                ((*batch, m, k), (*batch, k, n)),
                ((m, k), (*batch, k, n)),
                ((*[1] * len(batch), m, k), (*batch, k, n)),
                ((k,), (*batch, k, n)),
                ((*batch, m, k), (k,)),
            ]
        )
    )
    a, b = array(a_shape, dtype), array(b_shape, dtype, 1)
    if data.draw(st.booleans()) and a.ndim > 1:
        a = a.swapaxes(-1, -2).copy().swapaxes(-1, -2)
    c = gemm.CublasGemm(STREAM)(a, b)
    expected = np.asarray(a) @ np.asarray(b)
    assert (c.shape, c.dtype) == (expected.shape, expected.dtype)
    assert np.array_equal(c, expected)


def test_two_vectors(gemm):
    a, b = array((5,)), array((5,), seed=1)
    c = gemm.CublasGemm(STREAM)(a, b)
    assert c.shape == ()
    assert float(c) == float(np.asarray(a) @ np.asarray(b))


NARROW = {"float16": lambda a: a.astype(np.float16), "bfloat16": lambda a: to_bfloat16(np.asarray(a), np)}


@pytest.mark.parametrize("precision", NARROW)
@pytest.mark.parametrize("of_b", LAYOUTS)
@pytest.mark.parametrize("of_a", LAYOUTS)
def test_16_bit_numbers_are_multiplied_in_every_layout_with_a_float32_result(gemm, of_a, of_b, precision):
    exact = [1000.5 * array(shape, "float32", seed) for seed, shape in enumerate([(3, 5), (5, 4)])]
    narrow = [np.asarray(NARROW[precision](a)).view(fake_cupy.Array) for a in exact]
    c = gemm.CublasGemm(STREAM)(LAYOUTS[of_a](narrow[0]), LAYOUTS[of_b](narrow[1]))
    assert c.dtype == np.float32
    a, b = (widened(np.asarray(v)).astype(np.float64) for v in narrow)
    np.testing.assert_allclose(c, a @ b, rtol=2e-7)
    assert not np.array_equal(a, exact[0])  # something was rounded


@pytest.mark.parametrize("precision", NARROW)
def test_batches_of_16_bit_numbers(gemm, counts, precision):
    narrow = [np.asarray(NARROW[precision](array(s, "float32", i))) for i, s in enumerate([(2, 3, 4, 5), (2, 3, 5, 6)])]
    a, b = (v.view(fake_cupy.Array) for v in narrow)
    before, out = counts("batched_calls"), np.full((2, 3, 4, 6), np.nan, np.float32).view(fake_cupy.Array)
    assert gemm.CublasGemm(STREAM)(a, b, out) is out
    np.testing.assert_array_equal(out, widened(narrow[0]) @ widened(narrow[1]))  # whole numbers: no sum is rounded
    assert counts("batched_calls") == before + 1


def test_stacks_of_rows_are_one_product_and_stacks_of_matrices_one_call(gemm, counts):
    multiply, calls, batched = gemm.CublasGemm(STREAM), counts("gemm_calls"), counts("batched_calls")
    multiply(array((3, 2, 4)), array((4, 5)))
    assert (counts("gemm_calls") - calls, counts("batched_calls") - batched) == (1, 0)
    multiply(array((3, 2, 4)), array((3, 4, 5)))
    assert (counts("gemm_calls") - calls, counts("batched_calls") - batched) == (1, 1)
    multiply(array((0, 4)), array((4, 5)))
    assert counts("gemm_calls") - calls == 1  # nothing to do


def test_the_workspace_is_set_after_the_stream(gemm, counts):
    gemm.CublasGemm(STREAM)(array((2, 2)), array((2, 2)))
    assert counts("ready") == 1


def test_the_handle_is_given_back(gemm, counts):
    gc.collect()
    before = counts("handles")
    multiply = gemm.CublasGemm(STREAM)
    assert counts("handles") == before + 1
    del multiply
    gc.collect()
    assert counts("handles") == before


@pytest.mark.parametrize(
    ("a", "b", "out"),
    [
        (array((2, 3)), array((4, 5)), None),
        (array((3,)), array((4, 5)), None),
        (array((2, 3, 4)), array((2, 5, 4)), None),
        (array((2, 3)), array((3, 5)), array((2, 4))),
        (array((2, 3)), array((3, 5)), array((10,))),
    ],
)
def test_shapes_that_do_not_fit(gemm, a, b, out):
    with pytest.raises(ValueError, match=r"shape|broadcast"):
        gemm.CublasGemm(STREAM)(a, b, out)


@pytest.mark.parametrize(
    ("a", "b", "out"),
    [
        (array((2, 3), "float32"), array((3, 5)), None),
        (array((2, 3)), array((3, 5), "float32"), None),
        (array((2, 3)), array((3, 5)), array((2, 5), "float32")),
        (array((2, 3), "int64"), array((3, 5), "int64"), None),
        (array((2, 3), "float16"), array((3, 5), "float32"), None),
        (array((2, 3), "float16"), array((3, 5), "uint16"), None),
        (array((2, 3), "float16"), array((3, 5), "float16"), array((2, 5), "float16")),
        (array((2, 3), "float16"), array((3, 5), "float16"), array((2, 5), "float64")),
        (array((2, 3), "int16"), array((3, 5), "int16"), None),
    ],
)
def test_types_that_do_not_fit(gemm, a, b, out):
    with pytest.raises(TypeError, match="float"):
        gemm.CublasGemm(STREAM)(a, b, out)


@pytest.mark.parametrize(
    ("a", "b", "out"),
    [
        (array((2, 3)), array((3, 5)), array((5, 2)).T),
        (array((4, 2, 3)), array((4, 3, 5)), array((4, 5, 2)).swapaxes(1, 2)),
        (array((4, 2, 3)), array((3, 5)), array((4, 4, 5))[:, ::2]),
    ],
)
def test_an_output_that_is_not_row_major(gemm, a, b, out):
    with pytest.raises(ValueError, match="row-major"):
        gemm.CublasGemm(STREAM)(a, b, out)


def test_what_cublas_refuses_is_said(gemm, monkeypatch):
    monkeypatch.setattr(gemm, "DEFAULT_ALGORITHM", 5)
    with pytest.raises(RuntimeError, match=r"multiply \(2, 3\) by \(3, 5\): status 15"):
        gemm.CublasGemm(STREAM)(array((2, 3)), array((3, 5)))


@pytest.mark.filterwarnings("error")
def test_a_missing_library_leaves_nothing_behind(gemm, monkeypatch):
    def missing():
        raise OSError("no cuBLAS")

    monkeypatch.setattr(gemm, "_library", missing)
    with pytest.raises(OSError, match="no cuBLAS"):
        gemm.CublasGemm(STREAM)
    gc.collect()
