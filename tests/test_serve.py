"""`xpnet serve`: the JSON API with good and bad input, the command, and the files and colours of the page."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import xpnet
from xpnet import nn

pytest.importorskip("fastapi", reason="the extra `web` is not installed")
pytest.importorskip("httpx2", reason="FastAPI's test client needs it")

import uvicorn
from fastapi.testclient import TestClient
from pydantic import ValidationError
from small_server import drawing, encoded, pixels, png_of, reader
from threadpoolctl import threadpool_info, threadpool_limits

from xpnet.cli.console import Failed
from xpnet.cli.serve import address, listening, serve
from xpnet.serve import app, limits
from xpnet.serve.app import STATIC, create_app
from xpnet.serve.reader import QuestionError
from xpnet.serve.walk import overview
from xpnet.serve.work import Work


@pytest.fixture(scope="module")
def client():
    with TestClient(create_app(reader(), "tiny"), "http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


# Good input ---------------------------------------------------------------------------------------------------


def deep():
    return Image.fromarray(np.asarray(drawing()).astype(np.uint16) * 257)


@pytest.mark.parametrize(
    "image",
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
def test_an_image_is_read(client, image):
    response = client.post("/api/read", content=image)
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
    assert about["image"] == [28, 28]
    assert [layer["path"] for layer in about["layers"]] == [f"layers.{i}" for i in range(5)]


def test_an_explanation_shows_every_layer_and_agrees_with_the_model(client):
    explanation = client.post("/api/explain", json={"pixels": pixels()}).json()
    assert [layer["kind"] for layer in explanation["layers"]] == ["Standardize", "Flatten", "Linear", "Tanh", "Linear"]
    assert [layer["shape"] for layer in explanation["layers"]] == [[28, 28], [784], [12], [12], [10]]
    model = reader().model
    outputs = model.predict(np.array([pixels()], np.uint8))
    np.testing.assert_allclose(explanation["layers"][-1]["values"]["numbers"], outputs[None], rtol=1e-5)
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
        assert explanation["contribution"][y][x] == pytest.approx(slope * pixels()[y][x] / 255, abs=2e-5)


def test_a_model_that_learned_dark_on_light_is_explained_by_its_ink():
    """(255 - p - 200) / 50 is -(p - 55) / 50: with the signs of W turned it is the same function of the ink."""
    usual, turned = (reader(nn.Standardize(mean, 50.0), nn.Flatten(), nn.Linear(10)) for mean in (55.0, 200.0))
    for name, p in turned.model.parameters.items():
        p.data[...] = usual.model.parameters[name].data * (-1 if p.data.ndim == 2 else 1)
    explained, again = (about.explain(pixels(), answer=4) for about in (usual, turned))
    for part in ("probabilities", "gradient", "contribution"):
        np.testing.assert_allclose(again[part], explained[part], atol=1e-6)
    whole, of_turned = (overview(about, pixels(), 4) for about in (usual, turned))
    np.testing.assert_allclose(of_turned["gradient"]["numbers"], whole["gradient"]["numbers"], atol=1e-6)
    assert np.abs(whole["gradient"]["numbers"]).max() > 1e-3
    assert of_turned["loss"] == pytest.approx(whole["loss"])


def test_against_another_class_the_gradient_is_that_of_the_difference():
    about = reader(nn.Linear(10, bias=False), shape=(784,))
    whole = about.explain(pixels(), answer=4, against=7)
    outputs = np.array(whole["layers"][0]["values"]["numbers"][0][0])
    assert whole["answer"] == "4"
    assert whole["margin"] == pytest.approx(outputs[4] - outputs[7], rel=1e-5)
    assert np.sum(whole["contribution"]) == pytest.approx(whole["margin"], abs=1e-2)


def test_the_contributions_add_up_for_a_linear_model():
    about = reader(nn.Linear(10, bias=False), shape=(784,))
    explanation = about.explain(pixels(), answer=2)
    outputs = np.array(explanation["layers"][0]["values"]["numbers"][0][0])
    assert np.sum(explanation["contribution"]) == pytest.approx(outputs[2] - outputs.mean(), abs=1e-2)


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


@pytest.mark.parametrize("classes", ["abc", "012345678", "abcdefghij", "0123456789a"])
def test_a_model_of_other_classes_than_the_digits_is_refused(classes):
    with pytest.raises(ValueError, match=f"knows the classes {', '.join(classes[:10])}"):
        reader(nn.Flatten(), nn.Linear(len(classes)), classes=list(classes))


def test_a_model_of_images_in_colour_is_refused():
    with pytest.raises(ValueError, match="the page makes grey images, and this model takes images in colour"):
        reader(nn.Flatten(), nn.Linear(10), shape=(28, 28, 3))


@pytest.mark.parametrize("shape", [(2, 2), (7, 8), (1, 4000), (28, 129)])
def test_a_model_of_too_small_or_too_large_images_is_refused(shape):
    with pytest.raises(ValueError, match=f"takes {shape[1]} x {shape[0]}"):
        reader(nn.Flatten(), nn.Linear(10), shape=shape)


@pytest.mark.parametrize("shape", [(8, 8), (128, 128), (64,), (20, 30, 1)])
def test_a_model_of_digits_of_another_size_is_served(shape):
    about = reader(nn.Flatten(), nn.Linear(10), shape=shape)
    with TestClient(create_app(about, "other"), "http://localhost") as client:
        [digit] = client.post("/api/read", content=encoded(drawing())).json()["digits"]
        assert client.post("/api/explain", json={"pixels": digit["pixels"]}).status_code == 200
    assert np.shape(digit["pixels"]) == about.size


# Bad input ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("image", "line"),
    [
        (b"", "empty"),
        (b"no image at all, whatever it says", "not an image file"),
        (encoded(drawing())[:300], "damaged or cut off"),
        (encoded(drawing("RGB"), "JPEG")[:900], "damaged or cut off"),
        (png_of(30_000, 30_000), "too large"),
        (encoded(drawing("RGB"), "JPEG", progressive=True).replace(b"\xff\xda", b"\xff\xda" * 11), "scans"),
        (encoded(Image.new("L", (1, 1))), "too small"),
        (encoded(Image.new("RGB", (200, 200), (9, 90, 200))), "one colour"),
    ],
    ids=["empty", "no image", "truncated", "truncated jpeg", "bomb", "scans", "1 x 1", "one colour"],
)
def test_a_bad_image_gives_one_clear_line(client, image, line):
    response = client.post("/api/read", content=image)
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
        ({"pixels": [[0] * 28] * 28, "against": 10}, "0 to 9, not 10"),
        ([], "object"),
        ({"pixels": [[-1] * 1000] * 2}, "greater than or equal to 0"),
    ],
)
def test_a_bad_question_gives_one_clear_line(client, body, line):
    response = client.post("/api/explain", json=body)
    assert response.status_code == 422
    assert line in response.json()["error"]


def test_the_reader_itself_refuses_other_sizes():
    with pytest.raises(QuestionError, match="28 rows"):
        reader().explain([[0] * 8] * 8)


@pytest.mark.parametrize("body", [b"", b"no JSON", b'{"pixels": [[1, 2', b"[" * 5000])
def test_what_is_not_json_gives_one_clear_line(client, body):
    response = client.post("/api/explain", content=body)
    assert response.status_code == 422
    assert "JSON" in response.json()["error"]


def test_of_many_wrong_numbers_only_the_first_makes_an_error():
    body = b'{"pixels": [' + b",".join([b"[-1, -1, -1]"] * 3) + b"]}"
    with pytest.raises(ValidationError) as refused:
        app.Question.model_validate_json(body)
    assert refused.value.error_count() == 1


def test_questions_are_parsed_and_answers_written_off_the_event_loop(client, monkeypatch):
    names = []
    for part in ("question", "answer"):
        real = getattr(app, part)
        monkeypatch.setattr(app, part, lambda *a, real=real: names.append(threading.current_thread().name) or real(*a))
    assert client.post("/api/explain", json={"pixels": pixels()}).status_code == 200
    assert client.post("/api/read", content=encoded(drawing())).status_code == 200
    assert len(names) == 3
    assert all(name.startswith("xpnet") for name in names)


@pytest.mark.parametrize(
    ("path", "largest", "says"),
    [
        ("/api/read", limits.IMAGE_BYTES, "16 MiB"),
        ("/api/explain", limits.question_bytes(28, 28), "16 KiB"),
        ("/api/walk/unit", limits.question_bytes(28, 28), "16 KiB"),
    ],
)
def test_a_body_that_is_too_large_is_refused_by_what_it_says_and_by_what_comes(client, path, largest, says):
    whole = client.post(path, content=b"", headers={"Content-Length": str(largest + 1)})
    assert whole.status_code == 413
    sent = []

    def endless():
        while len(sent) < 1000:
            sent.append(1)
            yield bytes(2**20)

    chunked = client.post(path, content=endless(), headers={"Content-Type": "application/json"})
    assert chunked.status_code == 413
    assert chunked.json() == {"error": f"too large: at most {says}"}


def test_a_question_may_have_a_line_for_each_number(client):
    body = json.dumps({"pixels": np.full((28, 28), 255).tolist()}, indent=4)
    assert client.post("/api/explain", content=body).status_code == 200


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


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:9000", "http://["])
def test_pages_of_other_origins_may_not_ask(client, origin):
    response = client.post("/api/read", content=encoded(drawing()), headers={"Origin": origin})
    assert response.status_code == 403
    assert "access-control-allow-origin" not in response.headers


def test_the_own_page_may_ask(client):
    headers = {"Origin": "http://127.0.0.1:8000"}
    assert client.post("/api/read", content=encoded(drawing()), headers=headers).status_code == 200


def test_a_failure_of_ours_says_nothing_of_its_cause(monkeypatch):
    about = reader()
    monkeypatch.setattr(about, "read", lambda image: 1 / 0)
    with TestClient(create_app(about, "tiny"), "http://localhost", raise_server_exceptions=False) as client:
        response = client.post("/api/read", content=encoded(drawing()))
    assert response.status_code == 500
    assert response.json() == {"error": "the server failed; its log says why"}
    assert response.headers["x-content-type-options"] == "nosniff"


# The command --------------------------------------------------------------------------------------------------


def test_without_the_extra_the_command_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    with pytest.raises(Failed, match=re.escape('pip install "xpnet[web]"')):
        serve()


def test_a_model_that_cannot_be_served_is_refused_before_anything_is_opened(tmp_path, monkeypatch):
    reader(nn.Flatten(), nn.Linear(10), shape=(28, 28)).model.save(tmp_path / "ten.safetensors")
    nn.Model(nn.Linear(3), (784,), xpnet.select("cpu")).save(tmp_path / "three.safetensors")
    ran = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: ran.append(1))
    with pytest.raises(ValueError, match="knows the classes 0, 1, 2"):
        serve(tmp_path / "three.safetensors", port=0, device="cpu")
    assert ran == []
    serve(tmp_path / "ten.safetensors", port=0, device="cpu")
    assert ran == [1]


def test_the_threads_have_one_blas_thread_for_a_small_model(monkeypatch):
    counts = []

    async def ask():
        work = Work(xpnet.select("cpu"))
        patient = SimpleNamespace(is_disconnected=lambda: asyncio.sleep(0, False))
        infos = await work.run(patient, threadpool_info)
        work.close()
        counts.extend(pool["num_threads"] for pool in infos if pool["user_api"] == "blas")

    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: asyncio.run(ask()))
    with threadpool_limits(2, user_api="blas"):
        serve(port=0, device="cpu")
    assert set(counts) == {1}


def test_only_this_machine_is_served_unless_another_host_is_asked_for(monkeypatch):
    bound = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: bound.append(sockets[0].getsockname()[0]))
    serve(port=0, device="cpu")
    assert bound == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["\udcff", "x" * 300, "a..b", "ü" * 70, "\x1b[31m\0"], ids=ascii)
def test_a_host_that_no_machine_can_have_is_said_to_be_none(host):
    with pytest.raises(Failed, match="cannot listen on") as failed:
        listening(host, 0)
    assert str(failed.value).isprintable()


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


@pytest.mark.parametrize("path", ["/", "/network", "/train", "/text", "/docs"])
def test_the_pages_name_only_files_that_are_there(client, path):
    page = client.get(path).text
    names = re.findall(r'(?:src|href)="(/[^"]*)"', page)
    assert len(names) >= 4
    assert {name: client.get(name).status_code for name in names} == dict.fromkeys(names, 200)


@pytest.mark.parametrize("path", ["/", "/network", "/train", "/text", "/docs", "/static/app.js"])
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
    own = {"model", "read", "explain", "walk", "walk/layer", "walk/unit", "train", "text", "text/model"}
    assert set(paths) == {f"/api/{name}" for name in own}
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
