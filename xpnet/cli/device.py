"""The device of a run of `xpnet train`: the line about it, and `--device fastest`, which times some steps on each."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from xpnet.cli.settings import Settings

if TYPE_CHECKING:
    from xpnet import Backend
    from xpnet.data import Dataset
    from xpnet.train import Run

FASTEST = "fastest"
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
        raise ValueError(
            f"--device {FASTEST} compares a CPU, which has no precision {settings.precision}: name a device"
        )
    best = select("auto")
    if best.device == "cpu":
        tell("the CPU is the only device that works here, and so the fastest (xpnet doctor says why)")
        return replace(settings, device="cpu")
    seconds = fastest([select("cpu"), best], run_on)
    tell("ten steps on each device: " + ", ".join(f"{name} {in_time(s)} a step" for name, s in seconds.items()))
    return replace(settings, device=next(iter(seconds)))


def device_line(backend: Backend, asked: str | None, workers: int) -> str:
    """The line that says where the run is.

    The reason for not using a GPU is given once, and again when it has changed; `xpnet doctor` always gives it.
    """
    name = "the CPU" if backend.device == "cpu" else backend.device
    if backend.device == "cpu" and (asked or os.environ.get("XPNET_DEVICE") or "auto") == "auto":
        hint = f": {backend.why} (said once; xpnet doctor has it)" if is_news(backend.why) else ""
        return f"on the CPU, {in_threads(backend, workers)}{hint}"
    how = [in_threads(backend, workers)] if backend.device == "cpu" else []
    how += [f"{workers} workers"] if backend.device != "cpu" and workers > 1 else []
    how += [f"products in {backend.precision}"] if backend.precision else []
    return f"{', '.join([f'on {name}', *how])}: {backend.why}"


def in_threads(backend: Backend, workers: int) -> str:
    """How many processes and threads multiply, as text."""
    if workers > 1:
        return f"{workers} workers, {backend.threads or 1} BLAS thread{'s' * ((backend.threads or 1) > 1)} each"
    if backend.threads is None:
        return "on one thread unless steps are large (--threads N asks for more)"
    return f"on {backend.threads} BLAS thread{'s' if backend.threads > 1 else ''}"


def is_news(hint: str) -> bool:
    """Whether this hint differs from the last one, which is stored in the folder of the downloads."""
    from xpnet.data.datasets import cache_folder

    with suppress(OSError, ValueError):
        if (cache_folder() / "last-hint").read_text("utf-8") == hint:
            return False
    with suppress(OSError):
        cache_folder().mkdir(parents=True, exist_ok=True)
        (cache_folder() / "last-hint").write_text(hint, "utf-8")
    return True
