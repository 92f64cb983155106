"""The scalar engine's `Value`: every derivative against a difference quotient, and the shape of the graph."""

from __future__ import annotations

import ast
import doctest
import importlib
import math
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet.scalar
from xpnet.scalar import Value
from xpnet.scalar.value import weighted_sum

PACKAGE = Path(xpnet.scalar.__file__).parent
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")

UNARY = {
    "x + 2": lambda x: x + 2,
    "2 + x": lambda x: 2 + x,
    "x - 2": lambda x: x - 2,
    "2 - x": lambda x: 2 - x,
    "x * 3": lambda x: x * 3,
    "3 * x": lambda x: 3 * x,
    "x / 4": lambda x: x / 4,
    "2 / x": lambda x: 2 / x,
    "x ** 3": lambda x: x**3,
    "x ** 2.5": lambda x: x**2.5,
    "x ** -1": lambda x: x**-1,
    "x ** 0": lambda x: x**0,
    "2 ** x": lambda x: 2**x,
    "-x": lambda x: -x,
    "x * x": lambda x: x * x,
    "x ** x": lambda x: x**x,
    "relu": lambda x: (x - 1).relu(),
    "exp": lambda x: x.exp(),
    "log": lambda x: x.log(),
    "tanh": lambda x: x.tanh(),
    "sigmoid": lambda x: (x - 2).sigmoid(),
    "diamond": lambda x: (x * 2 + x.exp()) * (x * 2 - x.tanh()),
}
BINARY = {
    "+": lambda x, y: x + y,
    "-": lambda x, y: x - y,
    "*": lambda x, y: x * y,
    "/": lambda x, y: x / y,
    "**": lambda x, y: x**y,
}

numbers = st.floats(0.3, 3.0)


def close(got: float, expected: float) -> bool:
    return math.isclose(got, expected, rel_tol=1e-6, abs_tol=1e-7)


@pytest.mark.parametrize("name", UNARY)
@settings(deadline=None)
@given(at=numbers)
def test_derivative_of_one_operand_is_the_difference_quotient(name, at):
    f, h = UNARY[name], 1e-5
    if name == "relu" and abs(at - 1) < 2 * h:
        at = 1.5  # no quotient across the kink
    x = Value(at)
    f(x).backward()
    assert close(x.grad, (f(Value(at + h)).data - f(Value(at - h)).data) / (2 * h))


@pytest.mark.parametrize("name", BINARY)
@settings(deadline=None)
@given(a=numbers, b=numbers)
def test_derivatives_of_two_operands_are_the_difference_quotients(name, a, b):
    f, h = BINARY[name], 1e-5
    x, y = Value(a), Value(b)
    f(x, y).backward()
    assert close(x.grad, (f(a + h, b) - f(a - h, b)) / (2 * h))
    assert close(y.grad, (f(a, b + h) - f(a, b - h)) / (2 * h))


expressions = st.recursive(
    st.sampled_from(["x", "y", "0.5"]),
    lambda e: st.one_of(
        st.tuples(st.sampled_from("+-*"), e, e), st.tuples(st.sampled_from(["tanh", "sigmoid", "neg"]), e)
    ),
    max_leaves=12,
)


def evaluate(expression, x, y):
    match expression:
        case str():
            return {"x": x, "y": y, "0.5": 0.5}[expression]
        case ("neg", e):
            return -evaluate(e, x, y)
        case (str(function), e):
            inner = evaluate(e, x, y)
            return getattr(inner if isinstance(inner, Value) else Value(inner), function)()
        case (operator, left, right):
            return {"+": BINARY["+"], "-": BINARY["-"], "*": BINARY["*"]}[operator](
                evaluate(left, x, y), evaluate(right, x, y)
            )


@settings(deadline=None)
@given(expressions, st.floats(-1, 1), st.floats(-1, 1))
def test_random_expressions(expression, a, b):
    def number(p, q):
        result = evaluate(expression, Value(p), Value(q))
        return result.data if isinstance(result, Value) else result

    x, y, h = Value(a), Value(b), 1e-4
    result = evaluate(expression, x, y)
    if isinstance(result, Value):
        result.backward()
    # The quotient's own error is h^2 / 6 times a third derivative, which a product of a few factors keeps moderate.
    assert math.isclose(x.grad, (number(a + h, b) - number(a - h, b)) / (2 * h), rel_tol=1e-4, abs_tol=1e-4)
    assert math.isclose(y.grad, (number(a, b + h) - number(a, b - h)) / (2 * h), rel_tol=1e-4, abs_tol=1e-4)


@pytest.mark.parametrize(
    ("got", "expected"),
    [
        (2 - Value(5), -3),
        (2 / Value(4), 0.5),
        (2 ** Value(3), 8),
        (2 + Value(5), 7),
        (2 * Value(5), 10),
        (Value(5) - 2, 3),
        (Value(5) / 2, 2.5),
        (Value(5) ** 2, 25),
        (Value(-2) ** 3, -8),
        (Value(0) ** 2, 0),
        (Value(0) ** 0, 1),
        (0 ** Value(2), 0),
        (-Value(5), -5),
        (Value(Fraction(1, 2)) + np.float32(0.25), 0.75),
        (np.float64(2) - Value(5), -3),
    ],
)
def test_results_and_reflected_operators(got, expected):
    assert type(got) is Value
    assert type(got.data) is float
    assert got.data == expected


@pytest.mark.parametrize("x", [-1e9, -800.0, -5.0, 0.0, 5.0, 800.0, 1e9])
def test_sigmoid_and_tanh_do_not_overflow(x):
    v = Value(x)
    s, t = v.sigmoid(), v.tanh()
    (s + t).backward()
    assert 0 <= s.data <= 1
    assert -1 <= t.data <= 1
    assert math.isfinite(v.grad)
    assert s.data == pytest.approx(0.5 * (1 + math.tanh(x / 2)), abs=1e-15)


def test_sigmoid_keeps_its_slope_far_out():
    x = Value(40.0)
    x.sigmoid().backward()
    assert x.grad == pytest.approx(math.exp(-40), rel=1e-12)  # s * (1 - s) would be 0


def test_relu_at_zero_and_of_nan():
    x = Value(0.0)
    x.relu().backward()
    assert x.grad == 0
    assert math.isnan(Value(math.nan).relu().data)


@pytest.mark.parametrize(
    ("base", "exponent", "value", "slope"),
    [
        (1e-200, -1, 1e200, -math.inf),
        (-1e-200, -1, -1e200, -math.inf),
        (-1e-100, -2, 1e200, 2e300),
        (-1e-120, -2, 1e240, math.inf),
        (1e-320, -0.5, 1.0000055664551363e160, -math.inf),
    ],
)
def test_a_slope_that_is_too_large_is_infinite(base, exponent, value, slope):
    for of in (exponent, Value(exponent)) if base > 0 else (exponent,):
        x = Value(base)
        y = x**of
        y.backward()
        assert y.data == pytest.approx(value, rel=1e-12)
        assert x.grad == pytest.approx(slope, rel=1e-12)


def test_a_base_of_nan_stays_nan():
    x, n = Value(math.nan), Value(2.0)
    (x**n).backward()
    assert all(math.isnan(number) for number in (x.grad, n.grad, (x**n).data))


@pytest.mark.parametrize(
    ("operation", "error", "says"),
    [
        (lambda: Value(0).log(), ValueError, r"log\(0.0\)"),
        (lambda: Value(-1).log(), ValueError, r"log\(-1.0\)"),
        (lambda: Value(1) / 0, ZeroDivisionError, "cannot divide by zero"),
        (lambda: 1 / Value(0), ZeroDivisionError, "cannot divide by zero"),
        (lambda: Value(0) ** -1, ZeroDivisionError, "no negative powers"),
        (lambda: 0 ** Value(-1), ZeroDivisionError, "no negative powers"),
        (lambda: 0 ** Value(0), ValueError, "no derivative with respect to its exponent"),
        (lambda: Value(0) ** 0.5, ZeroDivisionError, "slope is infinite"),
        (lambda: Value(-8) ** 0.5, ValueError, "only whole powers"),
        (lambda: Value(-2) ** Value(3), ValueError, "plain exponent"),
        (lambda: Value(1000).exp(), OverflowError, r"exp\(1000.0\)"),
        (lambda: Value(1e200) ** 2, OverflowError, "too large"),
        (lambda: Value("3"), TypeError, "not str"),
        (lambda: Value(1) + "3", TypeError, "not str"),
        (lambda: Value(1) * [2], TypeError, "not list"),
        (lambda: 1j * Value(1), TypeError, "not complex"),
    ],
)
def test_what_does_not_exist_is_a_clear_error(operation, error, says):
    with pytest.raises(error, match=says):
        operation()


def test_repr():
    x = Value(2)
    (x * 3).backward()
    assert repr(x) == "Value(data=2.0, grad=3.0)"


def test_a_chain_of_200_000_results():
    x = Value(1.0)
    y = x
    for _ in range(200_000):
        y = y + x
    y.backward()
    assert x.grad == 200_001
    del y  # freeing it must not recurse either


def test_shared_parts_are_visited_once():
    # Doubling 100 times: 2^100 paths lead from y to x, which is for ever if each is walked.
    x = Value(1.0)
    y = x
    for _ in range(100):
        y = y + y
    y.backward()
    assert x.grad == 2.0**100


def test_gradients_accumulate_in_leaves_and_start_afresh_in_between():
    x = Value(3.0)
    square = x * x
    y = square * 2
    y.backward()
    assert (x.grad, square.grad, y.grad) == (12, 2, 1)
    y.backward()
    assert (x.grad, square.grad, y.grad) == (24, 2, 1)
    (square + x).backward()  # another result that shares a part
    assert (x.grad, square.grad) == (24 + 7, 1)


def test_backward_of_a_plain_leaf():
    x = Value(3.0)
    x.backward()
    x.backward()
    assert x.grad == 2


def test_weighted_sum_is_one_node_with_the_gradients_of_the_long_form():
    w, x = [Value(0.5), Value(-2.0), Value(3.0)], [Value(1.5), Value(0.25), Value(-1.0)]
    bias = Value(0.1)
    short = weighted_sum(w, x, bias)
    assert len(short.inputs) == 7
    short.backward()
    got = [v.grad for v in (*w, *x, bias)]
    for v in (*w, *x, bias):
        v.grad = 0.0
    long = bias
    for a, b in zip(w, x, strict=True):
        long = long + a * b
    long.backward()
    assert short.data == pytest.approx(long.data, rel=1e-15)
    assert got == [v.grad for v in (*w, *x, bias)]


def test_weighted_sum_of_plain_and_mixed_inputs():
    w, bias = [Value(2.0), Value(3.0)], Value(1.0)
    assert weighted_sum(w, [1.0, 1.0], bias) == 6.0
    x = Value(1.0)
    mixed = weighted_sum(w, [1.0, x], bias)
    mixed.backward()
    assert (mixed.data, x.grad, w[0].grad) == (6.0, 3.0, 1.0)


@pytest.mark.parametrize("module", MODULES)
def test_doctests(module):
    results = doctest.testmod(importlib.import_module(f"xpnet.scalar.{module}"))
    assert results.failed == 0
    assert results.attempted > 0 or module in ("convert", "training", "weights_file")


def test_imports_are_the_standard_library_and_itself():
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        # convert.py is the bridge to the rest of xpnet: there, what runs only when a function is called may cross it.
        nodes = tree.body if path.stem == "convert" else ast.walk(tree)
        for node in nodes:
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                known = name.startswith("xpnet.scalar") or name == "xpnet.files"  # which needs nothing either
                assert name.split(".")[0] in sys.stdlib_module_names or known, path


def test_runs_without_numpy():
    # The package's own __init__ loads NumPy, so an empty one stands in for it here.
    code = f"""
import sys, types
stand_in = types.ModuleType("xpnet"); stand_in.__path__ = [{str(PACKAGE.parent)!r}]
sys.modules["xpnet"] = stand_in
import xpnet.scalar
net = xpnet.scalar.BasicNet.random([2, 3, 2])
xpnet.scalar.train(net, [([0.0, 1.0], 1)], 2, log_every=1)
print("numpy" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split()[-1] == "False"
