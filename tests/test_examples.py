"""Every file in examples/ runs, and what it prints is right."""

import doctest
import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
QUICK = {name: ["digits"] for name in ("mnist_mlp", "mnist_cnn", "cifar_resnet")}  # embedded, not downloaded
QUICK |= {"tutorial_mlp": ["--quick"]}


def run(name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The example in a process of its own, on the CPU; warnings are errors there too."""
    command = [sys.executable, "-W", "error", EXAMPLES / f"{name}.py", *map(str, arguments)]
    env = {**os.environ, "XPNET_DEVICE": "cpu", "OPENBLAS_NUM_THREADS": "1", "PYTHONIOENCODING": "utf-8", **environment}
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env=env, timeout=100)


@functools.cache
def printed(name: str, *arguments: object) -> str:
    done = run(name, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def accuracy(text: str) -> float:
    """The last fraction of right answers in `text`."""
    return float(re.findall(r"([\d.]+)%", text)[-1]) / 100


TESTED = {  # by tests of their own, below or in test_char_gpt.py
    "mnist_mlp", "mnist_cnn", "cifar_resnet", "your_own_layer", "lstm_text", "scalar_network", "tutorial_mlp",
    "char_gpt",
}  # fmt: skip


@pytest.mark.parametrize("name", sorted({path.stem for path in EXAMPLES.glob("*.py")} - TESTED))
def test_it_runs_and_says_something(name):
    assert printed(name).strip()


def test_mnist_mlp_learns():
    text = printed("mnist_mlp", *QUICK["mnist_mlp"])
    assert "18,986 parameters, on cpu" in text
    assert accuracy(text.splitlines()[-1]) > 0.93
    assert len((EXAMPLES / "mnist_mlp.py").read_text(encoding="utf-8").splitlines()) <= 40


@pytest.mark.parametrize(("name", "parameters"), [("mnist_cnn", "28,218"), ("cifar_resnet", "19,810")])
def test_networks_of_convolutions_learn(name, parameters):
    text = printed(name, *QUICK[name])
    assert re.search(rf"^ +all +{parameters} ", text, re.MULTILINE)
    assert "a training step, without the optimizer: " in text
    assert accuracy(text.splitlines()[-1]) > 0.8


def test_customers_of_a_table_are_told_apart():
    lines = printed("customers").splitlines()
    assert accuracy(lines[1]) > 0.93
    assert lines[2].startswith("aged 30, of Rome: churn yes")


def test_a_layer_of_ones_own_is_checked_and_learns():
    text = printed("your_own_layer")
    assert re.search(r"^Swish\(\) on 4 samples(.|\n)*\n138 checks ok, 0 failed\n\nMistaken\(\)", text)
    assert "FAILED  gradients (4 of 4 settings" in text  # the planted mistake
    assert accuracy(text) > 0.9


def test_lstm_text_learns_and_writes():
    text = printed("lstm_text")
    losses = [float(loss) for loss in re.findall(r"on the last tenth ([\d.]+)", text)]
    chance = float(re.search(r"by chance: ([\d.]+)", text)[1])
    assert min(losses) < 0.7 * chance
    kept = int(re.search(r"kept: epoch (\d+)", text)[1])
    assert losses[kept - 1] == min(losses)
    written = text.split("\n\n", 1)[1]
    assert written.startswith("Alice was ")
    assert len(written) == 10 + 300 + 1
    assert len(set(written.split())) > 20  # no single word again and again


def test_lstm_text_reads_a_text_of_ones_own(tmp_path):
    (tmp_path / "mine.txt").write_text("abcd" * 400, encoding="utf-8")
    written = printed("lstm_text", tmp_path / "mine.txt", "--temperature", 0.1).split("\n\n", 1)[1]
    assert written.count("abcd") > 70


@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, [], "cannot read"),
        (b"\xff\xfe\xff", [], "it is not written in UTF-8"),
        (b"too short", [], "has 9 characters: at least"),
        (b"", ["--temperature", "0"], "the temperature must be above 0"),
    ],
)
def test_lstm_text_says_what_is_wrong(content, options, message, tmp_path):
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content)
    done = run("lstm_text", tmp_path / "mine.txt", *options)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file or directory"),
        (b"\xff\xfe\xff", "mine.txt is not written in UTF-8\n"),
        (b"too short", "the text needs at least 100 characters"),
        (b"a" * 200, "two different ones"),
    ],
)
def test_next_character_says_what_is_wrong(content, message, tmp_path):
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content)
    done = run("next_character", tmp_path / "mine.txt")
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_scalar_network_learns():
    text = printed("scalar_network")
    assert "softmax of 2.5, 1.0, 0.8: 0.7113, 0.1587, 0.1299" in text
    assert "566,666,666.67" in text
    untrained, early, late = re.findall(r"([\d.]+)%(?: of 359 test digits)? right", text)
    assert float(untrained) < 30 < 60 < float(early) < float(late)
    assert float(late) > 90


def test_scalar_network_is_the_same_as_the_library():
    text = printed("scalar_network")
    equal = re.findall(r"^   .*: equal to (\S+)", text.split("\n5. ")[1].split("\n6. ")[0], re.MULTILINE)
    gradients = [f"layers.{i}.{name}.grad" for i in (0, 2) for name in "Wb"]
    step = ["what", "model.forward(x)", "losses.SoftmaxCrossEntropy", *gradients, "optim.SGD(model,"]
    assert equal == step
    assert "8 x 10 outputs, noted by a hook" in text


def test_scalar_network_reads_the_published_weights():
    folder = Path(os.environ.get("XPNET_DATA", ""))
    if not ((folder / "seed_weights" / "t1.wt").is_file() and (folder / "mnist").is_dir()):
        pytest.skip("set XPNET_DATA to a folder with seed_weights/t1.wt and mnist/")
    text = printed("scalar_network").split("\n6. ")[1]
    assert "input(*) -> hidden(10x728) -> output(10x10)" in text
    assert 0.65 < accuracy(text) < 0.8
    assert "the 500 answers: equal to those of the library" in text


def test_scalar_network_says_what_is_wrong(tmp_path):
    done = run("scalar_network", tmp_path / "none.wt")
    assert done.returncode == 2
    assert "there is no file" in done.stderr
    (tmp_path / "broken.wt").write_text("[")
    done = run("scalar_network", tmp_path / "broken.wt")
    assert done.returncode == 1
    assert "broken.wt is not a weights file" in done.stderr
    assert "Traceback" not in done.stderr


# The tutorial's network ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tutorial():
    """The example as a module."""
    specification = importlib.util.spec_from_file_location("tutorial_mlp", EXAMPLES / "tutorial_mlp.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_tutorial_by_hand_and_by_the_library():
    text = printed("tutorial_mlp", *QUICK["tutorial_mlp"])
    by_hand = re.findall(r"^   (\w+).*: equal to ", text, re.MULTILINE)
    steps = "initialize_parameters linear_forward relu sigmoid model_forward one_hot compute_cost its linear_backward"
    assert by_hand == ["softmax", "the", *steps.split(), "update_parameters", "mini_batches", "all", "accuracy"]
    assert "[0.7113 0.1587 0.1299]" in text
    assert "566,666,666.67" in text
    assert accuracy(re.search(r"^   test accuracy .*", text, re.MULTILINE)[0]) > 0.93
    assert "a drawn 4: read as 4 (" in text


def test_tutorial_notices_a_difference(tutorial):
    with pytest.raises(AssertionError, match="some step"):
        tutorial.same("some step", [1.0, 2.0], [1.0, 2.0 + 1e-9], "what it is not")


def test_tutorial_draws_plots_and_reads_images_of_ones_own(tutorial, tmp_path):
    mine, broken, out = tmp_path / "mine.png", tmp_path / "broken.png", tmp_path / "new" / "images"
    mine.write_bytes(tutorial.a_four())
    broken.write_bytes(b"no image")
    text = printed("tutorial_mlp", "--quick", "--out", out, mine, broken)
    assert f"{mine}: read as 4" in text
    assert "broken.png: not an image file (PNG, JPEG" in text
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(files) == ["confusion.png", "four.png", "learning-curves.png", "mistakes.png", "samples.png"]
    assert all(content.startswith(b"\x89PNG") for content in files.values())


def test_tutorial_says_what_is_wrong(tmp_path):
    done = run("tutorial_mlp", "--quick", tmp_path / "none.png")
    assert done.returncode == 2
    assert "no image at" in done.stderr
    (tmp_path / "file").write_text("a file")
    for option, value, message in (
        ("--seed", "-1", "must not be negative"),
        ("--out", tmp_path / "file", "is no folder"),
    ):
        done = run("tutorial_mlp", "--quick", option, value)
        assert (done.returncode, done.stdout) == (2, "")
        assert message in done.stderr
    (tmp_path / "full").write_text("a file")
    done = run("tutorial_mlp", XPNET_DATA=str(tmp_path), XPNET_CACHE=str(tmp_path / "full"))
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "With --quick, no MNIST is needed."


def test_tutorial_doctests(tutorial):
    """The worked numbers of softmax and of the mean squared error."""
    results = doctest.testmod(tutorial)
    assert (results.failed, results.attempted) == (0, 2)
