"""Downloads, from servers on this machine that do what servers do: serve, break off, stall, lie, and refuse."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from xpnet import files
from xpnet.data import DownloadError, IdxError, download, fetch

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
ARCHIVE = gzip.compress(CONTENT)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves one body under every path; its attributes say how."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = ARCHIVE
        self.ranges = True  # understands Range
        self.offset = 0  # by so much it answers another range than asked
        self.chunked = False  # sends no Content-Length
        self.status = 200
        self.cuts: list[int] = []  # after so many bytes each of the next answers breaks off
        self.pause: threading.Event | None = None  # in the middle of an answer it waits for this
        self.asked = threading.Event()  # somebody has asked
        self.requests: list[str | None] = []  # the Range of each
        self.url = f"http://127.0.0.1:{self.server_port}/x.gz"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def handle_error(self, *_):
        """A client that has gone is no news."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self):
        server, wanted = self.server, self.headers["Range"]
        server.requests.append(wanted)
        if server.status != 200:
            self.send_error(server.status)
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and server.ranges else 0
        if start and start >= len(server.body):
            self.send_error(416)
            return
        body = server.body[start:]
        self.send_response(206 if start else 200)
        if start:
            at = start + server.offset
            self.send_header("Content-Range", f"bytes {at}-{len(server.body) - 1}/{len(server.body)}")
        if not server.chunked:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cuts:
            body = body[: server.cuts.pop(0)]
        half = len(body) // 2
        self.wfile.write(body[:half])
        self.wfile.flush()
        server.asked.set()
        if server.pause:
            server.pause.wait(60)
        self.wfile.write(body[half:])

    def log_message(self, *_):
        pass


@pytest.fixture
def servers(monkeypatch):
    """A function that starts a server."""
    monkeypatch.setenv("no_proxy", "*")
    started = []

    def start() -> Server:
        started.append(Server())
        return started[-1]

    yield start
    for server in started:
        if server.pause:
            server.pause.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "mnist"


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_downloaded_once(servers, folder, capsys):
    server = servers()
    for _ in range(2):
        assert fetch("x.gz", [server.url], SHA256, folder) == folder / "x.gz"
    assert (folder / "x.gz").read_bytes() == ARCHIVE
    assert names(folder) == ["x.gz"]
    assert server.requests == [None]
    assert capsys.readouterr().err == f"xpnet: downloading {server.url}\n"


def test_a_plain_file_is_checked_as_it_is(servers, folder):
    server = servers()
    server.body = CONTENT
    assert fetch("x", [server.url], SHA256, folder).read_bytes() == CONTENT


def test_an_archive_is_checked_as_it_is(servers, folder):
    server, packed = servers(), hashlib.sha256(ARCHIVE).hexdigest()
    for _ in range(2):
        assert fetch("x.gz", [server.url], packed, folder, packed=True).read_bytes() == ARCHIVE
    assert server.requests == [None]
    with pytest.raises(DownloadError, match="no mirror delivers"):
        fetch("x.gz", [server.url], SHA256, folder, packed=True)


def test_a_server_that_does_not_say_how_much_comes(servers, folder):
    server = servers()
    server.chunked = True
    assert fetch("x.gz", [server.url], SHA256, folder).read_bytes() == ARCHIVE


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_download_goes_on_where_it_stopped_or_starts_again(servers, folder, ranges):
    server = servers()
    server.ranges, server.cuts = ranges, [100_000]
    with pytest.raises(DownloadError, match=f"broke off after 100000 of {len(ARCHIVE)} bytes"):
        fetch("x.gz", [server.url], SHA256, folder)
    assert (folder / "x.gz.part").stat().st_size == 100_000
    assert fetch("x.gz", [server.url], SHA256, folder).read_bytes() == ARCHIVE
    assert server.requests == [None, "bytes=100000-"]
    assert names(folder) == ["x.gz"]


def test_the_next_mirror_goes_on_where_the_first_broke_off(servers, folder):
    first, second = servers(), servers()
    first.cuts = [50_000]
    assert fetch("x.gz", [first.url, second.url], SHA256, folder).read_bytes() == ARCHIVE
    assert second.requests == ["bytes=50000-"]


@pytest.mark.parametrize("left", [b"something else", bytes(len(ARCHIVE)), ARCHIVE + b"more"])
def test_a_part_of_something_else_is_thrown_away(servers, folder, left):
    server = servers()
    folder.mkdir(parents=True)
    (folder / "x.gz.part").write_bytes(left)
    assert fetch("x.gz", [server.url], SHA256, folder).read_bytes() == ARCHIVE
    assert server.requests == [f"bytes={len(left)}-", None]


def test_a_part_that_is_complete_is_taken(servers, folder):
    server = servers()
    folder.mkdir(parents=True)
    (folder / "x.gz.part").write_bytes(ARCHIVE)
    assert fetch("x.gz", [server.url], SHA256, folder).read_bytes() == ARCHIVE
    assert server.requests == [f"bytes={len(ARCHIVE)}-"]


def test_another_range_than_asked_for_is_not_taken(servers, folder):
    server = servers()
    server.cuts, server.offset = [1000], 5
    for reason in ("broke off", "the server sent another range"):
        with pytest.raises(DownloadError, match=reason):
            fetch("x.gz", [server.url], SHA256, folder)
    assert (folder / "x.gz.part").read_bytes() == ARCHIVE[:1000]


def test_a_wrong_content_is_refused_and_the_next_mirror_asked(servers, folder):
    wrong, login, right = servers(), servers(), servers()
    wrong.body, login.body = gzip.compress(b"other"), b"<html>Please log in</html>"
    assert fetch("x.gz", [wrong.url, login.url, right.url], SHA256, folder).read_bytes() == ARCHIVE
    assert right.requests == [None]


def test_all_mirrors_fail_each_with_its_reason(servers, folder):
    wrong, missing, damaged, gone = (servers() for _ in range(4))
    wrong.body, missing.status, damaged.body = b"other", 404, ARCHIVE[:-9]
    gone.shutdown()
    gone.server_close()
    with pytest.raises(DownloadError) as caught:
        fetch("x.gz", [server.url for server in (wrong, missing, damaged, gone)], SHA256, folder)
    text = str(caught.value)
    other = hashlib.sha256(b"other").hexdigest()
    assert f"{wrong.url}: the content of x.gz.part has SHA-256 {other}, expected {SHA256}" in text
    assert f"{missing.url}: HTTP Error 404" in text
    assert f"{damaged.url}: " in text
    assert "the gzip data is damaged or cut off" in text
    assert f"{gone.url}: <urlopen error" in text
    assert f"put x.gz into {folder}, or into a folder mnist inside the folder that XPNET_DATA names" in text
    assert isinstance(caught.value, OSError)
    assert names(folder) == ["x.gz.lock"]


def test_a_server_that_sends_without_end_is_given_up(servers, folder, monkeypatch):
    server = servers()
    server.chunked, server.body = True, bytes(3_000_000)
    monkeypatch.setattr(download, "MOST", 1_000_000)
    with pytest.raises(DownloadError, match="the server sends more than 1000000 bytes"):
        fetch("x.gz", [server.url], SHA256, folder)
    assert (folder / "x.gz.part").stat().st_size < 1_000_000 + 2 * download.CHUNK


def test_a_file_that_unpacks_without_end_is_digested_no_further(tmp_path, monkeypatch):
    (tmp_path / "x.gz").write_bytes(gzip.compress(bytes(3_000_000)))
    monkeypatch.setattr(download, "MOST", 1_000_000)
    with pytest.raises(IdxError, match="it holds more than 1000000 bytes"):
        download.content_sha256(tmp_path / "x.gz")


def test_a_server_that_stalls_is_given_up(servers, folder, monkeypatch):
    server = servers()
    server.pause = threading.Event()
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with pytest.raises(DownloadError, match="timed out"):
        fetch("x.gz", [server.url], SHA256, folder)
    server.pause.set()
    server.pause = None
    assert fetch("x.gz", [server.url], SHA256, folder).read_bytes() == ARCHIVE


@pytest.mark.parametrize("wrong", [gzip.compress(b"other"), ARCHIVE[:-3]], ids=["other", "cut"])
def test_a_wrong_file_is_replaced_and_kept_until_then(servers, folder, wrong, capsys):
    server = servers()
    folder.mkdir(parents=True)
    (folder / "x.gz").write_bytes(wrong)
    server.status = 503
    with pytest.raises(DownloadError, match="503"):
        fetch("x.gz", [server.url], SHA256, folder)
    assert (folder / "x.gz").read_bytes() == wrong
    assert "downloading again, since" in capsys.readouterr().err
    server.status = 200
    assert fetch("x.gz", [server.url], SHA256, folder).read_bytes() == ARCHIVE


def test_a_folder_that_cannot_be_made(servers, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DownloadError, match="Set XPNET_CACHE to a folder that can be written"):
        fetch("x.gz", [servers().url], SHA256, tmp_path / "file" / "mnist")


def test_a_file_system_without_locks(servers, folder, monkeypatch):
    fcntl = pytest.importorskip("fcntl", reason="Windows locks by another module")

    def no_locks(*_):
        raise OSError(files.NO_LOCKS[0], "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    assert fetch("x.gz", [servers().url], SHA256, folder).read_bytes() == ARCHIVE


def test_a_terminal_gets_a_bar(servers, folder, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", Terminal())
    fetch("x.gz", [servers().url], SHA256, folder)
    assert "x.gz" in sys.stderr.getvalue()
    assert "300.1/300.1 kB" in sys.stderr.getvalue()


def test_no_stderr_at_all(servers, folder, monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert fetch("x.gz", [servers().url], SHA256, folder).read_bytes() == ARCHIVE


FETCH = """
import sys
from pathlib import Path
from xpnet.data import fetch
print(fetch("x.gz", [sys.argv[1]], sys.argv[2], Path(sys.argv[3])))
"""


def in_another_process(server: Server, folder) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", FETCH, server.url, SHA256, str(folder)]
    environment = os.environ | {"no_proxy": "*"}
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def test_of_two_processes_one_downloads_and_the_other_waits(servers, folder):
    server = servers()
    server.pause = threading.Event()
    with in_another_process(server, folder) as first:
        assert server.asked.wait(30)
        with in_another_process(server, folder) as second:
            assert second.stderr.readline() == "xpnet: waiting for another process that downloads x.gz\n"
            server.pause.set()
            results = [process.communicate(timeout=30)[0].strip() for process in (first, second)]
    assert results == [str(folder / "x.gz")] * 2
    assert (folder / "x.gz").read_bytes() == ARCHIVE
    assert server.requests == [None]
    assert names(folder) == ["x.gz"]


def test_a_killed_download_blocks_nobody_and_its_part_is_used(servers, folder):
    server = servers()
    server.pause = threading.Event()
    with in_another_process(server, folder) as process:
        assert server.asked.wait(30)
        part = folder / "x.gz.part"
        while not part.exists() or part.stat().st_size < download.CHUNK:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
    kept = part.stat().st_size
    server.pause.set()
    assert fetch("x.gz", [server.url], SHA256, folder).read_bytes() == ARCHIVE
    assert server.requests == [None, f"bytes={kept}-"]
    assert names(folder) == ["x.gz"]
