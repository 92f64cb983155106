"""The settings of a run: what is said of them, what is refused before there is a folder, and that each works."""

from __future__ import annotations

import csv
import json
import os
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
from command_line import SHORT, call, elsewhere, weights, write_folder  # noqa: F401

import xpnet
from xpnet import data
from xpnet.cli.fitting import FEWEST_TO_WATCH, check_batches, fitted_to, takes_one, without_singles
from xpnet.cli.options import Val
from xpnet.cli.run_folder import clear_halves
from xpnet.cli.settings import in_words, read_config, settle, to_toml
from xpnet.cli.train import lowest_loss
from xpnet.cli.workers import device_for
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.train import evaluate, recipes
from xpnet.train.recipes import MNIST, Recipe
from xpnet.verify.strict import StrictBackend

THREADS = "on the CPU, on one thread unless steps are large (--threads N asks for more)"

pytestmark = pytest.mark.usefixtures("elsewhere")


def history(folder):
    with open(folder / "history.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


# What is said -------------------------------------------------------------------------------------------------


def test_a_run_says_what_is_the_users_and_what_the_recipes():
    line = in_words(settle({"data": "mnist", "optimizer": "sgd", "lr": 0.1, "nesterov": False, "hidden": ()}, {}))
    theirs, recipes, off = line.split("; ")
    assert theirs == "yours: hidden none, optimizer sgd, lr 0.1, no nesterov"
    for part in ("momentum 0.9", "weight-decay 0.0005", "label-smoothing 0.05", "schedule one-cycle"):
        assert part in recipes.removeprefix("from the recipe mnist: ").split(", ")
    assert off == "off: clip, patience, augment"
    named = sum(len(part.split(": ")[1].split(", ")) for part in (theirs, recipes, off))
    assert named == len(Recipe.__dataclass_fields__)  # the whole recipe


def test_the_line_is_printed_and_a_file_of_a_run_does_not_make_all_of_it_the_users():
    for arguments in ([*SHORT, "--out", "run"], ["train", "--config", "run/config.toml", "--quiet", "--out", "again"]):
        assert "yours: epochs 2, schedule constant; from the recipe digits: " in call(*arguments).stdout
    assert "yours: " not in in_words(settle({}, {}))


def test_the_plain_recipe_is_gradient_descent_and_nothing_else(tmp_path):
    assert settle({"recipe": "plain"}, {}).recipe == Recipe() == settle({}, {"recipe": "plain", "data": "mnist"}).recipe
    plain = Recipe()
    extras = (plain.dropout, plain.momentum, plain.nesterov, plain.weight_decay, plain.label_smoothing, plain.clip)
    assert not any(extras)
    assert (plain.optimizer, plain.schedule, plain.augment, plain.val) == ("sgd", "constant", False, 0.0)
    call("train", "--recipe", "plain", "--epochs", "1", "--quiet", "--out", "first")
    call("train", "--config", "first/config.toml", "--quiet", "--out", "second")
    assert Path("first/config.toml").read_text() == Path("second/config.toml").read_text()
    assert 'recipe = "plain"' in Path("first/config.toml").read_text()
    np.testing.assert_array_equal(weights(tmp_path / "first"), weights(tmp_path / "second"))
    assert "leave out --recipe" in call("train", "--resume", "first", "--recipe", "mnist", code=2).stderr


@pytest.mark.parametrize(("smoothing", "classes"), [(0.1, 10), (0.05, 3), (0.5, 2)])
def test_the_lowest_loss_is_that_of_perfect_answers(smoothing, classes):
    labels = np.arange(classes)
    dataset = data.Dataset(np.zeros((classes, 2)), labels)
    perfect = np.full((classes, classes), smoothing / classes)
    perfect[labels, labels] += 1 - smoothing
    value, _ = SoftmaxCrossEntropy(smoothing)(np.log(perfect), labels, xpnet.select("cpu", "float64"))
    assert lowest_loss(Recipe(label_smoothing=smoothing), dataset) == pytest.approx(float(value))


def test_the_lowest_loss_is_said_where_there_is_smoothing():
    assert "the loss with label smoothing cannot fall below 0.500" in call(*SHORT).stdout
    assert "cannot fall below" not in call(*SHORT, "--label-smoothing", "0").stdout


def test_why_there_is_no_gpu_is_said_once_and_when_it_changes(monkeypatch):
    from xpnet import backend

    monkeypatch.setenv("XPNET_DEVICE", "auto")
    for why, said in (("no GPU", True), ("no GPU", False), ("a broken GPU", True), ("a broken GPU", False)):
        found = backend.Backend("float32", 0, why=why)
        monkeypatch.setattr(xpnet, "select", lambda *_, found=found: found)
        first = call(*SHORT, "--epochs", "1", "--hidden", "").stdout.splitlines()[0]
        assert first == (f"{THREADS}: {why} (said once; xpnet doctor has it)" if said else THREADS)
    monkeypatch.setenv("XPNET_CACHE", os.devnull)  # nowhere to remember it: then it is said again
    assert call(*SHORT, "--epochs", "1", "--hidden", "").stdout.startswith(f"{THREADS}: a broken GPU")


def test_a_rate_of_ones_own_in_a_file_stays_with_another_optimizer():
    written = {"lr": 0.5, "weight_decay": 0.25, "optimizer": "adam"}
    settings = settle({"optimizer": "rmsprop"}, written)
    assert (settings.recipe.optimizer, settings.recipe.lr, settings.recipe.weight_decay) == ("rmsprop", 0.5, 0.25)
    assert in_words(settings).startswith("yours: optimizer rmsprop, lr 0.5, weight-decay 0.25; ")
    assert settle({"optimizer": "rmsprop", "lr": 0.125}, written).recipe.lr == 0.125
    momentum = settle({"optimizer": "adam"}, {"optimizer": "sgd", "momentum": 0.5})
    assert in_words(momentum).startswith("yours: optimizer adam; ")


@pytest.mark.parametrize("data", ["digits", "mnist"])
def test_what_a_run_has_noted_of_its_optimizer_is_nobodys_rate(data):
    settings = settle({"optimizer": "adam", "data": data}, {})
    Path("run.toml").write_text(to_toml(settings))
    config = read_config(Path("run.toml"))
    assert in_words(settle({}, config)).startswith("yours: optimizer adam; from the recipe")
    assert settle({"optimizer": "sgd"}, config).recipe.lr == settle({"optimizer": "sgd"}, {"lr": 0.1}).recipe.lr == 0.1
    assert "yours: optimizer sgd; from" in in_words(settle({"optimizer": "sgd"}, config))


def test_no_validation_part_that_nobody_asked_for_is_theirs():
    for settings in (settle({}, {}), settle({"data": "mnist"}, {}), fitted_to(settle({"data": "mnist"}, {}), 100)):
        Path("run.toml").write_text(to_toml(settings))
        again = settle({}, read_config(Path("run.toml")))
        assert "yours: " not in in_words(again)
        assert fitted_to(again, 100).recipe.val == settings.recipe.val
    assert in_words(settle({}, {"val": 0.25})).startswith("yours: val 0.25; ")
    assert in_words(settle({"data": "mnist", "val": 0.0}, {})).startswith("yours: val 0.0; ")
    assert in_words(settle({"data": "mnist", "val": 0.02}, {})).startswith(
        "yours: val 0.02; "
    )  # the recipe's own, typed


# What is refused ----------------------------------------------------------------------------------------------

WRONG = [
    (["--data", ""], "unknown data set ''"),
    (["--config", "empty-data.toml"], "unknown data set ''"),
    (["--recipe", "cake"], "unknown recipe 'cake': choose one of digits, mnist, table, plain"),
    (["--lr", "1e308"], "lr 1e+308 is more than float32 can hold"),
    (["--lr", "1e308", "--dtype", "float64"], "lr 1e+308 is more than float64 can hold"),
    (["--val", "0.9999"], "--val 0.9999 of 1438 samples leaves none of them to train on"),
    (["--val", "0.0001"], "--val 0.0001 of 1438 samples leaves none of them for validation"),
    (["--epochs", str(10**30)], "epochs must be a whole number below 9007199254740992"),
    (["--config", "deep.toml"], "deep.toml is not a settings file: it is nested too deeply"),
    (["--config", "long.toml"], "long.toml is not a settings file: it has more than 16384 bytes"),
    (["--config", "huge.toml"], "huge.toml: lr must be a number"),
    (["--config", "binary.toml"], "binary.toml is not a TOML file"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_what_cannot_be_is_refused_before_there_is_a_folder(options, message):
    Path("empty-data.toml").write_text('data = ""\n')
    Path("deep.toml").write_text("lr = " + "[" * 10_000)
    Path("long.toml").write_text("#" * (1 << 14) + "\n")
    Path("huge.toml").write_text(f"lr = {10**400}\n")
    Path("binary.toml").write_bytes(b"lr = \xff\xfe")
    assert message in call("train", *options, code=2).stderr
    assert not os.path.exists("runs")


def test_evaluate_takes_no_name_for_no_data(tmp_path):
    call(*SHORT, "--out", "run")
    assert "unknown data set ''" in call("evaluate", "run/model.safetensors", "--data", "", code=2).stderr


@pytest.mark.parametrize("kind", ["XPNET_CACHE", "XPNET_DATA"])
def test_homes_of_nobody_are_a_line(kind, monkeypatch):
    assert "there is no such home folder" in call("train", "--data", "~nobody-of-that-name/x", code=1).stderr
    monkeypatch.setenv(kind, "~nobody-of-that-name/x")
    for arguments in (["train", "--data", "mnist"], ["data"]):
        stderr = call(*arguments, code=1).stderr
        assert f"{kind} is set to ~nobody-of-that-name/x: there is no such home folder" in stderr


def test_a_file_of_settings_is_read_no_further_than_its_limit(tmp_path):
    with open(tmp_path / "huge.toml", "wb") as file:
        file.truncate(1 << 26)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="has more than"):
            read_config(tmp_path / "huge.toml")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_the_command_line_wins_over_the_file_and_the_file_over_the_recipe():
    assert settle({"lr": 0.5}, {"lr": 0.25}).recipe.lr == 0.5
    assert settle({"seed": 3}, {"lr": 0.25}).recipe.lr == 0.25


# The validation part ------------------------------------------------------------------------------------------


def test_the_validation_part_is_cut_from_the_training_data_by_the_seed():
    call(*SHORT, "--epochs", "1", "--val", "0.2", "--seed", "3", "--label-smoothing", "0", "--out", "run")
    model = xpnet.load("run/model.safetensors", device="cpu")
    rest, part = data.split(data.load("digits").train, 0.2, 3)
    measured = evaluate(model, SoftmaxCrossEntropy(), part)
    (row,) = history(Path("run"))
    assert row["validation_loss"] == pytest.approx(measured.loss, rel=1e-5)
    assert row["validation_accuracy"] == measured.accuracy
    trained_on = recipes.build(recipes.DIGITS, rest, model.backend)[0].network.layers[0]
    assert (model.network.layers[0].mean, model.network.layers[0].std) == (trained_on.mean, trained_on.std)


def test_of_a_run_that_is_watched_the_best_weights_are_kept(tmp_path):
    call(
        "train", "--epochs", "14", "--val", "0.2", "--lr", "0.05", "--schedule", "constant", "--label-smoothing", "0",
        "--quiet", "--out", "run",
    )  # fmt: skip
    losses = [row["validation_loss"] for row in history(tmp_path / "run")]
    assert losses[-1] > min(losses) * 1.01
    _, part = data.split(data.load("digits").train, 0.2, 0)
    kept = evaluate(xpnet.load("run/model.safetensors", device="cpu"), SoftmaxCrossEntropy(), part).loss
    assert kept == pytest.approx(min(losses), rel=1e-5)


def test_the_recipes_validation_part_is_left_out_of_small_data(tmp_path):
    settings = settle({"data": "mnist"}, {})
    assert 0 < MNIST.val < 0.1
    assert fitted_to(settings, 60_000) == settings
    assert fitted_to(settings, 100).recipe.val == 0
    asked = settle({"data": "mnist", "val": MNIST.val}, {})
    in_a_file = settle({"data": "mnist"}, {"val": MNIST.val})
    assert fitted_to(asked, 100).recipe.val == fitted_to(in_a_file, 100).recipe.val == MNIST.val
    write_folder(tmp_path / "small", (4, 4))
    out = call(*SHORT, "--data", "small", "--batch-size", "10", "--out", "run").stdout
    assert "no validation part: with --val 0.1 the curves show" in out
    assert f"The default applies only if that is {FEWEST_TO_WATCH} samples or more" in get_args(Val)[1].help
    assert "validation_loss" not in history(tmp_path / "run")[0]
    call("train", "--resume", "run", "--epochs", "3", "--quiet")


def test_a_batch_is_no_larger_than_what_the_validation_part_leaves(tmp_path):
    write_folder(tmp_path / "small", (4, 4), n=48)
    call("train", "--data", "small", "--val", "0.1", "--epochs", "1", "--quiet", "--out", "run")
    assert read_config(Path("run/config.toml"))["batch_size"] == 43
    write_folder(tmp_path / "large", (4, 4), n=69)
    call("train", "--data", "large", "--val", "0.1", "--epochs", "1", "--quiet", "--out", "other")
    assert read_config(Path("other/config.toml"))["batch_size"] == 62


def test_a_batch_size_that_nobody_named_leaves_no_sample_alone(tmp_path):
    write_folder(tmp_path / "n65", (8, 8), n=65)
    call(*SHORT, "--data", "n65", "--model", "cnn", "--epochs", "1", "--out", "run")
    assert read_config(Path("run/config.toml"))["batch_size"] == 65
    call("train", "--resume", "run", "--epochs", "2", "--quiet")
    one, two = settle({"data": "mnist"}, {}), settle({"data": "mnist", "workers": 2}, {})
    assert fitted_to(one, 65).recipe.batch_size == fitted_to(one, 66, one_will_do=False).recipe.batch_size == 64
    assert fitted_to(two, 67, one_will_do=False).recipe.batch_size == 67  # the three that are left were 1 and 2
    assert fitted_to(two, 68, one_will_do=False).recipe.batch_size == 64


@pytest.mark.parametrize(
    ("model", "side"), [("mlp", 2), ("cnn", 8), ("cnn", 15), ("cnn", 16), ("resnet", 4), ("resnet", 5)]
)
def test_which_models_can_train_on_a_single_sample(model, side):
    recipe = Recipe().but(model=model, batch_size=1)
    backend, x = xpnet.select("cpu"), np.random.default_rng(0).integers(0, 255, (2, side, side), np.uint8)
    images = data.Dataset(x, np.arange(2), ("a", "b"))
    network = recipes.build(recipe, images, backend)[0]
    with backend.mode(training=True):
        if takes_one(recipe, images):
            network.forward(backend.asarray(x[:1]))
        else:
            with pytest.raises(ValueError, match="one number per channel"):
                network.forward(backend.asarray(x[:1]))


def test_a_size_with_no_batch_of_a_single_sample():
    for workers in (1, 2, 3, 5):
        for n in range(1, 80):
            sizes = range(7, n + 1)
            parts = {size: [size] * (n // size) + [n % size] * (n % size > 0) for size in sizes}
            shares = lambda m, w=workers: {m * (k + 1) // w - m * k // w for k in range(w)}
            good = [size for size in sizes if not any(1 in shares(m) for m in parts[size])]
            assert without_singles(7, n, workers) == (good[0] if good else max(7, n))


def test_a_batch_of_a_single_sample_is_refused_before_there_is_a_folder(tmp_path):
    write_folder(tmp_path / "n65", (8, 8), n=65)
    named = [*SHORT, "--data", "n65", "--batch-size", "64", "--epochs", "1"]
    stderr = call(*named, "--model", "cnn", code=2).stderr
    message = "batch_size=64 of 65 samples leaves a batch of a single sample, and the model cnn cannot train on one"
    assert f"{message}: use --batch-size 65" in stderr
    assert not Path("runs").exists()
    call(*named, "--out", "mlp")
    write_folder(tmp_path / "larger", (16, 16), n=65)  # of which four pixels are left in the last convolution
    call(*named, "--data", "larger", "--model", "cnn", "--out", "cnn")


def test_more_workers_than_a_run_began_with_may_leave_one_of_them_a_single_sample(tmp_path, monkeypatch):
    write_folder(tmp_path / "n67", (8, 8), n=67)
    call(*SHORT, "--data", "n67", "--model", "cnn", "--epochs", "1", "--out", "run")
    two = SimpleNamespace(size=2, rank=0, first=lambda work: work())
    monkeypatch.setattr("xpnet.cli.train.started", lambda workers, given: two)
    stderr = call("train", "--resume", "run", "--epochs", "2", "--quiet", code=2).stderr
    assert "batch_size=64 of 67 samples, shared by 2 workers, leaves a batch of a single sample" in stderr
    assert "use --batch-size 67 or fewer --workers" in stderr


def test_large_data_are_watched_by_default(tmp_path):
    write_folder(tmp_path / "large", (2, 2), n=10_000)
    out = call(*SHORT, "--data", "large", "--epochs", "1", "--hidden", "", "--out", "run").stdout
    assert "validation_loss" in history(tmp_path / "run")[0]
    assert "large train: 9800 samples" in out
    assert "no validation part" not in out


# The other settings reach the training -----------------------------------------------------------------------


@pytest.mark.parametrize("changed", [["--augment"], ["--batch-size", "31"], ["--seed", "1"], ["--schedule", "cosine"]])
def test_a_setting_changes_the_run(changed, tmp_path):
    for name, options in (("usual", []), ("changed", changed)):
        call(*SHORT, "--epochs", "1", "--dropout", "0", *options, "--out", name)
    assert (weights(tmp_path / "usual") != weights(tmp_path / "changed")).any()


# The clipping -------------------------------------------------------------------------------------------------


def test_the_gradient_is_clipped(tmp_path):
    """By plain descent, a step moves the weights by rate x norm: with the norm clipped, by a tiny amount."""
    plain = ["train", "--recipe", "plain", "--epochs", "1", "--quiet"]
    for clip in ("1e-6", "0"):
        call(*plain, "--clip", clip, "--out", f"clip-{clip}")
    splits = data.load("digits")
    first = recipes.build(Recipe(), splits.train, xpnet.select("cpu"))[0].data
    steps = -(-len(splits.train) // Recipe().batch_size)
    moved = [float(np.linalg.norm(weights(tmp_path / f"clip-{clip}") - first)) for clip in ("1e-6", "0")]
    assert moved[0] < 0.1 * 1e-6 * steps + 1e-4  # and the rounding of the saved weights
    assert moved[1] > 0.1


def test_threads_are_asked_for_and_said(tmp_path):
    out = call(*SHORT, "--epochs", "1", "--hidden", "", "--threads", "2", "--out", "run").stdout
    assert out.startswith("on the CPU, on 2 BLAS threads")
    assert "threads = 2" in (tmp_path / "run" / "config.toml").read_text()
    assert "threads must be a whole number >= 1" in call(*SHORT, "--threads", "0", code=2).stderr
    for command in ("train", "bench"):
        refused = call(command, "--threads", "100000", code=2).stderr
        assert "--threads 100000: each takes a core of this machine, and up to" in refused


# Precision ----------------------------------------------------------------------------------------------------


def test_a_precision_that_the_device_does_not_have_ends_before_there_is_a_folder(tmp_path):
    said = call(*SHORT, "--precision", "float16", "--out", "run", code=2).stderr
    assert "precision 'float16' is for a GPU" in said
    assert "unknown precision 'half'" in call(*SHORT, "--precision", "half", code=2).stderr
    (tmp_path / "run.toml").write_text('precision = "bfloat16"\n')
    assert "precision 'bfloat16' is for a GPU" in call("train", "--config", "run.toml", code=2).stderr
    assert not list(tmp_path.glob("run*/*"))


def test_a_run_in_float16_says_so_everywhere_and_goes_on_in_it(monkeypatch, tmp_path):
    def select(device, dtype, seed, threads, precision):
        return StrictBackend(dtype, seed, precision)

    monkeypatch.setattr(xpnet, "select", select)
    said = call(*SHORT, "--precision", "float16", "--out", "run").stdout
    assert "on strict, products in float16: asked for" in said
    assert 'precision = "float16"' in (tmp_path / "run/config.toml").read_text()
    assert json.loads((tmp_path / "run/metrics.json").read_text())["precision"] == "float16"
    assert [row["loss_scale"] for row in history(tmp_path / "run")] == [2.0**16] * 2
    assert [row["skipped_steps"] for row in history(tmp_path / "run")] == [0.0] * 2
    assert "leave out --precision" in call("train", "--resume", "run", "--precision", "bfloat16", code=2).stderr
    call("train", "--resume", "run", "--epochs", "3", "--quiet")
    assert len(history(tmp_path / "run")) == 3


# The fastest device -------------------------------------------------------------------------------------------


def test_without_a_gpu_the_cpu_is_the_fastest():
    done = call(*SHORT, "--device", "fastest", "--out", "run")
    assert "the CPU is the only device that works here, and so the fastest" in done.stdout
    assert 'device = "cpu"' in Path("run/config.toml").read_text("utf-8")


@pytest.mark.parametrize("strict_seconds", [1e-6, 9.0])
def test_the_device_on_which_steps_are_faster_is_taken(monkeypatch, strict_seconds):
    from xpnet.backend import Backend
    from xpnet.bench import measure

    select, asked = xpnet.select, []

    def selected(name, *options, **more):
        asked.append(name)
        return select("cpu", *options, **more) if name == "cpu" else StrictBackend(*options[:2])

    timed = []

    def seconds(run, steps):
        measure._step(run)
        timed.append((run.model.backend.device, steps))
        return 1.0 if type(run.model.backend) is Backend else strict_seconds

    monkeypatch.setattr(xpnet, "select", selected)
    monkeypatch.setattr(measure, "_time", seconds)
    done = call(*SHORT, "--device", "fastest", "--out", "run")
    strict = StrictBackend().device
    assert timed == [("cpu", 10), (strict, 10)]
    assert "ten steps on each device: " in done.stdout
    best = strict if strict_seconds < 1 else "cpu"
    assert asked[-1] == best
    assert f'device = "{best}"' in Path("run/config.toml").read_text("utf-8")


def test_the_fastest_device_is_not_for_products_of_16_bits():
    done = call(*SHORT, "--device", "fastest", "--precision", "float16", code=2)
    assert "--device fastest compares a CPU, which has no precision float16" in done.stderr
    assert not Path("runs").exists()


def test_what_a_killed_run_left_half_written_is_taken_away_and_nothing_else(tmp_path):
    others = {".lock", ".tmp", ".tmpfiles.d", ".tmp-mine1", "notes.part", ".notes.part", ".tmpFolder"}
    (tmp_path / ".tmpFolder").mkdir()
    for name in {".model.safetensors.0a1b2c3d4e5f.part", ".tmpp7f3bU"} | others - {".tmpFolder"}:
        (tmp_path / name).write_bytes(b"")
    clear_halves(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == others


def test_hidden_files_in_a_new_folder_are_the_users_own():
    halves = {".model.safetensors.0a1b2c3d4e5f.part", ".tmpABC123"}
    Path("run").mkdir()
    for name in halves:
        Path("run", name).write_bytes(b"mine")
    call(*SHORT, "--epochs", "1", "--out", "run")
    assert halves < {path.name for path in Path("run").iterdir()}
    call("train", "--resume", "run", "--quiet")  # here they are what a kill has left
    assert not halves & {path.name for path in Path("run").iterdir()}


def test_a_rate_that_came_with_one_optimizer_does_not_go_on_to_another():
    """Nobody has ever set it, though the file of a run names it."""

    def next_run(settings, optimizer):
        Path("run.toml").write_text(to_toml(settings))
        return settle({"optimizer": optimizer}, read_config(Path("run.toml")))

    first = settle({"data": "mnist", "optimizer": "adam"}, {})
    second = next_run(first, "sgd")
    assert second.recipe.lr == 0.1
    third = next_run(second, "adam")
    assert third.recipe == first.recipe
    assert "lr" not in third.changed


def test_a_worker_needs_two_samples_where_one_will_not_do():
    training = data.Dataset(np.zeros((3, 8, 8), np.uint8), np.array([0, 1, 0]))
    asked = settle({"data": "mnist", "model": "cnn"}, {})
    with pytest.raises(ValueError, match="3 samples for 2 workers: the model cnn needs two for each"):
        check_batches(replace(asked, workers=2), training)


@pytest.mark.parametrize(
    ("asked", "size", "works", "device"),
    [
        (None, 1, [True], None),
        ("cuda:1", 1, [True], "cuda:1"),
        ("cpu", 2, [True, True], "cpu"),
        ("cuda", 2, [False, False], "cuda:1"),  # whether it works is told when it is opened
        (None, 2, [True, True], "cuda:1"),
        (None, 2, [False, True], "cpu"),
        (None, 2, [False, False], None),
    ],
)
def test_each_worker_has_a_gpu_of_its_own_where_all_have_one(monkeypatch, asked, size, works, device):
    monkeypatch.delenv("XPNET_DEVICE", raising=False)
    assert device_for(asked, SimpleNamespace(size=size, machine_rank=1, gather=lambda mine: works)) == device


def test_one_gpu_for_several_workers_is_refused():
    with pytest.raises(ValueError, match=r"^--device cuda:0 is one GPU for several workers"):
        device_for("cuda:0", SimpleNamespace(size=2, machine_rank=1))
