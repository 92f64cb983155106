"""Do the tests notice a mistake? Plants the mistakes of `mutant_list.py`, one at a time, and runs the tests on each.

    python benchmarks/mutants.py [WORDS]

If `mutation.py record` was run before, the tests that run the changed lines come first, in a forked process; that takes
a tenth of a second. Each mistake that they do not catch is then planted in a copy of the package in a temporary folder,
and all tests of its file are run on it. With WORDS, only mistakes whose description contains them are tried, and
nothing is written; without, the table is written to benchmarks/results/mutants.md. Until then, the mistakes caught so
far are kept in build/mutation/, so that an interrupted run continues where it stopped. The exit code is 1 if a mistake
was not caught, or if the tests fail without any mistake.
"""

from __future__ import annotations

import ast
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mutant_list import MUTANTS
from mutation_record import FOLDER, ROOT, Record
from mutation_run import CAUGHT, Mutant, run_all

AT_ONCE = 2  # copies of the package
TOGETHER = 100  # mistakes whose tests are collected together
KEPT = FOLDER / "mutants.json"
BUDGET = 20.0  # seconds of the tests that run the changed lines
TESTS = {  # the tests of each file, or of the files with this beginning; those that fail soonest come first
    "nn/": ["test_layers.py", "test_init.py", "test_model.py"],
    "nn/activation.py": ["test_activation.py", "test_memory.py", "test_layers.py"],
    "nn/softmax.py": ["test_activation.py", "test_losses.py", "test_layers.py"],
    "nn/attention.py": ["test_attention.py", "test_layers.py"],
    "nn/compose.py": [
        "test_several.py",
        "test_shape.py",
        "test_attention.py",
        "test_layers.py",
        "test_blocked.py",
        "test_threads.py",
    ],
    "nn/parameter.py": ["test_several.py", "test_gradients.py", "test_contracts.py", "test_model.py", "test_layers.py"],
    "nn/layer.py": [
        "test_several.py",
        "test_summary.py",
        "test_gradients.py",
        "test_init.py",
        "test_model.py",
        "test_contracts.py",
        "test_layers.py",
    ],
    "nn/shapes.py": [
        "test_conv.py",
        "test_pool.py",
        "test_several.py",
        "test_model.py",
        "test_contracts.py",
        "test_layers.py",
    ],
    "nn/inputs.py": ["test_several.py", "test_model.py", "test_recurrent.py", "test_contracts.py"],
    "nn/linear.py": ["test_layers.py", "test_init.py", "test_model.py"],
    "nn/standardize.py": ["test_contracts.py", "test_layers.py", "test_model.py"],
    "nn/declared.py": ["test_saving_limits.py", "test_contracts.py", "test_model.py", "test_elsewhere.py"],
    "nn/ending.py": ["test_model.py", "test_fit.py"],
    "nn/mirror.py": ["test_threads.py"],
    "nn/embedding.py": ["test_embedding.py", "test_memory.py", "test_layers.py", "test_precision.py"],
    "nn/gelu.py": ["test_activation.py", "test_memory.py", "test_layers.py"],
    "nn/through_time.py": ["test_recurrent.py", "test_memory.py", "test_layers.py", "test_arguments.py"],
    "nn/windows.py": ["test_conv.py", "test_pool.py", "test_layers.py", "test_arguments.py"],
    "nn/conv.py": ["test_conv.py", "test_init.py", "test_layers.py"],
    "nn/pool.py": ["test_pool.py", "test_shape.py", "test_layers.py"],
    "nn/init.py": ["test_init.py"],
    "nn/model.py": [
        "test_several.py",
        "test_model.py",
        "test_backend.py",
        "test_optim.py",
        "test_interchange.py",
        "test_fit_options.py",
        "test_precision.py",
        "test_elsewhere.py",
    ],
    "nn/networks.py": ["test_networks.py", "test_model.py", "test_layers.py"],
    "nn/dropout.py": ["test_backend.py", "test_layers.py", "test_blocked.py"],
    "nn/norm.py": ["test_norm.py", "test_memory.py", "test_layers.py", "test_precision.py", "test_blocked.py"],
    "nn/saving.py": ["test_saving_limits.py", "test_model.py", "test_cli.py"],
    "nn/recurrent.py": ["test_recurrent.py", "test_layers.py"],
    "nn/position.py": ["test_attention.py", "test_layers.py"],
    "nn/loading.py": ["test_saving_limits.py", "test_model.py"],
    "onnx/": ["test_onnx_export.py", "test_onnx_import.py"],
    "weights/": ["test_weights.py"],
    "cli/export.py": ["test_onnx_export.py"],
    "nn/reshape.py": ["test_shape.py", "test_memory.py", "test_layers.py"],
    "nn/transformer.py": ["test_attention.py", "test_layers.py"],
    "nn/summary.py": ["test_summary.py", "test_html.py"],
    "nn/seen_pass.py": ["test_summary.py", "test_html.py"],
    "bench/": ["test_bench.py"],
    "backend/": ["test_layers.py", "test_backend.py", "test_threads.py", "test_graph.py", "test_precision.py"],
    "backend/__init__.py": ["test_doctor.py", "test_backend.py", "test_precision.py"],
    "backend/cuda.py": [
        "test_memory.py",
        "test_interchange.py",
        "test_backend.py",
        "test_graph.py",
        "test_debug.py",
        "test_precision.py",
    ],
    "backend/gemm.py": ["test_gemm.py", "test_precision.py"],
    "backend/kernels.py": ["test_cuda_sources.py", "test_tracing.py", "test_fusion.py"],
    "backend/tracing.py": ["test_tracing.py", "test_fusion.py", "test_cuda_sources.py", "test_debug.py"],
    "backend/fusion.py": ["test_tracing.py", "test_fusion.py", "test_cuda_sources.py"],
    "backend/precision.py": ["test_precision.py"],
    "backend/graph.py": ["test_graph.py"],
    "backend/threads.py": ["test_threads.py", "test_backend.py"],
    "backend/random.py": ["test_random.py", "test_layers.py"],
    "probe/": ["test_probe.py"],
    "doctor/": ["test_doctor.py"],
    "losses/": ["test_losses.py"],
    "losses/base.py": ["test_losses.py", "test_fit.py"],
    "optim/": ["test_optim.py", "test_loss_scale.py", "test_precision.py"],
    "optim/base.py": ["test_optim.py", "test_loss_scale.py", "test_precision.py", "test_checkpoint.py"],
    "optim/loss_scale.py": ["test_loss_scale.py"],
    "deprecation.py": ["test_deprecation.py"],
    "elsewhere.py": ["test_elsewhere.py"],
    "data/augment.py": ["test_augment.py"],
    "data/batches.py": ["test_data_batches.py"],
    "data/cifar.py": ["test_data_cifar.py"],
    "data/datasets.py": ["test_data_cifar.py", "test_data_datasets.py", "test_data_images.py"],
    "data/dataset.py": [
        "test_data_datasets.py",
        "test_data_split.py",
        "test_augment.py",
        "test_tasks.py",
        "test_fit_options.py",
    ],
    "data/download.py": ["test_data_download.py"],
    "train/recipes.py": ["test_recipes.py", "test_cli_models.py", "test_cli_settings.py", "test_cli_tables.py"],
    "sklearn/": ["test_sklearn.py", "test_sklearn_workers.py"],
    "frames.py": ["test_table.py", "test_cli_tables.py"],
    "nn/table.py": ["test_table.py", "test_layers.py"],
    "data/table.py": ["test_table.py"],
    "data/table_file.py": ["test_table.py", "test_cli_tables.py"],
    "data/doubts.py": ["test_table.py", "test_cli_tables.py"],
    "data/images.py": ["test_data_images.py", "test_stored.py", "test_html.py"],
    "cli/tables.py": ["test_cli_tables.py"],
    "backend/interchange.py": ["test_several.py", "test_interchange.py", "test_data_datasets.py"],
    "arguments.py": [
        "test_arguments.py",
        "test_losses.py",
        "test_layers.py",
        "test_fit.py",
        "test_data_batches.py",
        "test_backend.py",
    ],
    "scalar/": ["test_scalar_value.py", "test_scalar_network.py", "test_scalar_train.py", "test_convert.py"],
    "schedules.py": ["test_schedules.py"],
    "serve/": ["test_serve_limits.py", "test_serve.py", "test_serve_walk.py"],
    "serve/learner.py": ["test_serve_training.py"],
    "serve/training.py": ["test_serve_training.py"],
    "serve/writer.py": ["test_serve_text.py"],
    "serve/text.py": ["test_serve_text.py"],
    "cli/serve.py": ["test_serve.py", "test_serve_limits.py"],
    "photo/opening.py": ["test_photo.py", "test_serve.py", "test_cli.py"],
    "train/plots.py": ["test_plots.py"],
    "verify/parity_page.py": ["test_parity_page.py", "test_parity_browser.py"],
    "files.py": ["test_files.py", "test_parity.py"],
    "scalar/weights_file.py": ["test_scalar_network.py"],
    "scalar/convert.py": ["test_convert.py"],
    "data/idx.py": ["test_data_idx.py"],
    "cli/": ["test_cli_console.py"],
    "cli/console.py": ["test_cli_console.py", "test_cli_tables.py"],
    "cli/options.py": ["test_cli_tables.py", "test_cli.py"],
    "cli/predict.py": ["test_cli_console.py", "test_cli_tables.py", "test_data_images.py", "test_cli.py"],
    "cli/bench.py": ["test_bench.py", "test_cli_settings.py", "test_cli.py"],
    "cli/evaluate.py": ["test_cli_console.py", "test_cli_tables.py", "test_data_images.py", "test_cli.py"],
    "cli/data.py": ["test_data_images.py", "test_cli_console.py", "test_cli_tables.py", "test_cli.py"],
    "cli/device.py": ["test_cli_settings.py"],
    "cli/parity.py": ["test_parity.py", "test_precision.py", "test_data_images.py"],
    "cli/results.py": ["test_cli_results.py", "test_data_images.py", "test_cli.py"],
    "cli/run_folder.py": [
        "test_tensorboard.py",
        "test_cli_results.py",
        "test_cli_settings.py",
        "test_cli_tables.py",
        "test_cli.py",
    ],
    "cli/settings.py": [
        "test_tensorboard.py",
        "test_cli_models.py",
        "test_cli_settings.py",
        "test_cli_tables.py",
        "test_data_images.py",
    ],
    "cli/fitting.py": ["test_cli_settings.py", "test_cli_tables.py"],
    "cli/train.py": [
        "test_tensorboard.py",
        "test_cli_settings.py",
        "test_cli_results.py",
        "test_cli.py",
        "test_cli_tables.py",
        "test_data_images.py",
        "test_mpi.py",
    ],
    "data/": ["test_data_split.py", "test_data_datasets.py", "test_augment.py", "test_tasks.py"],
    "train/": [
        "test_resume.py",
        "test_checkpoint.py",
        "test_fit.py",
        "test_fit_options.py",
        "test_tasks.py",
        "test_loss_scale.py",
        "test_parallel.py",
    ],
    "train/evaluation.py": [
        "test_several.py",
        "test_fit.py",
        "test_fit_options.py",
        "test_tasks.py",
        "test_parallel.py",
    ],
    "train/checks.py": ["test_fit.py", "test_tasks.py", "test_parallel.py"],
    "train/step.py": [
        "test_several.py",
        "test_sizes.py",
        "test_fit.py",
        "test_fit_options.py",
        "test_tasks.py",
        "test_checkpoint.py",
        "test_loss_scale.py",
        "test_parallel.py",
    ],
    "train/capture.py": ["test_capture.py"],
    "train/debug.py": ["test_debug.py"],
    "train/lines.py": ["test_debug.py"],
    "train/metrics.py": ["test_several.py", "test_metrics.py", "test_tasks.py", "test_arguments.py"],
    "train/progress.py": ["test_progress.py", "test_loss_scale.py", "test_notebook.py"],
    "train/sizes.py": ["test_several.py", "test_sizes.py", "test_parallel.py"],
    "train/interrupt.py": ["test_fit.py", "test_resume.py", "test_fit_options.py"],
    "train/tensorboard.py": ["test_tensorboard.py"],
    "train/memory.py": ["test_memory.py"],
    "train/fit.py": [
        "test_resume.py",
        "test_fit_options.py",
        "test_memory.py",
        "test_backend.py",
        "test_tasks.py",
        "test_fit.py",
        "test_loss_scale.py",
        "test_allocator.py",
        "test_parallel.py",
        "test_mpi.py",
        "test_notebook.py",
    ],
    "verify/": ["test_several.py", "test_tolerances.py", "test_check.py", "test_parity.py", "test_precision.py"],
    "verify/strict_values.py": ["test_strict.py"],
    "verify/strict_array.py": ["test_strict.py", "test_strict_steps.py", "test_tracing.py", "test_layers.py"],
    "verify/strict_names.py": ["test_strict.py", "test_strict_steps.py"],
    "verify/strict.py": [
        "test_tracing.py",
        "test_fusion.py",
        "test_strict.py",
        "test_backend.py",
        "test_strict_steps.py",
        "test_precision.py",
    ],
    "photo/": ["test_photo.py"],
    "backend/allocator.py": ["test_allocator.py"],
    "parallel/": ["test_parallel.py", "test_nccl.py", "test_mpi.py"],
    "parallel/group.py": ["test_parallel.py", "test_mpi.py"],
    "parallel/nccl.py": ["test_nccl.py"],
    "parallel/window.py": ["test_shared_update.py", "test_parallel.py", "test_mpi.py"],
    "cli/workers.py": ["test_cli_settings.py", "test_mpi.py"],
    "data/stored.py": ["test_stored.py"],
    "data/rows.py": ["test_stored.py"],
    "data/labels.py": ["test_data_split.py", "test_data_datasets.py", "test_fit.py"],
    "weights/keras.py": ["test_weights_keras.py"],
    "weights/h5.py": ["test_weights_keras.py"],
    "weights/loading.py": ["test_weights_keras.py", "test_weights.py"],
    "html.py": ["test_html.py"],
    "sklearn/workers.py": ["test_sklearn_workers.py"],
    "data/showing.py": ["test_html.py"],
    "train/notebook.py": ["test_notebook.py", "test_html.py"],
    "train/worker.py": ["test_sklearn_workers.py", "test_sklearn.py"],
    "parallel/launch.py": ["test_sklearn_workers.py", "test_mpi.py"],
}


class Mistake(NamedTuple):
    file: str
    what: str
    old: str
    new: str

    @property
    def path(self) -> Path:
        return ROOT / "xpnet" / self.file

    def planted(self) -> str:
        return self.path.read_text(encoding="utf-8").replace(self.old, self.new)


class Outcome(NamedTuple):
    caught_by: str  # the first test that failed; empty if none did
    problem: str  # why the outcome says nothing about the tests


def copy_of_package(folder: Path) -> Path:
    copy = folder / "copy"
    shutil.copytree(ROOT / "xpnet", copy / "xpnet", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "tests", copy / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", copy)
    return copy


def run_tests(copy: Path, tests: list[str], limit: float = 900) -> subprocess.CompletedProcess:
    environment = {
        **os.environ,
        "PYTHONPATH": str(copy),  # before the installed package
        "PYTHONDONTWRITEBYTECODE": "1",  # a stale .pyc would hide the mistake
        "OPENBLAS_NUM_THREADS": "1",
    }
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", "-m", "not gpu"]
    files = [f"tests/{name}" for name in tests]
    return subprocess.run([*command, *files], cwd=copy, env=environment, capture_output=True, text=True, timeout=limit)


def tests_of(file: str) -> list[str]:
    return TESTS[max((prefix for prefix in TESTS if file.startswith(prefix)), key=len)]


def quickly(mistakes: list[Mistake]) -> dict[Mistake, Outcome]:
    """The mistakes that are caught by tests that run the changed lines."""
    recorded = Record()
    mutants = {mistake: in_process(mistake) for mistake in mistakes}
    work = {m: tests_of_lines(recorded, m) for mistake, m in mutants.items() if is_there_once(mistake)}
    outcomes = run_all({m: tests for m, tests in work.items() if tests}, recorded.seconds)
    found = {mistake: outcomes[mutant] for mistake, mutant in mutants.items() if mutant in outcomes}
    return {mistake: Outcome(o.by, "") for mistake, o in found.items() if o.verdict == CAUGHT}


def in_process(mistake: Mistake) -> Mutant:
    text = mistake.path.read_text(encoding="utf-8")
    first = text[: text.find(mistake.old)].count("\n") + 1
    lines = first, first + mistake.old.count("\n")
    return Mutant(mistake.file, first, 0, "", mistake.what, lines, lambda: ast.parse(mistake.planted()))


def tests_of_lines(recorded: Record, mutant: Mutant) -> list[str]:
    """The tests that run the mutant's lines; for lines that run only at import, those of the surrounding function or
    class."""
    path = ROOT / "xpnet" / mutant.file
    found = recorded.tests(path, mutant.lines, BUDGET)
    around = [
        (node.lineno, node.end_lineno or 0)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and node.lineno <= mutant.lines[0] <= mutant.lines[1] <= (node.end_lineno or 0)
    ]
    return found or recorded.tests(path, max(around, default=(1, 1000)), BUDGET)


def is_there_once(mistake: Mistake) -> bool:
    return mistake.path.read_text(encoding="utf-8").count(mistake.old) == 1


def outcome_of(mutant: Mistake) -> Outcome:
    with tempfile.TemporaryDirectory() as folder:
        copy = copy_of_package(Path(folder))
        path = copy / "xpnet" / mutant.file
        text = path.read_text(encoding="utf-8")
        if text.count(mutant.old) != 1:
            return Outcome("", f"its text occurs {text.count(mutant.old)} times in xpnet/{mutant.file}, not once")
        path.write_text(text.replace(mutant.old, mutant.new), encoding="utf-8")
        try:
            done = run_tests(copy, tests_of(mutant.file))
        except subprocess.TimeoutExpired as error:
            return Outcome("", f"the tests had no end in {error.timeout:.0f} s")
    failed = re.search(r"^FAILED tests/(\S+?\.py::[^\n]*?)(?: - .*)?$", done.stdout, re.MULTILINE)
    if done.returncode == 1 and failed:
        return Outcome(failed[1], "")
    if done.returncode == 0:
        return Outcome("", "")
    return Outcome("", f"the tests could not run: {(done.stdout + done.stderr).strip()[-300:]}")


def sound_without_mistakes(mistakes: list[Mistake]) -> bool:
    names = sorted({name for mistake in mistakes for name in tests_of(mistake.file)})
    with tempfile.TemporaryDirectory() as folder:
        done = run_tests(copy_of_package(Path(folder)), names, limit=3600)
    if done.returncode:
        print(f"The tests fail without any mistake:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.returncode == 0


def table(mutants: list[Mistake], outcomes: list[Outcome], seconds: float) -> str:
    caught = sum(bool(o.caught_by) for o in outcomes)
    lines = [
        "# Planted mistakes",
        "",
        f"{caught} of {len(mutants)} single mistakes were caught by the tests, in {seconds:.0f} s "
        f"(`python benchmarks/mutants.py`; Python {platform.python_version()}, NumPy {np.__version__}).",
        "",
        "| file | mistake | caught by |",
        "|---|---|---|",
    ]
    for mutant, outcome in zip(mutants, outcomes, strict=True):
        by = f"`{outcome.caught_by}`" if outcome.caught_by else f"**not caught** {outcome.problem}".rstrip()
        lines.append(f"| `{mutant.file}` | {mutant.what} | {by.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def digest(mistake: Mistake) -> str:
    """A digest of the mistake and of the file that it is in."""
    return hashlib.sha256(repr((mistake, mistake.path.read_text(encoding="utf-8"))).encode()).hexdigest()


def kept(mistakes: list[Mistake]) -> dict[Mistake, Outcome]:
    """The mistakes that an interrupted run has caught."""
    caught = json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}
    return {m: Outcome(caught[digest(m)], "") for m in mistakes if digest(m) in caught}


def keep(outcomes: dict[Mistake, Outcome]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    caught = {digest(mistake): outcome.caught_by for mistake, outcome in outcomes.items() if outcome.caught_by}
    KEPT.write_text(json.dumps(caught), encoding="utf-8")


def main(words: str) -> int:
    mistakes = [Mistake(file, *rest) for file, listed in MUTANTS.items() for rest in listed if words in rest[0]]
    start = time.perf_counter()
    outcomes = {} if words else kept(mistakes)
    left = [mistake for mistake in mistakes if mistake not in outcomes]
    for first in range(0, len(left), TOGETHER):
        outcomes |= quickly(left[first : first + TOGETHER])
        if not words:
            keep(outcomes)
    left = [mistake for mistake in left if mistake not in outcomes]
    print(f"{len(outcomes)} of {len(mistakes)} caught in forked processes; {len(left)} copies to try", flush=True)
    if left and not sound_without_mistakes(left):
        return 1
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for mistake, outcome in zip(left, pool.map(outcome_of, left), strict=True):
            outcomes[mistake] = outcome
            found = outcome.caught_by or f"NOT CAUGHT {outcome.problem}".rstrip()
            print(f"{len(outcomes)}/{len(mistakes)} {mistake.what}: {found}", flush=True)
            if not words:
                keep(outcomes)
    if not words:
        text = table(mistakes, [outcomes[mistake] for mistake in mistakes], time.perf_counter() - start)
        (ROOT / "benchmarks" / "results" / "mutants.md").write_text(text, encoding="utf-8")
        KEPT.unlink(missing_ok=True)
    return int(not all(outcome.caught_by for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main(" ".join(sys.argv[1:])))
