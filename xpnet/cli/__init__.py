"""The command line, `xpnet` or `python -m xpnet`: one file for each command, and `app.py`, which lists them."""

from __future__ import annotations


def main() -> None:
    """Run the command line that this process was called with."""
    from xpnet.cli.app import app

    app(prog_name="xpnet")
