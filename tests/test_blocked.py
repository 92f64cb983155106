"""Blocked: the same results as the layers in sequence. Its formula is checked by its rows in the table of cases."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from xpnet import nn, select
from xpnet.backend.observer import Observer

SHAPE, BATCH = (32, 32, 2), 7  # in blocks of 3, 3 and 1


def layers():
    return nn.Conv2d(128, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(4)


def model_of(kind):
    return nn.Model(kind(*layers()), SHAPE, select("cpu", seed=3))


def results(model, x, need_dx=True):
    y, backward = model.forward(x)
    dx = backward(np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape), need_dx)
    return y, dx, model.grad.copy()


class Pair(nn.Layer):
    def build(self, shape):
        return shape, shape


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_normal((BATCH, *SHAPE), np.float32)


def test_in_blocks_as_in_sequence(x):
    got, want = results(model_of(nn.Blocked), x), results(model_of(nn.Sequential), x)
    for a, b, what in zip(got, want, ("y", "dx", "gradients"), strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max(), what


def test_the_layers_see_a_few_samples_at_a_time(x):
    class Watched(nn.Tanh):
        def forward(self, x, backend):
            seen.append(len(x))
            return super().forward(x, backend)

    seen = []
    nn.Model(nn.Blocked(*layers(), Watched()), SHAPE, select("cpu")).forward(x)
    assert seen == [3, 3, 1]


def test_without_dx_the_first_layer_spares_it(x):
    model = model_of(nn.Blocked)
    _, dx, gradients = results(model, x, need_dx=False)
    assert dx is None
    assert np.array_equal(gradients, results(model_of(nn.Blocked), x)[2])


def test_an_observer_sees_the_batch_whole(x):
    class Counting(Observer):
        def __init__(self):
            self.calls = Counter()

        def forward(self, layer, x, y):
            self.calls[type(layer).__name__, len(x)] += 1

    model, observer = model_of(nn.Blocked), Counting()
    with model.backend.observed_by(observer):
        model.forward(x)
    assert observer.calls == {(name, BATCH): 1 for name in ("Conv2d", "ReLU", "MaxPool2d", "Blocked")}


def test_integers_go_in_and_have_no_gradient():
    model = nn.Model(nn.Blocked(nn.Embedding(9, 300)), (400,), select("cpu"))
    tokens = np.arange(12 * 400).reshape(12, 400) % 9
    y, backward = model.forward(tokens)
    assert y.dtype == np.float32
    assert np.array_equal(y, model.network.layers[0].W.data[tokens])
    assert backward(np.ones_like(y)) is None
    assert np.array_equal(model.grad.reshape(9, 300)[:, 0], np.bincount(tokens.ravel()))


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm(),
        nn.Dropout(0.5),
        nn.Residual(nn.Sequential(nn.BatchNorm())),
        nn.TransformerBlock(2, dropout=0.1),
    ],
)
def test_no_layer_that_needs_the_whole_batch(layer):
    with pytest.raises(
        nn.ShapeError,
        match=r"^layers.1 \(Blocked\): .* \((BatchNorm|Dropout)\) needs the whole batch: put that layer outside",
    ):
        nn.Model(nn.Sequential(nn.Tanh(), nn.Blocked(nn.Tanh(), layer)), (3, 4), select("cpu"))


def test_dropout_of_nothing_needs_no_whole_batch():
    layers, x = (nn.TransformerBlock(2, dropout=0.0), nn.Dropout(0)), np.ones((5, 3, 4), np.float32)
    blocked, whole = (kind(*(layer.copy() for layer in layers)) for kind in (nn.Blocked, nn.Sequential))
    got, want = (nn.Model(network, (3, 4), select("cpu", seed=0)).predict(x) for network in (blocked, whole))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("layer", "shape"), [(nn.MultiHeadAttention(2), ((3, 4), (3, 4))), (Pair(), (4,))], ids=["given", "made"]
)
def test_one_array_only(layer, shape):
    with pytest.raises(nn.ShapeError, match="Blocked: needs one input and one output to cut into blocks, not shapes"):
        nn.Model(nn.Blocked(layer), shape, select("cpu"))
