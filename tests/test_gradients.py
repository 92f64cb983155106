"""The gradients of a model: cleared without being written, and still 0 for whoever looks."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import losses, nn, optim
from xpnet.backend import Backend, Observer
from xpnet.nn import Model
from xpnet.train.step import train_step
from xpnet.verify.strict import StrictBackend

KINDS = pytest.mark.parametrize("kind", [Backend, StrictBackend])


class Either(nn.Layer):
    """One of two layers: the other one gets no gradient in that step."""

    def __init__(self, first: nn.Layer, second: nn.Layer):
        self.first, self.second = first, second
        self.takes_first = True

    def build(self, shape):
        self.second.built(shape)
        return self.first.built(shape)

    def forward(self, x, backend):
        return (self.first if self.takes_first else self.second)(x, backend)


def either(kind=Backend):
    return Model(Either(nn.Linear(2), nn.Linear(2)), (3,), kind("float64", 0))


def drawn(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def on_host(model):
    backend = model.backend
    return {name: np.array(backend.to_host(model.parameters[name].grad)) for name in model.places}


def add(model, x):
    """A pass whose dy is y."""
    y, backward = model.forward(model.backend.asarray(x))
    backward(y)


@KINDS
@pytest.mark.parametrize("of_all", [False, True])
def test_a_layer_that_a_step_does_not_use_has_a_gradient_of_zero(kind, of_all):
    model, x = either(kind), drawn(4, 3)
    model.grad.fill(np.nan)
    for takes_first in (True, False, True):
        model.network.takes_first = takes_first
        model.zero_grad()
        add(model, x)
        if of_all:  # the flat buffer first, or each parameter on its own
            assert np.isfinite(model.backend.to_host(model.grad)).all()
        for name, grad in on_host(model).items():
            assert (name.startswith("first") == takes_first) == bool(np.abs(grad).min() > 0), name
            assert np.isfinite(grad).all()


@KINDS
def test_what_a_step_adds_is_added_whatever_came_before(kind):
    """Twice after one clearing is the sum, also for batches of other sizes; and once after another is once."""
    model, x = Model(nn.mlp([3, 4, 2]), (3,), kind("float64", 0)), drawn(9, 3)
    model.zero_grad()
    add(model, x)
    whole = on_host(model)
    for parts in ([x[:4], x[4:]], [x[:1], x[1:3], x[3:]], [x]):
        model.zero_grad()
        for part in parts:
            add(model, part)
        for name, grad in on_host(model).items():
            np.testing.assert_allclose(grad, whole[name], rtol=1e-12, atol=1e-15)


def test_a_layer_that_is_used_twice_gets_both_gradients():
    shared = nn.Linear(3, bias=False)
    model, x = Model(nn.Sequential(shared, shared), (3,), Backend("float64", 0)), drawn(4, 3)
    model.grad.fill(5)
    W = model.parameters["layers.0.W"]
    model.zero_grad()
    add(model, x)
    y = x @ W.data @ W.data
    np.testing.assert_allclose(W.grad, (x @ W.data).T @ y + x.T @ (y @ W.data.T), rtol=1e-12)


def test_zeros_are_there_for_who_looks_at_once():
    model, x = either(), drawn(4, 3)
    model.grad.fill(7)
    model.zero_grad()
    assert not model.grad.any()
    model.grad.fill(7)
    model.zero_grad()
    assert not any(grad.any() for grad in on_host(model).values())
    add(model, x)  # after the look there are still sums
    once = model.grad.copy()
    add(model, x)
    np.testing.assert_allclose(model.grad, 2 * once, rtol=1e-15)


def test_gradients_can_be_assigned_and_changed_in_place():
    model = either()
    W = model.parameters["first.W"]
    model.grad.fill(3)
    model.zero_grad()
    W.grad += 2  # of the zeros, not of the 3
    model.grad *= 10
    np.testing.assert_array_equal(W.grad, 20)
    assert model.grad.sum() == 20 * W.size
    model.zero_grad()
    model.grad = np.arange(float(model.n_parameters))
    np.testing.assert_array_equal(model.grad, np.arange(model.n_parameters))
    model.zero_grad()
    W.grad = drawn(3, 2)
    place = model.places["first.W"]
    np.testing.assert_array_equal(model.grad[place], drawn(3, 2).ravel())
    assert np.count_nonzero(model.grad) == W.size


def test_an_observer_sees_the_gradients_of_this_step_alone():
    seen = {}

    class Looks(Observer):
        def forward(self, layer, x, y):
            if isinstance(layer, nn.Linear):
                seen["before"] = layer.W.grad.copy()

        def backward(self, layer, dy, dx):
            if isinstance(layer, nn.Linear):
                seen["after"] = layer.W.grad.copy()

    model, x, target = Model(nn.Linear(2), (3,), Backend("float64", 0)), drawn(4, 3), np.zeros(4, int)
    step = losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.0), x, target
    train_step(model, *step)
    alone = model.parameters["W"].grad.copy()
    with model.backend.observed_by(Looks()):
        train_step(model, *step)
    assert not seen["before"].any()
    np.testing.assert_array_equal(seen["after"], alone)


def test_another_buffer_takes_the_gradients_over():
    model, x = either(), drawn(4, 3)
    model.zero_grad()
    add(model, x)
    want, buffer = model.grad.copy(), np.full(model.n_parameters, 9.0)
    model.zero_grad()
    model.keep_gradients_in(buffer)
    assert model.parameters["second.W"].grad.tolist() == [[9.0] * 2] * 3  # what is there counts
    model.zero_grad()
    add(model, x)
    np.testing.assert_array_equal(buffer[model.places["first.W"]], want[model.places["first.W"]])
    assert model.grad is buffer
    np.testing.assert_array_equal(buffer, want)


def test_adam_leaves_the_gradients_as_they_are():
    """Its working memory is not theirs: clipping and logging after the update still find them."""
    model = either()
    optimizer = optim.Adam(model, 0.1)
    model.grad[...] = want = drawn(model.n_parameters)
    optimizer.step()
    np.testing.assert_array_equal(model.grad, want)
    first = model.data.copy()
    model.grad[...] = drawn(2 * model.n_parameters)[model.n_parameters :]
    optimizer.step()
    assert (model.data != first).all()


@pytest.mark.parametrize("shape", [(2, 3, 4), (5, 2, 3, 4), (0, 3, 4), (2, 0, 4)])
def test_a_batch_of_matrices_times_one_is_that_of_each(shape):
    backend, a, b = Backend("float64", 0), drawn(*shape), drawn(4, 6)
    want = np.einsum("...ij,jk->...ik", a, b)
    np.testing.assert_allclose(backend.matmul(a, b), want, rtol=1e-12, atol=1e-15)
    out = np.empty(want.shape)
    assert backend.matmul(a, b, out=out) is out
    np.testing.assert_allclose(out, want, rtol=1e-12, atol=1e-15)
    turned = np.ascontiguousarray(np.swapaxes(a, 0, 1)).swapaxes(0, 1)  # not in a row
    np.testing.assert_allclose(backend.matmul(turned, b), want, rtol=1e-12, atol=1e-15)
    assert backend.matmul(np.empty((2, 3, 0)), np.empty((0, 4))).tolist() == np.zeros((2, 3, 4)).tolist()
