"""Files are replaced whole or not at all."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from xpnet.files import check_place, cut, expanded, locked, replacing

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="permissions and links as POSIX has them")


def test_the_file_appears_whole_and_nothing_else_stays(tmp_path):
    path = tmp_path / "ü file.txt"
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["ü file.txt"]


def test_after_an_error_the_old_file_is_untouched(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fails():
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_missing_folder_is_named(tmp_path):
    writing = replacing(tmp_path / "nowhere" / "x")
    with pytest.raises(FileNotFoundError, match=r"there is no such folder.*nowhere"):
        writing.__enter__()


@POSIX
def test_permissions_are_those_of_the_file_before_or_the_usual_ones(tmp_path):
    path = tmp_path / "file"
    path.write_text("secret")
    path.chmod(0o600)
    with replacing(path) as temporary:
        temporary.write_text("new secret")
    assert path.stat().st_mode & 0o777 == 0o600
    with replacing(tmp_path / "other") as temporary:
        temporary.write_text("")
    (tmp_path / "plain").write_text("")
    assert (tmp_path / "other").stat().st_mode == (tmp_path / "plain").stat().st_mode


@POSIX
def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "file").write_text("old")
    (tmp_path / "link").symlink_to("file")
    with replacing(tmp_path / "link") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"


@POSIX
def test_a_writer_that_makes_the_file_anew_does_not_change_its_permissions(tmp_path):
    with replacing(tmp_path / "file") as temporary:
        temporary.unlink()
        temporary.touch(0o600)
    (tmp_path / "plain").touch()
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_place_that_is_tried_is_left_as_it_was(tmp_path):
    (tmp_path / "old").write_text("kept")
    for name in ("old", "new"):
        check_place(tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert (tmp_path / "old").read_text() == "kept"


@POSIX
def test_what_replaces_a_secret_is_never_readable_by_others(tmp_path):
    path = tmp_path / "file"
    path.write_text("secret")
    path.chmod(0o600)
    with replacing(path) as temporary:
        assert temporary.stat().st_mode & 0o777 == 0o600


def test_the_mask_of_the_process_is_never_lifted(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", pytest.fail)  # it is the whole process's: another thread may write meanwhile
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("x")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("name", ["n" * 255, "漢" * 85], ids=["ASCII", "three bytes each"])
def test_the_longest_name_that_a_file_may_have(tmp_path, name):
    path = tmp_path / name
    try:
        path.touch()
    except OSError:
        pytest.skip("this file system has shorter names")
    with replacing(path) as temporary:
        temporary.write_text("x")
    assert path.read_text() == "x"


def test_a_name_that_is_too_long_is_told_by_that_name(tmp_path):
    path = tmp_path / ("n" * 400)
    with pytest.raises(OSError, match="nnnn") as caught, replacing(path) as temporary:
        temporary.write_text("x")
    assert caught.value.filename == str(path) or caught.value.filename2 == str(path)
    assert os.listdir(tmp_path) == []


@POSIX
def test_the_file_is_on_the_disk_before_it_takes_the_name_and_the_name_is_after(tmp_path, monkeypatch):
    path, happened = tmp_path / "file", []

    def fsync(handle, real=os.fsync):
        kind = "folder" if os.path.samestat(os.fstat(handle), os.stat(tmp_path)) else "file"
        happened.append((kind, os.fstat(handle).st_size if kind == "file" else None))
        real(handle)

    def replace(old, new, real=os.replace):
        happened.append(("name", None))
        real(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    with replacing(path) as temporary:
        temporary.write_text("complete")
    assert happened == [("file", 8), ("name", None), ("folder", None)]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs a system that lists its open files")
def test_neither_the_file_nor_its_folder_stays_open(tmp_path):
    opened = os.listdir("/proc/self/fd")
    with replacing(tmp_path / "file") as temporary:
        temporary.write_text("new")
    assert os.listdir("/proc/self/fd") == opened


def test_a_lock_is_held_by_one_at_a_time_and_given_back(tmp_path):
    def refuse():
        raise ZeroDivisionError

    with locked(tmp_path / "lock", pytest.fail):
        second = locked(tmp_path / "lock", refuse)
        with pytest.raises(ZeroDivisionError):
            second.__enter__()
    with locked(tmp_path / "lock", pytest.fail):
        pass


def test_a_lock_can_be_waited_for(tmp_path):
    first, told = locked(tmp_path / "lock", pytest.fail), []
    first.__enter__()
    threading.Timer(0.3, first.__exit__, (None, None, None)).start()
    with locked(tmp_path / "lock", lambda: told.append("waiting")):
        assert told == ["waiting"]


@POSIX
def test_home_folders(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded("~/x") == Path("/home/me/x")
    assert expanded("a~/x") == Path("a~/x")
    with pytest.raises(FileNotFoundError, match="~nobody-of-that-name/x: there is no such home folder"):
        expanded("~nobody-of-that-name/x")


def test_names_are_cut_by_bytes_and_between_letters():
    assert cut("short.txt") == "short.txt"
    assert cut("n" * 300) == "n" * 255
    assert cut("漢" * 90) == "漢" * 85
    assert cut("漢" * 90, 254) == "漢" * 84
