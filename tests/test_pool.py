"""Pooling beyond its rows in the table of cases: ties, borders, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet import nn
from xpnet.backend import Backend
from xpnet.nn import ShapeError
from xpnet.verify import check
from xpnet.verify.cases.pool import CASES as POOL
from xpnet.verify.cases.pool import first_largest, pool2d
from xpnet.verify.passes import SEED
from xpnet.verify.rows import LayerCase, name
from xpnet.verify.witnesses import layer_by_scalars


def forward_and_back(layer: nn.Layer, x: np.ndarray, backend: Backend) -> tuple[np.ndarray, np.ndarray]:
    """y, and dx for a dy of ones, of one image with one channel, as lists of rows."""
    model = nn.Model(layer, (*x.shape, 1), backend)
    y, backward = model.forward(backend.asarray(x[None, :, :, None]))
    dx = backward(backend.asarray(np.ones(y.shape)))
    return np.array(backend.to_host(y))[0, :, :, 0], np.array(backend.to_host(dx))[0, :, :, 0]


# Ties -----------------------------------------------------------------------------------------------------------


def test_of_equal_numbers_the_first_row_by_row_takes_the_gradient(kind):
    _, dx = forward_and_back(nn.MaxPool2d(2), np.ones((4, 4)), kind("float32", SEED))
    assert dx.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    x = np.array([[0.0, 7.0, 7.0], [7.0, 0.0, 7.0]])  # the upper row comes first, then the left column
    _, dx = forward_and_back(nn.MaxPool2d((2, 3)), x, kind("float32", SEED))
    assert dx.tolist() == [[0, 1, 0], [0, 0, 0]]


def test_equal_numbers_in_windows_that_overlap(kind):
    _, dx = forward_and_back(nn.MaxPool2d(2, 1), np.ones((3, 3)), kind("float32", SEED))
    assert dx.tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 0]]
    _, dx = forward_and_back(nn.MaxPool2d(2, 1, 1), np.zeros((2, 2)), kind("float32", SEED))
    assert dx.tolist() == [[4, 2], [2, 1]]


@given(
    st.tuples(st.integers(2, 5), st.integers(2, 5)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.integers(1, 3),
)
def test_ties_anywhere(size, kernel, stride, n_values):
    """Images of a few different numbers, against the scalar engine, where Python's `max` takes the first."""
    kernel = tuple(min(k, n) for k, n in zip(kernel, size, strict=True))
    case = LayerCase(
        "MaxPool2d",
        "ties",
        lambda: nn.MaxPool2d(kernel, stride),
        (*size, 2),
        pool2d(first_largest, kernel, stride),
        draw=lambda rng, shape: rng.integers(0, n_values, shape).astype(np.float64),
    )
    error, allowed, where = layer_by_scalars(case, 2)
    assert error <= allowed, where


# Borders --------------------------------------------------------------------------------------------------------


def test_padding_is_never_the_largest(kind):
    y, dx = forward_and_back(nn.MaxPool2d(3, 2, 1), np.full((3, 3), -5.0), kind("float32", SEED))
    assert y.tolist() == [[-5, -5], [-5, -5]]
    assert dx.sum() == 4


@pytest.mark.parametrize("padding", ["same", 1])
def test_padding_takes_no_gradient_from_pixels_of_minus_infinity(kind, padding):
    y, dx = forward_and_back(nn.MaxPool2d(3, 1, padding), np.full((3, 3), -np.inf), kind("float32", SEED))
    assert (y == -np.inf).all()
    assert dx.tolist() == [[4, 2, 0], [2, 1, 0], [0, 0, 0]]  # how many windows begin in the image at each pixel


def test_padding_counts_in_a_mean(kind):
    y, dx = forward_and_back(nn.AvgPool2d(2, 2, 1), np.ones((2, 2)), kind("float32", SEED))
    assert y.tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert dx.tolist() == [[0.25, 0.25], [0.25, 0.25]]


@pytest.mark.parametrize("layer", [nn.MaxPool2d(2), nn.AvgPool2d(2)], ids=repr)
def test_what_is_left_over_changes_nothing(layer, kind):
    x = np.ones((3, 5))
    x[2:], x[:, 4:] = np.nan, np.nan
    y, dx = forward_and_back(layer.copy(), x, kind("float32", SEED))
    assert y.tolist() == [[1, 1]]
    assert not dx[2:].any()
    assert not dx[:, 4:].any()


def test_what_is_not_a_number_is_not_hidden():
    x = np.ones((2, 4))
    x[0, 1] = np.nan
    y, _ = forward_and_back(nn.MaxPool2d(2), x, Backend("float64"))
    assert np.isnan(y).tolist() == [[True, False]]


@pytest.mark.parametrize("case", [case for case in POOL if case.what == "several blocks"], ids=name)
def test_the_rows_of_several_blocks_have_several(case):
    layer = case.make()
    layer.build(case.shape)
    assert len(list(next(iter(layer.windows.values())).blocks(case.batches[0], case.shape[-1], Backend()))) > 1


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.MaxPool2d(3, 2, "same"), (5, 4, 3)),
        (nn.MaxPool2d((1, 3), 1, (0, 1)), (2, 3, 1)),
        (nn.AvgPool2d((3, 2), (1, 3), 1), (4, 5, 2)),
        (nn.GlobalAvgPool2d(), (4, 3, 2)),
    ],
    ids=str,
)
def test_check(layer, shape):
    assert check(layer, shape, batch=3).ok


# Bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.MaxPool2d(3), (2, 5, 1), r"MaxPool2d: its kernel \(3, 3\) is larger than the padded image \(2, 5\)"),
        (nn.AvgPool2d((1, 6), padding=(0, 1)), (2, 3, 1), r"AvgPool2d: .* larger than the padded image \(2, 5\)"),
        (
            nn.MaxPool2d(1),
            (4, 4),
            r"MaxPool2d: needs images \(height, width, channels\), got shape \(4, 4\): nn.Reshape\(4, 4, 1\) before it",
        ),
        (nn.MaxPool2d(2), (None, 4, 3), r"MaxPool2d: needs images of fixed height and width, got shape \(None, 4, 3\)"),
        (nn.AvgPool2d(2), (4, None, 3), r"AvgPool2d: needs images of fixed height and width"),
        (nn.GlobalAvgPool2d(), (7,), r"GlobalAvgPool2d: needs images \(height, width, channels\), got shape \(7,\)"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        nn.Model(layer, shape, Backend())


@pytest.mark.parametrize("kind_of_pool", [nn.MaxPool2d, nn.AvgPool2d])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "kernel must be a whole number >= 1"),
        ((2, 0), "stride must be a whole number >= 1"),
        ((2, 2, -1), "padding must be a whole number >= 0"),
        ((2, 2, "full"), 'padding must be "valid", "same" or'),
        ((2, 2, 2), "padding 2 must be less than kernel 2: some windows would hold no pixel"),
        (((3, 1), 1, 1), r"padding 1 must be less than kernel \(3, 1\)"),
    ],
)
def test_bad_options(kind_of_pool, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind_of_pool(*arguments)


# Means of whole images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(7, 7), (32, 32), (400, 300)])
def test_the_mean_of_many_pixels_keeps_its_digits(size, kind):
    backend, x = kind("float32", SEED), np.random.default_rng(SEED).random((2, *size, 3)).astype(np.float32)
    layer = nn.GlobalAvgPool2d()
    layer.build(x.shape[1:])
    y, _ = layer(backend.asarray(x), backend)
    np.testing.assert_allclose(backend.to_host(y), x.astype(np.float64).mean(axis=(1, 2)), rtol=2e-6)
