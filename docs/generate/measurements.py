"""The pages of what was measured: the README's table, and the records in benchmarks/results as they stand."""

from __future__ import annotations

import re
from pathlib import Path

INDEX = "measurements/index.md"
RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"

INTRODUCTION = """# Measurements

Every number has the command that gives it. The records below are the files of `benchmarks/results/`, as they stand:
each says on which machine it was made.

"""


def results() -> list[str]:
    """The paths of the pages of records."""
    return [f"measurements/{file.name}" for file in sorted(RESULTS.glob("*.md"))]


def pages(root: Path) -> dict[str, str]:
    """Path and text of each page."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Results\n(.*?)(?=^## )", readme, re.DOTALL | re.MULTILINE)
    if section is None:
        raise ValueError("README.md has no section ## Results")
    records = {f"measurements/{file.name}": file.read_text(encoding="utf-8") for file in sorted(RESULTS.glob("*.md"))}
    titles = {path: text.splitlines()[0].lstrip("# ") for path, text in records.items()}
    links = "".join(f"- [{title}]({Path(path).name})\n" for path, title in titles.items())
    return {INDEX: f"{INTRODUCTION}## The main ones\n{section[1]}## The records\n\n{links}", **records}
