"""The results that a run writes into its folder: numbers and images."""

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
MOST_UNNAMED = 1 << 16  # outputs that are named by their numbers
MOST_VALUES = 1 << 26  # probabilities that are kept
BLOCK = 1 << 22  # outputs that are computed at a time
ONE_COLOUR = "all images are of one colour: there is nothing to learn in them"
COLUMNS = (
    *("epoch", "train_loss", "train_accuracy", "train_r2", "validation_loss", "validation_accuracy", "validation_r2"),
    *("lr", "seconds", "loss_scale", "skipped_steps"),
)
OF_SOME_RUNS = {*COLUMNS} - {"epoch", "train_loss", "lr", "seconds"}

Images = dict[str, Callable[[Any], Any]]  # file name -> a function from `xpnet.train.plots` to the figure


@np.errstate(all="ignore")  # for a model that has diverged, the loss is shown as NaN: that is warning enough
def measure(model: Model, test: Dataset) -> tuple[dict[str, Any], np.ndarray | None]:
    """The model's figures on `test`, ready for JSON, and its probabilities (N, C), or None if there are too many.

    With more than MOST_CLASSES classes, the figures have only those with the lowest recall, and no confusion matrix.
    For a regression, the figures are the errors in the units of the targets, and the probabilities are None.
    Raises ValueError if the samples or the labels do not fit the model.
    """
    if test.y.dtype.kind == "f":
        return errors(model, test) | of_model(model), None
    names = class_names(model)
    if test.y.max() >= len(names):
        raise ValueError(f"{test.name} has the label {test.y.max()}, but the model has {len(names)} outputs")
    loss, predicted, probabilities = answers(model, test)
    shown = np.arange(len(names)) if len(names) <= MOST_CLASSES else worst_classes(predicted, test.y, len(names))
    # The classes that are not shown, and answers that are NaN, are counted together as one more class.
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
    """The data of `source` with the model's class numbers, matched by the names of the classes if both have names.

    The name of a folder of images is the name of its class, even if it is a number. Raises ValueError for a class that
    the model does not have.
    """
    if not model.classes or (are_numbers(data.classes) and not holds_images(source)):
        return data
    return data.with_classes(model.classes)


def of_model(model: Model) -> dict[str, Any]:
    """The figures that are given for every model."""
    return {
        "device": model.backend.device,
        "why": model.backend.why,
        "dtype": str(model.backend.dtype),
        "precision": model.backend.precision,
        "parameters": model.n_parameters,
    }


def errors(model: Model, test: Dataset) -> dict[str, Any]:
    """R2, the mean absolute error and the root mean squared error of a regression model."""
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
    """The mean loss, the predicted classes (N,), and the probabilities (N, C).

    The predicted class is C where the answer is NaN. The probabilities are None if there are more than MOST_VALUES.
    """
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
    """The MOST_CLASSES classes with the lowest recall, the lowest first; among equal ones, the most frequent first."""
    support = np.bincount(labels, minlength=n_classes)
    recall = np.bincount(labels[predicted == labels], minlength=n_classes) / np.maximum(support, 1)
    recall[support == 0] = 2.0  # nothing is known of these: last
    return np.lexsort((-support, recall))[:MOST_CLASSES]


def class_names(model: Model) -> Sequence[str]:
    """The model's class names, or else the numbers of its outputs. Raises ValueError if it is not a classifier."""
    if len(model.output_shape) != 1 or (not model.classes and model.output_shape[0] > MOST_UNNAMED):
        raise ValueError(f"the model gives outputs of shape {model.output_shape}: it does not tell classes apart")
    return model.classes or [str(i) for i in range(model.output_shape[0])]


def write_text(path: Path, text: str) -> None:
    """Write the whole text, or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """Write the figures as JSON, indented for people to read."""
    write_text(path, json_text(metrics, 2) + "\n")


def trained_on(folder: Path) -> dict[str, str]:
    """What the run in the folder has noted about its training data: {"trained_on": digest}, or {} for nothing."""
    try:
        noted = json.loads((folder / METRICS).read_bytes())["trained_on"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # of another program or an older xpnet
        return {}
    return {"trained_on": noted} if isinstance(noted, str) else {}


def write_history(path: Path, history: Sequence[Row]) -> None:
    """Write a CSV file with a line for each epoch; columns of only some runs are there if the history has them."""
    first = (history or [{"train_accuracy": 0.0}])[0]
    names = [name for name in COLUMNS if name not in OF_SOME_RUNS or name in first]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def draw(folder: Path, images: Images) -> list[str]:
    """Draw each of `images` into the folder. Returns a line for each that could not be drawn: none may end a run."""
    try:
        from xpnet.train import plots
    except ModuleNotFoundError as error:
        missing = str(error.name).partition(".")[0]
        return [f'no images were drawn: {missing} is not installed: pip install "xpnet[plots]"']
    except Exception as error:  # settings that matplotlib rejects, such as MPLBACKEND
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
    """The confusion matrix and the worst mistakes, each only if `measure` gave the numbers for it."""
    images: Images = {}
    if metrics.get("confusion") is not None:
        names = [row["class"] for row in metrics["classes"]]
        images["confusion-matrix.png"] = lambda plots: plots.confusion_matrix(np.array(metrics["confusion"]), names)
    if probabilities is not None and is_images(test.x):
        images["mistakes.png"] = lambda plots: plots.mistakes(test, probabilities)
    return images


def limits(data: Dataset, source: str) -> list[str]:
    """What is left out of the data, and what cannot be done with the data or with a model trained on them: a line for
    each, to be read before the training."""
    notes = [note] if (note := left_alone(source)) else []
    if not is_images(data.x):
        notes.append(
            f"samples of shape {data.x.shape[1:]} are not images: none are drawn, predict and serve cannot read them"
        )
    elif not are_pixels(data.x):
        notes.append(f"images of {data.x.dtype} are not pixels from 0 to 255: predict and serve cannot read them")
    if of_one_colour(data.x):
        notes.append(ONE_COLOUR)
    if len(data.classes) > MOST_CLASSES:
        notes.append(
            f"{len(data.classes):,} classes are too many to show: metrics.json gets the {MOST_CLASSES} worst, "
            "and there is no confusion matrix"
        )
    return notes


def are_pixels(x: Any) -> bool:
    """Whether samples are images with the values of image files, uint8: predict reads 0 to 255 unscaled."""
    return is_images(x) and x.dtype == np.uint8


def write_example(path: Path, data: Dataset) -> None:
    """Write the first image, of uint8 pixels, as a file, which `xpnet predict` reads back as the same values."""
    from PIL import Image

    pixels = data.x[0]
    with replacing(path) as temporary:
        Image.fromarray(pixels[..., 0] if pixels.shape[2:] == (1,) else pixels).save(temporary, format="png")
