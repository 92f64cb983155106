"""Checkpoints that lie: one ModelFileError, and nothing of the run is changed. Some by hand, and many by chance."""

from __future__ import annotations

import json
import math
import random

import numpy as np
import pytest
from safetensors.numpy import save_file
from test_resume import everything, run_of, steps

import xpnet
from xpnet import schedules, train
from xpnet.nn.saving import ModelFileError, read_tensors
from xpnet.optim import WeightAverage
from xpnet.train.checkpoint import load_checkpoint, save_checkpoint


def run() -> train.Run:
    return run_of(batch_size=40, schedule=schedules.Plateau(0.01, patience=2))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The content of a checkpoint after two epochs and three batches of the third."""
    one = run()
    for epoch in (1, 2):
        steps(one, 5)
        row = {"epoch": epoch, "train_loss": 1.0 / epoch, "train_accuracy": 0.5, "lr": 0.01, "seconds": 0.1}
        one.end_epoch(row, 1.0 / epoch)
    path = tmp_path_factory.mktemp("saved") / "run"
    save_checkpoint(steps(one, 3), path)
    return read_tensors(path)


def copied(content):
    tensors, described = content
    return {name: a.copy() for name, a in tensors.items()}, json.loads(json.dumps(described))


def write(path, tensors, described):
    save_file(tensors, path, metadata={"xpnet": json.dumps(described)})


def test_the_checkpoint_itself_is_taken(saved, tmp_path):
    write(tmp_path / "run", *copied(saved))
    one = run()
    load_checkpoint(one, tmp_path / "run")
    assert (one.position.epoch, one.position.batch, len(one.history)) == (2, 3, 2)
    save_checkpoint(one, tmp_path / "again")
    again = read_tensors(tmp_path / "again")
    assert again[1] == saved[1]
    assert all(np.array_equal(again[0][name], saved[0][name]) for name in saved[0])


def test_what_a_checkpoint_calls_its_tensors(tmp_path):
    """Names that other versions read."""
    one = run_of()
    one.average = WeightAverage(one.model, 0.9)
    save_checkpoint(one, tmp_path / "run")
    tensors, described = read_tensors(tmp_path / "run")
    own = {f"layers.{i}.{name}" for i in (0, 3) for name in "Wb"}
    state = {f"run/optimizer.{name}" for name in one.optimizer.tensors()}
    average = {"run/average.values", "run/average.steps"}
    assert tensors.keys() == own | state | average | {"run/totals", "run/best", "run/rng"}
    assert described["run"].keys() == {"progress", "history", "optimizer", "schedule", "settings", "lr"}
    settings = {"samples", "batch_size", "seed", "precision", "data", "loss", "clip", "accumulate", "average"}
    assert described["run"]["settings"].keys() == settings | {"augment", "metrics", "frozen"}


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_figures_that_json_has_no_number_for_come_back(value, saved, tmp_path):
    tensors, described = copied(saved)
    described["run"]["history"][1]["train_accuracy"] = value
    write(tmp_path / "run", tensors, described)
    one = run()
    load_checkpoint(one, tmp_path / "run")
    assert repr(one.history[1]["train_accuracy"]) == value
    save_checkpoint(one, tmp_path / "again")
    assert read_tensors(tmp_path / "again")[1] == described


@pytest.mark.parametrize("kind", [float, np.float64, np.float32])
@pytest.mark.parametrize("value", [0.5, math.nan, math.inf])
def test_figures_of_numpys_types_come_back(kind, value, tmp_path):
    """As a metric or a callback may give them."""
    saved, opened = run(), run()
    steps(saved, 5)
    row = {"epoch": 1, "train_loss": 1.0, "train_accuracy": kind(value), "lr": 0.01, "seconds": 0.1}
    saved.end_epoch(row, 1.0)
    save_checkpoint(saved, tmp_path / "run")
    load_checkpoint(opened, tmp_path / "run")
    np.testing.assert_equal(opened.history[0]["train_accuracy"], value)


def test_a_checkpoint_at_the_very_ends_of_what_can_be_is_taken(saved, tmp_path):
    """After the last batch, with a rate of 0, and a loss that was never better than at first."""
    tensors, described = copied(saved)
    described["run"]["progress"].update(batch=5, best_epoch=0, waited=2, best="inf")
    described["run"]["lr"] = 0.0
    write(tmp_path / "run", tensors, described)
    one = run()
    load_checkpoint(one, tmp_path / "run")
    assert (one.position.batch, one.position.waited, one.position.best, one.optimizer.lr) == (5, 2, math.inf, 0.0)


def test_a_checkpoint_that_does_not_say_what_was_watched_is_taken(saved, tmp_path):
    """As those were before that was written down."""
    tensors, described = copied(saved)
    del described["run"]["progress"]["watched"]
    write(tmp_path / "run", tensors, described)
    one = run()
    one.position.watched = "some data"
    load_checkpoint(one, tmp_path / "run")
    assert (one.position.best_epoch, one.position.best, one.position.watched) == (2, 0.5, "some data")


def progress(**changes):
    return lambda tensors, run: run["progress"].update(changes)


def row(number, **changes):
    return lambda tensors, run: run["history"][number].update(changes)


def tensor(name, change):
    def lie(tensors, run):
        tensors[name] = change(tensors[name])

    return lie


def filled(value):
    return lambda a: np.full(a.shape, value, a.dtype)


LIES = {
    "best is a list": progress(best=[]),
    "best is nan": progress(best="nan"),
    "best is a word": progress(best="much"),
    "best is too long": progress(best=10**400),
    "best is true": progress(best=True),
    "epoch 7 of two rows": progress(epoch=7),
    "epoch 1 of two rows": progress(epoch=1, best_epoch=1, waited=0),
    "epoch is a fraction": progress(epoch=2.0),
    "batch is true": progress(batch=True),
    "waited is true": progress(best_epoch=1, waited=True),
    "more batches than there are": progress(batch=6),
    "the best epoch is still to come": progress(best_epoch=3),
    "waited longer than it ran": progress(waited=3),
    "waited less than since the best": progress(best_epoch=1, waited=0),
    "a lowest loss of no epoch": progress(best_epoch=0, waited=2),
    "an epoch of no lowest loss": progress(best="inf"),
    "it watched a number": progress(watched=3),
    "another field": progress(colour="red"),
    "a field is missing": lambda tensors, run: run["progress"].pop("best_epoch"),
    "no progress": lambda tensors, run: run.pop("progress"),
    "progress is a list": lambda tensors, run: run.update(progress=[1, 2]),
    "the rate is too long": lambda tensors, run: run.update(lr=10**400),
    "the rate is nan": lambda tensors, run: run.update(lr="nan"),
    "the rate is JSON's NaN": lambda tensors, run: run.update(lr=math.nan),
    "the rate is infinite": lambda tensors, run: run.update(lr="inf"),
    "the rate is too large for float32": lambda tensors, run: run.update(lr=1e39),
    "the rate is negative": lambda tensors, run: run.update(lr=-0.1),
    "the rate is missing": lambda tensors, run: run.pop("lr"),
    "a row without seconds": lambda tensors, run: run["history"][0].pop("seconds"),
    "a row without the metric": lambda tensors, run: run["history"][1].pop("train_accuracy"),
    "an epoch twice": row(1, epoch=1),
    "epochs in reverse": lambda tensors, run: run["history"].reverse(),
    "an epoch is missing": lambda tensors, run: run["history"].pop(0),
    "a row is no row": lambda tensors, run: run["history"].__setitem__(0, 3),
    "a loss is a list": row(0, train_loss=[1]),
    "a loss is too long": row(0, train_loss=10**400),
    "the history is a text": lambda tensors, run: run.update(history="ab"),
    "the schedule has no best": lambda tensors, run: run["schedule"].pop("best"),
    "the schedule waits for half an epoch": lambda tensors, run: run["schedule"].update(waited=0.5),
    "the schedule's rate is nan": lambda tensors, run: run["schedule"].update(lr="nan"),
    "another kind of optimizer": lambda tensors, run: run["optimizer"].update(kind="SGD"),
    "another option": lambda tensors, run: run["settings"].update(clip=1),
    "an option is missing": lambda tensors, run: run["settings"].pop("seed"),
    "a negative moment": tensor("run/optimizer.squares", lambda a: -a - 1),
    "one negative moment": tensor("run/optimizer.squares", lambda a: a - 2 * a * (np.arange(a.size) == 3)),
    "a moment overflows": tensor("run/optimizer.sum", lambda a: np.full(a.shape, 1e39)),
    "a moment is nan": tensor("run/optimizer.sum", filled(np.nan)),
    "negative steps": tensor("run/optimizer.steps", filled(-1)),
    "infinite steps": tensor("run/optimizer.steps", filled(np.inf)),
    "whole numbers for moments": tensor("run/optimizer.sum", lambda a: a.astype(np.int64)),
    "the best weights overflow": tensor("run/best", lambda a: np.full(a.shape, 1e39)),
    "totals of another shape": tensor("run/totals", lambda a: a[:-1]),
    "totals of nan": tensor("run/totals", filled(np.nan)),
    "a short random state": tensor("run/rng", lambda a: a[:5]),
    "an empty random state": tensor("run/rng", lambda a: a[None][:0]),
    "a random state of three axes": tensor("run/rng", lambda a: a[None, None]),
    "a random state of fractions": tensor("run/rng", lambda a: a.astype(np.float64)),
    "no random state": lambda tensors, run: tensors.pop("run/rng"),
    "a tensor too many": lambda tensors, run: tensors.update({"run/more": np.zeros(3)}),
    "a weight is nan": tensor("layers.0.W", filled(np.nan)),
    "a weight is missing": lambda tensors, run: tensors.pop("layers.0.W"),
}


@pytest.fixture(scope="module")
def standing():
    """A run that has gone some steps, so that every array has something to lose."""
    return steps(run(), 2)


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_is_refused_and_changes_nothing(lie, saved, standing, tmp_path):
    tensors, described = copied(saved)
    LIES[lie](tensors, described["run"])
    write(tmp_path / "run", tensors, described)
    before = everything(standing)
    with pytest.raises(ModelFileError, match=f"^{tmp_path / 'run'}"):
        load_checkpoint(standing, tmp_path / "run")
    assert everything(standing) == before


@pytest.mark.parametrize(
    "change",
    [
        lambda described: described.update(format=2),
        lambda described: described.update(dtype="float64"),
        lambda described: described.update(network=json.loads("[" * 400 + "]" * 400)),
        lambda described: described.clear(),
        lambda described: described.update(run=[]),
    ],
)
def test_a_description_that_does_not_fit_is_refused(change, saved, standing, tmp_path):
    tensors, described = copied(saved)
    change(described)
    write(tmp_path / "run", tensors, described)
    before = everything(standing)
    with pytest.raises(ModelFileError):
        load_checkpoint(standing, tmp_path / "run")
    assert everything(standing) == before


# By chance ------------------------------------------------------------------------------------------------------------

VALUES = [
    None, True, False, -1, 0, 1, 2, 3, 7, 0.5, -0.0, 1e308, -1e308, 1e39, 10**30, 10**400, -(10**400), math.nan,
    math.inf, "nan", "inf", "-inf", "", "1", "\ud800", [], {}, [[]], [1, 2], {"epoch": 1}, [{}], {"": None},
]  # fmt: skip


def places(value, path=()):
    """The paths of all that a JSON value holds."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, held in inside:
        yield (*path, key)
        yield from places(held, (*path, key))


def damage_description(rng, tensors, described):
    *path, last = rng.choice([*places(described["run"]), *[("settings",), ("progress",), ("history",)]])
    parent = described["run"]
    for key in path:
        parent = parent[key]
    kind = rng.choice(["value", "value", "value", "delete", "add"])
    if kind == "delete":
        del parent[last]
    elif kind == "value":
        parent[last] = rng.choice(VALUES)
    elif isinstance(parent, dict):
        parent[rng.choice(["more", "", "epoch", "best"])] = rng.choice(VALUES)
    else:
        parent.append(rng.choice([*VALUES, *parent]))


def damage_tensor(rng, tensors, described):
    name = rng.choice(sorted(tensors))
    array = tensors[name]
    kind = rng.choice(["delete", "rename", "shape", "dtype", "entry", "entry", "entry", "empty"])
    if kind in ("delete", "rename"):
        del tensors[name]
        if kind == "rename":
            tensors[rng.choice([f"{name}x", f"run/{name}", name.removeprefix("run/")])] = array
    elif kind == "shape":
        tensors[name] = rng.choice([array.reshape(-1), array[None], array.repeat(2, axis=0), array.reshape(-1)[:1]])
    elif kind == "dtype":
        with np.errstate(all="ignore"):
            tensors[name] = array.astype(rng.choice(["int64", "float16", "float64", "uint8", "bool", "uint64"]))
    elif kind == "entry" and array.dtype.kind == "f":
        wide = array.astype(np.float64)
        wide.reshape(-1)[rng.randrange(array.size)] = rng.choice(
            [math.nan, math.inf, -math.inf, -1.0, 1e39, 1e300, 0.0]
        )
        tensors[name] = wide
    else:
        tensors[name] = array[:0]


def damage_bytes(rng, path):
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 4)):
        content[rng.randrange(min(len(content), 6000))] = rng.randrange(256)
    path.write_bytes(content[: rng.choice([len(content), len(content), rng.randrange(len(content))])])


def test_hundreds_of_damaged_checkpoints(saved, tmp_path):
    """Nothing but `ModelFileError` comes out, and then nothing has changed; what is taken can be trained and saved."""
    rng, path = random.Random(0), tmp_path / "run"
    standing = steps(run(), 2)
    before, refused, taken = everything(standing), 0, 0
    for number in range(450):
        tensors, described = copied(saved)
        for _ in range(rng.choice([1, 1, 2])):
            rng.choice([damage_description, damage_tensor])(rng, tensors, described)
        write(path, tensors, described)
        if number % 5 == 0:
            damage_bytes(rng, path)
        try:
            load_checkpoint(standing, path)
        except ModelFileError:
            refused += 1
            assert everything(standing) == before, number
            continue
        taken += 1
        save_checkpoint(standing, path)
        xpnet.load(path, "cpu")
        steps(standing, int(standing.position.batch < len(standing.slices)))
        standing = steps(run(), 2)
    assert refused > 300
    assert taken > 20


def test_a_model_alone_is_not_resumed(standing, tmp_path):
    standing.model.save(tmp_path / "model")
    with pytest.raises(ModelFileError, match="model: it is a model, not a checkpoint: the state of a run is needed"):
        load_checkpoint(standing, tmp_path / "model")


def test_what_is_wrong_with_a_tensor_is_said_without_the_kind_of_error(saved, standing, tmp_path):
    tensors, described = copied(saved)
    tensors.pop("run/optimizer.sum")
    write(tmp_path / "run", tensors, described)
    with pytest.raises(
        ModelFileError, match=r"run is not a checkpoint of this run: tensors are missing: \['optimizer.sum'\]$"
    ):
        load_checkpoint(standing, tmp_path / "run")
