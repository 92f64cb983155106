"""A function becomes a chain, and the chain, compiled or line by line, gives what the function does; or it is none."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
from host_kernels import compiler, numbers  # noqa: F401 (a fixture)

from xpnet.backend import kernels
from xpnet.backend.fusion import FUNCTIONS, NoChainError
from xpnet.backend.tracing import fused, trace
from xpnet.nn import shapes
from xpnet.verify.strict import StrictBackend


@pytest.fixture(params=["compiled", "line by line"])
def fuse(request, compiler):  # noqa: F811
    """fuse(f): f as one kernel of NumPy's arrays, or as the strict device computes it."""

    def line_by_line(chain):
        return chain.evaluate(*chain.arrays, *chain.numbers)

    launch = kernels.launch if request.param == "compiled" else line_by_line
    return lambda f: fused(f, np.ndarray, launch)


# What is written down -------------------------------------------------------------------------------------------


def update(x, g, lr, v):
    v *= 0.9
    v += g
    step = g + 0.9 * v
    step -= v / 7
    x -= lr * step
    return np.sqrt(np.abs(x)), x, v > 0.5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_kernel_changes_and_returns_what_the_function_does(fuse, dtype):
    one, other = ([numbers(5, 7, dtype=dtype, seed=s) for s in range(2)] for _ in range(2))
    rate = np.array([0.01], dtype)
    states = [np.full((5, 7), 2, dtype) for _ in range(2)]
    expected = update(*one, rate, states[0])
    got = fuse(update)(*other, rate, states[1])
    assert got[1] is other[0]
    for a, b in zip((*expected, *one, states[0]), (*got, *other, states[1]), strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_array_equal(a, b)


def test_a_chain_is_one_launch():
    launched = []

    def launch(chain):
        launched.append(chain)
        return chain.evaluate(*chain.arrays, *chain.numbers)

    x, g, rate, v = numbers(4), numbers(4, seed=1), np.ones(1, np.float32), numbers(4, seed=2)
    fused(update, np.ndarray, launch)(x, g, rate, v)
    (chain,) = launched
    assert [any(a is b for b in (x, g, rate, v)) for a in chain.arrays] == [True] * 4
    assert [chain.arrays[place] is a for place, a in zip(sorted(chain.written), (v, x), strict=True)] == [True] * 2
    assert len(chain.made) == 2


def test_arrays_of_the_closure_and_of_objects_are_read_as_they_are_now(fuse):
    kept, holder = numbers(6), SimpleNamespace(a=numbers(1, seed=1))

    @fuse
    def f(x):
        return kept * x + holder.a * kept

    for _ in range(2):
        x = numbers(6, seed=2)
        np.testing.assert_array_equal(f(x), kept * x + holder.a * kept)
        kept *= 2
        holder.a = holder.a + 1


def test_numbers_are_no_part_of_the_source(fuse):
    sources = {trace(lambda x, c: x * c, np.ndarray, (ROW, factor), {})[0].source() for factor in (0.1, 3.0)}
    assert len(sources) == 1
    for factor in (0.1, 3.0, 1e-30, float("inf")):
        np.testing.assert_array_equal(fuse(lambda x, c: x * c)(numbers(4), factor), numbers(4) * np.float32(factor))


def test_a_value_before_it_is_overwritten_is_kept(fuse):
    def f(x, y):
        before = x.astype(x.dtype)
        x += 1
        y -= before
        x *= y
        return before

    one, other = [numbers(5), numbers(5, seed=1)], [numbers(5), numbers(5, seed=1)]
    np.testing.assert_array_equal(f(*one), fuse(f)(*other))
    for a, b in zip(one, other, strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_array_under_two_names_has_one_value(fuse):
    def f(x, y):
        x += 1
        y *= x

    one, other = numbers(5), numbers(5)
    f(one, one)
    fuse(f)(other, other)
    np.testing.assert_array_equal(one, other)


def test_arrays_that_are_no_rows_in_memory(fuse):
    one, other = numbers(6, 8), numbers(6, 8)

    def f(x, y):
        np.exp(x, out=y)
        y += x

    f(one[::2, 1:4], one[1::2, 4:7])
    fuse(f)(other[::2, 1:4], other[1::2, 4:7])
    np.testing.assert_allclose(other, one, rtol=1e-6)


def test_operators_are_numpys(fuse):
    def f(x, y):
        z = abs(-x) + 1 - (2 - y) / (3 / x) * (4 * y)
        z -= x
        z /= 1.7 + y * (x <= y) - (x < 0.5) + 1.5 * (x > 1) + 1.5 * (y >= 1) + 0.1 * (x == y) + 0.2 * (x != y)
        return z

    np.testing.assert_array_equal(fuse(f)(numbers(9), numbers(9, seed=1)), f(numbers(9), numbers(9, seed=1)))


KINDS = [("float32", "float64"), ("bool", "float32"), ("uint8", "float32"), ("int64", "float32"), ("int64", "bool")]


@pytest.mark.parametrize("kinds", KINDS)
def test_types_are_numpys(fuse, kinds):
    x, y = ((0.3 * np.arange(6)).astype(kind) for kind in kinds)

    def f(x, y):
        return x * y, x + 2, (x > y) * 3.0, y.astype("float32") / 7, np.maximum(x, y)

    for expected, got in zip(f(x, y), fuse(f)(x, y), strict=True):
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected)


SPECIAL = np.array([0.0, -0.0, 1, -1, 0.3, -2.5, 40, -40, 1e-30, 3e38, np.inf, -np.inf, np.nan], np.float32)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_is_numpys(fuse, name):
    function = getattr(np, name)
    args = [SPECIAL] if function.nin == 1 else [np.repeat(SPECIAL, len(SPECIAL)), np.tile(SPECIAL, len(SPECIAL))]
    expected, got = function(*args), fuse(function.__call__)(*args)
    assert got.dtype == expected.dtype
    np.testing.assert_allclose(got, expected, rtol=3e-7)


# What is none ---------------------------------------------------------------------------------------------------

ROW, COLUMN, OUTSIDE = numbers(4), numbers(4, 1, seed=1), numbers(4, seed=2)


class Pair(NamedTuple):
    one: np.ndarray
    other: np.ndarray


COLUMN_OF_ONE = numbers(1, seed=3)


def two_shapes(x, y):
    return x + y, x * 2


def returns_a_list(x, y):
    x *= 1
    return [x + 1, x]


NONE = [
    lambda x, y: x.sum() + x,
    lambda x, y: x[:2] + 1,
    lambda x, y: x.reshape(1, 1),
    lambda x, y: np.multiply(x, 2, out=OUTSIDE),
    lambda x, y: np.add.reduce(x),
    lambda x, y: np.sin(x),
    lambda x, y: np.where(x > 9, x, y),
    lambda x, y: x**3,
    lambda x, y: x * 2 if x > 9 else x * 3,
    lambda x, y: x * 2 if (x > 9) or (x < 0) else x * 3,
    lambda x, y: x * max(x, 5),
    lambda x, y: x[0] * y,
    lambda x, y: len(x) * y,
    lambda x, y: sum(x) * y,
    lambda x, y: x * (0.5 in y),
    lambda x, y: copy.copy(x) * y,
    lambda x, y: copy.deepcopy(x) * y,
    lambda x, y: x * float(x[0]),
    lambda x, y: x.astype("int64") * 2,
    lambda x, y: abs(x.astype("uint8")),
    lambda x, y: (x > 0) * (y > 0),
    lambda x, y: x.astype("uint8") > 300,
    lambda x, y: x.astype("int64") < 2**70,
    lambda x, y: (y + 1, x * 2)[1],
    lambda x, y: Pair(x * 2, x * 3),
    lambda x, y: x * np.complex64(1j),
    lambda x, y: np.add(x, 1, dtype="float64"),
    two_shapes,
    returns_a_list,
    lambda x, y: None,
    lambda x, y: 3.0,
]


@pytest.mark.parametrize("f", NONE)
def test_what_is_no_chain_runs_as_it_stands(f):
    with pytest.raises(TypeError):
        trace(f, np.ndarray, (ROW[:1], COLUMN), {})

    def launch(chain):
        pytest.fail("it was launched")

    expected, got = f(ROW[:1], COLUMN), fused(f, np.ndarray, launch)(ROW[:1], COLUMN)
    for a, b in zip(shapes.in_tuple(expected), shapes.in_tuple(got), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_chain_inside_a_chain_is_part_of_it(fuse):
    def inner(y):
        y += 1
        return y * 2

    for f in (inner, lambda y: inner(y)):
        one, other = numbers(4), numbers(4)
        expected = f(one) * 3
        np.testing.assert_array_equal(fuse(lambda x, f=f: fuse(f)(x) * 3)(other), expected)
        np.testing.assert_array_equal(other, one)


def test_a_chain_inside_a_chain_that_has_its_array_from_outside(fuse):
    def outer(x):
        @fuse
        def inner():
            return x + 1

        return inner() * 2

    np.testing.assert_array_equal(fuse(outer)(ROW), (ROW + 1) * 2)


def test_a_chain_inside_a_chain_that_hides_its_array(fuse):
    def outer(x, operation):
        box = [x]

        @fuse
        def inner(y=OUTSIDE):
            return operation(box[0], y)

        x += inner() * 2
        return x

    for operation in (lambda a, y: a * 3, lambda a, y: y * 5 + a, lambda a, y: a + y):
        np.testing.assert_array_equal(fuse(outer)(ROW.copy(), operation), ROW + operation(ROW, OUTSIDE) * 2)


def test_arrays_by_name_and_by_default_are_changed_once(fuse):
    for as_chain in (True, False):
        by_default, by_name, by_keyword = numbers(4), numbers(4), numbers(4)

        def f(x, y=by_default, *, z, w=by_keyword, as_chain=as_chain):
            for a in (y, z, w):
                a += 1
            return y * z * w if as_chain else y * z * w * x.sum()

        result = fuse(f)(ROW, z=by_name)
        for a in (by_default, by_name, by_keyword):
            np.testing.assert_array_equal(a, numbers(4) + 1)
        expected = (numbers(4) + 1) ** 3
        np.testing.assert_allclose(result, expected if as_chain else expected * ROW.sum(), rtol=1e-6)


def test_one_new_array_that_is_returned_twice_is_one(fuse):
    def f(x):
        y = x * 2
        return y, x + 1, y, y.astype(y.dtype)

    assert len(trace(f, np.ndarray, (ROW,), {})[0].made) == 3
    first, other, again, copied = fuse(f)(ROW)
    assert first is again
    assert copied is not first
    for a, b in zip((first, other, copied), (ROW * 2, ROW + 1, ROW * 2), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_variable_that_has_no_value_yet(fuse):
    @fuse
    def f(x):
        return x * factor if x is None else x * 2

    np.testing.assert_array_equal(f(ROW), ROW * 2)
    factor = 3


def test_an_array_that_was_kept_is_an_error_that_says_so(fuse):
    kept = []
    fuse(lambda x: kept.append(x * 2) or x * 3)(ROW)
    with pytest.raises(RuntimeError, match="has kept an array"):
        kept[0] * 2


def test_the_strict_device_sees_arrays_that_overlap():
    backend = StrictBackend()
    x = backend.asarray(numbers(4))

    @backend.fuse
    def f(x, y):
        x += 1
        return x * y

    with pytest.raises(ValueError, match=r"test_tracing\.py:\d+: a fused function changes an array that overlaps"):
        f(x, x[::-1])
    assert f(x[::2], x[1::2]).shape == (2,)


def test_arrays_that_are_not_used_need_not_fit(fuse):
    np.testing.assert_array_equal(fuse(lambda x, y: x * 2)(ROW, COLUMN), ROW * 2)


def test_defaults_are_kept(fuse):
    def f(x, factor=3, shift=ROW):
        return (x + shift) * factor + COLUMN_OF_ONE

    np.testing.assert_array_equal(fuse(f)(ROW), f(ROW))


def test_an_array_does_not_grow_and_keeps_its_kind():
    def grow(x, y):
        x += y

    with pytest.raises(NoChainError, match=r"float32\(4, 4\) cannot be written to float32\(4,\)"):
        trace(grow, np.ndarray, (ROW, COLUMN), {})
    with pytest.raises(NoChainError, match=r"float32\(4,\) cannot be written to bool\(4,\)"):
        trace(grow, np.ndarray, (np.ones(4, bool), ROW), {})


def test_a_dead_line_must_fit_too():
    def f(x, y):
        _ = x + y  # (4, 4)
        x *= 2

    with pytest.raises(NoChainError, match="reads an array that does not fit"):
        trace(f, np.ndarray, (ROW, COLUMN), {})
    with pytest.raises(NoChainError, match="reads an array that does not fit"):
        trace(lambda x, y: (y + 1, x * 2)[1], np.ndarray, (ROW, numbers(7)), {})


def test_tracing_changes_nothing():
    x, g, rate, v = numbers(4), numbers(4, seed=1), np.ones(1, np.float32), numbers(4, seed=2)
    before = [a.copy() for a in (x, g, rate, v)]
    trace(update, np.ndarray, (x, g, rate, v), {})
    for a, b in zip((x, g, rate, v), before, strict=True):
        np.testing.assert_array_equal(a, b)
