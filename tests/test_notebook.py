"""A run in a notebook: on a real kernel, and what it shows when, step by step."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import time

import pytest

pytest.importorskip("ipykernel", reason="ipykernel is not installed")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")

import nbformat  # noqa: E402

from xpnet.train import notebook, progress  # noqa: E402

TRAINING = """
import numpy as np, sys
import xpnet
from xpnet import data, losses, nn, optim, train
x = np.random.default_rng(0).standard_normal((200, 4)).astype(np.float32)
samples = data.Dataset(x, (x[:, 0] > 0).astype(int))
model = nn.Model(nn.mlp([4, 8, 2]), (4,), xpnet.select("cpu"))
def run(**options):
    return train.fit(model, losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1), samples, samples[:50],
                     batch_size=20, **options)
"""
CELLS = {
    "before": TRAINING + "'matplotlib' in sys.modules, 'IPython' in sys.modules",
    "curves": "_ = run(epochs=3)",
    "quiet": "_ = run(epochs=2, quiet=True)",
    "error": "_ = run(epochs=2, callbacks=[lambda row, model: 1 / 0])",
    "model": "model",
    "result": "run(epochs=2, quiet=True)",
}


@pytest.fixture(scope="module")
def outputs():
    """The outputs of each cell, after all has been shown."""
    cells = [nbformat.v4.new_code_cell(source) for source in CELLS.values()]
    client = nbclient.NotebookClient(nbformat.v4.new_notebook(cells=cells), timeout=100, allow_errors=True)
    client.execute()
    return {name: cell.outputs for name, cell in zip(CELLS, cells, strict=True)}


def html_of(outputs):
    (output,) = outputs
    return output.data["text/html"]


def image_in(shown):
    return base64.b64decode(re.search(r'<img src="data:image/png;base64,([^"]+)" alt="learning curves"', shown)[1])


def test_a_run_shows_its_curves_and_nothing_else(outputs):
    assert outputs["before"][0].data["text/plain"] == "(False, True)"
    shown = html_of(outputs["curves"])
    assert image_in(shown).startswith(b"\x89PNG")
    assert re.search(r"epoch   3/3  loss 0\.\d{4}  accuracy \d+.\d\d%  validation loss 0.*s</div>", shown)
    assert "<progress" not in shown, "it is over"
    assert outputs["curves"][0].data["text/plain"].startswith("epoch   3/3")


def test_a_quiet_run_shows_nothing(outputs):
    assert outputs["quiet"] == []


def test_a_run_that_fails_leaves_what_it_has_shown(outputs):
    shown, error = outputs["error"]
    assert "epoch   1/2" in shown.data["text/html"]
    assert "<progress" not in shown.data["text/html"]
    assert error.ename == "ZeroDivisionError"


def test_objects_are_tables(outputs):
    assert "<td" in html_of(outputs["model"])
    assert "multiply-adds" in html_of(outputs["model"])
    assert "train loss" in html_of(outputs["result"])


# Step by step ---------------------------------------------------------------------------------------------------


class Shown:
    """What `IPython.display.display` gives back, and a clock that moves when it is told to."""

    def __init__(self, monkeypatch):
        self.bundles, self.now, self.cost = [], 100.0, 0.0
        monkeypatch.setattr("IPython.display.display", self.display)
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)
        monkeypatch.setattr(notebook, "curves", lambda history: f"<b>{len(history)} epochs</b>")

    def display(self, bundle, raw, display_id):
        assert raw
        assert display_id is True
        self.bundles.append(bundle)
        return self

    def update(self, bundle, raw):
        assert raw
        self.now += self.cost
        self.bundles.append(bundle)

    @property
    def html(self):
        return self.bundles[-1]["text/html"]


@pytest.fixture
def shown(monkeypatch):
    return Shown(monkeypatch)


ROW = {"epoch": 1, "train_loss": 0.5, "lr": 0.1, "seconds": 0.1}


def test_the_bar_moves_and_the_curves_grow(shown):
    history = []
    live = notebook.LiveOutput(20, history)
    assert '<progress value="0" max="20">' in shown.html
    shown.now += 1
    live.bar(5, "epoch 1/2  loss <0.5")
    assert '<progress value="5" max="20"></progress> 5/20' in shown.html
    assert "loss &lt;0.5" in shown.html
    assert "epochs</b>" not in shown.html
    history.append(ROW)
    shown.now += 1
    live.epoch("epoch   1/2")
    assert "<b>1 epochs</b>" in shown.html
    live.note("said once")
    live.stop()
    assert shown.html == (
        '<div style="margin: 4px 0">said once</div><div style="margin: 4px 0">epoch   1/2</div><b>1 epochs</b>'
    )
    assert shown.bundles[-1]["text/plain"] == "said once\nepoch   1/2"


def test_to_draw_takes_a_tenth_of_the_time_at_most(shown):
    history = []
    live = notebook.LiveOutput(1000, history)
    shown.now, shown.cost = shown.now + 1, 0.5
    begun = shown.now
    for i in range(1000):  # 100 s of work
        history.append(ROW)
        live.bar(i, "")
        shown.now += 0.1
    n_updates = len(shown.bundles) - 1
    assert 15 <= n_updates <= 23
    assert n_updates * shown.cost < (shown.now - begun) / 10 + shown.cost
    shown.cost = 0.0
    live.stop()
    assert "<b>1000 epochs</b>" in shown.html, "the end is shown, due or not"


def test_a_fast_run_is_not_shown_more_often_than_a_person_sees(shown):
    live = notebook.LiveOutput(1000, [])
    for i in range(1000):
        shown.now += 0.01
        live.bar(i, "")
    assert 40 <= len(shown.bundles) <= 52


def test_the_run_tells_where_it_stands(shown, monkeypatch):
    monkeypatch.setattr(progress, "in_notebook", lambda: True)
    monkeypatch.setattr(sys, "stderr", None)
    with progress.Reporter(3, 5, quiet=False) as reporter:
        shown.now += 1
        reporter.batches(1, 2, 0.25, {"accuracy": 0.5}, 0.01)
        assert '<progress value="7" max="15"></progress> 7/15' in shown.html
        assert "epoch 2/3  loss 0.2500  accuracy 50.00%  rate 0.01" in shown.html
        reporter.note("said once")
    assert "said once" in shown.html
    assert "<progress" not in shown.html


def test_curves_are_drawn_once_for_each_epoch(shown, monkeypatch):
    drawn = []
    monkeypatch.setattr(notebook, "curves", lambda history: drawn.append(len(history)) or "")
    live = notebook.LiveOutput(10, [ROW])
    for i in range(5):
        shown.now += 1
        live.bar(i, "")
    assert drawn == [1]


def test_without_matplotlib_there_are_no_curves(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in [name for name in sys.modules if name.startswith(("matplotlib.", "xpnet.train.plots"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr("xpnet.train.plots", raising=False)
    assert notebook.curves([ROW]) == ""


# Outside of a notebook ------------------------------------------------------------------------------------------


def test_outside_of_a_notebook_nothing_of_it_is_loaded():
    code = TRAINING + "run(epochs=1); print('IPython' in sys.modules, 'xpnet.train.notebook' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert done.stderr.startswith("epoch   1/1")


def test_an_ipython_on_a_terminal_is_no_notebook(monkeypatch):
    ipython = type(sys)("IPython")
    ipython.get_ipython = lambda: None
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert not progress.in_notebook()
    ipython.get_ipython = lambda: object()
    assert not progress.in_notebook()
    ipython.get_ipython = lambda: type("Shell", (), {"kernel": object()})()
    assert progress.in_notebook()
