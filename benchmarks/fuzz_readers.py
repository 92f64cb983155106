"""What `fuzz.py` reads: for each kind of file, intact examples, the reader, and the errors that it may raise."""

from __future__ import annotations

import gzip
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np
from PIL import Image

import xpnet
from xpnet import data, nn, optim, schedules
from xpnet.cli.settings import read_config, settle, to_toml
from xpnet.losses import SoftmaxCrossEntropy
from xpnet.nn import ModelFileError
from xpnet.photo import ImageError, open_image
from xpnet.train import NotFiniteError, fit

BATCH, EPOCHS = 16, 3  # of the run whose checkpoints are read


@dataclass(frozen=True)
class BackendFactory:
    suffix: str
    examples: Callable[[], list[bytes]]
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...]


def written(write: Callable[[Path], object], suffix: str = "") -> bytes:
    """The bytes that `write` writes into the file that it is given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{suffix}"
        write(path)
        return path.read_bytes()


@cache
def arrays() -> list[bytes]:
    rng = np.random.default_rng(0)
    shapes = {np.uint8: (20, 8, 8), np.int32: (30,), np.float64: (3, 2, 2, 2)}
    some = [rng.integers(0, 99, shape).astype(dtype) for dtype, shape in shapes.items()]
    return [written(partial(data.write_idx, array=array)) for array in some]


@cache
def packed_arrays() -> list[bytes]:
    return [gzip.compress(content, mtime=0) for content in arrays()]


def folder_of_four(path: Path) -> object:
    """Load a folder in which this file is the images, and the other files are intact."""
    for name in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        data.write_idx(path.parent / name, (np.arange(20) % 3).astype(np.uint8))
    for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte"):
        (path.parent / name).write_bytes(path.read_bytes())
    return data.load(path.parent)


@cache
def models() -> list[bytes]:
    backend = xpnet.select("cpu")
    shared = nn.Linear(4)
    networks = [
        (nn.Sequential(nn.Standardize(100.0, 50.0), nn.Flatten(), *nn.mlp([64, 8, 3], dropout=0.1).layers), (8, 8)),
        (nn.Sequential(nn.Linear(4), nn.Residual(nn.Sequential(shared, nn.Tanh(), shared)), nn.Linear(3)), (5,)),
        (nn.Sequential(nn.Flatten(), nn.ReLU()), (3,)),
    ]
    built = [nn.Model(network, shape, backend, ("a", "b", "c")) for network, shape in networks]
    return [written(model.save, ".safetensors") for model in built]


@cache
def exported() -> list[bytes]:
    from xpnet import onnx

    networks = [
        (nn.cnn((8, 8), 3, channels=(2,), hidden=4), (8, 8)),
        (nn.Sequential(nn.LSTM(2, bidirectional=True), nn.RMSNorm(), nn.SiLU(), nn.Residual(nn.Tanh())), (4, 3)),
        (nn.Sequential(nn.Embedding(5, 4), nn.LearnedPosition(6), nn.GRU(2), nn.Flatten()), (6,)),
    ]
    backend = xpnet.select("cpu")
    return [written(partial(onnx.export, nn.Model(*network, backend)), ".onnx") for network in networks]


def read_onnx(path: Path) -> object:
    from xpnet import onnx

    return onnx.load(path, "cpu")


def fed() -> nn.Model:
    """The model that weights are read into."""
    return nn.Model(
        nn.Sequential(nn.Conv2d(2, 3), nn.BatchNorm(), nn.Transpose(2, 0, 1), nn.Flatten(), nn.Linear(3)),
        (4, 4, 1),
        xpnet.select("cpu"),
    )


@cache
def weight_files() -> list[bytes]:
    return [written(partial(xpnet.weights.save, fed()), ".safetensors")]


def read_weights(path: Path) -> object:
    """Read weights into a model, which must be unchanged if they are refused."""
    model = fed()
    before = model.data.copy()
    try:
        return xpnet.weights.load(model, path)
    except ValueError:
        if (model.data != before).any():
            raise RuntimeError("the weights were refused, and yet something of the model has changed") from None
        raise


def use(path: Path) -> object:
    """Load a model, and run it if that is cheap."""
    model = xpnet.load(path, "cpu")
    if math.prod(model.input_shape) <= 1 << 20:
        model.predict(np.zeros((1, *model.input_shape), np.float32))
    return repr(model)


def run(epochs: int, checkpoint: Path, optimizer: type[optim.Optimizer], plateau: bool = False) -> None:
    """Run a training on a few digits, from its checkpoint if there is one. A refused checkpoint must change nothing."""
    digits = data.load("digits").train[: 3 * BATCH]
    network = nn.Sequential(nn.Standardize(100.0, 50.0), nn.Flatten(), nn.Linear(4), nn.Dropout(0.5), nn.Linear(10))
    model = nn.Model(network, (8, 8), xpnet.select("cpu"), digits.classes)
    schedule = schedules.Plateau(0.01) if plateau else schedules.Constant(0.01)
    trainer, before = optimizer(model, 0.01), model.data.copy()
    try:
        result = fit(
            model, SoftmaxCrossEntropy(), trainer, digits, epochs=epochs, batch_size=BATCH, schedule=schedule,
            checkpoint=checkpoint, resume=True, quiet=True,
        )  # fmt: skip
    except ModelFileError:
        changed = (model.data != before).any() or any(state.any() for state in trainer.state.values())
        if changed or trainer.steps.any():
            raise RuntimeError("the checkpoint was refused, and yet something of the run has changed") from None
        raise
    if [row["epoch"] for row in result.history] != list(range(1, len(result.history) + 1)):
        raise RuntimeError(f"a history that cannot be was accepted: {result.history}")
    if len(result.history) < epochs:
        raise RuntimeError(f"{len(result.history)} epochs are in the history of a run of {epochs} that has ended")


@cache
def checkpoints() -> list[bytes]:
    return [
        written(lambda path, more=more: run(EPOCHS - 1, path, *more), ".safetensors")
        for more in ((optim.Adam,), (optim.SGD, True))
    ]


def resume(path: Path) -> object:
    """Resume from the checkpoint, with the settings of the run that wrote it."""
    plateau = b"waited" in path.read_bytes().partition(b"schedule")[2][:200]
    return run(EPOCHS, path, *((optim.SGD, True) if plateau else (optim.Adam,)))


@cache
def configs() -> list[bytes]:
    given = [{}, {"data": "mnist", "hidden": (5,), "seed": 3, "lr": 0.5, "augment": True}, {"recipe": "plain"}]
    return [to_toml(settle(settings, {})).encode() for settings in given]


@cache
def images() -> list[bytes]:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30), dtype=np.uint8))
    turned = Image.Exif()
    turned[0x0112] = 6
    modes = {"PNG": "L", "JPEG": "RGB", "WEBP": "RGB", "BMP": "L", "GIF": "P", "TIFF": "RGBA"}
    return [
        written(partial(noise.convert(mode).save, format=kind, exif=turned if kind == "JPEG" else b""))
        for kind, mode in modes.items()
    ]


KINDS = {
    "IDX": BackendFactory(".idx", arrays, data.read_idx, (data.IdxError,)),
    "IDX, gzip": BackendFactory(".idx.gz", packed_arrays, data.read_idx, (data.IdxError,)),
    "data folder": BackendFactory(".idx", arrays, folder_of_four, (ValueError,)),
    "model": BackendFactory(".safetensors", models, use, (ModelFileError,)),
    "checkpoint": BackendFactory(".safetensors", checkpoints, resume, (ModelFileError, NotFiniteError)),
    "config": BackendFactory(".toml", configs, lambda path: settle({}, read_config(path)), (ValueError,)),
    "ONNX": BackendFactory(".onnx", exported, read_onnx, (ModelFileError,)),
    "weights": BackendFactory(".safetensors", weight_files, read_weights, (ValueError,)),
    "image": BackendFactory(".png", images, open_image, (ImageError,)),
}
