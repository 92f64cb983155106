"""The random stream: NumPy's Philox, bit for bit, on every device."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet import Backend, nn
from xpnet.backend.random import DevicePhilox, HostPhilox, host_generator, multiply_wide, philox_blocks
from xpnet.verify.strict import StrictBackend

MAX = 2**64 - 1
STREAMS = {
    "NumPy's": HostPhilox,
    "array operations": lambda seed: DevicePhilox(seed, Backend()),
    "array operations on the strict device": lambda seed: StrictBackend(seed=seed).rng,
}
stream = pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS.keys())
dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])

words = st.one_of(st.integers(0, 3), st.integers(MAX - 300, MAX), st.integers(0, MAX))
states = st.lists(words, min_size=6, max_size=6)
draws = st.lists(st.tuples(st.integers(0, 100), st.sampled_from(["float32", "float64"])), max_size=6)


def host(numbers) -> np.ndarray:
    """The numbers as a NumPy array, from whatever device."""
    return np.array(numbers.tolist(), str(numbers.dtype)).reshape(numbers.shape)


def numpys(state, size: int, dtype: str) -> np.ndarray:
    state = np.array(state, np.uint64)
    return np.random.Generator(np.random.Philox(key=state[:2], counter=state[2:])).random(size, np.dtype(dtype).type)


def moved(state, blocks: int) -> list[int]:
    """The state `blocks` blocks on, in Python's whole numbers."""
    counter = (sum(int(word) << (64 * i) for i, word in enumerate(state[2:])) + blocks) % 2**256
    return [int(state[0]), int(state[1]), *((counter >> (64 * i)) & MAX for i in range(4))]


def blocks_of(size: int, dtype: str) -> int:
    return -(-size // (8 if dtype == "float32" else 4))


@pytest.mark.parametrize("n_blocks", [1, 2, 3])
def test_a_block_is_four_words(n_blocks):
    assert philox_blocks(np, HostPhilox(0).state, n_blocks).shape == (4 * n_blocks,)


@stream
@dtypes
@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**70 + 5])
def test_the_first_numbers_are_those_of_numpys_philox(stream, dtype, seed):
    expected = np.random.Generator(np.random.Philox(seed)).random(1001, np.dtype(dtype).type)
    assert np.array_equal(host(stream(seed).random((1001,), dtype)), expected)


@stream
@dtypes
@pytest.mark.parametrize(
    "counter",
    [(MAX, 0, 0, 0), (MAX - 1, 7, 0, 0), (MAX - 1, MAX, 0, 0), (MAX - 1, MAX, MAX, 0), (MAX - 1, MAX, MAX, MAX)],
    ids=["at once into word 1", "into word 1", "into word 2", "into word 3", "around to 0"],
)
def test_counters_that_carry(stream, dtype, counter):
    rng = stream(0)
    rng.state = np.array([11, 12, *counter], np.uint64)
    assert np.array_equal(host(rng.random((45,), dtype)), numpys([11, 12, *counter], 45, dtype))
    assert rng.state.tolist() == moved([11, 12, *counter], blocks_of(45, dtype))


@stream
@dtypes
def test_every_odd_length(stream, dtype):
    state = [5, MAX, MAX - 3, MAX, 0, 1]
    expected = numpys(state, 70, dtype)
    rng = stream(0)
    for size in range(1, 70):
        rng.state = np.array(state, np.uint64)
        assert np.array_equal(host(rng.random((size,), dtype)), expected[:size])


@given(state=states, draws=draws)
@settings(max_examples=60)
def test_any_sequence_of_draws_from_any_state(state, draws):
    streams = [make(0) for make in STREAMS.values()]
    for rng in streams:
        rng.state = np.array(state, np.uint64)
    for size, dtype in draws:
        expected = numpys(state, size, dtype)
        state = moved(state, blocks_of(size, dtype))  # each draw starts on a fresh block
        for rng in streams:
            numbers = rng.random((size,), dtype)
            assert numbers.dtype == dtype
            assert np.array_equal(host(numbers), expected)
            assert rng.state.tolist() == state


@stream
def test_the_state_can_be_kept_and_taken_back(stream):
    rng = stream(3)
    rng.random((13,), "float32")
    kept = rng.state
    assert (kept.dtype, kept.shape) == (np.uint64, (6,))
    first = host(rng.random((4, 5), "float32"))
    assert kept.tolist() != rng.state.tolist()  # a copy: later draws leave it alone
    rng.state = kept
    assert np.array_equal(host(rng.random((4, 5), "float32")), first)


@pytest.mark.parametrize("origin", STREAMS.values(), ids=STREAMS.keys())
@stream
def test_one_device_goes_on_where_another_stopped(origin, stream):
    first, second = origin(4), stream(99)
    first.random((31,), "float32")
    second.state = first.state
    assert np.array_equal(host(first.random((9,), "float64")), host(second.random((9,), "float64")))


@stream
@dtypes
def test_no_numbers_leave_the_stream_where_it_was(stream, dtype):
    rng = stream(0)
    before = rng.state.tolist()
    assert rng.random((3, 0, 2), dtype).shape == (3, 0, 2)
    assert rng.state.tolist() == before


@stream
@dtypes
def test_a_shape_only_folds_the_numbers(stream, dtype):
    assert np.array_equal(host(stream(1).random((3, 5, 1), dtype)).ravel(), host(stream(1).random((15,), dtype)))


@stream
def test_numbers_are_fractions_of_a_power_of_two_below_1(stream):
    for dtype, bits in (("float32", 24), ("float64", 53)):
        scaled = host(stream(1).random((5000,), dtype)).astype(np.float64) * 2**bits
        assert (scaled == np.floor(scaled)).all()
        assert 0 <= scaled.min() < scaled.max() < 2**bits
        assert abs(scaled.mean() / 2**bits - 0.5) < 0.02


@given(st.integers(0, MAX), st.integers(0, MAX))
def test_wide_products(a, b):
    high, low = multiply_wide(np.array([a], np.uint64), b)
    assert (int(high[0]) << 64) + int(low[0]) == a * b


def test_a_host_generator_depends_on_seed_purpose_and_index_alone():
    def first(*arguments):
        return host_generator(*arguments).integers(2**63, size=4).tolist()

    assert first(1, "weights") == first(1, "weights") == first(1, "weights", 0)
    different = [
        first(1, "weights"),
        first(2, "weights"),
        first(1, "order"),
        first(1, "order", 1),
        first(1, "order", 2),
    ]
    assert len({tuple(numbers) for numbers in different}) == 5


def test_draws_for_one_purpose_do_not_move_another():
    backend = Backend(seed=7)
    alone = backend.host_rng("order").permutation(20)
    backend.host_rng("weights").standard_normal(1000)
    backend.rng.random((1000,), "float32")
    assert np.array_equal(backend.host_rng("order").permutation(20), alone)


@dtypes
def test_dropout_masks_are_the_same_on_every_device(dtype):
    kept = []
    for backend in (Backend(dtype, seed=5), StrictBackend(dtype, seed=5)):
        layer, masks = nn.Dropout(0.3), []
        with backend.mode(training=True):
            for shape in [(3, 7), (1, 1), (0, 4), (2, 3, 5)]:
                y, backward = layer.forward(backend.xp.ones(shape, dtype), backend)
                masks += [host(y), host(backward(backend.xp.ones(shape, dtype)))]
        kept.append(masks)
    assert all(np.array_equal(a, b) for a, b in zip(*kept, strict=True))
    assert not np.array_equal(kept[0][0], np.ones((3, 7)))


@stream
@dtypes
def test_normal_numbers_are_made_of_the_next_uniform_ones(stream, dtype):
    rng, uniform = stream(3), HostPhilox(3)
    found = rng.standard_normal((4, 5), dtype)
    u, v = uniform.random((2, 4, 5), dtype)
    assert found.shape == (4, 5)
    assert found.dtype == dtype
    want = [math.sqrt(-2 * math.log(1 - a)) * math.cos(2 * math.pi * b) for a, b in zip(u.flat, v.flat, strict=True)]
    assert np.allclose(host(found).ravel(), want, rtol=0, atol=4e-6 if dtype == "float32" else 1e-14)
    assert np.array_equal(rng.state, uniform.state)  # and the stream goes on behind them


@dtypes
def test_normal_numbers_have_the_normal_distribution(dtype):
    drawn = np.sort(HostPhilox(0).standard_normal((100_000,), dtype).astype(float))
    normal = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in drawn])
    distance = np.abs(normal - (np.arange(100_000) + 0.5) / 100_000).max()
    assert distance < 1.95 / math.sqrt(100_000)  # of Kolmogorov and Smirnov: one sample in a thousand is beyond


@stream
def test_the_least_uniform_number_gives_a_finite_normal_one(stream):
    rng = stream(0)
    rng.random = lambda shape, dtype: rng.xp.zeros(shape, dtype)
    assert host(rng.standard_normal((2,), "float32")).tolist() == [0, 0]  # ln(1 - 0), not ln(0)


@stream
@pytest.mark.parametrize(
    ("shape", "dtype", "error", "words"),
    [
        ((2,), "float16", TypeError, "float16"),
        ((2,), "int64", TypeError, "int64"),
        ((-1,), "float32", ValueError, "negative dimensions are not allowed"),
        ((-1, -2), "float64", ValueError, "negative dimensions are not allowed"),
    ],
)
def test_what_numpy_does_not_draw_no_device_draws(stream, shape, dtype, error, words):
    """Of another type the numbers came in float64, and of -1 numbers none."""
    rng = stream(0)
    before = rng.state.tolist()
    for draw in (rng.random, rng.standard_normal):
        with pytest.raises(error, match=words):
            draw(shape, dtype)
    assert rng.state.tolist() == before
