"""What a run leaves in its folder: numbers and pictures."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.data import Dataset
from xpnet.files import replacing
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.nn import Model
from xpnet.train import class_scores, confusion_matrix, evaluate
from xpnet.train.run import Row

COLUMNS = ("epoch", "train_loss", "train_accuracy", "validation_loss", "validation_accuracy", "lr", "seconds")


def measure(model: Model, test: Dataset) -> tuple[dict[str, Any], np.ndarray]:
    """The figures of the model on `test`, JSON-able, and the probabilities (N, C) that it gives.

    Raises ValueError if the samples or the labels do not fit the model.
    """
    if test.y.max() >= model.output_shape[-1]:
        raise ValueError(
            f"{test.name} has the label {test.y.max()}, but the model has {model.output_shape[-1]} outputs"
        )
    measured = evaluate(model, SoftmaxCrossEntropy(), test)
    probabilities = model.probabilities(model.as_input(test.x))
    confusion = confusion_matrix(probabilities.argmax(axis=1), test.y, model.output_shape[-1])
    scores = zip(class_names(model), *(column.tolist() for column in class_scores(confusion)), strict=True)
    figures = {
        "test_accuracy": measured.accuracy,
        "test_loss": measured.loss,
        "test_samples": len(test),
        "classes": [dict(zip(("class", "precision", "recall", "f1", "support"), row, strict=True)) for row in scores],
        "confusion": confusion.tolist(),
        "device": model.backend.device,
        "why": model.backend.why,
        "dtype": str(model.backend.dtype),
        "parameters": model.n_parameters,
    }
    return figures, probabilities


def class_names(model: Model) -> Sequence[str]:
    """The model's, or else the numbers of its outputs."""
    return model.classes or [str(i) for i in range(model.output_shape[-1])]


def write_text(path: Path, text: str) -> None:
    """All of it, or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


def write_metrics(path: Path, metrics: dict[str, Any]) -> None:
    """The figures as JSON, to be read by people too."""
    write_text(path, json.dumps(metrics, indent=2) + "\n")


def write_history(path: Path, history: Sequence[Row]) -> None:
    """A line of CSV an epoch, under the names of the columns; those of the validation only where there was one."""
    names = [name for name in COLUMNS if not name.startswith("validation") or name in (history or [{}])[0]]
    with replacing(path) as temporary, open(temporary, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(history)


def write_test_pictures(folder: Path, metrics: dict[str, Any], test: Dataset, probabilities: np.ndarray) -> list[str]:
    """The confusion matrix and the worst mistakes. Gives a line for each picture that could not be made."""
    from xpnet.train import plots

    names = [row["class"] for row in metrics["classes"]]
    plots.save(plots.confusion_matrix(np.array(metrics["confusion"]), names), folder / "confusion-matrix.png")
    if not plots.is_pictures(test.x):
        return [f"no mistakes.png: samples of shape {test.x.shape[1:]} are no pictures"]
    plots.save(plots.mistakes(test, probabilities), folder / "mistakes.png")
    return []


def write_example(path: Path, data: Dataset) -> None:
    """The first sample of `data` as a picture of its own size, black to white over what the data set holds."""
    from PIL import Image

    luma = data.x[0].reshape(data.x.shape[1:3]) / max(float(data.x.max()), 1e-9) * 255
    with replacing(path) as temporary:
        Image.fromarray(luma.round().astype(np.uint8)).save(temporary, format="png")
