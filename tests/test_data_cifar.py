"""CIFAR-10, on small archives of the same layout."""

from __future__ import annotations

import hashlib
import io
import tarfile

import numpy as np
import pytest

from xpnet import data
from xpnet.data import CifarError, cifar, datasets, download, read_cifar

FILES = (*cifar.TRAIN, *cifar.TEST)


def records(seed, n=3):
    """(x (n, 32, 32, 3), y, the bytes of a file of them)."""
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 256, (n, 32, 32, 3), np.uint8), rng.integers(0, 10, n, np.uint8)
    content = b"".join(
        bytes([label]) + b"".join(image[..., c].tobytes() for c in range(3)) for image, label in zip(x, y, strict=True)
    )
    return x, y, content


def write(path, content):
    with tarfile.open(path, "w:gz") as archive:
        for name, data_ in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data_)
            archive.addfile(member, io.BytesIO(data_))
    return path


def usual(**changed):
    """The files of an archive, by their names in it; there is more in it than the images."""
    content = {f"cifar-10-batches-bin/{name}": records(i, 2 + i)[2] for i, name in enumerate(FILES)}
    content["cifar-10-batches-bin/batches.meta.txt"] = b"airplane\n"
    return content | {f"cifar-10-batches-bin/{name}.bin": value for name, value in changed.items()}


def test_labels_and_colours_are_where_they_belong(tmp_path):
    train, test = read_cifar(write(tmp_path / "a.tar.gz", usual()), "small")
    np.testing.assert_array_equal(train.x, np.concatenate([records(i, 2 + i)[0] for i in range(5)]))
    np.testing.assert_array_equal(train.y, np.concatenate([records(i, 2 + i)[1] for i in range(5)]))
    np.testing.assert_array_equal(test.x, records(5, 7)[0])
    np.testing.assert_array_equal(test.y, records(5, 7)[1])
    assert (train.name, test.name) == ("small train", "small test")
    assert train.classes == test.classes == cifar.CLASSES
    assert train.classes[3] == "cat"
    assert train.x.flags.c_contiguous


def test_the_order_in_the_archive_does_not_matter(tmp_path):
    backwards = dict(reversed(usual().items()))
    train, _ = read_cifar(write(tmp_path / "a.tar.gz", backwards))
    np.testing.assert_array_equal(train.x[:2], records(0, 2)[0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({name: c for name, c in usual().items() if "batch_4" not in name}, "has no data_batch_4.bin"),
        (usual(data_batch_2=records(1)[2][:-1]), r"data_batch_2\.bin should be a file of .*, it has 9218 bytes"),
        (usual(test_batch=b""), r"test_batch\.bin should be .* has 0 bytes"),
        (usual(data_batch_1=bytes(10_001 * 3073)), r"of 1 to 10000 records of 3073 bytes, it has 30733073 bytes"),
    ],
    ids=["missing", "cut off", "empty", "too long"],
)
def test_an_archive_of_another_form(content, message, tmp_path):
    with pytest.raises(CifarError, match=message):
        read_cifar(write(tmp_path / "a.tar.gz", content))


def test_a_label_outside_of_the_classes_is_refused(tmp_path):
    path = write(tmp_path / "a.tar.gz", usual(test_batch=bytes([10]) + bytes(3072)))
    with pytest.raises(ValueError, match=r"cifar10 test: label 10 at index 0 is outside 0\.\.9"):
        read_cifar(path)


@pytest.mark.parametrize("cut", [0, 5, 1000, 40_000])
def test_an_archive_that_is_cut_off(cut, tmp_path):
    whole = write(tmp_path / "a.tar.gz", usual()).read_bytes()
    (tmp_path / "b.tar.gz").write_bytes(whole[:cut])
    with pytest.raises(CifarError, match=r"b\.tar\.gz is not a whole \.tar\.gz archive"):
        read_cifar(tmp_path / "b.tar.gz")


def test_a_link_out_of_the_archive_is_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(records(0)[2])
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as archive:
        member = tarfile.TarInfo("data_batch_1.bin")
        member.type, member.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        archive.addfile(member)
    with pytest.raises(CifarError, match="should be a file"):
        read_cifar(tmp_path / "a.tar.gz")


# By name --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("folder", ["", "cifar10"])
def test_it_is_found_in_the_users_folder(folder, tmp_path, monkeypatch):
    (tmp_path / folder).mkdir(exist_ok=True)
    path = write(tmp_path / folder / cifar.ARCHIVE, usual())
    monkeypatch.setenv("XPNET_DATA", str(tmp_path))
    with pytest.raises(ValueError, match=rf"is not CIFAR-10's: .* expected {cifar.SHA256}"):
        data.load("cifar10")
    monkeypatch.setattr(cifar, "SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    train, test = data.load("cifar10")
    assert repr(train) == "<cifar10 train: 20 samples of 32 x 32 x 3 uint8, 10 classes>"
    assert len(test) == 7


def test_otherwise_it_is_downloaded_into_the_cache(tmp_path, monkeypatch):
    path, asked = write(tmp_path / "there.tar.gz", usual()), []
    monkeypatch.delenv("XPNET_DATA", raising=False)
    monkeypatch.setenv("XPNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "fetch", lambda *given, **more: asked.append((given, more)) or path)
    assert len(datasets.load("cifar10").train) == 20
    (given, more) = asked[0]
    assert given[0] == cifar.ARCHIVE
    assert all(url.startswith("https://") and url.endswith(cifar.ARCHIVE) for url in given[1])
    assert given[2:] == (cifar.SHA256, tmp_path / "cache" / "cifar10")
    assert more == {"packed": True}
