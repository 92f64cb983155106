"""Works of `benchmarks/bench.py` that are whole processes, timed from outside: imports, training from a cold start."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from benchmarks.cold_start import CONTENDERS, GOAL

IMPORTS = {
    "bare": "pass",
    "ours": "from xpnet import nn, train",
    "numpy": "import numpy",
    "pytorch": "import torch",
    "jaxed": "import jax",
    "scikit": "from sklearn.neural_network import MLPClassifier",
}
Rounds = dict[str, list[tuple[float, float]]]


def imports(rounds: int) -> Rounds:
    """Seconds by the clock and of the processor, minus those of a bare interpreter in the same round."""
    seconds = race({name: ["-c", code] for name, code in IMPORTS.items()}, rounds)
    bare = seconds.pop("bare")
    less = {name: zip(times, bare, strict=True) for name, times in seconds.items()}
    return {name: [(t[0] - b[0], t[1] - b[1]) for t, b in pairs] for name, pairs in less.items()}


def cold_starts(rounds: int) -> Rounds:
    """The processes of `benchmarks/cold_start.py`, with another seed in each round."""
    names = dict(zip(CONTENDERS, ("ours", "ours, 2 threads", "pytorch", "pytorch, 2 threads"), strict=True))
    commands = {names[name]: ["-m", "benchmarks.cold_start", "--only", name] for name in CONTENDERS}
    return race(commands, rounds, seeds=True, check=lambda printed: float(printed) >= GOAL)


PROCESSES: dict[str, tuple[str, Callable[[int], Rounds]]] = {
    "import": ("from xpnet import nn, train, beside other imports", imports),
    "cold-start": (f"from the start of a process to {GOAL:.0%} on MNIST", cold_starts),
}


def race(
    commands: Mapping[str, Sequence[str]],
    rounds: int,
    seeds: bool = False,
    check: Callable[[str], bool] = lambda printed: True,
) -> Rounds:
    """Run each Python command in turn, round after round. One that fails, or whose output `check` refuses, is left out,
    and its name printed. A first round is not counted: in it, Python compiles files that pip would have compiled."""
    seconds: Rounds = {name: [] for name in commands}
    for number in range(-1, rounds):
        for name in list(seconds):
            done, times = timed([*commands[name], *[str(max(number, 0))] * seeds])
            if done.returncode or not check(done.stdout):
                reason = (done.stderr if done.returncode else done.stdout).strip().splitlines()
                print(f"  left out: {name}: {reason[-1] if reason else 'it failed'}", file=sys.stderr)
                del seconds[name]
            elif number >= 0:
                seconds[name].append(times)
    return seconds


def timed(arguments: Sequence[str]) -> tuple[Any, tuple[float, float]]:
    """The completed process, and its seconds by the clock and of the processor."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    start, used = time.perf_counter(), _of_children()
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True)
    return done, (time.perf_counter() - start, _of_children() - used)


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
