"""What the model that comes with the package learns from: glyphs of digits, and of what is none.

Half of it is drawn into small photos and found there by the reading itself: such a glyph is sharper than one that was
only drawn, and thin pens leave gaps in it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import Executor
from itertools import chain
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from xpnet import data
from xpnet.photo import Pixels
from xpnet.photo.glyph import draw_glyph
from xpnet.photo.shapes import Shape
from xpnet.photo.sheet import _taken_apart

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import photo_signs as signs

Sign = np.ndarray  # what a pen left, as opacity (h, w) in [0, 1]
NO_DIGITS = {"letter": 16_000, "strokes": 5000, "outline": 4000, "turned": 7000, "two digits": 2000}
NO_DIGITS["hand letter"] = 17_000
FEW_J = signs.LETTERS.replace("J", "") * 3 + "J"  # a 5 without its bar looks like a J
DIGITS_A_TASK, OTHERS_A_TASK = 500, 250


# Digits ---------------------------------------------------------------------------------------------------------


def digits(how: Callable[[tuple[int, int]], list[Pixels]], stream: int, pool: Executor) -> Pixels:
    """All of MNIST's training digits, each as `how` gives it: (60000, 28, 28)."""
    starts = range(0, 60_000, DIGITS_A_TASK)
    return np.stack(list(chain.from_iterable(pool.map(how, [(start, stream) for start in starts]))))


def drawn(task: tuple[int, int]) -> list[Pixels]:
    """Digits as they are drawn without a photo."""
    rng, some = _begun(task)
    return [sharpened(_sign(image, label, rng), rng) for image, label in some]


def in_photos(task: tuple[int, int]) -> list[Pixels]:
    """Digits as they are found in photos."""
    rng, some = _begun(task)
    glyphs = []
    for image, label in some:
        sign = _sign(image, label, rng)
        found = photographed(sign, rng)
        glyphs.append(sharpened(sign, rng) if found is None else found)
    return glyphs


def worn_in_photos(task: tuple[int, int]) -> list[Pixels]:
    """Digits that are harder to read, as they are found in photos: a fifth of them by a pen that hardly pressed in
    places, others with several gaps, and 1s with a flag."""
    rng, some = _begun(task)
    glyphs = []
    for image, label in some:
        sign = _worn_sign(image, label, rng)
        found = photographed(sign, rng)
        glyphs.append(sharpened(sign, rng) if found is None else found)
    return glyphs


def closed_fours(glyphs: Pixels) -> Pixels:
    """The glyphs of MNIST's training digits, an eighth of the 4s by a pen so bold that the top closes: nobody can tell
    them from 9s, and a model that has seen both is unsure."""
    rng, train, glyphs = np.random.default_rng(44), data.load("mnist").train, glyphs.copy()
    for i in np.flatnonzero(train.y == 4):
        if rng.random() > 0.12:
            continue
        sign = signs.pen_stroke(train.x[i], int(rng.integers(60, 115)), rng.uniform(-12, 12), rng)
        pen = 2 * int(rng.integers(2, 8)) + 1
        bold = _image(np.pad(sign, pen)).filter(ImageFilter.MaxFilter(pen))
        sign = np.asarray(bold, np.float32) / 255
        found = photographed(signs.filled(sign) if rng.random() < 0.5 else sign, rng)
        if found is not None:
            glyphs[i] = found
    return glyphs


def _begun(task: tuple[int, int]) -> tuple[np.random.Generator, list[tuple[Pixels, int]]]:
    """The random numbers and the digits of one task."""
    start, stream = task
    train, part = data.load("mnist").train, slice(start, start + DIGITS_A_TASK)
    return np.random.default_rng([stream, start]), list(zip(train.x[part], train.y[part].tolist(), strict=True))


def _sign(image: Pixels, label: int, rng: np.random.Generator) -> Sign:
    """8 % are broken, of 6, 8 and 9 another 12 % filled."""
    sign = signs.pen_stroke(image, int(rng.integers(60, 115)), rng.uniform(-12, 12), rng)
    wrong = rng.random()
    if wrong < 0.08:
        return signs.broken(sign, rng)
    return signs.filled(sign) if wrong < 0.2 and label in (6, 8, 9) else sign


def _worn_sign(image: Pixels, label: int, rng: np.random.Generator) -> Sign:
    if label == 1 and rng.random() < 0.2:
        sign = flagged_1(rng)
    else:
        sign = signs.pen_stroke(image, int(rng.integers(60, 115)), rng.uniform(-12, 12), rng)
    wrong = rng.random()
    if wrong < 0.06:
        sign = signs.broken(sign, rng)
    elif wrong < 0.16 and label in (6, 8, 9):
        sign = signs.filled(sign)
    elif wrong > 0.8:
        sign = pressed_unevenly(sign, rng)
    elif wrong > 0.77:
        for _ in range(int(rng.integers(2, 4))):
            sign = signs.broken(sign, rng)
    return sign


def flagged_1(rng: np.random.Generator) -> Sign:
    """A 1 as many hands write it: a stroke, a flag from its top down to the left, sometimes a foot."""
    page, pen, tall = Image.new("L", (240, 240)), int(rng.integers(8, 34)), 150
    lean = rng.uniform(-0.1, 0.35)
    top, bottom = (np.array([120 + side * lean * tall / 2, 120 - side * tall / 2]) for side in (1, -1))
    angle, length = np.radians(rng.uniform(22, 62)), tall * rng.uniform(0.15, 0.5)
    flag = top + length * np.array([-np.sin(angle), np.cos(angle)])
    points = np.array([flag, top, bottom]) + rng.normal(0, 3, (3, 2))
    line, draw = [(float(x), float(y)) for x, y in points], ImageDraw.Draw(page)
    draw.line(line, 255, pen, joint="curve")
    if rng.random() < 0.2:
        (x, y), half = line[-1], tall * rng.uniform(0.12, 0.3)
        foot = [(x - half, y + rng.uniform(-4, 4)), (x + half, y + rng.uniform(-4, 4))]
        draw.line(foot, 255, pen)
        line += foot
    for x, y in line:
        draw.ellipse((x - pen / 2, y - pen / 2, x + pen / 2, y + pen / 2), 255)
    sign = signs.bent(np.asarray(page, np.float32) / 255, rng.uniform(0, 0.03), rng)
    y, x = np.nonzero(sign > 0.2)
    cropped = sign[max(y.min() - 3, 0) : y.max() + 4, max(x.min() - 3, 0) : x.max() + 4]
    return _scaled(cropped, int(rng.integers(60, 115)), 4)


def pressed_unevenly(sign: Sign, rng: np.random.Generator) -> Sign:
    """The pen presses more or less as it goes, and in places hardly at all."""
    pressure = signs.clouds(sign.shape, max(max(sign.shape) // int(rng.integers(5, 12)), 2), rng)
    pressed = sign * np.clip(rng.uniform(0.8, 1.25) + rng.uniform(0.2, 0.5) * pressure, 0, 1)
    return pressed if pressed.max() >= 0.5 else sign


# What is no digit -----------------------------------------------------------------------------------------------


def others(pool: Executor) -> Pixels:
    """Glyphs that are no digits, the kinds one after the other: (51000, 28, 28)."""
    return _others(list(NO_DIGITS), signs.LETTERS, 0, pool)


def letters_with_few_j(pool: Executor) -> Pixels:
    """(33000, 28, 28)."""
    return _others(["letter", "hand letter"], FEW_J, 900_000, pool)


def _others(kinds: list[str], letters: str, stream: int, pool: Executor) -> Pixels:
    tasks = [
        (kind, letters, stream + 1000 * task + i)
        for i, kind in enumerate(kinds)
        for task in range(NO_DIGITS[kind] // OTHERS_A_TASK)
    ]
    return np.stack(list(chain.from_iterable(pool.map(_some_others, tasks))))


def _some_others(task: tuple[str, str, int]) -> list[Pixels]:
    """Every other task is drawn into photos."""
    kind, letters, stream = task
    train, rng = data.load("mnist").train, np.random.default_rng([77, stream])
    x, y = train.x[:55_000], train.y[:55_000]
    make: dict[str, Callable[[np.random.Generator], Sign]] = {
        "letter": lambda rng: signs.letter(rng, letters),
        "hand letter": lambda rng: signs.hand_letter(rng, letters),
        "strokes": signs.strokes,
        "outline": signs.outline,
        "turned": lambda rng: signs.turned(x, y, rng),
        "two digits": lambda rng: signs.two_digits(x, rng),
    }
    glyphs = []
    for _ in range(OTHERS_A_TASK):
        sign = make[kind](rng)
        photo = stream // 1000 % 2 == 0
        found = photographed(_scaled(sign, 100, 3) if max(sign.shape) > 120 else sign, rng) if photo else None
        glyphs.append(sharpened(sign, rng) if found is None else found)
    return glyphs


# From a sign to a glyph -----------------------------------------------------------------------------------------


def photographed(sign: Sign, rng: np.random.Generator) -> Pixels | None:
    """What the reading finds in a small photo of the sign: a sheet or a board with grain, a pen that covers it more or
    less, light from one side, a camera out of focus, noise. None where that is not one glyph that may be a digit."""
    room = round(max(sign.shape) * rng.uniform(0.25, 0.6))
    alpha = np.pad(sign, room)
    dark, light = rng.uniform(0.02, 0.45), rng.uniform(0.55, 1)
    paper, ink = (dark, light) if rng.random() < 0.25 else (light, dark)
    grain = signs.clouds(alpha.shape, 2, rng)
    if rng.random() < 0.5:
        alpha = alpha * (1 - rng.uniform(0, 0.4) * np.clip(grain, 0, 1))
    page = paper + rng.uniform(0, 0.015) * grain[::-1] + rng.uniform(0, 0.02) * signs.clouds(alpha.shape, 40, rng)
    page = page * (1 - alpha) + ink * alpha
    y, x = np.ogrid[-1 : 1 : alpha.shape[0] * 1j, -1 : 1 : alpha.shape[1] * 1j]
    turn = rng.uniform(0, 2 * np.pi)
    page = page * (1 - rng.uniform(0, 0.3) * (np.cos(turn) * x + np.sin(turn) * y + 1.4) / 2.8)
    taken = _image(page).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.012) * max(sign.shape)))
    seen = np.asarray(taken, np.float32) + rng.normal(0, rng.uniform(0, 7), alpha.shape)
    luma = (np.clip(seen, 0, 255) / 255).astype(np.float32)
    glyphs = _taken_apart(luma, luma, (0, 0), (28, 28)).glyphs
    return glyphs[0].pixels if len(glyphs) == 1 and not glyphs[0].reason else None


def sharpened(sign: Sign, rng: np.random.Generator) -> Pixels:
    """Drawn without a photo, on 7 of 10 signs with edges up to four times as steep."""
    steep = rng.uniform(1, 4)
    return glyph(np.clip((sign - 0.5) * steep + 0.5, 0, 1) if rng.random() < 0.7 else sign, rng)


def glyph(sign: Sign, rng: np.random.Generator) -> Pixels:
    """As the reading draws it, from a camera that may be out of focus."""
    blur = ImageFilter.GaussianBlur(rng.uniform(0, 0.02) * max(sign.shape))
    soft = np.asarray(Image.fromarray((sign * 255).astype(np.uint8)).filter(blur), np.float32)
    soft = np.clip(soft / soft.max() * np.float32(rng.uniform(1, 1.25)), 0, 1)
    y, x = np.nonzero(soft > 0.35)
    box = int(x.min()), int(y.min()), int(x.max()) + 1, int(y.max()) + 1
    part = soft[box[1] : box[3], box[0] : box[2]]
    return draw_glyph(Shape(part > 0.35, box, float(part[part > 0.35].mean())), soft, (28, 28))


def _image(values: np.ndarray) -> Image.Image:
    return Image.fromarray((np.clip(values, 0, 1) * 255).astype(np.uint8))


def _scaled(sign: Sign, side: int, least: int) -> Sign:
    """So that the longer side has `side` pixels, the shorter at least `least`."""
    scale = side / max(sign.shape)
    height, width = (max(round(n * scale), least) for n in sign.shape)
    return np.asarray(_image(sign).resize((width, height), Image.Resampling.BOX), np.float32) / 255
