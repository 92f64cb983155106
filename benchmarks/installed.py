"""How much disk space a package takes together with all that it requires: `python -m benchmarks.installed`.

The sizes come from pip's records of the packages in this environment: nothing is downloaded. xpnet itself is the folder
of this clone, with the requirements of its pyproject.toml. Extras do not count.
"""

from __future__ import annotations

import marshal
import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from pathlib import Path

NAMES = ("xpnet", "scikit-learn", "jax", "torch")
CLONE = Path(__file__).parents[1]


def files(name: str) -> dict[str, list[Path]]:
    """The files of the package and of all that it requires, by package name. Raises `PackageNotFoundError`."""
    found: dict[str, list[Path]] = {}
    waiting = [name]
    if name == "xpnet":
        found["xpnet"] = [path for path in (CLONE / "xpnet").rglob("*") if "__pycache__" not in path.parts]
        waiting = _names(tomllib.loads((CLONE / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"])
    while waiting:
        distribution = metadata.distribution(waiting.pop())
        plain = re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()
        if plain not in found:
            found[plain] = [Path(str(file.locate())) for file in distribution.files or ()]
            waiting += _names(distribution.requires or ())
    return found


def size(paths: Iterable[Path], compiled: bool) -> int:
    """The size in bytes, with or without the compiled files that pip has made, or would make for the clone."""
    there = [path for path in paths if path.is_file() and (compiled or "__pycache__" not in path.parts)]
    ours = [path for path in there if compiled and path.suffix == ".py" and path.is_relative_to(CLONE / "xpnet")]
    return sum(path.stat().st_size for path in there) + sum(map(_compiled_size, ours))


def _compiled_size(source: Path) -> int:
    """The size in bytes of the .pyc file that Python would write: a header, and the code."""
    return 16 + len(marshal.dumps(compile(source.read_bytes(), str(source), "exec")))


def _names(requirements: Iterable[str]) -> list[str]:
    """The names of the packages that are required on this machine, without any extra."""
    from packaging.requirements import Requirement

    parsed = map(Requirement, requirements)
    return [r.name for r in parsed if r.marker is None or r.marker.evaluate({"extra": ""})]


def table() -> str:
    """The packages of `NAMES` that are installed here, as Markdown."""
    lines = [
        "| package | with all that it requires | and with compiled files | the largest of them |",
        "|---|---|---|---|",
    ]
    for name in NAMES:
        try:
            parts = files(name)
        except metadata.PackageNotFoundError:
            continue
        plain = {part: size(paths, compiled=False) for part, paths in parts.items()}
        compiled = sum(size(paths, compiled=True) for paths in parts.values())
        largest = sorted(plain, key=lambda part: -plain[part])[:4]
        shown = ", ".join(f"{part} {plain[part] / 1e6:.0f}" for part in largest)
        lines.append(f"| {name} | {sum(plain.values()) / 1e6:.0f} MB | {compiled / 1e6:.0f} MB | {shown} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")
