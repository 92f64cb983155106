"""The model that comes with the package, measured on MNIST's test digits: as they are, as PNGs, and as photos."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import photo_generator as tuned_on
import photo_signs
import pytest
import second_generator as second
import second_signs
from photo_generator import Photo, plain_png, row_png, score
from PIL import Image

import xpnet
from xpnet import data
from xpnet.photo import ImageReader, shipped_model_path

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


def pngs(test: data.Dataset, indices: np.ndarray) -> Iterator[Photo]:
    for index in indices:
        yield Photo(plain_png(test.x[index]), int(test.y[index]), "PNG")


def on_paper(sign: np.ndarray) -> bytes:
    """Black on white, with a margin: a PNG of what uint8 (h, w) says is ink."""
    file = io.BytesIO()
    Image.fromarray(255 - np.pad(sign, max(sign.shape) // 2)).save(file, "PNG")
    return file.getvalue()


def fractions(counts: Counter[str]) -> dict[str, float]:
    total = counts["right"] + counts["wrong"] + counts["refused"]
    return {outcome: counts[outcome] / total for outcome in ("right", "wrong", "refused")}


def test_it_is_small_and_takes_digits(model):
    assert shipped_model_path().stat().st_size <= 1_000_000
    assert (model.input_shape, model.output_shape) == ((28, 28), (10,))
    assert list(model.classes) == [str(digit) for digit in range(10)]


def test_the_generators_are_deterministic():
    digits, labels = np.random.default_rng(0).integers(0, 256, (4, 28, 28), np.uint8), np.array([6, 8, 9, 6])
    for make in (second.digits, second.damaged_digits):
        assert list(make(digits, labels, 3, seed=4)) == list(make(digits, labels, 3, seed=4))
    assert list(second.negatives(6, seed=4)) == list(second.negatives(6, seed=4))


def test_what_is_no_digit_is_refused(text):
    """Letters, solid bars, shapes, scribbles, bare sheets and textures."""
    counts = score(second.negatives(72, seed=61), text)
    assert fractions(counts)["right"] >= 0.97, counts


@pytest.mark.parametrize("letter", "AT")
def test_a_letter_is_no_digit(letter, text, monkeypatch):
    """Neither in print nor by hand."""
    rng = np.random.default_rng(61)
    monkeypatch.setattr(second_signs, "LETTERS", letter)
    monkeypatch.setattr(photo_signs, "LETTERS", letter)
    printed = [np.asarray(second_signs.letter(rng)) for _ in range(8)]
    written = [np.uint8(255 * photo_signs.hand_letter(rng)) for _ in range(8)]
    answers = [text(on_paper(sign)) for sign in printed + written]
    assert sum(not answer.strip("?") for answer in answers) >= 15, answers


def test_blank_and_ruled_pages_stripes_noise_and_scribbles_are_refused(text):
    counts = score(tuned_on.no_digits(60, seed=21), text)
    assert fractions(counts)["right"] >= 0.95, counts


@real
def test_of_mnist_it_knows_995_of_1000(model, mnist):
    assert (model.predict(mnist.x).argmax(axis=1) == mnist.y).mean() >= 0.995


@real
def test_it_reads_photos(text, mnist):
    counts = score(second.digits(mnist.x, mnist.y, 80, seed=61), text)
    assert fractions(counts)["right"] >= 0.97, counts
    assert fractions(counts)["wrong"] <= 0.0125, counts


@real
def test_it_reads_broken_digits_and_digits_with_filled_loops(text, mnist):
    counts = score(second.damaged_digits(mnist.x, mnist.y, 40, seed=61), text)
    assert fractions(counts)["right"] >= 0.9, counts
    assert fractions(counts)["wrong"] <= 0.05, counts


@real
def test_it_reads_pages_on_a_table(text, mnist):
    counts = score(tuned_on.pages_on_a_table(mnist.x, mnist.y, 40, seed=21), text)
    assert fractions(counts)["right"] >= 0.9, counts
    assert fractions(counts)["wrong"] <= 0.03, counts


@real
def test_it_reads_black_on_white(text, mnist):
    indices = np.random.default_rng(21).choice(len(mnist.y), 150, replace=False)
    counts = score(pngs(mnist, indices), text)
    assert fractions(counts)["right"] >= 0.98, counts
    assert fractions(counts)["wrong"] <= 0.01, counts


@real
def test_it_reads_rows(text, mnist):
    """Six digits at a time: all of them, in their order."""
    rows = mnist.x[:180].reshape(30, 6, 28, 28), mnist.y[:180].reshape(30, 6)
    right = [text(row_png(images)) == "".join(map(str, labels)) for images, labels in zip(*rows, strict=True)]
    assert sum(right) >= 27, right
