"""`xpnet data`: what data sets there are, and what is in them."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xpnet.cli import options, tables
from xpnet.cli.console import Failed, check_file, escaped, say
from xpnet.files import expanded

if TYPE_CHECKING:
    from xpnet.data import Dataset, Splits
    from xpnet.nn import Model

KINDS = 5  # the most kinds of files that a line lists


def show_data(
    name: Annotated[
        str | None,
        typer.Argument(
            help="digits, mnist or cifar10 (downloaded if not there yet), a folder, or a table. [default: list the "
            "data sets]"
        ),
    ] = None,
    size: options.Size = None,
    image: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw a grid of training samples into this file.")
    ] = None,
) -> None:
    """List the data sets, or describe one.

    The list says where each is stored; the description has shape, values, and the number of samples of each class.
    """
    if name is None:
        for option, given, what in (("--image", image, "an image"), ("--size", size, "the size")):
            if given is not None:
                raise typer.BadParameter(f"{what} of which data? Name a data set too.", param_hint=option)
        list_sets()
        return
    if tables.is_table(name):
        for option, given in (("--image", image), ("--size", size)):
            if given is not None:
                raise typer.BadParameter("a table holds no images", param_hint=option)
        tables.describe(expanded(name))
        return
    if image:
        check_grid(image, name)
    splits = load(name, size)
    for part in splits:
        describe(part)
    if note := left_alone(name):
        say(note)
    if image:
        from xpnet.cli import results

        for note in results.draw(image.parent, {image.name: lambda plots: plots.samples(splits.train)}):
            raise Failed(note)
        say(f"samples: {image}")


def check_grid(image: Path, source: str) -> None:
    """Raise ValueError or OSError if the grid cannot be written, or would be written among the images themselves."""
    from xpnet.data.datasets import holds_images

    check_file("--image", image, ".png")
    if holds_images(source) and expanded(source).resolve() in image.resolve().parent.parents:
        raise ValueError(f"--image: {image} would be one of the images of {source}: name a file elsewhere")


def load(source: str, size: str | None = None) -> Splits:
    """`data.load`, but bad content raises `Failed`; a bad name raises ValueError."""
    return _load(source, size=None if size is None else height_and_width(size))


def load_for(model: Model, source: str, whole: bool) -> tuple[Dataset, Dataset]:
    """`load`, with the images of a folder brought to the model's size and colours. With `whole`, all of them are the
    test part, unless the folder itself is divided into parts."""
    import numpy as np

    from xpnet.data.datasets import has_parts, holds_images
    from xpnet.photo import image_kind

    if not holds_images(source):
        return _load(source)
    size, grey = image_kind(model)
    training, test = _load(source, size=size, grey=grey)
    if whole and not has_parts(expanded(source)):
        x, y = (np.concatenate(both) for both in ((training.x, test.x), (training.y, test.y)))
        test = replace(test, x=x, y=y, name=expanded(source).resolve().name)
    return training, test


def _load(source: str, **options: Any) -> Splits:
    from xpnet import data

    try:
        return data.load(source, **options)
    except ValueError as error:
        if source in ("mnist", "cifar10") or (source and expanded(source).is_dir()):
            raise Failed(str(error)) from None
        raise


def left_alone(source: str) -> str:
    """A line with the number and the kinds of files that are not read in a folder of images; "" if there are none."""
    from xpnet.data.datasets import holds_images
    from xpnet.data.images import others_in

    if not holds_images(source):
        return ""
    counts = sorted(others_in(expanded(source)).items(), key=lambda pair: (-pair[1], pair[0]))
    kinds = [f"{n:,} {ending or 'without an ending'}" for ending, n in counts]
    shown = ", ".join(kinds[:KINDS]) + (", .." if len(kinds) > KINDS else "")
    return f"files that are not read, as their names do not end like those of images: {shown}" if kinds else ""


def height_and_width(size: str) -> tuple[int, int]:
    """(height, width) from "64", or from "64x48" for width x height. Raises ValueError for anything else."""
    sides = size.lower().split("x")
    if len(sides) > 2 or not all(re.fullmatch(r"0*[1-9]\d{0,3}", side) for side in sides):
        raise ValueError(f"size is a number of pixels, such as 64, or width x height, 64x48, up to 9999; not {size!r}")
    return int(sides[-1]), int(sides[0])


def list_sets() -> None:
    """Print the data sets that have names, and where MNIST is stored."""
    say("digits  1,797 handwritten digits, 8 x 8: come with the package")
    say(f"mnist   70,000 handwritten digits, 28 x 28: {where_mnist_is()}")
    say("cifar10 60,000 images of things and animals, 32 x 32 x 3: `xpnet data cifar10` downloads it (162 MB)")
    say("FOLDER  your own: train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and")
    say("        t10k-labels-idx1-ubyte in one folder, plain or .gz; or a folder of images for each class")
    say("TABLE   your own: a .csv, .tsv or .parquet file, for xpnet train --data TABLE --target COLUMN")
    say("for more about one: xpnet data NAME")


def where_mnist_is() -> str:
    from xpnet.data.datasets import cache_folder, folder_in

    own, cache = folder_in("XPNET_DATA"), cache_folder() / "mnist"
    for folder in (*((own / "mnist", own) if own else ()), cache):
        if any(folder.glob("train-images*")):
            return f"in {folder}"
    return f"not here yet; `xpnet data mnist` downloads it (12 MB) into {cache}"


def describe(part: Dataset) -> None:
    """Print the shape, values and class counts of one split."""
    import numpy as np

    from xpnet.cli.results import ONE_COLOUR
    from xpnet.data import mean_std
    from xpnet.data.images import of_one_colour

    mean, std = mean_std(part.x)
    say(f"{part!r}"[1:-1], style="bold")
    say(f"  values {part.x.min()} to {part.x.max()}, mean {mean:.4g}, standard deviation {std:.4g}")
    counts = np.bincount(part.y, minlength=len(part.classes))
    shown = [f"{escaped(name)}: {n:,}" for name, n in zip(part.classes, counts.tolist(), strict=True)]
    say("  " + ", ".join(shown[:20]) + (f", and {len(shown) - 20} classes more" if len(shown) > 20 else ""))
    if of_one_colour(part.x):
        say(f"  {ONE_COLOUR}")
