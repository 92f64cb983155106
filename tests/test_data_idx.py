"""IDX files: what is written is read again, byte for byte; what is not an IDX file is refused with its reason."""

from __future__ import annotations

import gzip
import os
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xpnet.data import IdxError, read_idx, write_idx
from xpnet.data.idx import idx_shape

DTYPES = ["u1", "i1", "i2", "i4", "f4", "f8"]


def header(code: int, *sizes: int, ndim: int | None = None) -> bytes:
    return struct.pack(f">HBB{len(sizes)}I", 0, code, len(sizes) if ndim is None else ndim, *sizes)


@pytest.fixture
def file(tmp_path):
    """Write bytes to a file, give its path."""

    def write(content: bytes, name: str = "some.idx"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=5))
)


@settings(max_examples=150, deadline=None)
@given(array=arrays, suffix=st.sampled_from(["", ".gz"]), order=st.sampled_from(["<", ">"]))
def test_round_trip(tmp_path_factory, array, suffix, order):
    path = tmp_path_factory.getbasetemp() / f"round-trip.idx{suffix}"
    write_idx(path, array.astype(array.dtype.newbyteorder(order)))
    found = read_idx(path)
    assert found.dtype == array.dtype
    assert found.dtype.isnative
    assert found.shape == array.shape
    assert found.tobytes() == array.tobytes()
    assert found.flags.writeable
    assert found.flags.c_contiguous


@settings(max_examples=200, deadline=None)
@given(
    start=st.binary(max_size=12) | st.builds(lambda code, ndim: bytes([0, 0, code, ndim]), *[st.integers(0, 16)] * 2),
    rest=st.binary(max_size=40),
    packed=st.booleans(),
)
def test_any_bytes_are_read_or_refused(tmp_path_factory, start, rest, packed):
    path = tmp_path_factory.getbasetemp() / "any.idx"
    path.write_bytes(gzip.compress(start + rest) if packed else start + rest)
    array, reason = None, ""
    try:
        array = read_idx(path)
    except IdxError as error:
        reason = str(error)
    assert str(path) in reason or len(start + rest) == 4 + 4 * array.ndim + array.nbytes


def test_the_bytes_are_those_of_the_format(tmp_path):
    path = tmp_path / "labels.idx"
    write_idx(path, np.array([[1, -2, 258]], dtype=np.int16))
    assert path.read_bytes() == bytes([0, 0, 0x0B, 2, 0, 0, 0, 1, 0, 0, 0, 3, 0, 1, 0xFF, 0xFE, 1, 2])


def test_gzip_is_written_by_suffix_and_told_by_content(tmp_path):
    array = np.arange(12, dtype=np.uint8).reshape(3, 4)
    packed, renamed = tmp_path / "x.idx.gz", tmp_path / "x.idx"
    write_idx(packed, array)
    packed.rename(renamed)
    assert gzip.decompress(renamed.read_bytes()) == header(0x08, 3, 4) + bytes(range(12))
    assert (read_idx(renamed) == array).all()


def test_equal_arrays_give_equal_archives(tmp_path):
    array = np.arange(100, dtype=np.float32)
    write_idx(tmp_path / "a.gz", array)
    write_idx(tmp_path / "b.gz", array.copy())
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    flags_and_time = (tmp_path / "a.gz").read_bytes()[3:8]
    assert flags_and_time == bytes(5)  # neither the file's name nor the time of writing


def test_arrays_that_are_not_contiguous(tmp_path):
    array = np.arange(24, dtype=np.int32).reshape(4, 6)[::2, ::-1].T
    write_idx(tmp_path / "x.idx", array)
    assert (read_idx(tmp_path / "x.idx") == array).all()


IMAGES = header(0x08, 2, 3, 3) + bytes(18)
BAD = {
    "empty": (b"", "the file is empty"),
    "empty gzip": (gzip.compress(b""), "the file is empty"),
    "text": (b"hello, world", "not an IDX file: it begins with bytes 68 65 6c 6c, expected 00 00"),
    "one byte": (b"\0", "truncated: 1 bytes, expected an IDX header"),
    "magic cut": (b"\0\0\x08", "truncated: 3 bytes"),
    "unknown dtype": (header(0x0A, 2) + bytes(2), "unknown IDX dtype 0x0a, expected one of 0x08 uint8, 0x09 int8"),
    "no dimension": (header(0x08) + bytes(4), "0 dimensions, expected 1 to 64"),
    "many dimensions": (header(0x08, *[1] * 65) + bytes(1), "65 dimensions, expected 1 to 64"),
    "header cut": (header(0x08, 2, 3, ndim=3), "it ends in the header, after 12 bytes of 16"),
    "truncated": (IMAGES[:-1], "promises 2 x 3 x 3 uint8, that is 18 bytes of data, but there are only 17"),
    "truncated, 8 bytes each": (header(0x0E, 2) + bytes(15), "2 float64, that is 16 bytes .* only 15"),
    "too long": (IMAGES + b"\0", "too long: the header promises 2 x 3 x 3 uint8, that is 18 bytes"),
    "too long gzip": (gzip.compress(IMAGES + b"\0"), "too long"),
    "overflow": (header(0x08, *[2**32 - 1] * 3), "more than any array can hold"),
    "overflow of nothing": (header(0x0E, 0, *[2**32 - 1] * 3), "more than any array can hold"),
    "gzip cut": (gzip.compress(IMAGES)[:-9], "gzip data is damaged or cut off"),
    "gzip of a wrong checksum": (
        gzip.compress(IMAGES)[:-8] + bytes(8),
        "gzip data is damaged or cut off: .*incorrect data check",
    ),
    "gzip with a tail": (gzip.compress(IMAGES) + b"tail", "gzip data is damaged .* more data follows its end marker"),
    "gzip of many members": (gzip.compress(IMAGES) + gzip.compress(b"") * 1000, "more data follows its end marker"),
    "gzip that begins with nothing": (gzip.compress(b"") + gzip.compress(IMAGES), "more data follows its end marker"),
    "gzip that is none": (b"\x1f\x8b\x08\0\0\0\0\0\0\0 no deflate", "gzip data is damaged"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_its_reason(file, name):
    content, reason = BAD[name]
    path = file(content)
    with pytest.raises(IdxError, match=reason) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")


def peak_memory(action) -> int:
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def refuse(path):
    with pytest.raises(IdxError):
        read_idx(path)


def test_a_header_that_lies_takes_no_memory(file):
    path = file(header(0x0E, 2**31, 2**20) + bytes(100))
    assert peak_memory(lambda: refuse(path)) < 4 << 20


def test_a_gzip_bomb_is_unpacked_no_further_than_the_header_promises(file):
    path = file(gzip.compress(header(0x08, 10) + bytes(64 << 20), compresslevel=1))
    assert peak_memory(lambda: refuse(path)) < 4 << 20


def test_a_shape_is_read_from_the_header_alone(file):
    path = file(header(0x0E, 2**31, 2**20) + bytes(100))
    assert idx_shape(path) == (2**31, 2**20)
    assert idx_shape(file(gzip.compress(IMAGES))) == (2, 3, 3)
    with pytest.raises(IdxError, match="the file is empty"):
        idx_shape(file(b""))


@pytest.mark.parametrize("missing", ["missing.idx", "no-folder/missing.idx"])
def test_a_missing_file_is_an_os_error(tmp_path, missing):
    with pytest.raises(FileNotFoundError, match=r"missing\.idx"):
        read_idx(tmp_path / missing)


def test_write_into_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"cannot write .*x\.idx: there is no folder .*no-folder"):
        write_idx(tmp_path / "no-folder" / "x.idx", np.zeros(3, np.uint8))


@pytest.mark.parametrize("dtype", ["i8", "u2", "f2", "?", "c8", "O", "U3"])
def test_write_refuses_other_dtypes(tmp_path, dtype):
    with pytest.raises(IdxError, match=r"convert the array to one of uint8, int8, int16, int32, float32, float64"):
        write_idx(tmp_path / "x.idx", np.zeros(3, dtype))
    assert list(tmp_path.iterdir()) == []


def test_write_refuses_shapes_that_idx_has_not(tmp_path):
    with pytest.raises(IdxError, match=r"IDX has no shape \(\)"):
        write_idx(tmp_path / "x.idx", np.float32(1))
    huge = np.broadcast_to(np.uint8(0), (2**32,))
    with pytest.raises(IdxError, match=r"IDX has no shape \(4294967296,\)"):
        write_idx(tmp_path / "x.idx", huge)


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"x.idx{suffix}"
    write_idx(path, np.arange(3, dtype=np.uint8))

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_idx(path, np.zeros(9, np.uint8))
    assert (read_idx(path) == [0, 1, 2]).all()
    assert list(tmp_path.iterdir()) == [path]
