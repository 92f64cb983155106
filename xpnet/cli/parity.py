"""`xpnet parity`: do the devices of this machine compute the same numbers?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xpnet.cli import options
from xpnet.cli.console import check_plot, complain, print_json, say

if TYPE_CHECKING:
    from xpnet.data import Dataset
    from xpnet.verify.parity_result import Comparison, Parity

    Line = dict[str, Comparison]


def parity(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="The file of a model, or the folder of its run. [default: cases of all layers, losses and optimizers]",
            callback=options.model_file,
            readable=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Samples for MODEL: digits, mnist, cifar10, a folder, or a table. [default: random numbers]"),
    ] = None,
    batch: Annotated[int, typer.Option(help="Samples in a batch, for MODEL.", min=1)] = 8,
    steps: Annotated[int, typer.Option(help="Steps of training to compare.", min=1)] = 50,
    precision: Annotated[
        str | None, typer.Option(help="float16 or bfloat16: compare the GPU alone, with products of 16-bit numbers.")
    ] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with plots too.")] = None,
    as_json: options.Json = False,
    require_gpu: Annotated[bool, typer.Option("--require-gpu", help="Fail if no GPU can be compared.")] = False,
) -> None:
    """Compare CPU and GPU, number by number.

    The reference is float64 on the CPU. Float32 on the CPU and on the GPU are compared with it: outputs, input
    gradients, the gradient of every parameter, a step of an optimizer, and a loss curve. An error larger than
    rounding explains is a difference: exit code 1. Without a GPU, a strict device stands in for it: a CPU that accepts
    only what a GPU accepts.

    \b
    ulps     the largest error, in units in the last place of float32 at the tensor's largest number
    allowed  the error as a fraction of the error that rounding may cause there
    """
    import xpnet
    from xpnet.cli import results, tables
    from xpnet.cli.data import load_for
    from xpnet.files import replacing
    from xpnet.verify.parity import parity as compare

    if data is not None and model is None:
        raise typer.BadParameter("samples for which model? Name one too.", param_hint="--data")
    if html:
        check_plot("--html", html, ".html")
    opened = xpnet.load(model, "cpu") if model else None
    samples: Dataset | None = None
    if data is not None and opened is not None:
        if tables.is_table(data):
            samples = tables.rows_for(opened, data)
        else:
            _, test = load_for(opened, data, whole=True)
            samples = results.as_model_counts(opened, test, data)
    found = compare(opened, samples, batch, steps, precision=precision)
    if as_json:
        print_json(found.to_dict())
    else:
        show(found)
    if html:
        from xpnet.verify.parity_page import page

        with replacing(html) as temporary:
            Path(temporary).write_text(page(found), "utf-8")
        say(f"page: {html}", on_stderr=as_json)
    if require_gpu and not found.gpu:
        complain(f"a GPU is required. {found.notes[0]}")
    if not found.ok or (require_gpu and not found.gpu):
        raise typer.Exit(1)


def show(found: Parity) -> None:
    """Print a table, the gaps of the loss curves, what could not be compared, and the verdict."""
    from rich.console import Console
    from rich.measure import Measurement
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("\nagainst float64", overflow="fold", min_width=15)
    for device in found.devices:
        table.add_column(f"{device.name}\nulps", justify="right", no_wrap=True)
        table.add_column("\nallowed", justify="right", no_wrap=True)
    table.add_column("\nverdict", no_wrap=True)
    for title, lines in summary(found):
        table.add_row(title, style="bold")
        for what, line in lines:
            table.add_row(f"  {what}", *cells(line), style="" if all(row.ok for row in line.values()) else "bold red")
    for column in table.columns[1:]:  # never cut in a narrow terminal: a number without its end is another number
        column.min_width = max(len(line) for text in (column.header, *column.cells) for line in str(text).split("\n"))
    console = Console(highlight=False, markup=False)
    needed = Measurement.get(console, console.options.update(max_width=1000), table).minimum
    console.width = max(needed, console.width)
    console.print(table)
    say(f"\ntraining: {found.training.what}")
    for name, gap in found.training.gaps.items():
        say(f"  largest gap of the loss curve on {name}: {gap:.1e} of its largest loss")
    for name, problem in found.training.problems.items():
        say(f"  {name}: {problem}", style="red")
    say("")
    for note in found.notes:
        say(note)
    say(found.verdict, style="bold green" if found.ok else "bold red")


def summary(found: Parity) -> list[tuple[str, list[tuple[str, Line]]]]:
    """What the table shows, as (title, [(what, rows by device)]): of many cases of one thing, only the worst."""
    parts: dict[str, list[tuple[str, Line]]] = {}
    cases: dict[str, list[Line]] = {}
    for line in found.lines():
        row = next(iter(line.values()))
        of, colon, _ = row.part.partition(": ")
        if colon:
            cases.setdefault(of, []).append(line)
        else:
            parts.setdefault(row.part, []).append((row.what, line))
    if cases:
        parts = {"the worst of": [(f"{of}, {len(lines)} cases", worst(lines)) for of, lines in cases.items()], **parts}
    return list(parts.items())


def worst(lines: list[Line]) -> Line:
    """On each device, the row whose error is the largest fraction of what is allowed."""
    return {device: max((line[device] for line in lines), key=lambda row: row.fraction) for device in lines[0]}


def cells(line: Line) -> list[str]:
    """For each device the ulps and the fraction of what is allowed, and at the end the worst verdict of all devices."""
    texts = []
    for row in line.values():
        texts += ["", "error"] if row.problem else [f"{row.ulps:.2g}", f"{row.fraction:.2g}"]
    verdicts = [row.verdict for row in line.values()]
    return [*texts, max(verdicts, key=["same bits", "rounding", "differs"].index)]
