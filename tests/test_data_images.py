"""Folders of images, one for each class."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import call, elsewhere  # noqa: F401
from PIL import Image

from xpnet import data


def write(path, values, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(path, **how)


@pytest.fixture
def pets(tmp_path):
    """Four grey images of 6 x 4 in folders of two classes, and files that are none."""
    for name, n, value in (("dogs", 3, 200), ("cats", 1, 50)):
        for i in range(n):
            write(tmp_path / "pets" / name / f"{i}.png", np.full((6, 4), value + i))
    (tmp_path / "pets" / "dogs" / "Thumbs.db").write_bytes(b"none")
    (tmp_path / "pets" / "dogs" / ".0.png").write_bytes(b"none")
    (tmp_path / "pets" / ".git").mkdir()
    (tmp_path / "pets" / "list.txt").write_text("none")
    return tmp_path / "pets"


def test_folders_are_classes(pets):
    images = data.image_folder(pets)
    assert images.classes == ("cats", "dogs")
    assert (images.x.shape, images.x.dtype, images.name) == ((4, 6, 4), np.uint8, "pets")
    assert images.x[:, 0, 0].tolist() == [50, 200, 201, 202]
    assert images.y.tolist() == [0, 1, 1, 1]


def test_one_image_in_colour_makes_all_of_them_rgb(pets):
    colours = np.zeros((6, 4, 3))
    colours[..., 0] = 9
    write(pets / "cats" / "more" / "x.JPG", colours, format="PNG")
    images = data.image_folder(pets)
    assert images.x.shape == (5, 6, 4, 3)
    assert images.x[1, 0, 0].tolist() == [9, 0, 0]
    assert images.x[0, 0, 0].tolist() == [50, 50, 50]


def test_images_of_other_kinds_and_sizes(pets):
    values = np.arange(24).reshape(4, 6).astype(np.uint16) * 256
    Image.fromarray(values).save(pets / "cats" / "deep.png")
    with pytest.raises(ValueError, match=r"deep.png has 4 x 6 pixels, .*0.png has 6 x 4, and all must have one size"):
        data.image_folder(pets)
    images = data.image_folder(pets, size=(4, 6))
    assert images.x.shape == (5, 4, 6)
    np.testing.assert_array_equal(images.x[1], values // 256)
    upright = Image.Exif()
    upright[0x0112] = 6  # lies on its side
    write(pets / "cats" / "deep.png", np.full((4, 6), 7), exif=upright)
    assert data.image_folder(pets).x.shape == (5, 6, 4)


@pytest.mark.parametrize(
    ("break_it", "error", "message"),
    [
        (
            lambda p: (p / "dogs" / "1.png").write_bytes(b"\x89PNG none"),
            ValueError,
            "1.png is no image that can be read",
        ),
        (
            lambda p: (p / "dogs" / "1.png").write_bytes((p / "dogs" / "0.png").read_bytes()[:50]),
            ValueError,
            "1.png is no",
        ),
        (lambda p: (p / "birds").mkdir(), ValueError, r"birds holds no image \(.png, .jpg"),
        (
            lambda p: write(p / "birds" / "owls" / "1.png", np.zeros((6, 4))),
            ValueError,
            r"birds holds no image itself, only folders \(owls\): if those are the classes, name .*birds, or call the",
        ),
        (lambda p: (p / "cats").rename(p.parent / "cats"), ValueError, "a folder of images for each class.*it has 1"),
        (lambda p: p.rename(p.parent / "other"), FileNotFoundError, "there is no such folder"),
    ],
)
def test_what_is_no_folder_of_images(pets, break_it, error, message):
    break_it(pets)
    with pytest.raises(error, match=message):
        data.image_folder(pets)


def test_an_image_that_would_fill_the_memory_is_refused(pets, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ValueError, match=r"0.png is no image that can be read: .*exceeds limit of 20 pixels"):
        data.image_folder(pets)


# As a data set --------------------------------------------------------------------------------------------------


def test_a_fifth_is_held_out_or_the_folder_test(pets):
    for i in range(9):
        write(pets / "cats" / f"more{i}.png", np.full((6, 4), 50))
        write(pets / "dogs" / f"more{i}.png", np.full((6, 4), 200))
    splits = data.load(pets)
    assert (len(splits.train), len(splits.test)) == (18, 4)
    assert np.bincount(splits.test.y).tolist() == [2, 2]
    assert splits.test.name == "pets test"
    both = pets.parent / "both"
    both.mkdir()
    pets.rename(both / "train")
    for name in ("cats", "dogs"):
        write(both / "test" / name / "1.png", np.zeros((6, 4)))
    splits = data.load(both)
    assert (len(splits.train), len(splits.test)) == (22, 2)
    write(both / "test" / "birds" / "1.png", np.zeros((6, 4)))
    with pytest.raises(ValueError, match="both: both parts need the same classes"):
        data.load(both)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_part_is_not_passed_over(pets, name):
    both = pets.parent / "both"
    both.mkdir()
    pets.rename(both / "train")
    for class_name in ("cats", "dogs"):
        write(both / name / class_name / "1.png", np.zeros((6, 4)))
    with pytest.raises(ValueError, match=f"both has a part {name}, and what is read are train and test: call it test"):
        data.load(both)
    for class_name in ("cats", "dogs"):
        write(both / "test" / class_name / "1.png", np.zeros((6, 4)))
    with pytest.raises(ValueError, match=f"both has a part {name}, .*: move its images into train, or it elsewhere"):
        data.load(both)


def test_the_command_line_trains_on_them(elsewhere, tmp_path):  # noqa: F811 (pytest's way to name a fixture)
    rng = np.random.default_rng(0)
    for name, value in (("dark", 40), ("light", 180)):
        for i in range(25):
            write(tmp_path / "shades" / name / f"{i}.png", rng.integers(0, 40, (8, 8)) + value)
    options = ["--data", "shades", "--hidden", "8", "--epochs", "3", "--quiet", "--json", "--out", "run"]
    result = json.loads(call("train", *options).stdout)
    assert result["test_accuracy"] == 1
    assert [row["class"] for row in result["classes"]] == ["dark", "light"]
    write(tmp_path / "new.png", rng.integers(40, 80, (8, 8)))
    assert "dark at" in call("predict", "run/model.safetensors", "new.png").stdout
    write(tmp_path / "shades" / "dark" / "0.png", np.zeros((9, 8)))
    refused = call("train", "--data", "shades", code=1).stderr
    assert "resize the files, or read them in Python by data.image_folder(..., size=(height, width))" in refused
    (tmp_path / "shades" / "dark" / "0.png").write_bytes(b"none")
    assert "0.png is no image that can be read" in call("train", "--data", "shades", code=1).stderr


def test_a_model_is_measured_by_the_names_of_the_classes(elsewhere, tmp_path):  # noqa: F811
    rng = np.random.default_rng(0)
    for folder, names in (
        ("shades", ("dark", "grey", "light")),
        ("some", ("grey", "light")),
        ("other", ("grey", "red")),
    ):
        for name in names:
            for i in range(15):
                value = {"dark": 10, "grey": 110, "light": 210, "red": 0}[name]
                write(tmp_path / folder / name / f"{i}.png", rng.integers(0, 40, (8, 8)) + value)
    call("train", "--data", "shades", "--hidden", "8", "--epochs", "20", "--quiet", "--out", "run")
    result = json.loads(call("evaluate", "run/model.safetensors", "--data", "some", "--json").stdout)
    assert result["test_accuracy"] == 1
    assert [(row["class"], row["support"]) for row in result["classes"]] == [("dark", 0), ("grey", 3), ("light", 3)]
    refused = call("evaluate", "run/model.safetensors", "--data", "other", code=2).stderr
    assert "other test: 'red' is none of the classes 'dark', 'grey', 'light'" in refused
