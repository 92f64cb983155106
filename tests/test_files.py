"""Files are replaced whole or not at all."""

from __future__ import annotations

import os
import sys

import pytest

from xpnet.files import replacing

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


def test_a_long_name(tmp_path):
    path = tmp_path / ("n" * 240)
    with replacing(path) as temporary:
        temporary.write_text("x")
    assert path.exists()
