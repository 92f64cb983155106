"""Which test runs which line of the package, and for how long: `record(tests)`, `Record`."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import coverage
import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "mutation"
OPTIONS = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not gpu", "-o", "tmp_path_retention_policy=none"]

# Lines that run in a step under `xpnet.debug` are not recorded: Python has one trace function, and that one takes it.
UNSEEN = {
    "train/debug.py": "tests/test_debug.py",
    "train/lines.py": "tests/test_debug.py",
    "train/finite.py": "tests/test_debug.py",
    "train/step.py": "tests/test_debug.py",
    "backend/observer.py": "tests/test_debug.py",
}


class _Recorder:
    """A pytest plugin that makes each test a context of the coverage."""

    def __init__(self, measured: coverage.Coverage) -> None:
        self.measured = measured
        self.seconds: dict[str, float] = {}
        self.failed: set[str] = set()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):
        self.measured.switch_context(item.nodeid)
        start = os.times()
        try:
            return (yield)
        finally:
            self.seconds[item.nodeid] = sum(os.times()[:4]) - sum(start[:4])  # of the processor, with children
            self.measured.switch_context("")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if not report.passed:
            self.failed.add(report.nodeid)


def record(tests: list[str]) -> int:
    """Run the tests, and add the lines that they run to the record; tests that fail or are skipped are left out."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    measured = coverage.Coverage(data_file=FOLDER / "coverage", source=[str(ROOT / "xpnet")], config_file=False)
    recorder = _Recorder(measured)
    measured.load()
    measured.start()
    with tempfile.TemporaryDirectory() as folder:
        code = pytest.main([*OPTIONS, f"--basetemp={folder}/tests", *tests], plugins=[recorder])
    measured.stop()
    measured.save()
    known = _seconds() | {name: s for name, s in recorder.seconds.items() if name not in recorder.failed}
    (FOLDER / "seconds.json").write_text(json.dumps(known), encoding="utf-8")
    print(f"{len(recorder.seconds)} tests recorded, {len(recorder.failed)} failed or skipped; {len(known)} known")
    return int(code)


def _seconds() -> dict[str, float]:
    path = FOLDER / "seconds.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


class Record:
    """What was recorded, possibly nothing."""

    def __init__(self) -> None:
        self.seconds = _seconds()
        self._data = coverage.CoverageData(FOLDER / "coverage", no_disk=not self.seconds)
        self._data.read()
        self._lines: dict[Path, dict[int, list[str]]] = {}
        self._look = self.seconds.keys() - self._data.measured_contexts()  # run no line, but look at signatures, say

    def tests(self, file: Path, lines: tuple[int, int], budget: float) -> list[str]:
        """The tests that run one of these lines, the fastest first, as many as fit into `budget` seconds.

        For the order, the k-th test of the same function counts as k times as slow, so that the cases of one function
        leave room for others. If no test was seen to run the lines, because they run at import or under the package's
        own tracer, the tests that run the file.
        """
        if file not in self._lines:
            self._lines[file] = self._data.contexts_by_lineno(str(file))
        found = {t for line in range(lines[0], lines[1] + 1) for t in self._lines[file].get(line, ())}
        found = found & self.seconds.keys() or set().union(*self._lines[file].values()) & self.seconds.keys()
        unseen = UNSEEN.get(file.relative_to(ROOT / "xpnet").as_posix())
        found |= {name for name in self.seconds if name.split("::")[0] == unseen}
        ranked = sorted(found | self._look, key=lambda name: (self.seconds[name], name))
        turn: dict[str, int] = {}
        order = []
        for name in ranked:
            function = name.split("[")[0]
            turn[function] = turn.get(function, -1) + 1
            order.append(((1 + turn[function]) * self.seconds[name], self.seconds[name], name))
        chosen, total = [], 0.0
        for _, seconds, name in sorted(order):
            total += seconds
            if chosen and total > budget:
                break
            chosen.append(name)
        return chosen


if __name__ == "__main__":
    sys.exit(record(sys.argv[1:]))
