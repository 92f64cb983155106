"""The command line: every command, what it leaves behind, its exit codes, and what it survives."""

from __future__ import annotations

import csv
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import numpy as np
import pytest
from command_line import FILES, POSIX, SHORT, call, elsewhere, forbid, process, weights, write_folder  # noqa: F401
from PIL import Image, ImageDraw
from typer.testing import CliRunner

import xpnet
from xpnet import data, nn
from xpnet.cli.app import app
from xpnet.cli.console import quoted
from xpnet.cli.settings import KINDS, TABLE, option, read_config, settle, to_toml
from xpnet.photo import shipped_model_path

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a run that others only read, and what it printed as JSON."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    result = CliRunner().invoke(
        app, ["train", "--epochs", "4", "--val", "0.2", "--device", "cpu", "--json", "--out", str(folder)]
    )
    assert result.exit_code == 0, result.stderr
    return folder, result


# Training ---------------------------------------------------------------------------------------------------


def test_a_run_leaves_everything_in_its_folder(finished):
    folder, _ = finished
    assert {path.name for path in folder.iterdir()} == FILES
    for path in folder.glob("*.png"):
        with Image.open(path) as image:
            image.load()
            assert image.size == (8, 8) if path.name == "example.png" else min(image.size) > 250
    with open(folder / "history.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert 0 < float(rows[-1]["validation_loss"]) < float(rows[0]["validation_loss"])


def test_augmentation_is_shown():
    out = call(*SHORT, "--augment", "--out", "run").stdout
    assert set(os.listdir("run")) == FILES | {"augmentation.png"}
    assert "look at: augmentation.png, " in out
    assert "augmentation.png" in call("train", "--help").stdout


def test_json_is_all_there_is_on_standard_output(finished):
    folder, result = finished
    printed = json.loads(result.stdout)
    assert printed == json.loads((folder / "metrics.json").read_text())
    assert printed["model"] == str(folder / "model.safetensors")
    assert (printed["device"], printed["why"], printed["epochs"], printed["stopped"]) == ("cpu", "asked for", 4, "")
    assert printed["parameters"] == 64 * 128 + 128 + 128 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10
    assert printed["train_seconds"] > 0
    assert printed["versions"]["numpy"] == np.__version__
    assert "epoch   4/4" in result.stderr


def test_the_figures_are_those_of_the_saved_model(finished):
    folder, result = finished
    test = data.load("digits").test
    answers = xpnet.load(folder / "model.safetensors", device="cpu").predict(test.x).argmax(axis=1)
    metrics = json.loads(result.stdout)
    assert metrics["test_accuracy"] == (answers == test.y).mean() > 0.5
    confusion = np.array(metrics["confusion"])
    assert confusion.sum() == len(test)
    seven = metrics["classes"][7]
    assert (seven["class"], seven["support"]) == ("7", int((test.y == 7).sum()))
    assert seven["recall"] == pytest.approx(confusion[7, 7] / confusion[7].sum())
    assert seven["precision"] == pytest.approx(confusion[7, 7] / confusion[:, 7].sum())


def test_without_json_there_is_a_summary_for_people(tmp_path):
    out = call(*SHORT, "--out", tmp_path / "run").stdout
    assert out.startswith(
        "on the CPU, on one thread unless steps are large (--threads N asks for more): asked for by XPNET"
    )
    assert re.search(r"test accuracy \d+\.\d\d% \(\d+ of 359 wrong\), 2 epochs in", out)
    command = re.search(r"try it:  .*xpnet (predict .*)", out)[1]
    assert "example.png: " in call(*command.split()).stdout


def test_runs_get_a_folder_each():
    for n in (1, 2):
        call(*SHORT)
        assert os.path.exists(f"runs/digits-{n}/model.safetensors")
    assert sorted(os.listdir("runs")) == ["digits-1", "digits-2"]


def test_the_config_of_a_run_repeats_it(tmp_path):
    changes = ["--hidden", "20", "--seed", "5", "--dropout", "0.3", "--val", "0.1", "--optimizer", "rmsprop"]
    call(*SHORT, *changes, "--activation", "tanh", "--clip", "1", "--out", "first")
    call("train", "--config", "first/config.toml", "--quiet", "--out", "second")
    np.testing.assert_array_equal(weights(tmp_path / "first"), weights(tmp_path / "second"))
    assert Path("first/config.toml").read_text() == Path("second/config.toml").read_text()
    call("train", "--config", "first/config.toml", "--seed", "6", "--quiet", "--out", "third")  # the option wins
    assert (weights(tmp_path / "first") != weights(tmp_path / "third")).any()


def test_settings_as_a_file_and_back():
    given = {
        "hidden": (5, 4),
        "lr": 0.5,
        "optimizer": "sgd",
        "nesterov": True,
        "momentum": 0.9,
        "device": "cpu",
        "threads": 2,
    }
    settings = settle(given, {"data": "mnist", "lr": 0.25})
    assert (settings.recipe.lr, settings.data) == (0.5, "mnist")
    Path("settings.toml").write_text(to_toml(settings))
    assert settle({}, read_config(Path("settings.toml"))) == settings
    assert list(tomllib.loads(Path("settings.toml").read_text())) == [
        option(n) for n in KINDS if n not in (*TABLE, "precision", "size")
    ]


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adagrad", "adam", "adamw"])
def test_every_optimizer_learns_with_its_usual_rate(optimizer):
    out = call(*SHORT, "--epochs", "4", "--optimizer", optimizer, "--json").stdout
    assert json.loads(out)["test_accuracy"] > 0.5


@pytest.mark.parametrize(
    "schedule", ["constant", "step", "exponential", "cosine", "warmup-cosine", "one-cycle", "plateau"]
)
def test_every_schedule_runs(schedule):
    call(*SHORT, "--schedule", schedule, "--hidden", "8", "--out", "run")
    with open("run/history.csv", newline="") as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file)]
    assert (rates[0] == rates[1]) == (schedule in ("constant", "plateau"))


def test_early_stopping_is_a_success():
    result = call("train", "--epochs", "90", "--patience", "1", "--val", "0.3", "--lr", "0.05", "--quiet", "--json")
    metrics = json.loads(result.stdout)
    assert metrics["stopped"] == "no better for 1 epoch"
    assert metrics["epochs"] < 90


# Data of one's own --------------------------------------------------------------------------------------------


def test_a_folder_of_images_that_are_no_squares(tmp_path, monkeypatch):
    write_folder(tmp_path / "my data", (9, 12))
    out = call(*SHORT, "--data", "my data", "--batch-size", "10").stdout
    assert os.path.exists("runs/my data-1/mistakes.png")
    assert quoted(Path("runs/my data-1/model.safetensors")) in out
    assert "xpnet predict" in out
    call("evaluate", "runs/my data-1/model.safetensors")
    text = call("predict", "runs/my data-1/model.safetensors", "runs/my data-1/example.png").stdout
    assert re.search(r"example\.png: 0 at (9\d\.\d|> 99\.9)%", text)
    refused = call("predict", "runs/my data-1/model.safetensors", "x.png", "--explain", "y.png", code=2)
    assert "this model reads something else" in refused.stderr
    monkeypatch.chdir(tmp_path / "runs")  # where "my data" means nothing
    call("train", "--resume", "my data-1", "--epochs", "3", "--quiet")


def test_samples_that_are_no_images(tmp_path):
    folder = write_folder(tmp_path / "vectors", (7,))
    out = call(*SHORT, "--data", folder, "--batch-size", "10", "--out", "run").stdout
    assert "samples of shape (7,) are not images: none are drawn, predict and serve cannot read them" in out
    assert set(os.listdir("run")) == FILES - {"mistakes.png", "samples.png", "example.png"}
    assert "are not images" in call("predict", "run/model.safetensors", "x.png", code=2).stderr
    assert "are not images" in call("data", folder, "--image", "x.png", code=1).stderr


# Other commands -----------------------------------------------------------------------------------------------


def test_evaluate_leaves_the_figures_of_a_run(finished):
    folder, _ = finished
    before = (folder / "metrics.json").read_bytes()
    refused = call("evaluate", folder, "--out", folder, code=2).stderr
    assert f"{folder} is the folder of a run, whose own metrics.json would be lost: name another, such as" in refused
    assert (folder / "metrics.json").read_bytes() == before
    call("evaluate", folder, "--out", folder / "evaluated")


def test_evaluate_says_what_training_said(finished, tmp_path):
    folder, result = finished
    trained = json.loads(result.stdout)
    model = folder / "model.safetensors"
    measured = json.loads(call("evaluate", model, "--json", "--out", tmp_path / "measured").stdout)
    assert {k: measured[k] for k in ("test_accuracy", "classes", "confusion")} == {
        k: trained[k] for k in ("test_accuracy", "classes", "confusion")
    }
    assert set(os.listdir("measured")) == {"metrics.json", "confusion-matrix.png", "mistakes.png"}
    text = call("evaluate", model, "--data", "digits").stdout
    assert f"test accuracy {trained['test_accuracy']:.2%}" in text
    assert "which data?" in call("evaluate", _alone(model, tmp_path), code=2).stderr


def test_a_folder_called_as_a_data_set_is_another(finished, tmp_path):
    write_folder(tmp_path / "digits", (8, 8), classes=10)
    folder, _ = finished
    assert "digits test: 359 samples" in call("evaluate", folder, "--data", "digits").stdout
    text = call("evaluate", folder, "--data", "./digits").stdout
    assert "digits test: 30 samples" in text
    assert "data have changed" not in text
    call(*SHORT, "--data", "./digits", "--batch-size", "10", "--out", "run")
    assert "data have changed" not in call("evaluate", "run", "--data", "digits").stdout
    assert "digits test: 30 samples" in call("evaluate", "run").stdout


def _alone(model, folder):
    """A copy that has no config.toml beside it."""
    (folder / "alone.safetensors").write_bytes(model.read_bytes())
    return folder / "alone.safetensors"


def test_predict_reads_an_image_as_the_model_saw_it(finished):
    folder, _ = finished
    printed = json.loads(call("predict", folder / "model.safetensors", folder / "example.png", "--json").stdout)
    sample = data.load("digits").test.x[:1]
    expected = xpnet.load(folder / "model.safetensors", device="cpu").probabilities(sample)[0]
    (prediction,) = printed["predictions"]
    (digit,) = prediction["digits"]
    np.testing.assert_allclose(list(digit["probabilities"].values()), expected, atol=1e-2)
    assert prediction["text"] == digit["label"] == str(expected.argmax())
    text = call("predict", folder / "model.safetensors", folder / "example.png").stdout
    assert f"example.png: {digit['label']} at {digit['probability']:.1%}  (then " in text


def draw_page(name, *strokes, size=(240, 240)):
    """Black on white; without a stroke a blank page, with a little dust."""
    page = Image.new("L", size, 245)
    page.putpixel((5, 5), 200)
    for stroke in strokes:
        ImageDraw.Draw(page).line(stroke, 20, 14, joint="curve")
    page.save(name)


SEVEN, ONE = [(60, 55), (150, 55), (100, 200)], [(250, 50), (250, 200)]


def test_predict_reads_photos_with_the_model_that_comes_with_it():
    draw_page("seven.png", SEVEN)
    draw_page("both.png", SEVEN, ONE, size=(360, 240))
    draw_page("blank.png")
    lines = call("predict", "seven.png", "both.png", "blank.png").stdout.splitlines()
    assert lines[0].startswith("seven.png: 7 at ")
    assert lines[1].startswith("both.png: 71  (7 at ")
    assert lines[2].startswith("blank.png: no digit found: ")
    assert call("predict", shipped_model_path(), "seven.png").stdout.splitlines() == lines[:1]


def test_predict_speaks_json():
    draw_page("both.png", SEVEN, ONE, size=(360, 240))
    draw_page("blank.png")
    printed = json.loads(call("predict", "both.png", "blank.png", "--json").stdout)
    assert printed["model"] == str(shipped_model_path())
    both, blank = printed["predictions"]
    assert (both["text"], both["reason"]) == ("71", "")
    assert [digit["label"] for digit in both["digits"]] == ["7", "1"]
    for digit in both["digits"]:
        assert digit["probability"] == max(digit["probabilities"].values())
        assert sum(digit["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert 0 <= digit["box"][0] < digit["box"][2] <= 1
    assert (blank["text"], blank["digits"]) == ("", [])
    assert blank["reason"]


def test_predict_draws_how_it_has_read():
    draw_page("seven.png", SEVEN)
    call("predict", "seven.png", "--explain", "strip.png")
    call("predict", "seven.png", "missing.png", "seven.png", "--explain", "strip.png", code=1)
    assert {path.name for path in Path().glob("strip*")} == {"strip.png", "strip-1.png", "strip-3.png"}
    for path in Path().glob("strip*"):
        with Image.open(path) as strip:
            assert strip.width > 1000
    before = Path("seven.png").read_bytes()
    assert "write over" in call("predict", "seven.png", "--explain", "seven.png", code=2).stderr
    assert Path("seven.png").read_bytes() == before
    assert "no such folder" in call("predict", "seven.png", "--explain", "none/strip.png", code=1).stderr


@pytest.mark.parametrize(("name", "kind"), [("strip.PNG", "PNG"), ("strip.jpg", "JPEG"), ("strip.webp", "WEBP")])
def test_the_strip_is_what_its_name_says(name, kind):
    draw_page("seven.png", SEVEN)
    call("predict", "seven.png", "--explain", name)
    with Image.open(name) as strip:
        assert strip.format == kind


@pytest.mark.parametrize("name", ["strip", "strip.txt", "strip.gif"])
def test_a_strip_of_no_known_kind_is_refused(name):
    draw_page("seven.png", SEVEN)
    assert "--explain writes an image" in call("predict", "seven.png", "--explain", name, code=2).stderr
    assert not Path(name).exists()


def test_predict_reads_a_small_image_in_either_polarity():
    small = Image.new("L", (28, 28))
    ImageDraw.Draw(small).line([(8, 6), (19, 6), (12, 23)], 255, 2, joint="curve")
    small.save("dark.png")
    Image.eval(small, lambda value: 255 - value).save("light.png")
    dark, light = call("predict", "dark.png", "light.png").stdout.splitlines()
    assert dark.startswith("dark.png: 7 at ")
    assert light.removeprefix("light.png") == dark.removeprefix("dark.png")


def test_predict_without_an_image():
    assert "which images should it read?" in call("predict", shipped_model_path(), code=2).stderr


def test_predict_answers_with_no_other_model_than_the_one_that_is_meant(finished, tmp_path):
    folder, _ = finished
    draw_page("photo.png", [(90, 20), (60, 90)])
    for name in ("config.toml", "checkpoint.safetensors"):
        (tmp_path / name[:6]).mkdir()
        (tmp_path / name[:6] / name).write_bytes((folder / name).read_bytes())
    Path("m.bin").write_bytes((folder / "model.safetensors").read_bytes())
    for arguments, code, message in (
        (["config", "photo.png"], 1, "there is no model.safetensors in config: the run has not finished"),
        (["checkp", "photo.png"], 1, "there is no model.safetensors in checkp: the run has not finished"),
        (["config"], 1, "there is no model.safetensors in config: the run has not finished"),
        (["runs/none", "photo.png"], 1, "no model at runs/none: no such file"),
        (
            ["m.bin", "photo.png"],
            1,
            "m.bin is not an image, and not a model either, whose name must end in .safetensors",
        ),
        (["photo.png", "any.safetensors"], 2, "any.safetensors is a model: it goes first, before the images"),
        ([folder, "any.safetensors"], 2, "any.safetensors is a model: it goes first, before the images"),
        (["photo.png", folder], 2, "is the folder of a run, whose model goes first"),
    ):
        result = call("predict", *arguments, code=code)
        assert result.stdout == ""
        assert message in " ".join(result.stderr.split())
    Path("photo.png").rename("photo")
    (tmp_path / "photos").mkdir()
    draw_page("photos/a.png", [(90, 20), (60, 90)])
    read = call("predict", "photo", "photos").stdout.splitlines()
    assert [line.partition(": ")[0] for line in read] == ["photo", str(Path("photos/a.png"))]
    read = call("predict", "missing.png", "photo", code=1)
    assert read.stdout.startswith("photo: ")
    assert "missing.png: No such file" in read.stderr


def test_predict_takes_a_row_of_values_for_a_square():
    nn.Model(nn.mlp([784, 3]), (784,), xpnet.select("cpu"), classes=("a", "b", "c")).save("row.safetensors")
    Image.effect_noise((28, 28), 60).save("noise.png")
    Image.effect_noise((28, 28), 60).convert("RGBA").save("colour.png")
    Image.effect_noise((30, 28), 60).save("size.png")
    files = ["noise.png", "colour.png", "size.png"]
    result = call("predict", "row.safetensors", *files)
    assert [line.split(":")[0] for line in result.stdout.splitlines()] == files


def bad_images():
    Image.effect_noise((8, 8), 60).save("whole.png")
    whole = Path("whole.png").read_bytes()
    Path("cut.png").write_bytes(whole[: len(whole) // 2])
    Path("text.png").write_text("no image at all")
    Image.new("1", (8000, 7000)).save("bomb.png")
    Image.new("L", (1, 1)).save("pixel.png")
    Image.new("RGB", (90, 90), (10, 200, 30)).save("colour.png")
    Path("folder").mkdir()
    return {
        "missing.png": "No such file",
        "cut.png": "damaged or cut off",
        "text.png": "not an image file",
        "bomb.png": "too large",
        "pixel.png": "too small",
        "colour.png": "all one colour",
        "folder": "a folder without images",
    }


def test_bad_images_are_named_and_the_others_done(finished):
    folder, _ = finished
    bad = bad_images()
    result = call("predict", folder / "model.safetensors", *bad, folder / "example.png", "--json", code=1)
    assert [row["image"] for row in json.loads(result.stdout)["predictions"]] == [str(folder / "example.png")]
    *lines, last = result.stderr.splitlines()
    for line, (name, reason) in zip(lines, bad.items(), strict=True):
        assert name in line
        assert reason in line
    assert last == "xpnet: 7 of 8 images could not be read"


def test_an_image_that_may_not_be_read_is_named_and_the_others_done(monkeypatch, tmp_path):
    (tmp_path / "locked").mkdir()
    for name in ("seven.png", "noperm.png", "locked/1.png"):
        draw_page(name, [(60, 30), (170, 30), (100, 210)])
    forbid(monkeypatch, "noperm.png", "locked")
    result = call("predict", "noperm.png", "locked", "seven.png", code=1)
    assert result.stdout.startswith("seven.png: 7 at ")
    assert result.stderr.splitlines() == [
        "xpnet: noperm.png: Permission denied",
        "xpnet: locked: Permission denied",
        "xpnet: 2 of 3 images could not be read",
    ]


@pytest.mark.parametrize("way", ["", "model.safetensors"])
def test_a_model_that_may_not_be_read_is_said_to_be_so(finished, monkeypatch, way):
    folder, _ = finished
    forbid(monkeypatch, folder / "model.safetensors")
    for command in (["evaluate"], ["predict", "x.png"], ["parity"], ["bench"]):
        said = call(command[0], folder / way, *command[1:], code=1).stderr
        assert said == f"xpnet: {folder / 'model.safetensors'}: Permission denied\n", command


def test_data_lists_and_describes(tmp_path):
    listed = call("data").stdout
    assert "digits" in listed
    assert f"not here yet; `xpnet data mnist` downloads it (12 MB) into {tmp_path / 'cache' / 'mnist'}" in listed
    described = call("data", "digits", "--image", "grid.png").stdout
    assert "digits train: 1438 samples of 8 x 8 uint8, 10 classes" in described
    assert "values 0 to 255" in described
    with Image.open("grid.png") as image:
        assert image.width > 200


def test_what_is_said_of_no_data_or_of_another_model_is_refused(finished):
    folder, _ = finished
    assert "the size of which data? Name a data set too" in call("data", "--size", "3", code=2).stderr
    assert "an image of which data? Name a data set too" in call("data", "--image", "a.png", code=2).stderr
    said = " ".join(call("bench", folder, "--model", "cnn", code=2).stderr.split())
    assert f"Invalid value for --model: {folder}/model.safetensors is a network already: name one of the two" in said


def test_doctor_speaks_json():
    printed = json.loads(call("doctor", "--json").stdout)
    assert printed["choice"]["device"] == "cpu"
    assert "Verdict" in call("doctor").stdout


@pytest.mark.parametrize("command", [[], ["train"], ["evaluate"], ["predict"], ["data"], ["doctor"]])
def test_every_command_explains_itself(command):
    text = call(*command, "--help").stdout
    assert "Usage: " in text
    assert "--help" in text
    assert "..." not in text.partition("Commands:")[2]  # none of its lines is cut


def test_the_help_names_what_an_option_takes():
    shown = {line.split("  ")[1] for line in call("train", "--help").stdout.splitlines() if line.startswith("  --")}
    assert shown >= {"--target COLUMN", "--ignore COLUMN,..", "--categories COLUMN,..", "--size N or WxH", "--out DIR"}


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from xpnet.cli.app import app; "
        "print([m for m in ('matplotlib', 'PIL', 'cupy', 'safetensors') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_the_module_runs_as_a_program():
    done = process("--version")
    assert done.communicate(timeout=60)[0] == f"xpnet {xpnet.__version__}\n"
    assert done.returncode == 0


# Wrong usage, and runs that fail ------------------------------------------------------------------------------

WRONG = [
    (["--data", "nowhere"], "unknown data set 'nowhere'"),
    (["--device", "gpu"], "unknown device 'gpu': choose auto, cpu"),
    (["--dtype", "float16"], "unknown dtype 'float16'"),
    (["--optimizer", "adamx"], "unknown optimizer 'adamx': choose one of sgd"),
    (["--schedule", "x"], "unknown schedule 'x'"),
    (["--activation", "x"], "unknown activation 'x'"),
    (["--hidden", "12,x"], "'12,x' is not a list of sizes"),
    (["--hidden", "0"], "at least one unit"),
    (["--epochs", "0"], "epochs must be a whole number >= 1"),
    (["--epochs", "two"], "valid integer"),
    (["--lr", "0"], "lr must be a finite number above 0"),
    (["--lr", "nan"], "lr must be a finite number above 0"),
    (["--batch-size", "5000"], "batch_size=5000 is more than the 1438 samples"),
    (["--batch-size", "0"], "batch_size must be a whole number >= 1"),
    (["--dropout", "1"], "dropout must be a finite number >= 0 and below 1"),
    (["--val", "1"], "val must be a finite number >= 0 and below 1"),
    (["--clip", "-1"], "clip (0 for none) must be a finite number >= 0, not -1.0"),
    (["--weight-decay", "inf"], "weight_decay (0 for none) must be a finite number"),
    (["--patience", "-1"], "patience (0 for none) must be a finite number"),
    (["--momentum", "0.5"], "settings of the optimizer sgd, not of adamw"),
    (["--optimizer", "sgd", "--nesterov"], "nesterov needs a momentum"),
    (["--seed", "-1"], "seed must be a whole number"),
    (["--bogus"], "No such option: --bogus"),
    (["--config", "wrong.toml"], "unknown setting 'epoch': choose one of data, recipe, seed"),
    (["--config", "typed.toml"], "batch-size must be a whole number, not 'many'"),
    (["--config", "broken.toml"], "broken.toml is not a TOML file"),
    (["--out", "full"], "full is not empty"),
]


@pytest.mark.parametrize(("options", "message"), WRONG, ids=[" ".join(options) for options, _ in WRONG])
def test_wrong_usage_is_2_and_leaves_nothing_behind(options, message, tmp_path):
    (tmp_path / "wrong.toml").write_text("epoch = 3\n")
    (tmp_path / "typed.toml").write_text('batch-size = "many"\n')
    (tmp_path / "broken.toml").write_text("epochs = = 3\n")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    result = call("train", *options, code=2)
    assert message in result.stderr
    assert not os.path.exists("runs")
    assert os.listdir("full") == ["thesis.txt"]


def test_a_wrong_command_is_2():
    assert "Did you mean 'train'?" in call("trian", code=2).stderr


FAILING = [
    (["train", "--config", "missing.toml"], "missing.toml: No such file"),
    (["train", "--data", "empty"], "empty has no train-images"),
    (["train", "--data", "damaged"], "train-images"),
    (["train", "--data", "mislabelled"], "need equal lengths"),
    (["train", "--out", "file/run"], "file"),
    (["train", "--resume", "empty"], "there is no run in empty"),
    (["evaluate", "missing.safetensors"], "no model at missing.safetensors"),
    (["evaluate", "file"], "file is not a complete safetensors file"),
    (["predict", "file.safetensors", "x.png"], "file.safetensors is not a complete safetensors file"),
    (["predict", "file"], "file: not an image file"),
    (["data", "empty"], "empty has no train-images"),
]


@pytest.mark.parametrize(("arguments", "message"), FAILING, ids=[" ".join(arguments) for arguments, _ in FAILING])
def test_what_depends_on_files_fails_with_1(arguments, message, tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("file", "file.safetensors"):
        (tmp_path / name).write_text("not a folder, and no model either")
    damaged = write_folder(tmp_path / "damaged", (4, 4))
    images = damaged / "train-images-idx3-ubyte"
    images.write_bytes(images.read_bytes()[:-3])
    mislabelled = write_folder(tmp_path / "mislabelled", (4, 4))
    data.write_idx(mislabelled / "train-labels-idx1-ubyte", np.zeros(7, np.uint8))
    result = call(*arguments, code=1)
    assert message in result.stderr
    assert result.stderr.startswith("xpnet: ") or "\nxpnet: " in result.stderr


def test_a_device_that_does_not_work_fails_with_1(monkeypatch):
    from xpnet import probe

    diagnosis = probe.Diagnosis("no-driver", "no NVIDIA driver answers", "install the driver")
    monkeypatch.setattr(probe, "cuda", lambda ordinal=0: diagnosis)
    assert "no NVIDIA driver answers" in call("train", "--device", "cuda", code=1).stderr


def test_a_loss_that_is_not_finite_fails_and_keeps_the_model_under_another_name():
    result = call(*SHORT, "--optimizer", "sgd", "--lr", "1e30", "--out", "run", "--json", code=1)
    assert result.stdout == ""
    assert re.search(r"step \d+: a NaN or an infinity in the .*\. The model", result.stderr)
    kept = "That model, which may give NaN, is saved in run/diverged.safetensors; there is no run/model.safetensors."
    assert kept in result.stderr.replace("\\", "/")
    assert set(os.listdir("run")) == {"checkpoint.safetensors", "config.toml", "diverged.safetensors", ".lock"}
    assert np.isfinite(xpnet.load("run/diverged.safetensors", device="cpu").data).all()
    for arguments in (["evaluate", "run"], ["predict", "run", "x.png"]):
        refused = call(*arguments, code=1).stderr
        assert "there is no model.safetensors in run: the run has not finished" in refused


def test_what_diverges_after_it_was_resumed_leaves_the_model_and_its_figures():
    """A weight decay of a million times the weights, in each of few steps."""
    call(
        *SHORT, "--epochs", "1", "--optimizer", "sgd", "--lr", "1", "--weight-decay", "1e6", "--batch-size", "1438",
        "--out", "run",
    )  # fmt: skip
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    stderr = call("train", "--resume", "run", "--epochs", "9", "--quiet", code=1).stderr
    assert "run/diverged.safetensors; run/model.safetensors is still the earlier model." in stderr.replace("\\", "/")
    after = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    assert after.keys() == before.keys() | {"diverged.safetensors"}
    assert {name for name in before if after[name] != before[name]} <= {"config.toml", "checkpoint.safetensors"}
    assert ", loss nan: " in call("evaluate", "run/diverged.safetensors").stdout  # without a warning of NumPy's
    assert "example.png: 0 at nan%" in call("predict", "run/diverged.safetensors", "run/example.png").stdout


def test_labels_of_other_data_than_the_model_knows(finished, tmp_path):
    folder, _ = finished
    write_folder(tmp_path / "many", (8, 8), n=60, classes=20)
    message = "has the label 19, but the model has 10 outputs"
    assert message in call("evaluate", folder / "model.safetensors", "--data", "many", code=2).stderr


# Going on -----------------------------------------------------------------------------------------------------


def test_more_epochs_later_are_the_run_that_had_them_from_the_start(tmp_path):
    call(*SHORT, "--epochs", "4", "--out", "whole")
    call(*SHORT, "--epochs", "2", "--out", "parts")
    call("train", "--resume", "parts", "--epochs", "4", "--quiet")
    np.testing.assert_array_equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))
    assert Path("whole/config.toml").read_text() == Path("parts/config.toml").read_text()
    for options, message in ((["--epochs", "3"], "--epochs can only be raised"), (["--lr", "1"], "leave out --lr")):
        assert message in call("train", "--resume", "parts", *options, code=2).stderr


def test_a_disk_that_fills_up_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    call(*SHORT, "--epochs", "3", "--out", "whole")
    call(*SHORT, "--epochs", "1", "--out", "parts")
    files = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir() if path.name != "config.toml"}

    def full(handle, calls=[]):  # noqa: B006 (counts)
        calls.append(handle)
        if len(calls) > 2:  # config.toml and its folder are still written
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        result = call("train", "--resume", "parts", "--epochs", "3", "--quiet", code=1)
    assert "cannot write the results: No space left on device" in result.stderr
    assert re.search(r"To go on: .*xpnet train --resume parts", result.stderr)
    left = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir() if path.name != "config.toml"}
    assert left == files
    call("train", "--resume", "parts", "--quiet")
    np.testing.assert_array_equal(weights(tmp_path / "whole"), weights(tmp_path / "parts"))


@POSIX
def test_a_file_that_may_not_grow_is_told_in_a_line(tmp_path):
    """The system's own error, out of the library that writes the tensors."""
    import resource

    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
    call(*SHORT, "--epochs", "1", "--out", "run")
    before = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
    child = process("train", "--resume", "run", "--epochs", "3", "--quiet", preexec_fn=limit)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert "Traceback" not in err
    assert "xpnet: cannot write the results: " in err
    assert (tmp_path / "run" / "checkpoint.safetensors").read_bytes() == before


@POSIX
def test_ctrl_c_keeps_the_work(tmp_path):
    child = process("train", "--epochs", "100000", "--out", "run", "--json")
    for line in child.stderr:
        if line.startswith("epoch   3/"):
            child.send_signal(signal.SIGINT)
            break
    out, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert re.search(r"xpnet: interrupted in epoch \d+ of 100000\. .*xpnet train --resume run", err)
    assert "Traceback" not in err
    assert json.loads(out)["stopped"] == "interrupted"
    assert set(os.listdir("run")) == FILES
    assert np.isfinite(weights(tmp_path / "run")).all()


@POSIX
def test_a_run_killed_at_any_moment_and_resumed_ends_with_the_same_weights(tmp_path):
    """SIGKILL, three times, at moments drawn from a seed; then it is let finish."""
    moments = random.Random(0)
    start = ["train", "--epochs", "60", "--hidden", "48,24", "--batch-size", "16", "--val", "0.2", "--quiet"]
    call(*start, "--out", "whole")
    for _ in range(3):
        begun = os.path.exists("killed/config.toml")
        child = process(*(["train", "--resume", "killed", "--quiet"] if begun else [*start, "--out", "killed"]))
        time.sleep(moments.uniform(0.5, 1.6))
        child.send_signal(signal.SIGKILL)
        child.communicate()
    begun = os.path.exists("killed/config.toml")
    call(*(["train", "--resume", "killed", "--quiet"] if begun else [*start, "--out", "killed"]))
    np.testing.assert_array_equal(weights(tmp_path / "whole"), weights(tmp_path / "killed"))
    assert set(os.listdir("killed")) == FILES


def test_a_folder_of_images_with_settings_of_somebody_else_is_no_run(tmp_path):
    (tmp_path / "pages").mkdir()
    draw_page("pages/page.png", [(90, 20), (60, 90)])
    Path("pages/config.toml").write_text("title = 'a blog'")
    assert call("predict", "pages").stdout.startswith("pages/page.png: ")
    draw_page("page.png", [(90, 20), (60, 90)])
    assert call("predict", "page.png", "pages").stdout.count("page.png: ") == 2


def test_the_pictures_of_a_run_are_not_read_by_another_model(finished):
    folder, _ = finished
    assert "is the folder of a run, whose model goes first" in call("predict", folder, folder, code=2).stderr


def test_bench_says_of_a_run_without_a_model_what_others_say(finished, tmp_path):
    folder, _ = finished
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut/config.toml").write_bytes((folder / "config.toml").read_bytes())
    assert "there is no model.safetensors in cut: the run has not finished" in call("bench", "cut", code=1).stderr
