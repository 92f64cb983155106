"""Data sets: what is checked when one is made, the embedded digits, folders of IDX files, and where MNIST is found."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from xpnet.data import Dataset, DownloadError, IdxError, datasets, load, mean_std, read_idx, write_idx
from xpnet.data.idx import CHUNK, decompressed

NAMES = tuple(datasets.MNIST_SHA256)


def small(n: int = 6, **changes) -> Dataset:
    fields = {"x": np.arange(n * 4, dtype=np.uint8).reshape(n, 2, 2), "y": np.arange(n) % 3, "name": "small"}
    return Dataset(**(fields | changes))


def write_folder(folder, spelling="{}", n_train=6, n_test=3):
    """Four small IDX files; gives {name: SHA-256 of the content}."""
    folder.mkdir(parents=True, exist_ok=True)
    sums = {}
    for name, data in zip(NAMES, [small(n_train).x, small(n_train).y, small(n_test).x, small(n_test).y], strict=True):
        path = folder / spelling.format(name)
        write_idx(path, data.astype(np.uint8))
        sums[name] = datasets.download.content_sha256(path)
    return sums


# Dataset


def test_a_dataset_keeps_its_arrays_and_gives_its_labels_as_int64():
    x = np.zeros((4, 3), np.float32)
    data = Dataset(x, [0, 2, 1, 0])
    assert data.x is x
    assert data.y.dtype == np.int64
    assert data.classes == ("0", "1", "2")
    assert len(data) == 4
    assert repr(small()) == "<small: 6 samples of 2 x 2 uint8, 3 classes>"


def test_classes_may_be_named_and_more_than_there_are_labels():
    data = small(classes=["cat", "dog", "owl", "fox"])
    assert data.classes == ("cat", "dog", "owl", "fox")
    assert data.take([0, 1]).classes == data.classes


def test_class_numbers_follow_the_names_of_the_classes():
    data = small(classes=["cat", "dog", "owl"], weights=np.arange(6))
    same = data.with_classes(["owl", "fox", "cat", "dog"])
    assert same.y.tolist() == [2, 3, 0, 2, 3, 0]
    assert same.classes == ("owl", "fox", "cat", "dog")
    assert same.x is data.x
    assert same.weights.tolist() == data.weights.tolist()
    assert data.with_classes(iter(same.classes)).classes == same.classes
    with pytest.raises(TypeError, match="classes are a list of names"):
        data.with_classes({"owl", "cat", "dog"})
    places = Dataset(np.zeros((2, 2)), [[1, -100], [0, 1]], ["a", "b"]).with_classes(["b", "a"])
    assert places.y.tolist() == [[0, -100], [1, 0]]
    with pytest.raises(ValueError, match="small: 'owl' is not one of the classes 'cat', 'dog'"):
        data.with_classes(["cat", "dog"])
    with pytest.raises(ValueError, match="the targets have no classes"):
        Dataset(np.zeros((2, 2)), [0.5, 1.5]).with_classes(["cat", "dog"])


def test_take_and_slices():
    data = small()
    some = data.take([5, 0, 5])
    assert (some.x == data.x[[5, 0, 5]]).all()
    assert some.y.tolist() == [2, 0, 2]
    assert some.name == "small"
    head = data[:4:2]
    assert (head.x == data.x[:4:2]).all()
    assert head.y.tolist() == [0, 2]
    assert np.shares_memory(head.x, data.x)
    assert not np.shares_memory(some.x, data.x)


@pytest.mark.parametrize("indices", [[True, False, True, True, False, True], [[0, 1]], [0.0], 3])
def test_take_refuses_what_are_no_indices(indices):
    with pytest.raises(TypeError, match="indices of samples must be integers of shape"):
        small().take(indices)


def test_take_out_of_range():
    with pytest.raises(IndexError):
        small().take([6])


def test_one_sample_is_no_dataset():
    with pytest.raises(TypeError, match="can be indexed by slices only, not by 3: use take"):
        small()[3]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"y": [0, 1]}, r"small: x of shape \(6, 2, 2\) and y of shape \(2,\) need equal lengths"),
        ({"y": 1}, "need equal lengths"),
        ({"x": np.zeros((0, 4)), "y": np.zeros(0, int)}, r"small: x has nothing in it, its shape is \(0, 4\)"),
        ({"x": np.zeros((6, 0))}, "x has nothing in it"),
        (
            {"y": [0, 1, 2, 0, 1, -3]},
            "small: label -3 at index 5 is not a class number: count the classes from 0, or",
        ),
        ({"y": [0, 1, 2, 7, 9, 0], "classes": ("a", "b", "c")}, "label 7 at index 3 is outside 0..2 .and 1 more"),
        ({"y": [0, 1, 2, 10**12, 1, 2]}, "label 1000000000000 at index 3 is outside 0..65535"),
        ({"y": np.arange(6.0) * np.nan}, r"small: y: nan at index \(0,\)"),
        ({"x": np.array(list("abcdef"))}, "small: x must hold real numbers, not <U1"),
        ({"x": np.array([None] * 6)}, "x must hold real numbers, not object"),
        ({"x": np.zeros(6, complex)}, "x must hold real numbers, not complex128"),
    ],
)
def test_bad_data_is_refused_with_its_place(changes, reason):
    with pytest.raises(ValueError, match=reason):
        small(**changes)


def test_several_targets_and_sequences_of_different_lengths_are_told():
    ragged = [np.zeros((3, 2)), np.zeros((4, 2))]
    with pytest.raises(ValueError, match="arrays of different shapes make no one array: bring sequences to one length"):
        Dataset(ragged, np.zeros(2))
    for y in ((np.zeros(6), np.zeros((6, 2))), (np.zeros(6), np.zeros(6)), [np.zeros(6), np.zeros(6)]):
        with pytest.raises(TypeError, match=r"small: y is one array: .* np.column_stack\(\(a, b\)\)"):
            small(y=y)
    assert small(y=[np.zeros(2)] * 6).y.shape == (6, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_values_that_are_not_finite_are_found(value, dtype):
    x = np.zeros((3000, 30, 20), dtype)
    x[2999, 7, 19] = value
    with pytest.raises(ValueError, match=rf"x: {value} at index \(2999, 7, 19\)"):
        Dataset(x, np.zeros(3000, int))


# digits


def test_the_digits_are_the_test_set_of_uci():
    train, test = load("digits")
    assert len(train) == 1438
    assert len(test) == 359
    for data in (train, test):
        assert data.x.dtype == np.uint8
        assert data.x.shape[1:] == (8, 8)
        assert np.unique(data.x).tolist() == [round(grey * 255 / 16) for grey in range(17)]
        assert data.classes == tuple("0123456789")
    both = np.bincount(train.y) + np.bincount(test.y)
    assert both.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]  # as the data set's own page has it
    assert (abs(np.bincount(test.y) - both / 5) < 1).all()


def test_the_first_digit_is_a_zero():
    images = read_idx(os.path.join(os.path.dirname(datasets.__file__), "digits-images-idx3-ubyte.gz"))
    assert images.shape == (1797, 8, 8)
    image = ["".join(" .#"[int(value > 3) + int(value > 9)] for value in row) for row in images[0]]
    assert image == ["  .#.   ", "  ####. ", "  #  #. ", " .#  .. ", " ..  .. ", " .#  #. ", "  #.##  ", "  .##   "]


def test_digits_splits_differ_by_seed_only():
    assert (load("digits").test.x == load("digits", seed=0).test.x).all()
    assert (load("digits").test.y != load("digits", seed=1).test.y).any()


# folders


@pytest.mark.parametrize("spelling", ["{}", "{}.gz", "dotted", "dotted.gz"])
@pytest.mark.parametrize("as_type", [str, os.fspath, lambda path: path])
def test_a_folder_in_every_spelling(tmp_path, spelling, as_type):
    write_folder(tmp_path, "{}.gz" if "gz" in spelling else "{}")
    if "dotted" in spelling:
        for path in list(tmp_path.iterdir()):
            path.rename(path.with_name(path.name.replace("-idx", ".idx")))
    train, test = load(as_type(tmp_path))
    assert (train.x == small(6).x).all()
    assert (test.y == small(3).y).all()
    assert train.name == f"{tmp_path.name} train"


def test_both_splits_have_the_classes_of_the_larger(tmp_path):
    write_folder(tmp_path, n_test=1)
    train, test = load(tmp_path)
    assert train.classes == test.classes == ("0", "1", "2")


@pytest.mark.parametrize("name", ["digits", "mnist", "cifar10"])
def test_the_name_of_a_data_set_is_no_folder_of_that_name(name, tmp_path, monkeypatch):
    for kind in "ab":
        (tmp_path / name / kind).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / name / kind / "0.png")
    monkeypatch.chdir(tmp_path)
    assert not datasets.holds_images(name)
    assert datasets.holds_images(f"./{name}")


def test_a_folder_of_images_without_classes(tmp_path):
    (tmp_path / "1.png").write_bytes(b"")
    with pytest.raises(
        FileNotFoundError, match="has images, but no folders that tell their classes: put those of each"
    ):
        load(tmp_path)


def test_a_folder_without_a_file(tmp_path):
    write_folder(tmp_path)
    (tmp_path / NAMES[2]).unlink()
    with pytest.raises(FileNotFoundError, match=r"has no t10k-images-idx3-ubyte \(nor t10k-images-idx3-ubyte\.gz, "):
        load(tmp_path)


def test_a_folder_with_a_damaged_file(tmp_path):
    write_folder(tmp_path)
    path = tmp_path / NAMES[0]
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(IdxError, match="train-images-idx3-ubyte: truncated"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        (NAMES[1], (5,), r"equal lengths: \(6, 2, 2\) in train-images-idx3-ubyte, \(5,\) in train-labels-idx1-ubyte"),
        (NAMES[3], (3, 1), r"equal lengths: \(3, 2, 2\) in t10k-images-idx3-ubyte, \(3, 1\) in t10k-labels"),
        (NAMES[2], (3, 9), r"the samples differ in shape: \(2, 2\) in train-images-idx3-ubyte, \(9,\) in t10k-images"),
        (NAMES[2], (3, 2, 3), r"the samples differ in shape: \(2, 2\) in .*, \(2, 3\) in t10k-images-idx3-ubyte"),
        (NAMES[2], (3, 4, 1), r"the samples differ in shape: \(2, 2\) in .*, \(4, 1\) in t10k-images-idx3-ubyte"),
        (NAMES[0], (6,), r"train-images-idx3-ubyte has shape \(6,\), samples need \(N, height, width\), or"),
    ],
)
def test_a_folder_whose_files_do_not_belong_together(tmp_path, name, shape, reason):
    write_folder(tmp_path)
    write_idx(tmp_path / name, np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=reason):
        load(tmp_path)


def test_a_folder_whose_headers_lie_is_refused_before_its_data_are_read(tmp_path, monkeypatch):
    write_folder(tmp_path)
    write_idx(tmp_path / NAMES[0], np.zeros((7, 2, 2), np.uint8))
    monkeypatch.setattr(datasets, "read_idx", pytest.fail)
    with pytest.raises(ValueError, match="need equal lengths"):
        load(tmp_path)


@pytest.mark.parametrize("source", ["", "minst", "no/such/folder", __file__])
def test_an_unknown_name_lists_what_there_is(source):
    with pytest.raises(ValueError, match="use 'digits', 'mnist', 'cifar10', or the path of a folder"):
        load(source)


# mnist, with four small files in its place


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Let four small files be MNIST, in a machine without a network; gives a function that writes them."""
    monkeypatch.setattr(datasets, "MNIST_SHA256", write_folder(tmp_path / "original"))
    monkeypatch.setattr(datasets, "MNIST_MIRRORS", ("http://127.0.0.1:9/",))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("XPNET_DATA", raising=False)
    monkeypatch.setenv("XPNET_CACHE", str(tmp_path / "cache"))
    return write_folder


def test_mnist_from_the_users_folders(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    stand_in(tmp_path / "data")
    assert (load("mnist").train.x == small(6).x).all()
    stand_in(tmp_path / "data", n_train=7)  # no longer MNIST, and no longer looked at:
    stand_in(tmp_path / "data" / "mnist", "{}.gz")
    assert len(load("mnist").train) == 6
    assert not (tmp_path / "cache").exists()


def test_mnist_from_the_cache(stand_in, tmp_path):
    stand_in(tmp_path / "cache" / "mnist", "{}.gz")
    train, test = load("mnist")
    assert (train.name, test.name) == ("mnist train", "mnist test")
    assert len(train) == 6


def test_mnist_from_the_users_own_cache_folder(stand_in, tmp_path, monkeypatch):
    monkeypatch.delenv("XPNET_CACHE")
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda name: str(tmp_path / "home" / name))
    stand_in(tmp_path / "home" / "xpnet" / "mnist", "{}.gz")
    assert len(load("mnist").test) == 3


def test_other_data_by_the_name_of_mnist_is_refused_with_both_sums(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    found = stand_in(tmp_path / "data", n_train=7)[NAMES[0]]
    expected = datasets.MNIST_SHA256[NAMES[0]]
    with pytest.raises(ValueError, match=f"{NAMES[0]} is not MNIST's: its content has SHA-256 {found}, .* {expected}"):
        load("mnist")


@pytest.mark.parametrize(("place", "spelling"), [("data", "{}"), ("data", "{}.gz"), ("cache/mnist", "{}.gz")])
def test_mnist_is_read_and_checked_in_one_pass(stand_in, tmp_path, monkeypatch, place, spelling):
    if place == "data":
        monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    stand_in(tmp_path / place, spelling)
    opened = []

    def counting(path):
        opened.append(path.name)
        return decompressed(path)

    monkeypatch.setattr(datasets, "decompressed", counting)
    monkeypatch.setattr(datasets.download, "decompressed", pytest.fail)
    assert (load("mnist").test.x == small(3).x).all()
    assert opened == [spelling.format(name) for name in NAMES]


def changed(content: bytes) -> bytes:
    """As long as before, a header as before, and another last label."""
    return content[:-1] + bytes([content[-1] ^ 1])


DAMAGE = {  # what became of a file of MNIST's, and what is said of it
    "another byte": (lambda content: gzip.compress(changed(content)), "has SHA-256 .*, expected "),
    "another byte, plain": (changed, "has SHA-256 .*, expected "),
    "one byte less": (lambda content: gzip.compress(content[:-1]), "has SHA-256 .*, expected "),
    "one byte more": (lambda content: gzip.compress(content + b"0"), "has SHA-256 .*, expected "),
    "no IDX": (lambda content: gzip.compress(b"<html>Please log in</html>"), "has SHA-256 .*, expected "),
    "nothing": (lambda content: b"", "has SHA-256 .*, expected "),
    "cut": (lambda content: gzip.compress(content)[:-9], "the gzip data is damaged or cut off"),
    "without its checksum": (lambda content: gzip.compress(content)[:-8], "the gzip data is damaged or cut off"),
    "another checksum": (lambda content: changed(gzip.compress(content)[:-4]) + gzip.compress(content)[-4:], "damaged"),
    "more after its end": (lambda content: gzip.compress(content) + b"0", "more data follows"),
}


@pytest.mark.parametrize("number", [0, 3])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_of_mnist_is_never_taken(stand_in, tmp_path, monkeypatch, capsys, number, damage):
    (damaged, reason), name = DAMAGE[damage], f"{NAMES[number]}.gz"
    whole = (tmp_path / "original" / NAMES[number]).read_bytes()
    stand_in(tmp_path / "cache" / "mnist", "{}.gz")
    (tmp_path / "cache" / "mnist" / name).write_bytes(damaged(whole))
    with pytest.raises(DownloadError, match=f"no mirror delivers {name}"):
        load("mnist")
    assert re.search(f"downloading again, since .*{reason}", capsys.readouterr().err)
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=f"{name}.*{reason}"):
        load("mnist")


def test_a_file_by_the_name_of_mnist_that_unpacks_without_end(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    stand_in(tmp_path / "data")
    header = bytes([0, 0, 8, 1]) + (30_000_000).to_bytes(4, "big")
    (tmp_path / "data" / NAMES[0]).write_bytes(gzip.compress(header + bytes(30_000_000)))
    monkeypatch.setattr(datasets.download, "MOST", 1_000_000)
    tracemalloc.start()
    with pytest.raises(IdxError, match="it holds more than 1000000 bytes"):
        load("mnist")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000 + 6 * CHUNK


def test_a_file_of_mnist_that_cannot_be_read(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "data"))
    stand_in(tmp_path / "data")

    def fail(path, *_):
        raise PermissionError(f"{path}: not yours")

    monkeypatch.setattr(datasets, "decompressed", fail)
    monkeypatch.setattr(datasets.download, "decompressed", fail)
    with pytest.raises(PermissionError, match="not yours"):
        load("mnist")


def test_what_was_downloaded_is_checked_when_it_is_read(stand_in, tmp_path, monkeypatch):
    def fetch(name, urls, sha256, folder):  # and somebody writes to the file before it is read
        stand_in(folder, "{}.gz", n_train=7)
        return folder / name

    monkeypatch.setattr(datasets.download, "fetch", fetch)
    with pytest.raises(ValueError, match="is not MNIST's: its content has SHA-256"):
        load("mnist")


def test_a_wrong_file_in_the_cache_is_downloaded_again(stand_in, tmp_path, capsys):
    stand_in(tmp_path / "cache" / "mnist", "{}.gz", n_train=7)
    with pytest.raises(DownloadError, match=r"no mirror delivers train-images-idx3-ubyte\.gz"):
        load("mnist")
    assert "downloading again, since the content of train-images-idx3-ubyte.gz has" in capsys.readouterr().err
    assert len(read_idx(tmp_path / "cache" / "mnist" / f"{NAMES[0]}.gz")) == 7  # kept until there is a better one


def test_without_network_the_error_says_where_to_put_the_files(stand_in, tmp_path):
    with pytest.raises(DownloadError) as caught:
        load("mnist")
    for part in (
        *(f"{name}.gz" for name in NAMES),
        "http://127.0.0.1:9/",
        str(tmp_path / "cache" / "mnist"),
        "XPNET_DATA",
    ):
        assert part in str(caught.value)


def test_xpnet_data_must_be_a_folder(stand_in, tmp_path, monkeypatch):
    monkeypatch.setenv("XPNET_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"XPNET_DATA is set to '.*nowhere', which is not a folder"):
        load("mnist")


@pytest.mark.skipif(sys.platform == "win32", reason="~name is a home folder on POSIX")
def test_a_home_folder_of_nobody(stand_in, monkeypatch):
    with pytest.raises(FileNotFoundError, match="~nobody-of-that-name/x: there is no such home folder"):
        load("~nobody-of-that-name/x")
    for variable in ("XPNET_CACHE", "XPNET_DATA"):
        monkeypatch.setenv(variable, "~nobody-of-that-name/x")
        with pytest.raises(FileNotFoundError, match=f"{variable} is set to ~nobody-of-that-name/x: there is no such"):
            load("mnist")


def test_the_real_mnist():
    if not os.environ.get("XPNET_DATA"):
        pytest.skip("XPNET_DATA is not set; it names a folder that contains mnist/")
    train, test = load("mnist")
    assert train.x.shape == (60000, 28, 28)
    assert test.x.shape == (10000, 28, 28)
    assert train.x.dtype == test.x.dtype == np.uint8
    assert np.bincount(train.y).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert np.bincount(test.y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert train.classes == tuple("0123456789")
    assert hashlib.sha256(test.x.tobytes()).digest() != hashlib.sha256(train.x[:10000].tobytes()).digest()


def test_import_loads_nothing_heavy():
    heavy = "PIL matplotlib rich platformdirs typer cupy urllib.request http.client ssl"
    code = f"import sys, xpnet.data.datasets; print([name for name in '{heavy}'.split() if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("y", "kept"),
    [
        (np.zeros(3, np.float32), np.float32),
        (np.zeros((3, 2), np.float64), np.float64),
        (np.zeros(3, np.uint8), np.int64),
        (np.zeros((3, 2), np.int32), np.int64),
        (np.zeros(3, np.int64), np.int64),
        (np.array([False, True, True]), np.int64),
    ],
)
def test_numbers_keep_their_dtype_and_class_numbers_are_int64(y, kept):
    data = Dataset(np.zeros((3, 2), np.float32), y)
    assert data.y.dtype == kept
    assert data.take(np.array([0, 2])).y.dtype == kept
    assert (data.y is y) == (y.dtype == kept)
    assert data.x.dtype == np.float32


def test_targets_go_to_the_device_in_its_dtype():
    from xpnet.backend import Backend

    for y, kept in ((np.zeros(3, np.float64), np.float32), (np.zeros(3, np.uint8), np.int64)):
        feed = Dataset(np.zeros((3, 2)), y).feed(Backend("float32"), lambda x: x)
        feed.begin(np.array([2, 0, 1]), [slice(0, 2)])
        x, target = feed.batch(*feed.inputs(slice(0, 2)))
        assert (x.dtype, target.dtype) == (np.float32, kept)


def test_a_digest_is_of_samples_and_targets():
    digests = {
        small().digest(),
        small(y=np.arange(1, 7) % 3).digest(),
        small(x=np.ones((6, 2, 2), np.uint8)).digest(),
        small().take(np.array([1, 0, 2, 3, 4, 5])).digest(),
    }
    assert len(digests) == 4
    assert small().digest() == small(classes=("a", "b", "c")).digest()


def test_two_classes_of_one_name():
    with pytest.raises(ValueError, match="data: two classes are called 'a'"):
        Dataset(np.zeros((3, 2)), np.array([0, 1, 2]), ("a", "b", "a"))


def test_the_mean_of_a_data_set_is_asked_of_its_samples():
    with pytest.raises(TypeError, match=r"mean_std takes samples, such as data\.x, not a data set"):
        mean_std(load("digits").train)
