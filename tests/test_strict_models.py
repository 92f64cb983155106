"""Whole networks on the strict device: they keep the rules of a captured step, and learn as on the CPU."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from xpnet import Backend, Model, debug, losses, nn, optim, schedules
from xpnet.verify.strict import StrictBackend


@pytest.fixture(autouse=True)
def guards():
    """Every step here runs under the guards: nothing travels, no float64 sneaks in, all values are finite."""
    with warnings.catch_warnings(), debug(forbid_transfers=True):
        warnings.filterwarnings("ignore", "xpnet.debug\\(\\) saw no training step")  # some tests make none
        yield


PICTURES = np.random.default_rng(0).integers(0, 255, (16, 3, 2)).astype(np.uint8)
CLASSES = np.arange(16) % 4
ONE_HOT = np.eye(4)[CLASSES]
STEPS = 20

OPTIMIZERS = {
    "SGD": lambda m: optim.SGD(m, 0.05),
    "momentum": lambda m: optim.SGD(m, 0.05, momentum=0.9, weight_decay=1e-3),
    "Nesterov": lambda m: optim.SGD(m, 0.05, momentum=0.9, nesterov=True),
    "RMSProp": lambda m: optim.RMSProp(m, 0.01, weight_decay=1e-3),
    "AdaGrad": lambda m: optim.AdaGrad(m, 0.05),
    "Adam": lambda m: optim.Adam(m, 0.01),
    "Adam without a first moment": lambda m: optim.Adam(m, 0.01, betas=(0, 0.99)),
    "AdamW": lambda m: optim.AdamW(m, 0.01),
}
LOSSES = {
    "cross-entropy": (losses.SoftmaxCrossEntropy(), CLASSES),
    "cross-entropy of a distribution": (losses.SoftmaxCrossEntropy(), ONE_HOT),
    "label smoothing": (losses.SoftmaxCrossEntropy(label_smoothing=0.1), CLASSES),
    "class weights": (losses.SoftmaxCrossEntropy(class_weights=(1, 2, 3, 4)), CLASSES),
    "binary cross-entropy": (losses.BinaryCrossEntropy(), ONE_HOT),
    "mean squared error": (losses.MeanSquaredError(), ONE_HOT),
}
SCHEDULES = {
    "constant": schedules.Constant(0.05),
    "step": schedules.Step(0.05, every=7),
    "exponential": schedules.Exponential(0.05, STEPS, 0.001),
    "warm-up and cosine": schedules.WarmUp(4, schedules.Cosine(0.05, STEPS)),
    "one cycle": schedules.OneCycle(0.05, STEPS),
}


def network() -> nn.Sequential:
    """Every kind of activation, a residual sum and dropout between fully connected layers."""
    layers: list[nn.Layer] = [nn.Standardize(127.0, 70.0), nn.Flatten()]
    for activation in (nn.ReLU, nn.LeakyReLU, nn.Sigmoid, nn.Tanh, nn.GELU, nn.Softmax):
        layers += [nn.Linear(8), activation(), nn.Dropout(0.1), nn.Residual(nn.Linear(8, bias=False), nn.Tanh())]
    return nn.Sequential(*layers, nn.Linear(4))


def small() -> nn.Sequential:
    return nn.Sequential(nn.Standardize(127.0, 70.0), nn.Flatten(), nn.Linear(8), nn.Tanh(), nn.Linear(4))


def train(backend, network, loss, target, make_optimizer, schedule=None, clip=None):
    """`STEPS` captured steps on the same batch: the model and its losses."""
    model = Model(network, (3, 2), backend)
    optimizer = make_optimizer(model)

    def step(x, target):
        model.zero_grad()
        y, backward = model.forward(x)
        value, dy = loss(y, target, backend)
        backward(dy, need_dx=False)
        if clip:
            optim.clip_norm(model, clip)
        optimizer.step()
        return value

    captured, x, target = backend.capture(step), backend.asarray(PICTURES), backend.asarray(target)
    seen = []
    with backend.mode(training=True):
        for i in range(STEPS):
            if schedule:
                optimizer.lr = schedule(i)
            seen.append(float(captured(x, target)))
    return model, seen


def check(make_network, *arguments, **options) -> None:
    """Train on both devices from the same seed: the losses fall, and they and the weights agree."""
    on_cpu, losses_on_cpu = train(Backend(seed=3), make_network(), *arguments, **options)
    on_strict, losses_on_strict = train(StrictBackend(seed=3), make_network(), *arguments, **options)
    assert losses_on_cpu[-1] < losses_on_cpu[0]
    # Both compute with NumPy, if not always with the same calls (x**2, pieces of a buffer): float32 rounding.
    np.testing.assert_allclose(losses_on_strict, losses_on_cpu, rtol=1e-5)
    for name, values in on_cpu.tensors().items():
        np.testing.assert_allclose(on_strict.tensors()[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


def test_weights_start_alike_and_predictions_agree():
    models = [Model(network(), (3, 2), backend) for backend in (Backend(seed=3), StrictBackend(seed=3))]
    first, second = (model.tensors() for model in models)
    assert first.keys() == second.keys()
    assert all(np.array_equal(first[name], second[name]) for name in first)
    np.testing.assert_allclose(models[1].predict(PICTURES), models[0].predict(PICTURES), rtol=1e-5, atol=1e-6)


def test_every_activation_with_dropout_and_residual_sums():
    check(network, *LOSSES["cross-entropy"], OPTIMIZERS["Adam"], clip=1.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer(name):
    check(small, *LOSSES["cross-entropy"], OPTIMIZERS[name])


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss(name):
    check(small, *LOSSES[name], OPTIMIZERS["Adam"], clip=0.5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_rate_that_varies_between_replays(name):
    check(small, *LOSSES["cross-entropy"], OPTIMIZERS["SGD"], schedule=SCHEDULES[name])


def test_a_model_moves_between_devices_and_keeps_its_optimizers_state():
    model, _ = train(StrictBackend(seed=3), small(), *LOSSES["cross-entropy"], OPTIMIZERS["Adam"])
    moved = model.to(Backend())
    np.testing.assert_allclose(moved.predict(PICTURES), model.predict(PICTURES), rtol=1e-5, atol=1e-6)
    first, second = optim.Adam(model), optim.Adam(moved)
    first.steps += 3
    first.state["sum"].fill(2)
    second.load_tensors(first.tensors())
    first.load_tensors(second.tensors())
    assert all(np.array_equal(a, b) for a, b in zip(first.tensors().values(), second.tensors().values(), strict=True))
    assert float(first.steps[0]) == 3
