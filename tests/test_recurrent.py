"""RNN, LSTM and GRU: what their rows of the table do not say. Chunks of a sequence, masks, states, first values."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import data, losses, nn, optim, train
from xpnet.backend import Backend
from xpnet.nn import Model, ShapeError
from xpnet.verify.cases.recurrent import CASES
from xpnet.verify.check import layer_findings
from xpnet.verify.report import finding
from xpnet.verify.rows import name
from xpnet.verify.witnesses import layer_by_formula, layer_by_scalars

KINDS = pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU], ids=lambda layer: layer.__name__)
BLOCKS = {nn.RNN: 1, nn.LSTM: 4, nn.GRU: 3}


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-13)


def drawn(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def with_states(layer, layers=1, length=7):
    """A model that takes and gives states, x (2, T, 3), the first states, and None for the gradient of each state."""
    n = len(layer.state_names)
    network = layer(4, layers=layers, state=True, return_state=True)
    model = Model(network, ((None, 3), *[(layers, 4)] * n), Backend("float64", 3))
    return model, drawn(2, length, 3), [drawn(2, layers, 4, seed=i) for i in range(n)], [None] * n


@pytest.mark.parametrize("case", [case for case in CASES if "everything" in case.what], ids=name)
def test_all_options_at_once(case):
    """The fullest rows of the table, before the rest of it."""
    assert not [str(f) for f in [finding("formula", "", layer_by_formula, case, 3)] if not f.ok]
    assert not [str(f) for f in [finding("scalar engine", "", layer_by_scalars, case, 3)] if not f.ok]
    assert not [str(f) for f in layer_findings(case.subject(3), Backend, "cpu") if not f.ok]


# Chunks of a sequence -------------------------------------------------------------------------------------------


@KINDS
@pytest.mark.parametrize("layers", [1, 2])
def test_chunks_that_hand_on_their_state_are_the_whole_sequence(layer, layers):
    """Forward; and, where dh0 is handed back, backward too."""
    model, x, first, nothing = with_states(layer, layers)
    dy = drawn(2, 7, 4)
    (y, *last), backward = model.forward((x, *first))
    dx, *dfirst = backward((dy, *nothing))
    gradient = model.grad.copy()

    model.zero_grad()
    (y1, *between), backward1 = model.forward((x[:, :3], *first))
    (y2, *last2), backward2 = model.forward((x[:, 3:], *between))
    dx2, *dbetween = backward2((dy[:, 3:], *nothing))
    dx1, *dfirst1 = backward1((dy[:, :3], *dbetween))
    close(np.concatenate([y1, y2], axis=1), y)
    close(last2, last)
    close(np.concatenate([dx1, dx2], axis=1), dx)
    close(dfirst1, dfirst)
    close(model.grad, gradient)


@KINDS
def test_truncated_backpropagation_lacks_what_goes_back_through_the_state_and_nothing_else(layer):
    model, x, first, nothing = with_states(layer)
    dy = drawn(2, 7, 4)

    def gradient(backward, dy):
        model.zero_grad()
        return backward(dy), model.grad.copy()

    _, whole = gradient(model.forward((x, *first))[1], (dy, *nothing))
    (_, *between), backward1 = model.forward((x[:, :3], *first))
    (_, *dbetween), second = gradient(model.forward((x[:, 3:], *between))[1], (dy[:, 3:], *nothing))
    _, first_chunk = gradient(backward1, (dy[:, :3], *nothing))
    _, through_state = gradient(model.forward((x[:, :3], *first))[1], (None, *dbetween))
    assert np.abs(through_state).max() > 0.01
    close(first_chunk + second + through_state, whole)


@KINDS
def test_without_any_gradient_there_is_none(layer):
    model, x, first, nothing = with_states(layer)
    dx, *dfirst = model.forward((x, *first))[1]((None, *nothing))
    assert dx.shape == x.shape
    assert not any(d.any() for d in (dx, *dfirst, model.grad))


@KINDS
def test_a_sequence_without_steps_keeps_its_state(layer):
    model, x, first, _ = with_states(layer, layers=2, length=0)
    (y, *last), backward = model.forward((x, *first))
    assert y.shape == (2, 0, 4)
    assert np.array_equal(last, first)
    dlast = [drawn(2, 2, 4, seed=9)] * len(last)
    dx, *dfirst = backward((y, *dlast))
    assert dx.shape == (2, 0, 3)
    assert np.array_equal(dfirst, dlast)
    assert not model.grad.any()


# Masks ----------------------------------------------------------------------------------------------------------


def masked(layer, **options):
    return Model(layer(4, mask=True, **options), ((None, 3), (None,)), Backend("float64", 3))


@KINDS
@pytest.mark.parametrize("options", [{}, {"layers": 2, "bidirectional": True}], ids=["plain", "stacked"])
def test_a_ragged_batch_is_each_sequence_by_itself(layer, options):
    """Whether the padding stands before, behind or between: the outputs, the last state and the gradients."""
    model = masked(layer, return_state=True, **options)
    alone = Model(layer(4, return_state=True, **options), (None, 3), Backend("float64", 3))
    places = ([0, 1, 2, 3, 4, 5], [2, 3, 4, 5], [0], [1, 3, 4])
    x, mask = drawn(4, 6, 3), np.zeros((4, 6), bool)
    for n, steps in enumerate(places):
        mask[n, steps] = True
    (y, *last), backward = model.forward((x, mask))
    dy, dlast = drawn(*y.shape), [drawn(*s.shape, seed=i) for i, s in enumerate(last)]
    dx, none = backward((dy, *dlast))
    assert none is None
    assert not y[~mask].any()
    assert not dx[~mask].any()
    for n, steps in enumerate(places):
        (y_one, *last_one), backward_one = alone.forward(x[n : n + 1, steps])
        close(y[n, steps], y_one[0])
        close([s[n] for s in last], [s[0] for s in last_one])
        dx_one = backward_one((dy[n : n + 1, steps], *[d[n : n + 1] for d in dlast]))
        close(dx[n, steps], dx_one[0])
    close(model.grad, alone.grad)


def test_what_the_padding_holds_does_not_matter_nor_how_the_mask_is_written():
    model, x, mask = masked(nn.LSTM, bidirectional=True), drawn(3, 5, 3), np.arange(15).reshape(3, 5) % 4 != 0
    want = model.predict((x, mask))
    assert want.any()
    for other in (mask.astype(np.uint8), 7 * mask.astype(np.int64), -mask.astype(np.int8)):
        assert np.array_equal(model.predict((np.where(mask[..., None], x, 1e3), other)), want)


def test_a_mask_that_does_not_fit():
    model, x = masked(nn.GRU), drawn(2, 5, 3)
    with pytest.raises(TypeError, match="a mask holds booleans or integers, not float64"):
        model.forward((x, np.ones((2, 5))))
    with pytest.raises(ShapeError, match=r"GRU: a mask of shape \(2, 4\) does not fit x of shape \(2, 5, 3\)"):
        model.forward((x, np.ones((2, 4), bool)))


@KINDS
def test_states_of_another_batch(layer):
    model, x, first, _ = with_states(layer)
    wrong = x, *(s[:1] for s in first)
    with pytest.raises(ShapeError, match=r"the inputs have 2, 1.* samples"):
        model.forward(wrong)
    with pytest.raises(ShapeError, match=r"has states of 1.* samples, but x of 2"):  # given by another layer
        model.network(wrong, model.backend)


# Directions, products -------------------------------------------------------------------------------------------


@KINDS
def test_the_backward_direction_is_the_forward_one_on_the_sequence_turned_round(layer):
    both = Model(layer(4, bidirectional=True), (6, 3), Backend("float64", 3))
    one = Model(layer(4), (6, 3), Backend("float64", 3))
    x = drawn(2, 6, 3)
    y = both.predict(x)
    for i, turned in enumerate([x, x[:, ::-1]]):
        for key, parameter in one.parameters.items():
            parameter.data[...] = both.parameters[key.replace("cells.0", f"cells.{i}")].data
        want = one.predict(turned)
        close(y[..., 4 * i : 4 * i + 4], want[:, ::-1] if i else want)


class Counting(Backend):
    products = 0

    def matmul(self, a, b, out=None):
        self.products += a.size > 0
        return super().matmul(a, b, out=out)


@KINDS
def test_one_product_for_all_inputs_and_one_a_step_for_the_state(layer):
    backend = Counting("float64", 0)
    model = Model(layer(4, layers=2), (6, 3), backend)
    counts = []
    for need_dx in (True, False):
        backend.products = 0
        y, backward = model.forward(drawn(2, 6, 3))
        assert backend.products == 2 * (1 + 6)
        dx = backward(y, need_dx)
        assert (dx is None) == (not need_dx)
        counts.append(backend.products)
    assert counts[0] == counts[1] + 1  # dx of the first layer, and nothing else, is spared


# First values, names, errors ------------------------------------------------------------------------------------


@KINDS
def test_first_values(layer):
    model = Model(layer(50), (None, 70), Backend("float64", 0))
    values, n = model.tensors(), BLOCKS[layer]
    assert list(values)[:3] == ["cells.0.W", "cells.0.U", "cells.0.b"]
    for U in np.split(values["cells.0.U"], n, axis=1):
        close(U.T @ U, np.eye(50))
    bound = np.sqrt(6 / (70 + 50))  # of one gate, not of all
    assert 0.99 * bound < np.abs(values["cells.0.W"]).max() < bound
    b = np.split(values["cells.0.b"], n)
    assert [block.tolist() for block in b] == [[float(layer is nn.LSTM and i == 1)] * 50 for i in range(n)]
    assert model.n_decay == values["cells.0.W"].size + values["cells.0.U"].size


def test_names_follow_layers_and_directions():
    model = Model(nn.GRU(4, layers=2, bidirectional=True), (None, 3), Backend())
    keys = ("W", "U", "b", "b_hn")
    assert list(model.parameters) == [f"cells.{i}.{key}" for i in range(4) for key in keys]
    assert [model.parameters[f"cells.{i}.W"].shape for i in range(4)] == [(3, 12), (3, 12), (8, 12), (8, 12)]


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (nn.RNN(4), (3,), r"RNN: takes sequences of shape \(T, C\), where C has a fixed length, got \(3,\)"),
        (nn.LSTM(4), (5, None), "LSTM: takes sequences"),
        (nn.GRU(4), (5, 3, 2), "GRU: takes sequences"),
        (nn.LSTM(4), ((None, 3), (None,)), r"LSTM: takes x \(None, 3\), got"),
        (nn.LSTM(4, mask=True), (None, 3), r"LSTM: takes x \(None, 3\), mask \(None,\), got \(None, 3\)"),
        (
            nn.LSTM(4, layers=3, state=True),
            ((None, 3), (1, 4), (1, 4)),
            r"LSTM: takes x \(None, 3\), h0 \(3, 4\), c0 \(3, 4\), got",
        ),
    ],
    ids=str,
)
def test_shapes_that_do_not_fit(layer, shape, message):
    with pytest.raises(ShapeError, match=message):
        Model(layer, shape, Backend())


def test_one_unit_and_one_layer_are_enough():
    assert Model(nn.RNN(1, layers=1), (3, 1), Backend()).n_parameters == 3


@pytest.mark.parametrize(("sizes", "name"), [({"units": 0}, "units"), ({"units": 3, "layers": 0}, "layers")])
def test_sizes_that_cannot_be(sizes, name):
    with pytest.raises(ValueError, match=f"{name} of GRU must be a whole number >= 1, not 0"):
        nn.GRU(**sizes)


def test_only_a_mask_may_hold_integers():
    assert nn.GRU(3).accepts_integers is False
    assert nn.GRU(3, mask=True).accepts_integers == (False, True)
    assert nn.GRU(3, state=True).accepts_integers == (False, False)
    assert nn.LSTM(3, mask=True, state=True).accepts_integers == (False, True, False, False)


def test_as_many_inputs_as_the_layer_takes():
    x = np.zeros((2, 5, 4), np.float32)
    for given in (x, (x, x)):
        count = 2 if isinstance(given, tuple) else 1
        with pytest.raises(ShapeError, match=rf"the model takes 3 arrays, of shapes .*, and was given {count}"):
            Model(nn.GRU(3, mask=True, state=True), ((5, 4), (5,), (1, 3)), Backend()).forward(given)


@KINDS
def test_it_learns_to_remember(layer, kind):
    """What the first step held, at each step after it."""
    x = np.sign(drawn(120, 8, 1)).astype(np.float32)
    target = np.repeat(x[:, :1, 0] > 0, 8, axis=1).astype(np.int64)
    model = Model(nn.Sequential(layer(8), nn.Linear(2)), (None, 1), kind("float32", 0))
    result = train.fit(
        model, losses.SoftmaxCrossEntropy(), optim.Adam(model, 0.02), data.Dataset(x, target),
        epochs=12, batch_size=20, clip=1.0, quiet=True,
    )  # fmt: skip
    assert result.eager == ""
    assert result.history[-1]["train_accuracy"] > 0.95
    longer = np.concatenate([x, x[::-1]], axis=1)  # the length is free
    assert (model.predict(longer).argmax(axis=-1)[:, :8] == target).mean() > 0.95


def test_a_ragged_data_set_is_trained_as_any_other():
    """The sum of each sequence's real steps, where the padding holds other numbers."""
    x, mask = drawn(100, 6, 1), np.arange(6) < np.random.default_rng(0).integers(1, 7, (100, 1))
    y = np.cumsum(x * mask[..., None], axis=1) * mask[..., None]
    model = Model(nn.Sequential(nn.RNN(6, mask=True), nn.Linear(1, bias=False)), ((6, 1), (6,)), Backend("float32", 0))
    result = train.fit(
        model, losses.MeanSquaredError(), optim.Adam(model, 0.02), data.Dataset((x, mask), y),
        epochs=20, batch_size=20, quiet=True,
    )  # fmt: skip
    assert result.history[-1]["train_loss"] < 0.1 * result.history[0]["train_loss"]
    assert not model.predict((x, mask))[~mask].any()


@pytest.mark.parametrize("layer", [nn.RNN, nn.LSTM, nn.GRU])
def test_units_after_inputs_are_not_taken_for_layers(layer):
    """LSTM(128, 256) has 128 inputs and 256 units in PyTorch; here it would be 256 layers of 128 units."""
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
        layer(128, 256)
