"""Do the tests notice a mistake anywhere? Changes one node of the code at a time, and runs the tests that run it.

    python benchmarks/mutation.py record [TESTS ...]    which test runs which line; again when code or tests changed
    python benchmarks/mutation.py run [PACKAGES ...] [--sample 100] [--seed 1] [--budget 20] [--again]
    python benchmarks/mutation.py report [SEEDS ...]    the table and the survivors, as Markdown

`run` draws mutants of each package at random (`mutation_edits.py` says which there are) and writes what became of them
to build/mutation/; `--again` runs only those of the sample that were not caught the last time. Of the tests that run
a mutant's line, the fastest come first, and at most `--budget` seconds of them, so a survivor may still be caught by
the whole suite. A test with no end in five times its time has failed. Tests that start processes see no mutant.

It needs `coverage` beside the `dev` extra, and a system that forks.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import random
import sys
import time
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from mutation_edits import edits
from mutation_equivalent import EQUIVALENT
from mutation_record import FOLDER, ROOT, Record, record
from mutation_run import CAUGHT, NOT_GRAFTED, UNSOUND, Mutant, run_all

PACKAGES = ["nn", "losses", "optim", "schedules", "backend", "train", "verify", "drawings"]
PACKAGES += ["data", "parallel", "weights", "onnx", "sklearn"]
DRAWINGS = ["train/plots.py", "verify/parity_page.py"]  # apart: most of their numbers are sizes and positions
NEEDS_GPU = [f"backend/{name}.py" for name in ("cuda", "gemm", "graph", "kernels")]  # use CuPy, or write CUDA code


class Row(NamedTuple):
    file: str
    line: int
    column: int
    where: str
    change: str
    verdict: str
    by: str


def changed(path: Path, wanted: tuple[int, int, str]) -> ast.Module:
    """The file with the change at this line and column."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    next(e for e in edits(tree) if (e.old.lineno, e.old.col_offset, str(e)) == wanted).apply()
    return tree


def files_of(package: str) -> list[str]:
    folder = ROOT / "xpnet"
    paths = [*folder.glob(f"{package}.py"), *sorted((folder / package).rglob("*.py"))]
    files = [path.relative_to(folder).as_posix() for path in paths]
    return DRAWINGS if package == "drawings" else [f for f in files if f not in (*DRAWINGS, *NEEDS_GPU)]


@cache
def mutants_of(package: str) -> list[Mutant]:
    found = []
    for file in files_of(package):
        path = ROOT / "xpnet" / file
        text = path.read_text(encoding="utf-8")
        for edit in edits(ast.parse(text), lines=(1, text.count("\n"))):
            line, column, change = edit.old.lineno, edit.old.col_offset, str(edit)
            tree = partial(changed, path, (line, column, change))
            found.append(Mutant(file, line, column, edit.where, change, edit.lines, tree))
    return found


def sample(package: str, count: int, seed: int) -> list[Mutant]:
    everything = mutants_of(package)
    return random.Random(f"{seed} {package}").sample(everything, min(count, len(everything)))


def run(packages: list[str], count: int, seed: int, budget: float, again: bool) -> None:
    start, recorded = time.perf_counter(), Record()
    if not recorded.seconds:
        sys.exit("Nothing is recorded yet: python benchmarks/mutation.py record")
    there = {package: {m[:5] for m in mutants_of(package)} for package in packages}
    before = {p: {r[:5]: r for r in load(p, seed) if r[:5] in there[p]} if again else {} for p in packages}
    chosen = []
    for package in packages:
        left = {key for key, row in before[package].items() if row.verdict != CAUGHT}
        chosen += [m for m in mutants_of(package) if m[:5] in left] if again else sample(package, count, seed)
    work = {m: recorded.tests(ROOT / "xpnet" / m.file, m.lines, budget) for m in chosen}
    outcomes = run_all(work, recorded.seconds)
    for package in packages:
        ours = [m for m in mutants_of(package) if m in outcomes]
        rows = [*(before[package] | {m[:5]: Row(*m[:5], *outcomes[m]) for m in ours}).values()]
        path_of(package, seed).write_text(json.dumps([row._asdict() for row in rows], indent=1), encoding="utf-8")
    print(f"{len(work)} mutants in {time.perf_counter() - start:.0f} s", file=sys.stderr)
    print(report([seed], packages))


# What is written -----------------------------------------------------------------------------------------------


def path_of(package: str, seed: int) -> Path:
    return FOLDER / f"seed-{seed}-{package}.json"


def load(package: str, seed: int) -> list[Row]:
    path = path_of(package, seed)
    return [Row(**row) for row in json.loads(path.read_text(encoding="utf-8"))] if path.exists() else []


def interval(part: int, whole: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a fraction."""
    if not whole:
        return 0.0, 1.0
    z, p = 1.96, part / whole
    middle = (p + z * z / (2 * whole)) / (1 + z * z / whole)
    half = z / (1 + z * z / whole) * math.sqrt(p * (1 - p) / whole + z * z / (4 * whole * whole))
    return max(0.0, middle - half), min(1.0, middle + half)


def reason(row: Row) -> str:
    """Why the mutant changes nothing that can be observed; "" if it does change something."""
    return EQUIVALENT.get(row.file, {}).get((row.where, row.change), "")


def report(seeds: list[int], packages: list[str]) -> str:
    head = "| package | mutants in all | seed | run | caught | equivalent | survived | caught, of all | "
    lines = [head + "caught, without equivalents | 95 % |", "|---|" + "---:|" * 9]
    escaped: list[str] = []
    for package in packages:
        for seed in seeds:
            rows = [row for row in load(package, seed) if row.verdict not in (NOT_GRAFTED, UNSOUND)]
            if not rows:
                continue
            caught = sum(row.verdict == CAUGHT for row in rows)
            equivalent = sum(row.verdict != CAUGHT and bool(reason(row)) for row in rows)
            rest = len(rows) - equivalent
            low, high = interval(caught, rest)
            lines.append(
                f"| {package} | {len(mutants_of(package)):,} | {seed} | {len(rows)} | {caught} | {equivalent} | "
                f"{rest - caught} | {caught / max(1, len(rows)):.1%} | {caught / max(1, rest):.1%} | "
                f"{low:.1%} to {high:.1%} |"
            )
            for row in rows:
                if row.verdict != CAUGHT:
                    why = reason(row) and f"equivalent: {reason(row)}"
                    text = f"| `xpnet/{row.file}:{row.line}` | {row.where} | {row.change} | {why or row.verdict} |"
                    escaped.append(text.replace("||", r"\|\|"))
    return "\n".join([*lines, "", "| place | in | change | |", "|---|---|---|---|", *dict.fromkeys(escaped)])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("record").add_argument("tests", nargs="*", default=["tests"])
    running = commands.add_parser("run")
    running.add_argument("packages", nargs="*", default=PACKAGES)
    running.add_argument("--sample", type=int, default=100)
    running.add_argument("--seed", type=int, default=1)
    running.add_argument("--budget", type=float, default=20.0)
    running.add_argument("--again", action="store_true")
    commands.add_parser("report").add_argument("seeds", type=int, nargs="*", default=[1])
    options = parser.parse_args()
    if options.command == "record":
        return record(options.tests)
    if options.command == "run":
        run(options.packages, options.sample, options.seed, options.budget, options.again)
    else:
        print(report(options.seeds, PACKAGES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
