"""Do the tests notice a mistake anywhere? Changes one node of the code at a time, and runs the tests that run it.

    python benchmarks/mutation.py record [TESTS ...]    which test runs which line; again when code or tests changed
    python benchmarks/mutation.py run [PACKAGES ...] [--sample 100] [--seed 1] [--budget 20] [--again]
    python benchmarks/mutation.py report [SEEDS ...]    the table and the survivors, as Markdown

`run` draws mutants of each package at random (`mutation_edits.py` says which there are) and writes what became of them
to build/mutation/; `--again` runs only those of the sample that survived the last time. The tests are collected once;
each mutant has a forked process, in which the changed code takes the place of the right one (`mutation_graft.py`) and
the tests that run its line follow, the fastest first, until one fails: at most `--budget` seconds of them, so a
survivor may still be caught by the whole suite. A test with no end in five times its time counts as failed. Tests that
start processes do not see the mutant. In the end all tests that caught something run without any mutant.

It needs `coverage` (and the `dev` extra), and a system that forks.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import importlib
import json
import math
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from mutation_edits import Edit, edits
from mutation_equivalent import EQUIVALENT
from mutation_graft import NotGrafted, graft
from mutation_record import FOLDER, OPTIONS, ROOT, Record, record

PACKAGES = ["nn", "losses", "optim", "schedules", "backend", "train", "verify"]
NEEDS_GPU = ["backend/cuda.py"]  # cannot be imported without CuPy; its tests are marked `gpu`
MEMORY = 6 << 30  # bytes that a mutant may take; then its test fails
CAUGHT, SURVIVED, ELSEWHERE = "caught", "survived", "not grafted"


class Mutant(NamedTuple):
    file: str
    number: int  # of the edit in its file
    edit: Edit

    def plant(self) -> None:
        tree = ast.parse((ROOT / "xpnet" / self.file).read_text(encoding="utf-8"))
        list(edits(tree))[self.number].apply()
        graft(sys.modules[module_name(self.file)], tree)


class Row(NamedTuple):
    file: str
    number: int
    line: int
    where: str
    edit: str
    verdict: str
    by: str  # the test that failed


def module_name(file: str) -> str:
    return "xpnet." + file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def mutants_of(package: str) -> list[Mutant]:
    folder = ROOT / "xpnet"
    files = [folder / f"{package}.py", *sorted((folder / package).rglob("*.py"))]
    names = [f.relative_to(folder).as_posix() for f in files if f.exists()]
    return [
        Mutant(name, number, edit)
        for name in names
        if name not in NEEDS_GPU
        for number, edit in enumerate(edits(ast.parse((folder / name).read_text(encoding="utf-8"))))
    ]


def sample(package: str, count: int, seed: int) -> list[Mutant]:
    everything = mutants_of(package)
    return random.Random(f"{seed} {package}").sample(everything, min(count, len(everything)))


class Runner:
    """A pytest plugin: instead of the tests that were collected, it runs the mutants."""

    def __init__(self, work: dict[Mutant, list[str]], seconds: dict[str, float]) -> None:
        self.work, self.seconds = work, seconds
        self.rows: list[Row] = []
        self.failed = False

    def pytest_collection(self) -> None:
        import hypothesis  # loads the profile of conftest.py first: no time for the smallest example that fails

        quick = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("xpnet"), phases=quick)
        hypothesis.settings.load_profile("quick")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        session.config.pluginmanager.unregister(name="terminalreporter")
        items = {item.nodeid: item for item in session.items}
        for file in {mutant.file for mutant in self.work}:
            importlib.import_module(module_name(file))
        gc.collect()
        gc.freeze()
        for number, (mutant, tests) in enumerate(self.work.items(), 1):
            verdict, by = in_child(self, mutant, [items[name] for name in tests if name in items])
            row = Row(
                mutant.file, mutant.number, mutant.edit.old.lineno, mutant.edit.where, str(mutant.edit), verdict, by
            )
            self.rows.append(row)
            print(f"{number}/{len(self.work)} {shown(row)}", file=sys.__stderr__, flush=True)
        caught_by = {row.by for row in self.rows if row.by in items}
        for name in sorted(caught_by):
            verdict, _ = in_child(self, None, [items[name]])
            if verdict != SURVIVED:
                print(f"FAILS WITHOUT A MUTANT: {name}", file=sys.__stderr__)
                self.rows = [row._replace(verdict="unsound") if row.by == name else row for row in self.rows]
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed


def in_child(runner: Runner, mutant: Mutant | None, tests: list[pytest.Item]) -> tuple[str, str]:
    """What became of a mutant, and the test that caught it."""
    receiver, sender = os.pipe()
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        try:
            for verdict in verdicts(runner, mutant, tests):
                os.write(sender, f"{verdict}\n".encode())
        except BaseException as error:  # the test that was announced last ended the whole process
            os.write(sender, f"{CAUGHT} {type(error).__name__}\n".encode())
        finally:
            os._exit(0)
    os.close(sender)
    _, status = os.waitpid(pid, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # what it started
    with os.fdopen(receiver, encoding="utf-8") as file:
        said = file.read().splitlines()
    last = [line.removeprefix("runs ") for line in said if line.startswith("runs ")][-1:] or ["when it is imported"]
    if os.WIFSIGNALED(status) or said[-1].startswith(CAUGHT):  # killed: no end, or a crash
        return CAUGHT, last[0] + (" (no end)" if os.WIFSIGNALED(status) else "")
    return said[-1], ""


def verdicts(runner: Runner, mutant: Mutant | None, tests: list[pytest.Item]) -> Iterator[str]:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_processor(10)
    if mutant:
        try:
            mutant.plant()
        except NotGrafted:
            yield ELSEWHERE
            return
    for item, following in zip(tests, [*tests[1:], None], strict=True):
        yield f"runs {item.nodeid}"
        limit_processor(5 + 5 * runner.seconds[item.nodeid])
        item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
        if runner.failed:
            yield CAUGHT
            return
    yield SURVIVED if tests else "no test runs it"


def limit_processor(seconds: float) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds), resource.RLIM_INFINITY))


def shown(row: Row) -> str:
    return f"xpnet/{row.file}:{row.line} {row.where}: {row.edit}: {row.verdict} {row.by}".rstrip()


def run(packages: list[str], count: int, seed: int, budget: float, again: bool) -> None:
    recorded = Record()
    chosen = {package: sample(package, count, seed) for package in packages}
    if again:
        for package, mutants in chosen.items():
            escaped = {(r.file, r.number) for r in load(package, seed) if r.verdict != CAUGHT}
            chosen[package] = [m for m in mutants if (m.file, m.number) in escaped]
    work = {
        mutant: recorded.tests(ROOT / "xpnet" / mutant.file, mutant.edit.lines, budget)
        for mutants in chosen.values()
        for mutant in mutants
    }
    files = sorted({name.split("::")[0] for tests in work.values() for name in tests})
    start, runner = time.perf_counter(), Runner(work, recorded.seconds)
    pytest.main([*OPTIONS, "--tb=no", "--timeout=60", *files], plugins=[runner])
    for package, mutants in chosen.items():
        ids = {(m.file, m.number) for m in mutants}
        rows = [row for row in runner.rows if (row.file, row.number) in ids]
        save(package, seed, [r for r in load(package, seed) if (r.file, r.number) not in ids] * again + rows)
    print(f"{len(work)} mutants in {time.perf_counter() - start:.0f} s", file=sys.__stderr__)
    print(report([seed], packages))


# What is written -----------------------------------------------------------------------------------------------


def path_of(package: str, seed: int) -> Path:
    return FOLDER / f"seed-{seed}-{package}.json"


def save(package: str, seed: int, rows: list[Row]) -> None:
    path_of(package, seed).write_text(json.dumps([row._asdict() for row in rows], indent=1), encoding="utf-8")


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
    """Why nothing that anyone could observe changes; empty if it does."""
    return EQUIVALENT.get((row.file, row.where, row.edit), "")


def report(seeds: list[int], packages: list[str]) -> str:
    head = "| package | mutants in all | seed | run | caught | equivalent | survived | caught, of all | "
    lines = [head + "caught, without equivalents | 95 % |", "|---|" + "---:|" * 9]
    escaped: list[str] = []
    for package in packages:
        for seed in seeds:
            rows = [row for row in load(package, seed) if row.verdict not in (ELSEWHERE, "unsound")]
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
                    text = f"| `xpnet/{row.file}:{row.line}` | {row.where} | {row.edit} | {why or row.verdict} |"
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
