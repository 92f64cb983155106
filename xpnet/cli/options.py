"""The options of `xpnet train`, and those that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from xpnet.cli.console import Failed
from xpnet.cli.run_folder import is_run
from xpnet.files import MODEL
from xpnet.train.recipes import ACTIVATIONS, DIGITS, MNIST, MODELS, OPTIMIZERS, RECIPES, SCHEDULES, TABLE

Given = TypeVar("Given", Path, Path | None)


def sizes(text: str) -> tuple[int, ...]:
    """ "128,64,32" as numbers; "" for no hidden layer."""
    if not re.fullmatch(r"(\d+(,\d+)*)?", text):
        raise typer.BadParameter(f"{text!r} is not a list of sizes such as 128,64,32")
    return tuple(int(size) for size in text.split(",") if size)


def setting(name: str, text: str, **more: Any) -> Any:
    """The option for a setting of the recipe; its help gives the default of each recipe."""
    values = [getattr(recipe, name) for recipe in (DIGITS, TABLE, MNIST)]
    shown = [",".join(map(str, value)) if isinstance(value, tuple) else str(value).lower() for value in values]
    special = {kind: value for kind, value in zip(("digits", "tables"), shown, strict=False) if value != shown[-1]}
    default = ", ".join([*(f"{value} for {kind}" for kind, value in special.items()), (special and "else ") or ""])
    default += shown[-1]
    return typer.Option(help=f"{text} [default: {default}]", **more)


# A path that is read has readable=False: typer does not check whether it can be read; the command says why it cannot.
def model_file(path: Given) -> Given:
    """The file of a model, which the folder of its run may stand for. Raises `Failed` if that run has not saved one."""
    if path is None:
        return path
    if (path / MODEL).is_file():
        return path / MODEL
    if is_run(path):
        raise Failed(f"there is no {MODEL} in {path}: the run has not finished")
    return path


def names(table: dict[str, Any]) -> str:
    return ", ".join(table)


# Settings of the recipe
ModelName = Annotated[str | None, setting("model", f"{names(MODELS)}: xpnet models lists them.")]
Hidden = Annotated[
    tuple | None, setting("hidden", "Sizes of the hidden layers of an mlp.", parser=sizes, metavar="N,N,..")
]
Activation = Annotated[str | None, setting("activation", f"For an mlp: {names(ACTIVATIONS)}.")]
Dropout = Annotated[
    float | None, setting("dropout", "Fraction of the units that are dropped in training, in an mlp or a cnn.")
]
Epochs = Annotated[int | None, setting("epochs", "Number of passes through the training data.")]
BatchSize = Annotated[int | None, setting("batch_size", "Samples in a step.")]
Optimizer = Annotated[
    str | None,
    setting(
        "optimizer", f"{names(OPTIMIZERS)}. Another than the default brings its own usual lr, and no weight decay."
    ),
]
Lr = Annotated[float | None, setting("lr", "Learning rate; with a schedule, its highest value.")]
Momentum = Annotated[float | None, setting("momentum", "Momentum of sgd.")]
Nesterov = Annotated[bool | None, setting("nesterov", "Nesterov momentum, for sgd.")]
WeightDecay = Annotated[float | None, setting("weight_decay", "How strongly the weights are pulled towards 0.")]
Schedule = Annotated[
    str | None, setting("schedule", f"How the learning rate changes over the run: {names(SCHEDULES)}.")
]
Smoothing = Annotated[
    float | None, setting("label_smoothing", "Fraction of each target that is spread over all classes.")
]
Clip = Annotated[float | None, setting("clip", "Largest norm of the gradient; 0: no limit.")]
Patience = Annotated[int | None, setting("patience", "Stop after this many epochs without a lower loss; 0: never.")]
Augment = Annotated[
    bool | None, setting("augment", "Shift, turn, bend and thicken the images a little, anew in every epoch.")
]
Val = Annotated[
    float | None,
    setting(
        "val",
        "Fraction of the training data to set aside, for validation after each epoch; the weights of the best epoch "
        "are then kept. The default applies only if that is 200 samples or more.",
    ),
]

# What else a run depends on
RecipeName = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        help=f"{names(RECIPES)}: a set of defaults for all settings. plain is gradient descent at a constant "
        "rate, and nothing else; handwriting is 80 epochs with augmentation. [default: digits for the digits, table "
        "for tables, else mnist]",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        help="digits, mnist, cifar10; a folder with four IDX files, or with a folder of images for each class; or a "
        "table (.csv, .tsv, .parquet), with --target. Of images and rows without a test part, a fifth is held out to "
        "test on. [default: digits]"
    ),
]
Size = Annotated[
    str | None,
    typer.Option(
        metavar="N or WxH",
        help="For a folder of images: resize all to this many pixels, such as 64 for a square, or 64x48 for width x "
        "height. [default: not resized; all must have the same size]",
    ),
]
Target = Annotated[str | None, typer.Option(metavar="COLUMN", help="For a table: the column to predict.")]
Task = Annotated[
    str | None, typer.Option(help="For a table: classification or regression. [default: judged by the target's values]")
]
Ignore = Annotated[
    str | None,
    typer.Option(
        metavar="COLUMN,..",
        help="For a table: columns to leave out. In a list, put a name with a comma in double quotes.",
    ),
]
Categories = Annotated[
    str | None,
    typer.Option(metavar="COLUMN,..", help="For a table: columns whose numbers are categories, such as zip codes."),
]
Missing = Annotated[
    str | None,
    typer.Option(
        help="For a table: refuse missing values, or fill them, numbers with the column's median. [default: refuse]"
    ),
]
Unseen = Annotated[
    str | None,
    typer.Option(
        help="For a table: what to do, when the model is used, with a category that it was not trained on: refuse it, "
        "or take it as unknown (zeros). [default: refuse]"
    ),
]
Seed = Annotated[int | None, typer.Option(help="The same seed gives the same run. [default: 0]")]
Device = Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1. [default: $XPNET_DEVICE, or else auto]")]
TrainDevice = Annotated[
    str | None,
    typer.Option(
        help="auto, cpu, cuda or cuda:1; fastest: the one on which ten steps of this run take the least time. "
        "[default: $XPNET_DEVICE, or else auto]"
    ),
]
Dtype = Annotated[str | None, typer.Option(help="float32 or float64. [default: float32]")]
Precision = Annotated[
    str | None,
    typer.Option(
        help="float16 or bfloat16: matrix products of 16-bit numbers, while all else stays float32. Only on a GPU. "
        "[default: products in --dtype]"
    ),
]
Threads = Annotated[
    int | None,
    typer.Option(
        help="BLAS threads on a CPU. Two are faster if the cores are idle, but far slower if they are busy. "
        "[default: 1 for small steps]"
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        help="Processes that train together, each on its part of every batch; under mpiexec, as many as it started. "
        "Needs xpnet[mpi]. [default: 1]"
    ),
]

TensorBoard = Annotated[
    bool | None,
    typer.Option(
        help="Write event files into the folder of the run: tensorboard --logdir runs shows all runs side by "
        "side. Needs xpnet[tensorboard]. [default: no-tensorboard]"
    ),
]

# Files and output
Config = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="A TOML file of settings, named like the options; an option given here overrides it.",
        readable=False,
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A new or empty folder for the results. [default: runs/<data>-<number>]"),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Continue the run in that folder. --epochs can be raised; --device, --threads, --workers and "
        "--tensorboard can be changed.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Do not show progress.")]
ModelFile = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="A model.safetensors or checkpoint.safetensors, or the folder of a run.",
        readable=False,
        callback=model_file,
    ),
]
