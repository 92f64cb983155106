"""Ctrl-C while a model is trained."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def ctrl_c() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event, so that no step is cut short; a second one acts as usual."""
    import signal  # here, to keep `from xpnet import train` light

    asked = threading.Event()
    usual = signal.getsignal(signal.SIGINT)
    # Only the main thread may set handlers. None is a handler that was not set from Python: it could not be restored.
    if threading.current_thread() is not threading.main_thread() or usual is None:
        yield asked
        return

    def first(number: int, frame: object) -> None:
        asked.set()
        signal.signal(signal.SIGINT, usual)

    signal.signal(signal.SIGINT, first)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, usual)
