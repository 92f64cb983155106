"""The strict device's arrays behave as a GPU's: what they refuse, and what comes back."""

from __future__ import annotations

from operator import attrgetter

import numpy as np
import pytest
from strict_arrays import HOST, same

from xpnet.verify.strict import StrictBackend
from xpnet.verify.strict_array import StrictArray


@pytest.fixture
def backend():
    return StrictBackend()


@pytest.fixture
def xp(backend):
    return backend.xp


@pytest.fixture
def x(backend):
    return backend.asarray(HOST)


# What is refused everywhere ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "use",
    [
        lambda x, host: x + host,
        lambda x, host: host + x,
        lambda x, host: x < host,
        lambda x, host: np.add(x, x),
        lambda x, host: np.sum(x),
        lambda x, host: np.concatenate([x, x]),
        lambda x, host: np.asarray(x),
        lambda x, host: np.array([x[0, 0], x[0, 1]]),
        lambda x, host: x.__add__([1, 2, 3, 4]),
        lambda x, host: x + None,
        lambda x, host: x.__iadd__(host),
        lambda x, host: x.__setitem__(slice(None), host),
        lambda x, host: x.__setitem__(0, [1, 2, 3, 4]),
        lambda x, host: host.__setitem__(slice(None), x),
        lambda x, host: x[np.array([0, 1])],
        lambda x, host: x[[0, 1]],
        lambda x, host: x[host > 3],
        lambda x, host: x.take([0, 1], axis=0),
        lambda x, host: x @ x.T,
        lambda x, host: host @ x,
        lambda x, host: hash(x),
    ],
)
def test_host_and_device_do_not_mix(x, use):
    with pytest.raises(TypeError):
        use(x, HOST.copy())


def test_functions_take_no_arrays_of_the_host(xp, x):
    for use in (
        lambda: xp.exp(HOST),
        lambda: xp.maximum(x, HOST),
        lambda: xp.sum([1, 2]),
        lambda: xp.add(x, x, out=HOST),
    ):
        with pytest.raises(TypeError, match=r"test_strict\.py:\d+"):
            use()


def test_two_devices_do_not_mix(x):
    with pytest.raises(TypeError, match="two devices"):
        x + StrictBackend().asarray(HOST)


@pytest.mark.parametrize(
    "use",
    [
        lambda xp, x: xp.add(x, x, where=x > 0),
        lambda xp, x: xp.sum(x, initial=0),
        lambda xp, x: x.max(initial=0),
        lambda xp, x: xp.take(x, x[0].astype("int64"), mode="clip"),
        lambda xp, x: x.take(x[0].astype("int64"), mode="clip"),
        lambda xp, x: xp.clip(x, min=0),
        lambda xp, x: x.clip(min=0),
        lambda xp, x: xp.var(x, correction=1),
        lambda xp, x: xp.sort(x, stable=True),
        lambda xp, x: x.argmax(None, None, None, True),
        lambda xp, x: xp.where(x > 0),
    ],
)
def test_arguments_that_cupy_lacks(xp, x, use):
    with pytest.raises(TypeError):
        use(xp, x)


@pytest.mark.parametrize(
    ("use", "error"),
    [
        (lambda xp, x: range(x[0, 2].astype("int64")), TypeError),
        (lambda xp, x: xp.zeros(x[0, 2].astype("int64")), TypeError),
        (lambda xp, x: x[((0, 1),)], TypeError),
        (lambda xp, x: xp.ascontiguousarray(HOST), TypeError),
        (lambda xp, x: xp.ascontiguousarray([1, 2]), TypeError),
        (lambda xp, x: xp.zeros_like(2), TypeError),
        (lambda xp, x: xp.clip(3, 0, 2), TypeError),
        (lambda xp, x: xp.where(True, x, 0), TypeError),
        (lambda xp, x: xp.outer(x, 2), TypeError),
        (lambda xp, x: xp.stack([x.sum(), 1.0]), TypeError),
        (lambda xp, x: xp.flip(x, axis=[0]), TypeError),
        (lambda xp, x: xp.pad(x, 1, constant_values=x.sum()), TypeError),
        (lambda xp, x: xp.split(x, x[0, 1:3].astype("int64")), TypeError),
        (lambda xp, x: x.sum().sum(axis=0), np.exceptions.AxisError),
        (lambda xp, x: xp.max(x[0, 0], -1), np.exceptions.AxisError),
        (lambda xp, x: xp.where(x > 3, x.astype("uint8"), -1), OverflowError),
        (lambda xp, x: xp.clip(x.astype("uint8"), -1, 300), OverflowError),
        (lambda xp, x: x.astype("int8").clip(-1, 300), OverflowError),
        (lambda xp, x: x.T.sort(axis=0), NotImplementedError),
        (lambda xp, x: xp.var(x, out=xp.empty((), "float16")), TypeError),
        (lambda xp, x: x.astype("int64").var(0, None, xp.empty(x.shape[1:], "float32")), TypeError),
        (lambda xp, x: xp.take(x, x[0, :2].astype("int64"), 0, xp.empty((2, *x.shape[1:]), "float16")), TypeError),
        (lambda xp, x: x.take(x[0, :2].astype("int64"), axis=0, out=xp.empty((2, *x.shape[1:]), "int8")), TypeError),
        (lambda xp, x: xp.pad(x, 1, mode="linear_ramp"), TypeError),
        (lambda xp, x: xp.pad(x, 1, "linear_ramp"), TypeError),
        (lambda xp, x: xp.pad(x, 1, mode=lambda *given: None), TypeError),
        (lambda xp, x: (x > 0) ** 2, TypeError),
        (lambda xp, x: xp.power(x > 0, 2), TypeError),
    ],
)
def test_values_that_cupy_refuses_and_numpy_takes(xp, x, use, error):
    with pytest.raises(error):
        use(xp, x)


def test_outputs_paddings_and_powers_that_both_take(xp, x):
    indices, rows = x[0, :2].astype("int64") * 0, x[:2] * 0
    assert xp.take(x, indices, 0, rows) is rows
    assert xp.var(x, out=x[0, 0] * 0).dtype == x.dtype
    assert x.astype("int64").var(out=xp.empty((), "float64")).dtype == "float64"
    assert xp.var(x, dtype="float64", out=xp.empty((), "float64")).dtype == "float64"
    assert xp.pad(x, 1, mode="edge").shape == xp.pad(x, 1, "edge").shape == tuple(n + 2 for n in x.shape)
    assert (2 ** (x > 0)).dtype == "int64"
    assert ((x > 0) ** (x > 0)).dtype == "int8"


def test_values_beside_those_that_cupy_refuses(xp, x):
    assert same(x[: x[0, 2].astype("int64")], HOST[:2])  # read, as by CuPy
    assert same(x.sum().sum(axis=None), HOST.sum())
    assert same(x.sum().sum(axis=()), HOST.sum())
    assert same(xp.where(x.astype("uint8"), x, -1), np.where(HOST, HOST, -1))  # -1 goes with x
    assert same(xp.clip(x, -1, 300), HOST)
    assert same(xp.expand_dims(x.sum(), axis=0), HOST.sum()[None])


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("xp.errstate", "floating point state"),
        ("xp.random", r"backend\.rng"),
        ("xp.einsum", r"backend\.matmul"),
        ("xp.matmul", r"backend\.matmul"),
        ("xp.vecdot", "not among the names"),
        ("xp.linalg.multi_dot", "not among the names"),
        ("xp.add.at", "at"),
        ("xp.maximum.reduce", "reduce"),
        ("x.ctypes", "ctypes"),
        ("x.dot", "dot"),
        ("x.data", "data"),
    ],
)
def test_names_that_cupy_lacks_or_that_are_not_portable(xp, x, path, why):
    owner, _, name = path.partition(".")
    with pytest.raises(AttributeError, match=why):
        attrgetter(name)({"xp": xp, "x": x}[owner])


def test_what_a_gpu_gets_wrong_without_a_word(backend, xp, x):
    twice = backend.asarray(np.array([1, 1]))
    with pytest.raises(IndexError):
        backend.take(x, backend.asarray(np.array([3])))
    with pytest.raises(IndexError):
        x[backend.asarray(np.array([-4]))]
    with pytest.raises(IndexError, match="more than once"):
        x[twice] = x[:2]
    with pytest.raises(IndexError, match="more than once"):
        x[twice, twice] += x[0, :2]
    with pytest.raises(IndexError, match="outside"):
        xp.lib.stride_tricks.as_strided(x, (3, 5), (16, 4))
    x[twice] = 0  # the same value: no matter which stays
    assert same(x[1], np.zeros(4, np.float32))


# What comes back --------------------------------------------------------------------------------------------------


def test_single_values_stay_on_the_device(x):
    for value in (x[1, 2], x.sum(), x.argmax(), x[1, 2] + 1, x[0][1], x[..., 0][1]):
        assert isinstance(value, StrictArray)
        assert value.shape == ()
    x[1, 2][...] = 50  # on a GPU, a view
    assert float(x[1, 2]) == 50
    assert isinstance(next(iter(x)), StrictArray)


def test_numbers_promote_as_numpy_2_says(x, xp):
    assert (x * 2.0).dtype == (2 * x).dtype == (x * True).dtype == np.float32
    assert (x * np.float64(2)).dtype == (np.float64(2) * x).dtype == np.float64
    assert (x + xp.ones((), "float64")).dtype == np.float64
    with pytest.raises(OverflowError):
        xp.zeros(2, "uint8") + 300


def test_views_are_views_and_results_are_in_c_order(x):
    x.T[0, 1] = 70
    x.reshape(-1)[0] = 71
    assert float(x[1, 0]) == 70
    assert float(x[0, 0]) == 71
    assert not x.T.flags.c_contiguous
    assert (x.T + x.T).flags.c_contiguous
    alias = x
    x += 1
    x **= 2
    assert x is alias
    assert float(x[0, 1]) == 4


def test_a_gpu_never_warns(backend, xp):
    x = backend.asarray(np.array([0.0, -1.0]))
    assert same(xp.log(x) / x, np.array([-np.inf, np.nan], np.float32))


def test_uninitialised_memory_holds_nan_or_huge_numbers(backend, xp, x):
    assert xp.isnan(xp.empty(3, "float32")).all()
    assert xp.isnan(xp.empty_like(x)).all()
    assert (xp.empty(3, "int64") > 10**9).all()
    first = backend.scratch("s", (4, 3))
    first.fill(1)
    assert backend.scratch("s", (2,)).shape == (2,)
    assert xp.isnan(first[0, :2]).all()  # the same memory, handed out anew


def test_products_take_one_type_and_a_row_major_output(backend, xp, x):
    out = xp.empty((3, 3), "float32")
    assert backend.matmul(x, x.T, out=out) is out
    assert same(out, HOST @ HOST.T)
    with pytest.raises(TypeError, match="float32 and int64"):
        backend.matmul(x, x.T.astype("int64"))
    with pytest.raises(TypeError, match="int64"):
        backend.matmul(x.astype("int64"), x.T.astype("int64"))
    with pytest.raises(ValueError, match="row-major"):
        backend.matmul(x, x.T, out=out.T)


@pytest.mark.parametrize(
    ("left", "right", "out"),
    [
        ("float32", "float64", None),
        ("float64", "float32", None),
        ("float32", "uint8", None),
        ("float32", "float32", "float64"),
    ],
)
def test_a_product_is_of_one_type(backend, xp, left, right, out):
    a, b = xp.ones((2, 2), left), xp.ones((2, 2), right)
    with pytest.raises(TypeError, match="cuBLAS takes one type"):
        backend.matmul(a, b, out=None if out is None else xp.ones((2, 2), out))
