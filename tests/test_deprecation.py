"""Names that will go: they warn at the right line, still work, and go when it was said."""

from __future__ import annotations

import inspect
import re
import warnings
from pathlib import Path

import pytest

import xpnet
from xpnet import nn
from xpnet.deprecation import deprecated, renamed_parameter

PACKAGE = Path(xpnet.__file__).parent
WHEN = {"since": "0.2.0", "removed_in": "0.4.0"}


@deprecated(**WHEN, instead="total")
def summed(a, b=2):
    """a + b."""
    return a + b


class Optimizer:
    @renamed_parameter("learning_rate", "lr", **WHEN)
    def __init__(self, lr, decay=0.0):
        self.lr, self.decay = lr, decay

    @deprecated(**WHEN, instead="Optimizer.lr")
    def rate(self):
        return self.lr


def line_of(function) -> int:
    """The number of the line of `function` that is marked as the one to warn at."""
    lines, start = inspect.getsourcelines(function)
    return start + next(i for i, line in enumerate(lines) if "# here" in line)


def the_warning(function) -> tuple[object, str]:
    """What `function` gives, and what it warns of, at the marked line of this file and nowhere else."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = function()
    (text,) = {str(warning.message) for warning in caught}
    places = {(warning.category, Path(warning.filename).name, warning.lineno) for warning in caught}
    assert places == {(DeprecationWarning, "test_deprecation.py", line_of(function))}
    return result, text


def test_a_function_works_and_warns_at_the_line_that_calls_it():
    def use():
        return summed(1, b=3)  # here

    text = "summed is deprecated since xpnet 0.2.0 and will be removed in 0.4.0: use total"
    assert the_warning(use) == (4, text)
    assert summed.__doc__.startswith("Is deprecated since xpnet 0.2.0")
    assert summed.__doc__.endswith("\n\na + b.")
    assert str(inspect.signature(summed)) == "(a, b=2)"


def test_a_method_is_called_by_its_class():
    def use():
        return Optimizer(0.1).rate()  # here

    value, text = the_warning(use)
    assert value == 0.1
    assert text.startswith("Optimizer.rate is deprecated")


def test_a_parameter_of_the_former_name_is_taken_for_the_new_one():
    def use():
        return Optimizer(learning_rate=0.3, decay=0.5)  # here

    made, text = the_warning(use)
    assert (made.lr, made.decay) == (0.3, 0.5)
    assert text == (
        "the parameter 'learning_rate' of Optimizer is deprecated since xpnet 0.2.0 and will be removed in 0.4.0: "
        "use 'lr'"
    )
    assert list(inspect.signature(Optimizer).parameters) == ["lr", "decay"]


def test_the_new_name_does_not_warn_and_both_are_refused():
    assert Optimizer(0.1).lr == Optimizer(lr=0.1).lr == 0.1  # a warning would be an error
    with pytest.raises(TypeError, match="got both 'lr' and its former name 'learning_rate'"):
        Optimizer(lr=0.1, learning_rate=0.2)


@pytest.fixture
def former(monkeypatch):
    """A layer that is deprecated."""
    monkeypatch.setattr(nn.Layer, "known", dict(nn.Layer.known))

    @deprecated(**WHEN, instead="nn.Linear")
    class Former(nn.Linear):
        """y = x W + b."""

    return Former


def test_a_class_is_itself_and_warns_where_one_is_made(former):
    def use():
        return former(3)  # here

    layer, text = the_warning(use)
    assert type(layer) is former
    assert text == "Former is deprecated since xpnet 0.2.0 and will be removed in 0.4.0: use nn.Linear"
    assert former.__doc__.endswith("use nn.Linear.\n\ny = x W + b.")


def test_a_subclass_warns_too_and_the_class_above_does_not(former):
    class Own(former):
        pass

    def use():
        return Own(3)  # here

    assert the_warning(use)[0].n_out == 3
    nn.Linear(3)


def test_a_model_from_a_file_warns_at_the_users_line(former, tmp_path):
    with pytest.warns(DeprecationWarning, match="Former"):
        layer = former(3)
    model = nn.Model(nn.Sequential(layer), (2,), xpnet.select("cpu"))
    model.save(tmp_path / "model.safetensors")

    def use():
        return xpnet.load(tmp_path / "model.safetensors")  # here

    loaded, _ = the_warning(use)
    assert (loaded.data == model.data).all()


# What was announced is done -------------------------------------------------------------------------------------


def overdue(version: str, sources: dict[str, str]) -> list[str]:
    """The places of names that should be gone in `version`, and of versions that this test cannot read."""
    found = []
    for name, text in sources.items():
        for line, content in enumerate(text.splitlines(), 1):
            for said in re.findall(r"\bremoved_in=(?!removed_in)([^,)]*)", content):
                exact = re.fullmatch(r'"(\d+)\.(\d+)\.(\d+)"', said)
                if exact is None or tuple(map(int, exact.groups())) <= tuple(map(int, version.split("."))):
                    found.append(f"{name}:{line} says removed_in={said}")
    return found


def test_what_was_to_be_removed_by_this_version_is_removed():
    """Where this fails, the version has reached what was announced: delete the name, or the decorator of the
    parameter, and say so in CHANGELOG.md under "Removed"."""
    own = PACKAGE / "deprecation.py"
    sources = {str(path): path.read_text("utf-8") for path in PACKAGE.rglob("*.py") if path != own}
    assert overdue(xpnet.__version__, sources) == []


@pytest.mark.parametrize(
    ("version", "late"), [("0.3.9", False), ("0.4.0", True), ("0.10.0", True), ("1.0.0", True), ("0.1.0", False)]
)
def test_a_name_is_overdue_from_the_version_on_that_was_announced(version, late):
    source = '@deprecated(since="0.2.0", removed_in="0.4.0", instead="total")\ndef summed(): ...\n'
    assert overdue(version, {"a.py": source}) == (['a.py:1 says removed_in="0.4.0"'] if late else [])


def test_a_version_that_cannot_be_read_is_told():
    assert overdue("0.1.0", {"a.py": "\n@deprecated(since=V, removed_in=V, instead='b')"}) == [
        "a.py:2 says removed_in=V"
    ]
