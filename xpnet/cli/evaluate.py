"""`xpnet evaluate`: how good a model is on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xpnet.cli import options
from xpnet.cli.console import check_output, escaped, print_json, quoted, say
from xpnet.cli.run_folder import CONFIG
from xpnet.files import DATA_SETS, expanded


def evaluate(
    model: options.ModelFile,
    data: Annotated[
        str | None,
        typer.Option(
            help="digits, mnist, cifar10, a folder or a table. If it has a test part, only that is used; otherwise all "
            "images or rows are. But of the run's own data, and of images if the model is not in the folder of a run, "
            "only the part that a run holds out is used. [default: the run's data]"
        ),
    ] = None,
    device: options.Device = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Write metrics.json and images there too.")] = None,
    as_json: options.Json = False,
) -> None:
    """Measure a model on test data.

    Gives the accuracy, and precision, recall and F1 of each class; for a regression, R2 and the mean errors.
    """
    import xpnet
    from xpnet.cli import results, tables
    from xpnet.cli.data import load_for

    if out is None:
        check_output()
    elif (out / CONFIG).is_file():
        raise ValueError(
            f"{out} is the folder of a run, whose own {results.METRICS} would be lost: name another, such as "
            f"--out {quoted(out / 'evaluated')}"
        )
    opened = xpnet.load(model, device)
    own = data_of(model)
    source = own if data is None else data
    if source is None:
        raise ValueError(f"which data? There is no {CONFIG} beside {model} that names them: use --data")
    of_run = own is not None and are_same(source, own)
    of_table = tables.is_table(source)
    if of_table:
        rows = tables.rows_for(opened, source)
        training, test = tables.parts(rows) if of_run else (rows, rows)
    else:
        training, test = load_for(opened, source, whole=own is not None and not of_run)
    trained_on = results.trained_on(model.parent)
    if of_run and trained_on and trained_on["trained_on"] != training.digest():
        changed = "the data have changed since the run: the model may have been trained on some of these test samples"
        say(changed, on_stderr=as_json)
    test = results.as_model_counts(opened, test, source)
    metrics, probabilities = results.measure(opened, test)
    metrics = {"model": str(model), "data": test.name, **metrics, **trained_on}
    notes = []
    if out:
        out.mkdir(parents=True, exist_ok=True)
        results.write_metrics(out / results.METRICS, metrics)
        notes = results.draw(out, results.images_of_test(metrics, test, probabilities))
    if as_json:
        print_json(metrics)
        return
    notes += [] if of_table else results.limits(test, source)
    loss = f", loss {metrics['test_loss']:.4f}" if "test_loss" in metrics else ""
    say(f"{results.headline(metrics)}{loss}: {test!r}", style="bold")
    if test.classes:
        scores_of_classes(metrics)
    for note in notes:
        say(note)


def are_same(one: str, other: str) -> bool:
    """Whether two names mean the same data, whatever path leads to it."""
    if one in DATA_SETS or other in DATA_SETS:
        return one == other
    return expanded(one).resolve() == expanded(other).resolve()


def scores_of_classes(metrics: dict[str, Any]) -> None:
    """Print a line for each class."""
    from rich.cells import cell_len, set_cell_size  # a Chinese character is two columns wide in a terminal

    names = [escaped(row["class"]) for row in metrics["classes"]]
    width = max(5, *map(cell_len, names))
    say(f"{'class':<{width}}  precision  recall      F1  samples")
    for name, row in zip(names, metrics["classes"], strict=True):
        scores = f"{row['precision']:>9.1%}  {row['recall']:>6.1%}  {row['f1']:>6.1%}  {row['support']:>7,}"
        say(f"{set_cell_size(name, width)}  {scores}")


def data_of(model: Path) -> str | None:
    """The data set of the run whose folder holds the model; None if it is not in the folder of a run."""
    from xpnet.cli.settings import read_config

    config = model.parent / CONFIG
    return read_config(config).get("data", "digits") if config.is_file() else None
