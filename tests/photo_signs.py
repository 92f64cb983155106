"""What a pen may leave on paper, as opacity (h, w) in [0, 1]: digits of MNIST, digits gone wrong, and things that are
no digits. `photo_generator` puts them into photos, and the model in the package learns from them.

Letters: A to Z in capitals but O, I, Z, S and B. These five are how many hands write 0, 1, 2, 5 and 8, and no reader of
single signs can tell.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from xpnet.photo.components import find_pieces

LETTERS = "ACDEFGHJKLMNPQRTUVWXY"
FACES = ("cmr10", "cmss10", "cmtt10", "cmb10", "cmmi10", "cmti10")
FACES += ("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta")
FONTS = [Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{face}.ttf" for face in FACES]  # matplotlib brings them

# The same letters as strokes of a hand: the points as column and row of a grid of 5 x 7, a round stroke after "~",
# another way to write the letter after "|".
STROKES = {
    "A": "06 20 46, 14 34",
    "C": "~ 41 20 02 04 26 45",
    "D": "00 06, ~ 00 30 42 44 36 06 | 00 06, ~ 00 20 41 45 26 06",
    "E": "40 00 06 46, 03 33",
    "F": "40 00 06, 03 33",
    "G": "~ 41 20 02 04 26 45, 45 43 23",
    "H": "00 06, 40 46, 03 43",
    "J": "10 40, ~ 30 33 35 16 04 | ~ 30 33 35 16 04 | ~ 20 23 25 26 16 15 | ~ 30 33 36 27 17",
    "K": "00 06, 40 03 46",
    "L": "00 06 46",
    "M": "06 00 23 40 46",
    "N": "06 00 46 40",
    "P": "00 06, ~ 00 30 41 42 33 03",
    "Q": "~ 20 01 05 26 45 41 20, 24 46 | ~ 20 00 06 26 46 40 20, 36 47 | ~ 20 00 06 26 46 40 20, 26 47",
    "R": "00 06, ~ 00 30 41 42 33 03, 23 46",
    "T": "00 40, 20 26",
    "U": "~ 00 04 16 36 44 40",
    "V": "00 26 40",
    "W": "00 16 20 36 40",
    "X": "00 46, 40 06",
    "Y": "00 23 40, 23 26",
}

# Turned to its side, seen in a mirror, upside down: digits that are none any more.
TURNS = (
    ((2, 3, 4, 5, 7), lambda sign: np.rot90(sign)),
    ((2, 3, 4, 5, 7), lambda sign: np.rot90(sign, 3)),
    ((3, 6, 7, 9), lambda sign: sign[:, ::-1]),
    ((3, 4, 7), lambda sign: sign[::-1, ::-1]),
)


def pen_stroke(digit: np.ndarray, side: int, tilt: float, rng: np.random.Generator) -> np.ndarray:
    """The digit, its ink about `side` pixels tall or wide, thin or thick, tilted."""
    y, x = np.nonzero(digit > 60)
    crop = np.pad(digit[y.min() : y.max() + 1, x.min() : x.max() + 1], 3)
    scale = side / (max(crop.shape) - 6)
    size = round(crop.shape[1] * scale), round(crop.shape[0] * scale)
    large = Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC)
    soft = np.asarray(large.filter(ImageFilter.GaussianBlur(0.45 * scale)), np.float32) / 255
    level = rng.uniform(0.17, 0.5)  # where the outline runs: low for a thick pen, high for a thin one
    level = min(level, 0.5 * float(np.quantile(soft[soft > 0.15], 0.5)))  # a thin digit is not rubbed out
    steep = max(0.6 * scale, 0.5 / level)  # no ink at all where there is none
    sharp = np.clip((soft - level) * steep + 0.5, 0, 1)
    pressure = clouds(sharp.shape, max(side // 5, 2), rng) * 0.12 + clouds(sharp.shape, 2, rng) * 0.08
    pen = Image.fromarray((np.clip(sharp * (0.95 + pressure), 0, 1) * 255).astype(np.uint8))
    turned = pen.rotate(tilt, Image.Resampling.BICUBIC, expand=True)
    return np.asarray(turned, np.float32) / 255


def clouds(shape: tuple[int, int], size: int, rng: np.random.Generator) -> np.ndarray:
    """Smooth noise of standard deviation near 1, with features of about `size` pixels."""
    grid = [max(n // size, 1) + 2 for n in shape]
    coarse = Image.fromarray(rng.standard_normal(grid).astype(np.float32))
    return np.asarray(coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC))


# Digits gone wrong ----------------------------------------------------------------------------------------------


def broken(sign: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The pen failed once: a straight gap across a random place of the ink."""
    y, x = np.nonzero(sign > 0.5)
    at, turn, side = int(rng.integers(len(y))), rng.uniform(0, np.pi), max(sign.shape)
    down, right = np.indices(sign.shape) - np.array([y[at], x[at]])[:, None, None]
    across = np.abs(right * np.cos(turn) + down * np.sin(turn))
    return np.where((across < side * rng.uniform(0.02, 0.04)) & (np.hypot(down, right) < 0.25 * side), 0, sign)


def filled(sign: np.ndarray) -> np.ndarray:
    """The loops are full of ink."""
    paper = find_pieces(np.pad(sign < 0.5, 1, constant_values=True)).labels[1:-1, 1:-1]
    return np.where(paper > 1, 1, sign)  # the first piece in raster order is the paper around


# No digits ------------------------------------------------------------------------------------------------------


def letter(rng: np.random.Generator) -> np.ndarray:
    """A capital of a font, written with a pen of any width, tilted, and bent as by hand."""
    font = ImageFont.truetype(str(FONTS[rng.integers(len(FONTS))]), 100)
    page = Image.new("L", (260, 260))
    ImageDraw.Draw(page).text((130, 130), LETTERS[rng.integers(len(LETTERS))], 255, font, anchor="mm")
    page = page.crop(page.getbbox())
    page = page.resize((max(int(page.width * rng.uniform(0.75, 1.15)), 4), page.height))
    page = Image.fromarray(np.pad(np.asarray(page), 8)).filter(ImageFilter.MaxFilter(2 * int(rng.integers(4)) + 1))
    page = page.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
    return bent(np.asarray(page, np.float32) / 255, rng.uniform(0, 0.05), rng)


def hand_letter(rng: np.random.Generator) -> np.ndarray:
    """A capital of `STROKES`, every point a little off its place."""
    page, pen = Image.new("L", (240, 240)), int(rng.integers(8, 26))
    size = np.array([40 * rng.uniform(0.6, 1.1), 30])  # of a square of the grid, across and down
    slant = rng.uniform(-0.25, 0.25)
    way = rng.choice(STROKES[LETTERS[rng.integers(len(LETTERS))]].split("|"))
    for stroke in way.split(","):
        points = np.array([[int(name[0]), int(name[1])] for name in stroke.split() if name != "~"], float)
        points = (points - [2, 3] + rng.normal(0, 0.2, points.shape)) * size
        for _ in range(3 if "~" in stroke else 0):  # Chaikin's corner cutting (1974)
            near, far = 0.75 * points[:-1] + 0.25 * points[1:], 0.25 * points[:-1] + 0.75 * points[1:]
            points = np.concatenate([points[:1], np.stack([near, far], 1).reshape(-1, 2), points[-1:]])
        line = [(120 + float(x - slant * y), 120 + float(y)) for x, y in points]
        draw = ImageDraw.Draw(page)
        draw.line(line, 255, pen, joint="curve")
        for x, y in (line[0], line[-1]):
            draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 255)
    return bent(np.asarray(page, np.float32) / 255, rng.uniform(0, 0.03), rng)


def bent(sign: np.ndarray, amount: float, rng: np.random.Generator) -> np.ndarray:
    """Each point moved by about `amount` of the side, neighbours alike."""
    side = max(sign.shape)
    wide = np.pad(sign, side // 5)
    coarse = tuple(max(length // 4, 1) for length in wide.shape)
    moved = [
        np.clip(at + amount * side * clouds(wide.shape, min(coarse), rng), 0, length - 1).astype(int)
        for at, length in zip(np.indices(wide.shape), wide.shape, strict=True)
    ]
    return wide[moved[0], moved[1]]


def strokes(rng: np.random.Generator) -> np.ndarray:
    """Two to five straight or round strokes anywhere."""
    page = Image.new("L", (200, 200))
    draw = ImageDraw.Draw(page)
    for _ in range(int(rng.integers(2, 6))):
        pen = int(rng.integers(6, 20))
        if rng.random() < 0.6:
            points = rng.uniform(20, 180, (int(rng.integers(2, 5)), 2))
            draw.line([(float(x), float(y)) for x, y in points], 255, pen, joint="curve")
        else:
            (left, top), (right, bottom) = np.sort(rng.uniform(20, 180, (2, 2)), axis=0).tolist()
            start = rng.uniform(0, 360)
            draw.arc((left, top, right + 10, bottom + 10), start, start + rng.uniform(90, 360), 255, pen)
    return np.asarray(page, np.float32) / 255


def outline(rng: np.random.Generator) -> np.ndarray:
    """A triangle or a quadrangle, on half of them with a line across; with more corners it would be a 0."""
    n = int(rng.integers(3, 5))
    angles = 2 * np.pi * (np.arange(n) + rng.uniform(-0.2, 0.2, n) + rng.uniform()) / n
    around = 100 + rng.uniform(50, 85, n)[:, None] * np.stack([np.sin(angles), np.cos(angles)], axis=1)
    corners = [(float(x), float(y)) for x, y in around]
    page, pen = Image.new("L", (200, 200)), int(rng.integers(5, 20))
    draw = ImageDraw.Draw(page)
    draw.line([*corners, *corners[:2]], 255, pen, joint="curve")
    if rng.random() < 0.5:
        first, second = (around + np.roll(around, 1, axis=0))[:2] / 2  # the middles of two sides
        draw.line([(float(first[0]), float(first[1])), (float(second[0]), float(second[1]))], 255, pen)
    return bent(np.asarray(page, np.float32) / 255, rng.uniform(0, 0.04), rng)


def bar(rng: np.random.Generator) -> np.ndarray:
    """A filled rectangle, oval or triangle, at most three times as long as wide, in any direction."""
    page, side = Image.new("L", (260, 260)), 200 / rng.uniform(1, 3)
    box = 130 - side / 2, 30, 130 + side / 2, 230
    kind = rng.choice(["rectangle", "oval", "triangle"], p=[0.7, 0.15, 0.15])
    draw = ImageDraw.Draw(page)
    if kind == "rectangle":
        draw.rectangle(box, 255)
    elif kind == "oval":
        draw.ellipse(box, 255)
    else:
        draw.polygon([(130, 30), (130 + side / 2, 230), (130 - side / 2, 230)], 255)
    turn = rng.choice([0, 90, rng.uniform(0, 180)]) + rng.uniform(-8, 8)
    return np.asarray(page.rotate(turn, Image.Resampling.BICUBIC), np.float32) / 255


def scribble(rng: np.random.Generator, width: int = 300, height: int = 300) -> np.ndarray:
    """A pen that goes round and round, or to and fro, many times."""
    lines = Image.new("L", (width, height))
    points = int(rng.integers(25, 90))
    size = rng.uniform(0.12, 0.35) * min(width, height)
    turn = np.cumsum(rng.uniform(0.4, 1.6, points) * rng.choice([-1, 1], points, p=[0.2, 0.8]))
    reach = rng.uniform(0.3, 1, (points, 2)) * size
    x = width / 2 + np.cos(turn) * reach[:, 0] + np.linspace(-1, 1, points) * size * rng.uniform(0, 0.8)
    y = height / 2 + np.sin(turn) * reach[:, 1]
    thick = int(max(2, size * rng.uniform(0.02, 0.1)))
    if rng.random() < 0.5:  # a quick hand draws curves
        fine, coarse = np.linspace(0, points - 1, 8 * points), np.arange(points)
        round_off = np.hanning(15) / np.hanning(15).sum()
        x, y = (np.convolve(np.interp(fine, coarse, line), round_off, mode="valid") for line in (x, y))
    ImageDraw.Draw(lines).line(list(zip(x, y, strict=True)), 255, thick, joint="curve")
    return np.asarray(lines, np.float32) / 255


def turned(images: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A digit turned or mirrored so that it is none."""
    suited, turn = TURNS[rng.integers(len(TURNS))]
    index = rng.choice(np.flatnonzero(np.isin(labels, suited)))
    return np.ascontiguousarray(turn(pen_stroke(images[index], int(rng.integers(50, 130)), rng.uniform(-12, 12), rng)))


def two_digits(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Two digits that touch."""
    left, right = (pen_stroke(images[rng.integers(len(images))], 80, rng.uniform(-12, 12), rng) for _ in range(2))
    overlap = int(rng.integers(2, 25))
    both = np.zeros((max(len(left), len(right)), left.shape[1] + right.shape[1] - overlap), np.float32)
    both[: len(left), : left.shape[1]] = left
    part = both[: len(right), -right.shape[1] :]
    np.maximum(part, right, out=part)
    return both
