"""The command line, `xpnet` or `python -m xpnet`: one file for each command, and `app.py`, which lists them."""

from __future__ import annotations

import os
import signal


def main() -> None:
    """Run the command line that this process was called with."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not if Ctrl-C is ignored
        signal.signal(signal.SIGINT, leave)
    from xpnet.cli.app import app

    app(prog_name="xpnet")


def leave(*_: object) -> None:
    """Ctrl-C before a command begins: exit at once. There is nothing to clean up, only modules that are half loaded."""
    os.write(2, b"xpnet: interrupted\n")
    os._exit(1)
