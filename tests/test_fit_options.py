"""`fit` and `evaluate` do what each option says, and nothing is left over from before."""

from __future__ import annotations

import math

import numpy as np
import pytest
from test_fit import blobs, setup

from xpnet import data, losses, nn, optim, schedules, train
from xpnet.train.metrics import Metric, mae


def test_clip_bounds_every_step():
    model, loss, optimizer = setup(optim.SGD, lr=1.0)
    before, moved = model.data.copy(), []
    watch = lambda row, model: moved.append(np.linalg.norm(model.data - before))
    train.fit(model, loss, optimizer, blobs(), epochs=1, batch_size=200, clip=1e-3, callbacks=[watch], quiet=True)
    assert moved == [pytest.approx(1e-3, rel=1e-3)]


def test_metrics_that_are_asked_for_are_in_every_row():
    model, _, optimizer = setup()
    rows = np.eye(3, dtype=np.float32)[blobs().y]
    samples = data.Dataset(blobs().x, rows)
    result = train.fit(
        model, losses.MeanSquaredError(), optimizer, samples, samples, epochs=1, metrics=[mae], quiet=True
    )
    assert {"train_mae", "validation_mae"} < result.history[0].keys()
    measured = train.evaluate(model, losses.MeanSquaredError(), samples, metrics=[mae]).metrics["mae"]
    assert result.history[0]["validation_mae"] == pytest.approx(measured, rel=1e-6)
    assert measured == pytest.approx(np.abs(model.predict(samples.x) - rows).mean(), rel=1e-5)


def test_what_a_metric_adds_up_is_added_up():
    """A ratio of two sums would hide it if both were taken off."""
    model, loss, optimizer = setup()
    count = Metric("count", 1, lambda y, target, xp: [len(y)], lambda total: total)
    result = train.fit(model, loss, optimizer, blobs(), epochs=2, batch_size=30, metrics=[count], quiet=True)
    assert [row["train_count"] for row in result.history] == [200, 200]


def test_one_epoch_of_patience_and_one_part_are_enough():
    model, loss, optimizer = setup()
    result = train.fit(model, loss, optimizer, blobs(), epochs=1, accumulate=1, patience=1, quiet=True)
    assert len(result.history) == 1


def test_measuring_drops_nothing_draws_nothing_and_keeps_the_mode():
    model, loss, _ = setup(dropout=0.5)
    before = model.backend.rng.state
    with model.backend.mode(training=True):
        measured = train.evaluate(model, loss, blobs())
        assert model.backend.training
    assert measured == train.evaluate(model, loss, blobs())
    np.testing.assert_array_equal(model.backend.rng.state, before)


def test_a_schedule_that_remembers_is_told_of_the_validation_loss():
    model, loss, optimizer = setup(lr=0.05)
    plateau = schedules.Plateau(0.05, patience=2)
    result = train.fit(
        model, loss, optimizer, blobs(60), blobs(90, seed=1), epochs=12, batch_size=20, schedule=plateau, quiet=True
    )
    assert plateau.best == min(row["validation_loss"] for row in result.history)


def test_what_tensors_gives_is_a_copy():
    model, loss, optimizer = setup()
    train.fit(model, loss, optimizer, blobs(), epochs=1, quiet=True)
    taken = {**model.tensors(), **optimizer.tensors()}
    before = {name: np.array(a) for name, a in taken.items()}
    train.fit(model, loss, optimizer, blobs(), epochs=1, quiet=True)
    for name, array in before.items():
        np.testing.assert_array_equal(taken[name], array)
    weights = model.data.copy()
    for array in taken.values():
        array.fill(7)
    np.testing.assert_array_equal(model.data, weights)
    assert all((array != 7).any() for array in optimizer.tensors().values())


def test_first_weights_are_of_the_stream_for_weights():
    model, _, _ = setup(seed=5)
    rng = model.backend.host_rng("weights")
    expected = nn.init.he_normal(rng, (2, 16)).astype(np.float32)
    np.testing.assert_array_equal(model.parameters["layers.0.W"].data, expected)


def test_a_row_is_of_its_own_epoch_alone():
    model, loss, optimizer = setup(optim.SGD, lr=0.0, dropout=0)
    spoil = lambda row, model: model.data.fill(0)  # then every class is as likely as any other
    result = train.fit(model, loss, optimizer, blobs(), epochs=2, callbacks=[spoil], quiet=True)
    assert result.history[0]["train_loss"] != pytest.approx(math.log(3), rel=1e-3)
    assert result.history[1]["train_loss"] == pytest.approx(math.log(3), rel=1e-5)
