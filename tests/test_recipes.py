"""Recipes: what they hold, which settings they refuse, and what they make."""

from __future__ import annotations

import math

import numpy as np
import pytest

from xpnet import data, nn, optim, schedules, select
from xpnet.train import recipes
from xpnet.train.recipes import DIGITS, MNIST, Recipe, build, recipe_for

PLAIN = {
    "model": "mlp", "hidden": (128, 64, 32), "activation": "relu", "dropout": 0.0, "epochs": 20, "batch_size": 64,
    "optimizer": "sgd", "lr": 0.1, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0, "schedule": "constant",
    "label_smoothing": 0.0, "clip": 0.0, "patience": 0, "augment": False, "val": 0.0,
}  # fmt: skip
BELOW_1 = "must be a finite number >= 0 and below 1"
OR_NONE = r"\(0 for none\) must be a finite number >= 0"


def images(n=40, classes=3, shape=(8, 8)):
    rng = np.random.default_rng(0)
    return data.Dataset(rng.integers(0, 256, (n, *shape), dtype=np.uint8), np.arange(n) % classes)


def test_the_recipes_are_those_whose_accuracy_is_on_record():
    digits = {
        "dropout": 0.1, "epochs": 30, "batch_size": 32, "optimizer": "adamw", "lr": 0.006, "weight_decay": 0.01,
        "schedule": "one-cycle", "label_smoothing": 0.1,
    }  # fmt: skip
    mnist = {
        "dropout": 0.05, "lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.0005,
        "schedule": "one-cycle", "label_smoothing": 0.05, "val": 0.02,
    }  # fmt: skip
    table = {
        "hidden": (128, 64), "dropout": 0.1, "epochs": 30, "optimizer": "adamw", "lr": 0.003, "weight_decay": 0.01,
        "schedule": "one-cycle", "val": 0.1,
    }  # fmt: skip
    handwriting = {
        "activation": "gelu", "epochs": 80, "batch_size": 256, "optimizer": "adamw", "lr": 0.003, "weight_decay": 0.01,
        "schedule": "one-cycle", "augment": True,
    }  # fmt: skip
    changes = {"digits": digits, "mnist": mnist, "table": table, "plain": {}, "handwriting": handwriting}
    assert {name: vars(recipe) for name, recipe in recipes.RECIPES.items()} == {
        name: PLAIN | changed for name, changed in changes.items()
    }
    assert (recipe_for("digits"), recipe_for("mnist"), recipe_for("a/folder")) == (DIGITS, MNIST, MNIST)


def test_images_are_augmented_as_was_found_best_for_each_network():
    photos = data.Augment(shift=0.08, rotate=15, scale=0.15, shear=0.2, elastic=1.5, thickness=0.7)
    pen = data.Augment(shift=0.07, rotate=10, scale=0.1, shear=0.1, elastic=1)
    assert {name: kind.augment for name, kind in recipes.MODELS.items()} == {"mlp": photos, "cnn": pen, "resnet": pen}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "rnn"}, "unknown model 'rnn': choose one of mlp, cnn, resnet"),
        ({"activation": "sin"}, "unknown activation 'sin'"),
        ({"optimizer": "newton"}, "unknown optimizer 'newton'"),
        ({"schedule": "never"}, "unknown schedule 'never'"),
        ({"model": "cnn"}, "hidden is a setting of the model mlp, not of cnn"),
        ({"model": "resnet", "hidden": (), "dropout": 0.5}, "dropout is a setting of the model mlp and cnn"),
        ({"hidden": (8, 0)}, r"hidden layers need at least one unit each, not \[8, 0\]"),
        ({"epochs": 0}, "epochs must be a whole number >= 1, not 0"),
        ({"lr": 0.0}, "lr must be a finite number above 0"),
        ({"lr": math.inf}, "lr must be a finite number above 0"),
        *[({name: 1.0}, f"{name} {BELOW_1}") for name in ("dropout", "label_smoothing", "val")],
        *[({name: -0.1}, f"{name} {BELOW_1}") for name in ("dropout", "momentum", "label_smoothing", "val")],
        *[({name: -1}, f"{name} {OR_NONE}") for name in ("weight_decay", "clip", "patience")],
        *[({name: math.inf}, f"{name} {OR_NONE}") for name in ("weight_decay", "clip", "patience")],
        ({"optimizer": "adam", "momentum": 0.9}, "momentum and nesterov are settings of the optimizer sgd"),
        ({"optimizer": "adam", "nesterov": True}, "momentum and nesterov are settings of the optimizer sgd"),
    ],
)  # fmt: skip
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Recipe(**settings)


def test_the_least_that_there_can_be():
    least = Recipe(hidden=(1,), epochs=1, lr=1e-9)
    assert build(least, images(64), select("cpu"))[0].n_parameters == 64 + 1 + 3 + 3


@pytest.mark.parametrize(("name", "rate"), [("rmsprop", 0.001), ("adagrad", 0.01), ("adam", 0.001), ("adamw", 0.001)])
def test_another_optimizer_comes_with_its_own_rate(name, rate):
    changed = MNIST.but(optimizer=name)
    assert (changed.lr, changed.momentum, changed.nesterov, changed.weight_decay) == (rate, 0.0, False, 0.0)
    assert MNIST.but(optimizer=name, lr=0.5, weight_decay=0.1).lr == 0.5
    assert MNIST.but(optimizer="sgd") == MNIST
    assert DIGITS.but(optimizer="sgd").lr == 0.1


def test_another_model_comes_with_its_own_settings():
    assert (DIGITS.but(model="cnn").hidden, DIGITS.but(model="cnn").dropout) == ((), 0.1)
    assert (DIGITS.but(model="resnet").hidden, DIGITS.but(model="resnet").dropout) == ((), 0.0)
    assert DIGITS.but(model="cnn").but(model="mlp").hidden == (128, 64, 32)
    assert DIGITS.but(hidden=(9,)).but(model="mlp").hidden == (9,)


def test_what_a_recipe_makes():
    recipe = Recipe(hidden=(5, 4), activation="tanh", dropout=0.25, label_smoothing=0.1, momentum=0.9, nesterov=True)
    model, loss, optimizer, schedule = build(recipe.but(weight_decay=0.1, batch_size=32), images(), select("cpu"))
    kinds = [type(layer).__name__ for layer in model.network.layers]
    assert kinds == ["Standardize", "Flatten", "Linear", "Tanh", "Dropout", "Linear", "Tanh", "Dropout", "Linear"]
    assert {layer.p for layer in model.network.layers if isinstance(layer, nn.Dropout)} == {0.25}
    assert (loss.label_smoothing, optimizer.weight_decay, schedule) == (0.1, 0.1, schedules.Constant(0.1))
    assert isinstance(optimizer, optim.SGD)
    assert (optimizer.lr, optimizer.momentum, optimizer.nesterov) == (0.1, 0.9, True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("constant", schedules.Constant(0.1)),
        ("step", schedules.Step(0.1, every=14)),
        ("exponential", schedules.Exponential(0.1, 40, final=0.001)),
        ("cosine", schedules.Cosine(0.1, 40)),
        ("warmup-cosine", schedules.WarmUp(2, schedules.Cosine(0.1, 38))),
        ("one-cycle", schedules.OneCycle(0.1, 40)),
        ("plateau", schedules.Plateau(0.1)),
    ],
)
def test_a_schedule_knows_how_many_steps_there_are(name, expected):
    """20 epochs of two batches; what follows a warm-up has at least one step."""
    assert build(Recipe(schedule=name, batch_size=20), images(), select("cpu"))[3] == expected
    for steps, rising, falling in [(1, 1, 1), (50, 3, 47)]:
        expected = schedules.WarmUp(rising, schedules.Cosine(0.1, falling))
        assert recipes.SCHEDULES["warmup-cosine"](0.1, steps) == expected


@pytest.mark.parametrize("kind", ["cnn", "resnet"])
def test_networks_of_images(kind):
    recipe = Recipe(batch_size=8).but(model=kind)
    model = build(recipe, images(shape=(12, 12)), select("cpu"))[0]
    cnn, resnet = nn.cnn((12, 12), 3, (32, 64, 128), 128), nn.resnet((12, 12), 3, depth=8, width=16)
    expected = {"cnn": cnn, "resnet": resnet}[kind]
    alone = nn.Model(expected, (12, 12), select("cpu"))
    assert {name: p.shape for name, p in model.parameters.items()} == {
        f"layers.{int(name.split('.')[1]) + 1}.{name.split('.', 2)[2]}": p.shape for name, p in alone.parameters.items()
    }


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (images(classes=1), "has one class only"),
        (
            data.Dataset(np.zeros((8, 5), np.uint8), np.arange(8) % 2),
            "only uint8 images can be augmented",
        ),
        (data.Dataset(np.zeros((8, 5, 5)), np.arange(8) % 2), "only uint8 images can be augmented"),
    ],
)
def test_data_that_do_not_fit(dataset, message):
    with pytest.raises(ValueError, match=message):
        build(Recipe(augment=True, batch_size=8), dataset, select("cpu"))
