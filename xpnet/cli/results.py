"""What a run leaves in its folder: numbers and images."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.cli.console import json_text
from xpnet.cli.data import left_alone
from xpnet.data import Dataset
from xpnet.data.datasets import holds_images
from xpnet.data.images import is_images, of_one_colour
from xpnet.data.labels import are_numbers
from xpnet.files import replacing
from xpnet.losses import MeanSquaredError, SoftmaxCrossEntropy
from xpnet.nn import Model
from xpnet.train import class_scores, confusion_matrix, evaluate, mae, r2
from xpnet.train.run import Row

METRICS = "metrics.json"
MOST_CLASSES = 200  # that are shown one by one: results stay small, whatever the data
MOST_UNNAMED = 1 << 16  # outputs that get a number for a name
MOST_VALUES = 1 << 26  # probabilities that are kept
BLOCK = 1 << 22  # outputs that are computed at a time
ONE_COLOUR = "all images are of one colour: there is nothing to learn in them"
COLUMNS = (
    *("epoch", "train_loss", "train_accuracy", "train_r2", "validation_loss", "validation_accuracy", "validation_r2"),
    *("lr", "seconds", "loss_scale", "skipped_steps"),
)
OF_SOME_RUNS = {*COLUMNS} - {"epoch", "train_loss", "lr", "seconds"}

Images = dict[str, Callable[[Any], Any]]  # by file: `xpnet.train.plots` -> the figure


@np.errstate(all="ignore")  # of a model that has diverged the loss is said to be NaN: that is warning enough
def measure(model: Model, test: Dataset) -> tuple[dict[str, Any], np.ndarray | None]:
    """The figures of the model on `test`, JSON-able, and the probabilities (N, C) that it gives unless they are huge.

    Of more than MOST_CLASSES classes, those with the lowest recall are in the figures, and no confusion matrix. Where
    the targets are numbers, there are the errors in their units.
    Raises ValueError if the samples or the labels do not fit the model.
    """
    if test.y.dtype.kind == "f":
        return errors(model, test) | of_model(model), None
    names = class_names(model)
    if test.y.max() >= len(names):
        raise ValueError(f"{test.name} has the label {test.y.max()}, but the model has {len(names)} outputs")
    loss, predicted, probabilities = answers(model, test)
    shown = np.arange(len(names)) if len(names) <= MOST_CLASSES else worst_classes(predicted, test.y, len(names))
    # Those that are not shown, and no answer, are counted as one class more.
    number = np.full(len(names) + 1, len(shown))
    number[shown] = np.arange(len(shown))
    confusion = confusion_matrix(number[predicted], number[test.y], len(shown) + 1)
    scores = zip(*(column[: len(shown)].tolist() for column in class_scores(confusion)), strict=True)
    figures = {
        "test_accuracy": float((predicted == test.y).mean()),
        "test_loss": loss,
        "test_samples": len(test),
        "n_classes": len(names),
        "classes": [
            {"class": names[i], **dict(zip(("precision", "recall", "f1", "support"), row, strict=True))}
            for i, row in zip(shown, scores, strict=True)
        ],
        "confusion": confusion[:-1, :-1].tolist() if len(names) <= MOST_CLASSES else None,
    }
    return figures | of_model(model), probabilities


def as_model_counts(model: Model, data: Dataset, source: str) -> Dataset:
    """The data of `source` with the model's class numbers, by the names of the classes where both have names. A folder
    of images is the name of its class, even if it is called 0.

    Raises ValueError for a class that the model does not have.
    """
    if not model.classes or (are_numbers(data.classes) and not holds_images(source)):
        return data
    return data.with_classes(model.classes)


def of_model(model: Model) -> dict[str, Any]:
    """What else is said of every model."""
    return {
        "device": model.backend.device,
        "why": model.backend.why,
        "dtype": str(model.backend.dtype),
        "precision": model.backend.precision,
        "parameters": model.n_parameters,
    }


def errors(model: Model, test: Dataset) -> dict[str, Any]:
    """R2, and the mean absolute and the root mean squared error, of a model that gives numbers."""
    measured = evaluate(model, MeanSquaredError(), test, metrics=[r2, mae])
    return {
        "test_r2": measured.metrics["r2"],
        "test_mae": measured.metrics["mae"],
        "test_rmse": measured.loss**0.5,
        "test_samples": len(test),
    }


def headline(metrics: dict[str, Any]) -> str:
    """How good the model is, in a line."""
    n = metrics["test_samples"]
    if "test_r2" in metrics:
        error = f"mean error {metrics['test_mae']:.4g}, root mean square {metrics['test_rmse']:.4g}"
        return f"test R2 {metrics['test_r2']:.3f}, {error} ({n:,} samples)"
    wrong = round((1 - metrics["test_accuracy"]) * n)
    return f"test accuracy {metrics['test_accuracy']:.2%} ({wrong:,} of {n:,} wrong)"


def answers(model: Model, test: Dataset) -> tuple[float, np.ndarray, np.ndarray | None]:
    """The mean loss, the predicted classes (N,), C where the answer is NaN, and the probabilities (N, C), up to
    MOST_VALUES of them."""
    classes = model.output_shape[-1]
    rows, keep = max(1, BLOCK // classes), len(test) * classes <= MOST_VALUES
    if not model.network.accepts_integers and not isinstance(test.x, tuple):
        test = replace(test, x=test.x.astype(np.float32))
    loss = evaluate(model, SoftmaxCrossEntropy(), test, batch_size=min(rows, 1000)).loss
    predicted, probabilities = [], []
    for start in range(0, len(test), rows):
        given = model.probabilities(test[start : start + rows].x)
        predicted.append(np.where(np.isnan(given).any(axis=1), classes, given.argmax(axis=1)))
        probabilities += [given] if keep else []
    return loss, np.concatenate(predicted), np.concatenate(probabilities) if keep else None


def worst_classes(predicted: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """The MOST_CLASSES classes of which the smallest fraction was found, of equal ones the most frequent; sorted so."""
    support = np.bincount(labels, minlength=n_classes)
    recall = np.bincount(labels[predicted == labels], minlength=n_classes) / np.maximum(support, 1)
    recall[support == 0] = 2.0  # nothing is known of these: last
    return np.lexsort((-support, recall))[:MOST_CLASSES]


def class_names(model: Model) -> Sequence[str]:
    """The model's, or else the numbers of its outputs. Raises ValueError for a model that tells no classes apart."""
    if len(model.output_shape) != 1 or (not model.classes and model.output_shape[0] > MOST_UNNAMED):
        raise ValueError(f"the model gives outputs of shape {model.output_shape}: it does not tell classes apart")
    return model.classes or [str(i) for i in range(model.output_shape[0])]


def write_text(path: Path, text: str) -> None:
    """All of it, or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """The figures as JSON, to be read by people too."""
    write_text(path, json_text(metrics, 2) + "\n")


def trained_on(folder: Path) -> dict[str, str]:
    """What the run in the folder has noted of the data that it was trained on: {"trained_on": digest}, if anything."""
    try:
        noted = json.loads((folder / METRICS).read_bytes())["trained_on"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # of another program, or of an earlier xpnet
        return {}
    return {"trained_on": noted} if isinstance(noted, str) else {}


def write_history(path: Path, history: Sequence[Row]) -> None:
    """A line of CSV an epoch, under the names of the columns; those of some runs only where the history has them."""
    first = (history or [{"train_accuracy": 0.0}])[0]
    names = [name for name in COLUMNS if name not in OF_SOME_RUNS or name in first]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def draw(folder: Path, images: Images) -> list[str]:
    """Draw each of `images` into the folder. Gives a line for each that could not be drawn: none may end a run."""
    try:
        from xpnet.train import plots
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        return [f'no images were drawn: {missing} is not installed: pip install "xpnet[plots]"']
    except Exception as error:  # settings of matplotlib that it does not like, such as MPLBACKEND
        return [f"no images were drawn: {in_a_line(error)}"]
    notes = []
    for name, figure in images.items():
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", "Glyph .* missing from")  # a class may have any name
                plots.save(figure(plots), folder / name)
        except Exception as error:
            notes.append(f"no {name}: {in_a_line(error)}")
    return notes


def in_a_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def images_of_test(metrics: dict[str, Any], test: Dataset, probabilities: np.ndarray | None) -> Images:
    """The confusion matrix and the worst mistakes, where there is room for them."""
    images: Images = {}
    if metrics.get("confusion") is not None:
        names = [row["class"] for row in metrics["classes"]]
        images["confusion-matrix.png"] = lambda plots: plots.confusion_matrix(np.array(metrics["confusion"]), names)
    if probabilities is not None and is_images(test.x):
        images["mistakes.png"] = lambda plots: plots.mistakes(test, probabilities)
    return images


def limits(data: Dataset, source: str) -> list[str]:
    """What of the source is no part of the data, and what cannot be done with them, or with a model of them: a line
    each, to be read before the training."""
    notes = [note] if (note := left_alone(source)) else []
    if not is_images(data.x):
        notes.append(f"samples of shape {data.x.shape[1:]} are no images: none are drawn, predict and serve read none")
    elif not are_pixels(data.x):
        notes.append(f"images of {data.x.dtype} are no pixels: predict and serve, which read 0 to 255, read none")
    if of_one_colour(data.x):
        notes.append(ONE_COLOUR)
    if len(data.classes) > MOST_CLASSES:
        notes.append(
            f"{len(data.classes):,} classes are too many to show: metrics.json gets the {MOST_CLASSES} worst, "
            "and there is no confusion matrix"
        )
    return notes


def are_pixels(x: Any) -> bool:
    """Whether samples are images of the values that are in the files of images: predict reads 0 to 255, as they are."""
    return is_images(x) and x.dtype == np.uint8


def write_example(path: Path, data: Dataset) -> None:
    """The first of some images of pixels as a file, which `xpnet predict` reads back as the same values."""
    from PIL import Image

    pixels = data.x[0]
    with replacing(path) as temporary:
        Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(temporary, format="png")
