"""Event files: read back with the library's own format, number by number."""

from __future__ import annotations

import gc
import os
import struct
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from command_line import SHORT, call, elsewhere, weights  # noqa: F401

from xpnet import data, losses, nn, optim, select, train

pytest.importorskip("tensorboardX", reason='tensorboardX is not installed: pip install -e ".[dev]"')


def records(folder):
    """Every event in the folder. A record is its length, a checksum of that, the event, and its
    checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.glob("events.out.tfevents.*")):
        content, at = path.read_bytes(), 0
        while at < len(content):
            (size,) = struct.unpack_from("<Q", content, at)
            yield Event.FromString(content[at + 12 : at + 12 + size])
            at += 12 + size + 4


def events(folder) -> dict[tuple[str, int], float]:
    """Every scalar in the folder, by tag and step."""
    return {(v.tag, event.step): v.simple_value for event in records(folder) for v in event.summary.value}


def fit(folder, watched=False, **options) -> tuple[train.Result, train.LayerSizes | None]:
    rng = np.random.default_rng(0)
    samples = data.Dataset(rng.standard_normal((24, 4), np.float32), rng.integers(0, 3, 24))
    model = nn.Model(nn.Sequential(nn.Linear(5), nn.ReLU(), nn.Linear(3)), (4,), select("cpu"), ("a", "b", "c"))
    sizes = train.LayerSizes(model, every=2) if watched else None
    options = {"epochs": 3, "batch_size": 8, "quiet": True, **options}
    board = train.TensorBoard(folder, sizes)
    loss, optimizer = losses.SoftmaxCrossEntropy(), optim.SGD(model, 0.1)
    return train.fit(model, loss, optimizer, samples, samples, watch=sizes, callbacks=[board], **options), sizes


def test_rows_are_scalars_by_epoch(tmp_path):
    result, _ = fit(tmp_path / "new" / "board")
    found = events(tmp_path / "new" / "board")
    tags = {"loss/train", "accuracy/train", "loss/validation", "accuracy/validation", "lr", "seconds"}
    assert found.keys() == {(tag, epoch) for tag in tags for epoch in (1, 2, 3)}
    for row in result.history:
        assert found["loss/train", row["epoch"]] == pytest.approx(row["train_loss"], rel=1e-6)
        assert found["accuracy/validation", row["epoch"]] == pytest.approx(row["validation_accuracy"], rel=1e-6)


def test_what_was_watched_is_written_by_step_and_once(tmp_path):
    _, sizes = fit(tmp_path, watched=True)
    found = {key: value for key, value in events(tmp_path).items() if "layers" in key[0]}
    written = [v.tag for event in records(tmp_path) for v in event.summary.value if "layers" in v.tag]
    assert len(found) == len(written) == sum(len(row.keys() - {"step", "layer", "kind"}) for row in sizes.rows)
    for row in sizes.rows:
        assert found[f"activation/{row['layer']}", row["step"]] == pytest.approx(row["activation"], rel=1e-6)


def test_a_run_that_goes_on_adds_to_the_same_curves(tmp_path):
    fit(tmp_path / "board", checkpoint=tmp_path / "run", epochs=2)
    fit(tmp_path / "board", checkpoint=tmp_path / "run", epochs=3, resume=True)
    assert sorted(epoch for tag, epoch in events(tmp_path / "board") if tag == "loss/train") == [1, 2, 3]


def test_each_epoch_is_in_the_file_as_soon_as_it_has_ended(tmp_path):
    """Whoever watches a long run need not wait for its end."""
    board, seen = train.TensorBoard(tmp_path), []
    for epoch in (1, 2):
        board({"epoch": epoch, "train_loss": 0.5, "lr": 0.1, "seconds": 1.0}, None)
        seen.append(len(events(tmp_path)))
    assert seen == [3, 6]


def test_each_number_has_the_time_at_which_it_was_written(tmp_path):
    """TensorBoard draws curves by time, too."""
    before, board = time.time(), train.TensorBoard(tmp_path)
    board({"epoch": 1, "lr": 0.1}, None)
    [event] = [event for event in records(tmp_path) if event.summary.value]
    assert before <= event.wall_time <= time.time()


def test_the_layer_of_a_network_of_one_is_called_network(tmp_path):
    model = nn.Model(nn.Linear(3), (4,), select("cpu"))
    sizes = train.LayerSizes(model)
    sizes.rows.append({"step": 1, "layer": "", "kind": "Linear", "activation": 0.25})
    train.TensorBoard(tmp_path, sizes)({"epoch": 1}, model)
    assert events(tmp_path) == {("activation/network", 1): 0.25}


def test_a_folder_that_cannot_be_made_is_reported_before_the_training(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        train.TensorBoard(tmp_path / "file" / "board")


def test_a_folder_without_write_permission_is_reported_before_the_training(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: mode != os.W_OK | os.X_OK)
    with pytest.raises(PermissionError, match=r"cannot be written: '.*board'"):
        train.TensorBoard(tmp_path / "board")


def test_a_full_disk_at_the_end_is_no_traceback(tmp_path, monkeypatch, capsys):
    from tensorboardX.event_file_writer import EventsWriter

    closed, close = [], EventsWriter.close

    def full(writer):
        close(writer)
        closed.append(writer)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(EventsWriter, "close", full)
    board = train.TensorBoard(tmp_path)
    del board  # whose finalizer is called now, and else at the end of the program
    gc.collect()
    assert len(closed) == 1
    assert capsys.readouterr().err == ""


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "xpnet\[tensorboard\]"'):
        train.TensorBoard(tmp_path)


# xpnet train --tensorboard --------------------------------------------------------------------------------------


def epochs(folder, tag="loss/train"):
    return sorted(epoch for name, epoch in events(folder) if name == tag)


@pytest.mark.usefixtures("elsewhere")
def test_a_run_writes_events_into_its_folder_where_it_is_asked_to(tmp_path):
    said = call(*SHORT, "--val", "0.2", "--tensorboard", "--out", "run").stdout
    assert "events: tensorboard --logdir run\n" in said
    found = events(tmp_path / "run")
    history = np.genfromtxt("run/history.csv", delimiter=",", names=True)
    assert epochs(tmp_path / "run") == [1, 2]
    np.testing.assert_allclose([found["loss/validation", n] for n in (1, 2)], history["validation_loss"], rtol=1e-6)

    said = call(*SHORT, "--config", "run/config.toml", "--no-tensorboard", "--out", "without").stdout
    assert "tensorboard" not in said
    assert not list(Path("without").glob("events*"))
    np.testing.assert_array_equal(weights(Path("run")), weights(Path("without")))  # who watches changes nothing


@pytest.mark.usefixtures("elsewhere")
def test_a_run_that_is_resumed_goes_on_with_the_same_events(tmp_path):
    call(*SHORT, "--tensorboard", "--out", "run")
    call("train", "--resume", "run", "--epochs", "4", "--quiet")  # the run's own file says that events are wanted
    assert epochs(tmp_path / "run") == [1, 2, 3, 4]
    call("train", "--resume", "run", "--epochs", "5", "--no-tensorboard", "--quiet")
    assert epochs(tmp_path / "run") == [1, 2, 3, 4]
    call("train", "--resume", "run", "--epochs", "6", "--tensorboard", "--quiet")
    assert epochs(tmp_path / "run") == [1, 2, 3, 4, 6]


@pytest.mark.usefixtures("elsewhere")
def test_events_that_cannot_be_written_are_told_before_the_training(tmp_path, monkeypatch):
    call(*SHORT, "--out", "run")
    before = {path: path.read_bytes() for path in sorted(Path("run").iterdir())}

    def full(path, suffix):
        raise OSError(28, "No space left on device", path)

    monkeypatch.setattr("tensorboardX.event_file_writer.EventsWriter", full)
    refused = call("train", "--resume", "run", "--epochs", "3", "--tensorboard", "--quiet", code=1).stderr
    assert "--tensorboard: cannot write event files: run/events: No space left on device" in refused.replace("\\", "/")
    assert {path: path.read_bytes() for path in sorted(Path("run").iterdir())} == before


@pytest.mark.usefixtures("elsewhere")
def test_a_run_that_cannot_be_resumed_leaves_no_empty_event_file(tmp_path):
    call(*SHORT, "--tensorboard", "--out", "run")
    config = tmp_path / "run" / "config.toml"
    config.write_text(config.read_text().replace("seed = 0", "seed = 1"))
    before = {path: path.read_bytes() for path in sorted(Path("run").iterdir())}
    assert "its seed is 0" in call("train", "--resume", "run", "--epochs", "3", "--quiet", code=1).stderr
    assert {path: path.read_bytes() for path in sorted(Path("run").iterdir())} == before


@pytest.mark.usefixtures("elsewhere")
def test_a_run_without_the_library_ends_before_there_is_a_folder(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX.event_file_writer", None)
    refused = call(*SHORT, "--tensorboard", code=1).stderr
    assert '--tensorboard: event files need tensorboardX: pip install "xpnet[tensorboard]"' in refused
    assert not os.path.exists("runs")
