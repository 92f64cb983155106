"""The README's code runs as it stands there, and its table leaves nothing out."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from xpnet.verify.cases import public_names

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
ROWS = ("layers", "initialisers", "losses", "optimizers", "schedules")  # of the table of what is in the package


def run(code: str, folder: Path) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_is_left_to_fill_in():
    assert not re.findall(r"\b(?:RATIO|MUTANTS|PHOTOS|EPOCH|IMPORT|SERVE|ENGINES)\b", README.read_text("utf-8"))


def test_thirty_lines_train_a_network(tmp_path):
    printed = run(BLOCKS[0], tmp_path)
    (accuracy,) = re.findall(r"([\d.]+)% of 359 images that it has never seen", printed)
    assert float(accuracy) > 90
    assert (tmp_path / "digits.safetensors").exists()


def test_a_layer_of_ones_own_passes_the_check(tmp_path):
    assert re.fullmatch(r"\d{2,} checks ok, 0 failed\n", run(BLOCKS[1], tmp_path))


def test_the_table_names_what_is_public_and_nothing_else():
    table = dict(re.findall(r"^\| (\w+) \| (.*) \|$", README.read_text("utf-8"), re.MULTILINE))
    named = [name for row in ROWS for name in re.findall(r"`(\w+)`", table[row])]
    assert sorted(named) == sorted(public_names())


@pytest.mark.parametrize(
    "path", re.findall(r"`((?:examples|benchmarks|xpnet|docker|tests)/[\w./]*\w)`", README.read_text("utf-8"))
)
def test_every_file_that_is_named_is_there(path):
    assert (README.parent / path).exists()
