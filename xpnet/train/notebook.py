"""Progress of a run in a notebook: a bar and the curves so far, in one output that is updated during the run."""

from __future__ import annotations

import io
import time
from collections.abc import Sequence

from xpnet import html
from xpnet.train.run import Row

EVERY = 0.2  # seconds between two updates, at least
DPI = 100
FIRST, LAST = 2, 8  # epochs shown at the start and the end of a long table


class LiveOutput:
    """The output below the running cell: `bar` and `epoch` report the progress, `stop` shows the final state.

    Drawing may take at most a tenth of the run's time: updates that come sooner are shown later. `history` is the run's
    own list of rows.
    """

    def __init__(self, total: int, history: Sequence[Row]):
        from IPython.display import display

        self._total, self._history = total, history
        self._done, self._text, self._notes = 0, "", list[str]()
        self._curves, self._drawn = "", 0  # the image, and the number of epochs it shows
        self._due = 0.0
        self._handle = display(self._bundle(), raw=True, display_id=True)

    def bar(self, done: int, text: str) -> None:
        """Report the number of batches done, over all epochs."""
        self._done, self._text = done, text
        self._show()

    def note(self, text: str) -> None:
        """Add a line that stays."""
        self._notes.append(text)
        self._show()

    def epoch(self, text: str) -> None:
        """Report that an epoch is done; `history` has its row."""
        self._text = text
        self._show()

    def stop(self) -> None:
        """End the output: show what has not been shown yet, without the bar."""
        self._total, self._due = 0, 0.0
        self._show()

    def _show(self) -> None:
        begun = time.perf_counter()
        if begun < self._due:
            return
        if self._drawn < len(self._history):
            self._curves, self._drawn = curves(self._history), len(self._history)
        self._handle.update(self._bundle(), raw=True)
        now = time.perf_counter()
        self._due = now + max(EVERY, 9 * (now - begun))

    def _bundle(self) -> dict[str, str]:
        """The output as HTML, and as text for front ends that show no HTML."""
        bar = f'<progress value="{self._done}" max="{self._total}"></progress> {self._done}/{self._total}'
        lines = [*self._notes, self._text]
        content = "".join(map(html.line, filter(None, lines))) + self._curves
        return {"text/html": (f"<div>{bar}</div>" if self._total else "") + content, "text/plain": "\n".join(lines)}


def curves(history: Sequence[Row]) -> str:
    """The learning curves as an image on a white background, whatever the page's; "" without matplotlib."""
    try:
        from xpnet.train.plots import learning_curves
    except ModuleNotFoundError:
        return ""
    figure, file = learning_curves(history), io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI)
    width = round(figure.get_figwidth() * 80)
    return f'<img src="{html.png_address(file.getvalue())}" alt="learning curves" width="{width}">'


def epochs_as_html(history: Sequence[Row], best_epoch: int, stopped: str) -> str:
    """A table of the epochs; if there are many, only the first and the last."""
    if not history:
        return html.line(f"no epoch was done{stopped and f': {stopped}'}")
    names = list(history[-1])
    rows = [[_figure(name, row[name]) if name in row else "" for name in names] for row in history]
    if len(rows) > FIRST + LAST + 1:
        rows = [*rows[:FIRST], ["…"] * len(names), *rows[-LAST:]]
    words = [f"epochs: {len(history)}", best_epoch and f"best: {best_epoch}", stopped and f"stopped: {stopped}"]
    return html.table([name.replace("_", " ") for name in names], rows) + html.line(
        ", ".join(str(word) for word in words if word)
    )


def _figure(name: str, value: float) -> str:
    if name.endswith("accuracy"):
        return f"{value:.2%}"
    return f"{value:.0f}" if name == "epoch" else f"{value:.4g}"
