"""Chains of elementwise operations as one kernel, without a GPU: the C of each is compiled and run on the host."""

from __future__ import annotations

import copy
import ctypes
import shutil
import subprocess
import sys
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest

from xpnet import Backend, Model, losses, nn, optim
from xpnet.backend import kernels, tracing
from xpnet.backend.fusion import FUNCTIONS, TYPES, NoChainError
from xpnet.backend.tracing import fused, trace
from xpnet.train import train_step
from xpnet.verify import cases, passes
from xpnet.verify.strict import StrictBackend

CPP = '#include <cmath>\nusing namespace std;\nextern "C" void kernel(long long size, {arguments}) {{\n{loop}\n}}\n'


class HostKernel:
    """What `cupy.ElementwiseKernel` does with a source, by a C++ compiler. Without fused multiply-adds, so that
    arithmetic is NumPy's bit for bit."""

    def __init__(self, inputs, outputs, operation, name):
        self.inputs, self.outputs = ([tuple(p.split()) for p in ps.split(", ") if p] for ps in (inputs, outputs))
        params = [*self.inputs, *self.outputs]
        arguments = ", ".join(f"{TYPES[kind]}* _{name}" for kind, name in params)
        given = "".join(f"const {TYPES[kind]}& {name} = _{name}[i];\n" for kind, name in self.inputs)
        given += "".join(f"{TYPES[kind]}& {name} = _{name}[i];\n" for kind, name in self.outputs)
        loop = f"for (long long i = 0; i < size; ++i) {{\n{given}{operation}\n}}"
        self.function = ctypes.CDLL(compiled(CPP.format(arguments=arguments, loop=loop))).kernel

    def __call__(self, *args):
        outputs = args[len(self.inputs) :]
        shape = np.broadcast_shapes(*(np.shape(a) for a in args))
        assert {a.shape for a in outputs} == {shape}
        for (kind, _), array in zip(self.outputs, outputs, strict=True):
            assert array.dtype == kind
        copies = [
            np.array(np.broadcast_to(np.asarray(a, kind), shape), order="C")
            for (kind, _), a in zip([*self.inputs, *self.outputs], args, strict=True)
        ]
        self.function(ctypes.c_longlong(copies[0].size), *(ctypes.c_void_p(c.ctypes.data) for c in copies))
        for array, values in zip(outputs, copies[len(self.inputs) :], strict=True):
            array[...] = values


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    compiled.folder = tmp_path_factory.mktemp("fused")


@cache
def compiled(source: str) -> str:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is neither g++ nor clang++")
    path = compiled.folder / f"{abs(hash(source))}.cpp"
    path.write_text(source)
    command = [compiler, "-O1", "-ffp-contract=off", "-shared", "-fPIC", path, "-o", path.with_suffix(".so")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return str(path.with_suffix(".so"))


@pytest.fixture
def compiler(monkeypatch):
    """`kernels.launch` compiles for the host."""

    def poisoned(shape, dtype):
        return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else 1, dtype)

    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(ElementwiseKernel=HostKernel, empty=poisoned))
    kernels.elementwise.cache_clear()
    yield
    kernels.elementwise.cache_clear()


@pytest.fixture(params=["compiled", "line by line"])
def fuse(request, compiler):
    """fuse(f): f as one kernel of NumPy's arrays, or as the strict device computes it."""

    def line_by_line(chain):
        return chain.evaluate(*chain.arrays, *chain.numbers)

    launch = kernels.launch if request.param == "compiled" else line_by_line
    return lambda f: fused(f, np.ndarray, launch)


def numbers(*shape: int, dtype: type = np.float32, seed: int = 0) -> np.ndarray:
    return (3 * np.random.default_rng(seed).normal(size=shape)).astype(dtype)


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
    for factor in (0.1, 3.0, 1e-30, float("inf")):
        np.testing.assert_array_equal(fuse(lambda x, c: x * c)(numbers(4), factor), numbers(4) * np.float32(factor))
    assert kernels.elementwise.cache_info().misses <= 1


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
    for a, b in zip(passes.in_tuple(expected), passes.in_tuple(got), strict=True):
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

    with pytest.raises(ValueError, match=r"test_fusion\.py:\d+: a fused function changes an array that overlaps"):
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


# The package's own ----------------------------------------------------------------------------------------------


@pytest.fixture
def chains(monkeypatch):
    """All chains that are traced on strict devices, by their source, with copies of their arrays."""
    found = {}

    def noted(*args):
        chain, result = trace(*args)
        found.setdefault(chain.source(), (chain, [np.array(a._host) for a in chain.arrays]))
        return chain, result

    monkeypatch.setattr(tracing, "trace", noted)
    return found


def assert_compiled_alike(chains):
    """Each chain as a kernel computes what NumPy does, but for rounding in exp and the like."""
    for chain, given in chains.values():
        one, other = ([np.array(a) for a in given] for _ in range(2))
        with np.errstate(all="ignore"):
            expected = chain.evaluate(*one, *chain.numbers)
        chain.arrays = other
        for a, b in zip((*expected, *one), (*kernels.launch(chain), *other), strict=True):
            np.testing.assert_allclose(b, a, rtol=3e-6, atol=1e-7, err_msg=chain.source())


def test_layers(compiler, chains):
    for case in cases.LAYERS:
        subject = case.subject(5)
        passes.run(subject, passes.draw_values(subject), StrictBackend())
    assert len(chains) > 25
    assert_compiled_alike(chains)


def test_losses(compiler, chains):
    for case in cases.LOSSES:
        backend, values = StrictBackend(), case.values(6)
        case.make()(backend.asarray(values["y"]), passes.target_of(values, backend.asarray), backend)
    assert_compiled_alike(chains)


def test_optimizers(compiler, chains):
    rng = np.random.default_rng(0)
    shapes = {"W": (3, 2), "b": (2,), "gradients W": (3, 3, 2), "gradients b": (3, 2)}
    values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    for case in cases.OPTIMIZERS:
        passes.run_optimizer(case.make, values, StrictBackend(), case.clip)
    assert len(chains) > 10
    assert_compiled_alike(chains)


VIEWS = {"empty", "index", "ravel", "reshape", "swapaxes"}


@contextmanager
def launches(backend):
    """The operations of the block on a strict device, but for views, and what would be a launch in all of them."""
    names = []
    run = backend._device.run

    def noted(name, *args):
        if name not in VIEWS:
            names.append(name.split()[0])
        return run(name, *args)

    backend._device.run = noted
    yield names
    del backend._device.run


@pytest.mark.parametrize(
    ("layer", "forward", "backward"),
    [
        (nn.ReLU(), ["maximum"], ["fused"]),
        (nn.LeakyReLU(), ["rmul", "maximum"], ["fused"]),
        (nn.ELU(), ["minimum", "maximum", "expm1", "rmul", "add"], ["fused"]),
        (nn.HardSwish(), ["add", "clip", "mul", "mul"], ["fused"]),
        (nn.Sigmoid(), ["fused"], ["fused"]),
        (nn.Tanh(), ["tanh"], ["fused"]),
        (nn.SiLU(), ["fused", "mul"], ["fused"]),
        (nn.Softplus(), ["maximum", "abs", "neg", "exp", "log1p", "add"], ["fused"]),
        (nn.GELU(), ["fused"], ["multiply"]),
        (nn.GELU("none"), ["gt", "abs", "fused", "sub", "abs", "mul"], ["fused"]),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Layer) else "",
)
def test_what_an_activation_launches(layer, forward, backward):
    backend = StrictBackend()
    x, dy = (backend.asarray(numbers(3, 4, seed=s)) for s in range(2))
    with launches(backend) as forwards:
        _, back = layer(x, backend)
    with launches(backend) as backwards:
        back(dy)
    assert (forwards, backwards) == (forward, backward)


@pytest.mark.parametrize(
    ("layer", "fused_forward", "fused_backward"),
    [
        (nn.Dropout(0.5), 1, 0),
        (nn.BatchNorm(), 4, 1),
        (nn.LayerNorm(), 2, 1),
        (nn.RMSNorm(), 1, 1),
        (nn.GroupNorm(2), 2, 1),
        (nn.RNN(4), 0, 1),
        (nn.LSTM(4), 5 * 3, 2 + 5),
        (nn.GRU(4), 5 * 2, 2 + 5),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Layer) else "",
)
def test_how_much_of_a_layer_is_fused(layer, fused_forward, fused_backward):
    backend = StrictBackend()
    model = Model(layer, (5, 4), backend)
    x = backend.asarray(numbers(3, 5, 4))
    with launches(backend) as forwards, backend.mode(training=True):
        y, back = model.forward(x)
    with launches(backend) as backwards:
        back(y)
    assert (forwards.count("fused"), backwards.count("fused")) == (fused_forward, fused_backward)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda model: optim.SGD(model, 0.1), ["iadd", "fused"]),
        (lambda model: optim.SGD(model, 0.1, 0.9, nesterov=True), ["iadd", "fused"]),
        (lambda model: optim.SGD(model, 0.1, weight_decay=0.1), ["iadd", "fused", "fused"]),
        (lambda model: optim.Lion(model), ["iadd", "fused"]),
        (lambda model: optim.RMSProp(model), ["iadd", "fused"]),
        (lambda model: optim.AdaGrad(model), ["iadd", "fused"]),
        (lambda model: optim.Adam(model), ["iadd", "fused", "fused"]),
        (lambda model: optim.Adam(model, betas=(0.0, 0.0)), ["iadd", "fused", "fused"]),
        (lambda model: optim.AdamW(model), ["iadd", "fused", "fused", "fused"]),
        (lambda model: optim.NAdam(model), ["iadd", "fused", "fused", "fused"]),
    ],
)
def test_an_update_is_one_launch(make, expected):
    backend = StrictBackend()
    optimizer = make(Model(nn.mlp([4, 3, 2]), (4,), backend))
    with launches(backend) as names:
        optimizer.step()
    assert names == expected


def test_a_step_of_the_tutorials_network():
    """45 launches with Adam, 16 of them products; 70 if nothing were fused."""
    backend = StrictBackend()
    model = Model(nn.mlp([784, 128, 64, 32, 10]), (784,), backend)
    optimizer, x = optim.Adam(model), backend.asarray(numbers(64, 784))
    target = backend.asarray(np.arange(64) % 10)
    with launches(backend) as names, backend.mode(training=True):
        train_step(model, losses.SoftmaxCrossEntropy(), optimizer, x, target)
    names = [name for name in names if name not in ("fill", "ones")]
    assert (len(names), names.count("matmul"), names.count("fused")) == (45, 16, 6)


def test_an_optimizer_of_ones_own_that_is_no_chain():
    """Its steps are the same, one operation after the other."""

    class Normed(optim.Optimizer):
        def _update(self, x, g, lr, *state):
            x -= lr * g / (g * g).sum()

    found = []
    for kind in (Backend, StrictBackend):
        model = Model(nn.Linear(3), (4,), kind())
        model.grad[...] = model.backend.asarray(numbers(model.n_parameters))
        Normed(model, 0.1).step()
        found.append(model.tensors())
    for name, values in found[0].items():
        np.testing.assert_allclose(found[1][name], values, rtol=1e-6)
