"""Attention, positions, transformer blocks: what is read and what is not, memory, and decoding with a cache."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xpnet import losses, nn, optim, train, verify
from xpnet.backend import Backend
from xpnet.data import Dataset
from xpnet.nn import ShapeError
from xpnet.nn.position import rotated, waves
from xpnet.verify.cases.attention import learned, multi_head, padding, sinusoidal
from xpnet.verify.passes import spread
from xpnet.verify.tolerances import FLOAT32, FLOAT64


def built(layer, shape, backend, seed=0):
    """The layer in a model, with its biases and all off their first values."""
    model = nn.Model(layer, shape, backend)
    rng = np.random.default_rng(seed)
    for p in model.parameters.values():
        p.data[...] = backend.asarray(rng.uniform(-1, 1, p.shape))
    return model


def numbers(*shape, seed=1):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32).astype(np.float64)


# Against plain loops --------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(
    heads=st.sampled_from([1, 2, 3]), d=st.sampled_from([2, 4]), T=st.integers(1, 5), S=st.integers(1, 4),
    causal=st.booleans(), rotary=st.booleans(), masked=st.booleans(), crossed=st.booleans(), bias=st.booleans(),
)  # fmt: skip
def test_any_shape_by_loops(heads, d, T, S, causal, rotary, masked, crossed, bias):
    causal, rotary = causal and not crossed, rotary and not crossed
    inputs = [numbers(2, T, heads * d)] + [numbers(2, S, 3, seed=2)] * crossed
    if masked:
        inputs.append(padding(np.random.default_rng(3), inputs[-1].shape[:2]))
    x, shape = (
        (tuple(inputs), tuple((None, *a.shape[2:]) for a in inputs)) if inputs[1:] else (inputs[0], (T, heads * d))
    )
    model = built(nn.MultiHeadAttention(heads, causal, rotary, bias), shape, Backend("float64"))
    as_floats = tuple(a.astype(float) for a in inputs)
    want = multi_head(as_floats if inputs[1:] else as_floats[0], model.tensors(), heads, causal, rotary)
    assert np.abs(model.forward(x)[0] - want.astype(float)).max() <= FLOAT64 * heads * d


def test_positions_by_loops():
    x = numbers(2, 5, 6)
    model = built(nn.SinusoidalPosition(), (5, 6), Backend("float64"))
    assert np.abs(model.forward(x)[0] - sinusoidal(x, {}).astype(float)).max() <= FLOAT64
    model = built(nn.LearnedPosition(7), (None, 6), Backend("float64"))
    assert np.abs(model.forward(x)[0] - learned(x, model.tensors()).astype(float)).max() <= FLOAT64


# What is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotary", [False, True])
def test_causal_attention_sees_its_own_position_and_those_before(rotary):
    backend, x = Backend("float64"), numbers(1, 6, 4)
    model = built(nn.MultiHeadAttention(2, causal=True, rotary=rotary), (6, 4), backend)
    y, _ = model.forward(x)
    for t in range(6):
        moved = x.copy()
        moved[:, t] += 0.5
        changed = (model.forward(moved)[0] != y).any(axis=(0, 2))
        assert changed.tolist() == [False] * t + [True] * (6 - t)


def test_what_is_masked_does_not_matter(kind):
    backend = kind("float32", 0)
    mask = np.array([[1, 0, 1, 0], [0, 1, 1, 1]], np.uint8)
    memory, moved = numbers(2, 4, 6, seed=2), numbers(2, 4, 6, seed=2)
    moved[mask == 0] = 1e6
    model = built(nn.MultiHeadAttention(2), ((3, 4), (4, 6), (4,)), backend)
    y = [
        model.predict((numbers(2, 3, 4), m, kind_of(mask))) for m in (memory, moved) for kind_of in (np.bool_, np.int32)
    ]
    assert all(np.array_equal(a, y[0]) for a in y[1:])


def test_where_nothing_may_be_read_the_heads_are_0_and_learn_nothing(kind):
    backend = kind("float32", 0)
    model = built(nn.MultiHeadAttention(2), ((3, 4), (5, 6), (5,)), backend)
    x = tuple(map(backend.asarray, (numbers(2, 3, 4), numbers(2, 5, 6), np.zeros((2, 5), np.int64))))
    y, backward = model.forward(x)
    dx, dmemory, dmask = backward(backend.asarray(np.ones((2, 3, 4))))
    assert (backend.to_host(y) == backend.to_host(model.parameters["out.b"].data)).all()
    assert not backend.to_host(dx).any()
    assert not backend.to_host(dmemory).any()
    assert dmask is None
    learnt = {name for name, p in model.parameters.items() if backend.to_host(p.grad).any()}
    assert learnt == {"out.b"}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
def test_a_sequence_without_positions_has_an_output_without_any(rotary, masked, kind):
    backend = kind("float32", 0)
    shape = ((None, 4), (None,)) if masked else (None, 4)
    model = built(nn.MultiHeadAttention(2, causal=True, rotary=rotary), shape, backend)
    x = backend.asarray(np.zeros((3, 0, 4)))
    y, backward = model.forward((x, backend.asarray(np.zeros((3, 0), np.int64))) if masked else x)
    dx = backward(backend.asarray(np.zeros((3, 0, 4))))
    assert y.shape == (dx[0] if masked else dx).shape == (3, 0, 4)
    assert not backend.to_host(model.grad).any()


@pytest.mark.parametrize("masked", [False, True])
def test_of_a_memory_without_positions_the_heads_are_0_and_learn_nothing(masked, kind):
    backend = kind("float32", 0)
    shapes = ((None, 4), (None, 6), (None,))
    model = built(nn.MultiHeadAttention(2), shapes if masked else shapes[:2], backend)
    x = tuple(map(backend.asarray, (numbers(2, 3, 4), np.zeros((2, 0, 6)), np.zeros((2, 0), np.int64))))
    y, backward = model.forward(x if masked else x[:2])
    dx, dmemory, *_ = backward(backend.asarray(np.ones((2, 3, 4))))
    assert (backend.to_host(y) == backend.to_host(model.parameters["out.b"].data)).all()
    assert dx.shape == (2, 3, 4)
    assert not backend.to_host(dx).any()
    assert dmemory.shape == (2, 0, 6)
    assert {name for name, p in model.parameters.items() if backend.to_host(p.grad).any()} == {"out.b"}


def test_scores_of_any_size_are_safe(kind):
    """exp of such scores would overflow; some differ by far more than float32 can hold."""
    backend = kind("float32", 0)
    model = built(nn.MultiHeadAttention(2, causal=True), (5, 4), backend)
    y, backward = model.forward(backend.asarray(1e8 * numbers(2, 5, 4)))
    assert np.isfinite(backend.to_host(y)).all()
    assert np.isfinite(backend.to_host(backward(backend.asarray(np.ones((2, 5, 4)))))).all()


def test_a_mask_of_another_length_is_an_error():
    model = built(nn.MultiHeadAttention(2), ((None, 4), (None, 6), (None,)), Backend("float64"))
    with pytest.raises(
        ShapeError, match=r"MultiHeadAttention: its mask has length 1, but the sequence that it reads 5"
    ):
        model.forward((numbers(2, 3, 4), numbers(2, 5, 6), np.ones((2, 1), np.int64)))


def test_rotary_scores_depend_on_distances_alone():
    backend, q, k = Backend("float64"), numbers(1, 4, 6), numbers(1, 4, 6, seed=2)
    scores = [
        rotated(q, *waves(start, 4, 6, backend), backend) @ rotated(k, *waves(start, 4, 6, backend), backend).mT
        for start in (0, 1000)
    ]
    assert np.abs(scores[0] - scores[1]).max() <= 1e-12
    assert np.abs(scores[0] - q @ k.mT).max() > 0.1


def test_far_positions_keep_their_digits_in_float32():
    exact, rounded = (np.array(waves(100_000, 3, 8, Backend(dtype))) for dtype in ("float64", "float32"))
    assert np.abs(exact - rounded).max() <= 2.0**-24


# Memory ---------------------------------------------------------------------------------------------------------


def test_one_array_of_keys_by_queries_is_kept():
    T, heads, backend = 192, 4, Backend("float32")
    square = heads * T * T * 4
    model = built(nn.MultiHeadAttention(heads, causal=True), (T, 8), backend)
    x, dy = (backend.asarray(numbers(1, T, 8, seed=seed)) for seed in (1, 2))
    model.forward(x)[1](dy)  # what is kept for good is there now
    tracemalloc.start()
    try:
        _, backward = model.forward(x)
        assert square <= tracemalloc.get_traced_memory()[0] < 1.2 * square
        tracemalloc.reset_peak()
        backward(dy)
        assert tracemalloc.get_traced_memory()[1] < 2.3 * square  # the probabilities and what becomes of dy
    finally:
        tracemalloc.stop()


# Going on from a cache ------------------------------------------------------------------------------------------


def stack(*positions, rotary=False):
    blocks = [nn.TransformerBlock(2, causal=True, rotary=rotary) for _ in range(2)]
    inner = nn.Residual(nn.MultiHeadAttention(2, causal=True), shortcut=nn.Sequential(nn.Linear(8), *positions))
    return nn.Sequential(nn.Embedding(7, 8), *positions, *blocks, inner, nn.LayerNorm(), nn.Linear(7))


STACKS = {
    "learned": lambda: stack(nn.LearnedPosition(9)),
    "sinusoidal": lambda: stack(nn.SinusoidalPosition()),
    "rotary": lambda: stack(rotary=True),
}


@pytest.mark.parametrize("pieces", [[1] * 9, [4, 1, 3, 1], [9]], ids=str)
@pytest.mark.parametrize("make", STACKS.values(), ids=STACKS)
def test_a_cache_gives_what_a_whole_pass_gives(make, pieces, kind):
    tokens = np.random.default_rng(0).integers(0, 7, (3, 9))
    for dtype, tolerance in (("float32", 10 * FLOAT32), ("float64", 10 * FLOAT64)):
        backend = kind(dtype, 0)
        model = nn.Model(make(), (None,), backend)
        whole, cache, parts = model.predict(tokens), {}, []
        for piece in np.split(tokens, np.cumsum(pieces)[:-1], axis=1):
            y = nn.decode(model.network, backend.asarray(piece.copy()), cache, backend)
            parts.append(np.array(backend.to_host(y)))
        got = np.concatenate(parts, axis=1)
        assert got.dtype == dtype
        assert np.abs(got - whole).max() <= tolerance * np.abs(whole).max()


def test_two_caches_do_not_know_of_each_other():
    backend, x = Backend("float64"), numbers(2, 3, 4)
    model = built(nn.TransformerBlock(2, causal=True), (None, 4), backend)
    caches: list[dict] = [{}, {}]
    for t in range(3):
        got = [nn.decode(model.network, x[i : i + 1, t : t + 1], caches[i], backend) for i in range(2)]
    assert np.allclose(np.concatenate(got), model.forward(x)[0][:, -1:], rtol=0, atol=1e-13)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("rotary", [False, True])
def test_the_weights_that_are_shown_are_those_of_the_pass(causal, rotary, kind):
    """With them, by NumPy, comes out what the layer gives: concat_h(p v) W_out + b."""
    backend = kind("float64", 0)
    layer = nn.MultiHeadAttention(2, causal=causal, rotary=rotary)
    model, x = built(layer, (None, 8), backend), backend.asarray(numbers(3, 5, 8))
    host = lambda array: np.array(backend.to_host(array))
    p, y = host(layer.weights(x, backend)), host(model.forward(x)[0])
    assert p.shape == (3, 2, 5, 5)
    assert np.triu(p, 1).any() != causal  # what comes later
    assert np.allclose(p.sum(axis=-1), 1, rtol=0, atol=1e-12)
    v = (host(x) @ host(layer.qkv.W.data) + host(layer.qkv.b.data))[..., 16:].reshape(3, 5, 2, 4)
    heads = np.einsum("nhts,nshd->nthd", p, v).reshape(3, 5, 8)
    assert np.allclose(heads @ host(layer.out.W.data) + host(layer.out.b.data), y, rtol=0, atol=1e-12)


def test_what_cannot_go_on_says_so():
    backend = Backend("float64")
    x = backend.asarray(numbers(1, 1, 4))
    model = built(nn.TransformerBlock(2), (None, 4), backend)
    with pytest.raises(ValueError, match="only causal attention without a mask can continue"):
        nn.decode(model.network, x, {}, backend)
    model = built(nn.MultiHeadAttention(2, causal=True), ((None, 4), (None,)), backend)
    with pytest.raises(ValueError, match="only causal attention without a mask can continue"):
        nn.decode(model.network, x, {}, backend)
    with pytest.raises(ValueError, match="weights can be shown only for self-attention without a mask"):
        model.network.weights(x, backend)
    model = built(nn.Parallel(nn.MultiHeadAttention(2, causal=True), nn.Linear(2)), (3, 4), backend)
    with pytest.raises(TypeError, match="decode supports Sequential and Residual around other layers, not Parallel"):
        nn.decode(model.network, x, {}, backend)
    model, cache = built(nn.LearnedPosition(2), (None, 4), backend), {}
    for _ in range(2):
        nn.decode(model.network, x, cache, backend)
    with pytest.raises(ShapeError, match="has 2 positions, but the sequence has 3"):
        nn.decode(model.network, x, cache, backend)


def test_layers_that_take_each_position_by_itself_go_on():
    backend, x = Backend("float64"), numbers(2, 6, 4)
    network = nn.Sequential(
        nn.Standardize(0.1, 2.0), nn.Linear(4), nn.BatchNorm(), nn.PReLU(), nn.TransformerBlock(2, causal=True),
        nn.Parallel(nn.Sequential(nn.RMSNorm(), nn.Tanh()), nn.Linear(2)), nn.Blocked(nn.Linear(3), nn.Softmax()),
    )  # fmt: skip
    model, cache = built(network, (None, 4), backend), {}
    model.parameters["layers.2.running_var"].data[...] = 2
    got = [nn.decode(network, x[:, part], cache, backend) for part in (slice(0, 1), slice(1, 4), slice(4, 6))]
    assert np.allclose(np.concatenate(got, axis=1), model.predict(x), rtol=0, atol=1e-12)


class FromTheMean(nn.Layer):
    """A layer of one's own, which says nothing about positions."""

    def forward(self, x, backend):
        return x - x.mean(axis=1, keepdims=True), lambda dy, need_dx=True: dy - dy.mean(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("layer", "kind"),
    [
        (nn.RNN(4), "RNN"),
        (nn.LSTM(4), "LSTM"),
        (nn.GRU(4, bidirectional=True), "GRU"),
        (nn.GroupNorm(2), "GroupNorm"),
        (FromTheMean(), "FromTheMean"),
        (nn.Residual(nn.Linear(4), nn.GRU(4)), "GRU"),
        (nn.Parallel(nn.Linear(2), nn.LSTM(2)), "LSTM"),
        (nn.Parallel(nn.Linear(4), nn.Tanh(), axis=0), "Parallel"),
    ],
    ids=repr,
)
def test_layers_that_see_positions_together_cannot_go_on(layer, kind):
    backend = Backend("float64")
    model = built(nn.Sequential(nn.Linear(4), layer, nn.TransformerBlock(2, causal=True)), (None, 4), backend)
    with pytest.raises(
        TypeError, match=rf"layers that treat each position by itself \(by_position = True\), which {kind} does not"
    ):
        nn.decode(model.network, numbers(2, 2, 4), {}, backend)


# Blocks and options ---------------------------------------------------------------------------------------------


def test_a_block_has_the_parameters_that_its_options_say():
    def parameters(**options):
        return nn.Model(nn.TransformerBlock(2, **options), (None, 6), Backend()).parameters

    with_bias, without = parameters(), parameters(bias=False, init=nn.init.constant(0.25))
    assert sum(p.size for p in without.values()) == 12 * 6 * 6 + 4 * 6
    assert sum(p.size for p in with_bias.values()) == 12 * 6 * 6 + 4 * 6 + (3 + 1 + 4 + 1) * 6
    assert {float(p.data.flat[0]) for p in without.values() if p.data.ndim == 2} == {0.25}


@pytest.mark.parametrize("other", ["layers.1.layers.3.W", "layers.0.layers.1.out.W"])
def test_a_block_drops_in_training_what_each_part_adds(other):
    backend = Backend("float64", 3)
    model = built(nn.TransformerBlock(1, dropout=0.5, bias=False), (40, 8), backend)
    model.parameters[other].data[...] = 0  # the other part adds nothing
    x = numbers(4, 40, 8)
    with backend.mode(training=True):
        added = model.forward(x)[0] - x
    assert 0.4 < (added == 0).mean() < 0.6
    assert (model.forward(x)[0] != x).all()


def test_attention_learns_to_look_something_up():
    """Each sample is a row of pairs (key, value), and a query that is one of the keys: its value is asked for."""
    rng = np.random.default_rng(0)
    keys = np.stack([rng.permutation(4) for _ in range(600)])
    values = rng.integers(0, 4, keys.shape)
    asked = rng.integers(0, 4, len(keys))
    memory = np.concatenate([np.eye(4)[keys], np.eye(4)[values]], axis=2)
    x = np.eye(4)[keys[np.arange(len(keys)), asked]][:, None]
    answers = values[np.arange(len(keys)), asked][:, None]
    samples = Dataset((np.concatenate([x, x], axis=2), memory), answers)
    network = nn.Sequential(nn.MultiHeadAttention(2), nn.Linear(4))
    model = nn.Model(network, ((1, 8), (4, 8)), Backend("float32", 1))
    train.fit(
        model, losses.SoftmaxCrossEntropy(), optim.Adam(model, 0.02), samples[:500],
        epochs=25, batch_size=25, quiet=True,
    )  # fmt: skip
    assert train.evaluate(model, losses.SoftmaxCrossEntropy(), samples[500:]).metrics["accuracy"] > 0.95


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.MultiHeadAttention(3), (5, 8), "cannot split 8 channels into 3 heads"),
        (nn.MultiHeadAttention(2, rotary=True), (5, 6), "into 2 heads, each of an even number"),
        (nn.MultiHeadAttention(2), (8,), r"takes \(T, C\)"),
        (nn.MultiHeadAttention(2), (5, None), r"takes \(T, C\)"),
        (nn.MultiHeadAttention(2), ((5, 8), (5, 8), (5, 8)), r"takes \(T, C\)"),
        (
            nn.MultiHeadAttention(2),
            ((5, 8), (6,)),
            r"its mask has shape \(6,\), which does not fit a sequence of shape \(5, 8\)",
        ),
        (nn.MultiHeadAttention(2, causal=True), ((5, 8), (6, 4)), "takes no memory with causal or rotary"),
        (nn.MultiHeadAttention(2, rotary=True), ((5, 8), (6, 4)), "takes no memory with causal or rotary"),
        (nn.SinusoidalPosition(), (4, 3), "even number of channels"),
        (nn.LearnedPosition(3), (4, 2), "has 3 positions, but the sequence has 4"),
        (nn.LearnedPosition(3), (4,), r"needs sequences \(T, C\)"),
        (nn.TransformerBlock(2), (4,), r"needs sequences \(T, C\)"),
        (nn.TransformerBlock(3), (4, 8), r"layers.0.layers.1 \(MultiHeadAttention\): cannot split 8"),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        nn.Model(layer, shape, Backend())


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: nn.MultiHeadAttention(0),
            ValueError,
            "heads of MultiHeadAttention must be a whole number >= 1",
        ),
        (lambda: nn.MultiHeadAttention(2, init="normal"), TypeError, "init is an initializer"),
        (lambda: nn.LearnedPosition(0), ValueError, "length of LearnedPosition must be a whole number >= 1, not 0"),
        (lambda: nn.LearnedPosition(4, init=0.02), TypeError, "init is an initializer"),
        (lambda: nn.TransformerBlock(0), ValueError, "heads of MultiHeadAttention must be a whole number >= 1"),
        (
            lambda: nn.TransformerBlock(2, dropout=1.0),
            ValueError,
            "p of Dropout must be a finite number >= 0 and below",
        ),
    ],
)
def test_bad_options(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_the_least_that_there_can_be():
    assert nn.Model(nn.LearnedPosition(1), (1, 1), Backend()).n_parameters == 1
    assert nn.Model(nn.MultiHeadAttention(1, bias=False), (1, 1), Backend()).n_parameters == 4


# The check ------------------------------------------------------------------------------------------------------

CHECKED = {
    "causal, rotary": (nn.MultiHeadAttention(2, causal=True, rotary=True), (None, 8), spread),
    "causal, masked": (nn.MultiHeadAttention(2, causal=True), ((3, 4), (3,)), (spread, padding)),
    "crossed, masked": (nn.MultiHeadAttention(3, bias=False), ((None, 6), (4, 5), (4,)), (spread, spread, padding)),
    "learned": (nn.LearnedPosition(6), (None, 3), spread),
    "sinusoidal": (nn.SinusoidalPosition(), (6, 4), spread),
    "block": (nn.TransformerBlock(2, causal=True, dropout=0.2), (None, 4), spread),
}


@pytest.mark.parametrize("what", CHECKED)
def test_the_check_of_ones_own_layers(what):
    layer, shape, draw = CHECKED[what]
    assert verify.check(layer, shape, draw=draw).ok
