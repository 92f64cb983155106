"""The pages of the notebooks: each is run when the manual is built, and shown with what came out.

With XPNET_DOCS_RUN=0 they are shown as they are, for a quick look at the rest of the manual.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "notebooks"
FIRST = ("digits", "by_hand", "gradients", "table")  # the order in which they are read
LIMIT = 300  # seconds for a cell


def sources() -> list[Path]:
    return sorted(FOLDER.glob("*.ipynb"), key=lambda path: FIRST.index(path.stem))


def path_of(source: Path) -> str:
    """Its page in the manual."""
    return f"notebooks/{source.stem}.md"


def title_of(source: Path) -> str:
    return nbformat.read(source, as_version=4).cells[0].source.splitlines()[0].lstrip("# ")


def executed(source: Path) -> Any:
    """The notebook with its outputs, run in a folder of its own on this source tree. An error in a cell is raised."""
    notebook = nbformat.read(source, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=LIMIT, resources={"metadata": {"path": folder}})
        client.execute(env={**os.environ, "PYTHONPATH": str(ROOT)})
    return notebook


def pages() -> dict[str, str | bytes]:
    """Path and content of each page and each of its images."""
    from nbconvert import MarkdownExporter

    run = os.environ.get("XPNET_DOCS_RUN") != "0"
    made: dict[str, str | bytes] = {}
    for source in sources():
        where = {"output_files_dir": f"{source.stem}_files", "unique_key": source.stem}
        notebook = executed(source) if run else nbformat.read(source, as_version=4)
        text, resources = MarkdownExporter().from_notebook_node(notebook, where)
        heading, _, rest = text.strip().partition("\n")
        made[path_of(source)] = f"{heading}\n\nA notebook: [{source.name}]({source.name}).\n{rest}\n"
        made |= {f"notebooks/{name}": content for name, content in resources.get("outputs", {}).items()}
    return made
