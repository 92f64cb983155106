"""Epoch orders and batches."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet.data import batch_slices, batches, epoch_order


@given(n=st.integers(1, 300), seed=st.integers(0, 2**70), epoch=st.integers(0, 1000))
def test_an_order_is_a_permutation_that_depends_on_its_arguments_alone(n, seed, epoch):
    order = epoch_order(n, seed, epoch)
    assert order.dtype == np.int64
    assert (np.sort(order) == np.arange(n)).all()
    np.random.seed(1)  # noqa: NPY002  the global generator has no part in it
    assert (order == epoch_order(n, seed, epoch)).all()


def test_orders_differ_between_epochs_and_seeds():
    orders = [epoch_order(100, seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({order.tobytes() for order in orders}) == 9


def test_an_order_stays_the_same_for_ever():
    assert epoch_order(10, seed=0, epoch=0).tolist() == [0, 8, 1, 2, 3, 5, 6, 7, 4, 9]
    assert epoch_order(10, seed=7, epoch=3).tolist() == [8, 7, 5, 9, 6, 2, 3, 1, 0, 4]


def test_equal_words_keep_the_order_they_came_in(monkeypatch):
    words = np.arange(4000, dtype=np.uint64) % 3

    def generator(seed, purpose, index):
        bits = SimpleNamespace(random_raw=lambda n: words[:n])
        return SimpleNamespace(bit_generator=bits)

    monkeypatch.setattr(batches, "host_generator", generator)
    expected = [i for word in range(3) for i in range(word, 4000, 3)]
    assert epoch_order(4000, seed=0, epoch=0).tolist() == expected


def test_every_place_is_as_likely_for_every_sample():
    places = np.array([epoch_order(8, seed=0, epoch=epoch) for epoch in range(2000)])
    counts = np.array([np.bincount(column, minlength=8) for column in places.T])
    assert abs(counts - 250).max() < 5 * np.sqrt(250 * 7 / 8)  # five standard deviations


@given(n=st.integers(1, 200), batch_size=st.integers(1, 200))
def test_batches_cover_the_epoch(n, batch_size):
    if batch_size > n:
        return
    batches = [np.arange(n)[rows] for rows in batch_slices(n, batch_size)]
    sizes = [len(batch) for batch in batches]
    assert np.concatenate(batches).tolist() == list(range(n))
    assert all(size == batch_size for size in sizes[:-1])
    assert sizes[-1] == (n % batch_size or batch_size)


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: batch_slices(10, 11), "batch_size=11 is more than the 10 samples"),
        (lambda: batch_slices(10, 0), "batch_size must be a whole number >= 1, not 0"),
        (lambda: batch_slices(10, 2.5), "batch_size must be a whole number >= 1, not 2.5"),
        (lambda: batch_slices(0, 1), "n must be a whole number >= 1, not 0"),
        (lambda: epoch_order(0, 0, 0), "n must be a whole number >= 1, not 0"),
        (lambda: epoch_order(5, -1, 0), "seed must be a whole number >= 0, not -1"),
        (lambda: epoch_order(5, None, 0), "seed must be a whole number >= 0, not None"),
        (lambda: epoch_order(5, 0, -1), "epoch must be a whole number >= 0, not -1"),
    ],
)
def test_bad_arguments(call, reason):
    with pytest.raises(ValueError, match=reason):
        call()
