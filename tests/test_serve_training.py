"""Training to watch: what the learner says, which runs the server begins, and how they end."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="the extra `web` is not installed")
pytest.importorskip("httpx2", reason="FastAPI's test client needs it")

from fastapi.testclient import TestClient
from small_server import reader
from starlette.exceptions import HTTPException

from xpnet import data, losses, nn, optim, train
from xpnet.backend import select
from xpnet.serve import learner, limits, training
from xpnet.serve.app import create_app
from xpnet.serve.training import Epoch, Trainings, TrainingSettings, Watched

SETTINGS = {"rate": 0.2, "width": 5, "depth": 2, "activation": "tanh", "epochs": 2}


# What is learnt -----------------------------------------------------------------------------------------------


@pytest.fixture
def learnt(monkeypatch):
    """The lines of a run."""
    monkeypatch.setattr(limits, "EPOCH_SECONDS", 0.0)

    def run(**changed):
        lines = []
        learner.learn(SETTINGS | changed, lines.append)
        return lines

    return run


def test_the_lines_are_those_of_the_packages_own_loop(learnt):
    """Beside `fit`, put together here, with the same layers, data and order."""
    training_data, held_out = data.load("digits")
    mean, std = data.mean_std(training_data.x)
    hidden = [nn.Linear(5), nn.Tanh(), nn.Linear(5), nn.Tanh(), nn.Linear(10)]
    network = nn.Sequential(nn.Standardize(mean, std), nn.Flatten(), *hidden)
    model = nn.Model(network, (8, 8), select("cpu"), held_out.classes)
    before = train.evaluate(model, losses.SoftmaxCrossEntropy(), held_out)
    result = train.fit(
        model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.2), training_data, held_out,
        epochs=2, batch_size=32, quiet=True,
    )  # fmt: skip
    lines = learnt()
    assert [line["epoch"] for line in lines] == [0, 1, 2]
    assert [line["rate"] for line in lines] == pytest.approx([0.2] * 3)
    assert lines[0]["held_out_loss"] == pytest.approx(before.loss, abs=1e-4)
    for row, line in zip(result.history, lines[1:], strict=True):
        for ours, theirs in (("training", "train"), ("held_out", "validation")):
            assert line[f"{ours}_loss"] == pytest.approx(row[f"{theirs}_loss"], abs=1e-4)
            assert line[f"{ours}_accuracy"] == pytest.approx(row[f"{theirs}_accuracy"], abs=1e-4)
    assert np.allclose(lines[2]["weights"], hidden[0].W.data.T.reshape(5, 8, 8), atol=1e-4)
    read = model.predict(held_out.x).argmax(axis=1)
    wrong = np.flatnonzero(read != held_out.y)
    assert lines[2]["held_out"] == len(held_out)
    assert lines[2]["wrong"] == len(wrong) > limits.MISREAD == len(lines[2]["misread"])
    for i, shown in zip(wrong, lines[2]["misread"], strict=False):
        assert (shown["digit"], shown["read"]) == (str(held_out.y[i]), str(read[i]))
        assert shown["pixels"] == held_out.x[i].tolist()
        assert shown["probability"] == pytest.approx(model.probabilities(held_out.x[i : i + 1]).max(), abs=1e-3)
    for line in lines:
        assert Epoch.model_validate(line).epoch == line["epoch"]  # what the API promises


def test_each_setting_is_that_of_the_network_that_is_trained(learnt, monkeypatch):
    fitted = []
    monkeypatch.setattr(learner, "fit", lambda model, *others, **options: fitted.append((model, options)))
    learnt(depth=3, width=7, activation="sigmoid", epochs=9)
    learnt(depth=0)
    kinds = lambda model: [repr(layer) for layer in model.network.layers[2:]]
    assert [kind.partition("(")[0] for kind in kinds(fitted[0][0])] == ["Linear", "Sigmoid"] * 3 + ["Linear"]
    assert [p.shape for p in fitted[0][0].parameters.values()][::2] == [(64, 7), (7, 7), (7, 7), (7, 10)]
    assert fitted[0][1]["epochs"] == 9
    assert [p.shape for p in fitted[1][0].parameters.values()] == [(64, 10), (10,)]


def test_only_some_of_many_units_are_shown(learnt):
    assert np.shape(learnt(width=limits.UNITS + 1, epochs=1)[-1]["weights"]) == (limits.UNITS, 8, 8)


def test_a_run_that_diverges_says_where_and_what_can_be_done_here(learnt):
    lines = learnt(rate=1e5, activation="relu", width=16, epochs=20)
    assert lines[0]["epoch"] == 0
    assert set(lines[-1]) == {"error"}
    where = r"step \d+: a NaN or an infinity in .*layers\.\d \(\w+\)\. Try a smaller learning rate\."
    assert re.fullmatch(where, lines[-1]["error"])


def test_what_is_not_finite_is_null(learnt):
    row = dict.fromkeys(("train_accuracy", "validation_accuracy"), 0.1) | {"epoch": 1, "lr": 1.0}
    shown = learner.figures(row | {"train_loss": float("inf"), "validation_loss": float("nan")})
    assert (shown["training_loss"], shown["held_out_loss"], shown["held_out_accuracy"]) == (None, None, 0.1)


def test_a_small_loss_keeps_its_digits():
    row = {f"{part}_{of}": 0.5 for part in ("train", "validation") for of in ("loss", "accuracy")}
    line = learner.figures({"epoch": 1, "lr": 0.3, **row, "train_loss": 0.000012345678})
    assert line["training_loss"] == 1.23457e-05


def test_an_epoch_takes_a_moment(learnt, monkeypatch):
    waits = []
    monkeypatch.setattr(limits, "EPOCH_SECONDS", 1000.0)
    monkeypatch.setattr(time, "sleep", waits.append)
    learner.learn(SETTINGS, lambda line: None)
    assert waits[0] == 0
    assert min(waits[1:]) > 900


# Requests -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def client():
    with TestClient(create_app(reader(), "tiny"), "http://127.0.0.1:8000", raise_server_exceptions=False) as client:
        yield client


def test_a_run_over_http(client):
    response = client.post("/api/train", json={"epochs": 1, "width": 3})
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/x-ndjson"
    assert "default-src 'none'" in response.headers["content-security-policy"]
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert np.shape(lines[1]["weights"]) == (3, 8, 8)


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"rate": 1e308}, "rate: Input should be less than or equal to 1000000"),
        ({"rate": 0}, "rate: Input should be greater than 0"),
        ({"rate": -0.1}, "rate: Input should be greater than 0"),
        ({"rate": "0.1"}, "rate: Input should be a valid number"),
        ({"width": 10**9}, "width: Input should be less than or equal to 256"),
        ({"width": 0}, "width: Input should be greater than or equal to 1"),
        ({"width": True}, "width: Input should be a valid integer"),
        ({"depth": 9}, "depth: Input should be less than or equal to 8"),
        ({"depth": -1}, "depth: Input should be greater than or equal to 0"),
        ({"epochs": 201}, "epochs: Input should be less than or equal to 200"),
        ({"activation": "softmax"}, "activation: Input should be 'relu'"),
        ({"seed": 1}, "seed: Extra inputs are not permitted"),
        ([], "object"),
    ],
)
def test_settings_out_of_range_give_one_clear_line(client, body, line):
    response = client.post("/api/train", json=body)
    assert response.status_code == 422
    assert line in response.json()["error"]


@pytest.mark.parametrize("body", [b"", b"{", b'{"rate": NaN}', b'{"rate": 1e999}'])
def test_what_is_no_number_is_refused(client, body):
    assert client.post("/api/train", content=body).status_code == 422


def test_settings_are_a_few_bytes(client):
    response = client.post("/api/train", content=b" " * (limits.SETTINGS_BYTES + 1))
    assert (response.status_code, response.json()) == (413, {"error": "too large: at most 4 KiB"})


def test_pages_of_other_origins_may_not_train(client):
    assert client.post("/api/train", json={}, headers={"Origin": "http://evil.example"}).status_code == 403


# How a run ends -----------------------------------------------------------------------------------------------

TALKS = 'import itertools, os; [print(f\'{{"pid": {os.getpid()}, "n": {n}}}\', flush=True) for n in itertools.count()]'


class Client:
    """What a client is sent. It goes after so many lines."""

    def __init__(self, lines):
        self.lines, self.sent, self.gone = lines, b"", asyncio.Event()

    async def receive(self):
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.sent += message.get("body", b"")
        if self.sent.count(b"\n") >= self.lines:
            self.gone.set()

    @property
    def said(self):
        return [json.loads(line) for line in self.sent.splitlines()]


def watched(monkeypatch, program, lines=10**9, then=None):
    """What a client is sent of a run of this program, which must be over when the answer is."""
    monkeypatch.setattr(training, "COMMAND", (sys.executable, "-c", program))

    async def answer():
        client, trainings = Client(lines), Trainings()
        run = asyncio.create_task(Watched(trainings, TrainingSettings())({}, client.receive, client.send))
        if then:
            while not client.sent:
                await asyncio.sleep(0.01)
            await then(client, trainings)
        await asyncio.wait_for(run, 30)
        async with asyncio.timeout(5), trainings.place(), trainings.place():  # both are free again
            return client.said

    return asyncio.run(answer())


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_ends_when_its_client_goes(monkeypatch):
    said = watched(monkeypatch, TALKS, lines=3)
    assert len(said) >= 3
    assert not alive(said[0]["pid"])


def test_a_run_ends_after_its_time(monkeypatch):
    monkeypatch.setattr(limits, "TRAINING_SECONDS", 0.3)
    said = watched(monkeypatch, TALKS)
    assert said[-1] == {"error": "the run was ended: it may take 0 s"}
    assert not alive(said[0]["pid"])


def test_a_process_that_fails_is_said_to(monkeypatch, capfd):
    said = watched(monkeypatch, 'print(1); print("half", end="", flush=True); raise SystemExit("why")')
    assert said == [1, {"error": "the training process failed; the server's log says why"}]
    assert "why" in capfd.readouterr().err
    assert watched(monkeypatch, "print(1)") == [1]


def test_the_process_imports_modules_from_where_the_server_does(monkeypatch, tmp_path):
    (tmp_path / "only_here.py").write_text("number = 7")
    monkeypatch.syspath_prepend(tmp_path)
    assert watched(monkeypatch, "import only_here; print(only_here.number)") == [7]


def test_so_many_runs_at_once_and_no_more(monkeypatch):
    monkeypatch.setattr(limits, "TRAININGS", 2)
    monkeypatch.setattr(limits, "TRAINING_WAIT", 0.05)

    async def another(client, trainings):
        async with trainings.place():
            with pytest.raises(HTTPException, match="2 networks are in training") as refused:
                await Watched(trainings, TrainingSettings())({}, None, None)
        assert refused.value.status_code == 503
        client.gone.set()

    watched(monkeypatch, TALKS, then=another)


def test_each_client_is_sent_its_own_run(monkeypatch):
    """Of two at once: each the settings that it asked for."""
    monkeypatch.setattr(training, "COMMAND", (sys.executable, "-c", "import sys; print(sys.argv[1])"))

    async def both():
        clients, trainings = [Client(10), Client(10)], Trainings()
        runs = [Watched(trainings, TrainingSettings(width=i + 1))({}, c.receive, c.send) for i, c in enumerate(clients)]
        await asyncio.gather(*runs)
        return [client.said[0]["width"] for client in clients]

    assert asyncio.run(both()) == [1, 2]


def test_a_reader_that_is_slow_slows_the_run_down(monkeypatch, tmp_path):
    """And does not fill the memory: the process waits until its lines are taken."""
    count = tmp_path / "count"
    line = f"print('\"' + 'x' * 100_000 + '\"', flush=True); open({str(count)!r}, 'a').write('.')"
    monkeypatch.setattr(training, "COMMAND", (sys.executable, "-c", f"for i in range(1000):\n {line}"))

    async def slow():
        client, trainings = Client(10**9), Trainings()
        stuck = asyncio.Event()

        async def send(message):
            await stuck.wait()

        run = asyncio.create_task(Watched(trainings, TrainingSettings())({}, client.receive, send))
        before = -1
        while (now := count.stat().st_size if count.exists() else 0) != before or now == 0:
            before = now
            await asyncio.sleep(0.3)
        client.gone.set()
        stuck.set()
        await run
        return before

    assert asyncio.run(slow()) < 40  # of 1000: 2 MiB are read ahead, and a pipe's worth
