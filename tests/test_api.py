"""The public names and their signatures are those that docs/api.txt lists, and no others."""

from __future__ import annotations

import difflib
import re

import pytest

from docs.generate import api

for package in ("matplotlib", "onnx", "sklearn"):
    pytest.importorskip(package, reason=f'{package} is not installed: pip install -e ".[dev]"')

UPDATE = """
The public names differ from docs/api.txt (- listed, + in the code).
If that is meant: python -m docs.generate.api, and a line in CHANGELOG.md. A name or a parameter that users may have
in their code does not go at once: see "Public names" in CONTRIBUTING.md.
"""


@pytest.fixture(scope="module")
def listed() -> str:
    return api.LIST.read_text(encoding="utf-8")


def test_the_list_is_that_of_the_code(listed):
    changes = difflib.unified_diff(listed.splitlines(), api.listing().splitlines(), "docs/api.txt", "xpnet", n=0)
    changed = "\n".join(changes)
    assert not changed, f"{UPDATE}\n{changed}"


def test_the_list_says_the_same_on_every_machine(listed):
    assert not re.search(r"0x[0-9a-f]|<(?!factory>)|=\S*[/\\]", listed)


@pytest.mark.parametrize(
    "line",
    [
        "    load: xpnet.nn.load",
        "    class Linear(n_out, n_in=None, bias=True, init=he_normal) of Layer",
        "    class Huber(delta=1.0, reduction='mean') of TermLoss",
        "    class ShapeError(message, layer=None, path='') of ValueError",
        "        .forward(x, backend)",
        "        .n_parameters",
        "    class BackendError of RuntimeError",
    ],
)
def test_the_list_has_names_arguments_defaults_bases_and_methods(listed, line):
    assert line in listed.splitlines()


def test_a_class_shows_what_it_adds_and_what_its_hidden_bases_add():
    from xpnet import nn

    class _Hidden(nn.Layer):
        def shown(self): ...

    class Seen(_Hidden):
        def build(self, shape): ...

        def forward(self, x, backend, more=None): ...

        def _own(self): ...

    for kind in (_Hidden, Seen):
        kind.__module__ = "xpnet.nn"
        for function in vars(kind).values():
            if callable(function):
                function.__module__ = "xpnet.nn"
    assert api.described("xpnet.nn", "Seen", Seen) == [
        "class Seen of Layer",
        "    .forward(x, backend, more=None)",
        "    .shown()",
    ]


def test_the_page_is_made_from_the_list(listed):
    page = api.page()
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == list(api.PARTS)
    blocks = "\n".join(re.findall(r"```text\n(.*?)```", page, re.DOTALL)).split()
    assert blocks == [word for part in listed.split("\n\n")[1:] for word in part.split("\n", 1)[1].split()]
    assert "## xpnet.optim\n\nOptimizers" in page
