"""What a model costs: counted by hand for single layers, and measured for whole networks."""

from __future__ import annotations

import gc
import tracemalloc

import numpy as np
import pytest

from xpnet import losses, nn, optim, select
from xpnet.nn.summary import in_bytes
from xpnet.train.step import train_step
from xpnet.verify.strict import StrictBackend


def rows(network, shape, batch_size=4, **more):
    """The rows by path."""
    return {row.path: row for row in nn.Model(network, shape, select("cpu")).summary(batch_size, **more).rows}


def only_row(layer, shape, batch_size=4):
    (row,) = rows(layer, shape, batch_size).values()
    return row


# One layer, counted by hand -------------------------------------------------------------------------------------


def test_a_linear_layer():
    row = only_row(nn.Linear(5), (3,))
    assert (row.layer, row.output_shape, row.parameters, row.multiply_adds) == ("Linear", (5,), 20, 15)
    assert row.kept == 0  # the batch itself, which is counted as that


@pytest.mark.parametrize(
    ("layer", "parameters", "multiply_adds"),
    [
        (nn.Conv2d(8, 3, padding="same"), 9 * 4 * 8 + 8, 36 * 9 * 4 * 8),
        (nn.Conv2d(8, 3, stride=2, padding=1, bias=False), 9 * 4 * 8, 9 * 9 * 4 * 8),
        (nn.Conv2d(8, 3, groups=2, padding="same", bias=False), 9 * 2 * 8, 36 * 9 * 2 * 8),
        (nn.Conv2d(4, 3, groups=4, padding="same", bias=False), 9 * 4, 36 * 9 * 4),  # depthwise
        (nn.ConvTranspose2d(8, 2, stride=2, bias=False), 4 * 4 * 8, 36 * 4 * 4 * 8),
        (nn.ConvTranspose2d(4, 2, stride=2, groups=4, bias=False), 4 * 4, 36 * 4 * 4),
    ],
    ids=repr,
)
def test_convolutions(layer, parameters, multiply_adds):
    row = only_row(layer, (6, 6, 4))
    assert (row.parameters, row.multiply_adds) == (parameters, multiply_adds)


@pytest.mark.parametrize(
    ("layer", "numbers"),
    [(nn.ReLU(), 6 * 6 * 4), (nn.Flatten(), 0), (nn.Dropout(0.5), 6 * 6 * 4), (nn.MaxPool2d(2), 3 * 3 * 4)],
    ids=repr,
)
@pytest.mark.parametrize("batch_size", [1, 4, 64])
def test_what_a_layer_keeps(layer, numbers, batch_size):
    assert only_row(layer.copy(), (6, 6, 4), batch_size).kept == numbers * 4 * batch_size


def test_what_does_not_grow_with_the_batch_is_not_multiplied():
    kept = [only_row(nn.BatchNorm(), (5,), n).kept for n in (2, 4, 10)]
    assert kept[1] - kept[0] == 2 * 4 * 5  # xhat alone: x is the batch
    assert kept[2] - kept[1] == 6 * 4 * 5
    assert kept[0] > 2 * 4 * 5  # and a few numbers for each channel


def test_sums_are_no_multiply_adds():
    assert only_row(nn.BatchNorm(), (6, 6, 4)).multiply_adds == 0


# Networks -------------------------------------------------------------------------------------------------------


def test_an_array_that_two_layers_hold_is_counted_once():
    network = nn.Sequential(nn.Linear(7), nn.ReLU(), nn.Reshape(7, 1), nn.Flatten(), nn.Linear(2))
    kept = [row.kept for row in rows(network, (3,), 4).values()]
    assert kept == [0, 4 * 4 * 7, 0, 0, 0]  # ReLU's y, of which the others hold views


def test_a_layer_that_is_used_twice_is_one_row_with_both_uses():
    layer = nn.Linear(4)
    of = rows(nn.Sequential(layer, nn.Tanh(), layer), (4,), 3)
    assert {path: (row.parameters, row.multiply_adds) for path, row in of.items()} == {
        "layers.0": (20, 32),
        "layers.1": (0, 0),
    }


def test_totals_are_those_of_the_model():
    model = nn.Model(nn.resnet((8, 8, 3), 10, depth=8, width=4), (8, 8, 3), select("cpu"))
    summary = model.summary(16)
    assert summary.parameters == model.n_parameters
    assert (summary.values, summary.gradients) == (model.data.nbytes, model.grad.nbytes)
    assert summary.inputs == 16 * 8 * 8 * 3 * 4
    assert summary.activations == sum(row.kept for row in summary.rows)
    assert "layers.5.shortcut.layers.0" in {row.path for row in summary.rows}


@pytest.mark.parametrize(("depth", "parameters", "millions"), [(20, 272_474, 40.8), (56, 855_770, 125.7)])
def test_resnets_are_as_large_as_the_papers(depth, parameters, millions):
    """0.27 and 0.85 million parameters (Table 6 of the paper); the shortcuts of option B add a little."""
    summary = nn.Model(nn.resnet((32, 32, 3), 10, depth), (32, 32, 3), select("cpu")).summary(1)
    assert summary.parameters == parameters
    assert summary.multiply_adds / 1e6 == pytest.approx(millions, abs=0.05)


NETWORKS = {
    "mlp": (lambda: nn.mlp([784, 512, 256, 10]), (784,), 64),
    "wide batch": (lambda: nn.mlp([64, 128, 64, 10]), (64,), 2000),
    "cnn": (lambda: nn.cnn((28, 28), 10, dropout=0.2), (28, 28), 32),
    "resnet": (lambda: nn.resnet((32, 32, 3), 10, depth=8), (32, 32, 3), 16),
    "rnn": (lambda: nn.Sequential(nn.RNN(64), nn.Linear(10)), (32, 16), 32),
    "lstm": (lambda: nn.Sequential(nn.LSTM(64), nn.Linear(10)), (32, 16), 32),
    "gru": (lambda: nn.Sequential(nn.GRU(32, layers=2, bidirectional=True), nn.Linear(10)), (32, 16), 32),
    "transformer": (lambda: nn.Sequential(nn.TransformerBlock(4), nn.TransformerBlock(4)), (32, 64), 16),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_step_takes_the_memory_that_was_said(name):
    make, shape, n = NETWORKS[name]
    rng = np.random.default_rng(0)
    make_nothing_new = lambda: nn.Model(make(), shape, select("cpu")).summary(n)
    said = make_nothing_new()  # and whatever is imported or kept by the first use
    gc.collect()
    tracemalloc.start()
    try:
        model = nn.Model(make(), shape, select("cpu"))
        optimizer = optim.SGD(model, lr=0.01)
        x, target = rng.random((n, *shape), np.float32), rng.integers(0, 10, (n, *model.output_shape[:-1]))
        tracemalloc.reset_peak()
        with model.backend.mode(training=True):
            train_step(model, losses.SoftmaxCrossEntropy(), optimizer, x, target)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert 1 / 1.15 < peak / said.step < 1.15


# Around it ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [lambda: select("cpu", seed=1), lambda: StrictBackend(seed=1)], ids=["cpu", "strict"])
def test_the_model_is_left_alone(kind):
    model = nn.Model(nn.cnn((8, 8), 3, (4,), 8, dropout=0.5), (8, 8), kind())
    values, state, memory = model.tensors(), model.backend.rng.state, dict(model.backend.kept)
    model.grad.fill(3)
    assert model.summary().parameters == model.n_parameters
    for name, value in model.tensors().items():
        np.testing.assert_array_equal(value, values[name])
    np.testing.assert_array_equal(model.backend.rng.state, state)
    assert (np.array(model.backend.to_host(model.grad)) == 3).all()
    assert model.backend.kept.keys() == memory.keys()


def test_what_was_taken_before_is_no_part_of_a_pass():
    """The copy of the model that is looked at, say: who watches memory himself gets the same answer."""
    model = nn.Model(nn.Linear(1000), (1000,), select("cpu"))
    alone = model.summary(1).step
    tracemalloc.start()
    try:
        assert model.summary(1).step == pytest.approx(alone, rel=0.02)
    finally:
        tracemalloc.stop()


def test_bytes_stay_bytes():
    network = nn.Sequential(nn.Standardize(0.0, 255.0), nn.Flatten(), nn.Linear(2))
    summary = nn.Model(network, (4, 4), select("cpu")).summary(10)
    assert summary.inputs == 160
    assert [row.kept for row in summary.rows] == [0, 0, 640]  # Linear's x, in float32; the others need no values


def test_free_axes_need_an_example():
    model = nn.Model(nn.Sequential(nn.Embedding(10, 4), nn.Linear(3)), (None,), select("cpu"))
    with pytest.raises(ValueError, match="is free: summary needs an example"):
        model.summary()
    tokens = np.zeros((5, 7), np.int64)
    summary = model.summary(2, example=tokens)
    assert summary.rows[-1].multiply_adds == 7 * 4 * 3
    assert summary.inputs == 2 * 7 * 8
    with pytest.raises(ValueError, match="at least 3 samples"):
        model.summary(example=tokens[:2])


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.MultiHeadAttention(2), (5, 8)),
        (nn.MultiHeadAttention(2, rotary=True), (5, 8)),
        (nn.TransformerBlock(2), (5, 8)),
    ],
    ids=["attention", "rotary", "block"],
)
def test_attention(layer, shape):
    """Its backward names what another way through the forward would have set."""
    summary = nn.Model(layer, shape, select("cpu")).summary(10)
    scores = 10 * 2 * 5 * 5 * 4
    assert max(row.kept for row in summary.rows if row.layer == "MultiHeadAttention") > scores
    assert summary.inputs == 10 * 5 * 8 * 4


def test_several_inputs_are_added():
    model = nn.Model(nn.MultiHeadAttention(2), ((5, 8), (5,)), select("cpu"))
    assert model.summary(10).inputs == 10 * (5 * 8 * 4 + 5)  # float32, and bytes where whole numbers may be


def test_no_batch():
    with pytest.raises(ValueError, match="batch_size must be a whole number >= 1, not 0"):
        nn.Model(nn.Linear(2), (3,), select("cpu")).summary(0)


def test_the_table():
    lines = str(nn.Model(nn.mlp([4, 3, 2]), (4,), select("cpu")).summary(1000)).splitlines()
    assert lines[0].split("  ")[-1] == "kept, batch of 1000"
    assert lines[2].split() == ["layers.0", "Linear", "(3,)", "15", "12", "0", "B"]
    assert lines[3].split() == ["layers.1", "ReLU", "(3,)", "0", "0", "12.0", "kB"]
    assert lines[6].split() == ["all", "23", "18", "12.0", "kB"]
    assert lines[-1].startswith("a training step, without the optimizer: ")
    assert len({len(line) for line in lines[:7]}) == 1


def test_sizes_in_words():
    assert [in_bytes(n) for n in (0, 999, 1000, 2_560_000, 3_200_000_000)] == [
        "0 B",
        "999 B",
        "1.0 kB",
        "2.6 MB",
        "3.2 GB",
    ]
