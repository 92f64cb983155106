"""How fast the package is compared with others: `make bench`, or `python -m benchmarks.bench [WORK ...] [--rounds 15]`.

Every contender is a process of its own (two processes for "2 workers", started by mpiexec). All start from the same
weights and see the same batches. A contender whose first losses differ from xpnet's is not timed. Then all run for a
fraction of a second in turn, round after round, so that whatever else the machine does slows all of them alike. A row
has the median of the rounds, their spread, and the ratio of the medians. Two threads are a contender of their own,
because a second thread makes a program slower if the other core is busy. Imports and cold starts are whole processes
(`processes.py`).

Writes bench.json, bench.md and bench.png to --out (benchmarks/results). Rivals that are not installed are left out, and
their names printed. `--malloc` makes glibc's allocator keep freed memory, in every process; the default leaves it as it
is.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bench_report import write
from benchmarks.processes import PROCESSES
from benchmarks.works import N_BATCHES, WORKS
from xpnet.cli.workers import mpiexec
from xpnet.parallel import Group, join

SECONDS = 0.3  # of a round
CHECKED = 5  # steps whose losses are compared
MALLOC = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "268435456"}
OURS = ("ours", "ours, 2 threads")
WORKERS = "ours, 2 workers"


class Contender:
    """A process that has prepared a training step, and runs it when told to."""

    def __init__(self, work: str, name: str, environment: dict[str, str]):
        self.name = name
        threads = str(_threads(name))
        limits = {f"{library}_NUM_THREADS": threads for library in ("OPENBLAS", "OMP", "MKL")}
        if name == "jaxed":
            limits["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        if "tuned malloc" in name:
            environment = {**environment, **MALLOC}
        command = [sys.executable, "-m", "benchmarks.bench", "--serve", work, name]
        if name == WORKERS:
            command = [mpiexec(), "-n", "2", *command]
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(command, env={**os.environ, **limits, **environment}, **pipes)
        self.rounds: list[tuple[float, float]] = []  # seconds of a step, by the clock and of the processor
        self.start: dict[str, Any] = {}

    def ready(self) -> bool:
        line = self._process.stdout.readline()
        if not line:
            reason = self._process.communicate()[1].strip().splitlines()
            print(f"  left out: {self.name}: {reason[-1] if reason else 'it ended'}", file=sys.stderr)
            return False
        self.start = json.loads(line)
        return True

    def run(self, steps: int) -> tuple[float, float]:
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        wall, processor = map(float, self._process.stdout.readline().split())
        return wall / steps, processor / steps

    def end(self) -> None:
        self._process.communicate()


def serve(work: str, name: str) -> None:
    """What a contender's process does: print its first losses and its versions; then, for each line of input, run that
    many steps and print how long they took. Of several processes, the first reads and prints."""
    group = join()
    module = importlib.import_module(f"benchmarks.rivals.{name.split(', ')[0]}")
    options = [option for option in name.split(", ")[1:] if not option.endswith("threads")]
    step: Callable[[int], Any] = module.make(WORKS[work](), _threads(name), *options)
    parts = [group.sum(float(np.mean(np.asarray(step(i))))) for i in range(CHECKED)]
    say(group, json.dumps({"losses": [part / group.size for part in parts], "versions": module.versions()}))
    done = CHECKED
    for line in lines(group):
        wall, processor = time.perf_counter(), time.process_time()
        for _ in range(int(line)):
            step(done % N_BATCHES)
            done += 1
        wall = time.perf_counter() - wall
        say(group, f"{wall} {group.sum(time.process_time() - processor)}")


def say(group: Group, text: str) -> None:
    if group.rank == 0:
        print(text, flush=True)


def lines(group: Group) -> Iterator[str]:
    """The lines of the standard input, for every process of the group. Only the first process has that input. It passes
    the lines on through pipes, because waiting in MPI would keep a core busy that the other contenders need."""
    folder = Path(group.first(tempfile.mkdtemp))
    pipe = folder / str(group.rank)
    if group.rank:
        os.mkfifo(pipe)
        group.any(False)  # wait for the others
        with open(pipe) as told:
            yield from told
        return
    group.any(False)
    with ExitStack() as stack:
        others = [stack.enter_context(open(folder / str(rank), "w", buffering=1)) for rank in range(1, group.size)]
        shutil.rmtree(folder)  # all pipes are open by now
        for line in sys.stdin:
            for other in others:
                other.write(line)
            yield line


def race(work: str, rounds: int, environment: dict[str, str]) -> dict[str, Any]:
    """Time the rounds of one work: the medians and spreads, by contender."""
    shared = WORKS[work]().trains and importlib.util.find_spec("mpi4py") is not None
    names = (*OURS, *[WORKERS] * shared, *WORKS[work]().rivals)
    started = [Contender(work, name, environment) for name in names]
    contenders = [contender for contender in started if contender.ready()]
    expected = contenders[0].start["losses"]
    for contender in list(contenders):
        if not np.allclose(contender.start["losses"], expected, rtol=2e-3, atol=1e-6):
            print(f"  left out: {contender.name}: losses {contender.start['losses']}, not {expected}", file=sys.stderr)
            contenders.remove(contender)
    for contender in contenders:
        contender.run(3)
    steps = {c.name: max(1, math.ceil(SECONDS / c.run(3)[0])) for c in contenders}
    for number in range(rounds):
        for contender in contenders if number % 2 else contenders[::-1]:
            contender.rounds.append(contender.run(steps[contender.name]))
    for contender in started:
        contender.end()
    return {c.name: _figures(c.rounds) | {"versions": c.start["versions"]} for c in contenders}


def _figures(rounds: Sequence[tuple[float, float]]) -> dict[str, float]:
    wall, processor = ([r[i] for r in rounds] for i in (0, 1))
    low, _, high = statistics.quantiles(wall, n=4, method="inclusive")
    return {"median": statistics.median(wall), "low": low, "high": high, "processor": statistics.median(processor)}


def _threads(name: str) -> int:
    return 2 if name.endswith("2 threads") else 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    known = (*WORKS, *PROCESSES)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"one of {', '.join(known)} (default: all)")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--malloc", action="store_true")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(*arguments.serve)
        return
    if unknown := set(arguments.works) - set(known):
        parser.error(f"there is no {', '.join(sorted(unknown))}: choose of {', '.join(known)}")
    environment = MALLOC if arguments.malloc else {}
    results: dict[str, Any] = {}
    for work in arguments.works or known:
        if work in WORKS:
            title, contenders = WORKS[work]().title, race(work, arguments.rounds, environment)
        else:
            title, seconds = PROCESSES[work][0], PROCESSES[work][1](arguments.rounds)
            contenders = {name: _figures(times) | {"versions": {}} for name, times in seconds.items()}
        print(title, file=sys.stderr)
        if contenders:  # not all were left out
            results[work] = {"title": title, "contenders": contenders}
    load = os.getloadavg()[0]
    settings = {"date": date.today().isoformat(), "rounds": arguments.rounds, "malloc": environment, "load": load}
    print(write(results, settings, arguments.out, "bench-malloc" if arguments.malloc else "bench"))


if __name__ == "__main__":
    main()
