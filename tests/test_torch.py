"""PyTorch as a witness: values and gradients of layers and losses, ten steps of every optimizer, schedules."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import losses, nn, optim, schedules
from xpnet.backend import Backend
from xpnet.backend.precision import to_bfloat16
from xpnet.nn.shapes import in_tuple
from xpnet.optim import loss_scale
from xpnet.verify.cases import LAYERS, LOSSES, OPTIMIZERS
from xpnet.verify.check import run_loss, tolerance
from xpnet.verify.passes import SEED, draw_values, is_data, named, run, run_optimizer, target_of, unnamed
from xpnet.verify.report import compare
from xpnet.verify.rows import name
from xpnet.verify.strict import StrictBackend
from xpnet.verify.tolerances import FLOAT64, LOSS_CURVE, scaled
from xpnet.verify.witnesses import optimizer_values

torch = pytest.importorskip("torch", reason="PyTorch is not installed: it is a welcome witness, not a need")

NAMES = {
    optim.SGD: "SGD",
    optim.RMSProp: "RMSprop",
    optim.AdaGrad: "Adagrad",
    optim.Adam: "Adam",
    optim.AdamW: "AdamW",
    optim.NAdam: "NAdam",
}


def close(got, want):
    error, allowed, where = compare(got, want, lambda: {k: scaled(10 * FLOAT64, w) for k, w in want.items()})
    assert error <= allowed, f"{where}: {error} > {allowed}"


def tensors(values, dtype):
    kinds = {"f": dtype, "u": "int64"}
    return {k: torch.tensor(v.astype(kinds.get(v.dtype.kind, v.dtype))) for k, v in values.items()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", [case for case in LAYERS if case.torch], ids=name)
def test_layers(case, dtype):
    for batch in case.batches:
        subject = case.subject(batch)
        values = draw_values(subject)
        theirs = tensors(values, dtype)
        leaves = {k: t.requires_grad_(t.dtype.is_floating_point) for k, t in theirs.items() if k[:2] != "dy"}
        y = case.torch(torch, unnamed("x", leaves), {k: t for k, t in leaves.items() if not is_data(k)})
        ys, dys = (in_tuple(v) for v in (y, unnamed("dy", theirs)))
        torch.autograd.backward(ys, dys)
        gradients = {
            f"d{k}" if is_data(k) else f"d {k}": t.grad.numpy() for k, t in leaves.items() if t.grad is not None
        }
        want = {k: t.detach().numpy() for k, t in named("y", y).items()} | gradients
        got = run(subject, values, Backend(dtype, SEED))
        got = {k: a for k, a in got.items() if not k.startswith("state ")}  # the rows' formulas look at those
        error, allowed, where = compare(got, want, lambda s=subject, v=values: tolerance(s, v, dtype))
        assert error <= 2 * allowed, f"{where}: {error} > 2 * {allowed}"  # both are off the exact result


@pytest.mark.parametrize("case", [case for case in LOSSES if case.torch], ids=name)
def test_losses(case):
    for batch in case.batches:
        values = case.values(batch)
        theirs = tensors(values, "float64")
        y, target = theirs["y"].requires_grad_(), target_of(theirs, lambda t: t)
        value = case.torch(torch, y, target)
        value.backward()
        want = {"value": value.detach().numpy(), "dy": y.grad.numpy()}
        close(run_loss(case.make(), values, Backend("float64")), want)


@pytest.mark.parametrize("case", [case for case in OPTIMIZERS if case.kind in NAMES], ids=name)
def test_optimizers(case):
    values = optimizer_values(steps=10)
    W, b = (torch.tensor(values[k]).requires_grad_() for k in ("W", "b"))
    options = {{"rho": "alpha"}.get(k, k): v for k, v in case.options.items()}
    groups = [{"params": [W], "weight_decay": case.decay}, {"params": [b], "weight_decay": 0.0}]
    optimizer = getattr(torch.optim, NAMES[case.kind])(groups, **options)
    for gradients in zip(values["gradients W"], values["gradients b"], strict=True):
        W.grad, b.grad = (torch.tensor(g) for g in gradients)
        if case.clip is not None:
            torch.nn.utils.clip_grad_norm_([W, b], case.clip)
        optimizer.step()
    # PyTorch divides by norm + 1e-6 when it clips, and keeps NAdam's product of momenta in float32.
    allowed = 1e-5 if case.clip else 2.0**-24 if case.kind is optim.NAdam else 10 * FLOAT64
    got = run_optimizer(case.make, values, Backend("float64"), case.clip)
    for key, parameter in (("W", W), ("b", b)):
        assert np.abs(got[key] - parameter.detach().numpy()).max() <= allowed * np.abs(got[key]).max()


def test_training_runs_along_the_same_curve():
    """Fifty steps of a network in float32, from the same weights, on the same batches."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((96, 8)).astype(np.float32), rng.integers(0, 4, 96)
    backend = Backend("float32", 1)
    model, loss = nn.Model(nn.mlp([8, 16, 12, 4]), (8,), backend), losses.SoftmaxCrossEntropy(0.1)
    layers = [torch.nn.Linear(a, b) for a, b in ((8, 16), (16, 12), (12, 4))]
    for i, layer in zip((0, 2, 4), layers, strict=True):
        layer.weight.data = torch.tensor(model.tensors()[f"layers.{i}.W"].T.copy())
        layer.bias.data = torch.tensor(model.tensors()[f"layers.{i}.b"])
    theirs = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
    mine, other = optim.SGD(model, 0.1, momentum=0.9), torch.optim.SGD(theirs.parameters(), 0.1, momentum=0.9)
    for step in range(50):
        batch = slice(32 * (step % 3), 32 * (step % 3) + 32)
        model.zero_grad()
        y, backward = model.forward(x[batch])
        value, dy = loss(y, labels[batch], backend)
        backward(dy, need_dx=False)
        mine.step()
        other.zero_grad()
        expected = torch.nn.functional.cross_entropy(
            theirs(torch.tensor(x[batch])), torch.tensor(labels[batch]), label_smoothing=0.1
        )
        expected.backward()
        other.step()
        assert float(value) == pytest.approx(expected.item(), rel=LOSS_CURVE), f"step {step}"


def rates(kind, steps, **options):
    """The rates of one of PyTorch's schedules, before each step."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=options.pop("lr"))
    schedule = kind(optimizer, **options)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_schedules():
    every = torch.optim.lr_scheduler
    pairs = [
        (schedules.Step(0.3, 4, 0.2), rates(every.StepLR, 15, lr=0.3, step_size=4, gamma=0.2)),
        (schedules.Cosine(0.3, 14, 0.01), rates(every.CosineAnnealingLR, 15, lr=0.3, T_max=14, eta_min=0.01)),
        (schedules.Exponential(0.3, 10, 0.3 * 0.9**10), rates(every.ExponentialLR, 11, lr=0.3, gamma=0.9)),
    ]
    for schedule, expected in pairs:
        assert [schedule(step) for step in range(len(expected))] == pytest.approx(expected, rel=1e-9)


def test_plateau():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.8)
    # PyTorch lets `patience` epochs pass and acts after the next one; here, as in `fit`, it acts after `patience`.
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1, threshold=0.0, min_lr=0.05)
    mine = schedules.Plateau(0.8, 0.5, 2, 0.05)
    for value in np.random.default_rng(0).integers(1, 30, 60).astype(float):
        mine.observe(value)
        theirs.step(value)
        assert mine(0) == pytest.approx(optimizer.param_groups[0]["lr"])


def test_bfloat16_is_rounded_alike():
    x = np.random.default_rng(0).standard_normal(9000).astype(np.float32)
    x *= np.float32(10) ** np.repeat(np.arange(-40, 35, 15), 1800).astype(np.float32)  # from denormals on
    theirs = torch.tensor(x).to(torch.bfloat16).view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(to_bfloat16(x, np), theirs)


def test_the_loss_scale_goes_up_and_down_alike(monkeypatch):
    monkeypatch.setattr(loss_scale, "EVERY", 3)
    model = nn.Model(nn.Linear(1), (1,), StrictBackend("float32", 0, "float16"))
    mine = optim.SGD(model, 0.1)
    weight = torch.zeros(1, requires_grad=True)
    other, scaler = torch.optim.SGD([weight], 0.1), torch.amp.GradScaler("cpu", growth_interval=3)
    for overflow in (1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0):
        value = float("inf") if overflow else 1.0
        model.grad[...] = mine.scaled(model.backend.asarray(np.full(2, value)))
        mine.step()
        weight.grad = None
        scaler.scale(weight.sum() * value).backward()
        scaler.step(other)
        scaler.update()
        assert mine.loss_scale.figures["loss_scale"] == scaler.get_scale()
        np.testing.assert_allclose(mine.steps.item() * -0.1, weight.item(), rtol=1e-6)
