"""The settings of `xpnet train` that depend on the number of samples."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from xpnet.cli.settings import Settings
from xpnet.train.recipes import MODELS, Recipe

if TYPE_CHECKING:
    from xpnet.data import Dataset

FEWEST_TO_WATCH = 200  # samples of a validation part that nobody asked for: fewer tell little, and cost much


def fitted_to(settings: Settings, n_samples: int, one_will_do: bool = True) -> Settings:
    """The settings adapted to the number of samples, except where the user has asked for a value. Raises ValueError
    if the validation part would have all of them or none.

    The recipe's validation part is dropped if it would have fewer than FEWEST_TO_WATCH samples. Batches are no larger
    than the samples that are left to train on; and unless `one_will_do`, no batch is a single sample.
    """
    recipe = settings.recipe
    if "val" not in settings.changed and recipe.val * n_samples < FEWEST_TO_WATCH:
        recipe = recipe.but(val=0.0)
    n_trained = n_samples - round(recipe.val * n_samples)  # as `data.split` cuts
    if recipe.val and n_trained in (0, n_samples):
        left = "none of them for validation" if n_trained else "none of them to train on"
        raise ValueError(f"--val {recipe.val} of {n_samples} samples leaves {left}")
    if "batch_size" not in settings.changed:
        size = min(recipe.batch_size, n_trained)
        if not one_will_do:
            size = without_singles(size, n_trained, settings.workers)
        recipe = recipe.but(batch_size=size)
    return replace(settings, recipe=recipe)


def takes_one(recipe: Recipe, data: Dataset) -> bool:
    """Whether the recipe's model can train on a batch of a single sample of the data.

    Where its convolutions reduce an image to one pixel, the statistics of a batch need a second image.
    """
    from xpnet.data.images import is_images

    return not is_images(data.x) or max(data.x.shape[1:3]) >= MODELS[recipe.model].alone_from


def check_batches(settings: Settings, training: Dataset) -> None:
    """Raise ValueError, before an epoch of work, if some batch is a single sample and the model cannot train on one."""
    size, n, workers = settings.recipe.batch_size, len(training), settings.workers
    if takes_one(settings.recipe, training) or not has_single(size, n, workers):
        return
    better = without_singles(size, n, workers)
    if has_single(better, n, workers):
        raise ValueError(f"{n} samples for {workers} workers: the model {settings.recipe.model} needs two for each")
    of = f", shared by {workers} workers," if workers > 1 else ""
    other = f"--batch-size {better}{' or fewer --workers' if workers > 1 else ''}"
    raise ValueError(
        f"batch_size={size} of {n} samples{of} leaves a batch of a single sample, and the model "
        f"{settings.recipe.model} cannot train on one: use {other}"
    )


def without_singles(size: int, n_samples: int, workers: int) -> int:
    """The smallest batch size, from `size` up, that leaves no worker a single sample; if there is none, all samples."""
    while size < n_samples and has_single(size, n_samples, workers):
        size += 1
    return size


def has_single(size: int, n_samples: int, workers: int) -> bool:
    """Whether some worker gets a single sample of some batch: workers share each batch as evenly as they can."""
    return any(0 < batch < 2 * workers for batch in (size, n_samples % size))
