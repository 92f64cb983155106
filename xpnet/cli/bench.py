"""`xpnet bench`: how fast a training step is here, and where its time goes."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from xpnet.cli import options
from xpnet.cli.console import check_plot, print_json, say
from xpnet.cli.workers import check_cores

if TYPE_CHECKING:
    from xpnet import Backend, Model


def bench(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="The file of a model, or the folder of its run. [default: a new network, as --model says]",
            callback=options.model_file,
            readable=False,
        ),
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            "--model", help="Without MODEL: a network that xpnet models lists, for images of 28 x 28. [default: mlp]"
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Samples in a step.", min=1)] = 64,
    device: Annotated[
        list[str] | None,
        typer.Option(help="Where; may be given more than once. [default: the CPU, and a GPU if one works]"),
    ] = None,
    dtype: options.Dtype = None,
    threads: options.Threads = None,
    seconds: Annotated[float, typer.Option(help="About how long to measure on each device.", min=0.01)] = 2.0,
    image: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.png", help="Draw the parts of a step into this file.")
    ] = None,
    as_json: options.Json = False,
) -> None:
    """Time a training step, layer by layer.

    Each row is the time that one layer takes in a step, forward and backward, without the layers inside it. Below are
    the times of the whole step, as xpnet train runs it, and of its matrix products alone: however the layers are
    written, a step cannot be faster than these. Other programs that run meanwhile make all times longer.
    """
    from xpnet.bench import bench as measure
    from xpnet.bench.report import comparison, plot

    if model is not None and kind is not None:
        raise typer.BadParameter(f"{model} is a network already: name one of the two", param_hint="--model")
    if image is not None:
        check_plot("--plot", image, ".png")
    check_cores("threads", threads)
    found = []
    for backend in backends(device, dtype or "float32", threads):
        result = measure(opened(model, kind or "mlp", backend), batch_size, seconds=seconds)
        found.append(result)
        say(f"{result}\n", on_stderr=as_json)
    if len(found) > 1:
        say(comparison(found), style="bold", on_stderr=as_json)
    if as_json:
        print_json({"devices": [asdict(result) for result in found]})
    if image is not None:
        from xpnet.train.plots import save

        save(plot(found), image)


def backends(asked: list[str] | None, dtype: str, threads: int | None) -> list[Backend]:
    """The backends that were asked for; without any, the CPU, and the GPU if one works."""
    import xpnet

    if asked:
        return [xpnet.select(name, dtype, threads=threads) for name in asked]
    first = xpnet.select("auto", dtype, threads=threads)
    cpu = xpnet.select("cpu", dtype, threads=threads)
    return [cpu] if first.device == "cpu" else [cpu, first]


def opened(path: Path | None, kind: str, backend: Backend) -> Model:
    """The model in the file; without a file, a new one for MNIST's images. Raises ValueError for an unknown kind."""
    import xpnet
    from xpnet.nn import Sequential, Standardize
    from xpnet.train.recipes import MNIST, MODELS

    if path is not None:
        return xpnet.load(path, "cpu", backend.dtype.name).to(backend)
    if kind not in MODELS:
        raise ValueError(f"unknown model {kind!r}: choose one of {', '.join(MODELS)}")
    inner = MODELS[kind].make(MNIST.but(model=kind), (28, 28), 10)
    return xpnet.Model(Sequential(Standardize(33.3, 78.6), *inner.layers), (28, 28), backend, list("0123456789"))
