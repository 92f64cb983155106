"""The README is short, its code runs as it stands there, and what it shows and links to is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from docs.generate import images

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_it_is_short():
    assert len(README.splitlines()) <= 120


def test_thirty_lines_train_a_network(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (accuracy,) = re.findall(r"([\d.]+)% of 359 images that it has never seen", done.stdout)
    assert float(accuracy) > 90
    assert (tmp_path / "digits.safetensors").exists()


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)\s]+)\)", README))
def test_links_lead_to_files_of_the_repository(link):
    """Where this stands is not known here, so links are relative to the README."""
    path, _, heading = link.partition("#")
    assert (ROOT / path).is_file()
    if heading:
        headings = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
        assert heading in [title.lower().replace(" ", "-") for title in headings]


def test_every_page_of_the_manual_that_is_no_recipe_is_linked():
    written = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")}
    assert written <= {link.partition("#")[0] for link in re.findall(r"\]\(([^)\s]+)\)", README)}


def test_the_images_are_those_that_are_made_and_small():
    shown = re.findall(r"!\[(.*?)\]\((.*?)\)", README)
    assert [ROOT / path for _, path in shown] == [images.PAGE, images.PARITY]
    assert all(len(words) > 40 for words, _ in shown)  # who does not see them is told what they show
    assert sum((ROOT / path).stat().st_size for _, path in shown) <= images.MOST_BYTES
    for path, size in images.SIZES.items():
        with Image.open(path) as image:
            image.load()
            assert image.size == size
            assert sum(image.convert("L").histogram()[:64]) > 2000  # something is written on it
