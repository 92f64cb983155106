"""Run the tests on mutants, each in a forked process: `run_all(work, seconds)`.

The tests are collected once. In the process of a mutant, the changed code replaces the right code
(`mutation_graft.py`), and its tests run until one fails. At the end, all tests that caught something run without any
mutant.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib
import math
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import pytest
from mutation_graft import FailsOnImport, NotGrafted, graft
from mutation_record import OPTIONS

MEMORY = 6 << 30  # bytes that a mutant may take; beyond them, its test fails
CAUGHT, SURVIVED, NO_TEST, NOT_GRAFTED, UNSOUND = "caught", "survived", "no test runs it", "not grafted", "unsound"


class Mutant(NamedTuple):
    file: str  # in xpnet/
    line: int
    column: int
    where: str  # the function or class
    change: str
    lines: tuple[int, int]  # the tests that run one of them may notice
    tree: Callable[[], ast.Module]  # the changed file

    @property
    def module(self) -> str:
        return "xpnet." + self.file.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


class Outcome(NamedTuple):
    verdict: str
    by: str = ""  # the test that failed


def run_all(work: dict[Mutant, list[str]], seconds: dict[str, float]) -> dict[Mutant, Outcome]:
    """The outcome of each mutant under its tests; `seconds`: how long each test takes."""
    files = sorted({name.split("::")[0] for tests in work.values() for name in tests})
    if not files:
        return {}
    runner = Runner(work, seconds)
    with tempfile.TemporaryDirectory() as folder:
        pytest.main([*OPTIONS, f"--basetemp={folder}/tests", "--tb=no", "--timeout=60", *files], plugins=[runner])
    return runner.outcomes


class Runner:
    """A pytest plugin: instead of the tests that were collected, it runs the mutants."""

    def __init__(self, work: dict[Mutant, list[str]], seconds: dict[str, float]) -> None:
        self.work, self.seconds = work, seconds
        self.outcomes: dict[Mutant, Outcome] = {}
        self.failed = False

    def pytest_collection(self) -> None:
        import hypothesis  # the profile of conftest.py, loaded before, without the search for a small example

        quick = [hypothesis.Phase.explicit, hypothesis.Phase.generate]
        hypothesis.settings.register_profile("quick", hypothesis.settings.get_profile("xpnet"), phases=quick)
        hypothesis.settings.load_profile("quick")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        session.config.pluginmanager.unregister(name="terminalreporter")
        items = {item.nodeid: item for item in session.items}
        for mutant in self.work:
            with contextlib.suppress(ImportError):  # of CuPy: tests that replace it by a fake load such modules
                importlib.import_module(mutant.module)
        gc.collect()
        gc.freeze()
        for number, (mutant, tests) in enumerate(self.work.items(), 1):
            outcome = self.in_child(mutant, [items[name] for name in tests if name in items])
            self.outcomes[mutant] = outcome
            said = f"{mutant.file}:{mutant.line} {mutant.where}: {mutant.change}: {outcome.verdict} {outcome.by}"
            print(f"{number}/{len(self.work)} {said}", file=sys.__stderr__, flush=True)
        for name in sorted({outcome.by for outcome in self.outcomes.values()} & items.keys()):
            if self.in_child(None, [items[name]]).verdict != SURVIVED:
                print(f"fails without any mutant: {name}", file=sys.__stderr__)
                wrong = [mutant for mutant, outcome in self.outcomes.items() if outcome.by == name]
                self.outcomes.update(dict.fromkeys(wrong, Outcome(UNSOUND, name)))
        return True

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.failed |= report.failed

    def in_child(self, mutant: Mutant | None, tests: list[pytest.Item]) -> Outcome:
        with tempfile.TemporaryFile("w+", encoding="utf-8", buffering=1) as said:
            pid = os.fork()
            if not pid:
                os.setpgid(0, 0)
                try:
                    self.try_all(mutant, tests, said)
                except BaseException as error:
                    print(f"{type(error).__name__}: {error}", file=said)
                finally:
                    os._exit(0)
            _, status = os.waitpid(pid, 0)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)  # the processes that it has started
            said.seek(0)
            lines = said.read().splitlines()
        running = lines[-1].removeprefix("runs ") if lines and lines[-1].startswith("runs ") else ""
        if running:  # a test that did not end, or that ended the process
            return Outcome(CAUGHT, f"{running} (signal {status & 127})")
        verdict, _, by = (lines or ["died"])[-1].partition(" by ")
        return Outcome(verdict, by)

    def try_all(self, mutant: Mutant | None, tests: list[pytest.Item], said: IO[str]) -> None:
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, size + MEMORY))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if mutant:
            limit_processor(10)
            try:
                if mutant.module not in sys.modules:
                    raise NotGrafted
                graft(sys.modules[mutant.module], mutant.tree())
            except FailsOnImport:
                return print(CAUGHT, "by every test: the module fails when it is imported", file=said)
            except NotGrafted:
                return print(NOT_GRAFTED, file=said)
        for item, following in zip(tests, [*tests[1:], None], strict=False):
            print("runs", item.nodeid, file=said)
            limit_processor(5 + 5 * self.seconds[item.nodeid])
            with contextlib.suppress(pytest.exit.Exception, KeyboardInterrupt, SystemExit):
                item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
                if not self.failed:
                    continue
            return print(CAUGHT, "by", item.nodeid, file=said)
        return print(SURVIVED if tests else NO_TEST, file=said)


def limit_processor(seconds: float) -> None:
    """Let the kernel end this process after so many more seconds of processor time."""
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(time.process_time() + seconds), resource.RLIM_INFINITY))
