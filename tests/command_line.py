"""What the tests of the command line share: calling it, a folder to be in, and data of one's own."""

from __future__ import annotations

import builtins
import errno
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import xpnet
from xpnet import data
from xpnet.cli.app import app

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and resource limits")
FILES = {
    "model.safetensors", "checkpoint.safetensors", "config.toml", "history.csv", "metrics.json", "example.png",
    "learning-curves.png", "confusion-matrix.png", "mistakes.png", "samples.png", ".lock",
}  # fmt: skip
SHORT = ["train", "--epochs", "2", "--quiet", "--schedule", "constant"]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """In a folder of its own, on the CPU, with data that come with the package."""
    from xpnet.train import plots

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XPNET_DEVICE", "cpu")
    monkeypatch.setenv("XPNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("XPNET_DATA", raising=False)
    monkeypatch.setattr(plots.Figure, "savefig", blank)  # drawn, but not rendered: that is most of a short run's time


def blank(figure, path, **options):
    """An image in the place of a figure."""
    Image.new("L", (300, 300)).save(path, "PNG")


def call(*arguments, code=0):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, (result.stdout, result.stderr, result.exception)
    assert "Traceback" not in result.stderr
    return result


def process(*arguments, **more):
    command = [sys.executable, "-m", "xpnet", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, **{**pipes, **more})


def forbid(monkeypatch, *paths):
    """Let nobody read these files and folders, not even root, who may do so whatever their modes say."""
    forbidden = {os.path.abspath(path) for path in paths}

    def may(path):
        return isinstance(path, int) or os.path.abspath(os.fsdecode(path)) not in forbidden

    def refusing(real):
        def called(path, *arguments, **options):
            if may(path):
                return real(path, *arguments, **options)
            raise PermissionError(errno.EACCES, "Permission denied", os.fsdecode(path))

        return called

    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode, **options: may(path) and access(path, mode, **options))
    monkeypatch.setattr(builtins, "open", refusing(open))
    monkeypatch.setattr(os, "scandir", refusing(os.scandir))


def weights(folder):
    return xpnet.load(folder / "model.safetensors", device="cpu").data


def write_folder(folder, shape, n=60, classes=3):
    """Four IDX files; the classes differ in brightness, as far as bytes go."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    labels_dtype = np.uint8 if classes < 256 else np.int32
    for name, count in (("train", n), ("t10k", n // 2)):
        labels = (np.arange(count) % classes).astype(labels_dtype)
        images = rng.integers(0, 99, (count, *shape), dtype=np.uint8) + (50 * labels).reshape(-1, *[1] * len(shape))
        data.write_idx(folder / f"{name}-images-idx3-ubyte", images.astype(np.uint8))
        data.write_idx(folder / f"{name}-labels-idx1-ubyte", labels)
    return folder
