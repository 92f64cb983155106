"""`xpnet serve`: the JSON API with good and bad input, its limits, and the colours of its page."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import re
import socket
import struct
import sys
import threading
import time
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

import xpnet
from xpnet import nn

pytest.importorskip("fastapi", reason="the extra `web` is not installed")
pytest.importorskip("httpx2", reason="FastAPI's test client needs it")

import uvicorn
from fastapi.testclient import TestClient
from starlette.exceptions import HTTPException
from threadpoolctl import threadpool_info, threadpool_limits

from xpnet.cli.console import Failed
from xpnet.cli.serve import address, listening, serve
from xpnet.serve import limits
from xpnet.serve.app import STATIC, create_app
from xpnet.serve.reader import QuestionError, Reader


def reader(*layers, shape=(28, 28)):
    layers = layers or (nn.Standardize(33.0, 79.0), nn.Flatten(), nn.Linear(12), nn.Tanh(), nn.Linear(10))
    model = nn.Model(nn.Sequential(*layers), shape, xpnet.select("cpu", dtype="float64", seed=0))
    return Reader(model)


@pytest.fixture(scope="module")
def client():
    with TestClient(create_app(reader(), "tiny"), "http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


def drawing(mode="L", size=(200, 200), digits=1):
    """A 7 for each of `digits`, dark on light."""
    image = Image.new("L", (size[0] * digits, size[1]), 240)
    for i in range(digits):
        at = [(x * size[0] + i * size[0], y * size[1]) for x, y in ((0.3, 0.2), (0.7, 0.2), (0.45, 0.8))]
        ImageDraw.Draw(image).line(at, fill=20, width=size[0] // 14, joint="curve")
    return image.convert(mode)


def encoded(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def png_claiming(width, height):
    """The start of a PNG of any size, without its pixels."""
    chunk = lambda name, body: struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


# Good input ---------------------------------------------------------------------------------------------------


def deep():
    return Image.fromarray(np.asarray(drawing()).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    "picture",
    [
        encoded(drawing()),
        encoded(drawing("RGB"), "JPEG"),
        encoded(drawing("CMYK"), "JPEG"),
        encoded(drawing("RGB"), "WEBP"),
        encoded(drawing("P"), "GIF", save_all=True, append_images=[Image.new("P", (200, 200), 3)]),
        encoded(deep()),
    ],
    ids=["png", "jpeg", "cmyk", "webp", "animated gif", "16 bit"],
)
def test_a_picture_is_read(client, picture):
    response = client.post("/api/read", content=picture)
    assert response.status_code == 200
    [digit] = response.json()["digits"]
    assert np.shape(digit["pixels"]) == (28, 28)
    assert max(map(max, digit["pixels"])) == 255
    assert sum(digit["probabilities"]) == pytest.approx(1, abs=1e-3)
    left, top, right, bottom = digit["box"]
    assert 0.2 < left < 0.35 < 0.65 < right < 0.8
    assert 0.1 < top < 0.25 < 0.75 < bottom < 0.9


def test_several_digits_come_from_left_to_right(client):
    digits = client.post("/api/read", content=encoded(drawing(digits=3))).json()["digits"]
    assert len(digits) == 3
    assert [digit["box"][0] for digit in digits] == sorted(digit["box"][0] for digit in digits)


def test_a_page_without_digits_is_no_error_but_has_a_reason(client):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    response = client.post("/api/read", content=encoded(Image.fromarray(noise)))
    assert response.status_code == 200
    assert response.json()["digits"] == []
    assert response.json()["reason"]


def test_what_is_known_of_the_model(client):
    about = client.get("/api/model").json()
    assert about["name"] == "tiny"
    assert about["classes"] == list("0123456789")
    assert about["picture"] == [28, 28]
    assert [layer["path"] for layer in about["layers"]] == [f"layers.{i}" for i in range(5)]


def pixels(seed=1):
    return np.random.default_rng(seed).integers(0, 256, (28, 28)).tolist()


def test_an_explanation_shows_every_layer_and_agrees_with_the_model(client):
    explanation = client.post("/api/explain", json={"pixels": pixels()}).json()
    assert [layer["kind"] for layer in explanation["layers"]] == ["Standardize", "Flatten", "Linear", "Tanh", "Linear"]
    assert [layer["shape"] for layer in explanation["layers"]] == [[28, 28], [784], [12], [12], [10]]
    model = reader().model
    outputs = model.predict(np.array([pixels()], np.uint8))
    np.testing.assert_allclose(explanation["layers"][-1]["values"], outputs[0], atol=1e-5)
    np.testing.assert_allclose(
        explanation["probabilities"], model.probabilities(np.array([pixels()], np.uint8))[0], atol=1e-5
    )
    assert explanation["answer"] == str(outputs.argmax())


def test_the_gradient_is_the_slope_of_the_answer_above_the_others():
    about = reader()
    margin = lambda x: (outputs := about.model.predict(x[None])[0])[4] - outputs.mean()
    explanation = about.explain(pixels(), answer=4)
    for y, x in ((3, 5), (14, 14), (27, 0)):
        low, high = (np.array(pixels(), np.float64) for _ in range(2))
        low[y, x] -= 1e-3
        high[y, x] += 1e-3
        slope = 255 * (margin(high) - margin(low)) / 2e-3
        assert explanation["gradient"][y][x] == pytest.approx(slope, abs=2e-5)
        assert explanation["spoke"][y][x] == pytest.approx(slope * pixels()[y][x] / 255, abs=2e-5)


def test_what_the_ink_says_adds_up_for_a_linear_model():
    about = reader(nn.Linear(10, bias=False), shape=(784,))
    explanation = about.explain(pixels(), answer=2)
    outputs = np.array(explanation["layers"][0]["values"])
    assert np.sum(explanation["spoke"]) == pytest.approx(outputs[2] - outputs.mean(), abs=1e-2)


def test_explaining_leaves_the_model_as_it_was():
    about = reader()
    before = about.model.data.copy()
    first, second = about.explain(pixels()), about.explain(pixels())
    assert first == second
    assert not about.model.grad.any()
    assert (about.model.data == before).all()


def test_a_model_without_classes_is_refused():
    with pytest.raises(ValueError, match="one number for each class"):
        reader(nn.Flatten(), nn.Linear(1))


# Bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("picture", "line"),
    [
        (b"", "empty"),
        (b"no picture at all, whatever it says", "no image file"),
        (encoded(drawing())[:300], "damaged or cut off"),
        (encoded(drawing("RGB"), "JPEG")[:900], "damaged or cut off"),
        (png_claiming(30_000, 30_000), "too large"),
        (encoded(Image.new("L", (1, 1))), "too small"),
        (encoded(Image.new("RGB", (200, 200), (9, 90, 200))), "one colour"),
    ],
    ids=["empty", "no image", "truncated", "truncated jpeg", "bomb", "1 x 1", "one colour"],
)
def test_a_bad_picture_gives_one_clear_line(client, picture, line):
    response = client.post("/api/read", content=picture)
    assert response.status_code == 422
    assert set(response.json()) == {"error"}
    assert line in response.json()["error"]
    assert "\n" not in response.json()["error"]


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({}, "pixels"),
        ({"pixels": [[0, 1], [2]]}, "28 rows of 28"),
        ({"pixels": []}, "28 rows of 28"),
        ({"pixels": [[256] * 28] * 28}, "255"),
        ({"pixels": [["a"] * 28] * 28}, "integer"),
        ({"pixels": [[True] * 28] * 28}, "integer"),
        ({"pixels": [[0] * 28] * 28, "answer": True}, "integer"),
        ({"pixels": [[0] * 28] * 28, "answer": 10}, "0 to 9"),
        ({"pixels": [[0] * 28] * 28, "answer": -1}, "0 to 9"),
        ([], "dictionary"),
    ],
)
def test_a_bad_question_gives_one_clear_line(client, body, line):
    response = client.post("/api/explain", json=body)
    assert response.status_code == 422
    assert line in response.json()["error"]


def test_the_reader_itself_refuses_other_sizes():
    with pytest.raises(QuestionError, match="28 rows"):
        reader().explain([[0] * 8] * 8)


@pytest.mark.parametrize("path", ["/api/read", "/api/explain"])
def test_a_body_that_is_too_large_is_refused_by_what_it_says_and_by_what_comes(client, path):
    whole = client.post(path, content=b"", headers={"Content-Length": str(limits.MAX_BODY + 1)})
    assert whole.status_code == 413
    sent = []

    def endless():
        while len(sent) < 1000:
            sent.append(1)
            yield bytes(2**20)

    chunked = client.post(path, content=endless(), headers={"Content-Type": "application/json"})
    assert chunked.status_code == 413
    assert chunked.json() == {"error": "too large: at most 16 MiB"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/read", 405),
        ("PUT", "/api/model", 405),
        ("GET", "/nothing", 404),
        ("GET", "/static/../app.py", 404),
    ],
)
def test_a_wrong_method_or_path_is_answered_in_json(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status
    assert response.json()["error"]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:8000", "127.0.0.1.evil.example", "foo@127.0.0.1", "@127.0.0.1", "", "a:b:c", "[::1"],
)
def test_a_foreign_host_is_refused(client, host):
    assert client.get("/api/model", headers={"Host": host}).status_code == 400


@pytest.mark.parametrize("host", ["localhost:8000", "127.0.0.1:8000", "192.168.1.7", "[::1]:8000"])
def test_an_own_host_is_served(client, host):
    assert client.get("/api/model", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9000"])
def test_pages_of_other_origins_may_not_ask(client, origin):
    response = client.post("/api/read", content=encoded(drawing()), headers={"Origin": origin})
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


def test_the_own_page_may_ask(client):
    headers = {"Origin": "http://127.0.0.1:8000"}
    assert client.post("/api/read", content=encoded(drawing()), headers=headers).status_code == 200


def test_a_failure_of_ours_says_nothing_of_its_cause(monkeypatch):
    about = reader()
    monkeypatch.setattr(about, "read", lambda picture: 1 / 0)
    with TestClient(create_app(about, "tiny"), "http://localhost", raise_server_exceptions=False) as client:
        response = client.post("/api/read", content=b"x")
    assert response.status_code == 500
    assert response.json() == {"error": "the server failed; its log says why"}
    assert response.headers["x-content-type-options"] == "nosniff"


# Limits -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs", "/static/app.js", "/api/model", "/nothing", "/openapi.json"])
def test_every_answer_has_the_security_headers(client, path):
    headers = client.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-frame-options"] == "DENY"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"


def test_the_queue_is_limited(monkeypatch):
    monkeypatch.setattr(limits, "MOST_WAITING", 3)
    release = threading.Event()

    async def overfull():
        worker = limits.Worker()
        waiting = [asyncio.create_task(worker.run(release.wait, 10)) for _ in range(3)]
        await asyncio.sleep(0.01)
        with pytest.raises(HTTPException, match="busy") as refused:
            await worker.run(int)
        release.set()
        done = await asyncio.gather(*waiting)
        after = await worker.run(int)
        worker.close()
        return refused.value.status_code, done, after

    assert asyncio.run(overfull()) == (503, [True, True, True], 0)


def test_work_that_takes_too_long_is_given_up(monkeypatch):
    monkeypatch.setattr(limits, "WORK_SECONDS", 0.05)
    release = threading.Event()

    async def slow():
        worker = limits.Worker()
        try:
            await worker.run(release.wait, 10)
        finally:
            release.set()
            worker.close()

    with pytest.raises(HTTPException, match="took too long"):
        asyncio.run(slow())


def test_a_body_that_never_comes_is_given_up(monkeypatch):
    monkeypatch.setattr(limits, "BODY_SECONDS", 0.05)

    async def silent():
        async def never():
            await asyncio.sleep(60)

        await limits.limited(never)()

    with pytest.raises(HTTPException, match="did not arrive") as refused:
        asyncio.run(silent())
    assert refused.value.status_code == 408


@pytest.fixture
def connection(monkeypatch):
    """A connection to a server that does not wait long."""
    monkeypatch.setattr(limits, "HEAD_SECONDS", 0.2)
    config = uvicorn.Config(create_app(reader(), "tiny"), http=limits.Impatient, ws="none", log_level="warning")
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        with socket.create_connection(listening.getsockname(), timeout=10) as connection:
            yield connection
        server.should_exit = True
        thread.join(10)
    assert not thread.is_alive()


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
    connection.sendall(b"POST /nothing" + HOST + b"Content-Length: 1000000\r\n\r\n")
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
    monkeypatch.setattr(Reader, "read", lambda self, picture: time.sleep(0.5) or {"text": "", "digits": []})
    for _ in range(2):
        connection.sendall(b"POST /api/read" + HOST + b"Content-Length: 1\r\n\r\nx")
        assert answered(connection) == (200, {"text": "", "digits": []})


def test_what_is_no_http_is_refused_in_json_too(connection):
    connection.sendall(b"hello\r\n\r\n")
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    assert answer.status == 400
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert json.load(answer) == {"error": "this is no valid HTTP request"}


# The command --------------------------------------------------------------------------------------------------


def test_without_the_extra_the_command_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(Failed, match=re.escape('pip install "xpnet[web]"')):
        serve()


def test_the_workers_have_one_blas_thread_for_a_small_model(monkeypatch):
    counts = []

    async def ask():
        worker = limits.Worker()
        counts.extend(pool["num_threads"] for pool in await worker.run(threadpool_info) if pool["user_api"] == "blas")
        worker.close()

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: asyncio.run(ask()))
    with threadpool_limits(2, user_api="blas"):
        serve(port=0, device="cpu")
    assert set(counts) == {1}


def test_a_port_that_is_taken_is_said_to_be():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Failed, match=f"cannot listen on 127.0.0.1, port {port}: .*choose with --host and --port"):
            listening("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "typed"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::1", "[::1]"), ("::", "[::1]"), ("lab", "lab")],
)
def test_the_address_can_be_typed_into_a_browser(host, typed):
    assert address(host, 80) == f"http://{typed}:80"


# The page -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_the_pages_name_only_files_that_are_there(client, path):
    page = client.get(path).text
    names = re.findall(r'(?:src|href)="(/[^"]*)"', page)
    assert len(names) >= 4
    assert {name: client.get(name).status_code for name in names} == dict.fromkeys(names, 200)


@pytest.mark.parametrize("path", ["/", "/docs", "/static/app.js"])
def test_the_pages_may_be_asked_for_their_head_alone(client, path):
    response = client.head(path)
    assert (response.status_code, response.content) == (200, b"")
    assert int(response.headers["content-length"]) > 0


def test_modules_are_sent_as_javascript(client):
    assert client.get("/static/app.js").headers["content-type"].startswith("text/javascript")


def test_no_file_of_the_page_names_another_host():
    files = [file for file in STATIC.iterdir() if file.suffix in (".html", ".css", ".js")]
    assert len(files) >= 8
    assert [file.name for file in files if re.search(r"https?://|url\(|@import", file.read_text())] == []


def test_the_openapi_description_is_whole(client):
    paths = client.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/api/model", "/api/read", "/api/explain"}
    assert "image/*" in paths["/api/read"]["post"]["requestBody"]["content"]


def schemes():
    """The colours of the light and of the dark scheme, by name."""
    light, dark = re.findall(r":root \{(.*?)\n *\}", (STATIC / "style.css").read_text(), re.DOTALL)
    colours = lambda text: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", text))
    return {"light": colours(light), "dark": colours(light) | colours(dark)}


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("front", "back", "least"),
    [
        ("text", "ground", 4.5),
        ("text", "card", 4.5),
        ("muted", "ground", 4.5),
        ("muted", "card", 4.5),
        ("muted", "neutral", 4.5),
        ("accent", "ground", 4.5),
        ("accent", "card", 4.5),
        ("on-accent", "accent", 4.5),
        ("ink", "neutral", 4.5),
        ("edge", "card", 3),
        ("positive", "neutral", 3),
        ("negative", "neutral", 3),
    ],
)
def test_colours_stand_out_as_wcag_asks(scheme, front, back, least):
    """WCAG 2.2, success criteria 1.4.3 (text) and 1.4.11 (controls and graphics)."""
    colours = schemes()[scheme]
    high, low = sorted((luminance(colours[front]), luminance(colours[back])), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= least
