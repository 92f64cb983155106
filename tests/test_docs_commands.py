"""The commands of the manual and the README: run as they stand there, on little data, or excused by name."""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import pytest
import typer
from command_line import blank, call, write_folder
from PIL import Image, ImageDraw

from xpnet.cli.app import app
from xpnet.data import datasets, read_idx

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

# What is said at the end of a command so that it is soon done.
SHORTER = {"train": ["--epochs", "1", "--quiet"], "bench": ["--seconds", "0.01"]}
SMALL = ["--hidden", "16", *SHORTER["train"]]
NEEDS = {"--tensorboard": "tensorboardX", "xpnet export": "onnx", ".csv": "pandas"}

EXCUSED = {
    "xpnet serve": "it serves until Ctrl-C: tests/test_serve.py",
    "xpnet train --workers 2": "it becomes mpiexec: tests/test_mpi.py",
    "mpiexec -n 8 xpnet train": "eight processes: tests/test_mpi.py trains in two",
    "xpnet train --device cuda --precision bfloat16": "it needs a GPU: tests/test_precision.py has the strict device",
    "xpnet parity runs/mnist-1/model.safetensors --precision bfloat16": "ten seconds: tests/test_precision.py",
    "tensorboard --logdir runs": "a package of its own, which shows what tests/test_tensorboard.py reads back",
    "python -m venv .venv": "it makes the environment that the tests run in",
    ". .venv/bin/activate": "it is the shell's",
    ".venv/bin/pytest -n auto": "the tests themselves",
}


def commands_of(page: Path) -> list[str]:
    """The lines of its ```sh blocks, without their comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    split = (shlex.split(line, comments=True) for block in blocks for line in block.splitlines())
    return [" ".join(words) for words in split if words]


COMMANDS = sorted({command.replace(".venv/bin/xpnet", "xpnet") for page in PAGES for command in commands_of(page)})
RUN = [command for command in COMMANDS if command.startswith("xpnet ") and command not in EXCUSED]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder in which all files that the manual speaks of are there, small ones."""
    folder = tmp_path_factory.mktemp("manual")
    write_folder(folder / "mnist", (28, 28), n=120, classes=10)
    rng = np.random.default_rng(0)
    rows = [f"{rng.integers(18, 80)},{rng.choice(['Rome', 'Oslo'])},{rng.choice(['yes', 'no'])}" for _ in range(80)]
    (folder / "customers.csv").write_text("\n".join(["age,city,churn", *rows]))
    (folder / "new.csv").write_text("age,city\n30,Rome\n70,Oslo\n")
    photo = Image.new("L", (200, 260), 235)
    ImageDraw.Draw(photo).line([(60, 50), (140, 50), (90, 120), (150, 180), (60, 210)], 20, 14, joint="curve")
    photo.save(folder / "photo.jpg")
    photo.save(folder / "new.jpg")
    for part in ("plants", "other-plants"):
        for number, name in enumerate(["leaf", "rose"]):
            (folder / part / name).mkdir(parents=True)
            for i in range(5):
                Image.new("RGB", (20 + i, 16), (90 * number, 90, 20 * i)).save(folder / part / name / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        small(patch, folder)
        call("train", "--data", "mnist", *SMALL)
        call("train", "--data", "plants", "--size", "8", *SMALL)
        if not missing("customers.csv"):
            call("train", "--data", "customers.csv", "--target", "churn", *SMALL)
        call("train", "--out", "run", *SMALL)
    os.rename(folder / "run" / "model.safetensors", folder / "digits.safetensors")
    return folder


def small(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """In that folder, on the CPU, with 120 images in the place of MNIST's, and images of results not rendered."""
    from xpnet.train.plots import Figure

    def save(figure, file, **options):
        (real if options.get("format") == "svg" else blank)(figure, file, **options)

    real = Figure.savefig
    patch.setattr(Figure, "savefig", save)
    patch.chdir(folder)
    patch.setenv("XPNET_DEVICE", "cpu")
    patch.setattr(datasets, "_mnist_array", lambda name: read_idx(folder / "mnist" / name))


def missing(command: str) -> list[str]:
    """The packages of extras that the command needs and that are not installed."""
    from importlib.util import find_spec

    return [package for words, package in NEEDS.items() if words in command and find_spec(package) is None]


@pytest.mark.parametrize("command", RUN)
def test_the_command_runs(command, place, monkeypatch):
    if missing(command):
        pytest.skip(f'{missing(command)[0]} is not installed: pip install -e ".[dev]"')
    small(monkeypatch, place)
    _, name, *arguments = shlex.split(command)
    call(name, *arguments, *(SHORTER.get(name, []) if "--resume" not in arguments else ["--quiet"]))


def test_what_is_installed_made_and_run_from_files_is_there():
    """Of the commands that are not xpnet's: the extras, the targets of make, the files of Python."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    for command in COMMANDS:
        if command in RUN or command in EXCUSED:
            continue
        words = command.split()
        if words[0] == "make":
            assert words[1] in targets, command
        elif words[0] == "python":
            assert (ROOT / words[1]).is_file(), command
        else:
            named = re.fullmatch(r"(?:\.venv/bin/)?pip install -e \.(?:\[([\w,]+)\])?", command)
            assert named, f"{command}: no test runs it, and EXCUSED does not say why"
            assert set((named[1] or "dev").split(",")) <= set(extras), command


def test_excused_commands_still_occur_in_the_manual():
    assert set(EXCUSED) <= set(COMMANDS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_in_the_text_have_the_options_that_they_name(page):
    known = typer.main.get_command(app).commands
    for name, rest in re.findall(r"`(?:time )?xpnet ([a-z]\w*)([^`]*)`", page.read_text(encoding="utf-8")):
        assert name in known, f"xpnet {name}"
        options = {
            option for parameter in known[name].params for option in (*parameter.opts, *parameter.secondary_opts)
        }
        assert set(re.findall(r"(?<!\S)--?[a-z][\w-]*", rest)) <= options, f"xpnet {name}{rest}"
