"""Everything that only a machine with a CUDA GPU can show, in one record: `make gpu-check`.

    python benchmarks/gpu_check.py

It runs the tests that are marked for a GPU, `xpnet parity` in every precision, and the questions of
`gpu_questions.py`, from the source tree, with whatever CuPy is installed there (12x or 13x). It needs NumPy and CuPy;
where pytest or what the tests need is missing, the record says so. It writes results/gpu-<date>-<name of the
GPU>.json, and the same as a table in Markdown. Exit code: 0 if all is as it should be, 1 if something is not, or if
there is no GPU.
"""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import subprocess
import sys
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
NEEDED_BY_TESTS = ("pytest", "pytest_timeout", "hypothesis", "safetensors", "threadpoolctl", "typer", "rich")


def environment() -> dict[str, str]:
    """Where this record was made."""
    import cupy
    from cupy.cuda import runtime

    gpu = runtime.getDeviceProperties(0)
    return {
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
    """The driver's own version, which CUDA does not tell."""
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
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-p", "no:cacheprovider"]
    environment = {**os.environ, "XPNET_REQUIRE_GPU": "1", "PYTHONPATH": str(HERE.parent)}
    done = subprocess.run(
        command, cwd=HERE.parent, env=environment, capture_output=True, text=True, check=False, timeout=1800
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR", "SKIPPED"))]
    return {"holds": done.returncode == 0, "summary": lines[-1] if lines else "nothing", "not passed": failed}


def parity(precision: str | None = None) -> dict[str, Any]:
    """What `xpnet parity` finds, with products of this precision."""
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


def attempt(name: str, question: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer, or the error in its place; and how long it took."""
    print(f"{name} ...", end=" ", flush=True)
    start = time.perf_counter()
    try:
        answer = question()
    except Exception as error:
        answer = {"holds": False, "error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
    print({True: "ok", False: "NO", None: "recorded"}[answer["holds"]], flush=True)
    return {"question": name, **answer, "seconds": round(time.perf_counter() - start, 2)}


def ask_all() -> list[dict[str, Any]]:
    """Every part of the record."""
    from xpnet.backend.cuda import CudaBackend

    questions = (*gpu_questions.ON_A_GPU, *gpu_questions.ANYWHERE, *gpu_questions.IN_16_BITS)
    answers = [attempt(question.__name__.replace("_", " "), partial(question, CudaBackend)) for question in questions]
    answers.append(attempt("parity", parity))
    answers += [attempt(f"parity in {precision}", partial(parity, precision)) for precision in PRECISIONS]
    return [*answers, attempt("tests marked gpu", tests)]


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
    """All that was measured, in a cell of a table."""
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
    """The two files."""
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


def main() -> int:
    diagnosis = probe.cuda(0)
    if not diagnosis.ok:
        print(f"no record can be made: {diagnosis}", file=sys.stderr)
        return 1
    where, answers = environment(), ask_all()
    for path in write(where, answers):
        print(path)
    return int(any(answer["holds"] is False for answer in answers))


if __name__ == "__main__":
    sys.exit(main())
