"""The pages of the records of what was measured: the files of benchmarks/results, as they stand."""

from __future__ import annotations

from pathlib import Path

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def pages() -> dict[str, str]:
    """Path and text of each page."""
    return {f"measurements/{file.name}": file.read_text(encoding="utf-8") for file in sorted(RESULTS.glob("*.md"))}
