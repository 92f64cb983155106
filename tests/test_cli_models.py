"""The models of `xpnet train`: what a recipe makes of each, how they are chosen, and what goes with none of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from command_line import SHORT, call, elsewhere  # noqa: F401

import xpnet
from xpnet import data, nn
from xpnet.cli.settings import in_words, read_config, settle
from xpnet.train import recipes
from xpnet.train.recipes import DIGITS, MNIST, MODELS, Recipe

pytestmark = pytest.mark.usefixtures("elsewhere")


# Recipes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_a_recipe_makes_the_network_that_it_names(name):
    digits, recipe = data.load("digits").train, DIGITS.but(model=name)
    model, *_ = recipes.build(recipe, digits, xpnet.select("cpu"))
    kinds = [type(layer).__name__ for _, layer in model.network.walk()]
    assert ("Conv2d" in kinds, "Residual" in kinds) == {"mlp": (0, 0), "cnn": (1, 0), "resnet": (1, 1)}[name]
    assert [layer.p for _, layer in model.network.walk() if isinstance(layer, nn.Dropout)] == {
        "mlp": [0.1] * 3, "cnn": [0.1], "resnet": [],
    }[name]  # fmt: skip
    assert kinds[1] == "Standardize"
    assert model.output_shape == (10,)


def test_another_model_comes_with_its_own_settings():
    cnn = MNIST.but(model="cnn")
    assert (cnn.hidden, cnn.dropout, cnn.lr) == ((), MNIST.dropout, MNIST.lr)
    assert cnn.but(model="resnet").dropout == 0
    assert cnn.but(model="mlp").hidden == MNIST.hidden
    assert cnn.but(model="mlp", hidden=(5,)).hidden == (5,)
    assert MNIST.but(hidden=(7,)).but(model="mlp").hidden == (7,)


def test_the_recipe_of_handwriting():
    theirs = settle({"data": "mnist", "recipe": "handwriting"}, {}).recipe
    assert theirs == MNIST.but(
        augment=True, epochs=80, batch_size=256, optimizer="adamw", lr=0.003, weight_decay=0.01, activation="gelu",
        dropout=0.0, label_smoothing=0.0, val=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(("model", "thickness"), [("mlp", 0.7), ("cnn", 0.0)])
def test_each_model_has_its_augmentation(model, thickness):
    call(*SHORT, "--model", model, "--augment", "--out", "run")
    assert f"thickness={thickness},".encode() in Path("run/checkpoint.safetensors").read_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "vgg"}, "unknown model 'vgg': choose one of mlp, cnn, resnet"),
        ({"model": "cnn", "hidden": (64,)}, "hidden is a setting of the model mlp, not of cnn"),
        ({"model": "cnn", "activation": "tanh"}, "activation is a setting of the model mlp, not of cnn"),
        ({"model": "resnet", "dropout": 0.5}, "dropout is a setting of the model mlp and cnn, not of resnet"),
    ],
)
def test_settings_that_do_not_go_together(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        Recipe().but(**changes)


def test_convolutions_need_images():
    flat = data.Dataset(data.load("digits").train.x.reshape(-1, 64), data.load("digits").train.y)
    with pytest.raises(ValueError, match="images are"):
        recipes.build(DIGITS.but(model="cnn"), flat, xpnet.select("cpu"))


def test_colours_can_be_augmented():
    digits = data.load("digits").train
    colours = data.Dataset(digits.x[:, :, :, None].repeat(3, axis=3), digits.y)
    recipes.build(DIGITS.but(model="cnn", augment=True), colours, xpnet.select("cpu"))
    flat = data.Dataset(digits.x.reshape(-1, 64), digits.y)
    with pytest.raises(ValueError, match="only uint8 images can be augmented"):
        recipes.build(DIGITS.but(augment=True), flat, xpnet.select("cpu"))


# The command ----------------------------------------------------------------------------------------------------


def test_a_cnn_is_trained_saved_repeated_and_gone_on_with():
    line = call(*SHORT, "--model", "cnn", "--out", "run").stdout
    assert "yours: model cnn, epochs 2, schedule constant" in line.replace("; val", "")
    kinds = {type(layer).__name__ for _, layer in xpnet.load("run/model.safetensors", device="cpu").network.walk()}
    assert "Conv2d" in kinds
    config = read_config("run/config.toml")
    assert (config["model"], config["hidden"]) == ("cnn", ())
    call("train", "--config", "run/config.toml", "--quiet", "--out", "again")
    same = [xpnet.load(f"{folder}/model.safetensors", device="cpu").tensors() for folder in ("run", "again")]
    assert all((same[0][name] == same[1][name]).all() for name in same[0])
    call("train", "--resume", "run", "--epochs", "3", "--quiet")


def test_a_model_that_has_no_hidden_layers_of_ones_own():
    result = call(*SHORT, "--model", "cnn", "--hidden", "32", code=2)
    assert "hidden is a setting of the model mlp, not of cnn" in result.stderr
    assert "unknown model 'vgg'" in call(*SHORT, "--model", "vgg", code=2).stderr


def test_the_command_line_wins_over_the_file():
    cnn = {"model": "cnn", "hidden": (), "activation": "relu", "epochs": 3}
    recipe = settle({"model": "mlp"}, cnn).recipe
    assert (recipe.model, recipe.hidden, recipe.epochs) == ("mlp", DIGITS.hidden, 3)
    assert settle({}, cnn).changed == ("model", "epochs")
    assert "yours: model cnn" in in_words(settle({"model": "cnn"}, {}))


def test_the_list():
    lines = call("models").stdout.splitlines()
    assert [line.split()[0] for line in lines[:3]] == list(MODELS)
    counts = [int(re.search(r"\(([\d,]+) parameters on MNIST", line)[1].replace(",", "")) for line in lines[:3]]
    assert counts[0] == 784 * 128 + 128 + 128 * 64 + 64 + 64 * 32 + 32 + 32 * 10 + 10
    convolutions = 9 * 32 + 64 + 9 * 32 * 64 + 128 + 9 * 64 * 128 + 256
    assert counts[1] == convolutions + (9 * 128 * 128 + 128) + 1290
    assert counts[2] == sum(
        p.size
        for p in nn.Model(nn.resnet((28, 28), 10, 8), (28, 28), xpnet.select("cpu")).parameters.values()
        if p.trained
    )
