"""Do the tests notice a mistake? Plants those of `mutant_list.py`, one at a time, and runs the tests on each.

    python benchmarks/mutants.py [WORDS]

Each mistake goes into a copy of the package in a temporary folder. With WORDS, only mistakes whose description
contains them, and nothing is written; without, the table goes to benchmarks/results/mutants.md. The exit code is 1 if
a mistake escaped, or if the tests fail without any.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mutant_list import MUTANTS

ROOT = Path(__file__).resolve().parent.parent
AT_ONCE = 2
TESTS = {  # which tests look at which files, those that fail soonest first
    "nn/": ["test_layers.py", "test_init.py", "test_model.py"],
    "nn/init.py": ["test_init.py"],
    "nn/model.py": ["test_model.py"],
    "nn/saving.py": ["test_model.py"],
    "backend/": ["test_layers.py"],
    "losses.py": ["test_losses.py"],
    "optim.py": ["test_optim.py"],
    "schedules.py": ["test_schedules.py"],
    "photo/": ["test_photo.py"],
}


class Mutant(NamedTuple):
    file: str
    what: str
    old: str
    new: str


class Outcome(NamedTuple):
    caught_by: str  # the first test that failed; empty if none did
    problem: str  # why this says nothing about the tests


def copy_of_package(folder: Path) -> Path:
    copy = folder / "copy"
    shutil.copytree(ROOT / "xpnet", copy / "xpnet", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def run_tests(copy: Path, tests: list[str]) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),  # before the installed package
        "PYTHONDONTWRITEBYTECODE": "1",  # a stale .pyc would hide the mistake
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", "not gpu"]
    files = [f"tests/{name}" for name in tests]
    return subprocess.run([*command, *files], cwd=copy, env=environment, capture_output=True, text=True, timeout=600)


def tests_of(file: str) -> list[str]:
    return TESTS[max((prefix for prefix in TESTS if file.startswith(prefix)), key=len)]


def outcome_of(mutant: Mutant) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_package(Path(folder))
        path = copy / "xpnet" / mutant.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            return Outcome("", f"its text occurs {text.count(mutant.old)} times in xpnet/{mutant.file}, not once")
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        done = run_tests(copy, tests_of(mutant.file))
    failed = re.search(r"^FAILED tests/(\S+?\.py::[^\n]*?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed:
        return Outcome(failed[1], "")
    if done.returncode == 0:
        return Outcome("", "")
    return Outcome("", f"the tests could not run: {(done.stdout + done.stderr).strip()[-300:]}")


def sound_without_mistakes() -> bool:
    names = sorted({name for names in TESTS.values() for name in names})
    with tempfile.TemporaryDirectory() as folder:
        done = run_tests(copy_of_package(Path(folder)), names)
    if done.returncode:
        print(f"The tests fail without any mistake:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def table(mutants: list[Mutant], outcomes: list[Outcome], seconds: float) -> str:
    caught = sum(bool(o.caught_by) for o in outcomes)
    lines = [
        "# Planted mistakes",
        "",
        f"{caught} of {len(mutants)} single mistakes were caught by the tests, in {seconds:.0f} s "
        f"(`python benchmarks/mutants.py`; Python {platform.python_version()}, NumPy {np.__version__}).",
        "",
        "| file | mistake | caught by |",
        "|---|---|---|",
    ]
    for mutant, outcome in zip(mutants, outcomes, strict=True):
        by = f"`{outcome.caught_by}`" if outcome.caught_by else f"**not caught** {outcome.problem}".rstrip()
        lines.append(f"| `{mutant.file}` | {mutant.what} | {by.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def main(words: str) -> int:
    mutants = [Mutant(file, *rest) for file, listed in MUTANTS.items() for rest in listed if words in rest[0]]
    if not sound_without_mistakes():
        return 1
    start, outcomes = time.perf_counter(), []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for mutant, outcome in zip(mutants, pool.map(outcome_of, mutants), strict=True):
            outcomes.append(outcome)
            found = outcome.caught_by or f"NOT CAUGHT {outcome.problem}".rstrip()
            print(f"{len(outcomes)}/{len(mutants)} {mutant.what}: {found}", flush=True)
    text = table(mutants, outcomes, time.perf_counter() - start)
    if not words:
        results = ROOT / "benchmarks" / "results"
        results.mkdir(exist_ok=True)
        (results / "mutants.md").write_text(text, encoding="utf-8")
    return int(not all(o.caught_by for o in outcomes))


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
