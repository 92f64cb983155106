"""The images of a run: what they say, and that they can be drawn for any run and any data."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

import xpnet
from xpnet.data import Augment, Dataset
from xpnet.data.images import is_images
from xpnet.train import plots


def history(epochs, validation=True):
    rows = [
        {"epoch": i + 1, "train_loss": 2 / (i + 1), "train_accuracy": 1 - 1 / (i + 2), "lr": 0.1, "seconds": 1.0}
        for i in range(epochs)
    ]
    return [row | {"validation_loss": 1.0, "validation_accuracy": 0.5} for row in rows] if validation else rows


def images(n=30, shape=(6, 9), classes=("zero", "$1_2$", "{two}")):
    rng = np.random.default_rng(0)
    return Dataset(rng.integers(0, 17, (n, *shape), dtype=np.uint8), np.arange(n) % len(classes), classes, "noise")


def texts(figure):
    found = [text.get_text() for axes in figure.axes for text in axes.texts]
    return found + [axes.get_title() for axes in figure.axes] + [text.get_text() for text in figure.texts]


def test_learning_curves_of_any_metrics():
    rows = [{"epoch": i, "train_loss": -i, "train_r2": 0.1 * i, "train_mae": 1.0, "validation_r2": 0.0} for i in (1, 2)]
    panels = plots.learning_curves(rows).axes
    assert [axes.get_title() for axes in panels] == ["Loss", "r2", "Mae"]
    assert panels[0].get_ylim()[0] < -2  # a loss below 0 is not cut off
    assert [line.get_label() for line in panels[1].lines] == ["training, while learning", "validation"]
    assert [axes.get_title() for axes in plots.learning_curves([{"epoch": 1, "train_loss": 1.0}]).axes] == ["Loss"]


@pytest.mark.parametrize("epochs", [0, 1, 2, 31, 300])
@pytest.mark.parametrize("validation", [True, False])
def test_learning_curves_of_any_length(epochs, validation, tmp_path):
    figure = plots.learning_curves(history(epochs, validation), best_epoch=epochs)
    loss, *others = figure.axes
    rate = others.pop() if epochs else None
    assert len(others) == bool(epochs)  # without any epoch nobody knows which metrics there are
    curves = [line for line in loss.lines if len(line.get_xdata()) == epochs and line.get_linestyle() == "-"]
    assert len(curves) == (0 if epochs == 0 else 1 + validation)
    if epochs:
        np.testing.assert_array_equal(curves[0].get_xdata(), np.arange(1, epochs + 1))
        np.testing.assert_allclose(curves[0].get_ydata(), 2 / np.arange(1, epochs + 1))
        assert f"best: epoch {epochs}" in [text.get_text() for text in loss.get_legend().get_texts()]
        assert all(float(tick).is_integer() for tick in loss.get_xticks())
        np.testing.assert_allclose(rate.lines[0].get_ydata(), 0.1)
        assert rate.get_ylim()[0] == 0
    assert loss.get_xlabel() == "epoch"
    assert [axes.get_ylabel() for axes in others] == ["right answers, stretched towards 100%"] * len(others)
    plots.save(figure, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert image.size == ((1300, 702) if epochs else (650, 546))


def of_accuracies(*accuracies):
    rows = [{"epoch": i, "train_loss": 1.0, "train_accuracy": a} for i, a in enumerate(accuracies, start=1)]
    return plots.learning_curves(rows, title="data, model: 12% wrong, $x_1$")


def test_accuracies_near_100_percent_are_told_apart():
    """On the screen, from 90% to 99% it is as far as from 99% to 99.9%; and everything is within the axis."""
    figure = of_accuracies(0.3, 0.9, 0.99, 0.999)
    axes = figure.axes[1]
    heights = axes.transAxes.inverted().transform(axes.transData.transform([[1, a] for a in (0.3, 0.9, 0.99, 0.999)]))
    bottom, *steps = np.diff(heights[:, 1], prepend=0)
    assert 0 < bottom < 0.1
    assert 0.9 < heights[-1, 1] < 1
    assert steps[1] == pytest.approx(steps[2], rel=0.2)
    assert steps[1] > 0.25
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert {"90%", "99%", "99.9%"} <= {*labels}
    assert figure.get_suptitle() == "data, model: 12% wrong, $x_1$"


@pytest.mark.parametrize("accuracies", [(1.0,), (0.0, 0.0), (0.972, 1.0, 1.0), (0.31, 0.33), (0.9804, 0.9811)])
def test_accuracies_of_any_range_are_drawn_within_their_axis(accuracies, tmp_path):
    figure = of_accuracies(*accuracies)
    axes = figure.axes[1]
    low, high = axes.get_ylim()
    assert low < min(accuracies) <= max(accuracies) < high
    plots.save(figure, tmp_path / "curves.png")
    texts = [label.get_text() for label in axes.get_yticklabels()]
    assert len(texts) >= 2
    assert all(text.endswith("%") for text in texts)


def test_the_rate_is_drawn_as_it_was():
    rows = [row | {"lr": 0.1 / row["epoch"]} for row in history(5)]
    rate = plots.learning_curves(rows).axes[-1]
    np.testing.assert_allclose(rate.lines[0].get_ydata(), [0.1, 0.05, 0.1 / 3, 0.025, 0.02])
    assert rate.get_ylabel() == "rate"


def test_the_counts_of_a_confusion_matrix_can_be_read():
    """A contrast of 4.5 on every shade, as WCAG 2.2 asks for text (success criterion 1.4.3)."""
    confusion = np.arange(1, 401).reshape(20, 20)
    confusion[np.arange(20), np.arange(20)] *= np.arange(1, 200, 10)
    axes = plots.confusion_matrix(confusion, list("abcdefghijklmnopqrst")).axes[0]
    shades = axes.images[0].get_array()
    assert len(axes.texts) == 400
    for text in axes.texts:
        column, row = text.get_position()
        lights = sorted(luminance(colour) for colour in (shades[int(row), int(column)], to_rgb(text.get_color())))
        assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5


@pytest.mark.parametrize("colour", ["#800000", "#ff0000", "#009000", "#00ff00", "#0000ff", "#808080"])
def test_black_or_white_can_be_read_on_any_colour(colour):
    text = plots._readable_on(np.array(to_rgb(colour)))
    lights = sorted(luminance(to_rgb(either)) for either in (colour, text))
    assert (lights[1] + 0.05) / (lights[0] + 0.05) >= 4.5


def luminance(colour):
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("n", [2, 10, 26, 120])
def test_confusion_matrix_of_any_size(n, tmp_path):
    confusion = np.diag(np.full(n, 9))
    confusion[0, 1] = 3
    figure = plots.confusion_matrix(confusion, [f"a long name of class {i}" for i in range(n)])
    (axes,) = figure.axes
    assert f"{9 * n} of {9 * n + 3} right".replace("1080 of 1083", "1,080 of 1,083") in figure.get_suptitle()
    written = {(round(t.get_position()[1]), round(t.get_position()[0])): t.get_text() for t in axes.texts}
    assert len(written) == (n + 1 if n <= 30 else 0)
    assert written.get((0, 1), "3") == "3"
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("taken for", "true class")
    plots.save(figure, tmp_path / "confusion.png")
    with Image.open(tmp_path / "confusion.png") as image:
        assert max(image.size) < 2000


def test_mistakes_and_right_answers_are_told_apart_by_colour():
    figure = plots.confusion_matrix(np.array([[9, 1], [4, 6]]), ["a", "b"])
    shades = figure.axes[0].images[0].get_array()
    assert shades[0, 0, 2] > shades[0, 0, 0]  # blue
    assert shades[1, 0, 0] > shades[1, 0, 2]  # orange
    assert shades[1, 0].sum() < shades[0, 1].sum()  # the more mistakes, the darker


def test_a_class_without_samples_and_no_mistakes_at_all(tmp_path):
    figure = plots.confusion_matrix(np.diag([3, 0, 2]), ["a", "b", "c"])
    plots.save(figure, tmp_path / "confusion.png")
    assert "5 of 5 right: 100.00%" in figure.get_suptitle()


def test_the_surest_mistakes_come_first():
    data = images(6)
    probabilities = np.eye(3)[data.y] * 0.9 + 0.1 / 3
    probabilities[2] = [0.6, 0.2, 0.2]  # of class 2
    probabilities[4] = [0.9, 0.05, 0.05]  # of class 1
    found = texts(plots.mistakes(data, probabilities))
    assert found[:4] == ["$1_2$", "zero, 90%", "{two}", "zero, 60%"]
    assert "2 of 6 wrong" in found[-1]
    found = texts(plots.mistakes(data, probabilities, limit=1))
    assert found[:2] == ["$1_2$", "zero, 90%"]
    assert "2 of 6 wrong; the 1 worst" in found[-1]


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (8, 8, 1), (8, 8, 3), (40, 10)])
def test_sheets_of_images_of_any_shape(shape, tmp_path):
    data = images(70, shape)
    for name, figure in {
        "samples": plots.samples(data),
        "all wrong": plots.mistakes(data, np.eye(3)[(data.y + 1) % 3]),
        "none wrong": plots.mistakes(data, np.eye(3)[data.y]),
    }.items():
        plots.save(figure, tmp_path / f"{name}.png")
        drawn = figure.axes[0].images
        assert len(drawn) == {"samples": 60, "all wrong": 40, "none wrong": 0}[name]
        for image in drawn:
            left, right, bottom, top = image.get_extent()
            assert (right - left) / (bottom - top) == pytest.approx(shape[1] / shape[0])
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.width == round(130 * 11.3)


def test_samples_show_the_whole_data_set_with_its_labels():
    data = images(120)
    figure = plots.samples(data)
    assert texts(figure)[:3] == ["zero", "{two}", "$1_2$"]  # every second one of 0, 1, 2, 0, 1, 2
    assert "60 of 120 samples: noise" in texts(figure)[-1]
    shown = figure.axes[0].images[1].get_array()
    np.testing.assert_allclose(shown[:, :, 0], data.x[2] / 16)


def drawn(figure):
    """The images of a sheet, in the order that they were drawn in, from 0 to 1."""
    return np.array([np.asarray(image.get_array())[:, :, 0] for image in figure.axes[0].images])


def test_augmentations_show_each_setting_alone_and_all_together(tmp_path):
    data = images(40)
    data = Dataset(np.where(data.x == data.x.max(), 255, data.x).astype(np.uint8), data.y, data.classes, "no$ise$")
    augment = Augment(rotate=30, thickness=0.5)
    figure = plots.augmentations(data, augment)
    plots.save(figure, tmp_path / "augmentation.png")
    (title,) = figure.texts  # of two lines, above the images
    assert title.get_window_extent().y0 > figure.axes[0].get_window_extent().y1
    assert [text.get_text() for text in figure.axes[0].texts] == [
        "as they are", "rotate 30", "thickness 0.5", "all together",
    ]  # fmt: skip
    originals, turned, thick, both = drawn(figure).reshape(4, 10, 6, 9)
    for original in originals:
        assert any(np.allclose(original, x / 255) for x in data.x)
    assert len({tuple(map(tuple, row[0])) for row in (originals, turned, thick, both)}) == 4
    one = Augment(rotate=30)(np.rint(thick * 255).astype(np.uint8), xpnet.select("cpu"))
    np.testing.assert_allclose(both, one / 255)  # the same draws in every row
    assert np.array_equal(drawn(plots.augmentations(data, augment)), drawn(figure))
    assert not np.array_equal(drawn(plots.augmentations(data, augment, seed=1)), drawn(figure))


@pytest.mark.parametrize("n", [1, 3])
def test_augmentations_of_few_images_and_by_nothing(n, tmp_path):
    figure = plots.augmentations(images(n), Augment())
    plots.save(figure, tmp_path / "augmentation.png")
    originals, same = drawn(figure).reshape(2, n, 6, 9)
    np.testing.assert_array_equal(originals, same)


def test_augmentations_of_what_cannot_be_augmented():
    with pytest.raises(ValueError, match="augmentation takes uint8 images"):
        plots.augmentations(images(shape=(6,)), Augment(rotate=5))


def test_augmentations_of_colours():
    figure = plots.augmentations(images(shape=(6, 9, 3)), Augment(crop=2, flip=1))
    assert [text.get_text() for text in figure.axes[0].texts] == ["as they are", "crop 2", "flip 1", "all together"]
    shown = np.array([image.get_array() for image in figure.axes[0].images]).reshape(4, 10, 6, 9, 3)
    np.testing.assert_array_equal(shown[2], shown[0, :, :, ::-1])
    assert (shown[0, ..., 0] != shown[0, ..., 1]).any()


def test_samples_that_are_no_images_are_refused():
    rows = Dataset(np.zeros((4, 7)), np.arange(4))
    assert not is_images(rows.x)
    for draw in (lambda: plots.samples(rows), lambda: plots.mistakes(rows, np.eye(4)[::-1])):
        with pytest.raises(ValueError, match=r"samples of shape \(7,\) are not images"):
            draw()


def test_an_image_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / "curves.png"
    plots.save(plots.learning_curves(history(1)), path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        plots.save(plots.learning_curves(history(5)), path)
    assert path.read_bytes() == before
    assert [found.name for found in tmp_path.iterdir()] == ["curves.png"]


def test_without_matplotlib_the_error_names_the_extra():
    code = "import sys; sys.modules['matplotlib'] = None; import xpnet.train; import xpnet.train.plots"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.endswith('ModuleNotFoundError: plots need matplotlib: pip install "xpnet[plots]"\n')


def test_no_global_state_of_matplotlib_is_touched():
    code = "import sys, xpnet.train.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
