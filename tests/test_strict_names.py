"""The strict device's list of names: NumPy and CuPy have them all, and they do what NumPy's do."""

from __future__ import annotations

from operator import attrgetter
from pathlib import Path

import numpy as np
import pytest
from compare_names import problems
from cupy_wheel import run_with_cupy
from strict_arrays import HOST, same

from xpnet.verify.strict import StrictBackend
from xpnet.verify.strict_names import ELEMENTWISE, FUNCTIONS, METHODS, Arguments


@pytest.fixture
def backend():
    return StrictBackend()


@pytest.fixture
def xp(backend):
    return backend.xp


@pytest.fixture
def x(backend):
    return backend.asarray(HOST)


def test_the_list_agrees_with_numpy():
    assert list(problems(np)) == []


def test_the_list_agrees_with_cupy():
    done = run_with_cupy(Path(__file__).with_name("compare_names.py"), "cupy")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


@pytest.mark.parametrize(
    ("name", "arguments", "problem"),
    [
        ("unheard_of", "a /", "unheard_of is missing"),
        ("sum", "a / initially", "sum has no initially="),
        ("sum", "a / dtype axis", "sum has axis where we have dtype"),
        ("squeeze", "a axis more /", "squeeze takes 2 arguments by position, not 3"),
        ("exp", "x y / out", "exp takes ('x', 'out') by position"),
    ],
)
def test_the_comparison_finds_a_wrong_line(monkeypatch, name, arguments, problem):
    monkeypatch.setitem(FUNCTIONS, name, Arguments.read(arguments))
    assert problem in list(problems(np))


CALLS = {
    **{
        name: lambda f, a, i: f(a) for name in ("max", "min", "amax", "amin", "any", "all", "argmax", "argmin", "ravel")
    },
    **{name: lambda f, a, i: f(a, axis=1) for name in ("sum", "prod", "mean", "var", "std", "cumsum", "cumprod")},
    **{name: lambda f, a, i: f(a, axis=0) for name in ("count_nonzero", "sort", "argsort", "flip", "linalg.norm")},
    **{name: lambda f, a, i: f((2, 3), "float32") for name in ("zeros", "ones")},
    **{name: lambda f, a, i: f(a) for name in ("zeros_like", "ones_like", "tril", "triu", "nan_to_num", "transpose")},
    **{name: lambda f, a, i: f(a) for name in ("array", "asarray", "ascontiguousarray", "flatnonzero", "argwhere")},
    **{name: lambda f, a, i: f([a, a], axis=1) for name in ("concatenate", "stack")},
    "full": lambda f, a, i: f((2,), 3, dtype="float32"),
    "full_like": lambda f, a, i: f(a, 3),
    "arange": lambda f, a, i: f(1, 8, 2),
    "linspace": lambda f, a, i: f(0, 1, 5),
    "eye": lambda f, a, i: f(3, 4),
    "where": lambda f, a, i: f(a > 3, a, 0),
    "clip": lambda f, a, i: f(a, 2, None),
    "take": lambda f, a, i: f(a, i, axis=0),
    "take_along_axis": lambda f, a, i: f(a, i[:, None], axis=1),
    "searchsorted": lambda f, a, i: f(a[0], a[1] - 2),
    "reshape": lambda f, a, i: f(a, (2, 6)),
    "swapaxes": lambda f, a, i: f(a, 0, 1),
    "moveaxis": lambda f, a, i: f(a, 0, -1),
    "expand_dims": lambda f, a, i: f(a, axis=(0, 2)),
    "squeeze": lambda f, a, i: f(a[:1]),
    "broadcast_to": lambda f, a, i: f(a[0], (2, 4)),
    "split": lambda f, a, i: f(a, 2, axis=1)[1],
    "repeat": lambda f, a, i: f(a, 2, axis=0),
    "tile": lambda f, a, i: f(a, (2, 1)),
    "roll": lambda f, a, i: f(a, 1, axis=1),
    "pad": lambda f, a, i: f(a, ((1, 0), (0, 2)), constant_values=1),
    "outer": lambda f, a, i: f(a[0], a[1]),
    "lib.stride_tricks.as_strided": lambda f, a, i: f(a, (3, 2, 2), (16, 4, 4)),
    "lib.stride_tricks.sliding_window_view": lambda f, a, i: f(a, 2, axis=1),
    "nonzero": lambda f, a, i: f(a)[1],
    "bincount": lambda f, a, i: f(i, minlength=5),
    "unique": lambda f, a, i: f(i),
}
IN_PLACE = {
    "copyto": lambda f, a, i: f(a, a * 2, where=a > 4),
    "put_along_axis": lambda f, a, i: f(a, i[:, None], a[:, :1] + 50, axis=1),
}
UNWRITTEN = {"empty", "empty_like"}  # see test_uninitialised_memory_holds_nan_or_huge_numbers


def test_every_function_of_the_list_is_tried():
    assert set(FUNCTIONS) - set(ELEMENTWISE) == {*CALLS, *IN_PLACE, *UNWRITTEN}


@pytest.mark.parametrize("name", CALLS)
def test_functions_compute_what_numpys_do(backend, x, name):
    indices, function = np.array([2, 0, 2]), attrgetter(name)
    result = CALLS[name](function(backend.xp), x, backend.asarray(indices))
    assert same(result, CALLS[name](function(np), HOST, indices))


@pytest.mark.parametrize("name", IN_PLACE)
def test_functions_that_write_compute_what_numpys_do(backend, x, name):
    indices, mine = np.array([2, 0, 2]), HOST.copy()
    IN_PLACE[name](getattr(backend.xp, name), x, backend.asarray(indices))
    IN_PLACE[name](getattr(np, name), mine, indices)
    assert same(x, mine)
    assert not np.array_equal(mine, HOST)


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_elementwise_functions_compute_what_numpys_do(backend, name):
    of_whole_numbers = name in ("invert", "bitwise_and", "bitwise_or", "bitwise_xor", "left_shift", "right_shift")
    host = np.arange(-1, 5) if of_whole_numbers else np.linspace(-0.5, 3, 6, dtype=np.float32)
    inputs = [host, abs(host[::-1]).copy()][: getattr(np, name).nin]
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*inputs)
    arrays = [backend.asarray(a) for a in inputs]
    assert same(getattr(backend.xp, name)(*arrays), expected)
    out = backend.xp.empty(expected.shape, expected.dtype)
    assert getattr(backend.xp, name)(*arrays, out=out) is out
    assert same(out, expected)


METHOD_CALLS = {
    **{name: lambda a, n: getattr(a, n)(axis=1) for name in METHODS if "axis" in METHODS[name].by_name},
    "astype": lambda a, n: a.astype("float64", copy=False),
    "copy": lambda a, n: a.copy(),
    "view": lambda a, n: a.view("int32"),
    "reshape": lambda a, n: a.reshape(2, -1),
    "transpose": lambda a, n: a.transpose(1, 0),
    "ravel": lambda a, n: a.ravel(),
    "flatten": lambda a, n: a.flatten(),
    "swapaxes": lambda a, n: a.swapaxes(0, 1),
    "squeeze": lambda a, n: a[:, :1].squeeze(axis=1),
    "diagonal": lambda a, n: a.diagonal(),
    "take": lambda a, n: a.take(a[0].astype("int64"), axis=1),
    "repeat": lambda a, n: a.repeat(2, axis=0),
    "clip": lambda a, n: a.clip(3, 5),
    "round": lambda a, n: (a / 3).round(1),
    "nonzero": lambda a, n: a.nonzero()[0],
    "fill": lambda a, n: a.fill(3) or a,
    "sort": lambda a, n: a.sort(axis=0) or a,
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_compute_what_numpys_do(x, name):
    assert same(METHOD_CALLS[name](x, name), METHOD_CALLS[name](HOST.copy(), name))
