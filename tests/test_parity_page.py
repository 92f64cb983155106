"""The page of `xpnet parity`: each number in its place, the little scales, and the loss curves."""

from __future__ import annotations

import re

import pytest
from matplotlib.figure import Figure
from test_parity import Tags

from xpnet.verify import parity_page
from xpnet.verify.parity_page import page
from xpnet.verify.parity_result import REFERENCE, Comparison, Device, Parity, Training

DRAW = parity_page._curves
CPU, GPU = Device("cpu", "cpu", "float32"), Device("cuda:0", "gpu", "a GPU")
CURVES = {REFERENCE: (4.0, 2.0, 1.0), "cpu": (4.0, 2.0, 1.5), "cuda:0": (4.0, 2.0, 1.0)}


def result(*rows, devices=(CPU,), problems=None, notes=(), title="A network"):
    names = {REFERENCE, *(device.name for device in devices)}
    curves = {name: curve for name, curve in CURVES.items() if name in names}
    return Parity(title, devices, rows, Training("Three steps", curves, problems or {}, allowed=0.5), notes)


@pytest.fixture(autouse=True)
def not_drawn(monkeypatch):
    """Drawing the curves takes most of a page's time: those who look at them put it back."""
    monkeypatch.setattr(parity_page, "_curves", lambda parity: "")


def cells(row: Comparison) -> list[tuple[str, str]]:
    """(attributes, content) of the cells of the only row."""
    [found] = re.findall(r'<tr class="row">(.*?)</tr>', page(result(row)))
    return re.findall(r"<td(.*?)>(.*?)</td>", found)


def test_a_row_says_how_far_it_is_what_is_allowed_and_where():
    (where, _), (_, fraction), (_, ulps), (looks, verdict) = cells(
        Comparison("layer", "output", "cpu", 1.25, 2e-7, 1e-6, "[0, 1]")
    )
    assert where == ' title="2.00e-07 of 1.00e-06 at [0, 1]"'
    assert (fraction, ulps, verdict, looks) == ("0.2", "1.25", "rounding", "")


def test_a_row_without_an_error_says_so():
    (where, scale), (_, fraction), (_, ulps), (_, verdict) = cells(Comparison("layer", "output", "cpu", 0, 0, 1e-6))
    assert (where, fraction, ulps, verdict) == (' title="no difference"', "0", "0", "same bits")
    assert "<circle" not in scale
    assert re.sub(r"<[^>]*>", "", scale) == ""


def test_a_row_that_differs_stands_out():
    found = cells(Comparison("layer", "output", "cpu", 9e5, 1e-2, 1e-6, "[0]"))
    assert found[3] == (' class="bad"', "differs")
    assert "#D55E00" in found[0][1]
    assert [text for _, text in found[1:3]] == ["1e+04", "9e+05"]
    found = cells(Comparison("layer", "output", "cpu", problem="not a number"))
    assert found == [(' class="bad" colspan="3"', "not a number"), (' class="bad"', "differs")]


def test_the_scale_is_logarithmic_from_one_end_to_the_other():
    fractions = [1e-9, 1e-4, 0.1, 1, 1e2, 1e9, float("inf")]
    text = page(result(*(Comparison("", str(f), "cpu", 1.0, f * 1e-6, 1e-6, "[0]") for f in fractions)))
    dots = [float(x) for x in re.findall(r'<circle cx="([\d.]+)" cy="7.0"', text)]
    left, right = 4, 146
    middle, limit = left + (right - left) / 2, left + (right - left) * 4 / 6
    assert dots == pytest.approx([left, left, middle, limit, right, right, right], abs=0.1)
    assert set(re.findall(r'd="M4 7.0H(\d+)"', text)) == {str(right)}
    assert set(re.findall(r'd="M([\d.]+) 1V13"', text)) == {f"{limit:.1f}"}  # the line at what is allowed


def test_rows_of_one_part_stand_under_its_name_with_a_column_for_each_device():
    rows = [
        Comparison(part, what, device.name, ulps=ulps, error=1e-7, allowed=1e-6, where="[0]")
        for part, what in [("first", "output"), ("first", "dx"), ("second", "output")]
        for device, ulps in [(CPU, 1.0), (GPU, 2.0)]
    ]
    text = page(result(*rows, devices=(CPU, GPU)))
    body = text[text.index("<tbody>") :]
    assert re.findall(r'scope="row(?:group)?"[^>]*>(.*?)</th>', body) == ["first", "output", "dx", "second", "output"]
    assert re.findall(r'scope="rowgroup" colspan="(\d+)"', body) == ["9", "9"]  # the name, and four for each device
    assert re.findall(r'<td class="number">(\d)</td>', body) == ["1", "2"] * 3
    assert re.findall(r'<th colspan="4" scope="colgroup">(.*?)</th>', text) == ["cpu", "cuda:0"]
    assert text.count(">error / allowed</th>") == 2
    for table in re.findall(r"<table>.*?</table>", text):
        assert re.sub(r"<th.*?</th>|<td.*?</td>|<[^>]*>", "", table) == ""  # nothing stands outside of its cells


def test_the_verdict_comes_first_and_the_title_tells_it():
    good, bad = Comparison("layer", "output", "cpu"), Comparison("layer", "output", "cpu", problem="not a number")
    text = page(result(good, title="A title", notes=("A note.", "Another.")))
    assert "<title>xpnet parity: agreement</title>" in text
    assert '<p class="verdict">Rounding: cpu agrees with cpu, float64 in all 1 rows and over the training.</p>' in text
    assert '<p class="faint">A title</p>' in text
    assert text.index("A note.") < text.index("Another.") < text.index("<h2>")
    text = page(result(bad))
    assert "<title>xpnet parity: a difference</title>" in text
    assert '<p class="verdict bad">Differs: 1 of 1 rows.' in text


def test_the_devices_are_listed_and_what_stands_in_for_a_gpu():
    for device, detail in [
        (GPU, "a GPU"),
        (Device("cuda:0", "stand-in", "the strict device"), "in the place of a GPU: the strict device"),
    ]:
        rows = [Comparison("layer", "output", name) for name in ("cpu", "cuda:0")]
        text = page(result(*rows, devices=(CPU, device)))
        listed = re.findall(r'<tr><th scope="row">(.*?)</th><td>(.*?)</td></tr>', text)
        assert listed == [(REFERENCE, "the reference"), ("cpu", "float32"), ("cuda:0", detail)]


def test_the_gap_of_each_device_is_named_and_what_went_wrong():
    row = Comparison("layer", "output", "cpu")
    shown = Tags(page(result(row, problems={"cpu": "no memory"}))).text
    assert "Three steps, from the same values" in shown
    assert "cpu: 1.2e-01 (allowed: 5e-01)" in shown
    assert "cpu: no memory" in shown


def test_the_curves_are_the_losses_and_what_lies_between_them(monkeypatch):
    monkeypatch.setattr(parity_page, "_curves", DRAW)
    drawn, save = [], Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kw: drawn.append(self) or save(self, *args, **kw))
    rows = [Comparison("layer", "output", device.name) for device in (CPU, GPU)]
    page(result(*rows, devices=(CPU, GPU)))
    losses, gaps = drawn[0].axes
    assert [(line.get_label(), tuple(line.get_ydata())) for line in losses.lines] == [*CURVES.items()]
    assert all(list(line.get_xdata()) == [1, 2, 3] for line in (*losses.lines, *gaps.lines[:2]))
    assert [tuple(line.get_ydata()) for line in gaps.lines] == [(0, 0, 0.125), (0, 0, 0), (0.5, 0.5)]
    assert gaps.lines[2].get_label() == "allowed gap"
    for line, gap in zip(losses.lines[1:], gaps.lines, strict=False):  # a device looks the same in both
        assert (line.get_color(), line.get_linestyle()) == (gap.get_color(), gap.get_linestyle())
    assert len({line.get_color() for line in (*losses.lines, gaps.lines[2])}) == 4
    assert [line.get_alpha() for line in losses.lines] == [0.25, 1, 1]  # the reference shines through from behind
    assert [axes.get_title(loc="left") for axes in (losses, gaps)] == ["Loss", "Gap to cpu, float64"]
    assert [axes.get_xlabel() for axes in (losses, gaps)] == ["step", "step"]
    assert (losses.get_yscale(), gaps.get_yscale()) == ("linear", "log")
    assert [text.get_text() for legend in drawn[0].legends for text in legend.get_texts()] == [*CURVES, "allowed gap"]


def test_the_drawing_is_told_to_who_cannot_see_it(monkeypatch):
    monkeypatch.setattr(parity_page, "_curves", DRAW)
    text = page(result(Comparison("layer", "output", "cpu")))
    assert re.search(r'<svg role="img" aria-label="The loss at each step on each device, and how far each is', text)
    assert text.count("aria-label=") == 2  # this, and the table's
    assert ">Gap to cpu, float64</text>" in text  # text as text: it can be searched and read aloud
