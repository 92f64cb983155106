"""What `second_generator` writes on its sheets: opacity as images of mode "L", cropped to the ink. No code is shared
with `photo_signs`, and no font: these are DejaVu's.

Letters: A to Z in capitals but O, I, Z, S and B. These five are how many hands write 0, 1, 2, 5 and 8, and no reader of
single signs can tell.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

LETTERS = "ACDEFGHJKLMNPQRTUVWXY"
FONTS = sorted((Path(matplotlib.get_data_path()) / "fonts" / "ttf").glob("DejaVuS*[!y].ttf"))  # matplotlib brings them
SHAPES = ("triangle", "star", "cross", "arrow", "disc", "house", "tick", "grid")


def digit(image: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """An outline through the grey levels of MNIST, then a pen that is up to a quarter wider or narrower."""
    side = int(rng.integers(60, 330))
    scale = side / 20
    large = Image.fromarray(np.pad(image, 2)).resize((round(32 * scale),) * 2, Image.Resampling.LANCZOS)
    grey = np.asarray(large.filter(ImageFilter.GaussianBlur(0.35 * scale)), np.float32)
    outline = Image.fromarray(((grey > min(110, 0.55 * grey.max())) * 255).astype(np.uint8))
    width = 0.9 * scale * rng.uniform(-0.35, 1)
    if width > 0:  # below, a thin digit would be rubbed out
        outline = outline.filter(ImageFilter.GaussianBlur(width)).point(lambda value: 255 * (value > 60))
    return _cropped(outline)


def with_a_gap(sign: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cut through at a random place of the ink, a gap of a twentieth to a twelfth of the height."""
    y, x = np.nonzero(np.asarray(sign) > 127)
    at, turn = int(rng.integers(len(y))), rng.uniform(0, np.pi)
    reach, gap = 0.25 * max(sign.size), max(sign.size) * rng.uniform(0.05, 0.08)
    dx, dy = reach * np.cos(turn), reach * np.sin(turn)
    cut = sign.copy()
    ends = [(float(x[at] - dx), float(y[at] - dy)), (float(x[at] + dx), float(y[at] + dy))]
    ImageDraw.Draw(cut).line(ends, 0, round(gap))
    return _cropped(cut)


def without_loops(sign: Image.Image) -> Image.Image:
    outside = ImageChops.invert(sign.point(lambda value: 255 * (value > 127)))
    outside = Image.fromarray(np.pad(np.asarray(outside), 1, constant_values=255))
    outside = outside.copy()  # Pillow writes only into memory of its own
    ImageDraw.floodfill(outside, (0, 0), 128)
    filled = np.where(np.asarray(outside) == 128, 0, 255).astype(np.uint8)
    return _cropped(Image.fromarray(filled))


def letter(rng: np.random.Generator) -> Image.Image:
    """In one of the fonts, a little bent, as by hand."""
    font = ImageFont.truetype(str(FONTS[rng.integers(len(FONTS))]), int(rng.integers(90, 330)))
    letter = LETTERS[rng.integers(len(LETTERS))]
    page = Image.new("L", (500, 500))
    ImageDraw.Draw(page).text((250, 250), letter, 255, font, anchor="mm")
    return _cropped(_bent(_cropped(page), rng.uniform(0, 0.06), rng))


def bar(rng: np.random.Generator) -> Image.Image:
    """A filled rectangle at most three times as long as wide, in any direction: a longer one is a bold 1."""
    long = rng.uniform(60, 300)
    box = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * [long / 2, long / rng.uniform(1, 3) / 2]
    turn = rng.choice([0, np.pi / 2, rng.uniform(0, np.pi)])
    return _polygon(box @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]]))


def _polygon(points: np.ndarray, width: int = 0) -> Image.Image:
    page = Image.new("L", (600, 600))
    corners = [(float(x) + 300, float(y) + 300) for x, y in points]
    if width:
        ImageDraw.Draw(page).line([*corners, corners[0]], 255, width, joint="curve")
    else:
        ImageDraw.Draw(page).polygon(corners, 255)
    return _cropped(page)


def shape(rng: np.random.Generator) -> Image.Image:
    """What children draw, none of it round: a ring is a 0."""
    kind, pen = SHAPES[rng.integers(len(SHAPES))], int(rng.integers(8, 28))
    page = Image.new("L", (420, 420))
    draw = ImageDraw.Draw(page)
    if kind == "disc":
        draw.ellipse((110, 110, 310, 310), 255)
    around = lambda n, turn=0.0: [
        (210 + 150 * np.sin(t), 210 - 150 * np.cos(t)) for t in 2 * np.pi * (np.arange(n) + turn) / n
    ]
    strokes = {
        "triangle": [[*around(3), around(3)[0]]],
        "star": [[around(5)[i * 2 % 5] for i in range(6)]],
        "cross": [[(90, 90), (330, 330)], [(330, 90), (90, 330)]],
        "arrow": [[(60, 210), (360, 210)], [(260, 110), (360, 210), (260, 310)]],
        "house": [[(90, 340), (90, 180), (210, 60), (330, 180), (330, 340), (90, 340)], [(90, 180), (330, 180)]],
        "tick": [[(70, 230), (160, 330), (350, 60)]],
        "grid": [[(150, 60), (150, 360)], [(270, 60), (270, 360)], [(60, 150), (360, 150)], [(60, 270), (360, 270)]],
    }  # fmt: skip
    for stroke in strokes.get(kind, []):
        draw.line([(float(x), float(y)) for x, y in stroke], 255, pen, joint="curve")
    small = _cropped(_bent(page, rng.uniform(0, 0.05), rng))
    scale = rng.uniform(0.3, 1)
    return small.resize((max(int(small.width * scale), 1), max(int(small.height * scale), 1)), Image.Resampling.BOX)


def scribble(rng: np.random.Generator) -> Image.Image:
    """Two oscillations of unlike frequencies across each other: many crossings, no sign."""
    t = np.linspace(0, 2 * np.pi, 1500)
    a, b = rng.choice([3, 4, 5, 7, 9], 2, replace=False)
    size = rng.uniform(70, 200, 2)
    drift = rng.uniform(-0.4, 0.4, 2)
    x = size[0] * (np.sin(a * t + rng.uniform(0, 6)) + drift[0] * np.sin(t))
    y = size[1] * (np.sin(b * t + rng.uniform(0, 6)) + drift[1] * np.cos(2 * t))
    page = Image.new("L", (700, 700))
    line = [(350 + float(u), 350 + float(v)) for u, v in zip(x, y, strict=True)]
    ImageDraw.Draw(page).line(line, 255, int(rng.integers(4, 10)), joint="curve")
    return _cropped(page)


def _bent(sign: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Moved along by a slow wave, across and down; `amount` in parts of the side."""
    page = np.pad(np.asarray(sign), max(sign.size) // 6)
    y, x = np.indices(page.shape)
    reach = amount * max(sign.size)
    wave = lambda along: (
        reach * np.sin(2 * np.pi * along / (max(sign.size) * rng.uniform(0.7, 1.6)) + rng.uniform(0, 6))
    )
    rows, columns = y + wave(x), x + wave(y)
    rows, columns = (np.clip(v, 0, n - 1).astype(int) for v, n in zip((rows, columns), page.shape, strict=True))
    return Image.fromarray(page[rows, columns]).filter(ImageFilter.MedianFilter(3))


def _cropped(sign: Image.Image) -> Image.Image:
    box = sign.point(lambda value: 255 * (value > 127)).getbbox()
    return sign.crop(box) if box else sign
