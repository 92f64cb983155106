"""The model that comes with the package."""

from __future__ import annotations

from pathlib import Path


def shipped_model_path() -> Path:
    """A file for `xpnet.load`: a network that reads handwritten digits, uint8 (N, 28, 28), light on dark.

    Four convolutions and two dense layers, trained by `python benchmarks/train_shipped.py` on MNIST's training digits
    (LeCun, Cortes and Burges, CC BY-SA 3.0), and on letters, strokes and outlines for which it should be unsure. Its
    weights are stored in half precision.
    """
    return Path(__file__).parent / "handwriting.safetensors"
