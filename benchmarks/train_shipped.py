"""Train the model that comes with the package.

    XPNET_DATA=... python benchmarks/train_shipped.py handwriting.safetensors

It learns from MNIST's training digits, as they are, as they are drawn, and as the reading finds them in small photos,
and from glyphs that are no digits: letters, strokes, outlines, turned digits, two digits in one. Of those it is to say
that all ten classes are equally likely (Hendrycks, Mazeika and Dietterich, "Deep anomaly detection with outlier
exposure", 2019), so that what is no digit is "unsure". The last 5,000 training digits are held out, to tune the reading
on; the test digits are not looked at.

It is trained once, then goes on twice, from the same weights, on digits that are harder to read; the mean of the two is
the model (Wortsman et al., "Model soups", 2022).

Takes about two hours of two cores that have nothing else to do: half an hour to draw the glyphs, 60 minutes for the
first training and 40 for the two that go on, side by side. The same seed gives the same model on the same NumPy and
BLAS.
"""

from __future__ import annotations

import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np
import shipped_glyphs as glyphs

import xpnet
from xpnet import data, losses, nn, optim, schedules
from xpnet.backend.allocator import keep_freed_memory
from xpnet.data import Augment
from xpnet.nn.saving import description, write_tensors
from xpnet.photo import Pixels
from xpnet.train.step import train_step

TRAINED = 55_000  # of MNIST's 60,000
BATCH, NONE_IN_BATCH, DECAY, AVERAGE = 136, 40, 0.05, 0.999
AUGMENT = Augment(shift=0.08, rotate=12, scale=0.12, shear=0.15, elastic=1.5, thickness=0.6)
Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Training:
    """`ways` (W, 60000, 28, 28): MNIST's training digits in each of the ways in which they are seen; how often each of
    them, `often` (W,); `none` (n, 28, 28): what is no digit."""

    ways: Pixels
    often: tuple[float, ...]
    none: Pixels
    epochs: int
    rate: float
    warm_up: int
    seed: int
    start: Tensors | None = None


def main(path: str) -> None:
    images = data.load("mnist").train.x
    with ProcessPoolExecutor(2) as pool:
        drawn, photos = glyphs.digits(glyphs.drawn, 2, pool), glyphs.digits(glyphs.in_photos, 1, pool)
        worn = glyphs.closed_fours(glyphs.digits(glyphs.worn_in_photos, 4, pool))
        none, letters = glyphs.others(pool), glyphs.letters_with_few_j(pool)
        print(f"{sum(map(len, (drawn, photos, worn)))} digits drawn, and {len(none) + len(letters)} that are none")
        first = fit(Training(np.stack([images, photos, drawn]), (0.2, 0.5, 0.3), none, 42, 0.002, 500, 0))
        ways, others = np.stack([images, photos, worn, drawn]), np.concatenate([letters, none[16_000:34_000]])
        often = 0.15, 0.25, 0.35, 0.25
        went_on = [Training(ways, often, others, 27, 0.001, 300, seed, first) for seed in (10, 11)]
        ends = list(pool.map(fit, went_on))
    means = [np.mean([end[name] for end in ends], axis=0) for name in ends[0]]
    model = digits_model(seed=0)  # without dropout, so that its layers have other names
    named = dict(zip(model.tensors(), means, strict=True))
    # Half precision: half the size, and no digit in a thousand is read otherwise.
    write_tensors(path, {name: values.astype(np.float16) for name, values in named.items()}, description(model))


def digits_model(seed: int, start: Tensors | None = None, dropout: bool = False) -> xpnet.Model:
    """Four convolutions, of which the first and the third halve the image, and two dense layers: 468,522 parameters."""
    layers: list[nn.Layer] = [nn.Standardize(33.0, 79.0), nn.Reshape(28, 28, 1)]
    for channels, kernel, stride in ((32, 5, 2), (32, 3, 1), (64, 3, 2), (64, 3, 1)):
        convolution = nn.Conv2d(channels, kernel, stride, padding="same", bias=False)
        layers += [convolution, nn.BatchNorm(), nn.ReLU()]
    layers += [nn.Flatten(), *([nn.Dropout(0.25)] if dropout else []), nn.Linear(128), nn.ReLU(), nn.Linear(10)]
    backend = xpnet.select("cpu", seed=seed, threads=1)
    return nn.Model(nn.Sequential(*layers), (28, 28), backend, tuple("0123456789"), start)


def fit(training: Training) -> Tensors:
    """The weights at the end of a training, each averaged over the last steps."""
    keep_freed_memory()
    labels, model = data.load("mnist").train.y, digits_model(training.seed, training.start, dropout=True)
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.AdamW(model, lr=training.rate, weight_decay=DECAY)
    average = optim.WeightAverage(model, AVERAGE)
    n_digits = BATCH - NONE_IN_BATCH
    steps = TRAINED // n_digits
    cosine = schedules.Cosine(training.rate, training.epochs * steps - training.warm_up)
    schedule = schedules.WarmUp(training.warm_up, cosine)
    targets = np.vstack([np.eye(10, dtype=np.float32), np.full(10, 0.1, np.float32)])
    rng = np.random.default_rng(1 + training.seed)
    for epoch in range(training.epochs):
        order = rng.permutation(TRAINED)[: steps * n_digits].reshape(steps, n_digits)
        with model.backend.mode(training=True), model.backend.threads_for(BATCH * model.n_parameters):
            for step, picked in enumerate(order):
                way = rng.choice(len(training.ways), n_digits, p=training.often)
                some = training.none[rng.integers(len(training.none), size=NONE_IN_BATCH)]
                x = np.concatenate([training.ways[way, picked], some])
                target = targets[np.concatenate([labels[picked], np.full(NONE_IN_BATCH, 10)])]
                optimizer.lr = schedule(epoch * steps + step)
                train_step(model, loss, optimizer, AUGMENT(x, model.backend), target)
                average.update()
        with average.applied():
            right = [(model.predict(x[TRAINED:]).argmax(axis=1) == labels[TRAINED:]).mean() for x in training.ways]
            print(f"epoch {epoch + 1}: held out " + ", ".join(f"{r:.2%}" for r in right), flush=True)
    with average.applied():
        return model.tensors()


if __name__ == "__main__":
    main(sys.argv[1])
