"""Plots of a run, as matplotlib figures. No function here shows anything, and only `save` writes a file.

The colours mean the same everywhere: blue is training and correct answers, orange is validation, red is a mistake.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

try:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator, PercentFormatter
except ModuleNotFoundError as error:
    raise ModuleNotFoundError('plots need matplotlib: pip install "xpnet[plots]"', name=error.name) from None

from xpnet.backend import select
from xpnet.data import Augment, Dataset
from xpnet.data.images import as_colours
from xpnet.files import replacing
from xpnet.train.run import Row

# Okabe and Ito's colours, which people with a colour vision deficiency can tell apart.
TRAINING, VALIDATION, MISTAKE, INK, FAINT = "#0072B2", "#E69F00", "#D55E00", "#222222", "#8A8A8A"
DPI = 130
PAGE = 11.0  # width of a sheet of images in inches
RATE = "learning rate"  # the name of the one panel that shows no metric
PERCENTS = (0, 20, 50, 80, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.98, 99.99, 100)  # ticks for accuracies
LINE = 0.2  # height of a line of text in a sheet, as a fraction of the image's height


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Write the figure to `path` as PNG; an existing file is replaced only once the new one is complete."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI)


def learning_curves(history: Sequence[Row], best_epoch: int = 0, title: str = "") -> Figure:
    """The loss and each metric by epoch, training next to validation, and below them the learning rate if recorded.

    A dotted line marks `best_epoch` (0: none). `title` may say what was trained on what, and with what result. The axis
    of the accuracy is stretched towards 100%: see `_towards_one`.
    """
    names = [key.removeprefix("train_") for key in (history[0] if history else ("train_loss",)) if key[:6] == "train_"]
    rated = any("lr" in row for row in history)
    figure = Figure(figsize=(5 * len(names), 4.2 + 1.2 * rated), layout="constrained")
    figure.suptitle(title, fontsize=12, parse_math=False)
    mosaic: Any = [names, [RATE] * len(names)] if rated else [names]
    panels = figure.subplot_mosaic(mosaic, height_ratios=[4, 1][: len(mosaic)])
    for name in names:
        _curve(panels[name], history, f"train_{name}", "training, while learning", TRAINING)
        _curve(panels[name], history, f"validation_{name}", "validation", VALIDATION)
        panels[name].set_title(name.capitalize() if name.isalpha() else name)
        panels[name].set_ylabel("mean loss" if name == "loss" else name)
    if rated:
        _curve(panels[RATE], history, "lr", RATE, INK)
        panels[RATE].set_ylabel("rate")
        panels[RATE].margins(y=0.15)
        panels[RATE].set_ylim(bottom=0)
    for name, axes in panels.items():
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, max(len(history), 1) + 0.5)
        axes.grid(color="#E3E3E3")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        if best_epoch:
            axes.axvline(best_epoch, color=FAINT, linestyle=":", zorder=0, label=f"best: epoch {best_epoch}")
        if history and name != RATE:
            axes.legend(frameon=False)
    if "accuracy" in panels:
        keys = ("train_accuracy", "validation_accuracy")
        _towards_one(panels["accuracy"], np.array([row[key] for row in history for key in keys if key in row]))
    if all(row.get(key, 0) >= 0 for row in history for key in ("train_loss", "validation_loss")):
        panels["loss"].set_ylim(bottom=0)
    return figure


def _towards_one(axes: Axes, values: np.ndarray) -> None:
    """Make the y axis logarithmic in the distance of these values from 1: 98% and 99% are as far apart as 80% and 90%.

    To every distance half of the smallest one above 0 is added, so that 1 has a place too.
    """
    missing = 1 - values
    least = min(missing[missing > 0], default=0.01) / 2

    def place(accuracy: Any) -> Any:
        return -np.log10(np.maximum(1 - np.asarray(accuracy) + least, 1e-3 * least))

    axes.set_yscale("function", functions=(place, lambda y: 1 + least - 10.0 ** -np.asarray(y)))
    low, high = place(values.min()), place(values.max())
    margin = 0.06 * (high - low) + 0.02
    axes.set_ylim(1 + least - 10.0 ** -(low - margin), 1 + least - 10.0 ** -(high + margin))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.set_ylabel("right answers, stretched towards 100%")
    ticks: list[float] = []
    for percent in reversed(PERCENTS):
        y = place(percent / 100)
        if low - margin <= y <= high + margin and (not ticks or place(ticks[-1]) - y > 0.06 * (high - low)):
            ticks.append(percent / 100)
    if len(ticks) >= 3:
        axes.set_yticks(ticks, [f"{100 * tick:.6g}%" for tick in ticks])


def _curve(axes: Axes, history: Sequence[Row], key: str, label: str, colour: str) -> None:
    points = [(row["epoch"], row[key]) for row in history if key in row]
    if points:
        marker = "o" if len(points) <= 30 else ""  # points for few epochs, a line alone for many
        axes.plot(*zip(*points, strict=True), color=colour, label=label, marker=marker, markersize=4)


def confusion_matrix(confusion: np.ndarray, classes: Sequence[str]) -> Figure:
    """How often samples of each class (row) were taken for each class (column), for a matrix of counts (C, C).

    Mistakes are shaded by their fraction of the row, relative to the largest such fraction: on one scale with the
    correct answers they would all be white. Counts are written where there is room for them (up to 30 classes).
    """
    n = len(classes)
    right, total = int(np.trace(confusion)), max(int(confusion.sum()), 1)
    side = min(max(0.55 * n + 1.6, 5.0), 14.0)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.subplots()
    fraction = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    off_diagonal = fraction * (1 - np.eye(n))
    shades = _mix("#FFFFFF", MISTAKE, off_diagonal / max(off_diagonal.max(), 1e-9))
    diagonal = np.arange(n)
    shades[diagonal, diagonal] = _mix("#FFFFFF", TRAINING, 0.75 * fraction[diagonal, diagonal])
    axes.imshow(shades)
    if n <= 30:
        for i, j in np.argwhere(confusion):
            colour = _readable_on(shades[i, j])
            axes.text(j, i, f"{confusion[i, j]}", ha="center", va="center", color=colour, fontsize=10 if n <= 12 else 8)
    every = math.ceil(n / 40)  # labels that would not fit are left out
    names = [_short(name) for name in classes]
    axes.set_xticks(
        range(0, n, every), names[::every], rotation=90 if max(map(len, names)) > 2 else 0, parse_math=False
    )
    axes.set_yticks(range(0, n, every), names[::every], parse_math=False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true class")
    title = f"{right:,} of {total:,} right: {right / total:.2%}\nmistakes in orange: the darker, the more"
    figure.suptitle(title, fontsize=12)
    axes.set_xticks(np.arange(n + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(n + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="#E3E3E3", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    return figure


def _short(name: str) -> str:
    return name if len(name) <= 14 else f"{name[:13]}…"


def _mix(low: str, high: str, fraction: np.ndarray) -> np.ndarray:
    """Colours (..., 3) between two colours given as #RRGGBB."""
    ends = [np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255 for colour in (low, high)]
    return ends[0] + np.asarray(fraction)[..., None] * (ends[1] - ends[0])


def _readable_on(colour: np.ndarray) -> str:
    """Black or white, whichever has the higher contrast (WCAG 2.2): 4.58 or more on any colour."""
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return "black" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "white"


def mistakes(data: Dataset, probabilities: np.ndarray, limit: int = 40) -> Figure:
    """The worst mistakes first: the image, its label, the predicted class, and with what probability.

    `probabilities` (N, C) are the model's for the samples of `data`. Raises ValueError if the samples are not images.
    """
    sure = probabilities.max(axis=1)
    taken = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(taken != data.y)
    shown = wrong[np.argsort(-sure[wrong], kind="stable")][:limit]
    captions = [(_short(data.classes[data.y[i]]), f"{_short(data.classes[taken[i]])}, {sure[i]:.0%}") for i in shown]
    title = f"{len(wrong):,} of {len(data):,} wrong" + (f"; the {len(shown)} worst" if len(shown) < len(wrong) else "")
    if len(wrong):
        title += "\nabove each: its class; in orange what it was taken for, and how surely"
    return _sheet(as_colours(data.x[shown]), captions, title, columns=8)


def samples(data: Dataset) -> Figure:
    """A grid of 60 samples with their labels: every n-th one, so that they come from all of the data.

    Raises ValueError if the samples are not images.
    """
    n = min(60, len(data))
    shown = np.arange(n) * len(data) // n
    captions = [(_short(data.classes[data.y[i]]),) for i in shown]
    return _sheet(
        as_colours(data.x[shown]), captions, f"{len(shown)} of {len(data):,} samples: {data.name}", columns=10
    )


def augmentations(data: Dataset, augment: Augment, seed: int = 0) -> Figure:
    """What `augment` does to ten images of `data`: unchanged, changed by each of its settings alone, and by all of
    them.

    Every row draws the same random numbers, so the last row is the combination of the others. They come from a random
    stream of the plot's own, so plotting changes no other result. Raises ValueError for samples other than uint8 (N, H,
    W) or (N, H, W, C).
    """
    settings = {name: value for name, value in asdict(augment).items() if value}
    rows = {f"{name} {value:g}": Augment(**{name: value}) for name, value in settings.items()}
    rows = {"as they are": Augment(), **rows, "all together": augment}
    columns = 10
    n = min(columns, len(data))
    x = data.x[np.argsort(data.y, kind="stable")[(2 * np.arange(n) + 1) * len(data) // (2 * n)]]  # from all classes
    images = as_colours(np.concatenate([change(x, select("cpu", seed=seed)) for change in rows.values()]))

    title = f"Augmented images of {data.name}\neach setting alone, and its largest amount; then all of them"
    return _sheet(images, [()] * len(images), title, columns=n, labels=list(rows))


def _sheet(
    images: np.ndarray, captions: Sequence[tuple[str, ...]], title: str, columns: int, labels: Sequence[str] = ()
) -> Figure:
    """Images in rows, each below the lines of its caption, the second line in the colour of a mistake.

    `labels` stand to the left of the rows.
    """
    n, height, width = images.shape[:3]
    rows, lines = math.ceil(n / columns), max((len(caption) for caption in captions), default=0)
    # In units of one image's height: a cell is its lines of text and the image.
    shape, space = width / height, 0.1 * width / height
    cell_width, cell_height = shape + space, lines * LINE + 1.1
    # In inches.
    margin = 0.13 * PAGE if labels else 0.0
    across = max(columns, 8) * cell_width - space  # few images are not drawn larger
    unit = (PAGE - margin) / across
    head = 0.45 + 0.2 * title.count("\n")
    page_height, page_width = max(rows, 0.1) * cell_height * unit + head, PAGE + 0.3
    figure = Figure(figsize=(page_width, page_height))
    figure.text(0.5, 1 - 0.1 / page_height, title, fontsize=12, ha="center", va="top", parse_math=False)
    left, width_of_all = (0.15 + margin) / page_width, (PAGE - margin) / page_width
    axes = figure.add_axes((left, 0, width_of_all, 1 - head / page_height))
    longest = max((len(line) for caption in captions for line in caption), default=1)
    size = 72 * unit * min(0.7 * LINE, cell_width / (0.65 * longest))  # what fits, in points
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left, top = (i % columns) * cell_width, (i // columns) * cell_height
        bottom = top + lines * LINE + 1
        axes.imshow(image, extent=(left, left + shape, bottom, bottom - 1), interpolation="nearest")
        for j, (line, colour) in enumerate(zip(caption, (INK, MISTAKE), strict=False)):
            y = top + (j + 0.9) * LINE
            axes.text(left, y, line, color=colour, va="baseline", fontsize=min(size, 12), parse_math=False)
    for i, label in enumerate(labels):
        y = i * cell_height + 0.5
        axes.text(-0.12, y, label, color=INK, ha="right", va="center", fontsize=12, parse_math=False)
    axes.set(xlim=(0, across), ylim=(max(rows, 0.1) * cell_height, 0), aspect="equal")
    axes.axis("off")
    return figure
