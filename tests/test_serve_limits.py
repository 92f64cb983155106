"""What `xpnet serve` bears: limits on connections, bodies, work and waiting, and what is answered when they are met."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest

import xpnet

pytest.importorskip("fastapi", reason="the extra `web` is not installed")
pytest.importorskip("httpx2", reason="FastAPI's test client needs it")

import uvicorn
from fastapi.testclient import TestClient
from small_server import crash, drawing, encoded, pixels, png_of, reader
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from xpnet.cli.serve import serve
from xpnet.photo import ImageError
from xpnet.serve import limits
from xpnet.serve.app import create_app
from xpnet.serve.guard import SECURITY_HEADERS, Bodies, Body
from xpnet.serve.reader import Reader
from xpnet.serve.work import Work, opener


@pytest.fixture(scope="module")
def client():
    with TestClient(create_app(reader(), "tiny"), "http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


# Headers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs", "/static/app.js", "/api/model", "/openapi.json"])
def test_every_answer_has_the_security_headers(client, path):
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    ("status", "path", "changed"),
    [
        (400, "/api/read", {"Host": "evil.example"}),
        (403, "/api/read", {"Origin": "http://evil.example"}),
        (404, "/nothing", {}),
        (405, "/api/model", {}),
        (413, "/api/read", {"Content-Length": str(10**12)}),
        (422, "/api/read", {}),
        (503, "/api/read", {"X": "busy"}),
    ],
)
def test_every_refusal_has_the_security_headers(client, monkeypatch, status, path, changed):
    if "X" in changed:
        monkeypatch.setattr(limits, "WAITING", 0)
    response = client.post(path, content=b"x", headers=changed)
    assert response.status_code == status
    assert response.json()["error"]
    assert {name: response.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


# Work -----------------------------------------------------------------------------------------------------------


def ask(work, function, *arguments):
    """What a request has done in its place in the queue."""

    async def one():
        async with work.place():
            return await work.run(PATIENT, function, *arguments)

    return one()


PATIENT = SimpleNamespace(is_disconnected=lambda: asyncio.sleep(0, False))


@pytest.fixture
def work():
    work = Work(xpnet.select("cpu"))
    yield work
    work.close()


def test_the_queue_is_limited(monkeypatch, work):
    monkeypatch.setattr(limits, "WAITING", 3)
    release = threading.Event()

    async def overfull():
        waiting = [asyncio.create_task(ask(work, release.wait, 10)) for _ in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(HTTPException, match="busy") as refused:
            await ask(work, int)
        release.set()
        return refused.value.status_code, await asyncio.gather(*waiting), await ask(work, int)

    assert asyncio.run(overfull()) == (503, [True, True, True], 0)


def test_work_that_takes_too_long_is_given_up(monkeypatch, work):
    monkeypatch.setattr(limits, "WORK_SECONDS", 0.05)
    release = threading.Event()
    with pytest.raises(HTTPException, match="took too long"):
        asyncio.run(ask(work, release.wait, 10))
    release.set()


def test_nothing_is_done_for_a_client_that_has_gone(work):
    gone = SimpleNamespace(is_disconnected=lambda: asyncio.sleep(0, True))
    done = []
    with pytest.raises(ClientDisconnect):
        asyncio.run(work.run(gone, done.append, 1))
    assert done == []


def test_each_thread_that_asks_the_model_uses_its_device(monkeypatch):
    """CUDA's current device belongs to a thread, and is the first one until another is chosen."""
    backend, used = xpnet.select("cpu"), []
    monkeypatch.setattr(backend, "use", lambda: used.append(threading.get_ident()), raising=True)
    work = Work(backend)

    async def two_at_once():
        together = threading.Barrier(2)
        both = lambda: (together.wait(10), threading.get_ident())[1]
        return await asyncio.gather(ask(work, both), ask(work, both))

    idents = asyncio.run(two_at_once())
    work.close()
    assert sorted(idents) == sorted(used)
    assert len(set(idents)) == 2


def test_one_thread_at_a_time_has_the_model():
    """Layers share scratch memory: what two threads asked at once would be mixed up."""
    about = reader()
    inside, most, forward = [], [], about.model.network.forward

    def slow(x, backend):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        result = forward(x, backend)
        inside.pop()
        return result

    about.model.network.forward = slow
    asked = [lambda: about.read(np.asarray(drawing())), lambda: about.explain(pixels())] * 2
    with ThreadPoolExecutor(4) as threads:
        for future in [threads.submit(ask) for ask in asked]:
            future.result()
    assert len(most) >= 4
    assert max(most) == 1


def opened(work, image):
    async def one():
        return await work.open(PATIENT, image)

    return asyncio.run(one())


def test_an_image_that_takes_too_long_to_open_is_given_up_and_the_next_is_opened(monkeypatch, work):
    image, schedule = encoded(drawing()), work._small.schedule
    hangs = lambda function, arguments, timeout: schedule(time.sleep, [60], timeout=timeout)
    monkeypatch.setattr(work._small, "schedule", hangs)
    monkeypatch.setattr(limits, "OPEN_SECONDS", 0.05)
    with pytest.raises(ImageError, match="too long to open"):
        opened(work, image)
    monkeypatch.undo()
    assert opened(work, image).shape == (200, 200)


def test_a_small_image_does_not_wait_for_a_large_one(work):
    async def both():
        async with work._queues[work._large]:
            large = asyncio.create_task(work.open(PATIENT, encoded(drawing(size=(1500, 1500)))))
            small = await work.open(PATIENT, encoded(drawing()))
            await asyncio.sleep(0.05)
            waits = not large.done()
        return small.shape, waits, (await large).shape

    assert asyncio.run(both()) == ((200, 200), True, (1024, 1024))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
def test_the_memory_to_open_an_image_is_limited():
    with opener() as process:
        with pytest.raises(MemoryError):
            process.schedule(bytearray, [limits.OPEN_BYTES + 2**20]).result()
        assert len(process.schedule(bytearray, [limits.OPEN_BYTES // 4]).result()) == limits.OPEN_BYTES // 4


def test_an_opener_that_crashes_is_replaced(monkeypatch, work):
    monkeypatch.setattr("xpnet.serve.work.open_image", crash)
    with pytest.raises(ImageError, match="crashed"):
        opened(work, b"")
    monkeypatch.undo()
    assert opened(work, encoded(drawing())).shape == (200, 200)


# Bodies ---------------------------------------------------------------------------------------------------------


def body_of(size, receive=None):
    """A body of which nothing comes."""
    headers = Headers({"content-length": str(size)})
    return Body(receive or (lambda: asyncio.sleep(60)), headers, limits.IMAGE_BYTES)


def test_a_body_that_never_comes_is_given_up(monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)

    async def silent():
        await body_of(5).receive()

    with pytest.raises(HTTPException, match="too slowly") as refused:
        asyncio.run(silent())
    assert refused.value.status_code == 408


def test_bodies_together_have_a_budget_and_the_slowest_make_room(monkeypatch):
    monkeypatch.setattr(limits, "BODIES_BYTES", 3 * 2**20)

    async def crowded():
        bodies = Bodies()
        complete, slow, slower, last = (body_of(2**20) for _ in range(4))
        complete.complete = True
        with bodies.room_for(complete), bodies.room_for(slow), bodies.room_for(slower):
            waits = [asyncio.create_task(body.receive()) for body in (slow, slower)]
            await asyncio.sleep(0)
            with bodies.room_for(last), pytest.raises(HTTPException, match="too slowly"):
                await asyncio.wait_for(waits[0], 5)
            assert not waits[1].done()
            with pytest.raises(HTTPException, match="busy"), bodies.room_for(body_of(3 * 2**20)):
                pass
            with bodies.room_for(body_of(limits.SMALL_BODY)):
                pass
        with bodies.room_for(body_of(3 * 2**20)):  # all have left
            pass
        await asyncio.gather(*waits, return_exceptions=True)

    asyncio.run(crowded())


def test_a_body_without_a_length_counts_as_the_largest():
    async def size():
        return Body(None, Headers({"transfer-encoding": "chunked"}), 12345).size

    assert asyncio.run(size()) == 12345


# Connections ------------------------------------------------------------------------------------------------------


@pytest.fixture
def server(monkeypatch):
    """`xpnet serve` itself, on a free port, with a client's patience."""
    for limit in ("HEAD_SECONDS", "ANSWER_SECONDS"):
        monkeypatch.setattr(limits, limit, 0.2)
    started = SimpleNamespace(listening=threading.Event())
    run = uvicorn.Server.run

    def run_and_tell(self, sockets):
        started.uvicorn, started.at = self, sockets[0].getsockname()
        started.listening.set()
        run(self, sockets)

    monkeypatch.setattr(uvicorn.Server, "run", run_and_tell)
    thread = threading.Thread(target=serve, kwargs={"port": 0, "device": "cpu"})
    thread.start()
    assert started.listening.wait(20)
    yield started
    started.uvicorn.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def connected(server):
    return socket.create_connection(server.at, timeout=10)


@pytest.fixture
def connection(server):
    with connected(server) as connection:
        yield connection


HOST = b" HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def answered(connection):
    """Status and JSON of the next answer."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return answer.status, json.load(answer)


def test_a_request_that_stops_in_its_head_is_given_up(connection):
    connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
    assert connection.recv(1) == b""


def test_so_is_the_second_request_of_a_connection(connection):
    connection.sendall(b"GET /api/model" + HOST + b"\r\n")
    assert answered(connection)[0] == 200
    connection.sendall(b"GET / HTTP/1.1\r\nHost: ")
    assert connection.recv(1) == b""


@pytest.mark.parametrize("before", [b"", b"GET /api/model" + HOST + b"\r\n"], ids=["first", "second"])
def test_a_head_that_trickles_is_given_up(connection, before):
    if before:
        connection.sendall(before)
        assert answered(connection)[0] == 200
    assert trickled(connection, b"GET / HTTP/1.1\r\nX: ")


def test_a_body_that_trickles_on_after_its_answer_is_given_up(connection):
    connection.sendall(b"POST /nothing" + HOST + b"Content-Length: 10000\r\n\r\n")
    assert answered(connection)[0] == 404
    assert trickled(connection, b"x")


def trickled(connection, start):
    """Whether the connection ends while bytes still come, one at a time and none too late."""
    connection.settimeout(0.05)
    connection.sendall(start)
    for _ in range(200):
        try:
            if connection.recv(1) == b"":
                return True
        except TimeoutError:
            connection.sendall(b"x")
        except ConnectionError:
            return True
    return False


def test_a_slow_answer_does_not_end_its_connection(connection, monkeypatch):
    monkeypatch.setattr(Reader, "read", lambda self, image: time.sleep(0.5) or {"text": "", "digits": []})
    for _ in range(2):
        image = encoded(drawing())
        connection.sendall(b"POST /api/read" + HOST + b"Content-Length: %d\r\n\r\n" % len(image) + image)
        assert answered(connection) == (200, {"text": "", "digits": []})


def test_a_malformed_request_is_refused_in_json_too(connection):
    connection.sendall(b"hello\r\n\r\n")
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    assert answer.status == 400
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert json.load(answer) == {"error": "this is not a valid HTTP request"}


def closed(connection):
    """Whether the server has closed the connection, or does so before it would close an idle one."""
    connection.settimeout(3)
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def test_a_body_that_stops_is_given_up(connection, monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.2)
    connection.sendall(b"POST /api/read" + HOST + b"Content-Length: 100\r\n\r\nxyz")
    assert answered(connection) == (408, {"error": "the request arrived too slowly"})
    assert closed(connection)


def test_a_client_that_does_not_read_is_let_go(server):
    request = b"GET /static/style.css" + HOST + b"\r\n"

    def ask_on():
        with contextlib.suppress(ConnectionError):
            while True:
                connection.sendall(request * 100)

    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(server.at)
        asking = threading.Thread(target=ask_on, daemon=True)
        asking.start()
        asking.join(20)
        assert not asking.is_alive()  # the server has closed the connection, and sending failed


def test_one_connection_too_many_ends_the_one_that_has_been_idle_for_longest(server, monkeypatch):
    monkeypatch.setattr(limits, "HEAD_SECONDS", 20)
    monkeypatch.setattr(limits, "CONNECTIONS", 3)
    ask = b"GET /api/model" + HOST + b"\r\n"
    with connected(server) as at_work, connected(server) as idle, connected(server) as later:
        at_work.sendall(b"POST /api/read" + HOST + b"Content-Length: 1\r\n\r\n")
        for connection in (idle, later):
            connection.sendall(ask)
            assert answered(connection)[0] == 200
        with connected(server) as new:
            new.sendall(ask)
            assert answered(new)[0] == 200
            assert closed(idle)
            later.sendall(ask)
            assert answered(later)[0] == 200
            at_work.sendall(b"x")
            assert answered(at_work)[0] == 422


# The log ----------------------------------------------------------------------------------------------------------


def test_clients_that_hang_up_and_ctrl_c_under_load_leave_one_line_at_most():
    command = [sys.executable, "-u", "-m", "xpnet", "serve", "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        port = int(re.search(r":(\d+)", server.stdout.readline())[1])
        image = encoded(drawing(size=(3000, 3000)), "JPEG")
        request = b"POST /api/read" + HOST + b"Content-Length: %d\r\n\r\n" % len(image) + image
        for sent in (request, request[:-1]) * 10:  # before the answer, and in the middle of the body
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(sent)
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # hang up at once
        long = png_of(8000, 6000, (b"\0" + b"\x0f" * 1000) * 6000)
        long = b"POST /api/read" + HOST + b"Content-Length: %d\r\n\r\n" % len(long) + long
        with contextlib.ExitStack() as clients:
            for sent in (long, long, long, request[:-1], b"GET /", b"") * 10:
                connection = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
                connection.sendall(sent)
            time.sleep(0.3)
            server.send_signal(signal.SIGINT)
            _, log = server.communicate(timeout=30)
    assert log.count("\n") <= 1, log
    assert server.returncode == 0
