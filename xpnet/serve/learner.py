"""The process behind the page "Watch it learn", which trains a network on the embedded digits.

It writes a line of JSON for each epoch, beginning with epoch 0 (nothing learnt). `training.py` starts it, and describes
the lines.

python -m xpnet.serve.learner '{"rate": 0.1, "width": 32, "depth": 2, "activation": "relu", "epochs": 20}'
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet import data, nn
from xpnet.backend import select
from xpnet.data import Dataset
from xpnet.nn import Model
from xpnet.serve import limits
from xpnet.serve.maps import rounded
from xpnet.train import NotFiniteError, evaluate, fit
from xpnet.train.recipes import Recipe, build
from xpnet.train.run import Row

BATCH = 32
DECIMALS = 4


def learn(settings: dict[str, Any], say: Callable[[dict[str, Any]], object]) -> None:
    """Train by plain gradient descent, with the package's own loop, and call `say` with each line.

    `settings`: the learning rate, the width of the hidden layers and their number (depth, 0 for none), their
    activation, and the number of epochs.
    """
    recipe = Recipe(
        hidden=(settings["width"],) * settings["depth"],
        activation=settings["activation"],
        lr=settings["rate"],
        epochs=settings["epochs"],
        batch_size=BATCH,
    )
    training, held_out = data.load("digits")
    model, loss, optimizer, schedule = build(recipe, training, select("cpu"))
    due = time.monotonic()

    def tell(row: Row, model: Model) -> None:
        nonlocal due
        time.sleep(max(0.0, due - time.monotonic()))
        due = time.monotonic() + limits.EPOCH_SECONDS
        say({**figures(row), **misread(model, held_out), "weights": first_weights(model)})

    row: Row = {"epoch": 0, "lr": optimizer.lr}
    for part, samples in (("train", training), ("validation", held_out)):
        measured = evaluate(model, loss, samples)
        row |= {f"{part}_loss": measured.loss, f"{part}_accuracy": measured.accuracy}
    tell(row, model)
    try:
        fit(
            model, loss, optimizer, training, held_out, epochs=recipe.epochs, batch_size=recipe.batch_size,
            schedule=schedule, callbacks=[tell], quiet=True,
        )  # fmt: skip
    except NotFiniteError as error:
        # Not its own message: of its advice, only the rate can be changed here
        say({"error": f"step {error.step}: a NaN or an infinity in {error.where}. Try a smaller learning rate."})


def figures(row: Row) -> dict[str, Any]:
    """A row of the history under the names of the API."""
    return {
        "epoch": row["epoch"],
        "rate": row["lr"],
        "training_loss": number(row["train_loss"]),
        "held_out_loss": number(row["validation_loss"]),
        "training_accuracy": number(row["train_accuracy"]),
        "held_out_accuracy": number(row["validation_accuracy"]),
    }


def misread(model: Model, samples: Dataset) -> dict[str, Any]:
    """How many of the samples the model reads wrongly, and the first of those in the order of the data, so that most
    keep their place from one epoch to the next."""
    p = model.probabilities(samples.x)
    read = p.argmax(axis=1)
    wrong = np.flatnonzero(read != samples.y)
    shown = [
        {
            "digit": samples.classes[samples.y[i]],
            "read": samples.classes[read[i]],
            "probability": number(p[i, read[i]]),
            "pixels": samples.x[i].tolist(),
        }
        for i in wrong[: limits.MISREAD]
    ]
    return {"held_out": len(samples), "wrong": len(wrong), "misread": shown}


def first_weights(model: Model) -> list[list[list[float]]]:
    """The weights of the first units of the first layer, each as an image: what a unit looks for."""
    first = next(layer for _, layer in model.network.walk() if isinstance(layer, nn.Linear))
    images = model.backend.to_host(first.W.data).T.reshape(-1, *model.input_shape)
    return np.round(images[: limits.UNITS].astype(np.float64), DECIMALS).tolist()


def number(value: float) -> float | None:
    """A number for JSON: None for NaN and infinity, which JSON lacks; else six significant digits, as a loss may be
    tiny."""
    return rounded(value) if math.isfinite(value) else None


def main() -> None:
    if hasattr(os, "nice"):
        os.nice(10)  # a lower priority: pages and photos come first
    with open(sys.stdout.fileno(), "wb", buffering=0, closefd=False) as out, contextlib.suppress(BrokenPipeError):
        learn(json.loads(sys.argv[1]), lambda line: out.write(json.dumps(line, allow_nan=False).encode() + b"\n"))


if __name__ == "__main__":
    main()
