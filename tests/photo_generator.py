"""Photo-like images of handwritten digits, and of things that are no digits, made from MNIST digits and a seed.

Each image is drawn as a camera would see it: a page with a texture under uneven light, ruled lines or the table's
edge on some, a pen or chalk of some colour and pressure, a tilt, blur, sensor noise, and its file format's artefacts.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import photo_signs as signs
from photo_signs import clouds, pen_stroke
from PIL import Image, ImageDraw, ImageFilter

PENS = [(20, 20, 25), (25, 35, 120), (15, 60, 160), (160, 25, 30), (20, 90, 50), (85, 85, 90), (70, 30, 90)]
PAPERS = [(250, 250, 248), (235, 232, 222), (243, 236, 205), (222, 228, 233), (200, 190, 170), (185, 160, 125)]
CHALKS = [(240, 240, 235), (245, 225, 120), (250, 180, 190), (190, 225, 250)]
BOARDS = [(30, 60, 45), (25, 25, 28), (20, 35, 70), (60, 45, 40)]


@dataclass(frozen=True)
class Photo:
    """`data`: the bytes of an image file. `label`: its digit, None if it shows none. `kind`: what it is, in words."""

    data: bytes
    label: int | None
    kind: str


def photos(images: np.ndarray, labels: np.ndarray, count: int = 240, seed: int = 0) -> Iterator[Photo]:
    """`count` photos, each of one digit drawn from MNIST-like `images` (n, 28, 28) uint8 with `labels` (n,)."""
    rng = np.random.default_rng(seed)
    for index in rng.choice(len(images), count, replace=False):
        data, kind = _photo(lambda side, tilt: pen_stroke(images[index], side, tilt, rng), rng)  # noqa: B023
        yield Photo(data, int(labels[index]), kind)


def pages_on_a_table(images: np.ndarray, labels: np.ndarray, count: int = 60, seed: int = 0) -> Iterator[Photo]:
    """`count` photos as `photos` gives, but of a note that lies whole in view, askew, with a table all around it."""
    rng = np.random.default_rng(seed)
    for index in rng.choice(len(images), count, replace=False):
        yield Photo(_page_on_a_table(images[index], rng), int(labels[index]), "page on a table")


def damaged_digits(images: np.ndarray, labels: np.ndarray, count: int, seed: int) -> Iterator[Photo]:
    """As `photos`, but of digits that are broken, or (6, 8 and 9) whose loops are full of ink, in turn."""
    rng = np.random.default_rng(seed)
    looped = np.flatnonzero(np.isin(labels, (6, 8, 9)))
    for i in range(count):
        index = int(rng.choice(looped)) if i % 2 else int(rng.integers(len(images)))
        sign = pen_stroke(images[index], 150, rng.uniform(-12, 12), rng)
        sign = signs.filled(sign) if i % 2 else signs.broken(sign, rng)
        data, _ = _photo(lambda side, tilt: fitted(sign, side), rng)  # noqa: B023
        yield Photo(data, int(labels[index]), "filled loop" if i % 2 else "broken")


def other_signs(count: int, seed: int) -> Iterator[Photo]:
    """As `photos`, but of letters, solid bars and random strokes in turn."""
    rng = np.random.default_rng(seed)
    makers = [signs.letter, signs.bar, signs.strokes]
    for i in range(count):
        make = makers[i % len(makers)]
        data, _ = _photo(lambda side, tilt: fitted(make(rng), side), rng)  # noqa: B023
        yield Photo(data, None, make.__name__)


def fitted(sign: np.ndarray, side: int) -> np.ndarray:
    """Cropped to its ink, which is then `side` pixels tall or wide."""
    y, x = np.nonzero(sign > 0.3)
    crop = Image.fromarray((sign[y.min() : y.max() + 1, x.min() : x.max() + 1] * 255).astype(np.uint8))
    size = [max(round(length * side / max(crop.size)), 3) for length in crop.size]
    return np.pad(np.asarray(crop.resize((size[0], size[1]), Image.Resampling.BICUBIC), np.float32) / 255, 3)


def no_digits(count: int = 200, seed: int = 0) -> Iterator[Photo]:
    """`count` images without a digit: blank and ruled pages, stripes, noise and scribbles in turn."""
    rng = np.random.default_rng(seed)
    kinds = [_blank, _ruled_page, _stripes, _noise, _scribble]
    for i in range(count):
        make = kinds[i % len(kinds)]
        width, height = (int(v) for v in rng.integers(200, 900, 2))
        yield Photo(_camera(make(width, height, rng), rng), None, make.__name__.strip("_").replace("_", " "))


def plain_png(image: np.ndarray, side: int = 200) -> bytes:
    """One MNIST digit as a black-on-white PNG of `side` pixels, nothing else done to it."""
    large = Image.fromarray(255 - image).resize((side, side), Image.Resampling.BICUBIC)
    return _file(large, "PNG")


def row_png(images: np.ndarray, height: int = 120, gap: int = 30) -> bytes:
    """Several MNIST digits (n, 28, 28) side by side, black on white: each cropped, then `gap` pixels apart."""
    page = np.full((height + 2 * gap, gap), 255, np.uint8)
    for image in images:
        y, x = np.nonzero(image > 100)
        crop = image[y.min() : y.max() + 1, x.min() : x.max() + 1]
        scale = height / max(crop.shape)
        size = max(round(crop.shape[1] * scale), 1), max(round(crop.shape[0] * scale), 1)
        drawn = 255 - np.asarray(Image.fromarray(crop).resize(size, Image.Resampling.BICUBIC))
        above = (height - size[1]) // 2 + gap
        below = height + 2 * gap - above - size[1]
        page = np.hstack([page, np.pad(drawn, ((above, below), (0, gap)), constant_values=255)])
    return _file(Image.fromarray(page), "PNG")


def score(images: Iterator[Photo], read: Callable[[bytes], str]) -> Counter[str]:
    """How a reader does: counts of "right", "wrong" and "refused", in all and per kind ("right: chalk").

    `read` maps an image file to the digits in it, such as `lambda data: reader.read(data).text`; "?" in it
    or an empty answer is a refusal. For an image without a digit a refusal is right.
    """
    counts: Counter[str] = Counter()
    for image in images:
        text = read(image.data)
        refused = not text.strip("?")
        if image.label is None:
            outcome = "right" if refused else "wrong"
        else:
            outcome = "refused" if refused else "right" if text == str(image.label) else "wrong"
        counts.update([outcome, f"{outcome}: {image.kind}"])
    return counts


def _photo(sign: Callable[[int, float], np.ndarray], rng: np.random.Generator) -> tuple[bytes, str]:
    """Of `sign(side, tilt)`, whose ink is `side` pixels tall or wide."""
    width, height = (int(v) for v in rng.integers(200, 900, 2))
    side = int(rng.integers(40, min(300, int(0.85 * min(width, height))) + 1))
    tilt = rng.uniform(-12, 12)
    stroke = sign(side, tilt)
    left = int(rng.integers(0, width - stroke.shape[1] + 1)) if stroke.shape[1] < width else 0
    top = int(rng.integers(0, height - stroke.shape[0] + 1)) if stroke.shape[0] < height else 0
    chalk = rng.random() < 0.3
    page = _surface(width, height, BOARDS if chalk else PAPERS, rng)
    kind = "chalk" if chalk else "pen"
    if not chalk and rng.random() < 0.3:
        _rule(page, rng, pale=rng.uniform(0.15, 0.6), tilt=np.radians(tilt * rng.uniform(0, 0.5)))
        kind = "pen on ruled paper"
    elif rng.random() < 0.12:
        _table(page, rng, (left, top, left + stroke.shape[1], top + stroke.shape[0]))
        kind += " beside a table"
    ink = np.array((CHALKS if chalk else PENS)[rng.integers(4 if chalk else len(PENS))], np.float32) / 255
    part = page[top : top + stroke.shape[0], left : left + stroke.shape[1]]
    alpha = stroke[: part.shape[0], : part.shape[1], None] * rng.uniform(0.75, 1.0)
    part[:] = part * (1 - alpha) + ink * alpha
    _light(page, rng)
    return _camera(page, rng, most_blur=side / 60), kind


def _page_on_a_table(digit: np.ndarray, rng: np.random.Generator) -> bytes:
    """Shot from nearly above: the page is turned, and its corners are a little off those of a rectangle."""
    width, height = 900, 700
    photo = _surface(width, height, [(60, 45, 35), (150, 140, 130), (120, 80, 50), (20, 20, 20)], rng)
    paper = _surface(width, height, PAPERS[:4], rng)
    stroke = pen_stroke(digit, int(rng.integers(100, 320)), rng.uniform(-12, 12), rng)[..., None]
    top, left = (height - stroke.shape[0]) // 2, (width - stroke.shape[1]) // 2
    part = paper[top : top + stroke.shape[0], left : left + stroke.shape[1]]
    part[:] = part * (1 - stroke) + np.array(PENS[rng.integers(4)], np.float32) / 255 * stroke
    turn, reach = (
        np.radians(rng.uniform(-20, 20)),
        rng.uniform(0.42, 0.62) * np.array([0.9 * width, 0.9 * height]) / 1.4,
    )
    corners = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * reach * rng.uniform(0.93, 1.07, (4, 2))
    corners = corners @ np.array([[np.cos(turn), np.sin(turn)], [-np.sin(turn), np.cos(turn)]])
    page = Image.new("L", (width, height))
    ImageDraw.Draw(page).polygon([(width / 2 + x, height / 2 + y) for x, y in corners.tolist()], 255)
    photo = np.where(np.asarray(page)[..., None] > 0, paper, photo)
    _light(photo, rng)
    return _camera(photo, rng)


def _surface(width: int, height: int, colours: list, rng: np.random.Generator) -> np.ndarray:
    """A page or board, (height, width, 3) in [0, 1], with grain at three scales."""
    colour = np.array(colours[rng.integers(len(colours))], np.float32) / 255
    shape = height, width
    strength = rng.uniform(0.2, 1.0)
    grain = 0.012 * clouds(shape, 2, rng) + 0.010 * clouds(shape, 7, rng) + 0.012 * clouds(shape, 60, rng)
    return np.clip(colour + strength * grain[..., None], 0, 1).astype(np.float32)


def _light(page: np.ndarray, rng: np.random.Generator) -> None:
    """A lamp to one side, and on half of the images the soft shadow of a hand or a phone."""
    height, width = page.shape[:2]
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    angle = rng.uniform(0, 2 * np.pi)
    across = np.cos(angle) * x + np.sin(angle) * y
    light = 1 - rng.uniform(0, 0.3) * (across + 1.4) / 2.8 - rng.uniform(0, 0.15) * (x * x + y * y)
    if rng.random() < 0.5:
        angle = rng.uniform(0, 2 * np.pi)
        edge = np.cos(angle) * x + np.sin(angle) * y - rng.uniform(-0.5, 0.7)
        penumbra = rng.uniform(0.1, 0.4)
        light *= 1 - rng.uniform(0.1, 0.45) / (1 + np.exp(np.clip(-edge / (0.25 * penumbra), -50, 50)))
    page *= np.clip(light, 0.15, 1)[..., None].astype(np.float32)


def _rule(page: np.ndarray, rng: np.random.Generator, pale: float, tilt: float) -> None:
    """Ruled or squared paper: thin lines of a pale colour."""
    height, width = page.shape[:2]
    lines = Image.new("L", (width, height))
    draw = ImageDraw.Draw(lines)
    step = max(24, int(rng.uniform(0.06, 0.16) * max(width, height)))
    thick = int(rng.integers(1, 2 + max(width, height) // 400))
    reach = width + height
    first = int(rng.integers(step))
    for y in range(first - reach, reach, step):
        draw.line((-reach, y - reach * np.tan(tilt), reach, y + reach * np.tan(tilt)), 255, thick)
    if rng.random() < 0.3:
        for x in range(first - reach, reach, step):
            draw.line((x + reach * np.tan(tilt), -reach, x - reach * np.tan(tilt), reach), 255, thick)
    colour = np.array([(90, 120, 190), (120, 120, 120), (200, 110, 120)][rng.integers(3)], np.float32) / 255
    alpha = np.asarray(lines, np.float32)[..., None] / 255 * pale
    page[:] = page * (1 - alpha) + colour * alpha


def _table(page: np.ndarray, rng: np.random.Generator, keep: tuple[int, int, int, int]) -> None:
    """A dark or light strip of table along one side, where it leaves `keep` (left, top, right, bottom) free."""
    height, width = page.shape[:2]
    rooms = {"left": keep[0], "top": keep[1], "right": width - keep[2], "bottom": height - keep[3]}
    side = max(rooms, key=lambda name: rooms[name])
    strip = int(rooms[side] * rng.uniform(0.2, 0.7))
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    lean = rng.uniform(-0.06, 0.06)
    depth = {"left": x + lean * y, "right": width - 1 - x + lean * y, "top": y + lean * x, "bottom": height - 1 - y}
    page[depth[side] < strip] = np.array(rng.uniform(0.1, 0.6, 3), np.float32)


def _camera(page: np.ndarray, rng: np.random.Generator, most_blur: float = 2.0) -> bytes:
    """Blur, sensor noise, and a file: mostly JPEG of any quality, else PNG or WebP."""
    image = Image.fromarray((np.clip(page, 0, 1) * 255).astype(np.uint8))
    image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0, most_blur)))
    seen = np.asarray(image, np.float32) + rng.normal(0, rng.uniform(0, 6), page.shape)
    image = Image.fromarray(np.clip(seen, 0, 255).astype(np.uint8))
    kind = rng.choice(["JPEG", "JPEG", "JPEG", "PNG", "WEBP"])
    return _file(image, str(kind), **({} if kind == "PNG" else {"quality": int(rng.integers(30, 93))}))


def _file(image: Image.Image, kind: str, **options: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _blank(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    page = _surface(width, height, BOARDS if rng.random() < 0.3 else PAPERS, rng)
    if rng.random() < 0.2:
        _table(page, rng, (width // 3, height // 3, 2 * width // 3, 2 * height // 3))
    _light(page, rng)
    return page


def _ruled_page(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    page = _surface(width, height, PAPERS, rng)
    _rule(page, rng, pale=rng.uniform(0.2, 0.9), tilt=rng.uniform(-0.15, 0.15))
    _light(page, rng)
    return page


def _stripes(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    page = _surface(width, height, PAPERS, rng)
    y, x = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    angle = rng.uniform(0, np.pi)
    wave = np.sin((np.cos(angle) * x + np.sin(angle) * y) * 2 * np.pi / rng.uniform(12, 160))
    alpha = np.clip(3 * (wave - rng.uniform(-0.5, 0.8)), 0, 1)[..., None].astype(np.float32)
    ink = np.array(PENS[rng.integers(len(PENS))], np.float32) / 255
    page[:] = page * (1 - alpha) + ink * alpha
    _light(page, rng)
    return page


def _noise(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    grain = clouds((height, width), int(rng.integers(1, 60)), rng)
    if rng.random() < 0.3:
        grain = np.sign(grain)
    grey = 0.5 + rng.uniform(0.05, 0.3) * grain
    return np.clip(np.repeat(grey[..., None], 3, axis=2), 0, 1).astype(np.float32)


def _scribble(width: int, height: int, rng: np.random.Generator) -> np.ndarray:
    page = _surface(width, height, PAPERS, rng)
    alpha = signs.scribble(rng, width, height)[..., None]
    page[:] = page * (1 - alpha) + np.array(PENS[rng.integers(len(PENS))], np.float32) / 255 * alpha
    _light(page, rng)
    return page
