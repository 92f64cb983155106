"""Activations: the digits of small slopes, large inputs, infinities, and what the formulas of the table do not say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet import nn
from xpnet.backend import Backend
from xpnet.nn.gelu import normal_tail
from xpnet.nn.saving import restore
from xpnet.verify.cases import activation as ref
from xpnet.verify.cases.activation import hard_swish

DTYPES = ["float32", "float64"]


def passed(layer, x, backend):
    """y and dx, for dy = 1, in float64 on the host."""
    model = nn.Model(layer, (len(x),), backend)
    y, backward = model.forward(backend.asarray(np.array([x], np.float64)))
    dx = backward(backend.asarray(np.ones((1, len(x)))))
    return [np.array(backend.to_host(a), np.float64)[0] for a in (y, dx)]


# Values and slopes with all their digits ------------------------------------------------------------------------


def logistic(v):
    return ref.sigmoid(float(v))


def normal(v):
    return math.erfc(-v / math.sqrt(2)) / 2


def density(v):
    return math.exp(-v * v / 2) / math.sqrt(2 * math.pi)


def tanh_slope(v):
    return 4 * math.exp(-2 * abs(v)) / (1 + math.exp(-2 * abs(v))) ** 2


def mish_gate(v):
    w = math.exp(-abs(v))
    return (w * w + 2 * w) / (w * w + 2 * w + 2) if v < 0 else (1 + 2 * w) / (1 + 2 * w + 2 * w * w)


def mish_slope(v):  # t + x (1 - t^2) s
    w = math.exp(-abs(v))
    rest = 4 * w * (1 + w) / (w * w + 2 * w + 2) ** 2 if v < 0 else 4 * w * w * (1 + w) / (1 + 2 * w + 2 * w * w) ** 2
    return mish_gate(v) + v * rest


# (layer, y, dy/dx), each written so that it has all its digits in float64 for any v
EXACT = {
    "Sigmoid": (nn.Sigmoid, logistic, lambda v: logistic(v) * logistic(-v)),
    "Tanh": (nn.Tanh, math.tanh, tanh_slope),
    "SiLU": (
        nn.SiLU,
        lambda v: v * logistic(v),
        lambda v: logistic(v) + v * logistic(v) * logistic(-v),
    ),
    "Softplus": (nn.Softplus, lambda v: max(v, 0) + math.log1p(math.exp(-abs(v))), logistic),
    "Mish": (nn.Mish, lambda v: v * mish_gate(v), mish_slope),
    "ELU": (nn.ELU, lambda v: v if v > 0 else math.expm1(v), lambda v: 1.0 if v > 0 else math.exp(v)),
    "SELU": (
        nn.SELU,
        lambda v: 1.0507009873554805 * (v if v > 0 else 1.6732632423543772 * math.expm1(v)),
        lambda v: 1.0507009873554805 * (1.0 if v > 0 else 1.6732632423543772 * math.exp(v)),
    ),
    "HardSwish": (
        nn.HardSwish,
        hard_swish,
        lambda v: 0.0 if v <= -3 else 1.0 if v >= 3 else (2 * v + 3) / 6,
    ),
    "exact GELU": (lambda: nn.GELU("none"), lambda v: v * normal(v), lambda v: normal(v) + v * density(v)),
}


def test_hard_swish_of_what_is_infinite(kind):
    """0 times infinity is NaN; the limits are 0 and infinity, of slope 0 and 1."""
    y, dx = passed(nn.HardSwish(), [-math.inf, -3.0, 0.0, 3.0, math.inf], kind("float32", 0))
    assert np.array(y).tolist() == [0, 0, 0, 3, math.inf]
    assert np.array(dx).tolist() == [0, 0, 0.5, 1, 1]


@pytest.mark.parametrize("name", EXACT)
def test_small_slopes_and_values_keep_their_digits_in_float32(name, kind):
    """A sigmoid's slope at 17 is 4e-8: y (1 - y) has none of it, as 1 - y is 0 in float32."""
    make, value, slope = EXACT[name]
    x = np.array([-20.0, -17.0, -12.5, -9.25, -5.5, -1.5, -0.125, 0.125, 0.75, 5.5, 9.25, 12.5, 17.0, 20.0, 40.0])
    if name == "exact GELU":
        x = x[x > -13]  # below, the numbers are so small that float32 has no digits for them
    y, dx = passed(make(), x, kind("float32", 0))
    want_y, want_dx = ([f(float(v)) for v in x] for f in (value, slope))
    # exp(-x^2 / 2) has the error of its exponent, which is x^2 / 2 roundings of float32.
    tolerance = 1e-6 * np.maximum(1, x * x / 8) if name == "exact GELU" else 2e-6
    assert (np.abs(y - want_y) <= tolerance * np.abs(want_y)).all()
    assert (np.abs(dx - want_dx) <= tolerance * np.abs(want_dx)).all()
    assert (dx[np.array(want_dx) != 0] != 0).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXACT)
@given(values=st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8))
def test_inputs_of_any_size(name, dtype, values):
    make, value, slope = EXACT[name]
    y, dx = passed(make(), values, Backend(dtype))
    largest = max(1.0, *np.abs(values))
    assert np.abs(y - [value(v) for v in values]).max() <= 1e-6 * largest
    kinks = [v in (-3.0, 3.0, 0.0) for v in values]
    assert np.abs(np.where(kinks, 0, dx - [slope(v) for v in values])).max() <= 2e-6


def test_the_tail_of_the_normal_distribution():
    """Against the C library's erfc, which has all digits."""
    x = np.concatenate([np.linspace(-9, 9, 1201), [0.0, 1e-30, -1e-3, 25.0, -36.0]])
    for dtype, rounding in {"float64": 2.0**-52, "float32": 2.0**-23}.items():
        given_x = x.astype(dtype)
        want = np.array([math.erfc(abs(float(v)) / math.sqrt(2)) / 2 for v in given_x])
        got = normal_tail(given_x, Backend(dtype))
        seen = want > np.finfo(dtype).tiny
        error = np.abs(got[seen] - want[seen]) / want[seen]
        assert (error <= rounding * (4 + given_x[seen].astype(float) ** 2)).all()


def test_the_tail_of_many_numbers_in_any_order():
    """More than one of the pieces that a CPU works in, and a view that is not contiguous."""
    x = np.random.default_rng(0).standard_normal((300, 500))
    got = normal_tail(x.T, Backend("float64"))
    assert got.shape == (500, 300)
    want = [[math.erfc(abs(v) / math.sqrt(2)) / 2 for v in row] for row in x.T.tolist()]
    assert np.allclose(got, want, rtol=1e-13, atol=0)


def test_the_two_forms_of_gelu_differ_by_5e_4_at_most():
    x = np.linspace(-6, 6, 4001)
    (exact, _), (tanh, _) = (passed(nn.GELU(form), x, Backend("float64")) for form in ("none", "tanh"))
    assert 4e-4 < np.abs(exact - tanh).max() < 5e-4


def test_the_tanh_form_of_many_and_of_large_numbers():
    """More than one of the pieces that a CPU works in, and nothing overflows."""
    x = np.float32(3 * np.random.default_rng(0).standard_normal(150_000)).astype(np.float64)
    x[:6] = [-1e4, -50, -9, 9, 50, 1e4]
    u, slope = math.sqrt(2 / math.pi) * (x + 0.044715 * x**3), math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    t = np.tanh(u)
    with np.errstate(over="raise", invalid="raise"):
        y, dx = passed(nn.GELU(), x, Backend("float32"))
    assert (np.abs(y - x * (1 + t) / 2) <= 1e-6 * np.maximum(1, np.abs(x))).all()
    assert (np.abs(dx - (1 + t + x * slope * (1 - t * t)) / 2) <= 2e-6).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_tanh_form_is_flat_far_below_0_and_straight_far_above(dtype, kind):
    far = np.array([-math.inf, -1e30, -1e20, -1e12, -1e4, -10.5])
    y, dx = passed(nn.GELU(), far, kind(dtype, 0))
    assert (np.abs(y) < 1e-36).all()
    assert (np.abs(dx) < 3e-36).all()
    y, dx = passed(nn.GELU(), -far[3:], kind(dtype, 0))
    assert y.tolist() == np.asarray(-far[3:], dtype).tolist()
    assert dx.tolist() == [1, 1, 1]


def test_small_slopes_of_the_tanh_form_keep_their_digits_in_float32():
    x = np.array([-9.96875, -9.5, -9.0, -8.0, -6.5, -4.0])
    v, scale = 2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3), 2 * math.sqrt(2 / math.pi)
    s = 1 / (1 + np.exp(-v))
    want = s + x * scale * (1 + 3 * 0.044715 * x**2) * s / (1 + np.exp(v))
    y, dx = passed(nn.GELU(), x, Backend("float32"))
    np.testing.assert_allclose(y, x * s, rtol=3e-5)  # the exponent, down to -86, has the error of float32
    np.testing.assert_allclose(dx, want, rtol=3e-5)


def test_a_gelu_that_was_saved_before_there_were_two_is_the_tanh_form():
    assert restore({"layer": "GELU"}, {}).approximate == "tanh"


@pytest.mark.parametrize("dtype", DTYPES)
@given(rows=st.lists(st.tuples(*[st.floats(-1e4, 1e4, width=32)] * 3), min_size=1, max_size=3))
def test_log_softmax_of_any_size_of_number(dtype, rows):
    backend, x = Backend(dtype), np.array(rows)
    y, backward = nn.LogSoftmax().forward(backend.asarray(x), backend)
    top = x.max(axis=1, keepdims=True)
    want = x - top - np.log(np.exp(x - top).sum(axis=1, keepdims=True))
    assert np.abs(y - want).max() <= 4e-7 * max(1.0, np.abs(want).max())
    assert np.abs(backward(np.ones_like(y)).sum(axis=1)).max() <= 1e-5


# Infinities, kinks ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "below"),
    [
        (nn.ReLU(), 0.0),
        (nn.LeakyReLU(0.0), 0.0),
        (nn.LeakyReLU(0.2), -math.inf),
        (nn.PReLU(), -math.inf),
        (nn.ELU(), -1.0),
        (nn.Sigmoid(), 0.0),
        (nn.Tanh(), -1.0),
        (nn.Softplus(), 0.0),
    ],
    ids=repr,
)
def test_infinities_are_numbers(layer, below, kind):
    y, dx = passed(layer.copy(), [-math.inf, math.inf], kind("float32", 0))
    above = 1.0 if isinstance(layer, (nn.Sigmoid, nn.Tanh)) else math.inf
    assert y.tolist() == [below, above]
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("name", EXACT)
def test_nan_stays_nan(name):
    y, dx = passed(EXACT[name][0](), [math.nan, 1.0], Backend())
    assert math.isnan(y[0])
    assert np.isfinite([y[1], dx[1]]).all()


def test_slopes_at_0():
    slopes = {layer: passed(layer(), [0.0], Backend("float64"))[1][0] for layer in (nn.ELU, nn.PReLU, nn.HardSwish)}
    assert slopes == {nn.ELU: 1.0, nn.PReLU: 0.25, nn.HardSwish: 0.5}
    assert passed(nn.ELU(0.3), [0.0], Backend("float64"))[1].tolist() == [0.3]


# Options and parameters -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", [nn.ELU(1e9), nn.PReLU(1e9)], ids=repr)
def test_the_slope_above_0_is_1_whatever_it_is_below(layer):
    assert passed(layer, [0.5, 3.0], Backend("float32"))[1].tolist() == [1, 1]


def test_slopes_of_prelu_start_alike_and_do_not_decay():
    model = nn.Model(nn.PReLU(0.1), (3, 4), Backend("float64"))
    assert model.parameters["a"].data.tolist() == [0.1] * 4
    assert (model.n_parameters, model.n_decay) == (4, 0)


def test_selu_keeps_mean_and_variance_through_many_layers():
    layers = [layer for _ in range(12) for layer in (nn.Linear(256, bias=False, init=nn.init.lecun_normal), nn.SELU())]
    model = nn.Model(nn.Sequential(*layers), (256,), Backend("float64", 1))
    y = model.predict(np.random.default_rng(0).standard_normal((500, 256)))
    assert abs(y.mean()) < 0.1
    assert 0.8 < y.var() < 1.2


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.ELU(0.0), "alpha of ELU must be a finite number above 0, not 0.0"),
        (lambda: nn.ELU(math.nan), "alpha of ELU must be a finite number above 0, not nan"),
        (lambda: nn.PReLU(math.inf), "slope of PReLU must be a finite number, not inf"),
        (lambda: nn.GELU("erf"), """approximate of GELU must be "tanh" or "none", not 'erf'"""),
        (lambda: nn.LeakyReLU(-0.1), "slope of LeakyReLU must be a finite number >= 0 and below 1, not -0.1"),
    ],
)
def test_bad_options(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.LogSoftmax(), (), "LogSoftmax: needs an input of at least one axis"),
        (nn.PReLU(), (), "PReLU: needs an input whose last axis has a fixed length"),
        (nn.PReLU(), (3, None), "PReLU: needs an input whose last axis has a fixed length"),
    ],
)
def test_channels_need_an_axis(layer, shape, message):
    with pytest.raises(nn.ShapeError, match=message):
        nn.Model(layer, shape, Backend())
