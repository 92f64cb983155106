"""From an image file to glyphs: geometry, refusals and bad files, without a trained network."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.util
import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import photo_generator as generator
import pytest
from PIL import Image, ImageDraw

import xpnet
from xpnet import data, nn
from xpnet.photo import (
    Glyph,
    ImageError,
    ImageReader,
    as_model_input,
    decide,
    explain,
    find_glyphs,
    image_kind,
    open_image,
    opening,
    shifted,
)
from xpnet.photo import glyph as glyphs
from xpnet.photo.components import find_pieces
from xpnet.photo.glyph import stroke_width
from xpnet.photo.ink import find_ink
from xpnet.photo.opening import open_whole
from xpnet.photo.page import find_page
from xpnet.photo.shapes import Shape

TWO = [(70, 90), (85, 60), (120, 50), (150, 70), (145, 110), (70, 190), (160, 190)]
ONE = [(100, 50), (100, 200)]
SEVEN = [(60, 55), (150, 55), (100, 200)]


def draw(*strokes: list, size=(240, 240), pen=14, paper=245, ink=20) -> Image.Image:
    image = Image.new("L", size, paper)
    for stroke in strokes:
        ImageDraw.Draw(image).line(stroke, ink, pen, joint="curve")
    return image


def moved(stroke: list, dx: int, dy: int = 0) -> list:
    return [(x + dx, y + dy) for x, y in stroke]


def save(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def glyph(image: Image.Image | bytes, size=(28, 28)) -> np.ndarray:
    """The one digit of an image, as floats in [0, 1]."""
    sheet = find_glyphs(image if isinstance(image, bytes) else save(image), size)
    assert (len(sheet.glyphs), sheet.reason) == (1, "")
    return sheet.glyphs[0].pixels / 255.0


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """The mean difference in units of the mean ink: 0 for the same glyph, about 1.5 for two different digits."""
    return float(np.abs(a - b).mean() / a.mean())


def test_a_glyph_is_white_on_black_in_20_of_28_pixels():
    pixels = glyph(draw(TWO))
    y, x = np.nonzero(pixels > 0.3)
    assert pixels.shape == (28, 28)
    assert pixels.max() == 1
    assert pixels[0].max() == pixels[-1].max() == 0
    assert 19 <= np.ptp(y) + 1 <= 21
    assert np.ptp(x) + 1 <= 20


@pytest.mark.parametrize("size", [(28, 28), (32, 24)])
@pytest.mark.parametrize("stroke", [TWO, ONE, SEVEN])
def test_the_centre_of_mass_is_the_frames_centre(stroke, size):
    pixels = glyph(draw(moved(stroke, 90, 40), size=(400, 300)), size)
    for axis, length in ((1, size[0]), (0, size[1])):
        weight = pixels.sum(axis=axis)
        centre = weight @ np.arange(length) / weight.sum()
        assert abs(centre - length / 2) < 0.6


def test_a_small_frame_is_filled():
    pixels = glyph(draw(TWO), size=(8, 8))
    assert pixels.shape == (8, 8)
    assert (pixels.max(axis=1) > 0.3).all()


def test_proportions_are_kept():
    pixels = glyph(draw(ONE))
    assert (pixels > 0.3).any(axis=1).sum() >= 19
    assert (pixels > 0.3).any(axis=0).sum() <= 5


def test_polarity_does_not_matter():
    assert difference(glyph(draw(TWO)), glyph(draw(TWO, paper=20, ink=245))) < 0.05


@pytest.mark.parametrize("factor", [0.5, 3])
def test_size_and_place_do_not_matter(factor):
    size = int(240 * factor), int(240 * factor)
    placed = Image.new("L", (size[0] + 90, size[1] + 40), 245)
    placed.paste(draw(TWO).resize(size), (70, 10))
    assert difference(glyph(draw(TWO)), glyph(placed)) < 0.15


def test_a_shadow_does_not_matter():
    light = np.linspace(1.0, 0.45, 240)[None, :] * np.linspace(1.0, 0.8, 240)[:, None]
    shadowed = Image.fromarray((np.asarray(draw(TWO)) * light).astype(np.uint8))
    assert difference(glyph(draw(TWO)), glyph(shadowed)) < 0.1


def test_stroke_width_is_brought_near_that_of_mnist():
    for pen in (3, 8, 30):
        assert 1.5 < stroke_width(glyph(draw(TWO, pen=pen)).astype(np.float32)) < 3.8


def test_a_strong_slant_is_taken_back():
    slanted = [(x + 0.6 * (125 - y) + 30, y) for x, y in ONE]
    columns = (glyph(draw(slanted)) > 0.3).any(axis=0)
    assert columns.sum() <= 9


def test_exif_rotation_is_undone():
    turned = draw(SEVEN).rotate(90, expand=True)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    assert difference(glyph(draw(SEVEN)), glyph(save(turned, "JPEG", exif=exif, quality=95))) < 0.1


@pytest.mark.parametrize("ink", [0, 255])
def test_transparent_is_background(ink):
    alpha = Image.eval(draw(TWO, paper=0, ink=255), lambda v: v)
    canvas = Image.merge("LA", (Image.new("L", alpha.size, ink), alpha))
    assert difference(glyph(draw(TWO)), glyph(canvas)) < 0.1


def test_ruled_lines_are_removed():
    page = draw(TWO)
    for y in range(10, 240, 40):
        ImageDraw.Draw(page).line([(0, y), (240, y + 12)], 60, 2)
    for x in range(20, 240, 50):
        ImageDraw.Draw(page).line([(x, 0), (x - 6, 240)], 60, 2)
    assert difference(glyph(draw(TWO)), glyph(page)) < 0.25


@pytest.mark.parametrize("size", [(240, 240), (720, 240), (300, 600)])
@pytest.mark.parametrize("pen", [2, 4, 14])
def test_a_1_as_tall_as_the_image_is_no_ruled_line(size, pen):
    middle, height = size[0] / 2, size[1]
    sheet = find_glyphs(save(draw([(middle, 0.06 * height), (middle, 0.94 * height)], size=size, pen=pen)))
    assert (len(sheet.glyphs), sheet.reason) == (1, "")


@pytest.mark.parametrize(("gaps", "reason"), [(1, ""), (6, "a scribble")])
def test_a_ring_that_was_gone_over_many_times_is_a_scribble(gaps, reason):
    page = Image.new("L", (240, 240), 245)
    ImageDraw.Draw(page).ellipse((50, 50, 190, 190), outline=20, width=40)
    for turn in np.linspace(0, 2 * np.pi, gaps, endpoint=False):  # where paper shines through
        x, y = 120 + 50 * np.cos(turn), 120 + 50 * np.sin(turn)
        ImageDraw.Draw(page).ellipse((x - 5, y - 5, x + 5, y + 5), 245)
    sheet = find_glyphs(save(page))
    assert (bool(sheet.glyphs), sheet.reason) == (not reason, reason)


@pytest.mark.parametrize("turn", [0, 30, 90, 135])
@pytest.mark.parametrize("kind", ["rectangle", "ellipse"])
def test_a_solid_bar_is_no_1(kind, turn):
    page = Image.new("L", (300, 300))
    box = (120, 70, 180, 230)  # 60 x 160
    getattr(ImageDraw.Draw(page), kind)(box, 255)
    sheet = find_glyphs(
        save(Image.eval(page.rotate(turn, Image.Resampling.BICUBIC), lambda value: 245 - value * 9 // 10))
    )
    assert sheet.glyphs == []
    assert sheet.reason in ("a blot", "a level line")


@pytest.mark.parametrize(("wave", "is_one"), [(0, False), (3, True)])
def test_a_bold_1_is_told_from_a_bar_by_edges_that_are_not_straight(wave, is_one):
    """Both are nearly three times as long as wide."""
    y = np.arange(200.0)
    left, right = 97 + wave * np.sin(y / 22), 163 + wave * np.sin(y / 30 + 1)
    image = Image.new("L", (260, 300), 240)
    outline = [*zip(left, y + 50, strict=True), *zip(right[::-1], y[::-1] + 50, strict=True)]
    ImageDraw.Draw(image).polygon(outline, 20)
    sheet = find_glyphs(save(image))
    assert (len(sheet.glyphs), sheet.reason) == ((1, "") if is_one else (0, "a blot"))


def test_a_digit_whose_loops_are_full_is_no_blot():
    page = Image.new("L", (240, 300), 245)
    ImageDraw.Draw(page).ellipse((80, 50, 150, 130), 20)  # an 8
    ImageDraw.Draw(page).ellipse((70, 120, 160, 240), 20)
    sheet = find_glyphs(save(page))
    assert (len(sheet.glyphs), sheet.reason) == (1, "")


def test_a_leaning_1_in_two_halves_is_one_digit():
    sheet = find_glyphs(save(draw([(150, 50), (125, 115)], [(121, 130), (90, 210)])))
    assert (len(sheet.glyphs), sheet.reason) == (1, "")


def test_a_page_with_a_corner_out_of_view_is_read():
    image = Image.new("L", (800, 600), 60)
    ImageDraw.Draw(image).polygon([(130, -20), (700, 30), (690, 550), (150, 570)], 235)
    ImageDraw.Draw(image).line(moved(TWO, 260, 160), 20, 14, joint="curve")
    (found,) = find_glyphs(save(image)).glyphs
    assert difference(glyph(draw(TWO)), found.pixels / 255.0) < 0.1


def test_specks_and_the_table_beside_the_page_are_removed():
    page = draw(moved(TWO, 60), size=(400, 240))
    for x, y in ((30, 30), (200, 220), (90, 120)):
        ImageDraw.Draw(page).ellipse((x, y, x + 4, y + 4), 20)
    ImageDraw.Draw(page).rectangle((330, 0, 400, 240), 90)
    assert difference(glyph(draw(TWO)), glyph(page)) < 0.1


@pytest.mark.parametrize(("table", "paper"), [(60, 235), (150, 235), (240, 120)])
def test_a_page_that_lies_whole_on_a_table_is_read(table, paper):
    image = Image.new("L", (800, 600), table)
    ImageDraw.Draw(image).polygon([(130, 60), (640, 30), (690, 550), (150, 570)], paper)
    ImageDraw.Draw(image).line(moved(TWO, 260, 160), 20, 14, joint="curve")
    (found,) = find_glyphs(save(image)).glyphs
    assert difference(glyph(draw(TWO)), found.pixels / 255.0) < 0.1
    assert found.box == pytest.approx((330 / 800, 210 / 600, 420 / 800, 350 / 600), abs=0.02)


def test_a_small_page_on_a_large_table_is_read():
    image = Image.new("L", (800, 600), 60)
    ImageDraw.Draw(image).polygon([(250, 140), (520, 120), (540, 450), (260, 460)], 235)
    ImageDraw.Draw(image).line(moved(TWO, 280, 160), 20, 14, joint="curve")
    (found,) = find_glyphs(save(image)).glyphs
    assert difference(glyph(draw(TWO)), found.pixels / 255.0) < 0.1


PAGE = [(130, 60), (640, 30), (690, 550), (150, 570)]


@pytest.mark.parametrize(("width", "pen"), [(150, 48), (230, 92)])
def test_a_bold_0_as_dark_as_the_table_is_no_hole_in_the_page(width, pen):
    image = Image.new("L", (800, 600), 25)
    ImageDraw.Draw(image).polygon(PAGE, 235)
    ImageDraw.Draw(image).ellipse((325, 170, 325 + width, 430), outline=20, width=pen)
    (found,) = find_glyphs(save(image)).glyphs
    assert found.box == pytest.approx((325 / 800, 170 / 600, (325 + width) / 800, 430 / 600), abs=0.02)


def test_a_bold_4_as_dark_as_the_table_is_no_hole_in_the_page():
    image = Image.new("L", (800, 600), 25)
    ImageDraw.Draw(image).polygon(PAGE, 235)
    for stroke in ([(330, 150), (260, 340), (520, 330)], [(430, 200), (430, 460)]):
        ImageDraw.Draw(image).line(stroke, 20, 60, joint="curve")
    (found,) = find_glyphs(save(image)).glyphs
    left, top, right, bottom = found.box
    assert 0.2 < left < right < 0.7
    assert 0.2 < top < bottom < 0.8


def test_a_page_is_told_from_a_table_whose_other_side_is_as_bright_as_its_shadow():
    light = np.linspace(1.0, 0.35, 800)
    image = Image.new("L", (800, 600), 110)
    ImageDraw.Draw(image).polygon(PAGE, 235)
    ImageDraw.Draw(image).line(moved(TWO, 260, 160), 20, 14, joint="curve")
    (found,) = find_glyphs(save(Image.fromarray((np.asarray(image) * light).astype(np.uint8)))).glyphs
    assert difference(glyph(draw(TWO)), found.pixels / 255.0) < 0.15


def test_a_shadow_on_a_page_as_dark_as_the_table_is_no_hole_in_it():
    image = Image.new("L", (800, 600), 110)
    ImageDraw.Draw(image).polygon(PAGE, 220)
    ImageDraw.Draw(image).line(moved(TWO, 260, 160), 20, 14, joint="curve")
    y, x = np.indices((600, 800))
    shadow = 0.3 * np.exp(-(((x - 550) / 150) ** 2) - ((y - 380) / 130) ** 2)
    grey = np.asarray(image)
    photo = np.where(grey == 110, 110, grey * (1 - shadow)).astype(np.uint8)
    (found,) = find_glyphs(save(Image.fromarray(photo))).glyphs
    assert difference(glyph(draw(TWO)), found.pixels / 255.0) < 0.1


def test_a_bold_angular_0_in_falling_light_is_no_page():
    """It is seen through: its inside is as bright as the paper around it would be there, not as that paper's mean."""
    image = Image.new("L", (800, 600), 240)
    ImageDraw.Draw(image).rounded_rectangle((400, 80, 720, 520), 40, 60)
    ImageDraw.Draw(image).ellipse((500, 200, 620, 400), 240)
    light = np.linspace(1.0, 0.4, 800)
    assert find_page((np.asarray(image) / 255 * light).astype(np.float32)) is None


def test_light_goes_on_beyond_the_edge_of_a_page():
    """What is painted over the table beside it is no ink, though the page is far darker there than in its middle."""
    light = np.linspace(1.0, 0.3, 600)[:, None]
    image = Image.new("L", (800, 600), 20)
    ImageDraw.Draw(image).polygon([(200, 40), (640, 70), (600, 570), (150, 540)], 235)
    ImageDraw.Draw(image).line(moved(TWO, 260, 160), 130, 14, joint="curve")
    (found,) = find_glyphs(save(Image.fromarray((np.asarray(image) * light).astype(np.uint8)))).glyphs
    assert difference(glyph(draw(TWO)), found.pixels / 255.0) < 0.15


def squared(image: Image.Image, colour: int, step: int = 120) -> None:
    for at in range(step // 2, max(image.size), step):
        ImageDraw.Draw(image).line([(0, at), (800, at + 10)], colour, 3)
        ImageDraw.Draw(image).line([(at, 0), (at - 8, 600)], colour, 3)


def test_a_page_of_squared_paper_on_a_table_is_read():
    page, image = Image.new("L", (800, 600), 235), Image.new("L", (800, 600), 60)
    squared(page, 150)
    ImageDraw.Draw(page).line(moved(TWO, 260, 160), 20, 14, joint="curve")
    mask = Image.new("L", (800, 600))
    ImageDraw.Draw(mask).polygon(PAGE, 255)
    image.paste(page, (0, 0), mask)
    (found,) = find_glyphs(save(image)).glyphs
    assert difference(glyph(draw(TWO)), found.pixels / 255.0) < 0.25


def test_the_darker_part_of_squared_paper_is_no_page():
    image = Image.new("L", (800, 600), 200)
    squared(image, 165)
    ImageDraw.Draw(image).line([(3 * x + 30, 3 * y - 60) for x, y in TWO], 150, 50, joint="curve")
    assert find_page(open_image((np.asarray(image) * np.linspace(1, 0.4, 800)).astype(np.uint8))) is None


@pytest.mark.parametrize(("shadow", "margin"), [(0, 0), (0.7, 0), (0, 45)])
def test_on_squared_paper_a_pencil_as_pale_as_the_lines_is_ink_and_a_shadow_is_not(shadow, margin):
    image = Image.new("L", (800, 600), 200)
    squared(image, 165)
    ImageDraw.Draw(image).rectangle((0, 0, margin, 600), 200)
    ImageDraw.Draw(image).line([(3 * x + 30, 3 * y - 60) for x, y in TWO], 150, 50, joint="curve")
    light = 1 - shadow * np.linspace(0, 1, 800) ** 3
    (found,) = find_glyphs(save(Image.fromarray((np.asarray(image) * light).astype(np.uint8)))).glyphs
    assert difference(glyph(draw(TWO, pen=17)), found.pixels / 255.0) < 0.3


def test_a_blank_page_on_a_table_shows_no_digit():
    image = Image.new("L", (800, 600), 60)
    ImageDraw.Draw(image).polygon([(130, 60), (640, 30), (690, 550), (150, 570)], 235)
    assert find_glyphs(save(image)).reason


@pytest.mark.parametrize("polarity", [(245, 20), (20, 245)])
@pytest.mark.parametrize("drawing", ["0", "narrow 0", "1"])
def test_a_bold_digit_is_no_page(drawing, polarity):
    paper, ink = polarity
    image = Image.new("L", (300, 400), paper)
    if drawing == "0":
        ImageDraw.Draw(image).ellipse((40, 40, 260, 360), outline=ink, width=64)
    elif drawing == "narrow 0":
        ImageDraw.Draw(image).rounded_rectangle((90, 40, 210, 360), 30, outline=ink, width=45)
    else:
        ImageDraw.Draw(image).rectangle((110, 40, 180, 360), ink)
    (found,) = find_glyphs(save(image)).glyphs
    left, top, right, bottom = found.box
    assert (top, bottom) == pytest.approx((0.1, 0.9), abs=0.02)
    assert right - left == pytest.approx({"0": 220, "narrow 0": 120, "1": 70}[drawing] / 300, abs=0.03)


def test_the_loose_bar_of_a_5_is_kept():
    body = [(75, 70), (72, 115), (110, 108), (140, 135), (135, 175), (100, 195), (70, 185)]
    bar = [(95, 60), (160, 52)]
    pixels = glyph(draw(body, bar, pen=10))
    assert pixels[:8, 15:].sum() > 5


TO_THE_RIGHT = [(80, 70), (165, 58)]
BELOW_ITS_LEFT = [(70, 96), (85, 136), (60, 166)]
BODY_OF_A_5, ITS_BAR = [(100, 82), (85, 115), (110, 132), (95, 165), (60, 170)], [(140, 80), (172, 74)]
STROKE_OF_A_6, DOT, LOOP_OF_A_6 = [(74, 30), (66, 75)], [(64, 86), (64, 96)], [(56, 130), (71, 165), (130, 165)]


@pytest.mark.parametrize(
    ("strokes", "box"),
    [
        ([TO_THE_RIGHT, BELOW_ITS_LEFT], (57, 54, 167, 169)),
        ([BODY_OF_A_5, ITS_BAR], (58, 69, 175, 174)),
        ([STROKE_OF_A_6, DOT, [*LOOP_OF_A_6, (130, 120), (75, 125)]], (51, 30, 135, 170)),
        ([[(60, 60), (150, 50), (60, 60), (65, 95), (110, 95)], [(50, 120), (110, 130)]], (49, 45, 156, 136)),
    ],
    ids=["a 5 without its left side", "a 5 whose bar is loose", "a 6 in three", "a 5 without its right side"],
)
def test_the_parts_of_a_digit_are_found_together(strokes, box):
    (found,) = find_glyphs(save(draw(*strokes, pen=10))).glyphs
    assert 240 * np.array(found.box) == pytest.approx(box, abs=3)


@pytest.mark.parametrize(
    "strokes",
    [
        [SEVEN, moved(SEVEN, 0, 195)],  # a quarter of their height apart
        [moved(SEVEN, 120), moved(SEVEN, 0, 185)],
        [TWO, [(40, 240), (190, 240)]],
        [TO_THE_RIGHT, moved(BELOW_ITS_LEFT, 0, 25)],
        [BODY_OF_A_5, moved(ITS_BAR, 22)],
        [BODY_OF_A_5, moved(ITS_BAR, 0, 40)],
        [moved(BODY_OF_A_5, 140), ITS_BAR],
        [BODY_OF_A_5, [(140, 72), (140, 105)]],
        [BODY_OF_A_5, [(140, 70), (170, 95), (140, 120), (190, 122)]],
        [BODY_OF_A_5, [(140, 72), (188, 72), (142, 96), (192, 96)]],
    ],
    ids=[
        "two lines",
        "a staircase",
        "a line below a digit",
        "far apart",
        "a bar farther away",
        "a minus",
        "a bar before",
        "an upright line",
        "a digit",
        "a wide exponent",
    ],
)
def test_two_things_near_each_other_are_not_found_together(strokes):
    assert len(find_glyphs(save(draw(*strokes, size=(300, 440), pen=10))).glyphs) == 2


def test_a_narrow_0_of_a_bold_pen_is_no_blot():
    image = Image.new("L", (300, 300), 245)
    ImageDraw.Draw(image).ellipse((105, 60, 195, 240), 20)
    slit = image.copy()
    ImageDraw.Draw(slit).ellipse((146, 120, 154, 180), 245)
    assert find_glyphs(save(image.rotate(-20, fillcolor=245))).reason == "a blot"
    assert len(find_glyphs(save(slit.rotate(-20, fillcolor=245))).glyphs) == 1


def test_digits_come_in_reading_order():
    upper, lower = [SEVEN, TWO, ONE], [TWO, ONE]
    page = draw(
        *(moved(stroke, 150 * i, 8 * i) for i, stroke in enumerate(upper)),
        *(moved(stroke, 150 * i, 240) for i, stroke in enumerate(lower)),
        size=(560, 480),
    )
    sheet = find_glyphs(save(page))
    assert [int(g.box[0] * 560 / 150) for g in sheet.glyphs] == [0, 1, 2, 0, 1]
    for found, stroke in zip(sheet.glyphs, upper + lower, strict=True):
        assert difference(glyph(draw(stroke)), found.pixels / 255.0) < 0.25


def test_boxes_are_fractions_of_the_image():
    (found,) = find_glyphs(save(draw(moved(TWO, 100, 20), size=(480, 300)))).glyphs
    assert found.box == pytest.approx((170 / 480, 70 / 300, 260 / 480, 210 / 300), abs=0.04)


def test_no_digit_is_an_empty_sheet_with_its_reason():
    counts = generator.score(generator.no_digits(20, seed=5), lambda data: "1" * len(find_glyphs(data).glyphs))
    assert counts["right"] >= 19, counts
    blank = next(generator.no_digits(1, seed=5))
    assert find_glyphs(blank.data).glyphs == []
    assert find_glyphs(blank.data).reason


@pytest.mark.parametrize("shape", [(8, 1024), (1024, 9), (8, 8), (9, 300), (61, 17), (600, 1024)])
def test_any_shape_and_content_is_read_without_a_failure(shape):
    rng = np.random.default_rng(shape[0])
    coarse = rng.random((2 + shape[0] // 9, 2 + shape[1] // 9)).astype(np.float32)
    clouds = np.asarray(Image.fromarray(coarse).resize(shape[::-1], Image.Resampling.BILINEAR))
    spot = np.ones(shape, np.float32)
    spot[3 : 3 + shape[0] // 2, 3 : 3 + min(shape) // 4] = 0
    for image in (rng.random(shape), (rng.random(shape) < 0.5) * 1.0, clouds, (clouds > 0.6) * 1.0, spot, 1 - spot):
        sheet = find_glyphs(image.astype(np.float32))
        assert bool(sheet.reason) == (not sheet.glyphs)
        assert all(glyph.pixels.max() == 255 for glyph in sheet.glyphs)


def test_the_generator_is_deterministic():
    digit = np.asarray(draw(TWO, paper=0, ink=255).resize((28, 28)))
    digits, labels = np.stack([digit] * 3), np.array([2, 2, 2])
    first, again = (list(generator.photos(digits, labels, 3, seed=4)) for _ in range(2))
    assert first == again
    assert list(generator.no_digits(3, seed=4)) == list(generator.no_digits(3, seed=4))


def test_pieces_are_those_of_a_flood_fill():
    mask = np.random.default_rng(0).random((40, 50)) < 0.4
    pieces = find_pieces(mask)
    todo, count = set(map(tuple, np.argwhere(mask).tolist())), 0
    while todo:
        stack, piece = [todo.pop()], set()
        while stack:
            y, x = stack.pop()
            piece.add((y, x))
            around = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & todo
            todo -= around
            stack += around
        rows, columns = np.array(sorted(piece)).T
        label = pieces.labels[rows[0], columns[0]]
        count += 1
        assert (pieces.labels[rows, columns] == label).all()
        assert pieces.area[label - 1] == len(piece)
        assert pieces.boxes[label - 1].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert count == len(pieces.area)
    assert (pieces.labels[~mask] == 0).all()


def test_shifts_are_the_glyph_and_its_eight_neighbours():
    pixels = np.zeros((28, 28), np.uint8)
    pixels[14, 10] = 200
    views = shifted(pixels)
    assert (views[0] == pixels).all()
    places = {tuple(np.argwhere(view)[0]) for view in views}
    assert places == {(y, x) for y in (13, 14, 15) for x in (9, 10, 11)}
    assert shifted(np.ones((8, 8), np.uint8)).shape == (1, 8, 8)


def test_decide():
    glyph = Glyph(np.zeros((28, 28), np.uint8), (0, 0, 1, 1))
    sure, torn = np.full((9, 10), 0.01), np.full((9, 10), 0.01)
    sure[:, 3] = 0.91
    torn[:, 4], torn[:, 9] = 0.6, 0.25
    digit = decide(glyph, sure)
    assert (digit.label, digit.probability, digit.reason) == (3, pytest.approx(0.91), "")
    digit = decide(glyph, torn)
    assert (digit.label, digit.reason) == (None, "unsure: 4 or 9")
    loud = np.zeros((9, 10))
    loud[:6, 7], loud[6:, 7] = 1, 0.45
    loud[[6, 7, 8], [1, 2, 3]] = 0.55
    assert decide(glyph, loud).label is None  # six views of nine shout, the others see something else
    loud[6, [7, 1]] = 0.55, 0.45
    assert decide(glyph, loud).label == 7
    assert decide(dataclasses.replace(glyph, reason="a blot"), sure).reason == "a blot"


class Oracle:
    """A model that says what a function says of images (k, H, W)."""

    def __init__(self, answer, size=(28, 28), classes=tuple("0123456789"), mean=33.0):
        self.probabilities, self.input_shape, self.network = answer, size, nn.Standardize(mean, 80.0)
        self.classes, self.output_shape = classes, (len(classes),)


def test_a_reader_shows_all_views_in_one_call():
    seen = []

    def widths(views):
        seen.append(views)
        wide = (views.max(axis=1) > 80).sum(axis=1) > 8  # a 2 is wide, a 1 is not
        return np.eye(10)[np.where(wide, 2, 1)]

    page = save(draw(TWO, moved(ONE, 130), moved(TWO, 220), size=(460, 240)))
    reading = ImageReader(Oracle(widths)).read(page)
    assert reading.text == "212"
    (views,) = seen
    assert np.array_equal(views, np.concatenate([shifted(glyph.pixels) for glyph in reading.sheet.glyphs]))
    assert [digit.probability for digit in reading.digits] == [1, 1, 1]
    assert ImageReader(Oracle(lambda views: np.full((len(views), 10), 0.1))).read(page).text == "???"
    strip = explain(reading)
    assert strip.width > 1000
    assert strip.size == explain(reading).size
    assert strip.tobytes() != explain(reading.sheet).tobytes()


def test_an_image_of_the_models_size_goes_to_the_model_untouched():
    pixels = np.random.default_rng(2).integers(0, 256, (9, 12), np.uint8)
    seen = []

    def answer(images):
        seen.append(images)
        return np.array([[0.1, 0.7, 0.2]])

    reader = ImageReader(Oracle(answer, (9, 12), ("ant", "bee", "cow")))
    reading = reader.read(pixels)
    assert np.array_equal(seen[0], pixels[None])
    (digit,) = reading.digits
    assert (digit.label, digit.probability, digit.reason, digit.glyph.box) == (1, 0.7, "", (0, 0, 1, 1))
    assert reading.text == "bee"
    assert explain(reading).height > 100


def test_a_film_is_no_image_of_a_kind_that_a_plug_in_reads():
    for brand in (b"isom", b"mp42", b"qt  ", b"M4V "):
        with pytest.raises(ImageError, match=r"^not an image file \(PNG, JPEG, WebP, BMP, GIF or TIFF\)"):
            open_image(b"\x00\x00\x00\x20ftyp" + brand + b"\x00\x00\x02\x00isomiso2avc1mp41")


def test_what_is_explained_has_the_names_of_all_classes():
    """By their pixels: another name, and a class beyond the tenth, change the image."""
    names = [f"class {i}" for i in range(15)]
    answers = np.full((1, 15), 0.01)
    answers[0, 13] = 0.86

    def strip(classes, probabilities=answers):
        model = Oracle(lambda images: probabilities, (9, 12), tuple(classes))
        return explain(ImageReader(model).read(np.random.default_rng(2).integers(0, 256, (9, 12), np.uint8)))

    usual, swapped = strip(names), answers[:, ::-1]
    assert usual.height >= 15 * 14 + 28
    assert strip(names, swapped).tobytes() != usual.tobytes()
    assert strip([*names[:14], "class 9x"]).tobytes() != usual.tobytes()
    assert strip([*names[:13], "another", names[14]]).tobytes() != usual.tobytes()
    assert strip([*names[:13], "a\nlong " + 9 * "name ", names[14]]).width > usual.width
    assert strip([*names[:13], 99 * "W", names[14]]).width < 1000


@pytest.mark.parametrize("grey", [True, False])
def test_a_model_of_anything_but_digits_takes_images_whole(grey, tmp_path: Path):
    """Nothing is searched for, cut out or inverted: as `data.image_folder` gives them, in the model's colours."""
    photo = Image.effect_noise((90, 60), 80).convert("RGB")
    photo.putpixel((0, 0), (255, 0, 0))
    turned = Image.Exif()
    turned[0x0112] = 6  # lies on its side
    for name in ("cats", "dogs"):
        (tmp_path / name).mkdir()
        photo.save(tmp_path / name / "photo.png", exif=turned)
    (wanted, _) = data.image_folder(tmp_path, (9, 12), grey).x
    seen = []

    def answer(images):
        seen.append(images)
        return np.array([[0.25, 0.75]])

    shape = (9, 12) if grey else (9, 12, 3)
    reader = ImageReader(Oracle(answer, shape, ("cats", "dogs")))
    assert not reader.reads_digits
    path = tmp_path / "cats" / "photo.png"
    for source in (
        path,
        path.read_bytes(),
        io.BytesIO(path.read_bytes()),
        np.asarray(photo.transpose(Image.ROTATE_270)),
    ):
        reading = reader.read(source)
        assert (reading.text, reading.digits[0].probability) == ("dogs", 0.75)
        np.testing.assert_array_equal(seen.pop(), wanted[None].astype(np.float32))
        assert np.array_equal(reading.digits[0].glyph.pixels, wanted)
        assert explain(reading).height > 100
    (tmp_path / "cut.png").write_bytes(path.read_bytes()[:300])
    with pytest.raises(ImageError, match=r"cut\.png: damaged or cut off"):
        reader.read(tmp_path / "cut.png")
    Image.fromarray(np.zeros((9, 12), np.float32)).save(tmp_path / "deep.tif")
    with pytest.raises(ImageError, match=r"deep\.tif: it holds floats, and it is not known which value is white"):
        reader.read(tmp_path / "deep.tif")
    with pytest.raises(ImageError, match="million pixels"):
        open_whole(path, (9, 12), grey, max_pixels=1000)
    for array in (np.zeros((9, 12)), np.zeros((9, 12, 4), np.uint8), np.zeros((0, 3), np.uint8)):
        with pytest.raises(ImageError, match=r"uint8 \(H, W\) or \(H, W, 3\), not"):
            reader.read(array)


def test_digits_in_colour_are_taken_whole():
    reader = ImageReader(Oracle(lambda images: np.eye(10)[[3]], (8, 8, 3)))
    assert not reader.reads_digits
    assert reader.read(save(draw(TWO))).text == "3"


def test_a_model_that_learned_dark_on_light_sees_that():
    seen = []

    def answer(images):
        seen.append(images)
        return np.eye(10)[np.full(len(images), 3)]

    reader = ImageReader(Oracle(answer, mean=200.0))
    assert reader.read(save(draw(TWO))).text == "3"
    dark = np.zeros((28, 28), np.uint8)
    dark[4:24, 12:16] = 250
    for pixels in (dark, 255 - dark):
        reader.read(pixels)
    views, *whole = seen
    assert np.median(views) == 255
    for image in whole:
        np.testing.assert_array_equal(image[0], 255 - dark)
    ImageReader(Oracle(answer, classes=tuple("abcdefghij"), mean=200.0)).read(dark)
    np.testing.assert_array_equal(seen[-1][0], dark)  # which way round, is said by nothing but its training set


@pytest.mark.parametrize("names", ["0123456789", "abcdefghij"])
def test_a_light_image_of_the_models_size_is_inverted_for_digits_alone(names):
    seen = []

    def answer(images):
        seen.append(images)
        return np.eye(10)[[3]]

    dark = np.zeros((28, 28), np.uint8)
    dark[4:24, 12:16] = 250
    for pixels in (dark, 255 - dark):
        ImageReader(Oracle(answer, classes=tuple(names))).read(pixels)
    assert np.array_equal(seen[0], dark[None])
    assert np.array_equal(seen[1], (dark if names == "0123456789" else 255 - dark)[None])


def test_a_model_of_something_else_is_refused():
    with pytest.raises(ValueError, match="not one number for each class"):
        ImageReader(Oracle(None, classes=("only one",)))
    with pytest.raises(ValueError, match="which are not images"):
        ImageReader(Oracle(None, (7,)))
    with pytest.raises(ValueError, match="takes rows of a table"):  # of whatever it gives
        ImageReader(
            nn.Model(nn.Sequential(nn.Columns(["age"], [0], [1], [0]), nn.Linear(1)), (1,), xpnet.select("cpu"))
        )


def test_what_a_model_takes():
    model = lambda shape: nn.Model(nn.Sequential(nn.Flatten(), nn.Linear(3)), shape, xpnet.select("cpu"))
    assert image_kind(model((9, 12))) == ((9, 12), True)
    assert image_kind(model((6, 5, 1))) == ((6, 5), True)
    assert image_kind(model((6, 5, 3))) == ((6, 5), False)
    assert image_kind(model((49,))) == ((7, 7), True)
    for shape in ((7,), (4, 4, 2), (3, 4, 4, 3)):
        with pytest.raises(ValueError, match="which are not images"):
            image_kind(model(shape))
    pixels = np.arange(98, dtype=np.uint8).reshape(2, 7, 7)
    samples = as_model_input(model((49,)), pixels)
    assert (samples.shape, samples.dtype) == ((2, 49), np.float32)
    assert np.array_equal(samples, pixels.reshape(2, 49))


def test_a_level_line_next_to_a_digit_is_marked_not_read():
    page = save(draw(SEVEN, [(220, 120), (330, 120)], size=(400, 240)))
    reading = ImageReader(Oracle(lambda views: np.eye(10)[np.full(len(views), 7)])).read(page)
    assert reading.text == "7?"
    assert reading.digits[1].reason == "a level line"


# Files.


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_formats(kind):
    assert difference(glyph(draw(TWO)), glyph(save(draw(TWO), kind))) < 0.1


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"])
def test_modes(mode):
    image = draw(TWO)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    else:
        image = image.convert("RGB").convert(mode) if mode in ("P", "CMYK") else image.convert(mode)
    assert difference(glyph(draw(TWO)), glyph(save(image, "PNG" if mode in ("1", "P", "I;16") else "TIFF"))) < 0.1


def test_sources_are_equal(tmp_path: Path):
    data = save(draw(TWO))
    path = tmp_path / "two.png"
    path.write_bytes(data)
    luma = open_image(data)
    assert luma.dtype == np.float32
    for source in (path, str(path), io.BytesIO(data), np.asarray(draw(TWO)), luma):
        assert np.array_equal(open_image(source), luma)


def test_an_animation_counts_by_its_first_frame():
    data = save(draw(TWO), "GIF", save_all=True, append_images=[draw(ONE)])
    assert difference(glyph(draw(TWO)), glyph(data)) < 0.1


def test_large_images_are_reduced_with_their_proportions():
    for kind in ("PNG", "JPEG"):
        assert open_image(save(draw(TWO).resize((3000, 1500)), kind)).shape == (512, 1024)
    assert open_image(np.zeros((3000, 1500), np.uint8) + np.arange(1500, dtype=np.uint8)).shape == (1024, 512)


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds no pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = b"IDAT" + zlib.compress(b"")
    parts = (struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in (chunk, pixels, b"IEND"))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD_FILES = {
    "empty": (b"", "an empty file"),
    "text": (b"no image at all, just text", "not an image file"),
    "cut PNG": (save(draw(TWO))[:300], "cut off"),
    "cut JPEG": (save(draw(TWO), "JPEG")[:900], "cut off"),
    "cut header": (save(draw(TWO))[:20], "damaged"),
    "huge": (png_header(30_000, 30_000), "too large"),
    "large": (png_header(12_000, 8_000), "too large"),
    "no pixels": (png_header(100, 100), "damaged"),
    "one pixel": (save(Image.new("L", (1, 1))), "too small"),
    "a thread": (save(Image.new("L", (5000, 12), 3)), "too narrow"),
    "one colour": (save(Image.new("RGB", (90, 90), (10, 200, 30))), "all one colour"),
    "invisible": (save(Image.new("RGBA", (90, 90), (0, 0, 0, 0))), "all one colour"),
    "vector": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_give_one_clear_line(name, tmp_path: Path):
    data, reason = BAD_FILES[name]
    path = tmp_path / "scan.png"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(ImageError, match=reason) as caught:
            open_image(source)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(f"{path}: ") == (source is path)


def test_every_cut_of_a_file_is_refused_or_read():
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        data = save(draw(TWO), kind)
        for length in np.linspace(1, len(data) - 1, 12).astype(int):
            try:
                assert open_image(data[:length]).shape == (240, 240)
            except ImageError:
                continue


def test_damaged_bytes_are_refused_or_read():
    rng = np.random.default_rng(1)
    for kind in ("PNG", "JPEG", "GIF", "TIFF", "WEBP", "BMP"):
        for _ in range(12):
            data = bytearray(save(draw(TWO), kind))
            for place in rng.integers(0, min(len(data), 400), 4):
                data[place] = rng.integers(256)
            try:
                assert open_image(bytes(data)).ndim == 2
            except ImageError:
                continue


def test_missing_file_and_bad_arrays(tmp_path: Path):
    with pytest.raises(FileNotFoundError):
        open_image(tmp_path / "none.png")
    for array in (np.zeros((4, 4, 3)), np.full((20, 20), 7.0), np.full((20, 20), np.nan), np.zeros((20, 20), int)):
        with pytest.raises(ImageError, match="array"):
            open_image(array)
    with pytest.raises(ValueError, match="4 x 4"):
        find_glyphs(save(draw(TWO)), size=(2, 2))


def test_heic_without_its_plug_in_says_how_to_get_it():
    if importlib.util.find_spec("pillow_heif"):
        pytest.skip("the plug-in pillow-heif is installed here")
    with pytest.raises(ImageError, match="pip install pillow-heif"):
        open_image(b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic")


def test_formats_that_take_long_are_read_from_files_alone(tmp_path: Path):
    """A server is sent bytes, by anyone."""
    draw(TWO).save(tmp_path / "two.pgm")
    np.testing.assert_array_equal(open_image(tmp_path / "two.pgm"), open_image(save(draw(TWO))))
    with pytest.raises(ImageError, match="not an image file"):
        open_image((tmp_path / "two.pgm").read_bytes())


def test_avif_is_read_by_a_pillow_that_can(monkeypatch):
    if ".avif" in Image.registered_extensions():
        saved = save(draw(TWO), "AVIF")
        assert difference(glyph(draw(TWO)), glyph(saved)) < 0.1
        as_heif = saved[:8] + b"mif1" + saved[12:]  # AVIF is then among the other brands of the file
        assert difference(glyph(saved), glyph(as_heif)) == 0
    monkeypatch.setattr(Image, "registered_extensions", dict)
    with pytest.raises(ImageError, match=r"AVIF.*pip install --upgrade pillow"):
        open_image(b"\x00\x00\x00\x20ftypavif\x00\x00\x00\x00avifmif1")


def test_colours_that_pillow_cannot_convert_are_not_called_damage():
    lab = Image.merge("LAB", (draw(TWO), Image.new("L", (240, 240), 128), Image.new("L", (240, 240), 128)))
    with pytest.raises(ImageError, match=r"colours .* cannot be read") as caught:
        open_image(save(lab, "TIFF"))
    assert "damaged" not in str(caught.value)


# Real digits.


@pytest.fixture(scope="module")
def mnist() -> tuple[np.ndarray, np.ndarray]:
    folder = Path(os.environ.get("XPNET_DATA", "")) / "mnist"
    if "XPNET_DATA" not in os.environ or not folder.is_dir():
        pytest.skip("set XPNET_DATA to a folder that holds mnist/ to test with real digits")
    images = gzip.decompress((folder / "t10k-images-idx3-ubyte.gz").read_bytes())
    labels = gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes())
    return np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28), np.frombuffer(labels, np.uint8, offset=8)


def test_mnist_comes_back_as_it_was(mnist):
    images, _ = mnist
    differences = [difference(image / 255.0, glyph(generator.plain_png(image))) for image in images[:50]]
    assert np.median(differences) < 0.45  # less than a shift by one pixel makes


def test_photos_of_mnist_are_found(mnist):
    sheets = [find_glyphs(photo.data) for photo in generator.photos(*mnist, count=30, seed=1)]
    assert sum(len(sheet.glyphs) == 1 for sheet in sheets) >= 28


def test_pages_on_a_table_are_found(mnist):
    sheets = [find_glyphs(photo.data) for photo in generator.pages_on_a_table(*mnist, count=30, seed=3)]
    assert sum(len(sheet.glyphs) == 1 for sheet in sheets) >= 26


def test_rows_of_mnist_are_split(mnist):
    images, _ = mnist
    counts = [len(find_glyphs(generator.row_png(images[i : i + 4])).glyphs) for i in range(0, 40, 4)]
    assert sum(count == 4 for count in counts) >= 9


def test_a_model_of_tables_reads_no_images():
    model = nn.Model(
        nn.Sequential(nn.Columns("abcd", [0.0] * 4, [1.0] * 4, [0.0] * 4), nn.Linear(2)),
        (4,),
        xpnet.select("cpu"),
        ("a", "b"),
    )
    with pytest.raises(ValueError, match="the model takes rows of a table, which are not images"):
        ImageReader(model)


@pytest.mark.parametrize(("height", "width"), [(12, 3), (2, 10), (4, 4)])
def test_a_bar_is_as_elongated_as_its_sides_are(height, width):
    bar = Shape(np.ones((height, width), bool), (0, 0, width, height), 1.0)
    assert bar.elongation == pytest.approx(max(height, width) / min(height, width), rel=1e-12)


def test_the_brightest_pixel_of_a_thin_glyph_is_white():
    thin = np.zeros((40, 40), np.float32)
    thin[:, 20] = 0.5  # a quarter of a pixel of the frame
    assert glyphs._centred(thin, (28, 28)).max() == 255


def test_the_grain_of_a_sheet_does_not_depend_on_the_light():
    sheet = np.random.default_rng(0).uniform(0.8, 1.0, (120, 120)).astype(np.float32)
    bright, dim = (find_ink(sheet * light).grain for light in (1.0, 0.5))
    assert bright > 0.01
    assert 0.8 < dim / bright < 1  # black paper, whose brightness tells nothing, is kept tame


def test_a_jpeg_of_as_many_scans_as_are_taken(monkeypatch):
    file = save(draw(TWO), "JPEG", progressive=True)
    scans = file.count(b"\xff\xda")
    monkeypatch.setattr(opening, "MAX_SCANS", scans)
    assert open_image(io.BytesIO(file)).shape == (240, 240)
    monkeypatch.setattr(opening, "MAX_SCANS", scans - 1)
    with pytest.raises(ImageError, match=f"a JPEG of {scans} scans"):
        open_image(io.BytesIO(file))


def test_what_lies_behind_one_faint_white_pixel_is_black():
    image = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    image.putpixel((3, 4), (255, 255, 255, 100))
    expected = np.zeros((20, 20), np.float32)
    expected[4, 3] = 100 / 255
    np.testing.assert_allclose(opening._flattened(image), expected, atol=1e-6)


def test_a_model_with_an_embedding_reads_no_images():
    """Such a layer takes whole numbers, and images are given to a model as floats."""
    network = nn.Sequential(nn.Flatten(), nn.Embedding(256, 2), nn.Flatten(), nn.Linear(10))
    with pytest.raises(ValueError, match="the model has an Embedding, which takes whole numbers"):
        ImageReader(nn.Model(network, (8, 8), xpnet.select("cpu")))
