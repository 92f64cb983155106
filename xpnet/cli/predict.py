"""`xpnet predict`: what a model sees in pictures of its own size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpnet.cli import options
from xpnet.cli.console import Failed, complain, print_json, say, verdict

if TYPE_CHECKING:
    import numpy as np

    from xpnet import Model


def predict(
    model: options.ModelFile,
    images: Annotated[
        list[Path], typer.Argument(metavar="IMAGE...", help="Pictures of the size that the model takes.")
    ],
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Say what a model sees in pictures.

    A picture has the size of those that the model has learned from, and is bright where they are (digits: white ink
    on black). Colours count by their brightness. A picture that cannot be read is complained about, the others are
    done all the same, and the exit code is 1.
    """
    import xpnet

    opened = xpnet.load(model, device)
    predictions, bad = [], 0
    for image in images:
        try:
            predictions.append({"image": str(image), **what_it_is(opened, image)})
        except (OSError, ValueError) as error:
            complain(verdict(error)[1])
            bad += 1
    if as_json:
        print_json({"model": str(model), "device": opened.backend.device, "predictions": predictions})
    else:
        for prediction in predictions:
            show(prediction)
    if bad:
        raise Failed(f"{bad} of {len(images)} pictures could not be read")


def what_it_is(model: Model, image: Path) -> dict[str, Any]:
    """The most probable class, its probability, and those of all classes."""
    from xpnet.cli.results import class_names

    luma = open_picture(model, image)
    probabilities = model.probabilities((luma * 255).reshape(1, *model.input_shape))[0].tolist()
    by_class = dict(zip(class_names(model), probabilities, strict=True))
    best = max(by_class, key=by_class.__getitem__)
    return {"class": best, "probability": by_class[best], "probabilities": by_class}


def open_picture(model: Model, image: Path) -> np.ndarray:
    """Luma in [0, 1] of the model's own size. Raises ImageError (a ValueError) or OSError."""
    from xpnet.data.photo import ImageError, open_image

    height, width = picture_size(model)
    luma = open_image(image)
    if luma.shape != (height, width):
        raise ImageError(f"{image.name}: the model takes pictures of {width} x {height} pixels, and this is none")
    return luma


def picture_size(model: Model) -> tuple[int, int]:
    """(height, width) of the pictures that the model takes; a row of n^2 values is a square."""
    shape = model.input_shape[:-1] if len(model.input_shape) == 3 and model.input_shape[2] == 1 else model.input_shape
    side = math.isqrt(shape[0])
    if len(shape) == 1 and side * side == shape[0]:
        return side, side
    if len(shape) != 2:
        raise Failed(f"the model takes samples of shape {model.input_shape}, which are no grey pictures")
    return shape[0], shape[1]


def show(prediction: dict[str, Any]) -> None:
    """A line of text: the best three."""
    best = sorted(prediction["probabilities"].items(), key=lambda pair: -pair[1])[:3]
    first, *others = [f"{name} at {probability:.1%}" for name, probability in best]
    say(f"{prediction['image']}: {first}" + (f"  (then {', '.join(others)})" if others else ""))
