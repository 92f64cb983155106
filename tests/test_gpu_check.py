"""The record of a GPU can be made: what of it can run without one runs, and what it asks of CuPy is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cupy_wheel
import pytest

from xpnet import Backend, probe
from xpnet.verify.strict import StrictBackend

ROOT = Path(__file__).parents[1]
BENCHMARKS = ROOT / "benchmarks"
USERS_OF_CUPY = (
    *(ROOT / "xpnet" / "backend").glob("*.py"),
    *(ROOT / "xpnet" / "probe").glob("*.py"),
    *BENCHMARKS.glob("gpu_*.py"),
    ROOT / "tests/test_gpu.py",
)


@pytest.fixture
def check(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu_check

    return gpu_check


@pytest.fixture
def questions(check):
    return sys.modules["gpu_questions"]


QUICK = {
    "replays_equal_eager_steps": {"steps": 6},
    "a_second_graph_leaves_the_first_alone": {"rounds": 6},
    "fusing_changes_rounding_alone": {"steps": 6, "repeats": 20},
}


@pytest.mark.parametrize("kind", [Backend, StrictBackend])
def test_what_needs_no_gpu_holds_on_the_other_devices(questions, kind):
    for question in questions.ANYWHERE:
        if question is not questions.step_times:
            answer = question(kind, **QUICK.get(question.__name__, {}))
            assert answer["holds"], (question.__name__, answer)


def test_what_is_asked_of_16_bits_holds_on_the_strict_device(questions):
    for question in questions.IN_16_BITS:
        more = {"sizes": (32,), "repeats": 10} if question is questions.speed_of_products else {}
        answer = question(StrictBackend, **more)
        assert answer["holds"] in (True, None), (question.__name__, answer)


class SumsOf16Bits(StrictBackend):
    def _product(self, a, b, out):
        result = super()._product(a, b, out)
        return result.astype("float16").astype("float32")


class NeverSkips(StrictBackend):
    """Overflows are no infinities: nothing is skipped."""

    def _product(self, a, b, out):
        return self.xp.nan_to_num(super()._product(a, b, None), posinf=1.0, neginf=1.0, nan=1.0)


def test_wrong_products_of_16_bits_are_found(questions):
    assert not questions.products_round_their_operands_alone(SumsOf16Bits)["holds"]
    assert not questions.replays_skip_steps_as_eager_ones_do(NeverSkips)["holds"]


def test_steps_are_timed(questions):
    times = questions.step_times(Backend, repeats=10)
    assert {name for name, value in times.items() if value} == {"eager_us", "captured_us", "cpu_us"}


class OtherNumbers(Backend):
    """Another stream, and products that are rounded to half precision."""

    def _stream(self, seed):
        return super()._stream(seed + 1)

    def matmul(self, a, b, out=None):
        return super().matmul(a.astype("f2").astype(a.dtype), b, out)


def test_a_device_that_is_wrong_is_found(questions):
    assert not questions.random_numbers_are_numpys(OtherNumbers)["holds"]
    assert not questions.products_are_float32(OtherNumbers)["holds"]


class CannotSort(Backend):
    """A device that cannot sort inside a graph."""

    def capture(self, step):
        def call(*inputs):
            result = step(*inputs)
            if result.ndim == 1 and result.dtype == "int64" and (result[1:] >= result[:-1]).all():
                raise RuntimeError("a sort waits")
            return result

        return call


def test_a_sort_that_cannot_be_captured_is_found(questions):
    answer = questions.reductions_and_sorts_can_be_captured(CannotSort)
    assert not answer.pop("holds")
    assert answer.pop("sort of integers") == "RuntimeError: a sort waits"
    assert set(answer.values()) == {"ok"}


@pytest.mark.parametrize(("lost", "holds"), [(0, True), (-5000, True), (4 << 20, True), (10_000 * 512, False)])
def test_memory_may_grow_by_some_blocks_but_not_with_each_replay(questions, monkeypatch, lost, holds):
    free = iter([10**9, 10**9 - lost])
    runtime = SimpleNamespace(memGetInfo=lambda: (next(free), 2 * 10**9))
    monkeypatch.setitem(sys.modules, "cupy", SimpleNamespace(cuda=SimpleNamespace(runtime=runtime)))
    answer = questions.memory_stays_flat(Backend, replays=1)
    assert (answer["holds"], answer["grown_bytes"]) == (holds, lost)


def test_without_a_gpu_there_is_no_record():
    if probe.cuda(0).ok:
        pytest.skip("there is a GPU here")
    done = subprocess.run([sys.executable, BENCHMARKS / "gpu_check.py"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("no record can be made: no usable GPU: ")
    assert len(done.stderr.splitlines()) == 1


def test_a_question_that_fails_is_recorded(check):
    answer = check.attempt(lambda: 1 / 0)
    assert (answer["holds"], answer["error"]) == (False, "ZeroDivisionError: division by zero")
    assert "line" in answer["trace"]


ONE_QUESTION = """
import sys, time
sys.path.insert(0, {here!r})
import gpu_check
gpu_check.environment = lambda: dict(holds=True, date="2026-01-02 03:04 UTC", device="X")
gpu_check.questions = lambda: dict(
    fine=lambda: dict(holds=True, figure=1.5), raises=lambda: 1 / 0, crashes=lambda: gpu_check.os.abort(),
    sleeps=lambda: time.sleep(60), writes=lambda: sys.stdout.buffer.write(b"\\xff") and gpu_check.os._exit(3),
    answers=lambda: dict(holds=True, figure=2.5),
)
code = gpu_check.main(*sys.argv[1:])
if sys.argv[1] in ("environment", "answers"):
    gpu_check.os.abort()
sys.exit(code)
"""


@pytest.fixture
def made_up(check, tmp_path, monkeypatch):
    """Questions on a machine that seems to have a GPU, each asked of a process; results go to the folder."""
    (tmp_path / "gpu_check.py").write_text(ONE_QUESTION.format(here=str(BENCHMARKS)), "utf-8")
    monkeypatch.setattr(check, "HERE", tmp_path)
    monkeypatch.setattr(check, "LIMIT", 15)
    monkeypatch.setattr(
        check, "questions", lambda: dict.fromkeys(("crashes", "raises", "fine", "sleeps", "writes", "answers"))
    )
    monkeypatch.setattr(check.write, "__defaults__", (tmp_path / "results",))
    return tmp_path / "results/gpu-2026-01-02-x.json"


def test_a_crash_and_a_question_without_end_cost_their_own_answer_alone(check, made_up, capsys):
    assert check.main() == 1
    record = json.loads(made_up.read_text("utf-8"))
    assert record["environment"]["answered"] == "6 of 6"
    assert record["environment"]["afterwards"] == "the process ended with -6"  # which costs no answer
    errors = [answer.get("error") for answer in record["answers"]]
    assert errors == [
        "the process ended with -6", "ZeroDivisionError: division by zero", None,
        "the process did not end within 15 s", "the process ended with 3", None,
    ]  # fmt: skip
    assert record["answers"][4]["trace"] == "\N{REPLACEMENT CHARACTER}"  # bytes that are no text
    last = {name: value for name, value in record["answers"][5].items() if name != "seconds"}
    assert last == {"question": "answers", "holds": False, "figure": 2.5, "afterwards": "the process ended with -6"}
    assert record["answers"][2]["figure"] == 1.5
    assert capsys.readouterr().out.startswith(
        "crashes ... NO\nraises ... NO\nfine ... ok\nsleeps ... NO\nwrites ... NO\nanswers ... NO\n"
    )


def test_what_was_answered_before_it_is_stopped_is_kept(check, made_up, monkeypatch):
    def ask(name):
        if name == "fine":
            raise KeyboardInterrupt
        return {"question": name, "holds": True}

    monkeypatch.setattr(check, "ask", ask)
    with pytest.raises(KeyboardInterrupt):
        check.main()
    record = json.loads(made_up.read_text("utf-8"))
    assert record["environment"]["answered"] == "2 of 6"
    assert [answer["question"] for answer in record["answers"]] == ["crashes", "raises"]


def test_the_tests_find_what_python_finds_here(check, monkeypatch):
    """CuPy may lie in a folder that PYTHONPATH names."""
    seen = {}

    def run(command, env, **others):
        seen.update(env)
        return SimpleNamespace(returncode=0, stdout="1 passed", stderr="")

    monkeypatch.setattr(check.subprocess, "run", run)
    monkeypatch.setattr(check, "NEEDED_BY_TESTS", ())
    monkeypatch.setenv("PYTHONPATH", "/elsewhere")
    assert check.tests()["holds"]
    assert seen["PYTHONPATH"].split(os.pathsep) == [str(ROOT), "/elsewhere"]


def test_the_record_is_written_as_json_and_as_tables(check, tmp_path):
    where = {"date": "2026-01-02 03:04 UTC", "device": "NVIDIA X100 80GB (PCIe)", "cupy": "14.2.0"}
    answers = [
        {"question": "first", "holds": True, "same_bits": True, "gap": 1.23456e-9, "seconds": 1.0},
        {"question": "second", "holds": False, "error": "Error: a|b\nc", "trace": "long"},
        {"question": "third", "holds": None, "by_name": {"x": 0.5, "y": [1, 2]}, "none": [], "all": {"much": 1}},
    ]
    paths = check.write(where, answers, tmp_path / "results")
    assert [p.name for p in paths] == [f"gpu-2026-01-02-nvidia-x100-80gb-pcie.{s}" for s in ("json", "md")]
    assert json.loads(paths[0].read_text("utf-8")) == {"environment": where, "answers": answers}
    table = paths[1].read_text("utf-8").splitlines()
    assert table[-3:] == [
        "| first | yes | same bits: True; gap: 1.235e-09 |",
        "| second | **no** | error: Error: a\\|b c |",
        "| third | figures | by name: x 0.5, y 1, 2; none: none |",
    ]


def test_the_parity_part_is_no_record_without_a_gpu(check, few_rows, monkeypatch):
    monkeypatch.setattr(probe, "cuda", lambda ordinal=0: probe.Diagnosis("no-device", "none", "none"))
    found = check.parity()
    assert found["holds"] is False
    assert found["verdict"].startswith("rounding: ")


def test_the_parity_part_is_asked_in_every_precision(check, questions, monkeypatch):
    asked = []
    for name in ("ON_A_GPU", "ANYWHERE", "IN_16_BITS"):
        monkeypatch.setattr(questions, name, ())
    monkeypatch.setattr(check, "parity", lambda precision=None: asked.append(precision) or {"holds": True})
    names, parts = zip(*check.questions().items(), strict=True)
    assert [part()["holds"] for part in parts[:-1]] == [True] * 3
    assert asked == [None, "float16", "bfloat16"]
    assert names == ("parity", "parity in float16", "parity in bfloat16", "tests marked gpu")


@pytest.mark.parametrize(
    ("code", "lines", "holds"),
    [
        (0, ["..", "2 passed, 7 deselected in 3.00s"], True),
        (0, ["SKIPPED [1] tests/test_api.py:13: matplotlib is not installed", "2 passed, 1 skipped in 3.00s"], True),
        (1, ["ERROR tests/test_photo.py", "2 passed, 1 error in 3.00s"], True),  # not collected: Pillow is missing
        (1, ["ERROR tests/test_gpu.py::test_it - RuntimeError", "1 passed, 1 error in 3.00s"], False),
        (1, ["FAILED tests/test_gpu.py::test_it - assert 1 == 2", "1 failed, 1 passed in 3.00s"], False),
        (2, ["ERROR tests/test_photo.py", "1 error in 3.00s"], False),
        (1, ["ERROR tests/test_gpu.py", "1 error in 3.00s"], False),
        (3, ["INTERNALERROR", "2 passed in 3.00s"], False),
        (0, [], False),
    ],
)
def test_the_tests_hold_if_none_failed_and_some_passed(check, monkeypatch, code, lines, holds):
    done = SimpleNamespace(returncode=code, stdout="\n".join(lines), stderr="")
    monkeypatch.setattr(check.subprocess, "run", lambda *_, **__: done)
    monkeypatch.setattr(check, "NEEDED_BY_TESTS", ())
    assert check.tests()["holds"] is holds


def test_tests_that_cannot_run_are_named(check, monkeypatch):
    monkeypatch.setattr(check, "NEEDED_BY_TESTS", ("pytest", "a_module_that_nobody_has"))
    assert check.tests() == {"holds": None, "not run": "missing here: a_module_that_nobody_has"}


ONLY_NUMPY = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Blocker())
import gpu_check
from xpnet import Backend
import gpu_questions
from xpnet.verify import cases
cases.LAYERS = cases.LAYERS[::10]
assert gpu_check.parity()["verdict"].startswith("rounding: ")
print(all(gpu_questions.replays_equal_eager_steps(Backend, 3).values()) in (True, False))
"""


def test_numpy_alone_is_enough():
    blocked = ("safetensors", "platformdirs", "threadpoolctl", "typer", "rich", "matplotlib", "PIL", "tomli_w", "scipy")
    code = f"import sys; sys.path.insert(0, {str(BENCHMARKS)!r})\n" + ONLY_NUMPY.format(blocked=blocked)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=100)
    assert done.stdout.strip() == "True", done.stderr


NAMES = """
import operator, sys
import cupy, cupyx
for name in sys.argv[1:]:
    module, _, path = name.partition(".")
    try:
        operator.attrgetter(path)({"cp": cupy, "cupy": cupy, "cupyx": cupyx}[module])
    except AttributeError as error:
        print(name, error)
print("looked at", len(sys.argv) - 1)
"""


def test_the_names_that_are_used_of_cupy_are_there(tmp_path):
    names = set()
    for path in USERS_OF_CUPY:
        names |= set(re.findall(r"\b(?:cp|cupyx|cupy)(?:\.[A-Za-z_]\w*)+(?=[(\[.,: )])", path.read_text("utf-8")))
    names = {n for n in names if not re.search(r"cuda\.Device\(|\.py$|cupy\.(org|dev)", n)}
    assert {"cp.cuda.runtime.memGetInfo", "cupyx.empty_pinned", "cp.cuda.Stream"} <= names
    script = tmp_path / "names.py"
    script.write_text(NAMES, "utf-8")
    done = cupy_wheel.run_with_cupy(script, *sorted(names))
    assert done.stdout.strip() == f"looked at {len(names)}", done.stdout + done.stderr
