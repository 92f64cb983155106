"""Dynamic loss scaling: small gradients come through float16, an overflow costs one step, and all of it is counted,
shown, captured and resumed."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_fit import blobs
from test_resume import steps

import xpnet
from xpnet import losses, nn, optim, train
from xpnet.nn.saving import ModelFileError, read_tensors
from xpnet.optim import loss_scale
from xpnet.train.run import Run
from xpnet.verify.strict import StrictBackend

EVERY_OPTIMIZER = [optim.SGD, optim.Adam, optim.NAdam, optim.LAMB, optim.Muon]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The scale grows after three good steps."""
    monkeypatch.setattr(loss_scale, "EVERY", 3)


def linear(precision="float16", optimizer=optim.SGD, **options):
    """A layer of weights and biases on the strict device, its optimizer, and `step(*gradients)`."""
    backend = StrictBackend("float32", 0, precision)
    model = nn.Model(nn.Linear(2), (3,), backend)
    update = optimizer(model, 0.1, **options)

    def step(gradient):
        """As after a backward of the scaled loss: `gradient` is that of the unscaled one."""
        model.zero_grad()
        model.grad[...] = update.scaled(gradient)
        update.step()

    return model, update, step


def state(model, update):
    return {**model.tensors(), **{k: a for k, a in update.tensors().items() if k != "loss_scale"}}


def same(one, other):
    return all(np.array_equal(one[name], other[name]) for name in one)


# The scale ------------------------------------------------------------------------------------------------------------


def expected_scales(overflows, scale=2.0**16, every=3):
    """Micikevicius et al., in plain numbers."""
    scales, good, skipped = [], 0, 0
    for overflow in overflows:
        if overflow:
            scale, good, skipped = scale / 2, 0, skipped + 1
        else:
            good += 1
            if good == every:
                scale, good = scale * 2, 0
        scales.append((scale, skipped))
    return scales


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_the_scale_is_halved_by_an_overflow_and_doubled_after_enough_good_steps(value):
    model, update, step = linear()
    pattern = [1, 0, 0, 1, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 1]
    captured = model.backend.capture(step)
    found = []
    for overflow in pattern:
        gradient = np.ones(8, np.float32)
        gradient[5] = value if overflow else 1
        captured(model.backend.asarray(gradient))
        figures = update.loss_scale.figures
        found.append((figures["loss_scale"], figures["skipped_steps"]))
    assert found == expected_scales(pattern)


def test_it_has_a_highest_and_a_lowest_value(monkeypatch):
    model, update, step = linear()
    good, bad = (model.backend.asarray(np.full(8, value)) for value in (0.0, np.nan))
    monkeypatch.setattr(loss_scale, "HIGHEST", 2.0**18)
    for _ in range(12):
        step(good)
    assert update.loss_scale.figures["loss_scale"] == 2.0**18
    monkeypatch.setattr(loss_scale, "LOWEST", 2.0**15)
    before = state(model, update)
    for _ in range(3):
        step(bad)
    assert update.loss_scale.figures == {"loss_scale": 2.0**15, "skipped_steps": 3}
    assert same(before, state(model, update))
    step(bad)  # no scale mends that: let it be seen
    assert np.isnan(model.tensors()["W"]).all()
    assert update.loss_scale.figures == {"loss_scale": 2.0**15, "skipped_steps": 3}


def test_float16_alone_has_one():
    for precision in (None, "bfloat16"):
        model, update, _ = linear(precision)
        assert update.loss_scale is None
        assert "loss_scale" not in update.tensors()
        dy = model.backend.asarray(np.ones((1, 2)))
        assert update.scaled(dy) is dy
        update.unscale()
        update.step()


# A step ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY_OPTIMIZER)
def test_a_skipped_step_moves_nothing_and_the_next_goes_on_as_if_it_had_not_been(kind):
    more = {"momentum": 0.9} if kind is optim.SGD else {}
    (model, update, step), (plain, other, plain_step) = (linear(optimizer=kind, **more) for _ in range(2))
    gradients = [np.linspace(-1, 2, 8) * (i + 1) for i in range(4)]
    for i, gradient in enumerate(gradients):
        plain_step(plain.backend.asarray(gradient))
        step(model.backend.asarray(gradient))
        before = state(model, update)
        broken = gradient.copy()
        broken[i] = np.inf
        step(model.backend.asarray(broken))
        assert same(before, state(model, update))
    assert update.loss_scale.figures["skipped_steps"] == 4
    assert float(update.steps[0].item()) == 4
    assert same(state(model, update), state(plain, other))


@pytest.mark.parametrize("kind", EVERY_OPTIMIZER)
def test_the_scale_itself_changes_no_bit_of_a_step(kind):
    """It is a power of two."""
    (model, update, step), (plain, other, plain_step) = linear(optimizer=kind), linear(None, kind)
    for i in range(3):
        step(model.backend.asarray(np.linspace(-1, 2, 8) * (i + 1)))
        plain_step(plain.backend.asarray(np.linspace(-1, 2, 8) * (i + 1)))
    assert same(state(plain, other), state(model, update))


def two_layers(precision, size=1.0):
    """A network whose gradients are as small as `size`, and a step of training on it."""
    backend = StrictBackend("float32", 3, precision)
    model = nn.Model(nn.Sequential(nn.Linear(6), nn.Tanh(), nn.Linear(2)), (4,), backend)
    rng = np.random.default_rng(0)
    x, target = (backend.asarray(rng.standard_normal((8, n))) for n in (4, 2))

    def loss(y, target, backend):
        value, dy = losses.MeanSquaredError()(y, target, backend)
        return value * size, dy * size

    return model, loss, x, target


def gradients(precision, size, clip=None, accumulate=1):
    """Those of a step, seen by an optimizer that does nothing with them."""

    class Looks(optim.Optimizer):
        def _update(self, x, g, lr, *state):
            self.seen = g.copy()

    model, loss, x, target = two_layers(precision, size)
    update = Looks(model, 1.0)
    value, _ = train.train_step(model, loss, update, x, target, clip, accumulate)
    return model.backend.to_host(update.seen), value.item(), update


@pytest.mark.parametrize("size", [1e-8, 1.0, 1e8])
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("clip", [None, 1e-10, 1e-3])
def test_gradients_and_the_loss_come_out_as_in_float32(size, accumulate, clip, monkeypatch):
    monkeypatch.setattr(loss_scale, "START", {1e-8: 2.0**16, 1.0: 2.0**10, 1e8: 2.0**-15}[size])
    want, value, _ = gradients(None, size, clip, accumulate)
    got, narrow, update = gradients("float16", size, clip, accumulate)
    assert update.loss_scale.figures["skipped_steps"] == 0
    assert narrow == pytest.approx(value, rel=2e-3)  # the loss that is told is not scaled
    np.testing.assert_allclose(got, want, atol=5e-3 * np.abs(want).max())
    if clip is not None and np.linalg.norm(want) > 0.99 * clip:
        assert np.linalg.norm(got) == pytest.approx(clip, rel=1e-5)


def test_without_a_scale_small_gradients_would_be_lost(monkeypatch):
    monkeypatch.setattr(loss_scale, "START", 1.0)
    got, _, _ = gradients("float16", 1e-8)
    want, _, _ = gradients(None, 1e-8)
    of_products = slice(4 * 6 + 6 * 2)  # the weights; biases are sums
    assert want[of_products].all()
    assert not got[of_products].any()


@pytest.mark.parametrize("accumulate", [1, 4])
def test_an_overflow_in_one_sample_of_a_step_skips_it(accumulate):
    model, loss, x, target = two_layers("float16")
    update = optim.Adam(model)
    target[5] = 1e6  # a gradient that is above 65,504 once it is scaled, and not before
    before = state(model, update)
    train.train_step(model, loss, update, x, target, 1.0, accumulate)
    assert same(before, state(model, update))
    assert update.loss_scale.figures == {"loss_scale": 2.0**15, "skipped_steps": 1}


def test_the_gradients_of_several_outputs_are_scaled_each():
    model, update, _ = linear()
    gradients = tuple(model.backend.asarray(np.ones(shape, np.float32)) for shape in [2, (1, 3)])
    one, two = (model.backend.to_host(dy) for dy in update.scaled(gradients))
    assert one.tolist() == [2.0**16] * 2
    assert two.tolist() == [[2.0**16] * 3]


def test_what_is_frozen_does_not_count():
    model, update, step = linear()
    model.freeze("b")
    before = state(model, update)
    gradient = np.ones(8)
    gradient[7] = np.nan
    step(model.backend.asarray(gradient))
    assert update.loss_scale.figures["skipped_steps"] == 0
    after = state(model, update)
    assert np.array_equal(after["b"], before["b"])
    np.testing.assert_allclose(after["W"], before["W"] - 0.1, rtol=1e-5)


def test_a_loop_of_ones_own_scales_and_steps():
    model, loss, x, target = two_layers("float16", 1e-8)
    update = optim.SGD(model, 1e7)
    values = []
    for _ in range(30):
        model.zero_grad()
        y, backward = model.forward(x)
        value, dy = loss(y, target, model.backend)
        backward(update.scaled(dy), need_dx=False)
        update.step()
        values.append(value.item())
    assert values[-1] < 0.6 * values[0]


def test_the_gradients_of_a_loss_that_was_not_scaled_are_not_unscaled():
    model, update, step = linear()
    step(model.backend.asarray(np.full(8, np.nan)))  # skipped, which says nothing of the next one
    model.grad[...] = 1.0
    before = model.tensors()["b"]
    update.step()
    np.testing.assert_allclose(model.tensors()["b"], before - 0.1, rtol=1e-6)


# A run ----------------------------------------------------------------------------------------------------------------


def setup(precision="float16", seed=0, kind=optim.Adam, lr=0.01):
    backend = StrictBackend("float32", seed, precision)
    model = nn.Model(nn.mlp([2, 16, 3], dropout=0.2), (2,), backend)
    return model, losses.SoftmaxCrossEntropy(), kind(model, lr)


@pytest.fixture
def too_high(monkeypatch):
    """A first scale that overflows for some steps."""
    monkeypatch.setattr(loss_scale, "START", 2.0**24)


def fit(epochs=2, precision="float16", seed=0, kind=optim.Adam, **options):
    model, loss, optimizer = setup(precision, seed, kind)
    kw = {"batch_size": 16, "clip": 1.0, "quiet": True, **options}
    return model, train.fit(model, loss, optimizer, blobs(), epochs=epochs, **kw), optimizer


@pytest.mark.usefixtures("too_high")
def test_a_run_skips_counts_and_shows(capsys):
    _, result, optimizer = fit(quiet=False)
    assert result.eager == ""  # captured, the skipped steps too
    skipped = [row["skipped_steps"] for row in result.history]
    assert 3 <= skipped[0] <= skipped[1] < 20
    assert result.history[-1]["loss_scale"] == optimizer.loss_scale.figures["loss_scale"] < 2.0**24
    assert optimizer.steps.item() == 26 - skipped[-1]
    assert result.history[-1]["train_loss"] < 0.7 * result.history[0]["train_loss"]
    shown = re.findall(r"loss scale 2\^(\d+), (\d+) steps skipped so far", capsys.readouterr().err)
    assert [(2.0 ** int(scale), int(n)) for scale, n in shown] == [
        (row["loss_scale"], row["skipped_steps"]) for row in result.history
    ]
    _, in_float32, _ = fit(precision=None)
    assert "loss_scale" not in in_float32.history[0]
    assert result.history[-1]["train_loss"] == pytest.approx(in_float32.history[-1]["train_loss"], rel=0.5)


@pytest.mark.usefixtures("too_high")
def test_a_run_that_is_resumed_ends_with_the_same_bits(tmp_path):
    whole_model, whole, _ = fit(3)
    fit(1, checkpoint=tmp_path / "run")
    scale = read_tensors(tmp_path / "run")[0]["run/optimizer.loss_scale"]
    assert scale[0] < 2.0**24
    assert scale[2] >= 3
    model, resumed, _ = fit(3, checkpoint=tmp_path / "run", resume=True)
    assert same(whole_model.tensors(), model.tensors())
    for one, other in zip(whole.history, resumed.history, strict=True):
        assert {**one, "seconds": 0} == {**other, "seconds": 0}


@pytest.mark.usefixtures("too_high")
def test_a_run_that_has_gone_back_repeats_its_scales_too():
    model, loss, optimizer = setup()
    run = Run(model, loss, optimizer, blobs(), 16)
    snapshot = steps(run, 2).snapshot()
    after = everything_of(steps(run, 5))
    run.go_back(snapshot)
    assert everything_of(steps(run, 5)) == after


def everything_of(run):
    """All that a step changes, in a form that can be compared."""
    state = {name: np.array(run.model.backend.to_host(a)).tobytes() for name, a in run.changing().items()}
    return state | {name: np.array(a).tobytes() for name, a in run.tensors().items()}


@pytest.mark.parametrize("other", [None, "bfloat16"])
def test_a_checkpoint_of_another_precision_is_refused(other, tmp_path):
    fit(1, precision=other, checkpoint=tmp_path / "run")
    before = (tmp_path / "run").read_bytes()
    with pytest.raises(ModelFileError, match=f"its precision is {other!r}, this run's is 'float16'"):
        fit(2, checkpoint=tmp_path / "run", resume=True)
    assert (tmp_path / "run").read_bytes() == before
    assert xpnet.load(tmp_path / "run", "cpu").backend.precision is None  # as a model it opens anywhere


@pytest.mark.parametrize("broken", [[0, 0, 0], [2.0**25, 0, 0], [-1, 0, 0], [65536, -1, 0], [65536, 0, -2]])
def test_a_checkpoint_with_a_scale_that_cannot_be_is_refused(broken, tmp_path):
    fit(1, checkpoint=tmp_path / "run")
    tensors, described = read_tensors(tmp_path / "run")
    tensors["run/optimizer.loss_scale"] = np.array(broken, np.float32)
    save_file(tensors, tmp_path / "run", metadata={"xpnet": json.dumps(described)})
    with pytest.raises(ModelFileError, match="its loss scale cannot be"):
        fit(2, checkpoint=tmp_path / "run", resume=True)


@pytest.mark.usefixtures("too_high")
def test_a_fault_in_the_forward_is_found_among_skipped_steps():
    samples = blobs()
    samples.x[37] = 1e5  # no float16
    at = list(xpnet.data.epoch_order(200, 0, 0)).index(37) // 16
    assert at > 2
    model, loss, optimizer = setup()
    with pytest.raises(
        train.NotFiniteError, match=rf"step {at + 1}: a NaN or an infinity in the output of layers\.0.*bfloat16 do not"
    ):
        train.fit(model, loss, optimizer, samples, epochs=1, batch_size=16, quiet=True)
    assert np.isfinite(model.backend.to_host(model.data)).all()
    assert optimizer.loss_scale.figures["skipped_steps"] >= 2


class BrokenBackward(nn.Layer):
    """The identity, whose backward is no number whatever the scale."""

    def forward(self, x, backend):
        return x * 1, lambda dy, need_dx=True: dy * float("nan")


def test_an_overflow_that_no_scale_mends_is_found_with_its_layer(monkeypatch):
    monkeypatch.setattr(loss_scale, "LOWEST", 2.0**12)
    backend = StrictBackend("float32", 0, "float16")
    model = nn.Model(nn.Sequential(nn.Linear(4), BrokenBackward(), nn.Linear(3)), (2,), backend)
    with pytest.raises(
        train.NotFiniteError,
        match=r"step 5: a NaN .* the input gradient of layers\.1 \(BrokenBackward\)",
    ):
        train.fit(model, losses.SoftmaxCrossEntropy(), optim.Adam(model), blobs(), epochs=1, batch_size=16, quiet=True)


class Breaks(optim.SGD):
    """Its fifth update is no number."""

    def _update(self, x, g, lr, *state):
        super()._update(x, g, lr, *state)
        x += self.model.backend.xp.where(self.steps == 5, float("nan"), 0.0)


@pytest.mark.usefixtures("too_high")
@pytest.mark.parametrize("watched", [nullcontext, xpnet.debug])
def test_an_update_that_breaks_is_not_laid_to_an_overflow_of_before(watched):
    with (
        pytest.raises(
            train.NotFiniteError, match=r"step \d+: a NaN or an infinity in (a|the) parameters? after the update"
        ) as found,
        watched(),
    ):
        fit(1, kind=Breaks)
    assert found.value.step > 5  # some were skipped


@pytest.mark.usefixtures("too_high")
def test_debug_takes_a_skipped_step_for_none_of_its_faults(monkeypatch):
    with xpnet.debug() as watch:
        _, result, _ = fit(1)
    assert result.history[-1]["skipped_steps"] >= 3
    assert watch.steps >= 13
    assert watch.transfers == []
    monkeypatch.setattr(loss_scale, "LOWEST", 2.0**24)
    with (
        pytest.raises(train.NotFiniteError, match=r"step 1: a NaN .* the gradient of layers\.\d \(Linear\)'s W"),
        xpnet.debug(),
    ):
        fit(1)
