"""Groups: several processes (here threads) train as one would, and all of them end with the same model."""

from __future__ import annotations

import re
import sys
import threading
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest
from thread_group import SharingGroup, ThreadGroup, together

from xpnet import data, losses, nn, optim, parallel, schedules, train
from xpnet.backend import Backend, BackendError
from xpnet.nn.saving import read_tensors
from xpnet.optim import loss_scale
from xpnet.parallel import ALONE, OthersFailed
from xpnet.parallel.group import is_in_all, own_stream
from xpnet.train.checkpoint import load_checkpoint, save_checkpoint
from xpnet.train.run import described
from xpnet.verify.strict import StrictBackend

N = 50  # with batches of 16: the last has 2 samples, for 3 processes


def points(weights=None):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, N)
    return data.Dataset((np.eye(3)[y] + 0.5 * rng.standard_normal((N, 3))).astype(np.float32), y, weights=weights)


def weighted():
    return points(np.where(np.arange(N) % 7 == 0, 0.0, np.arange(N) / 10))


def model_of(layers=(), seed=3, dtype="float64", backend=None):
    layers = [nn.Linear(8), nn.LeakyReLU(), *layers, nn.Linear(3)]
    return nn.Model(nn.Sequential(*(layer.copy() for layer in layers)), (3,), backend or Backend(dtype, seed))


def trained(group, layers=(), samples=points, loss=losses.SoftmaxCrossEntropy, seed=3, dtype="float64", **options):
    """A run of two epochs: the result, the model."""
    model = model_of(layers, seed, dtype)
    settings = {"epochs": 2, "batch_size": 16, "quiet": True, "validation": points()[:21], **options}
    for name in ("average", "schedule"):
        if name in settings:
            settings[name] = settings[name](model)
    result = train.fit(model, loss(), optim.AdamW(model, 0.01), samples(), group=group, **settings)
    return result, model


def losses_of(result):
    return [[v for k, v in row.items() if k != "seconds"] for row in result.history]


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


# The same as one process ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [ThreadGroup, SharingGroup], ids=["each updates all", "shared"])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"clip": 0.05},
        {"accumulate": 3},
        {"samples": weighted},
        {"samples": weighted, "accumulate": 2, "clip": 0.1},
        {"loss": partial(losses.SoftmaxCrossEntropy, reduction="sum"), "samples": weighted},
        {"loss": partial(losses.SoftmaxCrossEntropy, class_weights=(1.0, 5.0, 0.2))},
        {"loss": lambda: lambda y, target, backend: losses.SoftmaxCrossEntropy()(y, target, backend)},
        {"average": partial(optim.WeightAverage, decay=0.9), "keep_best": True},
        {"schedule": lambda model: schedules.Plateau(0.01, patience=1), "metrics": (train.accuracy,), "patience": 1},
        {"batch_size": 1, "epochs": 1},  # of most batches a process has nothing
    ],
    ids=lambda options: " and ".join(options) or "plain",
)
def test_a_group_trains_as_one_process_does(size, options, kind):
    alone, model = trained(ALONE, **options)
    outcomes = together(size, partial(trained, **options), kind)
    for result, other in outcomes:
        close(other.data, model.data)
        close(losses_of(result), losses_of(alone))
        assert other.data.tobytes() == outcomes[0][1].data.tobytes()
        assert losses_of(result) == losses_of(outcomes[0][0])


def test_a_scaled_loss_is_unscaled_in_all_also_where_there_is_no_sample(monkeypatch):
    monkeypatch.setattr(loss_scale, "START", 256.0)  # in a group the gradients are sums until the end: larger ones

    def work(group):
        model = model_of(backend=StrictBackend("float32", 3, "float16"))
        optimizer, group.backend = optim.SGD(model, 0.1), model.backend
        run = train.Run(model, losses.SoftmaxCrossEntropy(), optimizer, points(), 16, group=group)
        with model.backend.mode(training=True):
            for _ in run.slices:
                run.step()
        assert optimizer.loss_scale.figures == {"loss_scale": 256, "skipped_steps": 0}
        return run.digest(), model.tensors()

    _, alone = work(parallel.Group())
    outcomes = together(3, work)
    assert len({digest for digest, _ in outcomes}) == 1
    for name, values in outcomes[0][1].items():
        np.testing.assert_allclose(values, alone[name], atol=1e-3)


def test_the_same_bits_each_time_for_one_number_of_processes():
    first, second = (together(2, partial(trained, layers=[nn.Dropout(0.3)], dtype="float32")) for _ in range(2))
    assert first[0][1].data.tobytes() == second[1][1].data.tobytes()


def test_a_step_in_a_loop_of_ones_own():
    samples = points(np.arange(N) / N)

    def step(group):
        model, part = model_of(), group.share(slice(0, N))
        optimizer = optim.SGD(model, 0.1)
        target = (samples.y[part], samples.weights[part].astype(np.float64))
        x = samples.x[part].astype(np.float64)
        value, y = train.train_step(model, losses.SoftmaxCrossEntropy(), optimizer, x, target, group=group)
        assert len(y) == part.stop - part.start
        return float(value) * float(samples.weights[part].sum()), model.data

    (whole, alone), parts = step(ALONE), together(3, step)
    close(sum(value for value, _ in parts), whole)
    for _, values in parts:
        close(values, alone)


def test_a_process_without_a_sample_steps_with_the_others():
    samples = points()

    def step(group):
        model, part = model_of(), group.share(slice(0, 1))
        x, target = samples.x[part].astype(np.float64), samples.y[part]
        value, y = train.train_step(model, losses.MultiMargin(), optim.SGD(model, 0.1), x, target, group=group)
        return float(value), y, model.data

    (whole, outputs, alone), (one, other) = step(ALONE), together(2, step)
    assert sorted([one[0], other[0]]) == [0, whole]
    for value, y, values in (one, other):
        assert y is None if value == 0 else (y == outputs).all()
        close(values, alone)


def test_fit_keeps_gradients_where_the_processes_share_an_update(monkeypatch):
    windows, window = {}, SharingGroup.window
    monkeypatch.setattr(SharingGroup, "window", lambda group, grad: windows.setdefault(group.rank, window(group, grad)))
    for rank, (_, model) in enumerate(together(2, trained, SharingGroup)):
        assert model.grad is windows[rank].grad


def test_r2_of_numbers_far_from_0_is_that_of_one_process():
    rng = np.random.default_rng(0)
    x, noise = rng.standard_normal((N, 3)), 0.1 * rng.standard_normal((N, 1))

    def measured(group, weights=None):
        model = nn.Model(nn.Linear(1), (3,), Backend("float64", 1))
        model.parameters["b"].data += 1e9
        y = model.predict(x) + noise
        loss, samples, metrics = losses.MeanSquaredError(), data.Dataset(x, y, weights=weights), [train.r2]
        figures = train.evaluate(model, loss, samples, 7, metrics, group).metrics
        optimizer, kw = optim.SGD(model, 0.0), {"epochs": 1, "metrics": metrics, "quiet": True, "group": group}
        row = train.fit(model, loss, optimizer, samples, batch_size=16, **kw).history[0]
        counts = slice(0, None) if weights is None else weights > 0
        expected = 1 - (noise[counts] ** 2).sum() / ((y[counts] - y[counts].mean()) ** 2).sum()
        return figures["r2"] / expected, row["train_r2"] / expected

    for weights in (None, (np.arange(N) > 9).astype(float)):
        for found in [measured(ALONE, weights), *together(2, partial(measured, weights=weights))]:
            assert found == pytest.approx((1, 1), rel=1e-6)


# Every sample once, every mask another --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("batch_size", [16, 2])
def test_each_sample_is_seen_once_in_an_epoch(size, batch_size):
    numbered = data.Dataset(np.arange(N, dtype=np.float32)[:, None] * [1, 1, 1], np.arange(N) % 3)
    seen: list[list[float]] = []

    def note(x, backend):
        seen.append(x[:, 0].tolist())
        return x

    together(size, partial(trained, samples=lambda: numbered, augment=note, batch_size=batch_size, epochs=1))
    assert sorted(number for part in seen for number in part) == list(range(N))
    lengths = [len(part) for part in seen if part]
    assert max(lengths) == -(-batch_size // size)


def test_each_process_draws_its_own_numbers():
    drawn: dict[str, list] = {}

    def note(x, backend):
        drawn.setdefault(threading.current_thread().name, []).append(backend.rng.random((32,), np.float32))
        return x

    together(3, partial(trained, augment=note, epochs=1))
    first = [numbers[0] for numbers in drawn.values()]
    assert len(first) == 3
    assert len(np.unique(np.concatenate(first))) == 96
    alone = Backend("float32", 3).rng.random((32,), np.float32)
    assert any(np.array_equal(numbers, alone) for numbers in first)  # the first process draws as one alone does


def test_the_streams_are_those_of_numpy_jumps():
    state, rng = Backend("float32", 5).rng.state, np.random.Philox(5)
    for rank in range(3):
        jumped = rng.jumped(rank).state["state"]
        assert own_stream(state, rank).tolist() == [*jumped["key"], *jumped["counter"]]


# Batch statistics -----------------------------------------------------------------------------------------------


def test_running_statistics_are_the_mean_over_the_processes():
    samples = points()
    order = data.epoch_order(N, 3, 0)[:20]

    def run(group):
        model = model_of([nn.BatchNorm(momentum=0.5)])
        run = train.Run(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), samples, 20, group=group)
        with model.backend.mode(training=True):
            run.step()
        return model.tensors()

    def own(part):
        model = model_of([nn.BatchNorm(momentum=0.5)])
        with model.backend.mode(training=True):
            model.forward(samples.x[order[part]].astype(np.float64))
        return model.tensors()

    halves = [own(slice(0, 10)), own(slice(10, 20))]
    for tensors in together(2, run):
        for name in ("layers.2.running_mean", "layers.2.running_var"):
            close(tensors[name], (halves[0][name] + halves[1][name]) / 2)


def test_state_that_nothing_changes_keeps_its_bits():
    def run(group):
        _, model = trained(group, layers=[nn.BatchNorm(momentum=0.0)], dtype="float32", batch_size=25)
        return model.tensors()["layers.2.running_var"]

    for values in together(3, run):
        assert (values == 1).all()


# Going wrong ----------------------------------------------------------------------------------------------------


def test_an_error_of_the_first_process_is_raised_in_all():
    def ask(group):
        return group.first(lambda: 1 // 0)

    first, second = together(2, ask)
    assert isinstance(first, ZeroDivisionError)
    assert is_in_all(first)
    assert isinstance(second, OthersFailed)
    assert str(second).startswith("ZeroDivisionError: ")
    assert is_in_all(second)


def test_only_the_first_process_is_asked():
    asked = []
    assert together(3, lambda group: group.first(lambda: asked.append(group.rank) or "yes")) == ["yes"] * 3
    assert asked == [0]


def test_processes_that_begin_with_different_settings_are_told_so():
    first, second = together(2, lambda group: trained(group, seed=3 + group.rank))
    assert str(first) == str(second) == "process 1 starts with other settings than process 0: seed 4, not 3"


OTHERS = {  # what process 1 is given, and the words
    "rate": (lambda model: {"optimizer": optim.AdamW(model, 0.02)}, "starts with other settings .*: lr 0.02, not 0.01"),
    "kind": (
        lambda model: {"optimizer": optim.SGD(model, 0.01)},
        "optimizer kind 'SGD', not 'AdamW'",
    ),
    "decay": (
        lambda model: {"optimizer": optim.AdamW(model, 0.01, weight_decay=0.5)},
        "optimizer weight_decay 0.5, not 0",
    ),
    "schedule": (lambda model: {"schedule": schedules.Constant(0.1)}, r"schedule 'Constant\(lr=0.1\)', not 'None'"),
    "epochs": (lambda model: {"epochs": 3}, "was asked for something else than process 0: epochs 3, not 2"),
    "patience": (lambda model: {"patience": 1}, "something else .*: patience 1, not None"),
    "best": (lambda model: {"keep_best": True}, "something else .*: keep_best True, not False"),
    "none": (lambda model: {"validation": None}, "something else .*: validation False, not True"),
    "other": (lambda model: {"validation": points()[:20]}, "validates on other data than process 0"),
}


@pytest.mark.parametrize(("other", "words"), OTHERS.values(), ids=OTHERS)
def test_processes_that_are_given_something_else_are_told_so(other, words):
    """They would wait for each other for ever, or each train its part of the model in its own way."""

    def run(group):
        model = model_of()
        given = {"optimizer": optim.AdamW(model, 0.01), "epochs": 2, "validation": points()[:21]}
        given |= other(model) if group.rank else {}
        train.fit(model, losses.SoftmaxCrossEntropy(), train=points(), quiet=True, group=group, **given)

    for error in together(2, run):
        assert isinstance(error, RuntimeError)
        assert re.search(f"process 1 .*{words}", str(error))


def test_what_a_plateau_has_seen_before_is_no_other_setting():
    def run(group):
        plateau, model = schedules.Plateau(0.01, patience=1), model_of()
        if group.rank:
            plateau.observe(1.0)
            plateau.observe(1.0)
        seen, given = {**vars(plateau)}, (model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), points())
        train.Run(*given, 25, plateau, group=group)
        assert vars(plateau) == seen  # it is `fit` that begins
        result = train.fit(*given, epochs=2, schedule=plateau, quiet=True, group=group)
        return [row["lr"] for row in result.history]

    assert together(2, run) == [run(ALONE)] * 2


def test_a_schedule_in_words_is_the_same_in_all_processes():
    class Named:
        def __init__(self, names):
            self.names = names

    words = [described(Named(set(order))) for order in (["a", "b", "cc"], ["cc", "b", "a"])]
    assert words == [["Named", {"names": ["'a'", "'b'", "'cc'"]}]] * 2
    assert described(Named({"a"})) != words[0]


def test_a_loss_over_a_whole_batch_is_not_cut(tmp_path):
    class Spread(losses.Loss):
        by_sample = False

        def __call__(self, y, target, backend):
            d = y - y.mean(axis=0)
            return -(d * d).sum() / len(y), -2 * d / len(y)

    for options in ({"accumulate": 2}, {"group": ThreadGroup(0, 2, [None] * 2, threading.Barrier(1))}):
        with pytest.raises(
            ValueError, match=r"compares samples of a batch \(by_sample = False\): a batch cannot be cut"
        ):
            trained(**{"group": ALONE, "loss": Spread, "checkpoint": tmp_path / "run", **options})
        assert not (tmp_path / "run").exists()  # it is said before anything is written
        model, batch = model_of(), points()[:16]
        with pytest.raises(ValueError, match="a batch cannot be cut in parts"):  # in a loop of one's own, too
            train.train_step(model, Spread(), optim.SGD(model, 0.1), batch.x, batch.y, **options)
    trained(ALONE, loss=Spread)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_checkpoint_that_one_process_alone_asks_for(rank, tmp_path):
    def run(group):
        return trained(group, checkpoint=tmp_path / "run" if group.rank == rank else None)

    for error in together(2, run):
        assert f"something else than process 0: checkpoint {rank == 1}, not {rank == 0}" in str(error)
    assert not (tmp_path / "run").exists()


def test_sizes_are_watched_in_each_process():
    """Gradients of a step are those of the whole batch, also where the sum of weights comes as an array, as of MPI."""

    class OfArrays(ThreadGroup):
        def sum_gradients(self, grad, weight):
            return np.full(1, super().sum_gradients(grad, weight))

    def run(group):
        model = model_of()
        sizes = train.LayerSizes(model, every=1)
        options = {"epochs": 1, "batch_size": 10, "quiet": True, "watch": sizes, "group": group}
        train.fit(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.0), points(), **options)
        return sizes.rows

    first, second = together(2, run, OfArrays)
    plain = together(2, run)[0]
    for row, expected in zip(first, plain, strict=True):
        assert row == pytest.approx(expected)
    assert [row["step"] for row in first] == [row["step"] for row in second]
    assert {row["step"] for row in first} == {1, 2, 3, 4, 5}
    assert all(np.isfinite(row["activation"]) and row["gradient"] > 0 for row in first + second)


def test_processes_that_begin_with_different_parameters_are_told_so():
    def begin(group):
        model = model_of()
        model.data[0] += group.rank
        return train.fit(
            model,
            losses.SoftmaxCrossEntropy(),
            optim.SGD(model, 0.1),
            points(),
            epochs=1,
            batch_size=16,
            quiet=True,
            group=group,
        )

    for error in together(2, begin):
        assert isinstance(error, RuntimeError)
        assert "process 1 starts with other parameters than process 0" in str(error)


def test_processes_that_come_apart_are_told_so():
    class Astray(optim.SGD):
        def step(self):
            super().step()
            self.model.data[0] += float(threading.current_thread().name == "astray") * 1e-9

    def run(group):
        threading.current_thread().name = "astray" if group.rank else "right"
        model = model_of()
        return train.fit(
            model,
            losses.SoftmaxCrossEntropy(),
            Astray(model, 0.1),
            points(),
            epochs=1,
            batch_size=16,
            quiet=True,
            group=group,
        )

    for error in together(2, run):
        assert "process 1 has other parameters after epoch 1" in str(error)


def test_a_metric_that_is_not_finite_in_one_process_ends_all():
    def nan(y, target, xp):
        return [np.nan if threading.current_thread().name == "process 1" else 1.0]

    metric = train.Metric("odd", 1, nan, lambda total: 0.0)
    for error in together(2, partial(trained, metrics=[metric], validation=None)):
        assert isinstance(error, train.NotFiniteError)
        assert error.where == "the totals, in process 1,"


@pytest.mark.parametrize("kind", [ThreadGroup, SharingGroup], ids=["each updates all", "shared"])
@pytest.mark.parametrize("group_size", [2, 3])
def test_a_value_that_is_not_finite_in_one_process_ends_all(group_size, kind):
    samples = points()
    samples.x[37] = 3e38  # finite, but no product of it is
    at, place = divmod(list(data.epoch_order(N, 3, 0)).index(37), 16)
    size = min(16, N - 16 * at)
    rank = next(r for r in range(group_size) if place < size * (r + 1) // group_size)

    def run(group):
        return trained(group, samples=lambda: samples, dtype="float32")

    for error in together(group_size, run, kind):
        assert isinstance(error, train.NotFiniteError)
        assert error.step == at + 1
        assert error.where.startswith("the output of layers.0 (Linear)")
        assert error.where.endswith(f", in process {rank}," if rank else "(Linear)")


# Files and decisions --------------------------------------------------------------------------------------------


def test_one_process_writes_and_calls_back_and_all_stop(tmp_path, monkeypatch):
    written, called = [], []
    monkeypatch.setattr(train.checkpoint, "write_tensors", lambda *_: written.append(threading.current_thread().name))

    def call(row, model):
        called.append(threading.current_thread().name)
        return True

    outcomes = together(2, partial(trained, checkpoint=tmp_path / "run.safetensors", callbacks=[call]))
    assert [result.stopped for result, _ in outcomes] == ["a callback asked for it"] * 2
    assert len(called) == 1
    assert written == called * 2  # before the first epoch, and after it


def halves(optimizer):
    optimizer.model.data[...] /= 2


def forgets(optimizer):
    for state in optimizer.state.values():
        state.fill(0)


CHANGES = {
    "rate": lambda optimizer: setattr(optimizer, "lr", 0.0),
    "setting": lambda optimizer: setattr(optimizer, "betas", (0.5, 0.5)),
    "decay": lambda optimizer: setattr(optimizer, "weight_decay", 5.0),
    "decay of NumPy": lambda optimizer: setattr(optimizer, "weight_decay", np.float32(5)),
    "momentum": lambda optimizer: setattr(optimizer, "momentum", 0.9),  # of an optimizer that had none
    "no momentum": lambda optimizer: setattr(optimizer, "momentum", 0.0),  # of one that had some
    "parameters": halves,
    "state": forgets,
}


@pytest.mark.parametrize(("size", "kind"), [(2, ThreadGroup), (3, SharingGroup)], ids=["each updates all", "shared"])
@pytest.mark.parametrize("name", CHANGES)
def test_what_a_callback_changes_is_changed_in_all_processes(name, size, kind):
    of = {"momentum": optim.SGD, "no momentum": partial(optim.SGD, momentum=0.9)}.get(name, optim.AdamW)

    def run(group):
        model = model_of()
        optimizer = of(model, 0.01)
        callbacks = [lambda row, model: CHANGES[name](optimizer) if row["epoch"] == 1 else None]
        options = {"epochs": 2, "batch_size": 16, "quiet": True, "callbacks": callbacks}
        result = train.fit(model, losses.SoftmaxCrossEntropy(), optimizer, points(), group=group, **options)
        return result, model.data.copy(), optimizer

    result, data_, optimizer = run(ALONE)
    for theirs, values, other in together(size, run, kind):
        close(losses_of(theirs), losses_of(result))
        close(values, data_)
        assert (other.lr, other.described) == (optimizer.lr, optimizer.described)
        assert vars(other).keys() == vars(optimizer).keys()


def test_a_schedule_that_one_process_alone_changes_is_told_of():
    def run(group):
        model, rates = model_of(), [0.1]
        options = {"epochs": 3, "batch_size": 16, "quiet": True, "schedule": lambda step: rates[0]}
        callbacks = [lambda row, model: rates.insert(0, rates[0] / 2)]
        optimizer = optim.SGD(model, 0.1)
        train.fit(model, losses.SoftmaxCrossEntropy(), optimizer, points(), group=group, callbacks=callbacks, **options)
        return model.data

    assert np.isfinite(run(ALONE)).all()
    for error in together(2, run, SharingGroup):
        assert isinstance(error, RuntimeError)
        assert "process 1 has another rate in step 8 than process 0: 0.1, not 0.05" in str(error)


def test_one_process_speaks_and_all_have_the_same_history(capsys):
    first, second = together(2, partial(trained, quiet=False))
    assert capsys.readouterr().err.count("epoch   1/2") == 1
    assert first[0].history == second[0].history  # to the measured seconds


def test_one_process_that_is_told_to_stop_stops_all_after_the_same_step(monkeypatch, tmp_path):
    @contextmanager
    def told():
        asked = threading.Event()
        if threading.current_thread().name == "process 1":
            asked.set()
        yield asked

    monkeypatch.setattr(sys.modules["xpnet.train.fit"], "ctrl_c", told)
    for result, _ in together(2, partial(trained, checkpoint=tmp_path / "run")):
        assert (result.stopped, result.history) == ("interrupted", [])
    assert read_tensors(tmp_path / "run")[1]["run"]["progress"]["batch"] == 1


def test_a_group_asks_some_times_a_second_whether_to_stop():
    ask_every = sys.modules["xpnet.train.fit"]._ask_every
    run = begun(ALONE)
    run.history.append({"seconds": 2.0})
    assert ask_every(run) == 1
    run.group = ThreadGroup(0, 2, [], threading.Barrier(2))
    run.slices = run.slices * 250
    assert ask_every(run) == 100  # of 1,000 steps in 2 seconds
    run.history[-1]["seconds"] = 1e4
    assert ask_every(run) == 1
    run.history.clear()
    assert ask_every(run) == 1


def test_a_checkpoint_that_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "run").write_text("kept")
    first, second = together(2, partial(trained, checkpoint=tmp_path / "run"))
    assert isinstance(first, FileExistsError)
    assert isinstance(second, OthersFailed)
    assert (tmp_path / "run").read_text() == "kept"


def begun(group, dropout=0.4):
    model = model_of([nn.Dropout(dropout)])
    return train.Run(model, losses.SoftmaxCrossEntropy(), optim.AdamW(model, 0.01), points(), 16, group=group)


def go(run, n):
    with run.model.backend.mode(training=True):
        for _ in range(n):
            run.step()
    return run


@pytest.mark.parametrize("size", [2, 3])
def test_a_run_resumes_in_mid_epoch_with_the_same_bits(size, tmp_path):
    path = tmp_path / "run.safetensors"

    def whole(group):
        run = go(begun(group), 2)
        save_checkpoint(run, path)
        go(run, 2)
        return run.model.data, run.means()

    def resumed(group):
        run = begun(group)
        run.model.backend.rng.random((99,), np.float64)  # forgotten
        load_checkpoint(run, path)
        go(run, 2)
        return run.model.data, run.means()

    for (values, means), (again, means_again) in zip(together(size, whole), together(size, resumed), strict=True):
        assert values.tobytes() == again.tobytes()
        assert means == means_again


@pytest.mark.parametrize(("before", "after"), [(2, 3), (3, 1), (1, 2)])
def test_a_run_resumes_with_another_number_of_processes(before, after, tmp_path, monkeypatch):
    path = tmp_path / "run.safetensors"
    begin = partial(begun, dropout=0)

    def first(group):
        save_checkpoint(go(begin(group), 2), path)

    def second(group):
        run = begin(group)
        load_checkpoint(run, path)
        go(run, 2)
        return run.model.data, run.means()[0], run.model.backend.rng.state[4]

    together(before, first)
    read = []
    monkeypatch.setattr(train.checkpoint, "read_tensors", lambda path: (read.append(path), read_tensors(path))[1])
    whole = go(begin(ALONE), 4)
    outcomes = together(after, second) if after > 1 else [second(ALONE)]
    for rank, (values, mean, stream) in enumerate(outcomes):
        close(values, whole.model.data)
        close(mean, whole.means()[0])
        assert stream == rank
    assert len(read) == 1


def test_the_random_states_of_all_processes_are_in_the_checkpoint(tmp_path):
    together(3, lambda group: save_checkpoint(go(begun(group), 1), tmp_path / "run"))
    states = read_tensors(tmp_path / "run")[0]["run/rng"]
    assert states.shape == (3, 6)
    assert len({tuple(state) for state in states.tolist()}) == 3


def test_evaluating_is_shared_out():
    model = model_of()
    alone = train.evaluate(model, losses.SoftmaxCrossEntropy(), points(), batch_size=16)
    rows = []

    def measure(group):
        own = model.to(Backend("float64", 3))
        forward = own.forward
        own.forward = lambda x: (rows.append(len(x)), forward(x))[1]
        return train.evaluate(own, losses.SoftmaxCrossEntropy(), points(), batch_size=16, group=group)

    for measured in together(3, measure):
        close([measured.loss, measured.accuracy], [alone.loss, alone.accuracy])
    assert sum(rows) == N
    assert max(rows) == 6


def test_a_process_that_was_started_by_hand_is_alone(monkeypatch):
    for name in parallel.mpi.SIZES:
        monkeypatch.delenv(name, raising=False)
    assert parallel.join() is ALONE
    assert (ALONE.rank, ALONE.size, ALONE.machine_rank, ALONE.share(slice(3, 9))) == (0, 1, 0, slice(3, 9))


def test_a_group_that_was_joined_is_found_again(monkeypatch):
    assert parallel.mpi.joined() is ALONE
    group = parallel.Group()
    monkeypatch.setattr(parallel.mpi, "_joined", [group])
    assert parallel.mpi.joined() is group
    assert parallel.join() is group


@pytest.mark.parametrize("name", ["PMI_SIZE", "OMPI_COMM_WORLD_SIZE"])
def test_processes_of_any_mpiexec_need_mpi4py(name, monkeypatch):
    monkeypatch.setenv(name, "2")
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(
        BackendError, match=r'2 processes were started together, which needs mpi4py \(.*\): pip install "xpnet\[mpi\]"'
    ):
        parallel.join()
