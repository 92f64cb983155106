"""One digit as a model reads it: several views of its glyph, and what their answers say together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xpnet.photo.glyph import Glyph, Pixels

MARGIN = 0.4  # the two likeliest digits are at least so far apart: a refusal is better than a wrong digit
AGREEMENT = 0.7  # at least this fraction of the views votes for the likeliest digit


@dataclass(frozen=True)
class Digit:
    """What a model says of one glyph. `label`: the number of the class, or None for "unsure"; `probability` of the
    likeliest class; `probabilities` (C,), the mean over the views; `reason`: why it is unsure, "" if it is not.
    """

    label: int | None
    probability: float
    probabilities: NDArray
    glyph: Glyph
    reason: str = ""


def shifted(pixels: Pixels) -> Pixels:
    """Views of one glyph (H, W) -> (9, H, W): itself first, then moved by one pixel to all eight sides.

    A frame without margin (smaller than 16 pixels) has no room for that: (1, H, W).
    """
    if min(pixels.shape) < 16:
        return pixels[None]
    height, width = pixels.shape
    padded = np.pad(pixels, 1)
    moves = sorted(((dy, dx) for dy in range(3) for dx in range(3)), key=lambda move: move != (1, 1))
    return np.stack([padded[dy : dy + height, dx : dx + width] for dy, dx in moves])


def decide(glyph: Glyph, probabilities: NDArray) -> Digit:
    """What the views of one glyph say together: `probabilities` (k, C), a row for each view.

    "Unsure" where the glyph's geometry speaks against a digit, where the two likeliest classes are close, or where
    few views vote for the likeliest.
    """
    mean = probabilities.mean(axis=0)
    second, first = (int(i) for i in np.argsort(mean, kind="stable")[-2:])
    votes = float((probabilities.argmax(axis=1) == first).mean())
    reason = glyph.reason
    if not reason and mean[first] - mean[second] < MARGIN:
        reason = f"unsure: {first} or {second}"
    if not reason and votes < AGREEMENT:
        reason = f"unsure: {first} or {second}, as it is shifted"
    return Digit(None if reason else first, float(mean[first]), mean, glyph, reason)
