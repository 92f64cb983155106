"""`xpnet serve`: a page to draw digits on, and a JSON API."""

from __future__ import annotations

import contextlib
import importlib.util
import socket
from pathlib import Path
from typing import Annotated

import typer

from xpnet.cli import options
from xpnet.cli.console import Failed, say


def serve(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="MODEL",
            help="A model of digits that `xpnet train` made, the folder of its run, or a model of text. [default: the "
            "built-in model of digits]",
            callback=options.model_file,
            readable=False,
        ),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines connect too.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any free one.")] = 8000,
    device: options.Device = None,
) -> None:
    """Serve a web page to draw digits on.

    It shows what a model reads in a drawing or a photo, and why. On /train a network learns while you watch; on /text a
    model of text (examples/char_gpt.py --save MODEL) continues what you type. Programs get the same as JSON: see /docs
    on that server. Nothing leaves this machine. Needs more packages: pip install "xpnet[web]"
    """
    if not all(importlib.util.find_spec(name) for name in ("fastapi", "pebble", "uvicorn")):
        raise Failed('serving needs FastAPI, Pebble and Uvicorn: pip install "xpnet[web]"')
    import uvicorn

    import xpnet
    from xpnet.photo import shipped_model_path
    from xpnet.serve.app import create_app
    from xpnet.serve.protocol import TimeoutProtocol
    from xpnet.serve.reader import Reader
    from xpnet.serve.writer import Writer, is_text

    path = model or shipped_model_path()
    opened = xpnet.load(path, device)
    writer = Writer(opened, path.name) if is_text(opened) else None
    digits = shipped_model_path() if writer else path
    reader = Reader(xpnet.load(digits, device) if writer else opened)
    config = uvicorn.Config(
        create_app(reader, digits.name, host, writer),
        http=TimeoutProtocol,
        ws="none",
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=3,
    )
    with listening(host, port) as sock, opened.backend.threads_for(opened.n_parameters):
        place = address(host, sock.getsockname()[1])
        say(f"Write on {place}/text - Ctrl-C ends it." if writer else f"Draw a digit on {place} - Ctrl-C ends it.")
        say(f"{path} on {opened.backend.device}", style="dim")
        with contextlib.suppress(KeyboardInterrupt):  # the usual way to end it
            uvicorn.Server(config).run(sockets=[sock])


def listening(host: str, port: int) -> socket.socket:
    """An open socket, so that a port in use is reported before anything else. Raises `Failed` if there can be none."""
    shown = host if host.isprintable() else ascii(host)
    try:
        socket.getaddrinfo(host, port)  # first: create_server would leave a socket open if the name is not valid
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        why = str(error.strerror).split(" (while")[0]  # Python adds the address, which the line already has
    except ValueError:
        why = "not the name or the address of a machine"
    raise Failed(f"cannot listen on {shown}, port {port}: {why}; choose with --host and --port")


def address(host: str, port: int) -> str:
    """The address to open in a browser on this machine."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"
