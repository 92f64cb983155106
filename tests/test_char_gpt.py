"""The character-level GPT of the examples: its configuration, how it draws, and that the cache changes nothing."""

from __future__ import annotations

import importlib.util
import re
import sys

import numpy as np
import pytest
from test_examples import EXAMPLES, printed, run

import xpnet
from xpnet import nn, train
from xpnet.backend import Backend
from xpnet.serve.writer import Writer


@pytest.fixture(scope="module")
def example():
    """The example as a module."""
    specification = importlib.util.spec_from_file_location("char_gpt", EXAMPLES / "char_gpt.py")
    module = importlib.util.module_from_spec(specification)
    sys.modules["char_gpt"] = module  # its dataclass looks itself up there
    specification.loader.exec_module(module)
    yield module
    del sys.modules["char_gpt"]


def small(example, context):
    """A model of few characters with weights so large that what it writes depends on all that it has read."""
    config = example.Config(layers=2, heads=2, width=16, context=context, batch=4, steps=2, epochs=1)
    model = nn.Model(example.gpt(config, 11), (None,), Backend("float64", 5))
    model.data *= 20
    return model


def test_it_learns_from_its_own_text_and_saves_what_xpnet_serve_opens(tmp_path):
    text = printed("char_gpt", "--save", tmp_path / "text.safetensors")
    writer = Writer(xpnet.load(tmp_path / "text.safetensors", "cpu"), "text")
    answer = writer.go_on("Shall I compare thee to a summer", 0, 1.0, np.random.default_rng(0))
    assert answer["read"] == "Shall I compare thee to a summer"
    assert max(zip(answer["probabilities"], writer.characters, strict=True))[1] in "' "
    losses = [float(loss) for loss in re.findall(r"^step .*validation loss ([\d.]+)", text, re.MULTILINE)]
    assert len(losses) == 3
    assert losses[-1] < min(2.4, losses[0])  # 3.1 by the frequency of the characters alone
    assert len(text.split("\n\n", 1)[1]) > 200


def test_a_folder_that_is_not_there_is_said_before_the_training(tmp_path):
    done = run("char_gpt", "--save", tmp_path / "nowhere" / "text.safetensors")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--save: there is no folder" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--temperature", "nan"], "--temperature must be above 0"),
        (["--length", "-1"], "must not be negative"),
        (["--seed", "-1"], "must not be negative"),
        (["--save", "."], "is a folder"),
    ],
)
def test_bad_options_are_refused_before_the_training(options, message):
    done = run("char_gpt", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_nanogpt_has_as_many_parameters(example):
    """12 width^2 of each block, the embeddings, a scale of each normalisation; and here its shift, and a last layer."""
    model = nn.Model(example.gpt(example.CONFIGS["nano"], 65), (None,), Backend())
    nanogpt = 4 * 12 * 128**2 + (65 + 64) * 128 + 9 * 128
    assert model.n_parameters == nanogpt + 9 * 128 + 65 * 128
    assert model.n_decay == model.n_parameters - 2 * 9 * 128  # all but the normalisations


def test_nanogpt_is_trained_by_the_same_settings(example, monkeypatch, capsys):
    """Without training: what `fit` is given, and that every step has its rate."""
    given = []

    def fit(model, loss, optimizer, training, validation, **options):
        given.append((optimizer, training, validation, options))
        return train.Result([{"train_loss": 0.0, "validation_loss": 1.5}], 1)

    monkeypatch.setattr(example.train, "fit", fit)
    config = example.CONFIGS["nano"]
    model = nn.Model(example.gpt(config, 65), (None,), Backend())
    example.learn(model, config, np.arange(10_000) % 65)
    assert "step 2000: loss 0.000, validation loss 1.500" in capsys.readouterr().out
    optimizer, training, validation, options = given[0]
    assert (optimizer.betas, optimizer.weight_decay, options["clip"], options["batch_size"]) == (
        (0.9, 0.99),
        0.1,
        1,
        12,
    )
    assert training.x.shape[1] == validation.x.shape[1] == 64
    assert sum(len(data) for _, data, _, _ in given) == 2000 * 12
    assert validation.x[0, 0] == 9000 % 65
    rates = [options["schedule"](step) for *_, options in given for step in range(2000 // len(given))]
    assert rates[0] < 2e-5
    assert max(rates) == rates[100] == 1e-3
    assert rates[-1] == pytest.approx(1e-4, rel=1e-3)
    assert (np.diff(rates[:101]) > 0).all()
    assert (np.diff(rates[101:]) < 0).all()
    starts = [data.x.tobytes() for _, data, _, _ in given]
    assert len(set(starts)) == len(starts)


def test_an_interrupted_training_ends(example, monkeypatch, capsys):
    results = [train.Result([{"train_loss": 0.0, "validation_loss": 1.5}], 1), train.Result([], 0, "interrupted")]
    monkeypatch.setattr(example.train, "fit", lambda *_, **__: results.pop(0))
    config = example.CONFIGS["nano"]
    example.learn(nn.Model(example.gpt(config, 65), (None,), Backend()), config, np.arange(10_000) % 65)
    assert capsys.readouterr().out.splitlines()[1:] == ["stopped in the 250 steps after step 250"]


@pytest.mark.parametrize("n", [5, 8, 30])
def test_what_is_written_is_what_whole_passes_would_write(example, n):
    context, begin = 8, [3, 1, 4]
    model = small(example, context)
    written = example.write(model, begin, n, context, temperature=1.0, top_k=1)
    assert len(written) == len(begin) + n
    assert written[:3] == begin
    start = 0  # where the model begins to read: a full context begins again with its later half
    for i in range(len(begin), len(written)):
        if i - start > context:
            start = i - context // 2
        assert written[i] == model.predict(np.array([written[start:i]]))[0, -1].argmax()
    assert len(set(written)) > 3


def test_a_long_beginning_is_cut_to_the_context(example):
    model = small(example, 8)
    begin = list(range(11))
    written = example.write(model, begin, 1, 8, 1.0, 1)
    assert written[-1] == model.predict(np.array([begin[-8:]]))[0, -1].argmax()


def test_draws_follow_the_probabilities(example):
    scores, n = np.log(np.array([0.1, 0.4, 0.2, 0.3])), 4000

    def fractions(temperature, top_k):
        rng = np.random.default_rng(0)
        drawn = [example.draw(scores, temperature, top_k, rng) for _ in range(n)]
        return np.bincount(drawn, minlength=4) / n

    assert np.abs(fractions(1.0, 10) - [0.1, 0.4, 0.2, 0.3]).max() < 0.03
    assert np.abs(fractions(1.0, 2) - [0, 4 / 7, 0, 3 / 7]).max() < 0.03
    assert np.abs(fractions(0.5, 10) - np.array([1, 16, 4, 9]) / 30).max() < 0.03


def test_characters_come_back(example):
    characters = example.Characters("hello, world")
    assert characters.decode(list(characters.encode("dew"))) == "dew"
    with pytest.raises(ValueError, match="has no 'z'"):
        characters.encode("zoo")


@pytest.mark.parametrize(
    ("content", "arguments", "code", "message"),
    [
        (None, [], 1, "No such file"),
        ("too short", [], 1, "a text of 9 characters is too short"),
        ("abc", ["--begin", "\n"], 1, "a text of 3 characters is too short"),
        ("fa\xe7ade " * 99, [], 1, "text.txt is not written in UTF-8"),
        ("ab" * 999, ["--begin", "c"], 1, "the text that was learnt from has no 'c'"),
        ("ab" * 999, ["--temperature", "0"], 2, "--temperature must be above 0"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, content, arguments, code, message):
    path = tmp_path / "text.txt"
    if content:
        path.write_text(content, encoding="latin-1")
    done = run("char_gpt", "--text", path, *(arguments or ["--begin", "t"]))
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
