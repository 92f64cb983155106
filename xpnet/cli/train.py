"""`xpnet train`: learn, test, and leave all that was found out in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from xpnet.cli import options
from xpnet.cli.console import Failed, print_json, quoted, say, verdict
from xpnet.cli.settings import KINDS, Settings, option, read_config, settle, to_toml

if TYPE_CHECKING:
    from xpnet import Model
    from xpnet.data import Augment, Dataset
    from xpnet.train import Result

CONFIG, CHECKPOINT, MODEL, EXAMPLE = "config.toml", "checkpoint.safetensors", "model.safetensors", "example.png"


def train(
    ctx: typer.Context,
    data: options.Data = None,
    hidden: options.Hidden = None,
    activation: options.Activation = None,
    dropout: options.Dropout = None,
    epochs: options.Epochs = None,
    batch_size: options.BatchSize = None,
    optimizer: options.Optimizer = None,
    lr: options.Lr = None,
    momentum: options.Momentum = None,
    nesterov: options.Nesterov = None,
    weight_decay: options.WeightDecay = None,
    schedule: options.Schedule = None,
    label_smoothing: options.Smoothing = None,
    clip: options.Clip = None,
    patience: options.Patience = None,
    augment: options.Augment = None,
    val: options.Val = None,
    seed: options.Seed = None,
    device: options.Device = None,
    dtype: options.Dtype = None,
    config: options.Config = None,
    out: options.Out = None,
    resume: options.Resume = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a network, and test it.

    The network is made of fully connected layers and learns to tell the classes of a data set apart.

    \b
    The folder of the run gets
      model.safetensors       for xpnet predict, xpnet evaluate and xpnet.load
      config.toml             to repeat the run: --config
      checkpoint.safetensors  to go on with it, after Ctrl-C, a kill or more --epochs: --resume
      metrics.json            accuracy, scores of each class, confusion matrix, time, device, versions
      history.csv             loss, accuracy and rate of every epoch
      learning-curves.png, confusion-matrix.png, mistakes.png (the worst), samples.png
      augmentation.png        with --augment: what each setting does to the pictures
      example.png             the first test picture, to try the model on
    """
    given = {name: ctx.params[name] for name in KINDS if ctx.params[name] is not None}
    if resume is None:
        settings = settle(given, read_config(config) if config else {})
    else:
        settings = settings_to_resume(resume, given | {"config": config, "out": out})
    run(settings, resume, out, as_json, quiet)


def settings_to_resume(folder: Path, given: dict[str, Any]) -> Settings:
    """Those of the run in `folder`. Raises ValueError if others are given, or epochs taken back."""
    others = [f"--{option(name)}" for name, value in given.items() if value is not None]
    others = [name for name in others if name not in ("--epochs", "--device")]
    if others:
        raise ValueError(f"--resume keeps the settings of the run: leave out {', '.join(others)}")
    if not (folder / CONFIG).is_file():
        raise Failed(f"there is no run in {folder}: it has no {CONFIG}")
    before = settle({}, read_config(folder / CONFIG)).recipe.epochs
    if given.get("epochs", before) < before:
        raise ValueError(f"--epochs can be raised only: the run in {folder} has {before}")
    return settle({k: v for k, v in given.items() if v is not None}, read_config(folder / CONFIG))


def run(settings: Settings, resume: Path | None, out: Path | None, as_json: bool, quiet: bool) -> None:
    """Make everything that can fail for a wrong setting first, the folder then, and train."""
    import xpnet
    from xpnet import data
    from xpnet.cli.data import load
    from xpnet.train import fit, recipes

    recipe = settings.recipe
    backend = xpnet.select(settings.device, settings.dtype, settings.seed)
    say(f"on {'the CPU' if backend.device == 'cpu' else backend.device}: {backend.why}", on_stderr=as_json)
    training, test = load(settings.data)
    validation = None
    if recipe.val:
        training, validation = data.split(training, recipe.val, settings.seed)
    model, loss, optimizer, schedule = recipes.build(recipe, training, backend)
    augment = recipes.AUGMENT if recipe.augment else None
    folder = resume or new_folder(settings.data, out)
    say(f"{training!r}, {model.n_parameters:,} parameters, results in {folder}", on_stderr=as_json)

    with kept(folder, model):
        clear_halves(folder)
        write_settings(folder, settings)
        result = fit(
            model, loss, optimizer, training, validation,
            epochs=recipe.epochs, batch_size=recipe.batch_size, schedule=schedule, clip=recipe.clip or None,
            augment=augment,
            patience=recipe.patience or None, keep_best=validation is not None,
            checkpoint=folder / CHECKPOINT, resume=True, quiet=quiet,
        )  # fmt: skip
        metrics, notes = write_results(folder, model, result, training, test, augment)
    if as_json:
        print_json(metrics)
    else:
        report(folder, metrics, notes)
    if result.stopped == "interrupted":
        raise Failed(f"interrupted in epoch {len(result.history) + 1} of {recipe.epochs}. {go_on(folder)}")


def new_folder(data: str, out: Path | None) -> Path:
    """`out`, which must be new or empty; or the next free runs/<data>-<number>."""
    if out is None:
        return next_folder(Path("runs"), Path(data).name)
    out.mkdir(parents=True, exist_ok=True)
    if any(not path.name.startswith(".") for path in out.iterdir()):
        raise ValueError(
            f"{out} is not empty: name a new folder, or go on with the run in it by --resume {quoted(out)}"
        )
    return out


def next_folder(parent: Path, name: str) -> Path:
    """Make the first of name-1, name-2, .. that does not exist. Two runs that start at once get one each."""
    parent.mkdir(exist_ok=True)
    n = 1
    while True:
        try:
            (parent / f"{name}-{n}").mkdir()
            return parent / f"{name}-{n}"
        except FileExistsError:
            n += 1


def clear_halves(folder: Path) -> None:
    """Take away the files that a killed run left half written."""
    for path in folder.glob(".*.part"):
        path.unlink(missing_ok=True)


def write_settings(folder: Path, settings: Settings) -> None:
    from xpnet.cli.results import write_text

    write_text(folder / CONFIG, to_toml(settings))


@contextmanager
def kept(folder: Path, model: Model) -> Iterator[None]:
    """Where the run fails inside the block, keep what there is, and say so."""
    from xpnet.train import NotFiniteError

    try:
        yield
    except NotFiniteError as error:
        model.save(folder / MODEL)
        raise Failed(f"{error} That model is kept: {folder / MODEL}") from None
    except OSError as error:
        _, line = verdict(error)
        raise Failed(f"cannot write the results: {line}. {go_on(folder)}") from None


def go_on(folder: Path) -> str:
    """The line that goes on with a run that was cut short."""
    if not (folder / CHECKPOINT).exists():
        return f"There is no checkpoint in {folder}."
    return f"The work is kept. To go on: xpnet train --resume {quoted(folder)}"


def write_results(
    folder: Path, model: Model, result: Result, training: Dataset, test: Dataset, augment: Augment | None
) -> tuple[dict[str, Any], list[str]]:
    """All files of the run but its settings and its checkpoint. Gives the metrics, and what could not be made."""
    from xpnet.cli import results
    from xpnet.doctor.machine import software
    from xpnet.train import plots

    model.save(folder / MODEL)
    results.write_history(folder / "history.csv", result.history)
    figures, probabilities = results.measure(model, test)
    metrics = {
        "model": str(folder / MODEL),
        **figures,
        "train_seconds": sum(row["seconds"] for row in result.history),
        "epochs": len(result.history),
        "best_epoch": result.best_epoch,
        "stopped": result.stopped,
        "versions": software(),
    }
    results.write_metrics(folder / "metrics.json", metrics)
    watched = any("validation_loss" in row for row in result.history)  # otherwise the last weights are kept
    plots.save(
        plots.learning_curves(result.history, result.best_epoch if watched else 0), folder / "learning-curves.png"
    )
    notes = results.write_test_pictures(folder, metrics, test, probabilities)
    if plots.is_pictures(training.x):
        plots.save(plots.samples(training), folder / "samples.png")
        if augment:
            plots.save(plots.augmentations(training, augment), folder / "augmentation.png")
        results.write_example(folder / EXAMPLE, test)
    return metrics, notes


def report(folder: Path, metrics: dict[str, Any], notes: list[str]) -> None:
    """What came of the run, for people."""
    wrong = round((1 - metrics["test_accuracy"]) * metrics["test_samples"])
    say(
        f"test accuracy {metrics['test_accuracy']:.2%} ({wrong:,} of {metrics['test_samples']:,} wrong), "
        f"{metrics['epochs']} epochs in {metrics['train_seconds']:.1f} s",
        style="bold",
    )
    if metrics["stopped"] and metrics["stopped"] != "interrupted":
        say(f"stopped early: {metrics['stopped']}")
    for note in notes:
        say(note)
    pictures = ", ".join(sorted(path.name for path in folder.glob("*.png") if path.name != EXAMPLE))
    say(f"look at: {pictures}, in {folder}")
    if (folder / EXAMPLE).exists():
        say(f"try it:  xpnet predict {quoted(folder / MODEL)} {quoted(folder / EXAMPLE)}")
    else:
        say(f"test it: xpnet evaluate {quoted(folder / MODEL)}")
