"""The model that comes with the package."""

from __future__ import annotations

from pathlib import Path


def shipped_model_path() -> Path:
    """A file for `xpnet.load`: a network that reads handwritten digits, uint8 (N, 28, 28), light on dark.

    784-128-64-32-10 with GELU, trained on MNIST (LeCun, Cortes and Burges, CC BY-SA 3.0) by

        xpnet train --data mnist --recipe handwriting --seed 0
    """
    return Path(__file__).parent / "handwriting.safetensors"
