"""A second maker of photo-like images, to measure with: nothing of the reading was tuned on it.

It shares no code with `photo_generator` but the record and the score. A digit of MNIST, a letter of a font or a drawing
is put on a sheet with a pen of its own kind; the sheet is seen in perspective, lit, and taken with a camera that
shakes, focuses badly, and writes JPEG.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

import numpy as np
import second_signs as signs
from photo_generator import Photo
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter

# Each pen: (colours as hue, saturation, value; opacity; how much the paper's grain shows through it).
INKS = {
    "ball pen": ([(0.62, 0.8, 0.5), (0.66, 0.9, 0.3), (0, 0, 0.12), (0.98, 0.8, 0.65)], (0.85, 1.0), 0.1),
    "pencil": ([(0, 0, 0.25), (0.6, 0.1, 0.35)], (0.6, 0.85), 0.35),
    "marker": ([(0, 0, 0.05), (0.6, 0.9, 0.6), (0.35, 0.9, 0.4), (0.0, 0.9, 0.75)], (0.93, 1.0), 0.02),
}
CHALK = ([(0.12, 0.05, 0.95), (0.15, 0.45, 0.95), (0.95, 0.3, 0.95)], (0.75, 0.95), 0.35)
SHEETS = [(0.12, 0.02, 0.97), (0.13, 0.1, 0.93), (0.58, 0.05, 0.92), (0.15, 0.45, 0.95), (0.08, 0.35, 0.75)]
BOARDS = [(0.4, 0.45, 0.25), (0.0, 0.0, 0.14), (0.6, 0.4, 0.25)]
DESKS = [(0.07, 0.5, 0.45), (0.08, 0.35, 0.7), (0.0, 0.0, 0.2), (0.6, 0.15, 0.5)]


def digits(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> Iterator[Photo]:
    """`count` photos, each of one of MNIST's `images` (n, 28, 28) uint8 with `labels` (n,), none of them twice."""
    rng = np.random.default_rng([seed, 1])
    for index in rng.permutation(len(images))[:count]:
        data, kind = _scene(signs.digit(images[index], rng), rng)
        yield Photo(data, int(labels[index]), kind)


def damaged_digits(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> Iterator[Photo]:
    """The same of digits whose pen failed once ("broken"), or whose loops are filled with ink ("filled loop"); only a
    digit that has a loop is filled, and 0 is not: a filled 0 is a disc."""
    rng = np.random.default_rng([seed, 2])
    looped = np.flatnonzero(np.isin(labels, (6, 8, 9)))
    for i in range(count):
        index = int(rng.choice(looped)) if i % 2 else int(rng.integers(len(images)))
        sign = signs.digit(images[index], rng)
        sign = signs.without_loops(sign) if i % 2 else signs.with_a_gap(sign, rng)
        yield Photo(_scene(sign, rng)[0], int(labels[index]), "filled loop" if i % 2 else "broken")


def negatives(count: int, seed: int) -> Iterator[Photo]:
    """`count` photos without a digit: letters, solid bars, shapes, scribbles, bare sheets and textures in turn."""
    rng = np.random.default_rng([seed, 3])
    makers = [signs.letter, signs.bar, signs.shape, signs.scribble]
    written: dict[str, Callable[[np.random.Generator], Image.Image]] = {make.__name__: make for make in makers}
    kinds = [*written, "bare sheet", "texture"]
    for i in range(count):
        kind = kinds[i % len(kinds)]
        if kind == "texture":
            data = _taken(_texture(rng), rng)
        else:
            data = _scene(written[kind](rng) if kind in written else Image.new("L", (90, 90)), rng)[0]
        yield Photo(data, None, kind)


# Sheets ---------------------------------------------------------------------------------------------------------


def _scene(sign: Image.Image, rng: np.random.Generator) -> tuple[bytes, str]:
    """The sign on a sheet, seen by a camera, and what kind of photo that is."""
    board = rng.random() < 0.2
    pen, ink = ("chalk", CHALK) if board else list(INKS.items())[rng.integers(len(INKS))]
    room = max(sign.size) * rng.uniform(0.35, 1.3)
    width, height = (round(length + 2 * room) for length in sign.size)
    sheet = _sheet((width, height), BOARDS if board else SHEETS, rng)
    kind = pen
    if not board and rng.random() < 0.25:
        kind = f"{pen} on squared paper"
        _squares(sheet, rng)
    where = [round(room * rng.uniform(0.7, 1.3)) for _ in range(2)]
    written = Image.new("L", sheet.size)
    written.paste(sign, (where[0], where[1]))
    colours, (low, high), grain = ink
    through = rng.uniform(low, high) * (1 - grain * np.asarray(_noise(sheet.size, 2, rng), np.float32) / 255)
    opacity = np.asarray(written.filter(ImageFilter.GaussianBlur(0.8)), np.float32) * through
    sheet.paste(
        Image.new("RGB", sheet.size, _rgb(colours[rng.integers(len(colours))], rng)),
        (0, 0),
        Image.fromarray(opacity.astype(np.uint8)),
    )
    if rng.random() < 0.15:
        return _taken(_on_a_desk(sheet, rng), rng), f"{kind}, on a desk"
    return _taken(_tilted(sheet, rng), rng), kind


def _rgb(colour: tuple[float, float, float], rng: np.random.Generator) -> tuple[int, int, int]:
    hue, saturation, value = colour
    value = float(np.clip(value + rng.uniform(-0.05, 0.05), 0, 1))
    pixel = Image.new("HSV", (1, 1), (int(255 * hue), int(255 * saturation), int(255 * value)))
    return pixel.convert("RGB").getpixel((0, 0))  # type: ignore[return-value]


def _noise(size: tuple[int, int], scale: float, rng: np.random.Generator) -> Image.Image:
    """Grey noise with a grain of `scale` pixels, full range."""
    small = rng.integers(0, 256, (max(int(size[1] / scale), 2), max(int(size[0] / scale), 2)), np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BILINEAR)


def _sheet(size: tuple[int, int], colours: list, rng: np.random.Generator) -> Image.Image:
    """Fibres, and on a third of the sheets the shading of folds."""
    plain = Image.new("RGB", size, _rgb(colours[rng.integers(len(colours))], rng))
    fibres = np.asarray(_noise(size, 1.5, rng), np.float32) + np.asarray(_noise(size, 9, rng), np.float32) - 255
    shade = 1 + rng.uniform(0, 0.05) * fibres / 255
    if rng.random() < 0.33:
        y, x = np.indices(size[::-1]) / max(size)
        for _ in range(int(rng.integers(1, 4))):
            turn = rng.uniform(0, np.pi)
            across = np.cos(turn) * (x - rng.uniform(0, 1)) + np.sin(turn) * (y - rng.uniform(0, 1))
            shade *= 1 - rng.uniform(0.02, 0.07) * np.tanh(across / 0.03)
    return Image.fromarray(np.clip(np.asarray(plain) * shade[..., None], 0, 255).astype(np.uint8))


def _squares(sheet: Image.Image, rng: np.random.Generator) -> None:
    """Squared paper, printed pale."""
    step, first = int(rng.integers(28, 70)), int(rng.integers(28))
    colour = _rgb((rng.choice([0.58, 0.0, 0.3]), 0.2, 0.8), rng)
    draw = ImageDraw.Draw(sheet)
    for x in range(first, sheet.width, step):
        draw.line((x, 0, x, sheet.height), colour, 1)
    for y in range(first, sheet.height, step):
        draw.line((0, y, sheet.width, y), colour, 1)


def _tilted(sheet: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Turned by up to 10 degrees and seen in perspective, so close that no edge of the sheet is in view."""
    width, height = sheet.size
    turn = np.radians(rng.uniform(-10, 10))
    corners = np.array([(-1, -1), (-1, 1), (1, 1), (1, -1)]) * [width / 2, height / 2]
    corners = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    corners *= rng.uniform(0.9, 1.05, (4, 1))
    beyond = max(sheet.size) // 4  # as far as a corner may lie outside of the sheet
    quad = (corners + np.array([width / 2 + beyond, height / 2 + beyond])).ravel().tolist()
    wide = np.pad(np.asarray(sheet), ((beyond, beyond), (beyond, beyond), (0, 0)), mode="symmetric")
    return Image.fromarray(wide).transform(sheet.size, Image.Transform.QUAD, quad, Image.Resampling.BICUBIC)


def _on_a_desk(sheet: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The whole sheet in view, askew on a desk."""
    turned = Image.merge("RGBA", (*sheet.split(), Image.new("L", sheet.size, 255)))
    turned = turned.rotate(rng.uniform(-12, 12), Image.Resampling.BICUBIC, expand=True)
    margin = round(0.12 * max(sheet.size))
    desk = _sheet((turned.width + 2 * margin, turned.height + 2 * margin), DESKS, rng)
    desk.paste(turned, (margin, margin), turned)
    return desk


def _texture(rng: np.random.Generator) -> Image.Image:
    """Cloth, tiles or planks."""
    width, height = (int(v) for v in rng.integers(320, 900, 2))
    y, x = np.indices((height, width)).astype(np.float32)
    period = rng.uniform(10, 90)
    pattern = {
        0: lambda: np.sin(2 * np.pi * x / period) * np.sin(2 * np.pi * y / period),
        1: lambda: np.where((x // period + y // period) % 2, 1.0, -1.0),
        2: lambda: np.sin(2 * np.pi * (y + 12 * np.sin(x / 60)) / period) + 0.3 * np.sin(x / 3),
    }[int(rng.integers(3))]()
    grey = 128 + rng.uniform(15, 90) * pattern + rng.normal(0, 4, pattern.shape)
    return Image.fromarray(np.clip(grey, 0, 255).astype(np.uint8)).convert("RGB")


# The camera -----------------------------------------------------------------------------------------------------


def _taken(scene: Image.Image, rng: np.random.Generator) -> bytes:
    """Lit, out of focus or shaken, noisy, and compressed; of 256 to 1100 pixels on the long side."""
    scale = rng.uniform(256, 1100) / max(scene.size)
    photo = scene.resize(
        (max(round(scene.width * scale), 40), max(round(scene.height * scale), 40)), Image.Resampling.LANCZOS
    )
    photo = ImageEnhance.Color(_lit(photo, rng)).enhance(rng.uniform(0.6, 1.2))
    photo = photo.filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.003) * max(photo.size)))
    if rng.random() < 0.3:
        photo = _shaken(photo, rng)
    light = np.asarray(photo, np.float32)
    shot = rng.standard_normal(light.shape, np.float32) * np.sqrt(light / 255 + np.float32(0.05))
    noisy = light + shot * np.float32(rng.uniform(0, 8))
    file = io.BytesIO()
    quality, chroma = int(rng.integers(35, 95)), int(rng.integers(3))
    Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality, subsampling=chroma)
    return file.getvalue()


def _lit(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A warm or cold lamp near the sheet, the corners darker, sometimes the shadow of whoever takes the photo."""
    y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in photo.size[::-1])
    y = y[:, None]
    lamp = rng.uniform(-1.5, 1.5, 2)
    light = 1 / (1 + rng.uniform(0, 0.25) * ((x - lamp[0]) ** 2 + (y - lamp[1]) ** 2))
    light *= 1 - rng.uniform(0, 0.12) * (x * x + y * y)
    if rng.random() < 0.35:
        shadow = Image.new("L", photo.size)
        outline = [(float(u), float(v)) for u, v in rng.uniform(-0.3, 1.3, (4, 2)) * photo.size]
        ImageDraw.Draw(shadow).polygon(outline, 255)
        shadow = shadow.filter(ImageFilter.GaussianBlur(rng.uniform(0.04, 0.12) * max(photo.size)))
        light *= 1 - rng.uniform(0.1, 0.4) * np.asarray(shadow, np.float32) / 255
    light *= rng.uniform(0.75, 1.05) / light.max()
    warmth = 1 + rng.uniform(-0.12, 0.12) * np.array([1, 0, -1])
    lit = np.asarray(photo, np.float32) * light[..., None] * warmth.astype(np.float32)
    return Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))


def _shaken(photo: Image.Image, rng: np.random.Generator) -> Image.Image:
    """The mean over a short straight way of the camera."""
    reach, turn = 0.004 * max(photo.size) * rng.uniform(0.3, 1), rng.uniform(0, np.pi)
    moves = [(round(reach * s * np.cos(turn)), round(reach * s * np.sin(turn))) for s in np.linspace(-1, 1, 5)]
    margin = max(photo.size) // 100 + 1
    wide = np.pad(np.asarray(photo, np.float32), ((margin, margin), (margin, margin), (0, 0)), mode="edge")
    parts = [np.roll(wide, (dy, dx), (0, 1))[margin:-margin, margin:-margin] for dx, dy in moves]
    return Image.fromarray(np.mean(parts, axis=0).astype(np.uint8))
