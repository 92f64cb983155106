"""How well the model in the package reads photographed digits: `tests/test_shipped_model.py` at length.

    XPNET_DATA=... python benchmarks/photo_accuracy.py

Prints how many photo-like images of MNIST test digits are read right, how many images without a digit are refused,
and how all 10,000 test digits fare as black-on-white PNGs of 200 pixels. Takes a few minutes.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import xpnet
from xpnet import data
from xpnet.photo import ImageReader, shipped_model_path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from photo_generator import no_digits, photos, plain_png, score

SEEDS = (31, 32, 33)  # none of them was looked at while the reading was written


def main() -> None:
    model = xpnet.load(shipped_model_path(), device="cpu")
    test = data.load("mnist").test

    reader = ImageReader(model)

    def read(image: bytes) -> str:
        return reader.read(image).text

    photographed, empty = Counter[str](), Counter[str]()
    with model.backend.threads_for(model.n_parameters):
        for seed in SEEDS:
            photographed += score(photos(test.x, test.y, 240, seed), read)
            empty += score(no_digits(500, seed), read)
        texts = [read(plain_png(image)) for image in test.x]
    right = sum(text == str(label) for text, label in zip(texts, test.y, strict=True))
    refused = sum(text in ("", "?") for text in texts)
    show("photos", photographed["right"], photographed["refused"], 240 * len(SEEDS))
    show("PNGs of 200 pixels", right, refused, len(test))
    print(f"without a digit: {empty['right'] / (500 * len(SEEDS)):.1%} of {500 * len(SEEDS)} refused")
    for kind in ("blank", "ruled page", "stripes", "noise", "scribble"):
        print(f"  {kind}: {empty[f'right: {kind}'] / (100 * len(SEEDS)):.1%}")


def show(what: str, right: int, refused: int, n: int) -> None:
    print(f"{what}: {right / n:.2%} of {n} right, {refused / n:.2%} refused, {(n - right - refused) / n:.2%} wrong")


if __name__ == "__main__":
    main()
