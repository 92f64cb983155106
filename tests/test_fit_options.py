"""`fit` and `evaluate` do what each option says, and nothing is left over from before."""

from __future__ import annotations

import contextlib
import gc
import importlib
import math
import signal
import weakref
from fractions import Fraction

import numpy as np
import pytest
from test_fit import blobs, setup

import xpnet
from xpnet import data, losses, nn, optim, schedules, train
from xpnet.backend import Backend, Observer
from xpnet.nn.saving import ModelFileError
from xpnet.train.metrics import Metric, accuracy, mae, r2
from xpnet.train.progress import Reporter
from xpnet.train.run import Run
from xpnet.verify.strict import StrictBackend


def test_clip_bounds_every_step():
    model, loss, optimizer = setup(optim.SGD, lr=1.0)
    before, moved = model.data.copy(), []
    watch = lambda row, model: moved.append(np.linalg.norm(model.data - before))
    train.fit(model, loss, optimizer, blobs(), epochs=1, batch_size=200, clip=1e-3, callbacks=[watch], quiet=True)
    assert moved == [pytest.approx(1e-3, rel=1e-3)]


def test_metrics_that_are_asked_for_are_in_every_row():
    model, _, optimizer = setup()
    rows = np.eye(3, dtype=np.float32)[blobs().y]
    samples = data.Dataset(blobs().x, rows)
    result = train.fit(
        model, losses.MeanSquaredError(), optimizer, samples, samples, epochs=1, metrics=[mae], quiet=True
    )
    assert {"train_mae", "validation_mae"} < result.history[0].keys()
    measured = train.evaluate(model, losses.MeanSquaredError(), samples, metrics=[mae]).metrics["mae"]
    assert result.history[0]["validation_mae"] == pytest.approx(measured, rel=1e-6)
    assert measured == pytest.approx(np.abs(model.predict(samples.x) - rows).mean(), rel=1e-5)


def test_each_of_several_metrics_has_its_own_sums():
    model, _, optimizer = setup(dropout=0)
    loss, samples = losses.MeanSquaredError(), data.Dataset(blobs().x, np.eye(3, dtype=np.float32)[blobs().y])
    measured = train.evaluate(model, loss, samples, batch_size=30, metrics=[r2, accuracy, mae]).metrics
    y = model.predict(samples.x)
    expected = {metric.name: metric(y, samples.y) for metric in (r2, accuracy, mae)}
    assert measured == pytest.approx(expected, rel=1e-5)
    kw = {"metrics": [mae, r2, accuracy], "epochs": 1, "quiet": True}
    row = train.fit(model, loss, optimizer, samples, samples, **kw).history[0]
    y = model.predict(samples.x)
    for metric in (mae, r2, accuracy):
        assert row[f"validation_{metric.name}"] == pytest.approx(metric(y, samples.y), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"metrics": [Metric("loss", 1, max, max)]}, ValueError, "two figures would be called 'loss'"),
        ({"metrics": [mae, Metric("mae", 1, max, max)]}, ValueError, "two figures would be called 'mae'"),
        (
            {"metrics": [Metric("short", 2, lambda y, target, xp: [y.sum()], lambda total, n: total)]},
            ValueError,
            "the metric 'short' is of size 2, and gives 1 sums",
        ),
        (
            {"metrics": [Metric("mean", 1, lambda y, target, xp: y.mean(), lambda mean: mean)]},
            TypeError,
            r"the metric 'mean' gives a list of sums, such as \[hits, n\], not a float32",
        ),
        (
            {"metrics": [Metric("count", 1, lambda y, target, xp: len(y), lambda n: n)]},
            TypeError,
            "the metric 'count' gives a list of sums, .*, not ",
        ),
        ({"augment": data.Augment}, TypeError, r"such as data.Augment\(rotate=10\), not the class Augment"),
        ({"augment": True}, TypeError, "an augmentation is a function of a batch, .*, not True"),
        ({"average": 0.9}, TypeError, r"an average is made for a model, as optim.WeightAverage\(model\), not 0.9"),
        ({"average": optim.WeightAverage}, TypeError, "not the class WeightAverage"),
        ({"callbacks": print}, TypeError, r"callbacks are a list of functions, such as \[print\]"),
        ({"callbacks": None}, TypeError, "callbacks are a list of functions"),
        ({"patience": 0}, ValueError, "patience must be a whole number >= 1, not 0"),
    ],
)
def test_options_that_cannot_be(options, error, message):
    model, loss, optimizer = setup()
    before = model.data.copy()
    with pytest.raises(error, match=message):
        train.fit(model, loss, optimizer, blobs(), epochs=1, batch_size=20, quiet=True, **options)
    assert np.array_equal(model.data, before) or "metrics" in options


def test_several_answers_to_a_sample_have_no_accuracy_of_one():
    """The highest of several yes-or-no outputs says little about them."""
    rng = np.random.default_rng(0)
    x, labels = rng.standard_normal((60, 4)), rng.integers(0, 3, 60)
    for rows, measured in ((np.eye(3, dtype=int)[labels], True), ((x[:, :3] > 0).astype(int), False)):
        model = nn.Model(nn.Linear(3), (4,), Backend())
        loss, samples = losses.BinaryCrossEntropy(), data.Dataset(x, rows)
        result = train.fit(model, loss, optim.SGD(model, 0.1), samples, epochs=1, quiet=True)
        assert ("train_accuracy" in result.history[0]) == measured
        evaluated = train.evaluate(model, loss, samples)
        if measured:
            assert evaluated.accuracy == accuracy(model.predict(x), rows)
        else:
            with pytest.raises(ValueError, match="no accuracy was measured, as the targets are no class numbers"):
                evaluated.accuracy  # noqa: B018


@pytest.mark.parametrize(("labels", "measured"), [([0, 1], True), ([0, 7], False), ([2, 60], False)])
@pytest.mark.parametrize("shape", [(-1,), (-1, 1)])
def test_whole_numbers_for_one_output_have_an_accuracy_where_they_are_two_classes(labels, measured, shape):
    x, y = np.random.default_rng(0).standard_normal((60, 4)), np.resize(labels, 60).reshape(shape)
    model = nn.Model(nn.Linear(1), (4,), Backend())
    figures = train.evaluate(model, lambda y, target, backend: ((y * y).mean(), y), data.Dataset(x, y)).metrics
    assert ("accuracy" in figures) == measured


def test_whole_numbers_below_0_have_none_either():
    x, y = np.random.default_rng(0).standard_normal((60, 4)), -np.arange(60).reshape(-1, 1) % -9
    model = nn.Model(nn.Linear(1), (4,), Backend())
    assert "accuracy" not in train.evaluate(model, losses.MeanSquaredError(), data.Dataset(x, y)).metrics


def test_options_of_numpys_kinds_go_into_a_checkpoint(tmp_path):
    model, loss, optimizer = setup()
    options = {"clip": np.float32(1), "batch_size": np.int64(20), "schedule": schedules.Plateau(np.array(0.01))}
    options |= {"accumulate": np.uint8(2)}
    for epochs in (np.uint8(1), 2):
        options |= {"checkpoint": tmp_path / "run", "resume": True, "quiet": True}
        assert len(train.fit(model, loss, optimizer, blobs(), epochs=epochs, **options).history) == epochs


def test_a_metric_may_give_an_array_of_one_number():
    model, loss, optimizer = setup()
    ratio = Metric("ratio", 1, lambda y, target, xp: [len(y)], lambda total: np.where(total > 0, 0.5, 0.0))
    result = train.fit(model, loss, optimizer, blobs(), epochs=1, metrics=[ratio], quiet=True)
    assert result.history[0]["train_ratio"] == 0.5


@pytest.mark.parametrize("value", [True, np.True_, 3, Fraction(1, 4), np.float32(0.5)], ids=repr)
def test_figures_of_any_kind_of_number_go_into_a_checkpoint(value, tmp_path):
    kind = Metric("kind", 1, lambda y, target, xp: [len(y)], lambda total: value)
    for epochs in (1, 2):
        model, loss, optimizer = setup()
        kw = {"metrics": [kind], "checkpoint": tmp_path / "run", "resume": True, "quiet": True}
        result = train.fit(model, loss, optimizer, blobs(), epochs=epochs, **kw)
        assert [row["train_kind"] for row in result.history] == [float(value)] * epochs


def test_a_batch_size_of_numpys_bytes_counts_more_samples_than_a_byte():
    model, loss, _ = setup()
    assert train.evaluate(model, loss, blobs(400), batch_size=np.uint8(100)).loss == pytest.approx(
        train.evaluate(model, loss, blobs(400)).loss
    )


@pytest.mark.parametrize("value", ["0.5", None, np.ones(2)], ids=repr)
def test_a_metric_that_gives_no_number_is_named(value):
    model, loss, optimizer = setup()
    wrong = Metric("wrong", 1, lambda y, target, xp: [y.sum()], lambda total: value)
    with pytest.raises(TypeError, match="the metric 'wrong' gives a number, not"):
        train.fit(model, loss, optimizer, blobs(), epochs=1, metrics=[wrong], quiet=True)


def test_a_run_within_a_run_is_told_apart_from_threads():
    model, loss, optimizer = setup()
    again = lambda row, model: train.fit(model, loss, optimizer, blobs(), epochs=1, quiet=True)
    with pytest.raises(RuntimeError, match="is training already, in another thread or around this: each run needs"):
        train.fit(model, loss, optimizer, blobs(), epochs=1, callbacks=[again], quiet=True)
    train.fit(model, loss, optimizer, blobs(), epochs=1, quiet=True)


def test_what_a_metric_adds_up_is_added_up():
    """A ratio of two sums would hide it if both were taken off."""
    model, loss, optimizer = setup()
    count = Metric("count", 1, lambda y, target, xp: [len(y)], lambda total: total)
    result = train.fit(model, loss, optimizer, blobs(), epochs=2, batch_size=30, metrics=[count], quiet=True)
    assert [row["train_count"] for row in result.history] == [200, 200]


def test_one_epoch_of_patience_and_one_part_are_enough():
    model, loss, optimizer = setup()
    result = train.fit(model, loss, optimizer, blobs(), epochs=1, accumulate=1, patience=1, quiet=True)
    assert len(result.history) == 1


def test_one_sample_in_parts_is_one_part():
    results = []
    for accumulate in (1, 4):
        model, loss, optimizer = setup(optim.SGD, dropout=0, lr=0.1)
        value, y = train.train_step(model, loss, optimizer, blobs().x[:1], blobs().y[:1], accumulate=accumulate)
        results.append([float(value), *y.ravel(), *model.data])
    assert results[1] == pytest.approx(results[0], rel=1e-6)


@pytest.mark.parametrize(
    ("n", "accumulate", "lengths"), [(7, 3, [2, 2, 3]), (5, 4, [1, 1, 1, 2]), (6, 3, [2, 2, 2]), (2, 3, [1, 1])]
)
def test_parts_are_as_many_as_asked_for_and_alike(n, accumulate, lengths):
    """A part of one sample has no variance for `nn.BatchNorm`, a part more takes more time, one fewer more memory."""
    seen = []

    class Sees(Observer):
        def loss(self, value, dy):
            seen.append(len(dy))

    model, loss, optimizer = setup(optim.SGD)
    with model.backend.observed_by(Sees()):
        train.train_step(model, loss, optimizer, blobs().x[:n], blobs().y[:n], accumulate=accumulate)
    assert seen == lengths


def test_parts_of_one_sample_are_named_where_batch_norm_cannot_train_on_them():
    model = nn.Model(nn.Sequential(nn.Linear(3), nn.BatchNorm()), (4,), Backend())
    samples, optimizer = data.Dataset(np.ones((6, 4)), np.arange(6) % 3), optim.SGD(model, 0.1)
    options = {"epochs": 1, "batch_size": 3, "accumulate": 3, "quiet": True}
    with pytest.raises(ValueError, match="no part of one where accumulate or several processes cut a batch into parts"):
        train.fit(model, losses.SoftmaxCrossEntropy(), optimizer, samples, **options)


def test_measuring_drops_nothing_draws_nothing_and_keeps_the_mode():
    model, loss, _ = setup(dropout=0.5)
    before = model.backend.rng.state
    with model.backend.mode(training=True):
        measured = train.evaluate(model, loss, blobs())
        assert model.backend.training
    assert measured == train.evaluate(model, loss, blobs())
    np.testing.assert_array_equal(model.backend.rng.state, before)


def test_a_schedule_that_remembers_is_told_of_the_validation_loss():
    model, loss, optimizer = setup(lr=0.05)
    plateau = schedules.Plateau(0.05, patience=2)
    result = train.fit(
        model, loss, optimizer, blobs(60), blobs(90, seed=1), epochs=12, batch_size=20, schedule=plateau, quiet=True
    )
    assert plateau.best == min(row["validation_loss"] for row in result.history)


def test_a_schedule_that_remembers_begins_anew_with_each_run():
    plateau = schedules.Plateau(5.0, factor=0.1, patience=1)

    def rates():
        model, loss, _ = setup()
        options = {"epochs": 6, "batch_size": 20, "schedule": plateau, "quiet": True}
        result = train.fit(model, loss, optim.SGD(model, 5.0), blobs(60), blobs(90, seed=1), **options)
        return [row["lr"] for row in result.history]

    first = rates()
    assert first[0] == 5.0 > first[-1]
    assert rates() == first


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (FileExistsError, "go on from it with resume=True"),
        (OSError, "nowhere"),
        (ModelFileError, "its batch_size is 20, this run's is 40"),
        (train.OutOfMemoryError, "a step of 40 samples needs"),
        (RuntimeError, "this backend is training already"),
    ],
)
def test_a_run_that_is_refused_changes_nothing(tmp_path, error, message):
    plateau = schedules.Plateau(0.5, factor=0.1, patience=1)
    for value in (1.0, 2.0, 3.0, 3.0):
        plateau.observe(value)
    seen, path = {**vars(plateau)}, tmp_path / "run"
    assert seen["lr"] < plateau.first

    model = nn.Model(nn.mlp([2, 16, 3]), (2,), xpnet.select("cpu"))
    optimizer = optim.SGD(model, 0.1)
    fit = lambda **options: train.fit(
        model, losses.SoftmaxCrossEntropy(), optimizer, blobs(), epochs=1, quiet=True, schedule=plateau, **options
    )
    options = {"batch_size": 40, "checkpoint": path}
    if error is FileExistsError:
        path.write_bytes(b"another's")
    elif error is OSError:
        options["checkpoint"] = tmp_path / "nowhere" / "run"
    elif error is ModelFileError:
        fit(checkpoint=path, batch_size=20)
        model.classes = ()
        vars(plateau).update(seen)
        options["resume"] = True
    elif error is train.OutOfMemoryError:
        model.backend.max_memory = 1000
    before, files = model.tensors(), {file: file.read_bytes() for file in tmp_path.iterdir()}
    busy = model.backend.training_lock if error is RuntimeError else contextlib.nullcontext()
    with busy, pytest.raises(error, match=message):
        fit(**options)
    assert (model.classes, vars(plateau)) == ((), seen)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == files
    assert all((values == before[name]).all() for name, values in model.tensors().items())


def test_what_a_callback_writes_into_its_row_is_its_own(tmp_path):
    """It is in no checkpoint, where not everything can be, and no other callback sees it."""

    def note(row, model):
        row["note"], row["epoch"] = np.zeros(3), "first"

    seen = []
    model, loss, optimizer = setup()
    options = {"callbacks": [note, lambda row, model: seen.append(row)], "checkpoint": tmp_path / "run", "quiet": True}
    result = train.fit(model, loss, optimizer, blobs(), epochs=1, **options)
    assert seen == result.history
    assert "note" not in seen[0]
    again = train.fit(model, loss, optimizer, blobs(), epochs=2, resume=True, **options)
    assert [row["epoch"] for row in again.history] == [1, 2]


def test_what_tensors_gives_is_a_copy():
    model, loss, optimizer = setup()
    train.fit(model, loss, optimizer, blobs(), epochs=1, quiet=True)
    taken = {**model.tensors(), **optimizer.tensors()}
    before = {name: np.array(a) for name, a in taken.items()}
    train.fit(model, loss, optimizer, blobs(), epochs=1, quiet=True)
    for name, array in before.items():
        np.testing.assert_array_equal(taken[name], array)
    weights = model.data.copy()
    for array in taken.values():
        array.fill(7)
    np.testing.assert_array_equal(model.data, weights)
    assert all((array != 7).any() for array in optimizer.tensors().values())


def test_first_weights_are_of_the_stream_for_weights():
    model, _, _ = setup(seed=5)
    rng = model.backend.host_rng("weights")
    expected = nn.init.he_normal(rng, (2, 16)).astype(np.float32)
    np.testing.assert_array_equal(model.parameters["layers.0.W"].data, expected)


def test_a_row_is_of_its_own_epoch_alone():
    model, loss, optimizer = setup(optim.SGD, lr=0.0, dropout=0)
    spoil = lambda row, model: model.data.fill(0)  # then every class is as likely as any other
    result = train.fit(model, loss, optimizer, blobs(), epochs=2, callbacks=[spoil], quiet=True)
    assert result.history[0]["train_loss"] != pytest.approx(math.log(3), rel=1e-3)
    assert result.history[1]["train_loss"] == pytest.approx(math.log(3), rel=1e-5)


# When the host looks at the device, and how many threads a step gets ------------------------------------------------


def test_the_loss_is_looked_at_every_50_steps_and_when_an_epoch_ends(monkeypatch):
    seen = []
    monkeypatch.setattr(Reporter, "batches", lambda self, epoch, batch, *figures: seen.append((epoch, batch)))
    model, loss, optimizer = setup()
    train.fit(model, loss, optimizer, blobs(130), epochs=2, batch_size=1, quiet=True)
    assert seen == [(0, 50), (0, 100), (0, 130), (1, 20), (1, 70), (1, 120), (1, 130)]


@pytest.mark.parametrize("batch_size", [4, 20])
def test_a_step_gets_threads_by_its_multiplications(batch_size, monkeypatch):
    model, loss, optimizer = setup()
    asked, usual = [], model.backend.threads_for
    monkeypatch.setattr(model.backend, "threads_for", lambda number: asked.append(number) or usual(number))
    train.fit(model, loss, optimizer, blobs(20), epochs=1, batch_size=batch_size, quiet=True)
    assert asked == [batch_size * (2 * 16 + 16 + 16 * 3 + 3)]


# Numbers that are too small to matter ---------------------------------------------------------------------------------


def with_an_idle_input(optimizer, **options):
    """A model, loss, optimizer and data whose first input is always 0, so that the gradients of its weights are."""
    model = nn.Model(nn.mlp([3, 16, 3]), (3,), xpnet.select("cpu", seed=0), classes=("a", "b", "c"))
    samples = blobs()
    x = np.concatenate([np.zeros((len(samples), 1), np.float32), samples.x], axis=1)
    return model, losses.SoftmaxCrossEntropy(), optimizer(model, lr=0.01, **options), data.Dataset(x, samples.y)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [(optim.SGD, {"momentum": 0.9}), (optim.Adam, {}), (optim.NAdam, {}), (optim.RMSProp, {}), (optim.Lion, {})],
)
def test_after_an_epoch_no_sum_of_gradients_is_a_denormal_number(optimizer, options):
    model, loss, update, samples = with_an_idle_input(optimizer, **options)
    idle = model.places["layers.0.W"].start
    for name in update.state_names:
        update.state[name][idle : idle + 16] = 1e-36  # as after 800 steps without a gradient
    train.fit(model, loss, update, samples, epochs=1, batch_size=20, quiet=True)
    for name in update.state_names:
        assert not update.state[name][idle : idle + 16].any()
        assert update.state[name].any()


def test_what_is_large_enough_to_matter_stays_bit_for_bit():
    model, loss, optimizer = setup()
    run = train.Run(model, loss, optimizer, blobs(), 20)
    sizes = np.logspace(-29.9, 38, model.n_parameters, dtype=np.float32)
    optimizer.state["sum"][...], optimizer.state["squares"][...] = -sizes, sizes
    run.drop_denormals()
    np.testing.assert_array_equal(optimizer.state["sum"], -sizes)
    np.testing.assert_array_equal(optimizer.state["squares"], sizes)


def test_of_float64_only_much_smaller_numbers_are_dropped():
    """Squares of gradients of 1e-17, which an optimizer with a small eps lives on."""
    samples = blobs()
    model = nn.Model(nn.Linear(3), samples.x.shape[1:], Backend("float64"))
    run = train.Run(model, losses.SoftmaxCrossEntropy(), optim.Adam(model), samples, 20)
    run.optimizer.state["squares"][...] = 1e-34
    run.optimizer.state["squares"][0] = 1e-301
    run.drop_denormals()
    assert run.optimizer.state["squares"].tolist() == [0] + [1e-34] * (model.n_parameters - 1)


def test_denormal_numbers_are_looked_for_every_50_steps_and_when_an_epoch_ends(monkeypatch):
    model, loss, optimizer = setup()
    asked = []
    monkeypatch.setattr(train.Run, "drop_denormals", lambda run: asked.append(run.steps_done))
    train.fit(model, loss, optimizer, blobs(120), epochs=2, batch_size=1, quiet=True)
    assert asked == [50, 100, 120, 150, 200, 240]


def test_an_interruption_changes_no_small_number(tmp_path):
    def fit(file, stop_at=None):
        def presses(step):
            if step == stop_at:
                signal.raise_signal(signal.SIGINT)
            return 0.01

        model, loss, optimizer, samples = with_an_idle_input(optim.SGD, momentum=0.9)
        idle = model.places["layers.0.W"].start
        model.data[idle : idle + 16], optimizer.state["velocity"][idle : idle + 16] = 0, 1e-33
        result = train.fit(
            model, loss, optimizer, samples, epochs=1, batch_size=20, schedule=presses, quiet=True,
            checkpoint=tmp_path / file, resume=True,
        )  # fmt: skip
        return result.stopped, model.data[idle : idle + 16]

    _, whole = fit("whole.safetensors")
    assert (whole != 0).all()
    assert fit("cut.safetensors", stop_at=3)[0] == "interrupted"
    np.testing.assert_array_equal(fit("cut.safetensors")[1], whole)


# Which weights the model ends with ------------------------------------------------------------------------------------


def interrupted(step, epochs=3, **options):
    """A run in which Ctrl-C is pressed as step number `step` begins."""

    def presses(number):
        if number == step:
            signal.raise_signal(signal.SIGINT)
        return 0.01

    model, loss, optimizer = setup()
    result = train.fit(
        model, loss, optimizer, blobs(), epochs=epochs, batch_size=20, schedule=presses, quiet=True, **options
    )
    return model, result


def test_without_a_checkpoint_ctrl_c_keeps_the_work_in_the_model():
    model, result = interrupted(14)
    assert (result.stopped, len(result.history)) == ("interrupted", 1)
    whole, _ = interrupted(None, epochs=1)
    assert (model.data != whole.data).any()  # it has gone on with the second epoch


def test_before_the_first_epoch_has_ended_there_are_no_best_weights_to_put_back():
    kept, result = interrupted(4, keep_best=True)
    plain, _ = interrupted(4)
    assert (result.stopped, result.best_epoch, result.history) == ("interrupted", 0, [])
    np.testing.assert_array_equal(kept.data, plain.data)
    assert (plain.data != setup()[0].data).any()


@pytest.mark.parametrize("keep_best", [False, True])
def test_the_last_weights_stay_unless_the_best_are_asked_for(keep_best):
    def spoil(row, model):
        measured.append(model.data.copy())
        if row["epoch"] == 2:
            model.data.fill(0)

    measured: list[np.ndarray] = []
    model, loss, optimizer = setup(optim.SGD, dropout=0, lr=1e-4)
    kw = {"callbacks": [spoil], "keep_best": keep_best, "batch_size": 200, "quiet": True}
    result = train.fit(model, loss, optimizer, blobs(), blobs(seed=1), epochs=3, **kw)
    assert result.best_epoch == 2
    np.testing.assert_array_equal(model.data, measured[1 if keep_best else 2])


def test_an_epoch_as_good_as_the_best_is_no_better():
    model, loss, optimizer = setup(optim.SGD, lr=0.0)
    result = train.fit(model, loss, optimizer, blobs(), blobs(seed=1), epochs=9, patience=2, quiet=True)
    assert (result.best_epoch, len(result.history), result.stopped) == (1, 3, "no better for 2 epochs")


def test_a_handler_that_is_not_pythons_stays(monkeypatch):
    """A program around Python may have set it: Python then says None, and could not put it back."""
    changed = []
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda *handler: changed.append(handler))
    model, loss, optimizer = setup()
    assert len(train.fit(model, loss, optimizer, blobs(), epochs=1, quiet=True).history) == 1
    assert changed == []


def test_a_run_alone_compares_its_parameters_with_nobody(monkeypatch):
    taken = []
    monkeypatch.setattr(Run, "digest", lambda run: taken.append(run) or "")
    model, loss, optimizer = setup()
    assert len(train.fit(model, loss, optimizer, blobs(), epochs=2, quiet=True).history) == 2
    assert taken == []


@pytest.mark.parametrize("kind", [Backend, StrictBackend])
@pytest.mark.parametrize("slope", [0.01, math.nan])
def test_a_run_goes_when_it_ends_not_when_python_looks_for_cycles(kind, slope, monkeypatch):
    """Nor do the data stay on the device: also where steps are captured, and where a run ends by an error."""
    gone = []

    def made(*args):
        run = Run(*args)
        gone.extend([weakref.ref(run), weakref.ref(run.feed)])
        return run

    monkeypatch.setattr(importlib.import_module("xpnet.train.fit"), "Run", made)
    model = nn.Model(nn.mlp([2, 4, 3]), (2,), kind("float32"))
    loss = lambda y, target, backend: ((y * slope).sum(), y * slope)
    gc.collect()
    gc.disable()
    try:
        try:
            result = train.fit(model, loss, optim.SGD(model, 0.1), blobs(), epochs=1, metrics=[], quiet=True)
            assert (result.eager, slope) == ("", 0.01)
        except train.NotFiniteError:
            assert math.isnan(slope)
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()
