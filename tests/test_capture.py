"""`fit` captures its step where the device can, once a replayed step has proved itself; otherwise it says why not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from xpnet import data, debug, losses, nn, optim, schedules, train
from xpnet.backend import Backend
from xpnet.train.checkpoint import save_checkpoint
from xpnet.train.run import Run
from xpnet.verify.strict import StrictBackend, StrictCapture


def points(n=50, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    return data.Dataset((np.eye(3)[y] + 0.1 * rng.standard_normal((n, 3))).astype(np.float32), y)


def trained(backend, layers=(), **options):
    """A run of two epochs whose last batch is short: the result, the model."""
    model = nn.Model(nn.Sequential(nn.Linear(8), nn.ReLU(), nn.Dropout(0.3), *layers, nn.Linear(3)), (3,), backend)
    optimizer = optim.AdamW(model, 0.01)
    settings = {"epochs": 2, "batch_size": 16, "quiet": True, "clip": 1.0, **options}
    return train.fit(model, losses.SoftmaxCrossEntropy(), optimizer, points(), **settings), model


class Counting(StrictBackend):
    """Counts the calls of captured steps."""

    def __init__(self, *args):
        super().__init__(*args)
        self.calls = 0

    def capture(self, step):
        captured = super().capture(step)

        def call(*inputs):
            self.calls += 1
            return captured(*inputs)

        return call


def test_a_run_of_captured_steps_gives_the_bits_of_an_eager_one():
    backend = Counting("float32", 3)
    result, model = trained(backend, schedule=schedules.Cosine(0.01, 8))
    assert result.eager == ""
    # The proof, and every step; the short batch's the second time that it comes.
    assert backend.calls == (4 + 6) + (4 + 1)
    eager = StrictBackend("float32", 3)
    eager.capture = lambda step: step
    same, other = trained(eager, schedule=schedules.Cosine(0.01, 8))
    assert same.history[-1]["train_loss"] == result.history[-1]["train_loss"]
    assert all(np.array_equal(a, other.tensors()[name]) for name, a in model.tensors().items())


@pytest.mark.parametrize("setting", [{"weight_decay": 0.5}, {"betas": (0.5, 0.9)}, {"groups": (("*.b", 0.0, 1.0),)}])
def test_settings_that_a_callback_changes_are_those_of_the_next_steps(setting):
    """Also of captured steps, which have proved themselves with others."""

    def run(backend, **now):
        network = nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Linear(3))
        model = nn.Model(network, (3,), backend)
        optimizer = optim.AdamW(model, 0.01)

        def change(row, model):
            for name, value in now.items():
                setattr(optimizer, name, value)

        settings = {"epochs": 4, "batch_size": 10, "quiet": True, "callbacks": [change]}
        result = train.fit(model, losses.SoftmaxCrossEntropy(), optimizer, points(), **settings)
        return result, model.tensors()

    backend = Counting("float32", 3)
    (result, got), (_, want), (_, before) = run(backend, **setting), run(Backend("float32", 3), **setting), run(backend)
    assert result.eager == ""
    for name, array in want.items():
        np.testing.assert_allclose(got[name], array, rtol=1e-5, atol=1e-6)
    assert max(np.abs(want[name] - array).max() for name, array in before.items()) > 1e-3


@pytest.mark.parametrize(
    ("of", "name", "as_given"),
    [
        (optim.SGD, "momentum", float),  # at first there is none
        (optim.SGD, "weight_decay", np.float32),
        (optim.RMSProp, "eps", np.float32),
        (optim.Lion, "betas", lambda value: (0.9, np.float32(value))),
    ],
)
def test_settings_of_any_type_that_callbacks_change_again_and_again_are_those_of_the_next_steps(of, name, as_given):
    def run(backend):
        model = nn.Model(nn.Sequential(nn.Linear(8), nn.Tanh(), nn.Linear(3)), (3,), backend)
        optimizer = of(model, 0.01)

        def change(row, model):
            setattr(optimizer, name, as_given(0.2 * row["epoch"]))

        settings = {"epochs": 4, "batch_size": 10, "quiet": True, "callbacks": [change]}
        result = train.fit(model, losses.SoftmaxCrossEntropy(), optimizer, points(), **settings)
        return result, model.tensors(), optimizer

    (result, got, optimizer), (_, want, _) = run(Counting("float32", 3)), run(Backend("float32", 3))
    assert result.eager == ""
    assert json.loads(json.dumps(optimizer.described))["kind"] == of.__name__
    for tensor, array in want.items():
        np.testing.assert_allclose(got[tensor], array, rtol=1e-5, atol=1e-6)


def test_a_run_that_goes_on_from_the_end_of_an_epoch_is_captured(tmp_path):
    """Where Ctrl-C ended it after the last batch."""
    backend = Counting("float32", 3)
    model = nn.Model(nn.Linear(3), (3,), backend)
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1)
    ended = Run(model, loss, optimizer, points(), 10)
    with backend.mode(training=True):
        for _ in ended.slices:
            ended.step()
    save_checkpoint(ended, tmp_path / "run")
    settings = {"epochs": 3, "batch_size": 10, "checkpoint": tmp_path / "run", "resume": True, "quiet": True}
    train.fit(model, loss, optimizer, points(), **settings)
    assert backend.calls == 4 + 2 * 5


def test_a_run_that_has_nothing_left_to_do_captures_nothing(tmp_path):
    options = {"checkpoint": tmp_path / "run", "resume": True, "validation": points(), "schedule": lambda step: 0.0}
    trained(Counting("float32", 3), **options)
    for left in ({"epochs": 2}, {"epochs": 5, "patience": 1}):
        backend = Counting("float32", 3)
        result, _ = trained(backend, **options, **left)
        assert (backend.calls, len(result.history)) == (0, 2)


def test_the_cpu_captures_nothing_and_has_nothing_to_say():
    result, _ = trained(Backend("float32", 3))
    assert result.eager == ""
    with debug():
        observed, _ = trained(Backend("float32", 3))
    assert observed.eager == ""


class ReadsBack(nn.Layer):
    """The identity, with a look at a value in the middle of the step."""

    def forward(self, x, backend):
        backend.to_host(x)
        return x, lambda dy, need_dx=True: dy


class Counts(nn.Layer):
    """y = n x, where n counts the calls on the host: a graph would repeat the first of them."""

    def __init__(self):
        self.n = 0

    def config(self):
        return {}

    def forward(self, x, backend):
        if backend.training:
            self.n += 1
        factor = 1 + self.n % 2
        return x * factor, lambda dy, need_dx=True: dy * factor


@pytest.mark.parametrize(
    ("layer", "reason"),
    [(ReadsBack(), "HostReadError: .*to_host makes the host wait"), (Counts(), "CaptureError: .*the step now does")],
)
def test_a_step_that_cannot_be_captured_runs_eagerly_and_says_why(layer, reason, capsys):
    result, model = trained(StrictBackend("float32", 3), [layer], quiet=False)
    assert pytest.importorskip("re").search(f"capturing the step failed: {reason}", result.eager)
    assert result.eager in capsys.readouterr().err
    assert len(result.history) == 2
    assert np.isfinite(result.history[-1]["train_loss"])
    assert model.data is not None


class Forgetful(StrictBackend):
    """A device whose replays differ: they skip what `forgets` says."""

    forgets = ""

    def capture(self, step):
        captured, calls = StrictCapture(step, self), 0

        def call(*inputs):
            nonlocal calls
            calls += 1
            captured(*inputs)
            if calls >= 4:
                self.forget(step.__self__, len(inputs[0]))

        return call

    def forget(self, run, n_samples):
        run.changing()[self.forgets][...] += 1 if self.forgets != "the parameters" else 1e-7


@pytest.mark.parametrize("what", ["the parameters", "the step count", "the totals", "the optimizer's squares"])
def test_a_replay_that_gives_other_bits_is_not_relied_on(what):
    backend = Forgetful("float32", 3)
    backend.forgets = what
    result, model = trained(backend)
    assert result.eager == f"a replayed step does not repeat an eager one: {what} differ"
    _, eager = trained(Backend("float32", 3))
    assert all(np.array_equal(a, eager.tensors()[name]) for name, a in model.tensors().items())


# Batches of another shape ---------------------------------------------------------------------------------------------


class Short(nn.Layer):
    """The identity, with a step that cannot be captured where the batch is the short one."""

    def forward(self, x, backend):
        if len(x) == 2:
            backend.to_host(x)
        return x, lambda dy, need_dx=True: dy


class ForgetsShort(Forgetful):
    """A device whose replays differ on the short batch."""

    forgets = "the parameters"

    def forget(self, run, n_samples):
        if n_samples == 2:
            super().forget(run, n_samples)


@pytest.mark.parametrize(
    ("kind", "layers", "reason"),
    [
        (ForgetsShort, [], "a replayed step does not repeat an eager one: the parameters differ"),
        (StrictBackend, [Short()], "capturing the step failed: HostReadError: "),
    ],
)
def test_a_short_batch_has_to_prove_itself_too(kind, layers, reason, capsys):
    result, model = trained(kind("float32", 3), layers, quiet=False)
    assert result.eager.startswith(f"batches of 2 samples: {reason}")
    assert capsys.readouterr().err.count(result.eager) == 1
    _, eager = trained(Backend("float32", 3), layers)
    assert all(np.array_equal(a, eager.tensors()[name]) for name, a in model.tensors().items())


def test_the_reasons_of_all_batches_are_in_the_result():
    backend = StrictBackend("float32", 3)
    model = nn.Model(nn.Linear(3), (3,), backend)
    run, said = Run(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), points(), 16), []
    steps = train.capture._Steps(run, said.append)
    steps.refuse("one")
    steps.refuse("two")
    assert (run.eager, said) == ("one; two", ["one", "two"])


def test_a_shape_that_comes_once_or_is_watched_is_not_captured():
    for watched, proofs_and_steps in ((False, 4 + 3), (True, 4 + 2 * 3)):
        backend = Counting("float32", 3)
        model = nn.Model(nn.Linear(3), (3,), backend)
        train.fit(
            model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), points(), epochs=1 + watched, batch_size=16,
            quiet=True, watch=train.LayerSizes(model, every=1) if watched else None,
        )  # fmt: skip
        assert backend.calls == proofs_and_steps


def test_a_replay_that_draws_other_random_numbers_is_found():
    class SameMask(StrictBackend):
        def capture(self, step):
            calls = 0

            def call(*inputs):
                nonlocal calls
                calls += 1
                if calls == 4:
                    self.rng.random((8,), np.float32)
                step(*inputs)

            return call

    result, _ = trained(SameMask("float32", 3))
    assert "the random stream" in result.eager


def test_the_proof_leaves_the_run_as_it_was():
    model = nn.Model(nn.Linear(3), (3,), StrictBackend("float32", 1))
    run = Run(model, losses.SoftmaxCrossEntropy(), optim.Adam(model), points(), 16)
    before = {name: np.array(model.backend.to_host(a)) for name, a in run.changing().items()}
    with model.backend.mode(training=True):
        train.capture.capture(run)
    assert run.eager == ""
    assert run.captured
    for name, array in run.changing().items():
        np.testing.assert_array_equal(model.backend.to_host(array), before[name])
    assert (run.position.batch, run.steps_done) == (0, 0)


def test_while_a_nan_is_looked_for_the_steps_run_eagerly():
    class Explodes(nn.Layer):
        def build(self, shape):
            self.n = nn.Parameter((1,), nn.init.zeros, trained=False)
            return shape

        def forward(self, x, backend):
            self.n.data += 1
            y = x * backend.xp.exp(backend.xp.maximum(self.n.data - 3, 0) * 100)
            return y, lambda dy, need_dx=True: dy

    with pytest.raises(train.NotFiniteError, match=r"step 4: a NaN .* the output of layers\.3 \(Explodes\)") as caught:
        trained(StrictBackend("float32", 3), [Explodes()])
    assert caught.value.step == 4


def test_after_a_nan_state_that_is_not_trained_is_as_before_the_step_too():
    class Explodes(nn.Layer):
        def build(self, shape):
            self.n = nn.Parameter((1,), nn.init.zeros, trained=False)
            return shape

        def forward(self, x, backend):
            self.n.data += 1
            return x * float(np.where(self.n.data[0] > 3, np.inf, 1)), lambda dy, need_dx=True: dy

    model = nn.Model(nn.Sequential(Explodes(), nn.Linear(3)), (3,), Backend("float32", 3))
    with pytest.raises(train.NotFiniteError, match="step 4"):
        train.fit(
            model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), points(), epochs=2, quiet=True, batch_size=10
        )
    assert model.tensors()["layers.0.n"].tolist() == [3.0]


class EveryOther(nn.Layer):
    """Doubles every other time: a state of the host's that a recording fixes."""

    def __init__(self):
        self.times = 0

    def forward(self, x, backend):
        self.times += 1
        factor = 1 + self.times % 2
        return x * factor, lambda dy, need_dx=True: dy * factor


def test_what_is_different_every_other_time_is_not_captured():
    """A graph repeats the third call, which would do as the first one did."""
    layer = EveryOther()

    class Recorded(Backend):
        def capture(self, step):
            calls = []

            def call(*inputs):
                calls.append(layer.times)
                if len(calls) > 3:
                    layer.times = calls[2]
                return step(*inputs)

            return call

    model = nn.Model(nn.Sequential(nn.Linear(3), layer), (2,), Recorded())
    samples = data.Dataset(np.ones((8, 2)), np.arange(8) % 3)
    result = train.fit(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), samples, epochs=1, quiet=True)
    assert "a replayed step does not repeat an eager one: the parameters" in result.eager
