"""Every initialiser of the table of cases: its variance, its form, its seed."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import nn
from xpnet.backend import Backend
from xpnet.nn import init
from xpnet.verify.cases import INITIALISERS
from xpnet.verify.rows import name


@pytest.mark.parametrize("case", INITIALISERS, ids=name)
def test_mean_and_variance(case):
    drawn = case.init(np.random.default_rng(0), case.shape)
    assert drawn.shape == case.shape
    assert drawn.dtype == np.float64
    # Five standard deviations of the estimates; the fourth moment of a normal number is 3 variance^2.
    assert abs(drawn.mean() - case.mean) <= 5 * math.sqrt(case.variance / drawn.size)
    assert abs(drawn.var() - case.variance) <= 5 * case.variance * math.sqrt(2 / drawn.size)


@pytest.mark.parametrize(("make", "variance"), [(init.he_normal, 2.0), (init.lecun_uniform, 1.0)], ids=str)
def test_the_variance_of_one_input(make, variance):
    for shape in ((1, 20_000), (20_000,)):
        assert make(np.random.default_rng(0), shape).var() == pytest.approx(variance, rel=0.05)
    assert make(np.random.default_rng(0), (0, 3)).shape == (0, 3)


@pytest.mark.parametrize("case", [case for case in INITIALISERS if case.variance], ids=name)
def test_form_of_the_distribution(case):
    drawn = case.init(np.random.default_rng(0), case.shape)
    within = float((np.abs(drawn) < math.sqrt(case.variance)).mean())
    if case.bound is None:
        assert within == pytest.approx(math.erf(math.sqrt(0.5)), abs=0.03)  # 68 % within one standard deviation
        assert np.abs(drawn).max() > 3 * math.sqrt(case.variance)
    else:
        assert within == pytest.approx(1 / math.sqrt(3), abs=0.03)
        assert 0.99 * case.bound < np.abs(drawn).max() < case.bound


@pytest.mark.parametrize("case", INITIALISERS, ids=name)
def test_same_seed_same_numbers(case):
    first, again, other = (case.init(np.random.default_rng(seed), (7, 5)) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert np.array_equal(first, other) == (case.variance == 0)


def test_weights_are_the_same_on_every_device_and_in_every_dtype(kind):
    layers = lambda: nn.Sequential(nn.Linear(6, init=init.lecun_uniform), nn.ReLU(), nn.Linear(3))
    reference = nn.Model(layers(), (5,), Backend("float64", 11)).tensors()
    for dtype in ("float32", "float64"):
        tensors = nn.Model(layers(), (5,), kind(dtype, 11)).tensors()
        assert all(np.array_equal(tensors[key], reference[key].astype(dtype)) for key in reference)
    other = nn.Model(layers(), (5,), kind("float64", 12)).tensors()
    assert not np.array_equal(other["layers.0.W"], reference["layers.0.W"])


@pytest.mark.parametrize(
    ("layer", "size", "of_y", "of_dx"),
    [
        (nn.Conv2d(64, 3, init=init.glorot_normal), (20, 20, 64), 1, 1),
        (nn.Conv2d(96, 3, init=init.glorot_uniform), (20, 20, 32), 0.5, 1.5),
        (nn.Conv2d(16, 5), (20, 20, 64), 2, 0.5),  # he_normal: 2 for each input
        (nn.ConvTranspose2d(16, 5), (20, 20, 64), 2, 0.5),
        (nn.ConvTranspose2d(64, 5), (20, 20, 16), 2, 8),
        (nn.ConvTranspose2d(64, 5, groups=4, init=init.lecun_uniform), (20, 20, 16), 1, 4),
        (nn.ConvTranspose2d(32, 4, stride=2), (20, 20, 32), 0.5, 2),
    ],
    ids=repr,
)
def test_activations_and_gradients_keep_their_size(layer, size, of_y, of_dx):
    """Variances in the middle of images of noise, where no border is near, for x and dy of variance 1."""
    model, rng = nn.Model(layer, size, Backend()), np.random.default_rng(0)
    y, backward = model.forward(rng.standard_normal((4, *size), np.float32))
    dx = backward(rng.standard_normal(y.shape, np.float32))
    for given, expected in ((y, of_y), (dx, of_dx)):
        assert given[:, 5:-5, 5:-5].var() == pytest.approx(expected, rel=0.1)


def test_values_of_a_transposed_convolution_have_the_places_that_its_formula_says():
    """Of each group its own: drawn in another order they would be those of other channels."""
    drawn = init.Initializer("counted", lambda rng, shape: np.arange(float(math.prod(shape))).reshape(shape))
    W = nn.Model(nn.ConvTranspose2d(6, 1, groups=2, init=drawn), (3, 3, 4), Backend()).parameters["W"].data[0, 0]
    places = np.arange(12).reshape(2, 2, 3)  # channel in of a group, group, channel out of a group
    for group in range(2):
        for channel_in in range(2):
            assert W[:, group * 2 + channel_in].tolist() == places[channel_in, group].tolist()


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (4, 9), (2, 3, 5)])
def test_orthogonal_rows_or_columns(shape):
    Q = init.orthogonal(np.random.default_rng(0), shape).reshape(-1, shape[-1])
    if len(Q) < shape[-1]:
        Q = Q.T
    assert np.allclose(Q.T @ Q, np.eye(Q.shape[1]), rtol=0, atol=1e-14)


def test_every_rotation_is_equally_likely():
    """The first entry, which a decomposition alone would always give the same sign, is 0 in the mean."""
    rng = np.random.default_rng(0)
    first = [init.orthogonal(rng, (3, 3))[0, 0] for _ in range(1000)]
    assert abs(np.mean(first)) <= 5 * math.sqrt(1 / 3 / 1000)


def test_values_are_those_asked_for():
    rng = np.random.default_rng(0)
    assert (init.constant(0.7)(rng, (3, 2)) == 0.7).all()
    assert (init.zeros(rng, (4,)) == 0).all()
    model = nn.Model(nn.Linear(3, init=init.constant(-2.0)), (2,), Backend())
    assert (model.parameters["W"].data == -2).all()
    assert (model.parameters["b"].data == 0).all()


@pytest.mark.parametrize("case", INITIALISERS, ids=name)
def test_found_by_name_as_in_a_saved_model(case):
    found = init.named(case.init.name, case.init.value)
    assert repr(found) == repr(case.init)
    draws = [i(np.random.default_rng(5), (6, 4)) for i in (found, case.init)]
    assert np.array_equal(*draws)


@pytest.mark.parametrize(("name", "value"), [("unheard_of", None), ("constant", None), ("zeros", 1.0)])
def test_unknown_names(name, value):
    with pytest.raises(ValueError, match=f"unknown initializer '{name}': choose one of he_normal, he_uniform"):
        init.named(name, value)


@pytest.mark.parametrize("a", [0.0, -1.0, math.nan])
def test_uniform_needs_a_range(a):
    with pytest.raises(ValueError, match="a of uniform must be a finite number above 0"):
        init.uniform(a)


@pytest.mark.parametrize("std", [0.0, -1.0, math.nan])
def test_normal_needs_a_deviation(std):
    with pytest.raises(ValueError, match="std of normal must be a finite number above 0"):
        init.normal(std)
