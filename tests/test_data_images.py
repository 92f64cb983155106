"""Folders of images, one for each class."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from command_line import call, elsewhere, forbid, write_folder  # noqa: F401
from PIL import Image, features

from xpnet import data
from xpnet.data.images import pixels
from xpnet.photo.opening import open_whole


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
    write(pets / "__MACOSX" / "dogs" / "._0.png", np.zeros((6, 4)))  # in an archive that macOS has made
    write(pets / "dogs" / ".ipynb_checkpoints" / "0-checkpoint.png", np.zeros((6, 4)))  # a copy that Jupyter made
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
    with pytest.raises(ValueError, match=r"deep.png has 6 x 4 pixels, .*0.png has 4 x 6, and all must have one size"):
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
            "1.png is not an image that can be read",
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
        (
            lambda p: write(p / "train" / "owls" / "1.png", np.zeros((6, 4))),
            ValueError,
            r"train holds no image itself, only folders \(owls\)",
        ),
        (lambda p: (p / "cats").rename(p.parent / "cats"), ValueError, "a folder of images for each class.*it has 1"),
        (lambda p: p.rename(p.parent / "other"), FileNotFoundError, "there is no such folder"),
    ],
)
def test_what_is_no_folder_of_images(pets, break_it, error, message):
    break_it(pets)
    with pytest.raises(error, match=message):
        data.image_folder(pets)
    if pets.is_dir():
        with pytest.raises(error, match=message):
            data.load(pets)


def test_an_image_that_would_fill_the_memory_is_refused(pets, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)
    with pytest.raises(ValueError, match=r"0.png is not an image that can be read: .*exceeds limit of 20 pixels"):
        data.image_folder(pets)


@pytest.mark.parametrize("where", ["xpnet.data.images.pixels", "numpy.stack"])
def test_images_that_do_not_fit_into_the_memory_are_good_ones(elsewhere, pets, monkeypatch, where):  # noqa: F811
    def full(*arguments):
        raise MemoryError

    monkeypatch.setattr(where, full)
    said = call("data", "pets", code=1).stderr
    assert said.startswith("xpnet: not enough memory: the 4 images of pets do not fit: make them smaller with ")
    assert "xpnet train --size 64 or data.image_folder(..., size=64), or leave them on the disk" in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("grey", "shape"), [(None, (4, 6, 4)), (True, (4, 6, 4)), (False, (4, 6, 4, 3))])
def test_the_colours_may_be_chosen(pets, grey, shape):
    assert data.image_folder(pets, grey=grey).x.shape == shape
    write(pets / "cats" / "0.png", np.full((6, 4, 3), (9, 90, 0)))
    images = data.image_folder(pets, grey=grey)
    assert images.x.shape == ((4, 6, 4) if grey else (4, 6, 4, 3))
    assert images.x[0, 0, 0].tolist() == (56 if grey else [9, 90, 0])  # luma: 0.299 9 + 0.587 90


def test_one_number_is_a_square(pets):
    for size in (5, np.int64(5), [5, 5]):
        assert data.image_folder(pets, size).x.shape == (4, 5, 5)
        assert data.open_images(pets, size, grey=True).x.shape == (4, 5, 5)
    assert data.load(pets, size=5).train.x.shape[1:] == (5, 5)


@pytest.mark.parametrize("size", [0, -8, 8.0, "64", True, (8,), (8, 8, 3), (8, 0), (8, 2.5), None])
def test_another_size_is_none(pets, size):
    readings = [lambda: data.open_images(pets, size)]
    if size is not None:
        readings += [lambda: data.image_folder(pets, size), lambda: data.load(pets, size=size)]
    for read in readings:
        with pytest.raises(ValueError, match=r"size is \(height, width\) in pixels, or a number for squares, not "):
            read()


INK = np.pad(np.full((2, 2), 255, np.uint8), 2)  # 6 x 6


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L"])
@pytest.mark.parametrize("grey", [True, False])
def test_what_is_transparent_lies_on_white(tmp_path, mode, grey):
    """Black ink, whose shape is nowhere but in the transparency; in training, from the disk and in an answer."""
    black = np.zeros_like(INK)
    if mode in ("RGBA", "LA"):
        image, more = Image.fromarray(np.dstack([black] * (len(mode) - 1) + [INK])), {}
        assert image.mode == mode
    elif mode == "P":
        image, more = Image.fromarray(INK // 255), {"transparency": b"\x00\xff"}
        image.putpalette([0] * 6)
    else:
        image, more = Image.fromarray(255 - INK), {"transparency": 255}
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        image.save(tmp_path / name / "0.png", **more)
    wanted = 255 - INK if grey else np.dstack([255 - INK] * 3)
    np.testing.assert_array_equal(data.image_folder(tmp_path, grey=grey).x[0], wanted)
    np.testing.assert_array_equal(data.open_images(tmp_path, (6, 6), grey).x[0], wanted)
    np.testing.assert_array_equal(open_whole(tmp_path / "a" / "0.png", (6, 6), grey), wanted)


@pytest.mark.parametrize("paint", [(255, 255, 255), (255, 255, 200)])
def test_a_white_drawing_lies_on_black(tmp_path, paint):
    """Whose shape is nowhere but in the transparency; one dark point in it, and it is no white drawing."""
    pixels = np.dstack([np.broadcast_to(np.array(paint, np.uint8), (*INK.shape, 3)), INK])
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "0.png")
    wanted = pixels[..., :3] * (INK > 0)[..., None]
    np.testing.assert_array_equal(data.image_folder(tmp_path, grey=False).x[0], wanted)
    np.testing.assert_array_equal(open_whole(tmp_path / "a" / "0.png", (6, 6), False), wanted)
    pixels[3, 3, :3] = 200
    Image.fromarray(pixels).save(tmp_path / "a" / "0.png")
    seen = data.image_folder(tmp_path, grey=True).x[0]
    assert seen[0, 0] == 255
    assert seen[3, 3] == 200


@pytest.mark.parametrize(("dtype", "what"), [(np.float32, "floats"), (np.int32, "numbers of 32 bits")])
def test_numbers_without_a_known_white_are_refused(pets, dtype, what):
    path = pets / "cats" / "0.tif"
    Image.fromarray(np.arange(24, dtype=dtype).reshape(6, 4)).save(path)
    message = f"0.tif.*: it holds {what}, and it is not known which value is white: save it with 8 or 16 bits"
    with pytest.raises(ValueError, match=message):
        data.image_folder(pets)
    with pytest.raises(ValueError, match=message):
        data.open_images(pets, (6, 4), grey=True).read(np.arange(5))


def test_pngs_of_16_bits_are_read_in_pillows_mode_of_32_too():
    """Pillow opens some of them so."""
    image = Image.fromarray(np.array([[0, 256], [512, 65535]], np.int32))
    image.format = "PNG"
    assert pixels(image, None).tolist() == [[0, 1], [2, 255]]


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
    with pytest.raises(ValueError, match=r"both: both parts need the same classes, but train has no folder 'birds'$"):
        data.load(both)
    write(both / "train" / "birds" / "1.png", np.zeros((6, 4)))
    (both / "test" / "cats").rename(both / "test" / "apes")
    with pytest.raises(ValueError, match="but train has no folder 'apes'"):
        data.load(both)
    (both / "test" / "apes").rename(both / ".apes")
    with pytest.raises(ValueError, match="but test has no folder 'cats'"):
        data.load(both)
    (both / ".apes").rename(both / "test" / "cats")
    write(both / "test" / "cats" / "1.png", np.zeros((6, 4, 3)))
    with pytest.raises(ValueError, match=r"both: both parts need images of one size and kind: .* 6 x 4 x 3 uint8"):
        data.load(both)
    assert data.load(both, grey=True).test.x.shape == (3, 6, 4)


@pytest.mark.parametrize("validation", [False, True])
def test_a_test_part_without_classes_is_named(pets, validation):
    """As data sets of competitions have it."""
    both = pets.parent / "both"
    both.mkdir()
    pets.rename(both / "train")
    write(both / "test" / "1.png", np.zeros((6, 4)))
    if validation:
        for class_name in ("cats", "dogs"):
            write(both / "val" / class_name / "1.png", np.zeros((6, 4)))
    message = r"both.test has images, but no folders .*: put those of .*; or load .*train alone"
    with pytest.raises(ValueError, match=message):
        data.load(both)


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_a_validation_part_is_not_passed_over(pets, name):
    both = pets.parent / "both"
    both.mkdir()
    pets.rename(both / "train")
    for class_name in ("cats", "dogs"):
        write(both / name / class_name / "1.png", np.zeros((6, 4)))
    with pytest.raises(
        ValueError, match=f"both has a part {name}, but only train and test are read: rename it to test"
    ):
        data.load(both)
    for class_name in ("cats", "dogs"):
        write(both / "test" / class_name / "1.png", np.zeros((6, 4)))
    with pytest.raises(
        ValueError, match=f"both has a part {name}, .*: move its images into train, or move it elsewhere"
    ):
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
    assert "resize them with xpnet train --size 64, or in Python with data.image_folder(..., size=(64, 64))" in refused
    (tmp_path / "shades" / "dark" / "0.png").write_bytes(b"none")
    assert "0.png is not an image that can be read" in call("train", "--data", "shades", code=1).stderr


def test_images_of_one_colour_are_told(elsewhere, tmp_path):  # noqa: F811
    for name in ("cats", "dogs"):
        for i in range(5):
            write(tmp_path / "pets" / name / f"{i}.png", np.full((6, 4, 3), (9, 90, 0)))
    said = "all images are of one colour: there is nothing to learn in them"
    assert said in call("data", "pets").stdout
    assert said in call("train", "--data", "pets", "--epochs", "1", "--hidden", "", "--quiet").stdout
    write(tmp_path / "pets" / "cats" / "0.png", np.full((6, 4, 3), (9, 90, 1)))
    write(tmp_path / "pets" / "dogs" / "0.png", np.full((6, 4, 3), (9, 90, 2)))
    assert said not in call("data", "pets").stdout.split("pets test")[0]


def test_a_grid_of_samples_takes_the_place_of_no_other_file(elsewhere, pets):  # noqa: F811
    for i in range(4):
        write(pets / "cats" / f"{i}.png", np.full((6, 4), i))
    for name, message in (
        ("pets/list.txt", "--image: the file to write must be called something.png, not pets/list.txt"),
        ("pets/cats/0.png", "--image: pets/cats/0.png would be one of the images of pets: name a file elsewhere"),
    ):
        before = Path(name).read_bytes()
        assert message in call("data", "pets", "--image", name, code=2).stderr
        assert Path(name).read_bytes() == before
    call("data", "pets", "--image", "pets/grid.png")
    assert "there is no such folder" in call("data", "nothing", "--image", "nowhere/grid.png", code=1).stderr


def test_a_folder_that_may_not_be_read_is_not_empty(elsewhere, pets, monkeypatch):  # noqa: F811
    (pets / "cats" / "inner").mkdir()
    (pets / "cats" / ".hidden").mkdir()
    forbid(monkeypatch, pets / "cats" / ".hidden")
    data.image_folder(pets)
    for locked in (pets / "cats" / "inner", pets / "cats"):
        forbid(monkeypatch, locked)
        with pytest.raises(PermissionError, match=re.escape(str(locked))):
            data.image_folder(pets)
        for command in (["train", "--data"], ["data"]):
            assert call(*command, pets, code=1).stderr.endswith(f"xpnet: {locked}: Permission denied\n")


def test_files_that_are_not_read_are_told(elsewhere, tmp_path):  # noqa: F811
    rng = np.random.default_rng(0)
    for name in ("cats", "dogs"):
        for i in range(5):
            write(tmp_path / "pets" / name / f"{i}.png", rng.integers(0, 255, (8, 8)))
    assert "files that are not read" not in call("data", "pets").stdout
    cats = tmp_path / "pets" / "cats"
    (cats / ".hidden").mkdir()
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", ".hidden/a.txt", "../list.txt"):
        (cats / name).write_text("none")
    assert "files that are not read" not in call("data", "pets").stdout
    for i in range(12):
        (cats / f"{i}.HEIC").write_text("none")
    (cats / "more").mkdir()
    (cats / "more" / "README").write_text("none")
    said = "files that are not read, as their names do not end like those of images: 12 .heic, 1 without an ending\n"
    assert said in call("data", "pets").stdout
    assert said in call("train", "--data", "pets", "--epochs", "1", "--hidden", "", "--quiet", "--out", "run").stdout
    assert said in call("evaluate", "run").stdout
    for i in range(9):
        (cats / f"a.{i}").write_text("none")
    assert ": 12 .heic, 1 without an ending, 1 .0, 1 .1, 1 .2, ..\n" in call("data", "pets").stdout


KINDS = {".jfif": "JPEG", ".pgm": "PPM", ".ppm": "PPM", ".avif": "AVIF"}


@pytest.mark.parametrize(("ending", "kind"), list(KINDS.items()))
def test_images_of_less_usual_names(tmp_path, ending, kind):
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    for name in ("cats", "dogs"):
        write(tmp_path / name / f"0{ending}", np.full((9, 8, 3), 100), format=kind)
    wanted = data.image_folder(tmp_path, grey=True).x
    assert np.abs(wanted.astype(int) - 100).max() <= 2
    path = tmp_path / "cats" / f"0{ending}"
    np.testing.assert_array_equal(open_whole(path, (9, 8), True), wanted[0])


def shapes_in_colours(folder, n, rng, grey=False):
    """Photos of many sizes in two classes, which differ in the colour of what is in the middle."""
    for name, colour in (("leaf", (40, 160, 60)), ("rose", (190, 40, 60))):
        for i in range(n):
            height, width = rng.integers(20, 60, 2)
            values = rng.integers(0, 60, (height, width, 3))
            values[height // 4 : -height // 4, width // 4 : -width // 4] += np.array(colour)
            values = values.clip(0, 255)
            write(folder / name / f"{i}.png", values.mean(axis=2) if grey else values)


def test_photos_of_many_sizes_from_training_to_an_answer(elsewhere, tmp_path):  # noqa: F811
    rng = np.random.default_rng(0)
    shapes_in_colours(tmp_path / "plants", 40, rng)
    shapes_in_colours(tmp_path / "more", 10, rng)
    options = ["--data", "plants", "--size", "12x8", "--hidden", "8", "--epochs", "15", "--quiet", "--out", "run"]
    said = call("train", *options).stdout
    assert "plants train: 64 samples of 8 x 12 x 3 uint8" in said
    assert "try it:" in said
    assert 'size = "12x8"' in (tmp_path / "run" / "config.toml").read_text()
    assert np.asarray(Image.open("run/example.png")).shape == (8, 12, 3)
    result = json.loads(call("predict", "run", "more/leaf/1.png", "more/rose/2.png", "--json").stdout)
    assert [row["text"] for row in result["predictions"]] == ["leaf", "rose"]
    lines = call("predict", "run", "more/rose", "more/leaf/1.png").stdout.splitlines()
    read = [line.partition(": ")[0] for line in lines]
    assert read == [*(f"more/rose/{i}.png" for i in range(10)), "more/leaf/1.png"]
    (tmp_path / "empty").mkdir()
    assert "xpnet: empty: a folder without images" in call("predict", "run", "empty", code=1).stderr
    assert "a step of 2 samples" in call("bench", "run", "--device=cpu", "--seconds=0.01", "--batch-size=2").stdout
    measured = json.loads(call("evaluate", "run", "--json").stdout)  # the images of the run, in its size
    assert measured["test_accuracy"] == json.loads((tmp_path / "run" / "metrics.json").read_text())["test_accuracy"]
    assert "data have changed" not in call("evaluate", "run").stdout
    assert "accuracy 100.00% (0 of 20 wrong)" in call("evaluate", "run", "--data", "more").stdout  # all are new
    assert "(0 of 16 wrong)" in call("evaluate", "run", "--data", "plants").stdout
    (tmp_path / "plants").rename(tmp_path / "train")
    (tmp_path / "both").mkdir()
    for name, folder in (("train", "train"), ("test", "more")):
        (tmp_path / folder).rename(tmp_path / "both" / name)
    assert "<both test: 20 samples" in call("evaluate", "run", "--data", "both").stdout
    (tmp_path / "both" / "train").rename(tmp_path / "plants")
    (tmp_path / "both" / "test").rename(tmp_path / "more")
    shapes_in_colours(tmp_path / "grey", 10, rng, grey=True)  # in the colours that the model knows
    call("evaluate", "run", "--data", "grey")
    call("parity", "run", "--data", "more", "--batch", "20", "--steps", "1")  # all of them
    call("train", "--resume", "run", "--epochs", "16", "--quiet")
    call("train", "--config", "run/config.toml", "--epochs", "1", "--quiet", "--out", "again")
    assert "64 samples of 9 x 9 x 3 uint8" in call("data", "plants", "--size", "9").stdout


@pytest.mark.parametrize("size", ["0", "8x", "x8", "8x8x8", "-8", "8.5", "ten", "10000", ""])
def test_what_is_no_size(elsewhere, pets, size):  # noqa: F811
    for command in ("train", "--data", pets), ("data", pets):
        assert "size is a number of pixels, such as 64, or width x height" in call(
            *command, f"--size={size}", code=2
        ).stderr.replace("\n", " ")


def test_a_size_is_for_images_alone(elsewhere, tmp_path):  # noqa: F811
    for source, code in (("digits", 2), ("mnist", 1)):
        refused = call("train", "--data", source, "--size", "8", code=code).stderr
        assert f"size and grey are for a folder with one folder of images per class, not for '{source}'" in refused
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    refused = call("train", "--data", "a.csv", "--target", "b", "--size", "8", code=2).stderr
    assert "size is for folders of images, and the data are" in refused
    (tmp_path / "set.toml").write_text("size = 8")
    assert "size must be a text, not 8" in call("train", "--config", "set.toml", code=2).stderr


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
    call("train", "--data", "shades", "--hidden", "8", "--epochs", "60", "--quiet", "--out", "run")
    result = json.loads(call("evaluate", "run/model.safetensors", "--data", "some", "--json").stdout)
    assert result["test_accuracy"] == 1
    assert [(row["class"], row["support"]) for row in result["classes"]] == [("dark", 0), ("grey", 15), ("light", 15)]
    refused = call("evaluate", "run/model.safetensors", "--data", "other", code=2).stderr
    assert "other: 'red' is not one of the classes 'dark', 'grey', 'light'" in refused


def test_folders_called_as_numbers_are_classes_by_name(elsewhere, tmp_path):  # noqa: F811
    rng = np.random.default_rng(0)
    for folder, names in (("odd", (1, 2, 5)), ("some", (2, 5)), ("first", (0, 1)), ("pets", ("cat", "dog"))):
        for place, name in enumerate(names):
            for i in range(15):
                value = 40 * name if isinstance(name, int) else 100 * place
                write(tmp_path / folder / str(name) / f"{i}.png", rng.integers(0, 30, (8, 8)) + value)
    short = ["--hidden", "8", "--epochs", "60", "--quiet"]
    for folder in ("odd", "pets"):
        call("train", "--data", folder, *short, "--out", f"run-{folder}")
    result = json.loads(call("evaluate", "run-odd", "--data", "some", "--json").stdout)
    assert [(row["class"], row["support"]) for row in result["classes"]] == [("1", 0), ("2", 15), ("5", 15)]
    assert result["test_accuracy"] == 1
    for model, classes in (("run-odd", "'1', '2', '5'"), ("run-pets", "'cat', 'dog'")):
        for command in (["evaluate"], ["parity", "--steps", "1"]):
            refused = call(command[0], model, "--data", "first", *command[1:], code=2).stderr
            assert f"first: '0' is not one of the classes {classes}" in refused
    write_folder(tmp_path / "unnamed", (8, 8), classes=2)  # numbers in files are no names
    call("evaluate", "run-pets", "--data", "unnamed")
