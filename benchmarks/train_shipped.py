"""Train the model that comes with the package.

    XPNET_DATA=... python benchmarks/train_shipped.py handwriting.safetensors

It learns from MNIST's training digits, each as it is and as the reading of a photo draws it, and from glyphs that are
not digits: letters, strokes, outlines, turned digits, two digits in one. For these, its target is the same probability
for all ten classes (Hendrycks, Mazeika and Dietterich, "Deep anomaly detection with outlier exposure", 2019), so that
anything but a digit is read as "unsure". The last 5,000 training digits are held out to tune the reading on; the test
digits are not used.

Takes about 30 minutes on an idle core. The same seed gives the same model on the same NumPy and BLAS.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

import xpnet
from xpnet import data, losses, nn, optim, schedules
from xpnet.data import Augment
from xpnet.nn.saving import description, write_tensors
from xpnet.photo import Pixels
from xpnet.photo.glyph import draw_glyph
from xpnet.photo.shapes import Shape
from xpnet.train.step import train_step

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import photo_signs as signs

TRAINED = 55_000  # of MNIST's 60,000
NO_DIGITS = {"letter": 16_000, "strokes": 5000, "outline": 4000, "turned": 7000, "two digits": 2000}
NO_DIGITS["hand letter"] = 17_000
EPOCHS, BATCH, NONE_IN_BATCH, RATE, DECAY = 18, 136, 40, 0.002, 0.05
AUGMENT = Augment(shift=0.08, rotate=12, scale=0.12, shear=0.15, elastic=1.5, thickness=0.6)


def main(path: str) -> None:
    train = data.load("mnist").train
    rng = np.random.default_rng(0)
    drawn = np.stack([draw_digit(*pair, rng) for pair in zip(train.x, train.y, strict=True)])
    none = np.concatenate([draw_none(kind, train) for kind in NO_DIGITS])
    print(f"{len(drawn)} digits drawn, and {len(none)} glyphs that are none", flush=True)
    for model in fit(np.stack([train.x, drawn]), train.y, none):
        # Half precision: half the size, and fewer than one digit in a thousand is read differently.
        write_tensors(path, {name: t.astype(np.float16) for name, t in model.tensors().items()}, description(model))


# Glyphs ---------------------------------------------------------------------------------------------------------


def draw_digit(image: Pixels, label: int, rng: np.random.Generator) -> Pixels:
    """One digit as a photo shows it; 8 % have broken strokes, and another 12 % of the 6s, 8s and 9s filled loops."""
    sign = signs.pen_stroke(image, int(rng.integers(50, 130)), rng.uniform(-12, 12), rng)
    wrong = rng.random()
    if wrong < 0.08:
        sign = signs.broken(sign, rng)
    elif wrong < 0.2 and label in (6, 8, 9):
        sign = signs.filled(sign)
    return glyph(sign, rng)


def draw_none(kind: str, train: data.Dataset) -> Pixels:
    """Glyphs of one kind that are not digits: (n, 28, 28)."""
    rng = np.random.default_rng(1 + list(NO_DIGITS).index(kind))
    x, y = train.x[:TRAINED], train.y[:TRAINED]
    make = {
        "letter": signs.letter,
        "hand letter": signs.hand_letter,
        "strokes": signs.strokes,
        "outline": signs.outline,
        "turned": lambda rng: signs.turned(x, y, rng),
        "two digits": lambda rng: signs.two_digits(x, rng),
    }[kind]
    return np.stack([glyph(make(rng), rng) for _ in range(NO_DIGITS[kind])])


def glyph(sign: np.ndarray, rng: np.random.Generator) -> Pixels:
    """The sign as the reading of a photo draws it; the camera may be out of focus."""
    blur = ImageFilter.GaussianBlur(rng.uniform(0, 0.02) * max(sign.shape))
    soft = np.asarray(Image.fromarray((sign * 255).astype(np.uint8)).filter(blur), np.float32)
    soft = np.clip(soft / soft.max() * np.float32(rng.uniform(1, 1.25)), 0, 1)
    y, x = np.nonzero(soft > 0.35)
    box = int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
    part = soft[box[1] : box[3], box[0] : box[2]]
    return draw_glyph(Shape(part > 0.35, box, float(part[part > 0.35].mean())), soft, (28, 28))


# Training -------------------------------------------------------------------------------------------------------


def network() -> nn.Sequential:
    """Four convolutions, of which the first and the third halve the image, and two dense layers: 468,522 parameters."""
    layers: list[nn.Layer] = [nn.Standardize(33.0, 79.0), nn.Reshape(28, 28, 1)]
    for channels, kernel, stride in ((32, 5, 2), (32, 3, 1), (64, 3, 2), (64, 3, 1)):
        convolution = nn.Conv2d(channels, kernel, stride=stride, padding="same", bias=False)
        layers += [convolution, nn.BatchNorm(), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128), nn.ReLU(), nn.Linear(10))


def fit(digits: Pixels, labels: np.ndarray, none: Pixels) -> Iterator[xpnet.Model]:
    """The model after each epoch. `digits` (2, N, 28, 28): the digits as they are, and as drawn; a step sees each digit
    in one of the two forms."""
    backend = xpnet.select("cpu", seed=0, threads=1)
    model = nn.Model(network(), (28, 28), backend, classes=tuple("0123456789"))
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.AdamW(model, lr=RATE, weight_decay=DECAY)
    n_digits = BATCH - NONE_IN_BATCH
    steps = TRAINED // n_digits
    schedule = schedules.WarmUp(500, schedules.Cosine(RATE, EPOCHS * steps - 500))
    targets = np.vstack([np.eye(10, dtype=np.float32), np.full(10, 0.1, np.float32)])
    rng = np.random.default_rng(1)
    with backend.threads_for(BATCH * model.n_parameters):
        for epoch in range(EPOCHS):
            order = rng.permutation(TRAINED)[: steps * n_digits].reshape(steps, n_digits)
            with backend.mode(training=True):
                for step, picked in enumerate(order):
                    way = (rng.random(n_digits) < 0.7).astype(int)  # more often as drawn, the form that a photo gives
                    x = np.concatenate([digits[way, picked], none[rng.integers(len(none), size=NONE_IN_BATCH)]])
                    target = targets[np.concatenate([labels[picked], np.full(NONE_IN_BATCH, 10)])]
                    optimizer.lr = schedule(epoch * steps + step)
                    train_step(model, loss, optimizer, AUGMENT(x, backend), target)
            right = [(model.predict(x[TRAINED:]).argmax(axis=1) == labels[TRAINED:]).mean() for x in digits]
            print(f"epoch {epoch + 1}: held out {right[0]:.2%}, drawn {right[1]:.2%}", flush=True)
            yield model


if __name__ == "__main__":
    main(sys.argv[1])
