"""What of the package is fused on a GPU, how much of a step that is, and that the kernels give NumPy's numbers."""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np
import pytest
from host_kernels import compiler, numbers  # noqa: F401 (a fixture)

from xpnet import Backend, Model, losses, nn, optim
from xpnet.backend import kernels, tracing
from xpnet.backend.tracing import trace
from xpnet.train import train_step
from xpnet.verify import cases, passes
from xpnet.verify.strict import StrictBackend


@pytest.fixture
def chains(monkeypatch):
    """All chains that are traced on strict devices, by their source, with copies of their arrays."""
    found = {}

    def noted(*args):
        chain, result = trace(*args)
        found.setdefault(chain.source(), (chain, [np.array(a._host) for a in chain.arrays]))
        return chain, result

    monkeypatch.setattr(tracing, "trace", noted)
    return found


def assert_compiled_alike(chains):
    """Each chain as a kernel computes what NumPy does, but for rounding in exp and the like."""
    for chain, given in chains.values():
        one, other = ([np.array(a) for a in given] for _ in range(2))
        with np.errstate(all="ignore"):
            expected = chain.evaluate(*one, *chain.numbers)
        chain.arrays = other
        for a, b in zip((*expected, *one), (*kernels.launch(chain), *other), strict=True):
            np.testing.assert_allclose(b, a, rtol=3e-6, atol=1e-7, err_msg=chain.source())


def test_layers(compiler, chains):  # noqa: F811
    for case in cases.LAYERS:
        subject = case.subject(5)
        passes.run(subject, passes.draw_values(subject), StrictBackend())
    assert len(chains) > 25
    assert_compiled_alike(chains)


def test_losses(compiler, chains):  # noqa: F811
    for case in cases.LOSSES:
        backend, values = StrictBackend(), case.values(6)
        case.make()(backend.asarray(values["y"]), passes.target_of(values, backend.asarray), backend)
    assert chains
    assert_compiled_alike(chains)


def test_optimizers(compiler, chains):  # noqa: F811
    rng = np.random.default_rng(0)
    shapes = {"W": (3, 2), "b": (2,), "gradients W": (3, 3, 2), "gradients b": (3, 2)}
    values = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    for case in cases.OPTIMIZERS:
        passes.run_optimizer(case.make, values, StrictBackend(), case.clip)
    assert len(chains) > 10
    assert_compiled_alike(chains)


VIEWS = {"empty", "index", "ravel", "reshape", "swapaxes"}


@contextmanager
def launches(backend):
    """The operations of the block on a strict device, but for views and copies that are none."""
    names = []
    run = backend._device.run

    def noted(name, function, args, *kwargs):
        result = run(name, function, args, *kwargs)
        if name not in VIEWS and not (name in ("astype", "ascontiguousarray") and result is args[0]):
            names.append(name.split()[0])
        return result

    backend._device.run = noted
    yield names
    del backend._device.run


@pytest.mark.parametrize(
    ("layer", "forward", "backward"),
    [
        (nn.ReLU(), ["maximum"], ["fused"]),
        (nn.LeakyReLU(), ["rmul", "maximum"], ["fused"]),
        (nn.ELU(), ["maximum", "minimum", "expm1", "rmul", "add"], ["fused"]),
        (nn.HardSwish(), ["maximum", "add", "minimum", "mul", "mul"], ["fused"]),
        (nn.Sigmoid(), ["fused"], ["fused"]),
        (nn.Tanh(), ["tanh"], ["fused"]),
        (nn.SiLU(), ["fused"], ["mul"]),
        (nn.Mish(), ["fused"], ["mul"]),
        (nn.Softplus(), ["maximum", "abs", "neg", "exp", "log1p", "add"], ["fused"]),
        (nn.GELU(), ["fused"], ["multiply"]),
        (nn.GELU("none"), ["abs", "fused", "fused"], ["mul"]),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Layer) else "",
)
def test_what_an_activation_launches(layer, forward, backward):
    backend = StrictBackend()
    x, dy = (backend.asarray(numbers(3, 4, seed=s)) for s in range(2))
    with launches(backend) as forwards:
        _, back = layer(x, backend)
    with launches(backend) as backwards:
        back(dy)
    assert (forwards, backwards) == (forward, backward)


@pytest.mark.parametrize(
    ("layer", "fused_forward", "fused_backward"),
    [
        (nn.Dropout(0.5), 1, 0),
        (nn.BatchNorm(), 4, 1),
        (nn.LayerNorm(), 2, 1),
        (nn.RMSNorm(), 1, 1),
        (nn.GroupNorm(2), 2, 1),
        (nn.RNN(4), 0, 1),
        (nn.LSTM(4), 5 * 3, 2 + 5),
        (nn.GRU(4), 5 * 2, 2 + 5),
    ],
    ids=lambda value: repr(value) if isinstance(value, nn.Layer) else "",
)
def test_how_much_of_a_layer_is_fused(layer, fused_forward, fused_backward):
    backend = StrictBackend()
    model = Model(layer, (5, 4), backend)
    x = backend.asarray(numbers(3, 5, 4))
    with launches(backend) as forwards, backend.mode(training=True):
        y, back = model.forward(x)
    with launches(backend) as backwards:
        back(y)
    assert (forwards.count("fused"), backwards.count("fused")) == (fused_forward, fused_backward)


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda model: optim.SGD(model, 0.1), ["iadd", "fused"]),
        (lambda model: optim.SGD(model, 0.1, 0.9, nesterov=True), ["iadd", "fused"]),
        (lambda model: optim.SGD(model, 0.1, weight_decay=0.1), ["iadd", "fused", "fused"]),
        (lambda model: optim.Lion(model), ["iadd", "fused"]),
        (lambda model: optim.RMSProp(model), ["iadd", "fused"]),
        (lambda model: optim.AdaGrad(model), ["iadd", "fused"]),
        (lambda model: optim.Adam(model), ["iadd", "fused", "fused"]),
        (lambda model: optim.Adam(model, betas=(0.0, 0.0)), ["iadd", "fused", "fused"]),
        (lambda model: optim.AdamW(model), ["iadd", "fused", "fused", "fused"]),
        (lambda model: optim.NAdam(model), ["iadd", "fused", "fused", "fused"]),
    ],
)
def test_an_update_is_one_launch(make, expected):
    backend = StrictBackend()
    optimizer = make(Model(nn.mlp([4, 3, 2]), (4,), backend))
    with launches(backend) as names:
        optimizer.step()
    assert names == expected


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (optim.SGD, ["iadd", "fused"]),
        (optim.Adam, ["iadd", "iadd", "fused", "fused"]),
        (optim.NAdam, ["iadd", "iadd", "fused", "copy", "fused", "gt", "where", "assign", "fused"]),
    ],
)
def test_an_update_takes_as_many_launches_however_much_is_frozen(kind, expected):
    backend = StrictBackend()
    model = Model(nn.mlp([4] * 7), (4,), backend)
    optimizer = kind(model, 0.1)
    model.freeze("*.[02468].*", "*.10.b")  # 11 of 12
    optimizer.step()  # which finds out what is to be updated
    with launches(backend) as names:
        optimizer.step()
    assert names == expected


@pytest.mark.parametrize(
    ("network", "shape", "fuses", "expected"),
    [
        (nn.mlp([784, 128, 64, 32, 10]), (784,), True, (45, 16, 6)),
        (nn.mlp([784, 128, 64, 32, 10]), (784,), False, (72, 16, 0)),
        (nn.Sequential(nn.LSTM(128), nn.Linear(10)), (64, 16), True, (697, 137, 261)),
        (nn.Sequential(nn.LSTM(128), nn.Linear(10)), (64, 16), False, (1367, 137, 0)),
    ],
    ids=["tutorial", "tutorial, one by one", "LSTM", "LSTM, one by one"],
)
def test_a_step_with_adam(network, shape, fuses, expected):
    """How many launches, products and chains, fused and one by one: docs/gpu.md says it, too."""
    backend = StrictBackend()
    if not fuses:
        backend.fuse = lambda f: f
    model = Model(network, shape, backend)
    optimizer, x = optim.Adam(model), backend.asarray(numbers(4, *shape))
    target = backend.asarray(np.ones((4, *shape[:-1]), np.int64))
    with launches(backend) as names, backend.mode(training=True):
        train_step(model, losses.SoftmaxCrossEntropy(), optimizer, x, target)
    names = [name for name in names if name not in ("fill", "ones")]
    assert (len(names), names.count("matmul"), names.count("fused")) == expected


def test_an_optimizer_of_ones_own_that_is_no_chain():
    """Its steps are the same, one operation after the other."""

    class Normed(optim.Optimizer):
        def _update(self, x, g, lr, *state):
            x -= lr * g / (g * g).sum()

    found = []
    for kind in (Backend, StrictBackend):
        model = Model(nn.Linear(3), (4,), kind())
        model.grad[...] = model.backend.asarray(numbers(model.n_parameters))
        Normed(model, 0.1).step()
        found.append(model.tensors())
    for name, values in found[0].items():
        np.testing.assert_allclose(found[1][name], values, rtol=1e-6)
