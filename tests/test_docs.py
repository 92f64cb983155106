"""The manual: its code runs, what it names exists, and every layer has a page that is made from its code."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from docs.generate import api, layers, measurements
from xpnet import nn
from xpnet.verify.cases import public_names

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
WRITTEN = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))
ROWS = ("layers", "initialisers", "losses", "optimizers", "schedules")  # of the table of what is in the package
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.ipynb"))
NEEDS = {"cookbook/onnx.md": "onnx", "cookbook/sklearn.md": "sklearn", "cookbook/pytorch.md": "h5py"}


@pytest.fixture(scope="module")
def generated() -> dict[str, str]:
    return {**layers.pages(), api.PAGE: api.page(), **measurements.pages()}


def text_of(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def code_of(page: str) -> str:
    """Its Python blocks as one program, each at the lines at which it stands."""
    inside, lines = False, []
    for line in text_of(page).splitlines():
        fence = line.startswith("```")
        inside = line == "```python" if fence else inside
        lines.append(line if inside and not fence else "")
    return "\n".join(lines)


@pytest.mark.parametrize("page", [page for page in WRITTEN if code_of(page).strip()])
def test_the_code_runs(page, tmp_path, monkeypatch):
    if page in NEEDS:
        pytest.importorskip(NEEDS[page], reason=f"{NEEDS[page]} is not installed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(nn.Layer, "known", dict(nn.Layer.known))  # layers of a page are not those of other tests
    exec(compile(code_of(page), str(DOCS / page), "exec"), {"__name__": f"docs.{Path(page).stem}"})


def test_no_page_meets_the_checkpoint_of_another():
    """`fit` refuses a checkpoint that exists: whoever goes through several pages in one folder must not meet that."""
    written = [(name, page) for page in WRITTEN for name in set(re.findall(r'checkpoint="(.+?)"', code_of(page)))]
    assert len({name for name, _ in written}) == len(written) >= 2, written


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebook_runs(notebook):
    for needed in ("nbclient", "ipykernel", "pandas", "onnx", "sklearn", "matplotlib"):
        pytest.importorskip(needed, reason=f'{needed} is not installed: pip install -e ".[notebooks]"')
    from docs.generate import notebooks

    run = notebooks.executed(notebook)
    assert any("text/html" in output.get("data", {}) for cell in run.cells for output in cell.get("outputs", []))
    assert not [output for cell in run.cells for output in cell.get("outputs", []) if output.get("name") == "stderr"]


def test_notebooks_are_kept_without_what_came_out_and_end_with_assertions():
    assert [path.stem for path in NOTEBOOKS] == ["by_hand", "digits", "gradients", "table"]
    for path in NOTEBOOKS:
        cells = [cell for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells), path
        assert "assert" in "".join(cells[-1]["source"]), path


def test_no_block_hides_from_the_test():
    """Only ```python and ```sh open a block, at the beginning of a line."""
    for page in WRITTEN:
        fences = [line for line in text_of(page).splitlines() if "```" in line]
        assert set(fences[::2]) <= {"```python", "```sh"}, page
        assert set(fences[1::2]) <= {"```"}, page


# Pages ----------------------------------------------------------------------------------------------------------


def test_every_layer_has_a_page(generated):
    public = {name for name in public_names() if hasattr(nn, name)}
    assert set(layers.names()) == public
    for name in public:
        page = generated[f"layers/{name.lower()}.md"]
        assert page.startswith(f"# {name}\n")
        assert f"({name.lower()}.md)" in generated[layers.INDEX]


def test_a_page_has_the_docstring_the_code_and_every_row(generated):
    page = generated["layers/linear.md"]
    source = (ROOT / "xpnet/nn/linear.py").read_text("utf-8")
    assert "dW = X^T dY; db_j = sum_i dY_ij; and dX = dY W^T" in page
    backward = source[source.index("        def backward") :].strip("\n")
    assert backward in page
    start = source[: source.index("class Linear")].count("\n") + 1
    assert f'linenums="{start}"' in page
    for row in ("vectors", "no bias", "one to one", "rows of 3-D inputs", "rows of 4-D inputs", "wide"):
        assert re.search(rf"^\| {row} \| .* \|$", page, re.MULTILINE)
    wide = re.search(r"^\| wide \| .*$", page, re.MULTILINE)[0]
    assert re.fullmatch(r"\| wide \| \(129,\), evaluation \| \S+ \(allowed \S+\) \| - \| - \| yes \|", wide)


def test_a_page_has_what_its_code_uses(generated):
    assert "def normalised_dx(" in generated["layers/layernorm.md"]
    assert "def normalised_dx(" not in generated["layers/batchnorm.md"]
    assert not [page for page, text in generated.items() if "xpnet/arguments.py" in text]  # checks of what is given


def test_paragraphs_are_joined_and_formulas_are_not():
    kept = "    y = x W\n      + b\n\n| a | b |\n|---|---|\n\n- one\n  more"
    assert layers.unfilled(f"One\nparagraph.\n\n{kept}") == f"One paragraph.\n\n{kept}"


def test_a_layer_without_a_row_has_no_page(monkeypatch):
    monkeypatch.setattr(layers, "LAYERS", [case for case in layers.LAYERS if case.of != "ReLU"])
    with pytest.raises(ValueError, match="ReLU has no row"):
        layers.page("ReLU")


def test_a_witness_that_disagrees_stops_the_page(monkeypatch):
    monkeypatch.setattr(layers, "gradient_error", lambda subject, values: (1.0, 0.5, ""))
    with pytest.raises(AssertionError, match="a witness disagrees"):
        layers.page("ReLU")


def test_the_drawing_is_of_the_shapes_of_a_run(generated):
    svg = re.search(r"<svg.*?</svg>", generated["layers/linear.md"])[0]
    root = ElementTree.fromstring(svg)
    texts = [element.text for element in root.iter("text") if element.text]
    assert texts == ["x (5, 7)", "→", "Linear", "W (7, 4)", "b (4,)", "→", "y (5, 4)"]
    assert root.get("aria-label") == "x (5, 7) through Linear gives y (5, 4)"
    grids = [(int(r.get("width")) // 13, int(r.get("height")) // 13) for r in root.iter("rect")]
    assert grids == [(7, 1), (4, 7), (4, 1), (4, 1)]


def test_every_drawing_is_an_image_of_its_own(generated):
    drawings = [svg for text in generated.values() for svg in re.findall(r"<svg.*?</svg>", text)]
    assert len(drawings) == len(layers.names())
    for svg in drawings:
        ElementTree.fromstring(svg)


def test_the_records_are_those_of_the_files(generated):
    assert generated["measurements/accuracy.md"] == (ROOT / "benchmarks/results/accuracy.md").read_text("utf-8")
    assert measurements.pages().keys() == {f"measurements/{path.name}" for path in measurements.RESULTS.glob("*.md")}


def test_the_table_names_what_is_public_and_nothing_else():
    table = dict(re.findall(r"^\| (\w+) \| (.*) \|$", text_of("contents.md"), re.MULTILINE))
    named = [name for row in ROWS for name in re.findall(r"`(\w+)`", table[row])]
    assert sorted(named) == sorted(public_names())


def test_every_number_has_its_command():
    main = text_of("results.md").split("three engines")[0]
    rows = re.findall(r"^\| (?!what |-)(.*) \| (.*) \| (.*) \|$", main, re.MULTILINE)
    assert len(rows) > 15
    for what, result, command in rows:
        assert re.search(r"\d|answered", result), what
        assert re.match(r"`[^`]+`|the same$", command), what


def test_the_page_on_gpus_says_what_the_records_say():
    """A record of `make gpu-check` makes this page, and what others say of GPUs, a matter to be written anew."""
    recorded = any((ROOT / "benchmarks/results").glob("gpu-*"))
    assert recorded != ("has not been run on a GPU yet" in text_of("gpu.md"))


# Links and files ------------------------------------------------------------------------------------------------


def slug(heading: str) -> str:
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_links_lead_somewhere(generated):
    pages = {**{page: text_of(page) for page in WRITTEN}, **generated}
    anchors = {page: {slug(h) for h in re.findall(r"^#+ (.*)$", text, re.MULTILINE)} for page, text in pages.items()}
    pages |= {f"notebooks/{path.stem}.md": "" for path in NOTEBOOKS}
    for page in [*WRITTEN, layers.INDEX, api.PAGE]:
        for link in re.findall(r"\]\(([^)\s]+)\)", pages[page]):
            assert not link.startswith(("http", "/")), f"{page}: {link} leads out of the manual"
            target, _, anchor = link.partition("#")
            found = (ROOT / page).parent.joinpath(target).resolve().relative_to(ROOT).as_posix() if target else page
            assert found in pages or (DOCS / found).is_file(), f"{page}: {link}"
            assert not anchor or anchor in anchors[found], f"{page}: {link}"


def test_files_that_are_named_are_there(generated):
    pattern = r"\b((?:examples|benchmarks|xpnet|tests|docker)/[\w./-]*\w)"
    of_layers = {page: text for page, text in generated.items() if page.startswith("layers/")}
    for page, text in {**{page: text_of(page) for page in WRITTEN}, **of_layers}.items():
        for path in re.findall(pattern, text):
            assert (ROOT / path).exists(), f"{page}: {path}"


def test_every_page_is_in_the_navigation():
    listed = set(re.findall(r"[\w/-]+\.md$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE))
    assert listed == set(WRITTEN)


# The site -------------------------------------------------------------------------------------------------------


def test_the_manual_is_built_and_loads_nothing_from_other_sites(tmp_path):
    pytest.importorskip("material", reason='mkdocs-material is not installed: pip install -e ".[docs]"')
    import subprocess
    import sys

    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    environment = {**os.environ, "XPNET_DOCS_RUN": "0"}  # the notebooks have been run by a test of their own
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > len(layers.names()) + len(WRITTEN)
    for page in pages:
        tags = re.findall(r"<(?:link|script|img|iframe|source)\b[^>]*>", page.read_text("utf-8"))
        assert not [tag for tag in tags if re.search(r"(?:src|href)=.?(?:https?:)?//", tag) and "canonical" not in tag]
