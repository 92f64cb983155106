"""Everything that only a machine with a CUDA GPU can show, in one record: `make gpu-check`.

    python benchmarks/gpu_check.py

It runs the questions of `gpu_questions.py`, `xpnet parity` in every precision, and the tests that are marked for a GPU,
from the source tree, with whatever CuPy is installed there (12x or 13x). Each runs in a process of its own: after an
error that leaves CUDA unusable, a crash or an endless question, only that one answer is missing. It needs NumPy and
CuPy; if pytest or something else that the tests need is missing, the record says so.

After each answer it writes results/gpu-<date>-<name of the GPU>.json, and the same as tables in Markdown: if it is
stopped, the answers so far are kept. Exit code: 0 if all is as it should be, 1 if something is not, or if there is no
GPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]  # from the source tree, installed or not

import gpu_questions  # noqa: E402
import numpy as np  # noqa: E402

from xpnet import __version__, probe  # noqa: E402
from xpnet.backend import PRECISIONS  # noqa: E402
from xpnet.files import replacing  # noqa: E402

RESULTS = HERE / "results"
LIMIT, TESTS_LIMIT = 7200, 7000  # seconds for an answer; on a first run CuPy compiles some hundreds of kernels
NEEDED_BY_TESTS = ("pytest", "pytest_timeout", "hypothesis", "safetensors", "threadpoolctl", "typer", "rich")


def environment() -> dict[str, Any]:
    """Facts about the machine and the software of the record, or why there can be no record."""
    diagnosis = probe.cuda(0)
    if not diagnosis.ok:
        return {"holds": False, "error": str(diagnosis)}
    import cupy
    from cupy.cuda import runtime

    gpu = runtime.getDeviceProperties(0)
    return {
        "holds": True,
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": gpu["name"].decode(),
        "compute_capability": f"{gpu['major']}.{gpu['minor']}",
        "memory_bytes": str(gpu["totalGlobalMem"]),
        "driver": driver(),
        "driver_cuda": str(runtime.driverGetVersion()),
        "runtime_cuda": str(runtime.runtimeGetVersion()),
        "cupy": cupy.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "xpnet": __version__,
    }


def driver() -> str:
    """The version of the driver itself, which CUDA does not report."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown: no nvidia-smi"


def tests() -> dict[str, Any]:
    """The tests marked `gpu`; none of them may be skipped."""
    missing = [name for name in NEEDED_BY_TESTS if importlib.util.find_spec(name) is None]
    if missing:
        return {"holds": None, "not run": f"missing here: {', '.join(missing)}"}
    # With a longer limit for each test than in pyproject.toml: the first ones compile kernels.
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider", "-o", "timeout=600"]
    command += ["--continue-on-collection-errors"]  # in files that need something else, such as Pillow
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))  # CuPy may be there
    environment = {**os.environ, "XPNET_REQUIRE_GPU": "1", "PYTHONPATH": path}
    done = subprocess.run(
        command,
        cwd=HERE.parent,
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=TESTS_LIMIT,
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    summary = lines[-1] if lines else "nothing"
    left_out = [line for line in lines if re.match(r"(ERROR|SKIPPED) (?!.*::)", line)]  # whole files
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR", "SKIPPED")) and line not in left_out]
    holds = done.returncode in (0, 1) and not failed and re.search(r"\b\d+ passed", summary) is not None
    return {"holds": holds, "summary": summary, "not passed": failed, "files left out": left_out}


def parity(precision: str | None = None) -> dict[str, Any]:
    """The result of `xpnet parity`, with products of this precision."""
    from xpnet.verify.parity import parity as compare

    found = compare(precision=precision)
    largest = {
        device.name: max(row.ulps for row in found.rows if row.device == device.name) for device in found.devices
    }
    return {
        "holds": found.ok and found.gpu,
        "verdict": found.verdict,
        "largest_ulps": largest,
        "gaps_of_loss_curves": found.training.gaps,
        "all": found.to_dict(),
    }


def questions() -> dict[str, Callable[[], dict[str, Any]]]:
    """Every question of the record, by its name."""
    own = (*gpu_questions.ON_A_GPU, *gpu_questions.ANYWHERE, *gpu_questions.IN_16_BITS)
    asked: dict[str, Callable[[], dict[str, Any]]] = {q.__name__.replace("_", " "): partial(of_cuda, q) for q in own}
    asked["parity"] = parity
    asked |= {f"parity in {precision}": partial(parity, precision) for precision in PRECISIONS}
    return {**asked, "tests marked gpu": tests}


def of_cuda(question: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    from xpnet.backend.cuda import CudaBackend

    return question(CudaBackend)


def attempt(question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer to a question, or the error in its place."""
    try:
        return question()
    except Exception as error:
        return {"holds": False, "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}


def answer_of(name: str) -> dict[str, Any]:
    """The answer to a question from a process of its own, or how that process ended. This process does not use the GPU
    itself, which may be set to serve one process at a time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "answer")
        command = [sys.executable, str(HERE / "gpu_check.py"), name, str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, timeout=LIMIT)
            well, ended = done.returncode == 0, {"error": f"the process ended with {done.returncode}"}
            ended["trace"] = done.stdout + done.stderr
        except subprocess.TimeoutExpired:
            well, ended = False, {"error": f"the process did not end within {LIMIT} s"}
        if not path.exists():
            return {"holds": False, **ended}
        answer = json.loads(path.read_text("utf-8"))
        return answer if well else {**answer, "afterwards": ended["error"]}


def ask(name: str) -> dict[str, Any]:
    """The answer, and how long it took."""
    print(f"{name} ...", end=" ", flush=True)
    start = time.perf_counter()
    answer = answer_of(name)
    if "afterwards" in answer:  # a crash or no end, though there is an answer
        answer["holds"] = False
    print({True: "ok", False: "NO", None: "recorded"}[answer["holds"]], flush=True)
    return {"question": name, **answer, "seconds": round(time.perf_counter() - start, 2)}


def markdown(where: dict[str, str], answers: list[dict[str, Any]]) -> str:
    """The record as two tables."""
    facts = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in where.items())
    verdicts = {True: "yes", False: "**no**", None: "figures"}
    rows = "\n".join(f"| {a['question']} | {verdicts[a['holds']]} | {cell(a)} |" for a in answers)
    return (
        f"# {where['device']}, {where['date']}\n\n| | |\n|---|---|\n{facts}\n\n"
        f"| question | as it should be | measured |\n|---|---|---|\n{rows}\n"
    )


def cell(answer: dict[str, Any]) -> str:
    """All measurements of an answer, as a cell of a table."""
    left_out = ("question", "holds", "seconds", "all", "trace")
    shown = [f"{name.replace('_', ' ')}: {plain(value)}" for name, value in answer.items() if name not in left_out]
    return "; ".join(shown).replace("|", "\\|").replace("\n", " ")


def plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name} {plain(v)}" for name, v in value.items())
    return ", ".join(map(plain, value)) or "none" if isinstance(value, list) else str(value)


def write(where: dict[str, str], answers: list[dict[str, Any]], folder: Path = RESULTS) -> list[Path]:
    """Write the record as JSON and as Markdown, and return the two paths."""
    slug = re.sub(r"[^a-z0-9]+", "-", where["device"].lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    texts = {
        "json": json.dumps({"environment": where, "answers": answers}, indent=1) + "\n",
        "md": markdown(where, answers),
    }
    paths = []
    for suffix, text in texts.items():
        path = folder / f"gpu-{where['date'][:10]}-{slug}.{suffix}"
        with replacing(path) as temporary:
            Path(temporary).write_text(text, "utf-8")
        paths.append(path)
    return paths


def main(name: str = "", path: str = "") -> int:
    if name:  # the process of one question
        answer = json.dumps(attempt({"environment": environment, **questions()}[name]))
        with replacing(Path(path)) as temporary:
            Path(temporary).write_text(answer, "utf-8")
        return 0
    where = answer_of("environment")
    if not where.pop("holds"):
        print(f"no record can be made: {where['error']}", file=sys.stderr)
        return 1
    answers, names = list[dict[str, Any]](), list(questions())
    for name in names:
        answers.append(ask(name))
        paths = write({**where, "answered": f"{len(answers)} of {len(names)}"}, answers)
    for written in paths:
        print(written)
    return int(any(answer["holds"] is False for answer in answers))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
