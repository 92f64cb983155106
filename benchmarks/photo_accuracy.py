"""How well the model in the package reads photos of handwritten digits: `tests/test_shipped_model.py` at length.

    XPNET_DATA=... python benchmarks/photo_accuracy.py [second | first | plain] [--part 0.1] [--seed 5000]

For the images of two generators, and black-on-white PNGs of 200 pixels: how many are read right, wrong, or refused, by
kind, and what the wrong ones were read as. The reading and the training of the model were tuned on the images of
`tests/photo_generator.py`; the images of `tests/second_generator.py` are only for measuring. The digits are MNIST's
test digits, which the model has not seen. Takes about twenty minutes of one core. `--part 0.1` uses the first tenth of
the images and takes two minutes; "second", "first" or "plain" uses only the images of that maker.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import xpnet
from xpnet import data
from xpnet.photo import ImageReader, shipped_model_path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import photo_generator as tuned_on
import second_generator as second
from photo_generator import Photo, plain_png, score

SEED = 5000  # none of its images was looked at before the reading and the model were finished
DIGITS, DAMAGED, NO_DIGITS, PNGS = 2000, 300, 1500, 2000
MAKERS = ["second", "first", "plain"]
OUTCOMES = ("right", "wrong", "refused")


def main(makers: list[str], part: float, seed: int) -> None:
    test = data.load("mnist").test
    some = lambda count: max(round(part * count), 1)
    print(f"seed {seed}")
    if "second" in makers:
        print("\nThe second generator:", flush=True)
        show("digits", second.digits(test.x, test.y, some(DIGITS), seed))
        show("damaged digits", second.damaged_digits(test.x, test.y, some(DAMAGED), seed))
        show("no digits", second.negatives(some(NO_DIGITS), seed))
    if "first" in makers:
        print("\nThe generator that was tuned on:", flush=True)
        show("digits", tuned_on.photos(test.x, test.y, some(DIGITS), seed))
        show("damaged digits", tuned_on.damaged_digits(test.x, test.y, some(DAMAGED), seed))
        show("pages on a table", tuned_on.pages_on_a_table(test.x, test.y, some(DAMAGED), seed))
        half = some(NO_DIGITS // 2)
        show("no digits", chain(tuned_on.no_digits(half, seed), tuned_on.other_signs(half, seed)))
    if "plain" in makers:
        print("\nPlain images:", flush=True)
        pairs = zip(test.x[: some(PNGS)], test.y[: some(PNGS)], strict=True)
        show("PNGs", (Photo(plain_png(image), int(label), "PNG") for image, label in pairs))


def show(title: str, photos: Iterator[Photo]) -> None:
    reader = ImageReader(xpnet.load(shipped_model_path(), device="cpu"))
    read: list[str] = []

    def text(image: bytes) -> str:
        read.append(reader.read(image).text)
        return read[-1]

    shown = list(photos)
    with reader.model.backend.threads_for(reader.model.n_parameters):
        counts = score(iter(shown), text)
    print(line(title, counts))
    kinds = sorted({photo.kind for photo in shown})
    for kind in kinds if len(kinds) > 1 else ():
        print("  " + line(kind, Counter({outcome: counts[f"{outcome}: {kind}"] for outcome in OUTCOMES})))
    wrong = Counter(
        f"{photo.kind if photo.label is None else photo.label} as {answer}"
        for photo, answer in zip(shown, read, strict=True)
        if answer.strip("?") and answer != str(photo.label)
    )
    if wrong:
        print("  read wrong: " + ", ".join(f"{what} ({n})" for what, n in wrong.most_common()))
    sys.stdout.flush()


def line(what: str, counts: Counter[str]) -> str:
    """The fractions of each outcome. For images without a digit, a refusal is the right outcome."""
    n = sum(counts[outcome] for outcome in OUTCOMES)
    return f"{what}: {', '.join(f'{counts[outcome] / n:.2%} {outcome}' for outcome in OUTCOMES)} of {n}"


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="How well the model in the package reads photos.")
    options.add_argument("maker", nargs="*", choices=MAKERS, default=MAKERS, help="whose images to read (default: all)")
    options.add_argument("--part", type=float, default=1.0, help="the fraction of the images to take")
    options.add_argument("--seed", type=int, default=SEED)
    chosen = options.parse_args()
    main(chosen.maker, chosen.part, chosen.seed)
