"""The list of planted mistakes fits the code: each has its place, once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
from mutant_list import MUTANTS  # noqa: E402

ROWS = [(file, *mistake) for file, mistakes in MUTANTS.items() for mistake in mistakes]


@pytest.mark.parametrize(("file", "what", "old", "new"), ROWS, ids=[row[1] for row in ROWS])
def test_every_planted_mistake_has_its_place(file, what, old, new):
    assert (ROOT / "xpnet" / file).read_text(encoding="utf-8").count(old) == 1, what
    assert old != new


def test_there_are_enough_of_them():
    assert len(ROWS) >= 40
