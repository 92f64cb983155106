"""What objects look like in a notebook: the same numbers as their text, escaped, with the right images."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

import xpnet
from xpnet import data, html, nn, weights
from xpnet.nn.summary import in_bytes
from xpnet.train import Result
from xpnet.verify.strict import StrictBackend

EVIL = "<script>alert('&\"')</script>"


class Cells(HTMLParser):
    """The cells of tables row by row, and every element; an end that closes nothing, or the wrong one, is an error."""

    def __init__(self, content):
        super().__init__()
        self.rows, self.elements, self.texts, self._open = [], [], [], []
        self.feed(content)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in ("img", "br"):
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, text):
        self.texts.append(text)
        if self._open[-1] in ("td", "th"):
            self.rows[-1][-1] += text


def pixels_of(content):
    files = re.findall(r'src="data:image/png;base64,([^"]+)"', content)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(file)))) for file in files]


# Models ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_model_is_the_table_of_its_summary(dtype, monkeypatch):
    model = nn.Model(nn.mlp([784, 128, 10]), (784,), xpnet.select("cpu", dtype=dtype))
    summary = model.summary()
    monkeypatch.setattr(model, "summary", lambda: summary)  # measured again, it may differ by a few bytes
    cells = Cells(model._repr_html_())
    assert cells.texts[0] == "Model (784,) -> (10,), 101,770 parameters, on cpu"
    assert cells.rows == [list(row) for row in summary.cells()]
    assert cells.rows[0] == ["path", "layer", "output shape", "parameters", "multiply-adds", "kept, batch of 64"]
    bytes_of = np.dtype(dtype).itemsize
    assert cells.rows[2][5] == in_bytes(64 * 128 * bytes_of)
    assert cells.texts[-1] == summary.of_a_step()
    assert f"parameters {in_bytes(101_770 * bytes_of)}" in cells.texts[-1]
    assert [text for text in str(summary).split("  ") if text.strip() == "101,770"], "as in the text"


def test_a_model_whose_input_has_a_free_axis_is_shown_as_a_text_and_its_summary_as_a_table():
    model = nn.Model(nn.Sequential(nn.Embedding(5, 4), nn.Linear(2)), (None,), xpnet.select("cpu"))
    assert model._repr_html_() is None
    summary = model.summary(2, example=np.zeros((3, 7), np.int64))
    assert Cells(summary._repr_html_()).rows[-1][1:4] == ["all", "", "30"]


def test_names_are_escaped_everywhere():
    kind = type(EVIL, (nn.ReLU,), {})
    try:
        model = nn.Model(nn.Sequential(nn.Linear(2), kind()), (3,), xpnet.select("cpu"))
        shown = [model._repr_html_()]
    finally:
        nn.Layer.known = {name: of for name, of in nn.Layer.known.items() if of is not kind}
    images = data.Dataset(np.zeros((3, 4, 4), np.uint8), np.array([0, 1, 1]), (EVIL, "b"), EVIL)
    columns = {EVIL: [1.0, 2.0, 4.0, 8.0], "city": [EVIL, "b", "b", EVIL], "y": [EVIL, "b", EVIL, "b"]}
    shown += [images._repr_html_(), data.table(columns, "y", name=EVIL)._repr_html_()]
    shown += [xpnet.Backend(why=EVIL)._repr_html_(), Result([{"epoch": 1, EVIL: 1.0}], 1, EVIL)._repr_html_()]
    for content in shown:
        cells = Cells(content)
        assert {tag for tag, _ in cells.elements} <= {
            "div",
            "table",
            "thead",
            "tbody",
            "tfoot",
            "tr",
            "th",
            "td",
            "img",
            "br",
        }
        assert EVIL in "".join(cells.texts)
        assert all(of.keys() == {"src", "alt", "style"} for tag, of in cells.elements if tag == "img")


def test_a_backend_says_why():
    rows = dict(Cells(xpnet.Backend("float64", 7, why="asked for", threads=2)._repr_html_()).rows)
    assert rows == {
        "device": "cpu", "dtype": "float64", "products in": "float64", "seed": "7", "BLAS threads": "2",
        "why": "asked for",
    }  # fmt: skip
    assert dict(Cells(StrictBackend()._repr_html_()).rows)["device"] == "strict"


# Data -----------------------------------------------------------------------------------------------------------


def test_images_from_all_of_the_data_with_their_labels():
    x = np.arange(25, dtype=np.uint8)[:, None, None] * np.ones((1, 4, 6), np.uint8) * 10
    shown = data.Dataset(x, np.arange(25) % 5, tuple("abcde"))._repr_html_()
    cells = Cells(shown)
    chosen = np.arange(10) * 25 // 10
    assert cells.texts[0] == "data: 25 samples of 4 x 6 uint8, 5 classes"
    assert cells.texts[1:] == ["abcde"[i % 5] for i in chosen]
    styles = [attributes["style"] for tag, attributes in cells.elements if tag == "img"]
    assert all("width: 56px; height: 37px" in style for style in styles)
    for pixels, i in zip(pixels_of(shown), chosen, strict=True):
        np.testing.assert_array_equal(pixels, np.full((4, 6, 3), round(255 * i / chosen[-1])))


def test_images_in_colour_and_large_ones():
    x = np.zeros((2, 500, 1000, 3), np.uint8)
    x[1, ..., 2] = 255
    shown = data.Dataset(x, np.array([0.25, 3]))._repr_html_()
    first, second = pixels_of(shown)
    assert second.shape == (112, 224, 3)
    assert (second[50, 50].tolist(), first.max()) == ([0, 0, 255], 0)
    assert len(shown) < 20_000
    assert Cells(shown).texts[1:] == ["0.25", "3"]
    assert "width: 112px; height: 56px" in shown


def test_the_lowest_number_is_black():
    x = np.array([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1)
    shown = data.Dataset(x, np.arange(3))._repr_html_()
    assert [pixels.ravel().tolist() for pixels in pixels_of(shown)] == [[0] * 3, [128] * 3, [255] * 3]


def test_the_first_rows_of_numbers():
    x = np.arange(70, dtype=np.float32).reshape(7, 10) / 3
    head, *rows = Cells(data.Dataset(x, np.arange(7) % 2)._repr_html_()).rows
    assert head == [*(f"x{j}" for j in range(8)), "…", "y"]
    assert rows[0] == ["0", "0.333333", "0.666667", "1", "1.33333", "1.66667", "2", "2.33333", "…", "0"]
    assert [row[-1] for row in rows] == ["0", "1", "0", "1", "0"]
    head, row, *_ = Cells(data.Dataset(x[:, :8], x)._repr_html_()).rows
    assert (head[-2:], row[-1]) == (["x7", "y"], "10 numbers")


def test_a_table_has_the_names_of_its_columns_and_categories():
    frame = {"age": [20, 30, 50, 70], "city": ["Rome", "Oslo", "Rome", None], "churn": ["no", "no", "yes", "yes"]}
    table = data.table(frame, "churn", missing="fill")
    assert Cells(table._repr_html_()).rows == [
        ["age", "city", "churn"], ["20", "Rome", "no"], ["30", "Oslo", "no"], ["50", "Rome", "yes"], ["70", "-", "yes"],
    ]  # fmt: skip
    for ignored, column in (("age", ["city", "Rome", "Oslo"]), ("city", ["age", "20", "30"])):
        rows = Cells(data.table(frame, "churn", missing="fill", ignore=[ignored])._repr_html_()).rows
        assert [row[0] for row in rows[:3]] == column


def test_what_has_no_picture_stays_a_text():
    assert data.Dataset(np.zeros((3, 2, 2, 5)), np.zeros(3, int))._repr_html_() is None
    assert data.Dataset((np.zeros((3, 2)), np.zeros((3, 4))), np.zeros(3, int))._repr_html_() is None


# Runs and weights -----------------------------------------------------------------------------------------------


def test_the_epochs_of_a_run():
    rows = [{"epoch": i, "train_loss": 1 / i, "train_accuracy": 0.5, "lr": 1e-3, "seconds": 0.25} for i in range(1, 41)]
    cells = Cells(Result(rows, 17, "no better for 5 epochs")._repr_html_())
    assert cells.rows[0] == ["epoch", "train loss", "train accuracy", "lr", "seconds"]
    assert cells.rows[2] == ["2", "0.5", "50.00%", "0.001", "0.25"]
    assert [row[0] for row in cells.rows[1:]] == ["1", "2", "…", *map(str, range(33, 41))]
    assert cells.texts[-1] == "epochs: 40, best: 17, stopped: no better for 5 epochs"
    assert len(Cells(Result(rows[:11], 3)._repr_html_()).rows) == 12
    assert Cells(Result([], 0, "interrupted")._repr_html_()).texts == ["no epoch was done: interrupted"]


def test_which_weights_go_where():
    model = nn.Model(nn.Linear(2), (3,), xpnet.select("cpu"))
    found = weights.match(model, {"weight": np.zeros((2, 3)), "bias": np.zeros(2)})
    assert Cells(found._repr_html_()).rows[1:] == [list(row) for row in found.rows()]


def test_numbers_are_aligned_to_the_right():
    styles = [
        attributes["style"] for tag, attributes in Cells(html.table("ab", [("c", "1")], left=1)).elements if tag == "td"
    ]
    assert ["left" in style for style in styles] == [True, False]
