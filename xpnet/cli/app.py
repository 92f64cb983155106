"""The list of commands. Each is a function in a file of its own, which imports heavy modules only when it runs."""

from __future__ import annotations

import signal
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from xpnet.cli import leave
from xpnet.cli.bench import bench
from xpnet.cli.console import Failed, complain, verdict
from xpnet.cli.data import show_data
from xpnet.cli.evaluate import evaluate
from xpnet.cli.export import export
from xpnet.cli.models import show_models
from xpnet.cli.parity import parity
from xpnet.cli.predict import predict
from xpnet.cli.serve import serve
from xpnet.cli.train import train
from xpnet.parallel.mpi import joined


class Commands(TyperGroup):
    """Turns errors that the user can fix, and Ctrl-C, into one line on standard error and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        if signal.getsignal(signal.SIGINT) is leave:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            return super().invoke(ctx)
        except (Exception, KeyboardInterrupt) as error:
            code, line = verdict(error)
            if not code:
                raise
            joined().fail(error, lambda: complain(line), code)
            raise typer.Exit(code) from (error if isinstance(error, Failed) else None)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(asked: bool) -> None:
    if asked:
        from xpnet import __version__

        typer.echo(f"xpnet {__version__}")
        raise typer.Exit


@app.callback()
def xpnet(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version, and exit.")
    ] = False,
) -> None:
    """Train a neural network on this machine's CPU or GPU, and use it.

    \b
    xpnet train              learn handwritten digits, in seconds, without a download
    xpnet train --data mnist learn MNIST, which is larger and is downloaded once
    xpnet COMMAND --help     explain a command and its options

    \b
    Exit codes: 0 done; 1 the run failed (a file that is missing, damaged or cannot be
    written, a device that does not work, a loss that is not finite, Ctrl-C);
    2 wrong usage (an unknown option or name, an impossible value).
    """


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a page.")] = False):
    """Say what works on this machine.

    Lists what the machine has, which device would be used and why, and how to fix what does not work.
    """
    from xpnet.cli import doctor

    raise typer.Exit(doctor.doctor(as_json))


app.command("train")(train)
app.command("evaluate")(evaluate)
app.command("predict")(predict)
app.command("serve")(serve)
app.command("data")(show_data)
app.command("models")(show_models)
app.command("export")(export)
app.command("parity")(parity)
app.command("bench")(bench)
app.command("doctor")(doctor)
