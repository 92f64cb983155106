"""A `Bench` as a table and as a plot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from xpnet.bench.measure import Bench


def table(found: Bench) -> str:
    """Each layer's time, then the whole step."""
    rows = [(r.path or "the whole", r.layer, r.forward, r.backward) for r in found.layers if r.forward + r.backward]
    head = ("path", "layer", "forward", "backward", "fraction")
    body = [(path, layer, in_time(f), in_time(b), f"{(f + b) / found.parts:.1%}") for path, layer, f, b in rows]
    body += [
        ("", "the loss", in_time(found.loss), "", f"{found.loss / found.parts:.1%}"),
        ("", "the update", in_time(found.update), "", f"{found.update / found.parts:.1%}"),
    ]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]

    def line(cells: Sequence[str]) -> str:
        texts = [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths, strict=True))]
        return "  ".join(texts).rstrip()

    rule = "-" * len(line(head))
    return "\n".join([line(head), rule, *map(line, body), rule, *summary(found)])


def summary(found: Bench) -> list[str]:
    """Lines about the whole step."""
    rate, samples = 1 / found.step, found.batch_size / found.step
    lines = [
        f"a step of {found.batch_size} samples on {found.device}: {in_time(found.step)} "
        f"({in_time(found.low)} to {in_time(found.high)}), {rate:,.0f} steps or {samples:,.0f} samples a second",
        f"its matrix products alone: {in_time(found.products)}, {found.products / found.step:.0%} of the step",
    ]
    return [*lines, *([f"steps run one by one: {found.eager}"] if found.eager else [])]


def comparison(found: Sequence[Bench]) -> str:
    """A line that compares the devices, the fastest first."""
    order = sorted(found, key=lambda one: one.step)
    others = (f"{one.device} takes {one.step / order[0].step:.1f} times as long" for one in order[1:])
    return f"{order[0].device} is the fastest; {', '.join(others)}"


def in_time(seconds: float) -> str:
    """ "12 µs", "3.4 ms", "1.20 s"."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"


def plot(found: Sequence[Bench]) -> Figure:
    """For each device a bar chart of the parts of a step, layer by layer, with the `summary` as its title."""
    from matplotlib.figure import Figure

    from xpnet.train.plots import TRAINING, VALIDATION

    layers = [row for row in found[0].layers if row.forward + row.backward]
    figure = Figure(figsize=(9, 1.6 + 0.3 * (len(layers) + 2) * len(found)), layout="constrained")
    all_axes: Any = figure.subplots(len(found), squeeze=False)[:, 0]
    for axes, one in zip(all_axes, found, strict=True):
        names = [f"{row.path} {row.layer}".strip() for row in layers] + ["the loss", "the update"]
        times = {(row.path, row.layer): row for row in one.layers}
        shown = [times[row.path, row.layer] for row in layers]
        places = [-i for i in range(len(names))]
        forward = [1e3 * row.forward for row in shown] + [1e3 * one.loss, 0.0]
        backward = [1e3 * row.backward for row in shown] + [0.0, 1e3 * one.update]
        axes.barh(places, forward, color=TRAINING, label="forward")
        axes.barh(places, backward, left=forward, color=VALIDATION, label="backward, update")
        axes.set_yticks(places, names, size=8)
        axes.set_xlabel("milliseconds of a step, layer by layer")
        axes.set_title("\n".join(summary(one)), size=9, loc="left")
        axes.spines[["top", "right"]].set_visible(False)
    all_axes[0].legend(frameon=False)
    return figure
