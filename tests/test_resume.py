"""Going back and resuming: all that a run is made of comes back, bit for bit, and another run is refused."""

from __future__ import annotations

import functools
import math
import os
import signal
import sys

import numpy as np
import pytest
from test_fit import blobs, setup

from xpnet import data, losses, optim, schedules, train
from xpnet.nn.saving import ModelFileError, read_tensors
from xpnet.train.finite import raise_culprit
from xpnet.train.metrics import mae
from xpnet.train.run import described

posix = pytest.mark.skipif(sys.platform == "win32", reason="os.kill sends no SIGINT on Windows")


def run_of(samples=None, batch_size=8, optimizer=optim.Adam, schedule=None, **options) -> train.Run:
    model, loss, update = setup(optimizer)
    return train.Run(model, loss, update, samples or blobs(), batch_size, schedule, **options)


def steps(run: train.Run, n: int) -> train.Run:
    with run.model.backend.mode(training=True):
        for _ in range(n):
            run.step()
    return run


def everything(run: train.Run) -> dict[str, object]:
    """All that a run is, in a form that can be compared."""
    arrays = {name: np.array(a).tobytes() for name, a in {**run.model.tensors(), **run.tensors()}.items()}
    plain = {"position": run.position, "history": run.history, "lr": run.optimizer.lr, "schedule": run.schedule}
    return arrays | {name: repr(value) for name, value in plain.items()}


class Looked(data.Dataset):
    """Counts how often all of it was looked at."""

    times = 0

    def digest(self) -> str:
        Looked.times += 1
        return super().digest()


@pytest.mark.parametrize(("checkpoint", "times"), [(None, 0), ("run.safetensors", 1)])
def test_all_data_are_looked_at_once_and_for_a_checkpoint_alone(tmp_path, monkeypatch, checkpoint, times):
    monkeypatch.setattr(Looked, "times", 0)
    samples, (model, loss, optimizer) = blobs(), setup()
    train.fit(
        model, loss, optimizer, Looked(samples.x, samples.y), epochs=3, batch_size=20, quiet=True,
        checkpoint=checkpoint and tmp_path / checkpoint,
    )  # fmt: skip
    assert Looked.times == times


# Going back -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [optim.SGD, optim.Adam])
def test_a_run_that_has_gone_back_is_as_it_was_and_repeats_its_steps(optimizer):
    run = steps(run_of(optimizer=optimizer), 3)
    before, snapshot = everything(run), run.snapshot()
    after = everything(steps(run, 4))
    changed = {name for name in before if before[name] != after[name]}
    assert changed >= {"layers.0.W", "layers.0.b", "totals", "rng", "position", "optimizer.steps"}
    run.go_back(snapshot)
    assert everything(run) == before
    assert everything(steps(run, 4)) == after
    run.go_back(snapshot)  # a second time: the snapshot is no view of what has changed
    assert everything(run) == before


@pytest.mark.parametrize(
    ("value", "clip", "place"),
    [(3e38, 1.0, r"the output of layers\.0"), (-1e25, None, "the optimizer's squares")],  # in the pass, in the update
)
def test_after_a_value_that_is_not_finite_all_is_as_before_its_step(value, clip, place):
    samples = blobs()
    samples.x[37] = value  # finite, but a product or a square of it is not
    at = list(data.epoch_order(200, 0, 0)).index(37) // 8
    assert 2 < at < 24
    run = run_of(samples, clip=clip)
    snapshot = run.snapshot()
    with np.errstate(all="ignore"):
        steps(run, at + 2)
        found = pytest.raises(train.NotFiniteError, match=rf"step {at + 1}: a NaN or an infinity in {place}")
        with found, run.model.backend.mode(training=True):
            raise_culprit(run, snapshot)
        assert everything(run) == everything(steps(run_of(samples, clip=clip), at))


# Resuming -------------------------------------------------------------------------------------------------------------


def rows(result: train.Result) -> list[dict]:
    return [{**row, "seconds": 0} for row in result.history]


def test_a_checkpoint_in_the_middle_of_an_epoch_brings_all_of_it_back(tmp_path):
    run = steps(run_of(optimizer=optim.AdamW), 11)
    run.optimizer.lr = 0.0123
    train.save_checkpoint(run, tmp_path / "run")
    fresh = run_of(optimizer=optim.AdamW)
    train.load_checkpoint(fresh, tmp_path / "run")
    assert everything(fresh) == everything(run)
    assert fresh.steps_done == 11
    assert everything(steps(fresh, 5)) == everything(steps(run, 5))


@posix
def test_ctrl_c_within_an_epoch_ends_it_after_the_step_and_nothing_of_it_is_lost(tmp_path):
    def presses(step):
        if step == 30 and not pressed:
            pressed.append(os.kill(os.getpid(), signal.SIGINT))
        return 0.01

    def fit(**options):
        model, loss, optimizer = setup()
        kw = {"epochs": 3, "batch_size": 8, "schedule": presses, "quiet": True, **options}
        return model, train.fit(model, loss, optimizer, blobs(), **kw)

    pressed: list = [True]
    whole, result = fit()
    pressed.clear()
    model, interrupted = fit(checkpoint=tmp_path / "run")
    assert (interrupted.stopped, len(interrupted.history)) == ("interrupted", 1)
    assert not model.backend.training
    progress = read_tensors(tmp_path / "run")[1]["run"]["progress"]
    assert (progress["epoch"], progress["batch"]) == (1, 30 - 25 + 1)
    resumed, again = fit(checkpoint=tmp_path / "run", resume=True)
    np.testing.assert_array_equal(resumed.data, whole.data)
    assert rows(again) == rows(result)  # the means over the whole second epoch too


@posix
def test_a_second_ctrl_c_ends_it_at_once():
    def presses_twice(step):
        if step == 3:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
        return 0.01

    model, loss, optimizer = setup()
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born without it
    try:
        with pytest.raises(KeyboardInterrupt):
            train.fit(model, loss, optimizer, blobs(), epochs=1, batch_size=8, schedule=presses_twice, quiet=True)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert_usable(model, loss, optimizer)
    finally:
        signal.signal(signal.SIGINT, before)


def assert_usable(model, loss, optimizer):
    """No mode, no lock and no handler is left behind: the next run works."""
    assert not model.backend.training
    assert train.fit(model, loss, optimizer, blobs(), epochs=1, quiet=True).stopped == ""


@pytest.mark.parametrize("where", ["augment", "callbacks"])
def test_an_error_in_a_run_leaves_the_backend_usable(where):
    def fails(*arguments):
        raise ZeroDivisionError

    model, loss, optimizer = setup()
    usual = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError):
        train.fit(
            model, loss, optimizer, blobs(), epochs=1, quiet=True, **{where: [fails] if where[-1] == "s" else fails}
        )
    assert signal.getsignal(signal.SIGINT) is usual
    assert_usable(model, loss, optimizer)


def test_the_best_weights_of_before_the_interruption_are_kept(tmp_path):
    """After the second epoch all weights are spoiled: whatever comes is worse."""
    seen: list[np.ndarray] = []

    def spoil(row, model):
        seen.append(model.data.copy())
        if row["epoch"] >= 2:
            model.data.fill(0)

    def fit(epochs, **options):
        model, loss, optimizer = setup(optim.SGD, dropout=0, lr=0.02)
        kw = {"batch_size": 8, "callbacks": [spoil], "checkpoint": tmp_path / "run", "resume": True, "quiet": True}
        return model, train.fit(model, loss, optimizer, blobs(), blobs(seed=1), epochs=epochs, **kw, **options)

    fit(3)
    model, result = fit(5, keep_best=True)
    assert result.best_epoch == 2
    np.testing.assert_array_equal(model.data, seen[1])


ON = {"none": None, "some": blobs(60, seed=1), "others": blobs(60, seed=2)}


@pytest.mark.parametrize("then", ON)
@pytest.mark.parametrize("before", ON)
def test_losses_on_other_data_are_not_compared(before, then, tmp_path):
    """With other validation data the search for the lowest begins anew: nothing that was measured on them was better,
    whatever the loss on what was watched before."""

    def fit(epochs, validation, **options):
        model, loss, optimizer = setup(optim.SGD, dropout=0)
        kw = {"batch_size": 20, "checkpoint": tmp_path / "run", "resume": True, "quiet": True, "patience": 2, **options}
        return model, train.fit(model, loss, optimizer, blobs(), ON[validation], epochs=epochs, **kw)

    def spoils(row, model):
        model.data[...] *= -3

    plateau = schedules.Plateau(0.01, patience=5)
    fit(3, before, schedule=plateau, callbacks=[spoils])  # further and further from the best
    rate, lowest = plateau.lr, plateau.best
    _, result = fit(4, then, schedule=plateau, keep_best=True, callbacks=[spoils])
    if then == before:
        assert (plateau.best, plateau.waited) == (lowest, 2)
        assert (len(result.history), result.best_epoch) == (3, 1)
        return
    assert (len(result.history), result.best_epoch, result.stopped) == (4, 4, "")
    assert plateau.best == result.history[3].get("validation_loss", result.history[3]["train_loss"])
    assert (plateau.waited, plateau.lr) == (0, rate)
    assert read_tensors(tmp_path / "run")[1]["run"]["progress"]["watched"] == (ON[then].digest() if ON[then] else "")


def test_a_resumed_run_whose_plateau_has_less_patience_lowers_the_rate(tmp_path):
    """Also if more epochs than that have passed already."""

    def fit(epochs, plateau):
        model, loss, optimizer = setup(optim.SGD, dropout=0)
        kw = {"checkpoint": tmp_path / "run", "resume": True, "quiet": True, "schedule": plateau}
        spoils = lambda row, model: model.data.__imul__(-3)
        train.fit(model, loss, optimizer, blobs(), epochs=epochs, callbacks=[spoils], **kw)
        return plateau

    before = fit(4, schedules.Plateau(0.01, patience=9))
    assert (before.waited, before.lr) == (3, 0.01)
    after = fit(5, schedules.Plateau(0.01, patience=2))
    assert (after.waited, after.lr) == (0, 0.005)


def test_with_other_validation_data_there_is_no_best_epoch_at_first(tmp_path):
    def begun(validation):
        run = run_of()
        run.position.watched = validation
        return run

    before, after, again = begun("these"), begun("those"), begun("those")
    for epoch in (1, 2):
        steps(before, len(before.slices))
        row = {"epoch": epoch, "train_loss": 1.0, "train_accuracy": 0.5, "lr": 0.01, "seconds": 0.1}
        before.end_epoch(row, 1.0)
    train.save_checkpoint(before, tmp_path / "run")
    train.load_checkpoint(after, tmp_path / "run")
    position = after.position
    assert (position.epoch, position.best, position.best_epoch, position.waited) == (2, math.inf, 0, 0)
    train.save_checkpoint(steps(after, 3), tmp_path / "run")  # as Ctrl-C does
    train.load_checkpoint(again, tmp_path / "run")
    assert everything(again) == everything(after)


# Another run ----------------------------------------------------------------------------------------------------------


def noise(x, backend, size=0.1):
    return x + size * (backend.rng.random(x.shape, x.dtype) - 0.5)


def other_labels():
    samples = blobs()
    return data.Dataset(samples.x, (samples.y + 1) % 3, samples.classes)


PARTIAL = functools.partial(noise, size=0.1)
OTHERS = {  # what the first run is made with, what the second, and what must be named
    "seed": ({"seed": 0}, {"seed": 1}, "seed"),
    "dtype": ({"dtype": "float32"}, {"dtype": "float64"}, "dtype"),
    "labels": ({"train": blobs()}, {"train": other_labels()}, "data"),
    "samples": ({"train": blobs()}, {"train": blobs(seed=2)}, "data"),
    "more samples": ({"train": blobs()}, {"train": blobs(210)}, "data"),
    "clip": ({"clip": 1.0}, {"clip": 2.0}, "clip"),
    "no clip": ({"clip": 1.0}, {}, "clip"),
    "augmentation": ({"augment": noise}, {}, "augment"),
    "its keyword": ({"augment": PARTIAL}, {"augment": functools.partial(noise, size=0.2)}, "augment"),
    "metrics": ({}, {"metrics": [mae]}, "metrics"),
    "a loss's option": ({}, {"loss": losses.SoftmaxCrossEntropy(0.1)}, "loss"),
    "class weights": (
        {"loss": losses.SoftmaxCrossEntropy(0, [1, 1, 2])}, {"loss": losses.SoftmaxCrossEntropy(0, [1, 2, 1])}, "loss"
    ),
    "a network": ({"dropout": 0.2}, {"dropout": 0.3}, "network"),
}  # fmt: skip


@pytest.mark.parametrize("other", OTHERS)
def test_a_checkpoint_of_a_run_with_another_setting_is_refused(other, tmp_path):
    def fit(epochs, **options):
        made = {name: options.pop(name) for name in ("seed", "dtype", "dropout") if name in options}
        model, loss, optimizer = setup(**made)
        kw = {"train": blobs(), "loss": loss, "batch_size": 16, "checkpoint": tmp_path / "run", "quiet": True}
        return train.fit(model, optimizer=optimizer, epochs=epochs, **{**kw, **options})

    first, second, named = OTHERS[other]
    fit(1, **first)
    before = (tmp_path / "run").read_bytes()
    with pytest.raises(ModelFileError, match=f"its {named} is"):
        fit(2, **second, resume=True)
    assert (tmp_path / "run").read_bytes() == before
    assert len(fit(2, **first, resume=True).history) == 2


@pytest.mark.parametrize("beta", [0.0, 0.999])
def test_options_of_an_optimizer_that_leave_something_out_do_not_hinder(beta, tmp_path):
    for epochs in (1, 2):
        model, loss, _ = setup()
        optimizer = optim.Adam(model, betas=(0.9, beta))
        kw = {"checkpoint": tmp_path / "run", "resume": True, "quiet": True}
        assert len(train.fit(model, loss, optimizer, blobs(), epochs=epochs, **kw).history) == epochs


class Both:
    """One augmentation after the other."""

    def __init__(self, *parts):
        self.parts = parts

    def __call__(self, x, backend):
        return functools.reduce(lambda x, part: part(x, backend), self.parts, x)


class Noisy:
    def __init__(self, size):
        self.size = size

    def __call__(self, x, backend):
        return noise(x, backend, self.size)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (functools.partial(noise, size=1), functools.partial(noise, size=2)),
        (functools.partial(PARTIAL, size=1), functools.partial(PARTIAL, size=2)),
        (functools.partial(Both, noise), functools.partial(Both, blobs)),
        (Both(noise, PARTIAL), Both(noise, functools.partial(noise, size=0.2))),
        (Both(Noisy(1)), Both(Noisy(2))),
        (losses.SoftmaxCrossEntropy(0.1), losses.SoftmaxCrossEntropy(0.2)),
        (data.Augment(shift=0.1), data.Augment(shift=0.2)),
        (Noisy(np.zeros(2000)), Noisy(np.eye(1, 2000, 1000)[0])),
    ],
)
def test_settings_in_words_tell_options_apart_and_hold_no_address(one, other):
    assert described(one) != described(other)
    assert " at 0x" not in repr(described(one))
    assert described(one) == described(one)
