"""Layers that several arrays go through, gradients that are none, and what a layer of one's own may get wrong."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import xpnet
from xpnet import data, losses, nn, optim, train
from xpnet.backend import Backend
from xpnet.bench import bench
from xpnet.nn.shapes import ContractError
from xpnet.verify.strict import StrictBackend

KINDS = pytest.mark.parametrize("kind", [Backend, StrictBackend])


class Fork(nn.Layer):
    """(x, 2 x)."""

    def build(self, shape):
        return shape, shape

    def forward(self, x, backend):
        return (x, 2 * x), lambda dy, need_dx=True: dy[0] + (0 if dy[1] is None else 2 * dy[1])


class Join(nn.Layer):
    """w (a + b), and of b no gradient if it is `one_sided`."""

    def __init__(self, w, one_sided=False):
        self.w, self.one_sided = w, one_sided

    def build(self, shape):
        return shape[0]

    def forward(self, x, backend):
        return self.w * (x[0] + x[1]), lambda dy, need_dx=True: (self.w * dy, None if self.one_sided else self.w * dy)


class Swap(nn.Layer):
    """(b, a)."""

    def forward(self, x, backend):
        return x[::-1], lambda dy, need_dx=True: dy[::-1]


class Stop(nn.Layer):
    """y = x, and no gradient goes back."""

    def forward(self, x, backend):
        return 1 * x, lambda dy, need_dx=True: None


class Total(nn.Layer):
    """The sum of the last axis."""

    def build(self, shape):
        return (1,)

    def forward(self, x, backend):
        return x.sum(axis=-1, keepdims=True), lambda dy, need_dx=True: dy + 0 * x


def gradient(kind, *layers):
    """dy/dw of w x through the layers, at w = x = 1 and dy = 1."""
    model = nn.Model(nn.Sequential(nn.Linear(1, bias=False), *layers), (1,), kind("float64", 0))
    model.data[...] = 1.0
    y, backward = model.forward(model.backend.asarray(np.ones((1, 1))))
    model.zero_grad()
    backward(1 + 0 * y, need_dx=False)
    return model.backend.to_host(y).ravel().tolist(), float(model.backend.to_host(model.grad)[0])


@KINDS
def test_gradients_of_several_inputs_that_go_several_ways_are_added_one_by_one(kind):
    assert gradient(kind, Fork(), nn.Parallel(Join(1.0), Join(10.0))) == ([3, 30], 33)
    assert gradient(kind, Fork(), nn.Parallel(Join(1.0, one_sided=True), Join(10.0))) == ([3, 30], 31)
    assert gradient(kind, Fork(), nn.Parallel(Join(1.0, True), Join(10.0, True)), Total()) == ([33], 11)
    assert gradient(kind, Fork(), nn.Residual(Join(1.0), shortcut=Join(10.0))) == ([33], 33)
    assert gradient(kind, Fork(), nn.Residual(Swap()), Join(1.0)) == ([6], 6)


@KINDS
def test_a_branch_that_gives_no_gradient_takes_none_from_the_others(kind):
    double = nn.Parallel(nn.Sequential(Fork(), Join(1.0)))
    assert gradient(kind, nn.Parallel(Stop(), double)) == ([1, 3], 3)
    assert gradient(kind, nn.Parallel(double.copy(), Stop())) == ([3, 1], 3)
    assert gradient(kind, nn.Residual(Stop())) == ([2], 1)
    assert gradient(kind, nn.Residual(Fork(), Join(1.0), shortcut=Stop())) == ([4], 3)
    assert gradient(kind, nn.Residual(Stop(), shortcut=Stop())) == ([2], 0)


def test_probabilities_and_metrics_are_of_one_output():
    model = nn.Model(nn.Sequential(nn.Linear(2), Fork()), (3,), Backend())
    with pytest.raises(TypeError, match="probabilities need a model of one output: compute them"):
        model.probabilities(np.ones((4, 3)))
    samples = data.Dataset(np.ones((8, 3)), np.ones((8, 2)))

    def loss(y, target, backend):
        return ((y[0] - target) ** 2).mean(), (2 * (y[0] - target) / 16, 0 * y[1])

    with pytest.raises(ValueError, match="accuracy, mae and r2 take one output, and the model gives several"):
        train.fit(model, loss, optim.SGD(model, 0.1), samples, epochs=1, metrics=[train.mae], quiet=True)
    with pytest.raises(ValueError, match="take one output"):
        train.fit(model, loss, optim.SGD(model, 0.1), samples, epochs=1, metrics=[train.accuracy], quiet=True)

    def sums(y, target, xp):
        return [y[1].sum() - 2 * y[0].sum(), len(target)]

    own = train.Metric("own", 2, sums, lambda total, n: total / n)  # one that takes both
    result = train.fit(model, loss, optim.SGD(model, 0.1), samples, epochs=1, metrics=[own], quiet=True)
    assert result.history[0]["train_own"] == pytest.approx(0, abs=1e-6)


# A layer of one's own -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "shapes"),
    [
        (lambda dy: dy[:, :2], r"\(4, 2\) for x of shape \(4, 3\)"),
        (lambda dy: dy.sum(), r"\(\) for x of shape \(4, 3\)"),
        (lambda dy: (dy, dy), r"\(4, 3\), \(4, 3\) for x of shape \(4, 3\)"),
        (lambda dy: 1.0, r"float for x of shape \(4, 3\)"),
    ],
)
@pytest.mark.parametrize("observed", [False, True])
def test_a_gradient_of_another_shape_than_x_names_the_layer(wrong, shapes, observed):
    class Wrong(nn.Layer):
        def forward(self, x, backend):
            return 1 * x, lambda dy, need_dx=True: wrong(dy)

    model = nn.Model(nn.Sequential(nn.Linear(3), Wrong(), nn.Linear(2)), (5,), Backend())
    with model.backend.observed_by(xpnet.backend.Observer() if observed else None):
        y, backward = model.forward(np.ones((4, 5), np.float32))
        with pytest.raises(ContractError, match=f"Wrong: backward gave a dx of shape {shapes}"):
            backward(np.ones_like(y))


def test_what_nobody_reads_may_have_any_shape():
    class Wrong(nn.Layer):
        def forward(self, x, backend):
            return 1 * x, lambda dy, need_dx=True: dy.sum()

    model = nn.Model(Wrong(), (3,), Backend())
    y, backward = model.forward(np.ones((4, 3), np.float32))
    assert backward(y, need_dx=False) == y.sum()


# Values of parameters, and copies -------------------------------------------------------------------------------------


def test_values_that_are_assigned_to_a_parameter_go_into_the_model():
    model = nn.Model(nn.Linear(2), (3,), Backend())
    W = model.parameters["W"]
    held = W.data
    W.data = np.arange(6.0).reshape(3, 2)
    assert W.data is held
    np.testing.assert_array_equal(model.data[:6], np.arange(6))
    W.data += 1
    np.testing.assert_array_equal(model.data[:6], np.arange(1, 7))
    with pytest.raises(ValueError, match="broadcast"):
        W.data = np.ones((2, 3))
    with pytest.raises(AttributeError, match=r"no values before its layer is part of a model: nn\.Model gives them"):
        nn.Parameter((2,), nn.init.zeros).data = np.ones(2)


@pytest.mark.parametrize("way", [copy.deepcopy, pickle.dumps])
def test_a_layer_of_a_model_is_not_copied_by_itself(way):
    model = nn.Model(nn.mlp([3, 4, 2]), (3,), Backend())
    with pytest.raises(
        TypeError, match=r"copy\.deepcopy\(model\) for a copy with the values, model\.network\.copy\(\) for"
    ):
        way(model.network)
    np.testing.assert_array_equal(copy.deepcopy(model).data, model.data)
    assert repr(copy.deepcopy(nn.mlp([3, 4, 2]))) == repr(nn.mlp([3, 4, 2]))  # of no model


# Arrays that are more than arrays -------------------------------------------------------------------------------------


def test_masked_values_are_refused_and_none_is_hidden():
    x, y = np.ones((8, 2)), np.ones((8, 1))
    for arrays in ((np.ma.masked_equal(x, 1), y), (x, np.ma.masked_equal(y, 1))):
        with pytest.raises(
            TypeError, match=r"values of this array are masked: fill them in, and leave them out by weights of 0"
        ):
            data.Dataset(*arrays)
    model = nn.Model(nn.Linear(1), (2,), Backend())
    with pytest.raises(TypeError, match="are masked"):
        model.predict(np.ma.masked_equal(x, 1))
    with pytest.raises(TypeError, match="are masked"):
        model.backend.asarray(np.ma.masked_equal(x, 1))
    whole = data.Dataset(np.ma.masked_equal(x, 2), np.ma.array(y))
    assert type(whole.x) is type(whole.y) is np.ndarray
    np.testing.assert_array_equal(model.predict(np.ma.masked_equal(x, 2)), model.predict(x))


def test_sizes_of_another_model_are_not_watched():
    model, other = (nn.Model(nn.Linear(1), (2,), Backend()) for _ in range(2))
    samples = data.Dataset(np.ones((8, 2)), np.ones((8, 1)))
    with pytest.raises(ValueError, match="these LayerSizes were made for another model"):
        train.fit(
            model, losses.MeanSquaredError(), optim.SGD(model, 0.1), samples, epochs=1, quiet=True,
            watch=train.LayerSizes(other),
        )  # fmt: skip


def test_one_answer_about_integers_is_that_of_every_input():
    model = nn.Model(nn.Sequential(Join(2.0), nn.Linear(3)), ((4,), (4,)), Backend())
    assert model.forward((np.ones((2, 4), np.float32),) * 2)[0].shape == (2, 3)
    with pytest.raises(TypeError, match="the model takes float32, its input is int64"):
        model.forward((np.ones((2, 4), np.float32), np.ones((2, 4), np.int64)))
    assert "Linear" in str(model.summary())
    assert bench(model, 4, seconds=0.01).step > 0


# What a backward takes --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.mlp([4, 4]), (4,)),
        (nn.Residual(nn.Linear(4)), (4,)),
        (nn.Sequential(nn.Linear(4), nn.Blocked(nn.Linear(4), nn.ReLU())), (4,)),
        (nn.GRU(4, layers=2), (3, 4)),
        (nn.Linear(4), (4,)),
        (nn.GELU(), (4,)),  # its backward overwrites what it keeps
        (nn.Parallel(nn.Linear(4), nn.Sequential(nn.Linear(4))), (4,)),
    ],
    ids=["mlp", "residual", "blocked", "gru", "linear", "gelu", "parallel"],
)
@pytest.mark.parametrize("need_dx", [True, False])
def test_a_second_call_of_a_backward_is_refused(network, shape, need_dx):
    """It gave dy as dx, and no gradients, as what the first call needed is gone."""
    model = nn.Model(network.copy(), shape, Backend("float64", 0))
    y, backward = model.forward(np.ones((5, *shape)))
    backward(np.ones_like(y), need_dx)
    gradients = model.grad.copy()
    with pytest.raises(RuntimeError, match=r"has run already.*run forward again"):
        backward(np.ones_like(y), need_dx)
    assert (model.grad == gradients).all()


def test_a_second_call_of_a_blocked_backward_is_refused_whatever_the_number_of_blocks(monkeypatch):
    model = nn.Model(nn.Blocked(nn.Linear(4), nn.ReLU()), (4,), Backend("float64", 0))
    monkeypatch.setattr(Backend, "chunks", lambda *_: [slice(0, 2), slice(2, 5)])
    y, backward = model.forward(np.ones((5, 4)))
    backward(np.ones_like(y))
    with pytest.raises(RuntimeError, match="has run already"):
        backward(np.ones_like(y))


@pytest.mark.parametrize("shape", [(5,), (5, 1), (1, 3), (3, 5), (), (5, 3, 1)])
def test_a_dy_of_another_shape_is_refused_and_the_backward_can_still_run(shape):
    model = nn.Model(nn.mlp([4, 3, 3], nn.Tanh), (4,), Backend("float64", 0))
    y, backward = model.forward(np.ones((5, 4)))
    with pytest.raises(nn.ShapeError, match=r"the shape of the outputs, \(5, 3\), not \("):
        backward(np.ones(shape))
    assert not model.grad.any()
    assert backward(np.ones_like(y)).shape == (5, 4)
    with pytest.raises(nn.ShapeError, match=r"\(5, 3\), not float"):
        model.forward(np.ones((5, 4)))[1](1.0)
    with pytest.raises(nn.ShapeError, match=r"\(5, 3\), not NoneType"):
        model.forward(np.ones((5, 4)))[1](None)


def test_several_outputs_take_a_tuple_of_dys_with_none_for_what_nobody_used():
    model = nn.Model(Fork(), (3,), Backend("float64", 0))
    x, one = np.ones((5, 3)), np.ones((5, 3))
    assert (model.forward(x)[1]((one, one)) == 3).all()
    assert (model.forward(x)[1]([one, one]) == 3).all()
    assert (model.forward(x)[1]((one, None)) == 1).all()
    for wrong in (one, (one,), (one, one, one), (one, one[:, 0]), (one, 1.0), None):
        with pytest.raises(nn.ShapeError, match=r"outputs, \(5, 3\), \(5, 3\), not "):
            model.forward(x)[1](wrong)


# What is told of mistakes -----------------------------------------------------------------------------------------


def test_a_loss_of_the_package_is_told_of_several_outputs():
    model = nn.Model(Fork(), (3,), Backend("float64", 0))
    for loss in (losses.MeanSquaredError(), losses.SoftmaxCrossEntropy()):
        words = f"{type(loss).__name__} takes one output, but the model has several: write a loss"
        with pytest.raises(TypeError, match=words):
            train.train_step(model, loss, optim.SGD(model, 0.1), np.ones((5, 3)), np.ones((5, 3)))
        with pytest.raises(ValueError, match=words):
            train.fit(model, loss, optim.SGD(model, 0.1), data.Dataset(np.ones((5, 3)), np.ones((5, 3))), epochs=1)
    with pytest.raises(ValueError, match="check_loss takes losses of one output"):
        xpnet.verify.check_loss(losses.MeanSquaredError(), ((3,), (2,)), lambda rng, shape: rng.standard_normal(shape))
    with pytest.raises(ValueError, match="several outputs: parity has no loss"):
        xpnet.verify.parity(model)


def test_a_single_number_is_no_input():
    model = nn.Model(Join(1.0), ((), ()), Backend("float64", 0))
    for ask in (model.predict, model.forward):
        with pytest.raises(nn.ShapeError, match=r"a single number: give one for each sample, such as np.full\(n, 7\)"):
            ask((np.ones(3), np.array(7.0)))


class Whole(nn.Layer):
    """A row of its table for each whole number; it does not say that it takes them."""

    def __init__(self):
        self.table = nn.Embedding(3, 2)

    def build(self, shape):
        return self.table.built(shape)

    def forward(self, x, backend):
        return self.table(x, backend)


def test_a_layer_of_ones_own_around_an_embedding():
    model = nn.Model(Whole(), (), Backend("float64", 0))
    with pytest.raises(TypeError, match=r"if a layer of your own takes whole numbers, .* accepts_integers = True"):
        model.predict(np.array([0, 2]))
    with pytest.raises(TypeError) as error:
        xpnet.verify.parity(model)
    assert error.value.__notes__ == ["these samples were drawn at random: parity(model, data) takes yours"]
    with pytest.raises(TypeError) as error:
        xpnet.verify.parity(model, data.Dataset(np.ones(8), np.ones((8, 2))))
    assert not hasattr(error.value, "__notes__")


def test_a_draw_of_several_inputs_at_once_is_told():
    both = lambda rng, shape: (np.ones((4, 3)), np.ones((4, 2)))
    with pytest.raises(ValueError, match="draw returned a tuple: for several inputs, give a tuple of functions"):
        xpnet.verify.check(Join(1.0), ((3,), (3,)), draw=both)


class Unbuilt(nn.Layer):
    """It leaves out the build of the layer inside."""

    def __init__(self):
        self.inner = nn.Linear(3)

    def forward(self, x, backend):
        return self.inner(x, backend)


class Forgetful(nn.Layer):
    """An error of its own, which has nothing to do with building."""

    def forward(self, x, backend):
        return self.missing


def test_a_layer_that_was_put_into_a_model_is_named():
    model = nn.Model(nn.mlp([3, 4, 2]), (3,), Backend())
    model.network.layers[-1] = nn.Linear(5)
    with pytest.raises(ContractError, match=r"layers\.2 \(Linear\): has not been built: .* needs a new nn\.Model"):
        model.predict(np.ones((2, 3)))


def test_a_layer_inside_that_was_not_built_is_named():
    with pytest.raises(ContractError, match=r"layers.0.inner \(Linear\): has not been built: .* built\(shape\) in its"):
        nn.Model(nn.Sequential(Unbuilt()), (3,), Backend()).predict(np.ones((2, 3)))
    with pytest.raises(AttributeError, match="missing"):
        nn.Model(Forgetful(), (3,), Backend()).predict(np.ones((2, 3)))


def test_a_parameter_says_what_it_takes():
    with pytest.raises(TypeError, match=r"the shape of a Parameter is a tuple, such as \(3,\), not 3"):
        nn.Parameter(3, nn.init.zeros)
    with pytest.raises(TypeError, match=r"nn\.init\.normal makes an initializer of a number: write nn\.init\.normal\("):
        nn.Model(nn.Linear(2, init=nn.init.normal), (3,), Backend())
    with pytest.raises(TypeError, match=r"init of a Parameter is an initializer, such as nn\.init\.zeros, not"):
        nn.Parameter((3,), np.ones(3))
