"""`fit`: learning, resuming, stopping, and what it does when something goes wrong."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import xpnet
from xpnet import data, losses, nn, optim, schedules, train
from xpnet.nn.saving import ModelFileError


def blobs(n=200, seed=0):
    """Three well separated clouds of points in the plane."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, n)
    x = np.array([[0, 3], [3, 0], [-3, -3]])[y] + rng.standard_normal((n, 2))
    return data.Dataset(x.astype(np.float32), y, classes=("a", "b", "c"))


def setup(optimizer=optim.Adam, seed=0, dtype="float32", dropout=0.2, lr=0.01):
    backend = xpnet.select("cpu", dtype=dtype, seed=seed)
    model = nn.Model(nn.mlp([2, 16, 3], dropout=dropout), (2,), backend, classes=("a", "b", "c"))
    return model, losses.SoftmaxCrossEntropy(), optimizer(model, lr=lr)


def test_it_learns_and_writes_history():
    model, loss, optimizer = setup()
    started = time.perf_counter()
    result = train.fit(model, loss, optimizer, blobs(), blobs(seed=1), epochs=12, batch_size=16, quiet=True)
    assert 0 < sum(row["seconds"] for row in result.history) <= time.perf_counter() - started
    assert [row["epoch"] for row in result.history] == list(range(1, 13))
    assert result.history[-1]["train_loss"] < 0.5 * result.history[0]["train_loss"]
    assert result.history[-1]["validation_accuracy"] > 0.9
    assert result.stopped == ""


def test_the_history_is_what_evaluate_says():
    model, loss, optimizer = setup()
    result = train.fit(model, loss, optimizer, blobs(), blobs(seed=1), epochs=2, batch_size=16, quiet=True)
    measured = train.evaluate(model, loss, blobs(seed=1), batch_size=7)
    assert result.history[-1]["validation_loss"] == pytest.approx(measured.loss, rel=1e-5)
    assert result.history[-1]["validation_accuracy"] == measured.accuracy


def test_training_means_weigh_a_short_last_batch_by_its_size():
    model, loss, optimizer = setup(optim.SGD, dtype="float64", dropout=0, lr=0.0)
    result = train.fit(model, loss, optimizer, blobs(50), epochs=1, batch_size=16, quiet=True)
    assert result.history[0]["train_loss"] == pytest.approx(train.evaluate(model, loss, blobs(50)).loss, rel=1e-12)


def test_one_step_is_the_textbook_one():
    model, loss, optimizer = setup(optim.SGD, dtype="float64", dropout=0, lr=0.1)
    points = blobs(16)
    before = model.data.copy()
    y, backward = model.forward(model.backend.asarray(points.x))
    backward(loss(y, points.y, model.backend)[1])
    gradient = model.grad.copy()
    train.fit(model, loss, optimizer, points, epochs=1, batch_size=16, quiet=True)
    np.testing.assert_allclose(model.data, before - 0.1 * gradient, rtol=1e-12, atol=1e-15)


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    def weights(seed):
        model, loss, optimizer = setup(seed=seed)
        train.fit(model, loss, optimizer, blobs(), epochs=3, batch_size=16, quiet=True)
        return model.data.copy()

    np.testing.assert_array_equal(weights(4), weights(4))
    assert (weights(4) != weights(5)).any()


SCHEDULES = {
    "none": lambda: None,
    "cosine": lambda: schedules.WarmUp(5, schedules.Cosine(0.01, 60)),
    "plateau": lambda: schedules.Plateau(0.01, factor=0.5, patience=1),
}


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("optimizer", [optim.SGD, optim.RMSProp, optim.AdaGrad, optim.Adam, optim.AdamW])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(optimizer, schedule, tmp_path):
    def run(epochs, path, resume=False):
        model, loss, opt = setup(optimizer)
        result = train.fit(
            model, loss, opt, blobs(), blobs(seed=1), epochs=epochs, batch_size=16, schedule=SCHEDULES[schedule](),
            checkpoint=path, resume=resume, quiet=True, patience=50,
        )  # fmt: skip
        return model, result

    whole, result = run(6, tmp_path / "whole")
    run(3, tmp_path / "parts")
    resumed, again = run(6, tmp_path / "parts", resume=True)
    np.testing.assert_array_equal(resumed.data, whole.data)
    for row, other in zip(result.history, again.history, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    assert result.best_epoch == again.best_epoch


def test_resuming_in_the_middle_of_an_epoch(tmp_path):
    """A run that is interrupted after some batches goes on with the next batch."""
    whole, loss, optimizer = setup()
    train.fit(whole, loss, optimizer, blobs(), epochs=3, batch_size=8, quiet=True)

    model, loss, optimizer = setup()
    run = train.Run(model, loss, optimizer, blobs(), 8)
    with model.backend.mode(training=True):
        for _ in range(11):
            run.step()
    train.save_checkpoint(run, tmp_path / "run")
    model, loss, optimizer = setup()
    result = train.fit(
        model, loss, optimizer, blobs(), epochs=3, batch_size=8, checkpoint=tmp_path / "run", resume=True, quiet=True
    )
    np.testing.assert_array_equal(model.data, whole.data)
    assert len(result.history) == 3


def test_a_checkpoint_opens_as_a_model(tmp_path):
    model, loss, optimizer = setup()
    train.fit(model, loss, optimizer, blobs(), epochs=1, checkpoint=tmp_path / "run", quiet=True)
    loaded = xpnet.load(tmp_path / "run", device="cpu")
    np.testing.assert_array_equal(loaded.predict(blobs().x), model.predict(blobs().x))
    assert loaded.classes == ("a", "b", "c")


def change_batch(kw):
    kw["batch_size"] = 20


def change_data(kw):
    kw["train"] = blobs(seed=3)


def change_optimizer(kw):
    kw["optimizer"] = optim.SGD(kw["model"], lr=0.1)


def change_beta(kw):
    kw["optimizer"] = optim.Adam(kw["model"], lr=0.01, betas=(0.8, 0.999))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (change_batch, "batch_size is"),
        (change_data, r"data is not this run's \(200 samples, here 200\): the data has changed"),
        (change_optimizer, "optimizer is"),
        (change_beta, "optimizer is"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(change, named, tmp_path):
    def arguments():
        model, loss, optimizer = setup()
        return {"model": model, "loss": loss, "optimizer": optimizer, "train": blobs(), "batch_size": 16}

    train.fit(**arguments(), epochs=1, checkpoint=tmp_path / "run", quiet=True)
    kw = arguments()
    change(kw)
    before = (tmp_path / "run").read_bytes()
    with pytest.raises(ModelFileError, match=f"its {named}"):
        train.fit(**kw, epochs=2, checkpoint=tmp_path / "run", resume=True, quiet=True)
    assert (tmp_path / "run").read_bytes() == before


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run"
    model, loss, optimizer = setup()
    train.fit(model, loss, optimizer, blobs(), epochs=1, checkpoint=path, quiet=True)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelFileError, match="not a complete safetensors file"):
        train.fit(model, loss, optimizer, blobs(), epochs=2, checkpoint=path, resume=True, quiet=True)
    model.save(path)
    with pytest.raises(ModelFileError, match="not a checkpoint"):
        train.fit(model, loss, optimizer, blobs(), epochs=2, checkpoint=path, resume=True, quiet=True)


def test_an_unwritable_checkpoint_stops_before_any_work(tmp_path):
    model, loss, optimizer = setup()
    before = model.data.copy()
    with pytest.raises(OSError, match="nowhere"):
        train.fit(model, loss, optimizer, blobs(), epochs=1, checkpoint=tmp_path / "nowhere" / "run", quiet=True)
    np.testing.assert_array_equal(model.data, before)


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    path = tmp_path / "run"
    model, loss, optimizer = setup()

    def full(row, model):
        if row["epoch"] == 2:
            monkeypatch.setattr(
                "os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device"))
            )

    with pytest.raises(OSError, match="No space left"):
        train.fit(model, loss, optimizer, blobs(), epochs=5, checkpoint=path, callbacks=[full], quiet=True)
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["run"]  # no half-written file stays behind
    model, loss, optimizer = setup()
    result = train.fit(model, loss, optimizer, blobs(), epochs=3, checkpoint=path, resume=True, quiet=True)
    assert [row["epoch"] for row in result.history] == [1, 2, 3]


CULPRITS = {  # what goes wrong, and the place that must be named
    "weight": ("layers.0.W", np.inf, r"the output of layers\.0 \(Linear\)"),
    "late weight": ("layers.2.W", np.nan, r"the output of layers\.2 \(Linear\)"),
}


@pytest.mark.parametrize("culprit", CULPRITS)
def test_a_value_that_is_not_finite_is_traced_to_its_layer_and_step(culprit):
    name, value, place = CULPRITS[culprit]
    model, loss, optimizer = setup(dropout=0)

    def spoil(row, model):
        if row["epoch"] == 2:
            model.parameters[name].data[0, 0] = value

    with pytest.raises(train.NotFiniteError, match=place) as caught:
        train.fit(model, loss, optimizer, blobs(160), epochs=5, batch_size=16, callbacks=[spoil], quiet=True)
    assert caught.value.step == 21  # ten batches an epoch: the first step of the third


@pytest.mark.parametrize(
    ("value", "slope", "place"),
    [(np.inf, 1.0, "the loss"), (1.0, np.nan, "the gradient of the loss")],
)
def test_a_loss_and_a_gradient_of_it_that_are_not_finite_are_told_apart(value, slope, place):
    model, _, optimizer = setup(dropout=0)
    loss = lambda y, target, backend: (y.sum() * value, y * slope)
    with np.errstate(all="ignore"), pytest.raises(train.NotFiniteError) as caught:
        train.fit(model, loss, optimizer, blobs(32), epochs=1, batch_size=16, metrics=(), quiet=True)
    assert (caught.value.step, caught.value.where) == (1, place)
    assert "float16" not in str(caught.value)  # that hint is for those whose products are


class Broken(nn.Layer):
    """The identity, whose gradient is not finite where the inputs of a batch are large."""

    def forward(self, x, backend):
        return x, lambda dy, need_dx=True: dy / (1 if abs(x).sum() < 1e4 else 0)


def test_a_gradient_that_is_not_finite_is_named_as_such():
    backend = xpnet.select("cpu", seed=0)
    model = nn.Model(nn.Sequential(nn.Linear(4), Broken(), nn.Linear(3)), (2,), backend)
    optimizer = optim.SGD(model, lr=0.01)
    points = blobs(160)
    points.x[37] = 1e5  # a finite input that makes the layer fail in one batch
    with pytest.raises(train.NotFiniteError, match=r"the input gradient of layers\.1 \(Broken\)") as caught:
        train.fit(model, losses.SoftmaxCrossEntropy(), optimizer, points, epochs=1, batch_size=16, quiet=True)
    order = data.epoch_order(160, 0, 0)
    assert caught.value.step == list(order).index(37) // 16 + 1
    assert np.isfinite(model.data).all()


class Spoiled(nn.Layer):
    """y = x W for one number W, whose gradient is infinite."""

    def build(self, shape):
        self.W = nn.Parameter((1,), nn.init.constant(1.0))
        return shape

    def forward(self, x, backend):
        def backward(dy, need_dx=True):
            self.W.grad += np.inf
            return dy * self.W.data

        return x * self.W.data, backward


def test_a_parameter_whose_gradient_is_not_finite_is_named():
    network = nn.Sequential(nn.Linear(4), Spoiled(), nn.Linear(3))
    model = nn.Model(network, (2,), xpnet.select("cpu"))
    where = r"step 1: a NaN or an infinity in the gradient of layers\.1 \(Spoiled\)'s W\. "
    with pytest.raises(train.NotFiniteError, match=where):
        train.fit(
            model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), blobs(), epochs=1, batch_size=200, quiet=True
        )
    assert np.isfinite(model.data).all()  # the loss of the only step was finite, and all numbers after it but one


def test_divergence_leaves_finite_weights():
    model, loss, optimizer = setup(optim.SGD, lr=1e20, dropout=0)
    with pytest.raises(train.NotFiniteError, match="step"):
        train.fit(model, loss, optimizer, blobs(), epochs=50, quiet=True)
    assert np.isfinite(model.data).all()


def test_early_stopping_and_the_best_weights():
    model, loss, optimizer = setup(lr=0.05)
    seen = []
    result = train.fit(
        model, loss, optimizer, blobs(60), blobs(300, seed=1), epochs=200, batch_size=8, patience=4, keep_best=True,
        callbacks=[lambda row, model: seen.append(model.data.copy())], quiet=True,
    )  # fmt: skip
    curve = [row["validation_loss"] for row in result.history]
    assert result.stopped == "no better for 4 epochs"
    assert result.best_epoch == int(np.argmin(curve)) + 1 == len(curve) - 4
    np.testing.assert_array_equal(model.data, seen[result.best_epoch - 1])


@pytest.mark.parametrize("answer", [bool, np.bool_])
def test_a_callback_ends_the_run(answer):
    """A comparison with a number of NumPy's gives NumPy's own True."""
    model, loss, optimizer = setup()
    others = [lambda row, m: [row], lambda row, m: None]  # what is neither True nor False asks for nothing
    result = train.fit(
        model, loss, optimizer, blobs(), epochs=9, callbacks=[lambda row, m: answer(row["epoch"] == 2), *others],
        quiet=True,
    )  # fmt: skip
    assert (len(result.history), result.stopped) == (2, "a callback asked for it")


def test_every_callback_is_called_though_one_has_asked_to_stop():
    model, loss, optimizer = setup()
    seen = []
    stop, note = lambda row, m: True, lambda row, m: seen.append(row["epoch"])
    train.fit(model, loss, optimizer, blobs(), epochs=9, callbacks=[stop, note], quiet=True)
    assert seen == [1]


@pytest.mark.parametrize(
    ("last", "loss"),
    [
        (nn.Softmax(), losses.SoftmaxCrossEntropy()),
        (nn.Sequential(nn.Sequential(nn.Softmax())), losses.SoftmaxCrossEntropy()),
        (nn.Sigmoid(), losses.BinaryCrossEntropy()),
        (nn.LogSoftmax(), losses.Focal()),
    ],
)
def test_a_network_that_ends_in_what_the_loss_does_itself_is_warned_of(last, loss):
    model = nn.Model(nn.Sequential(nn.Linear(3), last), (2,), xpnet.select("cpu"))
    with pytest.warns(UserWarning, match="takes logits, and the network ends in .*Leave that layer out") as warned:
        train.fit(model, loss, optim.SGD(model, 0.1), blobs(), epochs=2, quiet=True)
    assert [warning.filename for warning in warned] == [__file__]  # once, and at the line that called fit


@pytest.mark.parametrize(
    ("last", "loss"), [(nn.LogSoftmax(), losses.SoftmaxCrossEntropy()), (nn.Sigmoid(), losses.MeanSquaredError())]
)
def test_a_network_that_ends_otherwise_is_not_warned_of(last, loss):
    """A softmax of what `LogSoftmax` gives is that of what went in. Warnings are errors in tests."""
    model = nn.Model(nn.Sequential(nn.Linear(3), last), (2,), xpnet.select("cpu"))
    train.fit(model, loss, optim.SGD(model, 0.1), blobs(), epochs=1, quiet=True)


@pytest.mark.parametrize(
    "schedule",
    [
        schedules.Cosine(0.01, 5),
        schedules.OneCycle(0.01, 5),
        schedules.Step(0.01, 2),
        schedules.Exponential(0.01, 5, 1e-6),
        schedules.WarmUp(2, schedules.Cosine(0.01, 5)),
    ],
)
def test_a_schedule_that_was_given_epochs_is_warned_of(schedule):
    model, loss, optimizer = setup()
    with pytest.warns(UserWarning, match="in the first of 5 epochs: a schedule counts steps, 10 in an epoch") as warned:
        train.fit(model, loss, optimizer, blobs(), epochs=5, batch_size=20, schedule=schedule, quiet=True)
    assert [warning.filename for warning in warned] == [__file__]


@pytest.mark.parametrize(
    ("schedule", "epochs"),
    [
        (schedules.Cosine(0.01, 50), 5),
        (schedules.Cosine(0.01, 5), 1),
        (schedules.Exponential(0.01, 10, 1e-4), 5),
        (schedules.WarmUp(1000, schedules.Cosine(0.01, 5)), 2),
        (schedules.Plateau(0.01), 2),
        (lambda step: 0.01 if step < 5 else 0.0, 2),
        (schedules.WarmUp(2, lambda step: 0.01 if step < 5 else 0.0), 2),
    ],
)
def test_other_schedules_are_not_warned_of(schedule, epochs):
    """Warnings are errors in tests. A function may have reasons of its own, and a state."""
    model, loss, optimizer = setup()
    train.fit(model, loss, optimizer, blobs(), epochs=epochs, batch_size=20, schedule=schedule, quiet=True)


def test_the_schedule_sets_the_rate_of_every_step():
    model, loss, optimizer = setup(optim.SGD)
    rates = []
    fall = schedules.Exponential(0.1, 20, 0.001)
    record = lambda step: rates.append(fall(step)) or rates[-1]
    train.fit(model, loss, optimizer, blobs(160), epochs=2, batch_size=16, schedule=record, quiet=True)
    assert rates == [fall(step) for step in range(20)]
    assert optimizer.lr == rates[-1]


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"batch_size": 201}, "batch_size=201 is more than the 200 samples"),
        ({"batch_size": 0}, "batch_size must be a whole number >= 1"),
        ({"epochs": 0}, "epochs must be a whole number >= 1, not 0"),
        ({"epochs": "3"}, "epochs must be a whole number >= 1, not '3'"),
        ({"patience": 0}, "patience must be a whole number >= 1"),
        ({"clip": -1.0}, "clip must be a finite number >= 1e-30"),
        ({"clip": 1e-40}, "clip must be a finite number >= 1e-30, not 1e-40"),
        ({"clip": "1"}, "clip must be a finite number >= 1e-30, not '1'"),
        ({"train": data.Dataset(np.zeros((5, 3)), np.zeros(5, int)), "batch_size": 5}, "do not fit a model"),
        (
            {"train": data.Dataset(np.zeros((9, 2)), np.arange(9)), "batch_size": 9},
            r"label 3 at index 3 is outside 0\.\.2",
        ),
        ({"validation": data.Dataset(np.zeros((9, 2)), np.arange(9))}, r"label 3 at index 3 is outside 0\.\.2"),
    ],
)
def test_bad_arguments(kw, message):
    model, loss, optimizer = setup()
    before = model.data.copy()
    with pytest.raises(ValueError, match=message):
        train.fit(model, loss, optimizer, **{"train": blobs(), "epochs": 1, "quiet": True, **kw})
    np.testing.assert_array_equal(model.data, before)


def test_the_optimizer_of_another_model_is_refused():
    (model, loss, _), (_, _, foreign) = setup(), setup()
    with pytest.raises(ValueError, match="another model"):
        train.fit(model, loss, foreign, blobs(), epochs=1, quiet=True)


def test_ctrl_c_finishes_the_step_and_keeps_the_work(tmp_path):
    whole, loss, optimizer = setup()
    train.fit(whole, loss, optimizer, blobs(), epochs=4, batch_size=8, quiet=True)

    model, loss, optimizer = setup()
    press = lambda row, model: os.kill(os.getpid(), signal.SIGINT) if row["epoch"] == 2 else None
    kw = {"epochs": 4, "batch_size": 8, "checkpoint": tmp_path / "run", "quiet": True}
    usual = signal.getsignal(signal.SIGINT)
    result = train.fit(model, loss, optimizer, blobs(), callbacks=[press], **kw)
    assert result.stopped == "interrupted"
    assert signal.getsignal(signal.SIGINT) is usual
    model, loss, optimizer = setup()
    result = train.fit(model, loss, optimizer, blobs(), resume=True, **kw)
    assert result.stopped == ""
    np.testing.assert_array_equal(model.data, whole.data)


def test_it_runs_outside_the_main_thread():
    model, loss, optimizer = setup()
    results = []
    work = lambda: results.append(train.fit(model, loss, optimizer, blobs(), epochs=1, quiet=True))
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert len(results[0].history) == 1


def test_one_plain_line_an_epoch_where_there_is_no_terminal(capsys):
    model, loss, optimizer = setup()
    train.fit(model, loss, optimizer, blobs(), blobs(seed=1), epochs=2)
    out, err = capsys.readouterr()
    assert out == ""
    assert [line[:11] for line in err.splitlines()] == ["epoch   1/2", "epoch   2/2"]
    assert "validation loss" in err


KILLED = """
import sys; sys.path.insert(0, sys.argv[1])
from test_fit import blobs, setup
from xpnet import train
model, loss, optimizer = setup()
train.fit(model, loss, optimizer, blobs(), epochs=250, batch_size=4, checkpoint=sys.argv[2], resume=True, quiet=True)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX; Windows' TerminateProcess is not asked for here")
def test_a_run_killed_at_any_moment_and_resumed_ends_with_the_same_weights(tmp_path):
    """SIGKILL, four times, at moments drawn from a seed; the last process is let finish."""
    path, here, moments = tmp_path / "run", os.path.dirname(__file__), random.Random(0)
    command = [sys.executable, "-c", KILLED, here, str(path)]
    for patience in (moments.uniform(0.8, 1.4) for _ in range(4)):
        process = subprocess.Popen(command)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    model, loss, optimizer = setup()
    kw = {"epochs": 250, "batch_size": 4, "checkpoint": path, "quiet": True}
    train.fit(model, loss, optimizer, blobs(), resume=True, **kw)
    whole, loss, optimizer = setup()
    train.fit(whole, loss, optimizer, blobs(), epochs=250, batch_size=4, quiet=True)
    np.testing.assert_array_equal(model.data, whole.data)


def test_a_checkpoint_that_is_not_resumed_is_not_overwritten(tmp_path):
    path = tmp_path / "run"
    model, loss, optimizer = setup()
    train.fit(model, loss, optimizer, blobs(), epochs=1, checkpoint=path, quiet=True)
    before = path.read_bytes()
    model, loss, optimizer = setup()
    with pytest.raises(FileExistsError, match="go on from it with resume=True"):
        train.fit(model, loss, optimizer, blobs(), epochs=1, checkpoint=path, quiet=True)
    assert path.read_bytes() == before
    with pytest.raises(ValueError, match="resume needs the path of a checkpoint"):
        train.fit(model, loss, optimizer, blobs(), epochs=1, resume=True, quiet=True)


def test_a_rate_that_a_callback_sets_is_part_of_the_checkpoint(tmp_path):
    def halve(row, model):
        optimizers[-1].lr /= 2

    optimizers, weights = [], []
    for parts in ([4], [2, 4]):
        for epochs in parts:
            model, loss, optimizer = setup()
            optimizers.append(optimizer)
            kw = {"checkpoint": tmp_path / str(parts), "resume": True, "callbacks": [halve], "quiet": True}
            train.fit(model, loss, optimizer, blobs(), epochs=epochs, **kw)
        weights.append(model.data.copy())
    np.testing.assert_array_equal(*weights)


def test_a_run_goes_on_by_an_optimizer_with_the_settings_that_a_callback_has_given_it(tmp_path):
    def trained(path, epochs, **settings):
        model, loss, _ = setup()
        optimizer = optim.AdamW(model, lr=0.01, **settings)

        def change(row, model):
            if row["epoch"] == 2:
                optimizer.weight_decay, optimizer.betas = 0.5, (0.5, 0.9)

        kw = {"checkpoint": path, "resume": True, "callbacks": [change], "quiet": True}
        train.fit(model, loss, optimizer, blobs(), epochs=epochs, **kw)
        return model.data.copy()

    at_once = trained(tmp_path / "at once", 4)
    trained(tmp_path / "parts", 3)
    then, now = ({"betas": betas, "weight_decay": decay} for betas, decay in (([0.5, 0.9], 0.5), ([0.9, 0.999], 0.01)))
    words = (
        f"or a callback has changed settings: its optimizer is AdamW with {then}, this run's with {now}. To continue"
    )
    with pytest.raises(ModelFileError, match=re.escape(words)):
        trained(tmp_path / "parts", 4)
    np.testing.assert_array_equal(trained(tmp_path / "parts", 4, weight_decay=0.5, betas=(0.5, 0.9)), at_once)


@pytest.mark.parametrize(("first", "then"), [(0.0, 0.9), (0.9, 0.0)])
def test_a_step_is_found_in_a_run_whose_momentum_a_schedule_has_set(first, then):
    model, loss, _ = setup()
    optimizer = optim.SGD(model, 0.1, first)

    def schedule(step):
        if step == 3:
            optimizer.momentum = then
        if step == 6:
            model.data[...] = np.nan
        return 0.1

    with pytest.raises(train.NotFiniteError, match="step 7: a NaN"):
        train.fit(model, loss, optimizer, blobs(), epochs=1, batch_size=16, schedule=schedule, quiet=True)


def test_a_run_goes_on_by_an_optimizer_made_with_the_momentum_that_a_callback_has_set(tmp_path):
    def trained(path, epochs, momentum):
        model, loss, _ = setup()
        optimizer = optim.SGD(model, 0.1, momentum)

        def change(row, model):
            if row["epoch"] == 2:
                optimizer.momentum = 0.9 - momentum

        kw = {"checkpoint": path, "resume": True, "callbacks": [change], "quiet": True}
        train.fit(model, loss, optimizer, blobs(), epochs=epochs, **kw)
        return model.data.copy()

    for first, then in ((0.9, 0.0), (0.0, 0.9)):
        at_once = trained(tmp_path / f"at once {first}", 4, first)
        trained(tmp_path / f"parts {first}", 3, first)
        words = (
            f"its optimizer is SGD with {{'momentum': {then}}}, this run's with {{'momentum': {first}}}. To continue"
        )
        with pytest.raises(ModelFileError, match=re.escape(words)):
            trained(tmp_path / f"parts {first}", 4, first)
        np.testing.assert_array_equal(trained(tmp_path / f"parts {first}", 4, then), at_once)


def test_a_run_that_has_stopped_early_stays_stopped(tmp_path):
    kw = {"epochs": 60, "patience": 2, "checkpoint": tmp_path / "run", "resume": True, "quiet": True}
    model, loss, optimizer = setup(lr=0.3)
    first = train.fit(model, loss, optimizer, blobs(90), blobs(60, seed=1), **kw)
    assert first.stopped == "no better for 2 epochs"
    model, loss, optimizer = setup(lr=0.3)
    again = train.fit(model, loss, optimizer, blobs(90), blobs(60, seed=1), **kw)
    assert again.history == first.history


BAD_RUNS = {
    "progress": lambda t, d: d["run"]["progress"].update(batch=-1),
    "too far": lambda t, d: d["run"]["progress"].update(batch=99),
    "broadcast": lambda t, d: t.update({"layers.0.W": np.ones(1, np.float32)}),
    "best": lambda t, d: t.update({"run/best": np.ones(1, np.float32)}),
    "random state": lambda t, d: t.update({"run/rng": np.ones(6)}),
    "not finite": lambda t, d: t["layers.0.W"].fill(np.nan),
    "schedule": lambda t, d: d["run"].update(schedule={"lr": 0.1}),
}


@pytest.mark.parametrize("bad", BAD_RUNS)
def test_a_lying_checkpoint_changes_nothing(bad, tmp_path):
    from xpnet.nn.saving import read_tensors, write_tensors

    path = tmp_path / "run"
    model, loss, optimizer = setup()
    train.fit(model, loss, optimizer, blobs(), epochs=1, checkpoint=path, quiet=True)
    tensors, described = read_tensors(path)
    BAD_RUNS[bad](tensors, described)
    write_tensors(path, tensors, described)
    model, loss, optimizer = setup()
    before = model.data.copy()
    with pytest.raises(ModelFileError, match="run: "):
        train.fit(model, loss, optimizer, blobs(), epochs=2, checkpoint=path, resume=True, quiet=True)
    np.testing.assert_array_equal(model.data, before)


def test_two_runs_at_once_on_one_backend_are_refused():
    model, loss, optimizer = setup()
    caught = []

    def second(row, model):
        other = nn.Model(nn.mlp([2, 3]), (2,), model.backend)
        try:
            train.fit(other, loss, optim.SGD(other, 0.1), blobs(), epochs=1, quiet=True)
        except RuntimeError as error:
            caught.append(str(error))

    def in_a_thread(row, model):
        thread = threading.Thread(target=second, args=(row, model))
        thread.start()
        thread.join()

    train.fit(model, loss, optimizer, blobs(), epochs=1, callbacks=[in_a_thread], quiet=True)
    assert "is training already, in another thread or around this: each run needs its own" in caught[0]


def test_the_other_losses_learn_classes_too():
    two = data.Dataset(blobs().x, (blobs().y == 0).astype(np.int64))
    for loss, outputs, points in [
        (losses.BinaryCrossEntropy(), 1, two),
        (losses.BinaryCrossEntropy(), 3, blobs()),
        (losses.MeanSquaredError(), 3, blobs()),
    ]:
        model = nn.Model(nn.mlp([2, 16, outputs]), (2,), xpnet.select("cpu", seed=0))
        result = train.fit(model, loss, optim.Adam(model, 0.02), points, points, epochs=15, batch_size=16, quiet=True)
        assert result.history[-1]["validation_accuracy"] > 0.9
        assert result.history[-1]["train_accuracy"] > 0.85


def test_the_weighted_loss_does_not_depend_on_the_batches():
    model, _, _ = setup()
    loss = losses.SoftmaxCrossEntropy(class_weights=[1, 5, 0.2])
    values = [train.evaluate(model, loss, blobs(), batch_size=size).loss for size in (1, 7, 200)]
    assert values == pytest.approx([values[0]] * 3, rel=1e-6)


def test_images_with_swapped_axes_are_not_reshaped_in_silence():
    model = nn.Model(nn.Flatten(), (2, 2, 3), xpnet.select("cpu"))
    with pytest.raises(ValueError, match="do not fit"):
        train.evaluate(model, losses.MeanSquaredError(), data.Dataset(np.zeros((4, 3, 2, 2)), np.zeros(4, int)))


def named(*classes):
    return data.Dataset(np.zeros((6, 2), np.float32), np.arange(6) % len(classes), classes, "these")


def test_data_whose_classes_have_other_numbers_than_the_models_are_refused():
    model, loss, optimizer = setup()
    more = {"epochs": 1, "batch_size": 6, "quiet": True}
    told = r"these has the classes 'b', 'c', and model\.classes are 'a', 'b', 'c': use the data's \.with_classes\(model"
    with pytest.raises(ValueError, match=told):
        train.evaluate(model, loss, named("b", "c"))
    with pytest.raises(ValueError, match="'d' is not one of those"):
        train.evaluate(model, loss, named("a", "b", "d"))
    with pytest.raises(ValueError, match=r"these has the classes 'b', 'c', and model\.classes"):
        train.fit(model, loss, optimizer, named("b", "c"), **more)
    with pytest.raises(ValueError, match=r"these has the classes 'c', 'b', 'a', and model\.classes"):
        train.fit(model, loss, optimizer, blobs(), named("c", "b", "a"), **more)
    model.classes = ()
    with pytest.raises(ValueError, match=r"these has the classes 'b', 'c', and train\.classes are 'a', 'b', 'c': use"):
        train.fit(model, loss, optimizer, blobs(), named("b", "c"), **more)
    train.fit(model, loss, optimizer, blobs(), named("b", "c").with_classes(blobs().classes), **more)


@pytest.mark.parametrize(
    ("classes", "of_data"),
    [
        (("a", "b", "c"), ("a", "b")),  # with the same numbers
        (("a", "b", "c"), ("0", "1")),  # nobody named these,
        (("2", "0", "a"), ("0", "1")),  # of which one happens to be a name there,
        (("0", "1", "2"), ("a", "b", "c")),  # and nobody those
        (("0", "1", "2"), ("0", "1")),
        ((), ("b", "c")),
    ],
)
def test_class_numbers_that_mean_the_same_are_taken(classes, of_data):
    model, loss, _ = setup()
    model.classes = classes
    train.evaluate(model, loss, named(*of_data))


def test_digits_by_their_names_are_no_numbers_from_0():
    model, loss, _ = setup()
    model.classes = ("0", "1", "2")
    with pytest.raises(ValueError, match=r"the classes '1', '2', and model\.classes are '0', '1', '2'"):
        train.evaluate(model, loss, named("1", "2"))
    model.classes = ("0", "10", "1")  # as folders of these names are sorted
    told = (
        r"use the data's \.with_classes\(model\.classes\) if those are names, and classes=model\.classes if they are n"
    )
    with pytest.raises(ValueError, match=told):
        train.evaluate(model, loss, named("0", "1"))
    train.evaluate(model, loss, named("0", "1").with_classes(model.classes))


def test_what_is_no_data_set_or_no_loss():
    x, y = np.zeros((4, 3), np.float32), np.zeros(4, np.int64)
    model = nn.Model(nn.Linear(2), (3,), xpnet.select("cpu"))
    optimizer, loss = optim.SGD(model, lr=0.1), losses.SoftmaxCrossEntropy()
    with pytest.raises(TypeError, match=r'such as data\.Dataset\(x, y\) or data\.load\("digits"\)\.train, not a tuple'):
        train.fit(model, loss, optimizer, (x, y), epochs=1, quiet=True)
    with pytest.raises(TypeError, match=r"a loss is SoftmaxCrossEntropy\(\), not the class"):
        train.fit(model, losses.SoftmaxCrossEntropy, optimizer, data.Dataset(x, y), epochs=1, quiet=True)


@pytest.mark.parametrize(
    ("kw", "message"),
    [
        ({"model": "mlp"}, r"a model is what nn\.Model\(network, input_shape, backend\) makes, not 'mlp'"),
        ({"loss": "mse"}, r"a loss is an object such as losses\.MeanSquaredError\(\), not 'mse'"),
        ({"loss": nn.Model(nn.Linear(2), (3,), xpnet.select("cpu"))}, r"a loss is an object such as .*, not a Model"),
        ({"optimizer": "adam"}, r"an optimizer is made for a model, such as optim\.Adam\(model\), not 'adam'"),
        ({"optimizer": optim.Adam}, r"such as optim\.Adam\(model\), not the class Adam"),
        ({"schedule": "cosine"}, r"a schedule is a function of the step, .*, not 'cosine'"),
        ({"schedule": schedules.Cosine}, r"a schedule is a function of the step, .*, not the class Cosine"),
        ({"metrics": "mae"}, r"metrics are a list, such as \[train\.mae\], not 'mae'"),
        ({"metrics": train.mae}, r"metrics are a list, such as \[train\.mae\], not a Metric"),
        ({"metrics": ["mae"]}, r"a metric is a train\.Metric, such as train\.mae, not 'mae'"),
        ({"metrics": [train.accuracy, lambda y, t: 0.0]}, r"a metric is a train\.Metric, .*, not a function"),
        ({"watch": True}, r"watch takes sizes, such as train\.LayerSizes\(model\), not True"),
        ({"group": None}, r"a group is what parallel\.join\(\) gives, not None"),
    ],
)
def test_arguments_of_another_kind(kw, message):
    model, loss, optimizer = setup()
    kw = {"model": model, "loss": loss, "optimizer": optimizer, "train": blobs(), "epochs": 1, "quiet": True, **kw}
    with pytest.raises(TypeError, match=message):
        train.fit(**kw)


class OnlyTerms(losses.TermLoss):
    def terms(self, y, target, backend):
        return y * y


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda y, t, backend: (y * y).sum(), TypeError, r"a loss gives \(value, dy\), not a float32"),
        (OnlyTerms(), TypeError, r"OnlyTerms\.terms must return \(L_i, dL_i/dy\), not a ndarray"),
        (lambda y, t, b: (y.sum(), y.ravel()), ValueError, r"needs the shape of the outputs, \(64, 3\), not \(192,\)"),
        (lambda y, t, b: (y.sum(), 0.0), ValueError, r"needs the shape of the outputs, \(64, 3\), not \(\)"),
    ],
)
def test_a_loss_of_ones_own_that_gives_something_else(loss, error, message):
    model, _, optimizer = setup()
    with pytest.raises(error, match=message):
        train.fit(model, loss, optimizer, blobs(), epochs=1, quiet=True)
    if error is TypeError:
        with pytest.raises(error, match=message):
            train.evaluate(model, loss, blobs())


def test_without_a_batch_size_a_step_takes_64_samples_or_all():
    model, loss, optimizer = setup()
    train.fit(model, loss, optimizer, blobs(50), epochs=1, quiet=True)
    assert int(optimizer.steps[0]) == 1
    train.fit(model, loss, optimizer, blobs(130), epochs=1, quiet=True)
    assert int(optimizer.steps[0]) == 1 + 3


@pytest.mark.parametrize(
    ("own", "n_outputs", "names"), [((), 3, ("a", "b", "c")), (("0", "1", "2"), 3, ("0", "1", "2")), ((), 4, ())]
)
def test_a_model_without_classes_takes_the_names_of_the_data(own, n_outputs, names, tmp_path):
    model = nn.Model(nn.Linear(n_outputs), (2,), xpnet.select("cpu"), classes=own)
    train.fit(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), blobs(), epochs=1, quiet=True)
    model.save(tmp_path / "model.safetensors")
    assert xpnet.load(tmp_path / "model.safetensors", "cpu").classes == names


def test_a_model_of_sequences_takes_the_names_of_the_data_too():
    model = nn.Model(nn.Linear(3), (4, 2), xpnet.select("cpu"))
    sequences = data.Dataset(np.zeros((6, 4, 2), np.float32), np.arange(24).reshape(6, 4) % 3, ("a", "b", "c"))
    train.fit(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), sequences, epochs=1, quiet=True)
    assert model.classes == ("a", "b", "c")


def test_each_call_begins_with_the_same_order_and_a_resumed_run_goes_on(tmp_path):
    """As the docstring and the cookbook say."""

    def first_of(epochs, **kw):
        model, loss, optimizer = setup(dropout=0)
        seen = []
        augment = lambda x, backend: seen.append(x[0].tolist()) or x
        train.fit(model, loss, optimizer, blobs(), epochs=epochs, batch_size=200, augment=augment, quiet=True, **kw)
        return seen

    first, second = first_of(2)
    assert first_of(1) == [first] != [second]
    run = {"checkpoint": tmp_path / "run"}
    assert first_of(1, **run) + first_of(2, resume=True, **run) == [first, second]
