"""Check what `make dist` has built as a user gets it: the main job must run in an empty environment of each Python.

    python benchmarks/release_check.py                         # python3.11 to python3.14, those that are here
    python benchmarks/release_check.py /opt/python3.14/bin/python3.14 python3.11

It needs the archives in dist/, and the package index for NumPy and the other dependencies. The source archive is also
unpacked, and the tests that read files outside the package are run from it, with the Python that runs this script.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("python3.11", "python3.12", "python3.13", "python3.14")
LEAST_ACCURACY = 0.95  # of the digits that were held out; seeds give 0.983 to 0.992
TESTS = ("test_api.py", "test_docs.py", "test_fuzz.py", "test_gpu_check.py", "test_package.py", "test_readme.py")


class Failed(Exception):
    """A check failed; the message says what was tried and what happened."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Install the archives in dist/ into empty environments and use them.")
    parser.add_argument("pythons", nargs="*", default=PYTHONS, help=f"interpreters (default: {', '.join(PYTHONS)})")
    parser.add_argument("--no-tests", action="store_true", help="do not run tests from the source archive")
    options = parser.parse_args()
    wheel, source = archives(ROOT / "dist")
    failures = 0
    for python in options.pythons:
        found = shutil.which(python)
        if found is None:
            print(f"{python}: not here, nothing tried", flush=True)
            failures += python not in PYTHONS  # an interpreter that was named must be here
            continue
        for archive in (wheel, source):
            failures += not tried(
                f"{python}, {archive.name}", lambda a=archive, p=found: installed(os.path.abspath(p), a)
            )
    if not options.no_tests:
        failures += not tried(f"tests from {source.name}", lambda: tests_of(source))
    sys.exit(f"{failures} failed" if failures else None)


def archives(folder: Path) -> tuple[Path, Path]:
    """The wheel and the source archive of this version."""
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    both = folder / f"xpnet-{version}-py3-none-any.whl", folder / f"xpnet-{version}.tar.gz"
    missing = [path.name for path in both if not path.is_file()]
    if missing:
        sys.exit(f"{folder} lacks {' and '.join(missing)}: make dist")
    return both


def tried(what: str, check) -> bool:
    try:
        print(f"{what}: {check()}", flush=True)
    except Failed as error:
        print(f"{what}: FAILED, {error}", flush=True)
        return False
    return True


def installed(python: str, archive: Path) -> str:
    """The accuracy and versions of the main job, run from `archive` in an environment that holds nothing else."""
    with tempfile.TemporaryDirectory() as folder:
        run([python, "-m", "venv", "env"], folder)
        scripts = Path(folder, "env", "Scripts" if os.name == "nt" else "bin")
        run([scripts / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", archive], folder)
        where = run([scripts / "python", "-c", "import xpnet; print(xpnet.__file__)"], folder).strip()
        if not Path(where).resolve().is_relative_to(Path(folder, "env").resolve()):
            raise Failed(f"xpnet came from {where}, not from the new environment")
        result = json.loads(run([scripts / "xpnet", "train", "--quiet", "--json", "--device", "cpu"], folder))
        model = Path(folder, result["model"])
        image = model.parent / "example.png"
        run([scripts / "xpnet", "predict", model, image], folder)
    accuracy, versions = result["test_accuracy"], result["versions"]
    if accuracy < LEAST_ACCURACY:
        raise Failed(f"the accuracy is {accuracy:.4f}, below {LEAST_ACCURACY}")
    return f"accuracy {accuracy:.4f}, {', '.join(f'{name} {version}' for name, version in versions.items() if version)}"


def tests_of(source: Path) -> str:
    """The last line of the output of the tests that read files outside the package, run from the unpacked archive."""
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(source) as archive:
            archive.extractall(folder, filter="data")
        (root,) = Path(folder).iterdir()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        paths = [f"tests/{name}" for name in TESTS]
        collected = run([*command, "--collect-only"], root, PYTHONPATH=str(root))
        ran = run([*command, *paths], root, PYTHONPATH=str(root))
    return f"{collected.splitlines()[-1]}; of {len(TESTS)} files: {ran.splitlines()[-1]}"


def run(command: list, folder: str | Path, **more: str) -> str:
    """The output of the command, which is run without the Python settings of this environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "XPNET_DEV"))}
    command = [str(part) for part in command]
    done = subprocess.run(command, cwd=folder, env={**environment, **more}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}")
    return done.stdout


if __name__ == "__main__":
    main()
