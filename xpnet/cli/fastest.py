"""`xpnet train --device fastest`: some steps of the run on each device decide."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from xpnet.cli.settings import Settings

if TYPE_CHECKING:
    from xpnet import Backend
    from xpnet.data import Dataset
    from xpnet.train import Run

NAME = "fastest"
BATCHES = 4


def on_fastest(settings: Settings, training: Dataset, tell: Callable[[str], object]) -> Settings:
    """The settings with the device on which ten steps take the least time: the CPU, or the GPU if one works."""
    import xpnet
    from xpnet.bench import fastest
    from xpnet.bench.report import in_time
    from xpnet.train import Run, recipes

    def select(name: str) -> Backend:
        return xpnet.select(name, settings.dtype, settings.seed, settings.threads)

    def run_on(backend: Backend) -> Run:
        recipe, part = settings.recipe, training[: settings.recipe.batch_size * BATCHES]
        model, loss, optimizer, schedule = recipes.build(recipe, part, backend)
        augment = recipes.MODELS[recipe.model].augment if recipe.augment else None
        return Run(model, loss, optimizer, part, recipe.batch_size, schedule, recipe.clip or None, augment, metrics=())

    if settings.precision is not None:
        raise ValueError(f"--device {NAME} compares a CPU, which has no precision {settings.precision}: name a device")
    best = select("auto")
    if best.device == "cpu":
        tell("the CPU is the only device that works here, and so the fastest (xpnet doctor says why)")
        return replace(settings, device="cpu")
    seconds = fastest([select("cpu"), best], run_on)
    tell("ten steps on each device: " + ", ".join(f"{name} {in_time(s)} a step" for name, s in seconds.items()))
    return replace(settings, device=next(iter(seconds)))
