"""The source of mutants: which changes it makes, and that each reaches the code that is in use."""

from __future__ import annotations

import ast
import asyncio
import importlib
import sys
from pathlib import Path

import pytest

MODULE = '''
"""A docstring."""
from dataclasses import dataclass
__all__ = ["area"]
SIDE = 3
@dataclass
class Box:
    width: int = 2
    kind = "plain"
    @property
    def area(self):
        return self.width * SIDE
    def grow(self, by: int = 1):
        if by < 0:
            raise ValueError("by must be 0 or more")
        self.width += by
    def __repr__(self):
        return "Box" + "!"
def largest(boxes):
    return max(boxes, key=lambda box: box.width)
USUAL = Box(7)
BOXES = {"usual": USUAL, "wide": lambda: Box(50)}
async def is_flat(box):
    return not box.area
@dataclass(slots=True)
class Lid:
    fits: Box
LID = Lid(USUAL)
'''


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    return importlib.import_module("mutation_edits"), importlib.import_module("mutation_graft")


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "boxes_to_mutate.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("boxes_to_mutate")
    del sys.modules["boxes_to_mutate"]


def planted(tools, change):
    edits, _ = tools
    tree = ast.parse(MODULE)
    [edit] = [edit for edit in edits.edits(tree) if str(edit) == change]
    edit.apply()
    return tree


def test_every_node_is_changed_and_no_text(tools):
    found = [(str(edit), edit.where, edit.lines) for edit in tools[0].edits(ast.parse(MODULE), lines=(1, 99))]
    assert found == [
        ("`3` -> `4`", "", (1, 99)),
        ("`2` -> `3`", "Box", (7, 18)),
        ("`'plain'` -> `'plain_'`", "Box", (7, 18)),
        ("`self.width * SIDE` -> `self.width / SIDE`", "Box.area", (12, 12)),
        ("`1` -> `2`", "Box.grow", (13, 16)),
        ("`by < 0` -> `by <= 0`", "Box.grow", (14, 14)),
        ("`0` -> `1`", "Box.grow", (14, 14)),
        ("`raise ValueError('by must be 0 or more')` -> deleted", "Box.grow", (15, 15)),
        ("`self.width += by` -> `self.width -= by`", "Box.grow", (16, 16)),
        ("`self.width += by` -> deleted", "Box.grow", (16, 16)),
        ("`max(boxes, key=lambda box: box.width)` -> `max(boxes)`", "largest", (20, 20)),
        ("`max` -> `min`", "largest", (20, 20)),
        ("`7` -> `8`", "", (1, 99)),
        ("`'usual'` -> `'usual_'`", "", (1, 99)),
        ("`'wide'` -> `'wide_'`", "", (1, 99)),
        ("`50` -> `51`", "", (1, 99)),
        ("`not box.area` -> `box.area`", "is_flat", (24, 24)),
    ]


@pytest.mark.parametrize(
    ("change", "seen"),
    [
        ("`3` -> `4`", lambda m, box: box.area == 8),
        ("`2` -> `3`", lambda m, box: m.Box().width == 3),
        ("`'plain'` -> `'plain_'`", lambda m, box: box.kind == "plain_"),
        ("`self.width * SIDE` -> `self.width / SIDE`", lambda m, box: box.area == 2 / 3),
        ("`1` -> `2`", lambda m, box: (box.grow(), box.width == 4)[1]),
        ("`raise ValueError('by must be 0 or more')` -> deleted", lambda m, box: box.grow(-1) is None),
        ("`self.width += by` -> deleted", lambda m, box: (box.grow(5), box.width == 2)[1]),
        ("`max` -> `min`", lambda m, box: m.largest([m.Box(1), m.Box(9)]).width == 1),
        ("`7` -> `8`", lambda m, box: m.USUAL is m.BOXES["usual"] and m.USUAL.width == 8),
        ("`'usual'` -> `'usual_'`", lambda m, box: m.BOXES["usual_"] is m.USUAL and list(m.BOXES)[1] == "wide"),
        ("`50` -> `51`", lambda m, box: m.BOXES["wide"]().width == 51),
        ("`not box.area` -> `box.area`", lambda m, box: asyncio.run(m.is_flat(box)) == 6),
    ],
)
def test_a_change_reaches_objects_that_were_there_before(tools, module, change, seen):
    box = module.Box()
    tools[1].graft(module, planted(tools, change))
    assert seen(module, box)
    assert sys.modules["boxes_to_mutate"] is module
    assert type(box) is module.Box


def test_a_constant_changes_wherever_it_was_imported(tools, module, monkeypatch):
    monkeypatch.setattr(sys.modules[__name__], "SIDE", module.SIDE, raising=False)
    tools[1].graft(module, planted(tools, "`3` -> `4`"))
    assert sys.modules[__name__].SIDE == 4


def test_what_cannot_be_imported_and_what_changes_nothing_are_no_survivors(tools, module):
    with pytest.raises(tools[1].FailsOnImport):
        tools[1].graft(module, ast.parse(MODULE + "\n1 / 0"))
    with pytest.raises(tools[1].NotGrafted):
        tools[1].graft(module, ast.parse(MODULE))
    assert module.Box().area == 6


def test_every_equivalent_mutant_in_the_list_still_exists(tools):
    """A row that stands for nothing might one day excuse another mutant."""
    package = Path(__file__).parents[1] / "xpnet"
    for file, rows in importlib.import_module("mutation_equivalent").EQUIVALENT.items():
        there = {(edit.where, str(edit)) for edit in tools[0].edits(ast.parse((package / file).read_text("utf-8")))}
        assert rows.keys() <= there, file
