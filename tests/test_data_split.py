"""Splits, folds, one-hot rows and statistics."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet.data import Dataset, kfold, mean_std, one_hot, split
from xpnet.data.labels import check_labels
from xpnet.data.statistics import BLOCK


def numbered(labels) -> Dataset:
    """Samples that are their own index."""
    labels = np.asarray(labels)
    return Dataset(np.arange(len(labels)), labels, ("a", "b", "c", "d"))


many = st.lists(st.integers(0, 3), min_size=2, max_size=80)


@given(labels=many, fraction=st.floats(0.01, 0.99), seed=st.integers(0, 9))
def test_split_is_stratified_and_loses_nothing(labels, fraction, seed):
    data = numbered(labels)
    size = round(len(data) * fraction)
    if size in (0, len(data)):
        return
    rest, part = split(data, fraction, seed)
    assert len(part) == size
    assert sorted([*rest.x, *part.x]) == list(range(len(data)))
    for piece in (rest, part):
        assert (np.diff(piece.x) > 0).all()
        assert (piece.y == data.y[piece.x]).all()
        assert piece.classes == data.classes
    exact = np.bincount(data.y) * (size / len(data))
    assert (abs(np.bincount(part.y, minlength=len(exact)) - exact) < 1).all()


def test_split_depends_on_the_seed_alone():
    data = numbered([0, 1, 2, 3] * 10)
    first, again, other = (split(data, 0.25, seed)[1].x for seed in (3, 3, 4))
    assert (first == again).all()
    assert (first != other).any()


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5, float("nan")])
def test_split_refuses_fractions_outside(fraction):
    with pytest.raises(ValueError, match="fraction must be a finite number above 0 and below 1"):
        split(numbered([0, 1] * 5), fraction, 0)


@pytest.mark.parametrize("cut", [lambda data: split(data, 0.5, 0), lambda data: kfold(data, 2, 0)])
def test_what_is_no_data_set_is_refused(cut):
    with pytest.raises(TypeError, match=r"a data set, such as data\.Dataset\(x, y\) or .*, not a ndarray"):
        cut(np.zeros((10, 2)))


@pytest.mark.parametrize("fraction", [0.01, 0.99])
def test_split_refuses_an_empty_part(fraction):
    with pytest.raises(ValueError, match="of 10 samples leaves one of the two parts empty"):
        split(numbered([0, 1] * 5), fraction, 0)


@given(labels=many, k=st.integers(2, 6), seed=st.integers(0, 9))
def test_kfold_is_stratified_and_validates_every_sample_once(labels, k, seed):
    data = numbered(labels * k)
    folds = list(kfold(data, k, seed))
    assert len(folds) == k
    assert sorted(np.concatenate([validation.x for _, validation in folds])) == list(range(len(data)))
    for train, validation in folds:
        assert sorted([*train.x, *validation.x]) == list(range(len(data)))
    counts = np.array([np.bincount(validation.y, minlength=4) for _, validation in folds])
    assert (np.ptp(counts, axis=0) <= 1).all()
    assert np.ptp(counts.sum(axis=1)) <= 1


@pytest.mark.parametrize(
    ("k", "reason"),
    [(1, "k must be a whole number >= 2, not 1"), (4, "4 folds need 4 samples of every class, but class 'b' has 3")],
)
def test_kfold_refuses_at_the_call(k, reason):
    with pytest.raises(ValueError, match=reason):
        kfold(numbered([0] * 9 + [1] * 3), k, 0)


def test_one_hot():
    rows = one_hot(np.array([2, 0], np.uint8), 3)
    assert rows.dtype == np.float32
    assert rows.tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0, 1, 3, 5], r"label 3 at index 2 is outside 0..2 \(and 1 more\)"),
        ([0, -1], "label -1 at index 1 is outside 0..2$"),
        (np.array([0, 2**64 - 1], np.uint64), "label 18446744073709551615 at index 1"),
        ([0.0, 1.0], "class numbers are integers, not float64"),
        ([True, False], "class numbers are integers, not bool"),
    ],
)
def test_labels_out_of_range_or_of_the_wrong_kind(labels, reason):
    with pytest.raises(ValueError, match=reason):
        one_hot(labels, 3)
    with pytest.raises(ValueError, match=reason):
        check_labels(labels, 3)


def test_one_hot_takes_one_label_a_sample():
    with pytest.raises(ValueError, match=r"shape \(N,\), not \(2, 3\)"):
        one_hot(np.eye(2, 3, dtype=int), 3)


def test_a_spread_that_float64_cannot_square_is_refused():
    with pytest.raises(ValueError, match="beyond 1e150"):
        mean_std(np.array([1e300, -1e300]))


@pytest.mark.parametrize("x", [np.array([2**60, 2**60 + 1]), np.array([0, 1e-170])], ids=["rounded", "squared to 0"])
def test_what_varies_too_little_for_float64_has_a_deviation_of_1(x):
    assert mean_std(x)[1] == 1
    assert mean_std(x[:, None], axis=0)[1].tolist() == [1]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(7,), (300, 5), (40, 30, 30), (3, 700, 1000)])
def test_mean_std_agrees_with_numpy(dtype, shape):
    x = (np.random.default_rng(0).random(shape) * 255).astype(dtype)
    mean, std = mean_std(x)
    assert type(mean) is type(std) is float
    np.testing.assert_allclose([mean, std], [x.mean(dtype=np.float64), x.std(dtype=np.float64)], rtol=1e-12)
    means, stds = mean_std(x, axis=0)
    assert means.shape == stds.shape == shape[1:]
    np.testing.assert_allclose(means, x.mean(axis=0, dtype=np.float64), rtol=1e-12)
    expected = x.std(axis=0, dtype=np.float64)
    np.testing.assert_allclose(stds, np.where(expected == 0, 1, expected), rtol=1e-12)


@pytest.mark.parametrize("shape", [(1,), (3,), (5, 13), (9, 70_001)])
def test_bytes_are_summed_exactly_in_any_layout(shape):
    x = np.full((2 * shape[0], *shape[1:]), 255, np.uint8)[::2]
    x[0] = 254  # the variance is a small difference of large sums
    n, others = x.size, x.size - x[0].size
    assert mean_std(x)[0] == (254 * n + others) / n
    assert mean_std(x)[1] == pytest.approx(np.sqrt(others * (n - others)) / n or 1.0, rel=1e-15)


@settings(deadline=None)
@given(offset=st.sampled_from([1e6, 1e9]), n=st.integers(2, 40))
def test_mean_std_keeps_its_digits_far_from_zero(offset, n):
    x = offset + np.arange(n)[:, None] / 8
    assert mean_std(x, axis=0)[1][0] == pytest.approx(np.sqrt((n * n - 1) / 12) / 8, rel=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_that_do_not_vary_get_deviation_1(dtype):
    x = np.tile(np.array([0.1, 0, 1 / 3], dtype), (1000, 1))
    x[:, 1] = np.arange(1000)
    means, stds = mean_std(x, axis=0)
    assert stds[0] == stds[2] == 1
    assert stds[1] > 200
    assert means[0] == pytest.approx(dtype(0.1))
    assert mean_std(np.full((5, 5), 0.1)) == (pytest.approx(0.1), 1.0)
    assert mean_std(np.full((5, 5), 200, np.uint8)) == (200.0, 1.0)


def test_mean_std_makes_no_copy_of_the_data():
    x = np.zeros((40 * BLOCK // 64, 64), np.uint8)
    tracemalloc.start()
    mean_std(x)
    mean_std(x, axis=0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * 8 * BLOCK  # four blocks of float64; a copy of x would be forty


@pytest.mark.parametrize(
    ("x", "axis", "reason"),
    [
        (np.zeros((0, 3)), None, r"not shape \(0, 3\)"),
        (np.float64(3), None, r"not shape \(\)"),
        (np.zeros((2, 2)), 1, "axis must be None .* or 0"),
        (np.array([[1, 2], [np.nan, 3]]), 0, r"x: nan at index \(1, 0\)"),
    ],
)
def test_mean_std_refuses(x, axis, reason):
    with pytest.raises(ValueError, match=reason):
        mean_std(x, axis=axis)


def test_kfold_depends_on_the_seed_alone():
    data = numbered([0, 1, 2, 3] * 10)
    first, again, other = ([part.x.tolist() for _, part in kfold(data, 4, seed)] for seed in (3, 3, 4))
    assert first == again
    assert first != other
