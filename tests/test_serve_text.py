"""A model of text on the server: what comes next, what is drawn, and what attention reads, beside the model itself."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `web` is not installed")
pytest.importorskip("httpx2", reason="FastAPI's test client needs it")

import uvicorn
from fastapi.testclient import TestClient
from small_server import reader

from xpnet import nn
from xpnet.backend import Backend, Observer
from xpnet.cli.serve import serve
from xpnet.serve import limits, text
from xpnet.serve.app import create_app
from xpnet.serve.reader import QuestionError
from xpnet.serve.writer import Writer

CHARACTERS = "ab c\nd"


def text_model(characters=CHARACTERS, causal=True, rotary=False, length=8, shape=(None,), dtype="float64"):
    """A small GPT with weights so large that attention is no mean of all."""
    n = len(characters)
    network = nn.Sequential(
        nn.Embedding(n, 12),
        *([nn.LearnedPosition(length)] if length else []),
        nn.TransformerBlock(2, causal=causal, rotary=rotary),
        nn.TransformerBlock(3, causal=causal, rotary=rotary),
        nn.Linear(n),
    )
    model = nn.Model(network, shape, Backend(dtype, 3), characters)
    model.data *= 2
    return model


def writer(**options):
    return Writer(text_model(**options), "small")


def draw(writer, text, length=0, temperature=1.0, seed=0):
    return writer.go_on(text, length, temperature, np.random.default_rng(seed))


def tokens(text):
    return np.array([[CHARACTERS.index(character) for character in text]])


# What comes next ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_probabilities_are_the_models_at_that_temperature(temperature):
    ours = writer()
    scores = ours.model.predict(tokens("ab ab"))[0, -1] / temperature
    expected = np.exp(scores) / np.exp(scores).sum()
    found = draw(ours, "ab ab", temperature=temperature)["probabilities"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)  # small ones have their digits, too: none is 0


def test_of_a_model_that_gives_probabilities_they_are_taken_as_they_are():
    ours, ending_in_softmax = writer(), text_model()
    ending_in_softmax.network.layers.append(nn.Softmax())
    again = Writer(ending_in_softmax, "small")
    for temperature in (1.0, 3.0):
        found, expected = (draw(one, "ab ab", temperature=temperature)["probabilities"] for one in (again, ours))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)


def test_characters_are_drawn_one_after_the_other_by_their_probabilities():
    ours, rng = writer(), np.random.default_rng(5)
    text = "ab"
    for _ in range(12):  # beyond the 8 characters that the model reads
        p = ours.model.probabilities(tokens(text[-8:]))[0, -1]
        text += CHARACTERS[rng.choice(len(p), p=p / p.sum())]
    answer = draw(ours, "ab", 12, seed=5)
    assert "ab" + answer["written"] == text
    assert answer["read"] == text[-8:]
    np.testing.assert_allclose(answer["probabilities"], ours.model.probabilities(tokens(text[-8:]))[0, -1], atol=1e-4)
    assert len({draw(ours, "ab", 12, temperature=9.0, seed=seed)["written"] for seed in range(3)}) == 3


def test_at_a_low_temperature_the_likeliest_are_drawn():
    ours = writer()
    best = lambda text: CHARACTERS[ours.model.predict(tokens(text))[0, -1].argmax()]
    first = draw(ours, "abc", 1, temperature=0.05, seed=1)["written"]
    assert first == best("abc")


# Attention ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotary", [False, True])
def test_the_weights_that_are_shown_give_the_output_of_the_layer(rotary):
    """y = concat_h(sum_s p_ts v_s) W_out + b, with the p that are shown and v from the layer's matrices, by NumPy."""
    ours = writer(rotary=rotary)
    seen = {}

    class Passes(Observer):
        def forward(self, layer, x, y):
            if isinstance(layer, nn.MultiHeadAttention):
                seen[len(seen)] = layer, x[0].copy(), y[0].copy()

    with ours.model.backend.observed_by(Passes()):
        ours.model.predict(tokens("ab a cb"))
    shown = draw(ours, "ab a cb")["attention"]
    assert [len(layer["heads"]) for layer in shown] == [2, 3]
    for (layer, x, y), of_layer in zip(seen.values(), shown, strict=True):
        v = np.split(x @ layer.qkv.W.data + layer.qkv.b.data, 3, axis=1)[2]
        parts = np.split(v, len(of_layer["heads"]), axis=1)
        heads = []
        for rows, part in zip(of_layer["heads"], parts, strict=True):
            assert [len(row) for row in rows] == list(range(1, 8))  # nothing of what comes later
            np.testing.assert_allclose([sum(row) for row in rows], 1, atol=1e-3)
            heads.append([np.array(row) @ part[: len(row)] for row in rows])
        np.testing.assert_allclose(
            np.concatenate(heads, axis=1) @ layer.out.W.data + layer.out.b.data, y, atol=2e-3 * np.abs(y).max()
        )


def test_the_layers_of_attention_are_named():
    assert [layer["path"] for layer in draw(writer(), "ab")["attention"]] == [
        "layers.2.layers.0.layers.1",
        "layers.3.layers.0.layers.1",
    ]


def test_looking_leaves_the_model_as_it_was():
    ours = writer()
    before = ours.model.data.copy()
    assert draw(ours, "ab a") == draw(ours, "ab a")
    assert (ours.model.data == before).all()
    assert not ours.model.grad.any()
    assert ours.model.backend.observer is None


def test_a_model_without_attention_writes_too():
    network = nn.Sequential(nn.Embedding(6, 5), nn.LSTM(4), nn.Linear(6))
    answer = draw(Writer(nn.Model(network, (None,), Backend(), CHARACTERS), "lstm"), "abba", 3)
    assert (answer["attention"], len(answer["written"])) == ([], 3)


# Models -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [None, 5, 500])
def test_the_context_is_what_the_model_has_room_for_and_the_page_can_show(length):
    assert writer(length=length).context == min(length or limits.CONTEXT, limits.CONTEXT)


def test_models_that_are_none_of_text_are_refused():
    with pytest.raises(ValueError, match="reads what comes later"):
        writer(causal=False)
    with pytest.raises(ValueError, match="takes texts of 7 characters, no shorter ones"):
        writer(shape=(7,))
    for characters in ((), ["aa", "b", " ", "c", "\n", "d"], "abcddd"):
        model = text_model()
        model.classes = tuple(characters)
        with pytest.raises(ValueError, match="no names for its characters"):
            Writer(model, "unnamed")


def test_the_command_opens_a_model_of_text_beside_that_of_digits(tmp_path, monkeypatch, capsys):
    text_model().save(tmp_path / "text.safetensors")
    served = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: served.append(self.config.app))
    serve(tmp_path / "text.safetensors", port=0, device="cpu")
    assert "/text - Ctrl-C ends it." in capsys.readouterr().out
    with TestClient(served[0], "http://localhost") as client:
        assert client.get("/api/text/model").json()["model"]["name"] == "text.safetensors"
        assert client.get("/api/model").json()["name"] == "handwriting.safetensors"


# Requests -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    app = create_app(reader(), "tiny", writer=writer())
    with TestClient(app, "http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


def test_a_text_over_http(client):
    about = client.get("/api/text/model").json()["model"]
    assert (about["characters"], about["context"], about["heads"]) == (list(CHARACTERS), 8, [2, 3])
    answer = client.post("/api/text", json={"text": "ab\n", "length": 4, "temperature": 0.7}).json()
    assert len(answer["written"]) == 4
    assert answer["read"] == "ab\n" + answer["written"]
    assert sum(answer["probabilities"]) == pytest.approx(1, abs=1e-3)
    assert client.post("/api/text", json={"text": "ab"}).json()["written"] == ""


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"text": ""}, "text: it needs a character to begin with"),
        ({"text": "ab€"}, "text: the model has never seen '€'"),
        ({"text": "a" * (limits.TEXT_LENGTH + 1)}, "text: String should have at most 2000 characters"),
        ({"text": 7}, "text: Input should be a valid string"),
        ({"text": "a", "length": 21}, "length: Input should be less than or equal to 20"),
        ({"text": "a", "length": -1}, "length: Input should be greater than or equal to 0"),
        ({"text": "a", "temperature": 0}, "temperature: Input should be greater than or equal to 0.05"),
        ({"text": "a", "temperature": 1e308}, "temperature: Input should be less than or equal to 10"),
        ({"text": "a", "seed": 1}, "seed: Extra inputs are not permitted"),
        ({}, "text: Field required"),
    ],
)
def test_a_bad_text_gives_one_clear_line(client, body, line):
    response = client.post("/api/text", json=body)
    assert response.status_code == 422
    assert response.json() == {"error": line}


def test_the_model_is_asked_off_the_event_loop(client, monkeypatch):
    threads = []
    real = text.answer
    monkeypatch.setattr(text, "answer", lambda *a: threads.append(threading.current_thread().name) or real(*a))
    assert client.post("/api/text", json={"text": "ab"}).status_code == 200
    assert [name.startswith("xpnet") for name in threads] == [True]


@pytest.mark.parametrize("body", [b"", b'{"text": "a", "temperature": NaN}', b'{"text": "\\ud800"}', b"\xff"])
def test_what_is_no_text_is_refused(client, body):
    assert client.post("/api/text", content=body).status_code == 422


def test_the_longest_text_has_room_however_it_is_written(client):
    body = json.dumps({"text": "😀" * limits.TEXT_LENGTH}).encode()
    assert client.post("/api/text", content=body).json() == {"error": "text: the model has never seen '😀'"}
    assert client.post("/api/text", content=b" " * (limits.text_bytes() + 1)).status_code == 413


def test_without_a_model_the_server_says_how_to_get_one():
    with TestClient(create_app(reader(), "tiny"), "http://localhost") as client:
        assert client.get("/api/text/model").json() == {"model": None}
        response = client.post("/api/text", json={"text": "a"})
        assert response.status_code == 404
        assert "python examples/char_gpt.py --save text.safetensors" in response.json()["error"]
        assert client.get("/text").status_code == 200


def test_the_writer_itself_refuses_what_it_does_not_know():
    with pytest.raises(QuestionError, match="never seen 'x'"):
        draw(writer(), "axb")
