"""Event files for TensorBoard, by the small library tensorboardX: neither PyTorch nor TensorFlow is needed."""

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

    Scalars by epoch: "loss/train", "accuracy/validation", "lr", "seconds". With `sizes`, the `LayerSizes` that `fit`
    watches with, also "activation/layers.0" and its like by step. A run that is resumed adds a file to the folder, and
    TensorBoard shows one curve. To look: `tensorboard --logdir runs/board`.

    Raises ModuleNotFoundError without tensorboardX, OSError at once if the folder cannot be written.
    """

    def __init__(self, folder: str | os.PathLike, sizes: LayerSizes | None = None):
        writer = events_writer()
        self.folder = os.fspath(folder)
        os.makedirs(self.folder, exist_ok=True)
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise PermissionError(13, "the folder of event files cannot be written", self.folder)
        # The library's SummaryWriter writes in a thread, and what it has not yet written is lost with the process. Two
        # files of one second and folder would have one name.
        self._writer: Any = writer(os.path.join(self.folder, "events"), f".{os.urandom(4).hex()}")
        weakref.finalize(self, _close, self._writer)
        self._sizes, self._written = sizes, 0

    def __call__(self, row: Row, model: Model) -> None:
        """Write the row, and what has been watched since the last one."""
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
    """On a full disk the last rows are lost, and at the program's end nobody is left to catch that error."""
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
    """ "train_loss" as "loss/train", so that training and validation are drawn together; others as they are."""
    for part in PARTS:
        if name.startswith(f"{part}_"):
            return f"{name.removeprefix(f'{part}_')}/{part}"
    return name
