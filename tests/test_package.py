"""The package as a whole: what `import xpnet` loads, who may import whom, what a wheel holds."""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import xpnet

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "xpnet"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Each part may import itself and those of the rows above its own.
ORDER = (
    {"arguments", "deprecation", "elsewhere", "files", "frames", "html", "probe"},
    {"backend", "schedules"},
    {"data", "nn", "parallel"},
    {"doctor", "losses", "onnx", "optim", "photo", "scalar", "weights"},
    {"train"},
    {"sklearn"},
    {"bench", "verify"},
    {"serve"},
    {"cli"},
)


def python(*arguments: str, **environment: str) -> str:
    """What a fresh interpreter prints, warnings being errors."""
    command = [sys.executable, "-W", "error", *arguments]
    done = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Importing ------------------------------------------------------------------------------------------------------


def test_import_loads_numpy_and_nothing_heavier():
    code = """
import sys
before = set(sys.modules)
import xpnet
assert "numpy" not in sys.modules
assert {*xpnet.__all__} <= {*dir(xpnet)}
xpnet.select, xpnet.nn, xpnet.losses, xpnet.optim, xpnet.data, xpnet.train, xpnet.debug
tops = {name.partition(".")[0] for name in set(sys.modules) - before}
slow = {"asyncio", "concurrent", "http", "multiprocessing", "ssl", "tomllib", "unittest"}
print(*sorted(tops - set(sys.stdlib_module_names) | tops & slow))
"""
    assert python("-c", code).split() == ["numpy", "xpnet"]


def test_a_model_is_built_on_the_cpu_without_cupy():
    code = """
import sys
sys.modules["cupy"] = None
import xpnet
backend = xpnet.select("auto")
model = xpnet.Model(xpnet.nn.mlp([64, 8, 10]), (64,), backend)
print(backend.device, len(model.data), backend.why)
"""
    device, parameters, why = python("-c", code, XPNET_DEVICE="").split(maxsplit=2)
    assert (device, int(parameters)) == ("cpu", 64 * 8 + 8 + 8 * 10 + 10)
    assert "CuPy" in why


# Versions and commands ------------------------------------------------------------------------------------------


def test_one_version_everywhere():
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    assert xpnet.__version__ == declared
    assert importlib.metadata.version("xpnet") == declared
    assert f"\n## [{declared}]" in (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_module_is_the_command():
    assert python("-m", "xpnet", "--version").split()[-1] == xpnet.__version__
    usage = python("-m", "xpnet", "--help")
    assert all(command in usage for command in ("train", "evaluate", "predict", "doctor", "data"))
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="xpnet")
    assert callable(script.load())


# The wheel ------------------------------------------------------------------------------------------------------


def build(kind: str, folder: Path) -> Path:
    """What the build backend makes of a clone named `xpnet` in `folder`: a "wheel", an "editable" one or an "sdist"."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    backend = project["build-system"]["build-backend"]
    pytest.importorskip(backend, reason='the build backend is not installed: pip install -e ".[dev]"')
    clone = folder / "xpnet"
    clone.mkdir(exist_ok=True)
    for name in (*project["tool"]["hatch"]["build"]["targets"]["sdist"]["only-include"], ".gitignore"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copy(ROOT / name, clone)
    code = f"import os; os.chdir({str(clone)!r}); import {backend} as backend; print(backend.build_{kind}('..'))"
    return folder / python("-P", "-c", code).splitlines()[-1]


def unpack(wheel: Path, folder: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that holds what a wheel installs."""
    folder = tmp_path_factory.mktemp("wheel")
    return unpack(build("wheel", folder), folder / "installed")


def test_a_wheel_holds_the_package_and_nothing_else(wheel: Path):
    info = f"xpnet-{xpnet.__version__}.dist-info"
    assert {path.name for path in wheel.iterdir()} == {"xpnet", info}
    assert files(wheel / "xpnet") == files(PACKAGE)
    assert {
        "py.typed",
        "data/digits-images-idx3-ubyte.gz",
        "data/digits-credits.txt",
        "photo/handwriting.safetensors",
        "serve/static/index.html",
    } <= files(wheel / "xpnet")
    assert (wheel / info / "licenses" / "LICENSE").is_file()


def test_a_source_distribution_holds_what_the_tests_need_and_nothing_else(tmp_path: Path):
    clone = tmp_path / "xpnet"
    for name in ("runs", "dist", "build/docs", ".venv", "xpnet/__pycache__", ".hypothesis"):
        (clone / name).mkdir(parents=True)
        (clone / name / "left").write_text("of an earlier run")
    (clone / "notes.txt").write_text("a file that lies about")
    with tarfile.open(build("sdist", tmp_path)) as archive:
        assert all(member.uid == member.gid == 0 for member in archive)
        archive.extractall(tmp_path, filter="data")
    source = tmp_path / f"xpnet-{xpnet.__version__}"
    parts = ("xpnet", "tests", "benchmarks", "docs", "examples", "docker")
    for part in parts:
        assert files(source / part) == files(ROOT / part), part
    alone = {"CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md", "mkdocs.yml"}
    alone |= {"pyproject.toml", "PKG-INFO", ".gitignore"}
    assert {path.name for path in source.iterdir()} == {*parts, *alone}
    for path in source.rglob("*"):
        if path.is_file():
            assert str(Path.home()).encode() + b"/" not in path.read_bytes(), f"{path} names a folder of this machine"


def test_an_editable_install_wins_over_the_folder_of_its_clone(tmp_path: Path):
    """A script beside a clone named `xpnet` finds the package, not the clone as a package without `__init__.py`."""
    venv.create(tmp_path / "venv")
    site, scripts = (
        Path(sysconfig.get_path(kind, "venv", {"base": str(tmp_path / "venv")})) for kind in ("purelib", "scripts")
    )
    unpack(build("editable", tmp_path), site)
    (site / "zz_dependencies.pth").write_text(str(Path(np.__file__).parents[1]), "utf-8")
    (tmp_path / "quick.py").write_text("import xpnet; print(xpnet.select('cpu')); print(xpnet.__file__)", "utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [scripts / "python", "quick.py"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    backend, place = done.stdout.splitlines()
    assert backend.startswith("<Backend cpu float32")
    assert Path(place) == tmp_path / "xpnet" / "xpnet" / "__init__.py"


def test_the_digits_load_from_a_wheel(wheel: Path):
    code = "import xpnet; print(xpnet.__file__); print(sum(map(len, xpnet.data.load('digits'))))"
    place, samples = python("-P", "-c", code, PYTHONPATH=str(wheel)).split("\n")
    assert Path(place) == wheel / "xpnet" / "__init__.py"
    assert int(samples) == 1797


LEFT = {"__pycache__", ".hypothesis", ".pytest_cache", "runs"}  # by programs that ran here


def files(folder: Path) -> set[str]:
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix() for path in found if not LEFT & {*path.parts}}


# The code -------------------------------------------------------------------------------------------------------


def test_every_file_is_short():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text("utf-8").splitlines()) for path in MODULES}
    assert {name: n for name, n in lengths.items() if n > 300} == {}


def test_no_two_classes_share_a_name():
    places: dict[str, list[str]] = {}
    for path in MODULES:
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(path.relative_to(ROOT).as_posix())
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


def test_imports_point_one_way():
    rank = {part: i for i, parts in enumerate(ORDER) for part in parts}
    wrong = []
    for path in MODULES:
        part = path.relative_to(PACKAGE).with_suffix("").parts[0]
        own = rank["serve"] if part == "__init__" else len(ORDER) if part == "__main__" else rank[part]
        for other, line in imports(path):
            if other != part and rank[other] >= own:
                wrong.append(f"{path.relative_to(ROOT).as_posix()}:{line} imports {other}")
    assert wrong == []


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The parts of the package that this file imports, wherever in it, with the lines."""
    package = path.relative_to(ROOT).parent.parts
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*above, *filter(None, [node.module])])
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            found = re.match(r"xpnet\.(\w+)", name)
            if found and ((PACKAGE / found[1]).is_dir() or (PACKAGE / f"{found[1]}.py").is_file()):
                yield found[1], node.lineno


# Releases -------------------------------------------------------------------------------------------------------

CHANGES = (ROOT / "CHANGELOG.md").read_text("utf-8")


def test_the_citation_is_that_of_this_version():
    """What cffconvert asks for: the keys that a file needs, and no others than the format has."""
    yaml = pytest.importorskip("yaml", reason='PyYAML is not installed: pip install -e ".[dev]"')
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    needed = {"cff-version", "message", "title", "authors"}
    assert needed <= citation.keys()
    assert citation.keys() <= needed | {
        "abstract", "contact", "date-released", "doi", "keywords", "license", "repository-code", "type", "url",
        "version",
    }  # fmt: skip
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert (citation["cff-version"], citation["license"]) == ("1.2.0", project["license"])
    assert citation["authors"] == [{"name": "The xpnet authors"}]
    released = re.search(rf"^## \[{re.escape(project['version'])}\] - (\d{{4}}-\d\d-\d\d)$", CHANGES, re.MULTILINE)
    assert str(citation.get("date-released", "")) == (released[1] if released else "")


def unsigned(changes: str) -> list[str]:
    """What the change log lacks of its form, section by section."""
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    faults = []
    for head, section in re.findall(r"^## (.*)\n((?:(?!^## ).*\n?)*)", changes, re.MULTILINE):
        released = re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", head)
        if not released and not re.fullmatch(r"\[Unreleased\]|\[\d+\.\d+\.\d+\] - unreleased", head):
            faults.append(f"{head}: not [version] - YYYY-MM-DD")
        if released and not re.search(r"^Signed off by \w.*: .*Python 3\.\d+.*passed", section, re.MULTILINE):
            faults.append(f"{head}: released and not signed off")
        titles = re.findall(r"^### (.*)$", section, re.MULTILINE)
        if set(titles) - kinds or len(set(titles)) < len(titles):
            faults.append(f"{head}: sections {', '.join(titles)}")
    return faults


def test_every_release_in_the_change_log_is_dated_and_signed_off():
    assert unsigned(CHANGES) == []
    assert len(re.findall(r"^## ", CHANGES, re.MULTILINE)) >= 1


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ("## [0.2.0] - 2030-01-02\n\n### Added\n\n- x\n", "released and not signed off"),
        ("## 0.2.0, in May\n\n### Added\n", "not [version] - YYYY-MM-DD"),
        ("## [0.2.0] - unreleased\n\n### New\n", "sections New"),
        ("## [0.2.0] - unreleased\n\n### Added\n\n- x\n\n### Added\n\n- y\n", "sections Added, Added"),
    ],
)
def test_a_change_log_out_of_form_is_told(changes, fault):
    (found,) = unsigned(changes)
    assert fault in found
    signed = (
        "## [0.2.0] - 2030-01-02\n\n### Fixed\n\n- x\n\nSigned off by A. B.: Python 3.11 to 3.14, 9 passed, no GPU.\n"
    )
    assert unsigned(signed) == []
