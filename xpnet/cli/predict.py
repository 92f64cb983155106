"""`xpnet predict`: what a model reads in photos, drawings, and images of its own size."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpnet.cli import options
from xpnet.cli.console import Failed, check_output, complain, escaped, in_percent, print_json, say, verdict
from xpnet.cli.run_folder import is_run
from xpnet.files import TABLES

if TYPE_CHECKING:
    from xpnet.photo import Reading

MODEL_ENDS_IN = ".safetensors"
STRIP_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


def predict(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="[MODEL] FILE...",
            help=f"First, if you like, a model that `xpnet train` made: a {MODEL_ENDS_IN} file or the folder of its "
            "run (without it, the built-in model of digits reads). Then images, folders of images, or a table.",
            readable=False,
        ),
    ],
    explain: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.png",
            help="Draw how each image was read, stage by stage; for several images: FILE-1.png, FILE-2.png, ...",
        ),
    ] = None,
    device: options.Device = None,
    as_json: options.Json = False,
) -> None:
    """Say what a model reads in images, or predicts for a table.

    \b
    xpnet predict photo.jpg                       with the model that comes with xpnet
    xpnet predict model.safetensors a.png b.png   with one of your own
    xpnet predict model.safetensors new.csv       each row of a table, as CSV

    A model of digits reads photos and drawings of any size, dark on light or light on dark: it finds the digits,
    and reads them from left to right. A digit that is not clear is "?"; an image may also have no digit. An image of
    exactly the model's own size is taken whole, without looking for digits in it. A model of anything else takes each
    image whole, converted to the model's size and colours.

    An image that cannot be read is reported; the others are still read, and the exit code is 1.
    """
    import numpy as np

    import xpnet
    from xpnet.cli import tables
    from xpnet.data.images import images_in
    from xpnet.photo import ImageReader

    path, images = model_and_images(files)
    check_output()
    if any(map(tables.is_table, images)):
        if len(images) > 1 or explain:
            raise typer.BadParameter(
                "a table must be the only file after the model, without --explain: xpnet predict MODEL TABLE"
            )
        if images[0] == files[0]:
            raise typer.BadParameter(f"which model? The built-in one reads digits: xpnet predict MODEL {images[0]}")
        tables.predict(xpnet.load(path, device), images[0], as_json)
        return
    strips = strip_names(explain, images) if explain else [None] * len(images)
    opened = xpnet.load(path, device)
    reader = ImageReader(opened)
    if explain and not reader.reads_digits:
        raise typer.BadParameter("--explain shows how digits are found, and this model reads something else")
    predictions = []
    for image, strip in zip(images, strips, strict=True):
        try:
            if image.is_dir() and not images_in(image):
                raise FileNotFoundError(f"{image}: a folder without images")
            # A model that has diverged answers "at nan%": that is warning enough.
            with opened.backend.threads_for(opened.n_parameters), np.errstate(all="ignore"):
                reading = reader.read(image)
        except (OSError, ValueError) as error:
            complain(verdict(error)[1])
            continue
        if strip:
            draw(reading, strip)
        predictions.append({"image": str(image), **as_numbers(reading)})
    if as_json:
        print_json({"model": str(path), "device": opened.backend.device, "predictions": predictions})
    else:
        for prediction in predictions:
            say(escaped(f"{prediction['image']}: {in_words(prediction)}"))
    if len(predictions) < len(images):
        raise Failed(f"{len(images) - len(predictions)} of {len(images)} images could not be read")


def model_and_images(files: list[Path]) -> tuple[Path, list[Path]]:
    """The file of the model (the first file, or the built-in model) and the images, with folders as in `in_folders`."""
    from xpnet.photo import shipped_model_path

    first, others = options.model_file(files[0]), files[1:]
    for other in others:
        if other.suffix.lower() == MODEL_ENDS_IN:
            raise typer.BadParameter(f"{other} is a model: it goes first, before the images")
        if is_run(other):
            raise typer.BadParameter(f"{other} is the folder of a run, whose model goes first, before the images")
    if first.suffix.lower() != MODEL_ENDS_IN:
        check_no_model(first, alone=not others)
        return shipped_model_path(), in_folders(files)
    if not others:
        raise typer.BadParameter(f"{first} is a model: which images should it read?")
    return first, in_folders(others)


def check_no_model(first: Path, alone: bool) -> None:
    """Raise if the first file is meant to be a model but is none: the built-in one would answer in its place."""
    from xpnet.data.images import ENDS_IN
    from xpnet.photo import ImageError, open_image

    if first.suffix.lower() in (*ENDS_IN, *TABLES) or first.is_dir():
        return
    if not first.exists():
        raise FileNotFoundError(f"no model at {first}: no such file")
    if not alone and first.is_file():
        try:
            open_image(first)
        except OSError:  # which is said when it is this file's turn
            pass
        except ImageError:
            raise Failed(
                f"{first} is not an image, and not a model either, whose name must end in {MODEL_ENDS_IN}"
            ) from None


def in_folders(files: list[Path]) -> list[Path]:
    """The files, with the images in a folder, if there are any, in place of the folder."""
    from xpnet.data.images import images_in

    found = []
    for file in files:
        try:
            found += (file.is_dir() and images_in(file)) or [file]
        except OSError:  # which is said when it is the folder's turn
            found.append(file)
    return found


def strip_names(explain: Path, images: list[Path]) -> list[Path]:
    """A file for the strip of each image, in a format that can be written, and none of them one of the images."""
    if explain.suffix.lower() not in STRIP_FORMATS:
        kinds = ", ".join(STRIP_FORMATS)
        raise typer.BadParameter(f"--explain writes an image: its name must end in one of {kinds}, not {explain.name}")
    numbered = [explain.with_stem(f"{explain.stem}-{i + 1}") for i in range(len(images))]
    names = [explain] if len(images) == 1 else numbered
    taken = {image.resolve() for image in images}
    for name in names:
        if name.resolve() in taken:
            raise typer.BadParameter(f"--explain would write over the image {name}")
    return names


def draw(reading: Reading, path: Path) -> None:
    """Write the strip with every stage, in the format that the file's name says."""
    from xpnet.files import replacing
    from xpnet.photo import explain

    with replacing(path) as temporary:
        explain(reading).save(temporary, format=STRIP_FORMATS[path.suffix.lower()], quality=95)


def as_numbers(reading: Reading) -> dict[str, Any]:
    """A reading as plain values. `label`: None if unsure; `box`: left, top, right, bottom in fractions of the image."""
    names = reading.classes
    digits = [
        {
            "label": None if digit.label is None else names[digit.label],
            "probability": float(digit.probability),
            "probabilities": dict(zip(names, digit.probabilities.tolist(), strict=True)),
            "box": list(digit.glyph.box),
            "reason": digit.reason,
        }
        for digit in reading.digits
    ]
    return {"text": reading.text, "digits": digits, "reason": reading.reason}


def in_words(prediction: dict[str, Any]) -> str:
    """What was read, in a line: for one digit, what else it might be; for several, how sure each one is."""
    digits = prediction["digits"]
    if not digits:
        return f"no digit found: {prediction['reason']}"
    words = [digit["reason"] or f"{digit['label']} at {in_percent(digit['probability'])}" for digit in digits]
    if len(digits) > 1:
        return f"{prediction['text']}  ({', '.join(words)})"
    others = sorted(digits[0]["probabilities"].items(), key=lambda pair: -pair[1])[1:3]
    return f"{words[0]}  (then {', '.join(f'{name} at {in_percent(probability)}' for name, probability in others)})"
