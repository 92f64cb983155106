"""Event files for TensorBoard, written by the small library tensorboardX, without PyTorch or TensorFlow."""

from __future__ import annotations

import os
import time
import weakref
from contextlib import suppress
from typing import Any

from xpnet.nn import Model
from xpnet.train.run import Row
from xpnet.train.sizes import LayerSizes

PARTS = ("train", "validation")


class TensorBoard:
    """A callback that writes each epoch's row: `fit(..., callbacks=[train.TensorBoard("runs/board")])`.

    Scalars by epoch: "loss/train", "accuracy/validation", "lr", "seconds". With `sizes`, the same `LayerSizes` that
    `fit` gets as `watch`, also scalars by step such as "activation/layers.0". A resumed run adds a file to the folder,
    and TensorBoard shows one curve. To view: `tensorboard --logdir runs/board`.

    Raises ModuleNotFoundError without tensorboardX, OSError at once if the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike, sizes: LayerSizes | None = None):
        writer = events_writer()
        self.folder = os.fspath(folder)
        os.makedirs(self.folder, exist_ok=True)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "the folder of event files cannot be written", self.folder)
        # The random suffix: two files made in the same folder and second would otherwise have the same name. Not the
        # library's SummaryWriter: it writes in a thread, and what it has not yet written is lost with the process.
        self._writer: Any = writer(os.path.join(self.folder, "events"), f".{os.urandom(4).hex()}")
        weakref.finalize(self, _close, self._writer)
        self._sizes, self._written = sizes, 0

    def __call__(self, row: Row, model: Model) -> None:
        """Write the row, and the sizes that were watched since the last row."""
        for name, value in row.items():
            if name != "epoch":
                self._scalar(tag(name), value, int(row["epoch"]))
        for watched in self._sizes.rows[self._written :] if self._sizes is not None else []:
            self._written += 1
            for name in watched.keys() - {"step", "layer", "kind"}:
                self._scalar(f"{name}/{watched['layer'] or 'network'}", watched[name], watched["step"])
        self._writer.flush()

    def _scalar(self, name: str, value: float, step: int) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        self._writer.write_event(Event(step=step, wall_time=time.time(), summary=scalar(name, value)))


def _close(writer: Any) -> None:
    """Close the file, ignoring OSError: on a full disk the last rows are lost, and nobody could catch it at exit."""
    with suppress(OSError):
        writer.close()


def events_writer() -> type:
    """The library's class that writes one file. Raises ModuleNotFoundError, which names the extra."""
    try:
        from tensorboardX.event_file_writer import EventsWriter
    except ModuleNotFoundError:
        message = 'event files need tensorboardX: pip install "xpnet[tensorboard]"'
        raise ModuleNotFoundError(message, name="tensorboardX") from None
    return EventsWriter


def tag(name: str) -> str:
    """ "loss/train" for "train_loss", so that training and validation share a chart; other names are unchanged."""
    for part in PARTS:
        if name.startswith(f"{part}_"):
            return f"{name.removeprefix(f'{part}_')}/{part}"
    return name
