"""The stages of a reading side by side in one image."""

from __future__ import annotations

import math

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from xpnet.photo.digit import Digit
from xpnet.photo.glyph import Glyph
from xpnet.photo.reader import Reading
from xpnet.photo.sheet import Sheet

PANEL = 220  # the long side of a stage
CARD = 279  # the width of a glyph with the probabilities of digits: four such cards fit under five stages
ROW, DIGIT = 14, 8  # in a card: the height of the row of a class, and the width of a one-digit name
LONGEST = 24  # the most letters shown of a class's name
GAP, TITLE = 16, 28
PAPER, TEXT, FAINT, FRAME = "#ffffff", "#1f2933", "#6b7785", "#d64545"


def explain(reading: Reading | Sheet) -> Image.Image:
    """Draw all stages of a reading with titles; below them, each glyph as the model sees it, with the probability of
    each class."""
    sheet = reading.sheet if isinstance(reading, Reading) else reading
    digits = reading.digits if isinstance(reading, Reading) else []
    panels = [_panel(title, image) for title, image in sheet.stages.items()]
    _frame_glyphs(panels[0], sheet)
    classes = [_short(name) for name in reading.classes] if isinstance(reading, Reading) else []
    cards = [_card(glyph, digits[i] if digits else None, classes) for i, glyph in enumerate(sheet.glyphs)]
    rows = [_row(panels)]
    per_row = max(rows[0].width // (max([CARD, *(card.width for card in cards)]) + GAP), 1)
    rows += [_row(cards[i : i + per_row]) for i in range(0, len(cards), per_row)]
    if sheet.reason:
        rows.append(_line(f"no digit found: {sheet.reason}"))
    return _column(rows)


def _panel(title: str, image: np.ndarray) -> Image.Image:
    height, width = image.shape
    scale = PANEL / max(height, width)
    size = max(round(width * scale), 1), max(round(height * scale), 1)
    small = Image.fromarray(np.round(image * 255).astype(np.uint8)).resize(size, Image.Resampling.LANCZOS)
    panel = Image.new("RGB", (PANEL, size[1] + TITLE), PAPER)
    ImageDraw.Draw(panel).text((0, 2), title, TEXT, _font(15))
    panel.paste(small, (0, TITLE))
    ImageDraw.Draw(panel).rectangle((0, TITLE, size[0] - 1, TITLE + size[1] - 1), outline="#cbd2d9")
    return panel


def _frame_glyphs(panel: Image.Image, sheet: Sheet) -> None:
    height, width = sheet.stages["image"].shape
    scale = PANEL / max(height, width)
    draw = ImageDraw.Draw(panel)
    for glyph in sheet.glyphs:
        left, top, right, bottom = glyph.box
        x0, x1 = (round(side * width * scale) for side in (left, right))
        y0, y1 = (round(side * height * scale) + TITLE for side in (top, bottom))
        draw.rectangle((x0, y0, x1, y1), outline=FRAME, width=2)


def _short(name: str) -> str:
    """The name on one line, cut to `LONGEST` letters."""
    name = " ".join(name.split())
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 2]}.."


def _card(glyph: Glyph, digit: Digit | None, classes: list[str]) -> Image.Image:
    longer = max([0, *(math.ceil(_font(12).getlength(name)) - DIGIT for name in classes)])  # than a one-digit name
    height = max(168, TITLE + ROW * len(classes))
    card = Image.new("RGB", (CARD + longer, height) if digit else (140, 168), PAPER)
    card.paste(Image.fromarray(glyph.pixels).resize((140, 140), Image.Resampling.NEAREST), (0, TITLE))
    draw = ImageDraw.Draw(card)
    if digit is None:
        draw.text((0, 2), glyph.reason, TEXT, _font(15))
        return card
    answer = "?" if digit.label is None else classes[digit.label]
    draw.text((0, 2), f"{answer}  {digit.reason or f'{digit.probability:.0%}'}", TEXT, _font(16))
    for label, (name, probability) in enumerate(zip(classes, digit.probabilities, strict=True)):
        y, left = TITLE + ROW * label, 166 + longer
        draw.text((152, y - 1), name, FAINT, _font(12))
        length = round(72 * float(probability))
        draw.rectangle((left, y + 2, left + length, y + 10), TEXT if label == digit.label else "#9aa5b1")
        if probability >= 0.005:
            draw.text((left + 6 + length, y - 1), f"{probability:.0%}", FAINT, _font(12))
    return card


def _line(text: str) -> Image.Image:
    line = Image.new("RGB", (5 * (PANEL + GAP), 28), PAPER)
    ImageDraw.Draw(line).text((0, 2), text, FRAME, _font(17))
    return line


def _row(images: list[Image.Image]) -> Image.Image:
    row = Image.new("RGB", (sum(p.width + GAP for p in images), max(p.height for p in images)), PAPER)
    x = 0
    for image in images:
        row.paste(image, (x, 0))
        x += image.width + GAP
    return row


def _column(rows: list[Image.Image]) -> Image.Image:
    width = GAP + max(row.width for row in rows)
    page = Image.new("RGB", (width, GAP + sum(row.height + GAP for row in rows)), PAPER)
    y = GAP
    for row in rows:
        page.paste(row, (GAP, y))
        y += row.height + GAP
    return page


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
