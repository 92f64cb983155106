"""The fuzzer: some files of every kind do no harm, and one that does is noticed."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def fuzz(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import fuzz

    return fuzz


def test_a_hundred_files_do_no_harm():
    done = subprocess.run([sys.executable, BENCHMARKS / "fuzz.py", "100"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert done.stdout.endswith("0 of 100 files failed.\n")
    rows = [line.split("|")[2:5] for line in done.stdout.splitlines() if line.startswith("| ")][1:]
    read, refused, failed = (sum(int(row[i]) for row in rows) for i in range(3))
    assert (read + refused, failed) == (100, 0)
    assert read > 5
    assert refused > 50


def test_a_file_is_the_same_each_time_and_another_with_another_seed(fuzz):
    assert [fuzz.file_of(number, 0) for number in range(18)] == [fuzz.file_of(number, 0) for number in range(18)]
    assert fuzz.file_of(3, 0) != fuzz.file_of(3, 1)
    assert {fuzz.file_of(number, 0)[0] for number in range(9)} == set(fuzz.KINDS)


def test_every_whole_file_is_read_and_the_lies_are_of_many_kinds(fuzz, tmp_path):
    for kind, reader in fuzz.fuzz_readers.KINDS.items():
        assert fuzz.read(kind, reader.examples()[0], tmp_path) == ("read", ""), kind
    files = [fuzz.file_of(number, 0)[1] for number in range(0, 900, 9)]
    assert len(set(files)) > 90


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (KeyError("seconds"), "failed"),
        (RecursionError("too deep"), "failed"),
        (MemoryError(), "failed"),
        (ValueError(), "failed"),  # of the right class, but it says nothing
        (ValueError("some file: no such thing"), "refused"),
    ],
)
def test_an_error_that_is_not_the_readers_or_says_nothing_is_noticed(fuzz, tmp_path, monkeypatch, error, outcome):
    def read(path):
        raise error

    broken = dataclasses.replace(fuzz.fuzz_readers.KINDS["config"], read=read)
    monkeypatch.setitem(fuzz.fuzz_readers.KINDS, "config", broken)
    assert fuzz.read("config", b"", tmp_path)[0] == outcome


WORKER = """
import json, sys, time
for number in range(int(sys.argv[2]), int(sys.argv[3])):
    print(json.dumps({{"number": number, "kind": "IDX"}}), flush=True)
    if number == 1:
        {harm}
    print(json.dumps({{"outcome": "read", "what": "", "seconds": 9.0 if number == 3 else 0.1}}), flush=True)
"""


@pytest.mark.parametrize("harm", ["sys.exit(3)", "time.sleep(60)"])
def test_a_process_that_dies_or_hangs_and_a_slow_file_are_noticed_and_the_rest_is_read(
    fuzz, tmp_path, monkeypatch, harm
):
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER.format(harm=harm))
    monkeypatch.setattr(fuzz, "__file__", str(worker))
    monkeypatch.setattr(fuzz, "HANGS", 5.0)
    found = [(number, outcome) for number, _, outcome, *_ in fuzz.outcomes(5, seed=0)]
    assert found == [(0, "read"), (1, "failed"), (2, "read"), (3, "failed"), (4, "read")]


@pytest.mark.skipif(sys.platform != "linux", reason="where the limit is measured and kept")
def test_memory_is_limited():
    code = "import fuzz; fuzz.limit_memory(); bytearray(fuzz.MEMORY // 2); bytearray(2 * fuzz.MEMORY)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=BENCHMARKS)
    assert done.stderr.splitlines()[-1] == "MemoryError"
