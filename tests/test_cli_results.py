"""What runs leave behind, whatever the data, the names and the state of the machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import FILES, SHORT, call, elsewhere, weights, write_folder  # noqa: F401
from PIL import Image

import xpnet
from xpnet import data, nn
from xpnet.cli import results
from xpnet.files import locked
from xpnet.train import class_scores, confusion_matrix, plots

pytestmark = pytest.mark.usefixtures("elsewhere")


@pytest.fixture
def untrained():
    """A model that tells the ten digits apart badly."""
    return nn.Model(nn.mlp([64, 10]), (64,), xpnet.select("cpu"), [f"digit {i}" for i in range(10)])


# Figures ------------------------------------------------------------------------------------------------------


def test_a_row_of_the_confusion_matrix_is_a_true_class(untrained):
    test = data.load("digits").test
    figures, probabilities = results.measure(untrained, test)
    answers = untrained.predict(test.x.reshape(-1, 64).astype(np.float32)).argmax(axis=1)
    expected = np.zeros((10, 10), int)
    for label, answer in zip(test.y, answers, strict=True):
        expected[label, answer] += 1
    assert (expected != expected.T).any()
    assert figures["confusion"] == expected.tolist()
    for i, row in enumerate(figures["classes"]):
        assert row["class"] == f"digit {i}"
        assert row["support"] == (test.y == i).sum()
        assert row["recall"] == pytest.approx((answers[test.y == i] == i).mean())
        if (answers == i).any():
            assert row["precision"] == pytest.approx((test.y[answers == i] == i).mean())
    assert (probabilities.argmax(axis=1) == answers).all()


def test_a_model_that_gives_no_numbers_is_never_right(untrained):
    test = data.load("digits").test
    untrained.data.fill(np.nan)
    figures, _ = results.measure(untrained, test)
    assert figures["test_accuracy"] == 0
    assert np.array(figures["confusion"]).sum() == 0
    assert [row["support"] for row in figures["classes"]] == np.bincount(test.y).tolist()


def test_of_many_classes_the_worst_are_told_with_the_same_scores(untrained, monkeypatch):
    test = data.load("digits").test
    whole = results.measure(untrained, test)[0]
    monkeypatch.setattr(results, "MOST_CLASSES", 4)
    some = results.measure(untrained, test)[0]
    worst = sorted(whole["classes"], key=lambda row: (row["recall"], -row["support"]))[:4]
    assert some["classes"] == worst
    assert (some["confusion"], some["n_classes"]) == (None, 10)
    assert (some["test_accuracy"], some["test_loss"]) == (whole["test_accuracy"], whole["test_loss"])


def test_classes_of_which_there_are_no_samples_are_not_the_worst():
    labels, predicted = np.array([0, 0, 3]), np.array([0, 1, 2])
    assert results.worst_classes(predicted, labels, 5).tolist()[:2] == [3, 0]


def test_figures_in_blocks_are_those_at_once(untrained, monkeypatch):
    test = data.load("digits").test
    figures, probabilities = results.measure(untrained, test)
    monkeypatch.setattr(results, "BLOCK", 700)  # 70 samples at a time
    monkeypatch.setattr(results, "MOST_VALUES", 3590)
    in_blocks, same = results.measure(untrained, test)
    np.testing.assert_allclose(same, probabilities, atol=1e-6)
    assert in_blocks["confusion"] == figures["confusion"]
    assert in_blocks["test_loss"] == pytest.approx(figures["test_loss"])
    monkeypatch.setattr(results, "MOST_VALUES", 3589)
    assert results.measure(untrained, test)[1] is None


def test_a_model_that_tells_no_classes_apart_is_refused():
    test = data.load("digits").test
    many = nn.Model(nn.Sequential(nn.Flatten()), (2**17,), xpnet.select("cpu"))
    grid = nn.Model(nn.ReLU(), (8, 8), xpnet.select("cpu"))
    for model in (many, grid):
        with pytest.raises(ValueError, match="it does not tell classes apart"):
            results.measure(model, test)


# Data of every shape ------------------------------------------------------------------------------------------


def test_colour_images_train_and_are_shown(tmp_path):
    write_folder(tmp_path / "colour", (8, 8, 3))
    out = call(*SHORT, "--data", "colour", "--batch-size", "10", "--out", "run").stdout
    assert set(os.listdir("run")) == FILES
    assert "try it: " in out
    assert "example.png: 0 at " in call("predict", "run", "run/example.png").stdout
    call("evaluate", "run/model.safetensors", "--out", "measured")
    assert set(os.listdir("measured")) == {"metrics.json", "confusion-matrix.png", "mistakes.png"}


def test_the_example_is_the_first_test_image_as_it_is(tmp_path):
    write_folder(tmp_path / "dim", (6, 8))  # no pixel is as bright as white
    call(*SHORT, "--data", "dim", "--batch-size", "10", "--out", "run")
    first = data.load("dim").test.x[0]
    assert first.max() < 200
    np.testing.assert_array_equal(np.asarray(Image.open("run/example.png")), first)


def test_images_that_are_no_pixels_have_no_example(tmp_path):
    folder = write_folder(tmp_path / "floats", (4, 4))
    for name in ("train", "t10k"):
        path = folder / f"{name}-images-idx3-ubyte"
        data.write_idx(path, data.read_idx(path).astype(np.float32) / 255)
    out = call(*SHORT, "--data", "floats", "--batch-size", "10", "--out", "run").stdout
    note = "images of float32 are not pixels from 0 to 255: predict and serve cannot read them"
    assert note in out
    assert note in call("evaluate", "run").stdout
    assert set(os.listdir("run")) == FILES - {"example.png"}
    assert "try it" not in out


def test_samples_of_one_number_are_refused_before_there_is_a_folder(tmp_path):
    write_folder(tmp_path / "numbers", ())
    stderr = call(*SHORT, "--data", "numbers", "--batch-size", "10", code=1).stderr
    assert r"train-images-idx3-ubyte has shape (60,), samples need (N, height, width)" in stderr
    assert not os.path.exists("runs")


def test_results_of_many_classes_stay_small(tmp_path):
    write_folder(tmp_path / "many", (3, 3), n=804, classes=201)
    out = call(*SHORT, "--data", "many", "--batch-size", "50", "--out", "run").stdout
    assert "201 classes are too many to show: metrics.json gets the 200 worst" in out
    assert set(os.listdir("run")) == FILES - {"confusion-matrix.png"}
    metrics = json.loads(Path("run/metrics.json").read_text())
    assert (len(metrics["classes"]), metrics["n_classes"], metrics["confusion"]) == (200, 201, None)
    test = data.load("many").test
    answers = xpnet.load("run/model.safetensors", device="cpu").predict(test.x).argmax(axis=1)
    scores = class_scores(confusion_matrix(answers, test.y, 201))
    for row in metrics["classes"]:
        assert row["precision"] == pytest.approx(scores.precision[int(row["class"])])
        assert row["f1"] == pytest.approx(scores.f1[int(row["class"])])
    assert "201 classes are too many to show" in call("evaluate", "run/model.safetensors").stdout


@pytest.mark.parametrize("name", ["n" * 255, "漢" * 85], ids=["ASCII", "three bytes each"])
def test_data_in_a_folder_of_the_longest_name(tmp_path, name):
    try:
        write_folder(tmp_path / name, (3, 3))
    except OSError:
        pytest.skip("this file system has shorter names")
    call(*SHORT, "--data", name, "--batch-size", "10")
    (folder,) = os.listdir("runs")
    assert folder.endswith("-1")
    assert len(folder.encode()) <= 255
    assert set(os.listdir(f"runs/{folder}")) == FILES


# Images never end a run ---------------------------------------------------------------------------------------


def test_an_image_that_cannot_be_drawn_is_a_line(monkeypatch):
    def fails(*_):
        raise ZeroDivisionError("something of matplotlib's\nin several lines")

    monkeypatch.setattr(plots, "mistakes", fails)
    out = call(*SHORT, "--out", "run").stdout
    assert "no mistakes.png: something of matplotlib's\n" in out
    assert set(os.listdir("run")) == FILES - {"mistakes.png"}


WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
from xpnet.cli import main
sys.argv = ["xpnet", *sys.argv[1:]]
main()
"""


@pytest.mark.parametrize(
    ("start", "environment", "note"),
    [
        (["-c", WITHOUT_MATPLOTLIB], {}, 'matplotlib is not installed: pip install "xpnet[plots]"'),
        (["-m", "xpnet"], {"MPLBACKEND": "nonsense"}, "'nonsense' is not a valid value for backend"),
    ],
    ids=["without matplotlib", "wrong settings of matplotlib"],
)
def test_without_images_all_else_is_there(start, environment, note):
    def run(*arguments):
        command = [sys.executable, *start, *arguments]
        return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)

    done = run(*SHORT, "--out", "run")
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = [line for line in done.stdout.splitlines() if "no images were drawn" in line]
    assert note in line
    assert set(os.listdir("run")) == {name for name in FILES if not name.endswith(".png")} | {"example.png"}
    done = run("data", "digits", "--image", "grid.png")
    assert done.returncode == 1
    assert note in done.stderr


def test_the_curves_say_what_was_trained_and_how_well_it_does(monkeypatch):
    titles, real = [], plots.learning_curves
    monkeypatch.setattr(plots, "learning_curves", lambda *a: titles.append(a[2]) or real(*a))
    call(*SHORT, "--out", "run")
    metrics = json.loads(Path("run/metrics.json").read_text())
    what, result = titles[0].split("\n")
    assert what == f"digits, mlp of {metrics['parameters']:,} parameters"
    assert result == results.headline(metrics)


def test_ctrl_c_while_images_are_drawn_loses_nothing(monkeypatch, tmp_path):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(plots, "learning_curves", interrupted)
    stderr = call(*SHORT, "--out", "run", code=1).stderr
    assert "xpnet: interrupted. The work is kept. To go on: " in stderr
    assert json.loads(Path("run/metrics.json").read_text())["epochs"] == 2
    assert np.isfinite(weights(tmp_path / "run")).all()
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    call("train", "--resume", "run", "--device", "cpu", "--quiet")
    assert set(os.listdir("run")) == FILES


# One run in one folder ----------------------------------------------------------------------------------------


def test_a_second_run_in_a_folder_is_refused():
    call(*SHORT, "--out", "run")
    before = {path.name: path.read_bytes() for path in Path("run").iterdir()}
    with locked(Path("run/.lock"), pytest.fail):
        stderr = call("train", "--resume", "run", "--epochs", "3", "--quiet", code=1).stderr
    assert "another run is at work in run: wait until it ends, or name another folder with --out" in stderr
    assert {path.name: path.read_bytes() for path in Path("run").iterdir()} == before
    call("train", "--resume", "run", "--epochs", "3", "--quiet")


def test_two_runs_that_start_at_once_in_a_folder():
    Path("run").mkdir()
    with locked(Path("run/.lock"), pytest.fail):
        assert "another run is at work" in call(*SHORT, "--out", "run", code=1).stderr
    assert os.listdir("run") == [".lock"]


def test_the_folder_is_given_back_after_a_failure():
    call(*SHORT, "--optimizer", "sgd", "--lr", "1e30", "--out", "run", code=1)
    with locked(Path("run/.lock"), pytest.fail):
        pass
