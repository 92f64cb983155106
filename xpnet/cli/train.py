"""`xpnet train`: train, test, and write all results to a folder."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from xpnet.arguments import counted
from xpnet.cli import options
from xpnet.cli.console import Failed, command, print_json, quoted, say
from xpnet.cli.device import FASTEST, device_line, on_fastest
from xpnet.cli.fitting import check_batches, fitted_to, takes_one
from xpnet.cli.run_folder import (
    CHECKPOINT,
    CONFIG,
    check_tensorboard,
    clear_halves,
    event_file,
    go_on,
    kept,
    new_folder,
    only_run_in,
    with_settings,
)
from xpnet.cli.settings import KINDS, Settings, in_words, option, read_config, settle
from xpnet.cli.workers import check_cores, device_for, started
from xpnet.files import MODEL

if TYPE_CHECKING:
    from xpnet import Backend, Model
    from xpnet.data import Augment, Dataset
    from xpnet.parallel import Group
    from xpnet.train import Result
    from xpnet.train.callbacks import Callback
    from xpnet.train.recipes import Recipe

EXAMPLE = "example.png"
CHANGEABLE = ("epochs", "device", "threads", "workers", "tensorboard")  # by a resumed run


def train(
    ctx: typer.Context,
    data: options.Data = None,
    size: options.Size = None,
    target: options.Target = None,
    recipe: options.RecipeName = None,
    model: options.ModelName = None,
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
    task: options.Task = None,
    ignore: options.Ignore = None,
    categories: options.Categories = None,
    missing: options.Missing = None,
    unseen: options.Unseen = None,
    seed: options.Seed = None,
    device: options.TrainDevice = None,
    dtype: options.Dtype = None,
    precision: options.Precision = None,
    threads: options.Threads = None,
    workers: options.Workers = None,
    tensorboard: options.TensorBoard = None,
    config: options.Config = None,
    out: options.Out = None,
    resume: options.Resume = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a network, and test it.

    The network learns to tell the classes of a data set apart, or to predict the numbers in a column of a table. By
    default it is made of fully connected layers; see xpnet models for others.

    \b
    xpnet train --data customers.csv --target churn

    \b
    The run writes into its folder
      model.safetensors       for xpnet predict, xpnet evaluate and xpnet.load
      config.toml             to repeat the run, with --config
      checkpoint.safetensors  to continue the run, with --resume: after Ctrl-C or a kill, or for more --epochs
      diverged.safetensors    if the loss becomes NaN or infinite: the model just before that, to inspect
      metrics.json            accuracy, scores of each class, confusion matrix (up to 200 classes), time, device
      history.csv             loss, accuracy and learning rate of every epoch
      learning-curves.png, confusion-matrix.png, mistakes.png (the worst), samples.png
      augmentation.png        with --augment: what each setting does to the images
      example.png             the first test image, to try the model on
      events.out.tfevents.*   with --tensorboard
    Without matplotlib (pip install "xpnet[plots]") example.png is the only image.
    """
    given = {name: ctx.params[name] for name in KINDS if ctx.params[name] is not None}
    if resume is None:
        settings = settle(given, read_config(config) if config else {})
    else:
        settings = settings_to_resume(resume, given | {"config": config, "out": out})
    check_cores("threads", settings.threads)
    group = started(settings.workers, workers)
    run(replace(settings, workers=group.size), group, resume, out, as_json, quiet)


def settings_to_resume(folder: Path, given: dict[str, Any]) -> Settings:
    """The settings of the run in `folder`, with the changes in `given`.

    Raises ValueError if a setting that is not CHANGEABLE is given, or fewer epochs than before.
    """
    others = [f"--{option(name)}" for name, value in given.items() if value is not None and name not in CHANGEABLE]
    if others:
        raise ValueError(f"--resume keeps the settings of the run: leave out {', '.join(others)}")
    if not (folder / CONFIG).is_file():
        raise Failed(f"there is no run in {folder}: it has no {CONFIG}")
    before = settle({}, read_config(folder / CONFIG)).recipe.epochs
    if given.get("epochs", before) < before:
        raise ValueError(f"--epochs can only be raised: the run in {folder} has {before}")
    return settle({k: v for k, v in given.items() if v is not None}, read_config(folder / CONFIG))


def run(settings: Settings, group: Group, resume: Path | None, out: Path | None, as_json: bool, quiet: bool) -> None:
    """Train: first do everything that can fail because of a wrong setting, and only then make the folder."""
    import xpnet
    from xpnet import data
    from xpnet.cli import results, tables
    from xpnet.parallel.group import in_all
    from xpnet.train import fit, r2, recipes

    first = group.rank == 0  # only the first process prints and writes
    tell = partial(say, on_stderr=as_json) if first else lambda line: None
    if settings.tensorboard:
        group.first(check_tensorboard)
    if settings.device == FASTEST:
        if group.size > 1:
            raise ValueError(f"--device {FASTEST} is for one process: name a device for several workers")
        samples = loaded(settings)[0]
        fitted = settings if resume else fitted_to(settings, len(samples), takes_one(settings.recipe, samples))
        settings = on_fastest(fitted, samples, tell)
    device = device_for(settings.device, group)
    backend = xpnet.select(device, settings.dtype, settings.seed, settings.threads, settings.precision)
    tell(device_line(backend, settings.device, group.size))
    training, test = loaded(settings)
    trained_on = training.digest()  # of all of it, the validation part included
    if resume is None:  # else they were fitted when the run began
        settings = fitted_to(settings, len(training), takes_one(settings.recipe, training))
    recipe = settings.recipe
    check_rate(recipe.lr, backend)
    notes = tables.in_words(training) if isinstance(training, data.Table) else results.limits(training, settings.data)
    validation = None
    if recipe.val:
        training, validation = data.split(training, recipe.val, settings.seed)
    model, loss, optimizer, schedule = recipes.build(recipe, training, backend)
    check_batches(settings, training)
    augment = recipes.MODELS[recipe.model].augment if recipe.augment else None
    folder = resume or group.first(lambda: new_folder(settings.data, out))
    tell(f"{training!r}, {model.n_parameters:,} parameters, results in {folder}")
    if recipe.label_smoothing:
        notes.append(f"the loss with label smoothing cannot fall below {lowest_loss(recipe, training):.3f}")
    for line in (in_words(settings), *notes):
        tell(line)

    callbacks: list[Callback] = []
    with ExitStack() as inside:
        if first:
            inside.enter_context(only_run_in(folder))
            inside.enter_context(kept(folder, model))
            if resume:
                clear_halves(folder)
            if settings.tensorboard:
                callbacks.append(inside.enter_context(event_file(folder)))
            inside.enter_context(with_settings(folder, settings))
        result = fit(
            model, loss, optimizer, training, validation,
            epochs=recipe.epochs, batch_size=recipe.batch_size, schedule=schedule, clip=recipe.clip or None,
            augment=augment, metrics=None if training.classes else [r2],
            patience=recipe.patience or None, keep_best=validation is not None,
            callbacks=callbacks, checkpoint=folder / CHECKPOINT, resume=True, quiet=quiet, group=group,
        )  # fmt: skip
        if first:
            what = f"{Path(settings.data).name}, {recipe.model} of {model.n_parameters:,} parameters"
            metrics, notes = write_results(folder, what, model, result, training, test, trained_on, augment)
            if settings.tensorboard:
                notes.append(f"events: tensorboard --logdir {quoted(folder)}")
    if first and as_json:
        print_json(metrics)
    elif first:
        report(folder, metrics, notes)
    if result.stopped == "interrupted":
        raise in_all(Failed(f"interrupted in epoch {len(result.history) + 1} of {recipe.epochs}. {go_on(folder)}"))


def loaded(settings: Settings) -> tuple[Dataset, Dataset]:
    """The data to train on, and the data to test with."""
    from xpnet.cli import tables
    from xpnet.cli.data import load

    return tables.load(settings) if tables.is_table(settings.data) else load(settings.data, settings.size)


def check_rate(lr: float, backend: Backend) -> None:
    """Raise ValueError for a learning rate that the dtype cannot hold. Twice the rate occurs in a schedule."""
    import numpy as np

    if lr > float(np.finfo(backend.dtype).max) / 2:
        raise ValueError(f"lr {lr:g} is more than {backend.dtype} can hold")


def lowest_loss(recipe: Recipe, data: Dataset) -> float:
    """The mean loss of perfect answers: the entropy of the targets that label smoothing has spread over all classes."""
    n, spread = len(data.classes), recipe.label_smoothing / len(data.classes)
    return -sum(times * q * math.log(q) for times, q in ((1, 1 - spread * (n - 1)), (n - 1, spread)))


def write_results(
    folder: Path,
    what: str,
    model: Model,
    result: Result,
    training: Dataset,
    test: Dataset,
    trained_on: str,
    augment: Augment | None,
) -> tuple[dict[str, Any], list[str]]:
    """Write all files of the run except its settings and its checkpoint.

    `what` describes data and model in the title of the curves; `trained_on` is the digest of all training data. Returns
    the metrics, and notes on what could not be made.
    """
    from xpnet.cli import results
    from xpnet.data.images import is_images
    from xpnet.doctor.machine import software

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
        "trained_on": trained_on,
        "versions": software(),
    }
    results.write_metrics(folder / results.METRICS, metrics)
    if results.are_pixels(test.x):
        results.write_example(folder / EXAMPLE, test)
    images = {
        "learning-curves.png": lambda plots: plots.learning_curves(
            result.history, result.best_epoch if is_watched(result) else 0, f"{what}\n{results.headline(metrics)}"
        ),
        **results.images_of_test(metrics, test, probabilities),
    }
    if is_images(training.x):
        images["samples.png"] = lambda plots: plots.samples(training)
    if augment:
        images["augmentation.png"] = lambda plots: plots.augmentations(training, augment)
    notes = results.draw(folder, images)
    if not is_watched(result):
        notes.append("no validation part: with --val 0.1 the curves show whether the network over-fits")
    return metrics, notes


def is_watched(result: Result) -> bool:
    """Whether there was a validation part; without one, the last weights are kept."""
    return any("validation_loss" in row for row in result.history)


def report(folder: Path, metrics: dict[str, Any], notes: list[str]) -> None:
    """Print the results of the run, for people."""
    from xpnet.cli.results import headline

    say(f"{headline(metrics)}, {counted(metrics['epochs'], 'epoch')} in {metrics['train_seconds']:.1f} s", style="bold")
    if metrics["stopped"] and metrics["stopped"] != "interrupted":
        say(f"stopped early: {metrics['stopped']}")
    for note in notes:
        say(note)
    images = ", ".join(sorted(path.name for path in folder.glob("*.png") if path.name != EXAMPLE))
    if images:
        say(f"look at: {images}, in {folder}")
    if (folder / EXAMPLE).exists():
        say(f"try it:  {command('predict', folder / MODEL, folder / EXAMPLE)}")
    else:
        say(f"test it: {command('evaluate', folder / MODEL)}")
