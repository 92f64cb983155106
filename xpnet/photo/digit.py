"""One digit as a model reads it: several views of its glyph, and one answer from all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xpnet.photo.glyph import Glyph, Pixels

MARGIN = 0.4  # least difference in probability of the two likeliest digits: a refusal is better than a wrong digit
AGREEMENT = 0.7  # least fraction of the views that must vote for the likeliest digit


@dataclass(frozen=True)
class Digit:
    """A model's answer for one glyph. `label`: the index of the class, or None if unsure; `probability`: the likeliest
    class's; `probabilities` (C,): the mean over the views; `reason`: why the model is unsure, "" if it is not.
    """

    label: int | None
    probability: float
    probabilities: NDArray
    glyph: Glyph
    reason: str = ""


def shifted(pixels: Pixels) -> Pixels:
    """Views of one glyph (H, W) -> (9, H, W): first itself, then shifted by one pixel in each of eight directions.

    A frame smaller than 16 pixels has no margin for a shift: (1, H, W).
    """
    if min(pixels.shape) < 16:
        return pixels[None]
    height, width = pixels.shape
    padded = np.pad(pixels, 1)
    moves = sorted(((dy, dx) for dy in range(3) for dx in range(3)), key=lambda move: move != (1, 1))
    return np.stack([padded[dy : dy + height, dx : dx + width] for dy, dx in moves])


def decide(glyph: Glyph, probabilities: NDArray) -> Digit:
    """Combine the answers for the views of one glyph; `probabilities` (k, C): one row for each view.

    The digit is unsure if the glyph's geometry speaks against a digit, if the two likeliest classes are close, or if
    too few views vote for the likeliest.
    """
    mean = probabilities.mean(axis=0)
    second, first = (int(i) for i in np.argsort(mean, kind="stable")[-2:])
    votes = float((probabilities.argmax(axis=1) == first).mean())
    reason = glyph.reason
    if not reason and mean[first] - mean[second] < MARGIN:
        reason = f"unsure: {first} or {second}"
    if not reason and votes < AGREEMENT:
        reason = f"unsure: {first} or {second}, depending on how it is shifted"
    return Digit(None if reason else first, float(mean[first]), mean, glyph, reason)
