"""Do damaged and lying files harm a reader? Mutates files of every kind that xpnet reads, and reads them.

    python benchmarks/fuzz.py [N] [--seed S] [--only I] [--keep FOLDER]

N files (default 5,000), of every kind in turn. Each must be read, or refused with an error of its reader's own that
says something, within SECONDS and MEMORY more than the process had. File I of a seed is always the same: --only I
reads it alone, --keep writes the files that failed into a folder. The exit code is 1 if one failed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path

import fuzz_readers
from fuzz_mutations import mutated

SECONDS = 3.0  # of the processor, for one file
HANGS = 30.0  # by the clock: then it is ended
MEMORY = 1 << 30  # bytes
KINDS = tuple(fuzz_readers.KINDS)


def file_of(number: int, seed: int) -> tuple[str, bytes]:
    """(kind, content) of a file, the same in every process."""
    kind = KINDS[number % len(KINDS)]
    rng = random.Random(f"{seed} {number}")
    return kind, mutated(rng.choice(fuzz_readers.KINDS[kind].examples()), rng)


def read(kind: str, content: bytes, folder: Path) -> tuple[str, str]:
    """("read", ""), ("refused", why), or ("failed", what): an error that the reader may not raise, or without text."""
    reader = fuzz_readers.KINDS[kind]
    path = folder / f"file{reader.suffix}"
    path.write_bytes(content)
    try:
        reader.read(path)
    except reader.errors as error:
        return ("refused", f"{type(error).__name__}: {error}") if str(error) else ("failed", f"{error!r} says nothing")
    except Exception as error:
        return "failed", "".join(traceback.format_exception(error)).strip()
    return "read", ""


# In a process of its own, which may be killed ------------------------------------------------------------------


def work(start: int, stop: int, seed: int) -> None:
    """Read these files; print a line of JSON before and after each."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:  # so that memory and time for what is loaded at the first use count against no file
            outcome, what = read(kind, fuzz_readers.KINDS[kind].examples()[0], Path(folder))
            if outcome != "read":
                raise RuntimeError(f"a whole file ({kind}) is not read: {what}")
        limit_memory()
        for number in range(start, stop):
            kind, content = file_of(number, seed)
            tell({"number": number, "kind": kind})
            begun = time.process_time()  # of the processor: other work on the machine does not count
            outcome, what = read(kind, content, Path(folder))
            tell({"outcome": outcome, "what": what, "seconds": time.process_time() - begun})


def tell(line: dict) -> None:
    print(json.dumps(line), flush=True)


def limit_memory() -> None:
    """Limit the memory to MEMORY more than is mapped now, if the system can."""
    with contextlib.suppress(ImportError, OSError):
        import resource

        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY, mapped + MEMORY))


def outcomes(n: int, seed: int):
    """(number, kind, outcome, what, seconds) of each file. A process that dies or hangs counts against its file."""
    number = 0
    while number < n:
        command = [sys.executable, __file__, "--work", str(number), str(n), "--seed", str(seed)]
        environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
            kind = ""
            while line := line_within(child, HANGS if kind else 4 * HANGS):
                told = json.loads(line)
                if "kind" in told:
                    number, kind = told["number"], told["kind"]
                    continue
                late = told["seconds"] > SECONDS
                yield (
                    number, kind, "failed" if late else told["outcome"],
                    f"took {told['seconds']:.1f} s" if late else told["what"], told["seconds"],
                )  # fmt: skip
                number += 1
            hung = child.poll() is None and number < n
            child.kill()
        if number < n:
            if not kind:
                raise RuntimeError("the process that reads the files cannot begin")
            yield number, kind, "failed", "hangs" if hung else f"the process died: {child.returncode}", HANGS
            number += 1


def line_within(child: subprocess.Popen, seconds: float) -> str:
    """The next line of the child's output, or "" if none comes in time (the child is then killed)."""
    timer = threading.Timer(seconds, child.kill)
    timer.start()
    try:
        return child.stdout.readline()
    finally:
        timer.cancel()


# The whole ----------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("n", type=int, nargs="?", default=5000, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, metavar="I")
    parser.add_argument("--keep", type=Path, metavar="FOLDER")
    parser.add_argument("--work", type=int, nargs=2, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.work:
        work(*asked.work, asked.seed)
        return 0
    if asked.only is not None:
        with tempfile.TemporaryDirectory() as folder:
            print(*read(*file_of(asked.only, asked.seed), Path(folder)), sep=": ")
        return 0

    counts, slowest, failed = Counter(), dict.fromkeys(KINDS, 0.0), 0
    for number, kind, outcome, what, seconds in outcomes(asked.n, asked.seed):
        counts[kind, outcome] += 1
        slowest[kind] = max(slowest[kind], seconds)
        if outcome == "failed":
            failed += 1
            print(f"--- file {number} ({kind}): {what}", flush=True)
            if asked.keep:
                asked.keep.mkdir(parents=True, exist_ok=True)
                (asked.keep / f"{number}{fuzz_readers.KINDS[kind].suffix}").write_bytes(file_of(number, asked.seed)[1])
    print("| kind | read | refused | failed | slowest |\n|---|---|---|---|---|")
    for kind in KINDS:
        numbers = " | ".join(str(counts[kind, outcome]) for outcome in ("read", "refused", "failed"))
        print(f"| {kind} | {numbers} | {slowest[kind]:.2f} s |")
    print(f"{failed} of {asked.n} files failed.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
