"""The model that comes with the package, measured on MNIST's test digits: as they are, as PNGs, and as photos."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import photo_generator as generator
import pytest

import xpnet
from xpnet import data
from xpnet.photo import ImageReader, shipped_model_path

PHOTOS, TABLES, PNGS, EMPTY = 200, 60, 600, 150
real = pytest.mark.skipif(
    not (Path(os.environ.get("XPNET_DATA") or "none") / "mnist").is_dir(),
    reason="set XPNET_DATA to a folder that holds mnist/ to measure with real digits",
)


@pytest.fixture(scope="module")
def model() -> xpnet.Model:
    return xpnet.load(shipped_model_path(), "cpu")


@pytest.fixture(scope="module")
def text(model) -> Callable[[bytes], str]:
    """The digits that the model reads in the bytes of an image."""
    reader = ImageReader(model)
    return lambda image: reader.read(image).text


@pytest.fixture(scope="module")
def mnist() -> data.Dataset:
    return data.load("mnist").test


def pngs(test: data.Dataset, indices: np.ndarray) -> Iterator[generator.Photo]:
    for index in indices:
        yield generator.Photo(generator.plain_png(test.x[index]), int(test.y[index]), "PNG")


def fractions(counts: Counter[str]) -> dict[str, float]:
    total = counts["right"] + counts["wrong"] + counts["refused"]
    return {outcome: counts[outcome] / total for outcome in ("right", "wrong", "refused")}


def test_it_is_small_and_takes_digits(model):
    assert shipped_model_path().stat().st_size <= 500_000
    assert (model.input_shape, model.output_shape) == ((28, 28), (10,))
    assert list(model.classes) == [str(digit) for digit in range(10)]


def test_what_is_no_digit_is_refused(text):
    """Blank and ruled pages, stripes, noise and scribbles."""
    counts = generator.score(generator.no_digits(EMPTY, seed=21), text)
    assert fractions(counts)["wrong"] <= 0.05, counts


@real
def test_of_mnist_it_knows_99_of_100(model, mnist):
    assert (model.predict(mnist.x).argmax(axis=1) == mnist.y).mean() >= 0.99


@real
def test_it_reads_photos(text, mnist):
    counts = generator.score(generator.photos(mnist.x, mnist.y, PHOTOS, seed=21), text)
    assert fractions(counts)["right"] >= 0.95, counts
    assert fractions(counts)["refused"] <= 0.03, counts


@real
def test_it_reads_pages_on_a_table(text, mnist):
    counts = generator.score(generator.pages_on_a_table(mnist.x, mnist.y, TABLES, seed=21), text)
    assert fractions(counts)["right"] >= 0.85, counts
    assert fractions(counts)["wrong"] <= 0.05, counts


@real
def test_it_reads_black_on_white(text, mnist):
    indices = np.random.default_rng(21).choice(len(mnist.y), PNGS, replace=False)
    counts = generator.score(pngs(mnist, indices), text)
    assert fractions(counts)["right"] >= 0.97, counts
    assert fractions(counts)["refused"] <= 0.03, counts


@real
def test_it_reads_rows(text, mnist):
    """Six digits at a time: all of them, in their order."""
    rows = mnist.x[:180].reshape(30, 6, 28, 28), mnist.y[:180].reshape(30, 6)
    right = [text(generator.row_png(images)) == "".join(map(str, labels)) for images, labels in zip(*rows, strict=True)]
    assert sum(right) >= 26, right
