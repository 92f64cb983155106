"""Compare the strict device's list of names and arguments with those of NumPy or CuPy: prints what is wrong.

python compare_names.py cupy
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from operator import attrgetter
from typing import Any

from xpnet.verify.strict_names import CONSTANTS, ELEMENTWISE, FUNCTIONS, METHODS, PROPERTIES, Arguments


def arguments_of(function: Any) -> Arguments | None:
    """What a function takes, from its signature or from what its docstring says; None if neither says it."""
    if type(function).__name__ == "ufunc":
        return Arguments((*["x"] * function.nin, "out"), frozenset({"out", "dtype"}))
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:
        return _from_docstring(function)
    if any(p.kind is p.VAR_KEYWORD for p in parameters) and _from_docstring(function):
        return _from_docstring(function)
    parameters = [p for p in parameters if p.name != "self"]
    documented = re.findall(r"^ *(\w+) ?[:(]", function.__doc__, re.M)  # what **kwargs may be, as in pad
    return Arguments(
        tuple(p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)),
        frozenset(p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)).union(
            documented if any(p.kind is p.VAR_KEYWORD for p in parameters) else ()
        ),
        any(p.kind is p.VAR_POSITIONAL for p in parameters),
    )


def _from_docstring(function: Any) -> Arguments | None:
    first = function.__doc__.strip().partition("\n\n")[0]
    match = re.fullmatch(r"[\w.]+\((.*)\)( ->.*)?", " ".join(first.split()))
    if not match:
        return None
    names = [part.partition("=")[0].strip().split(" ")[-1] for part in match[1].split(",")]
    names = [name for name in names if name not in ("self", "", "/", "\\*", "*")]
    plain = tuple(name for name in names if not name.startswith("*"))
    return Arguments(plain, frozenset(plain), len(plain) < len(names))


def problems(module: Any) -> Iterator[str]:
    """Each name or argument of the list that `module` does not have, in words."""
    for name in CONSTANTS - {"dtype"}:
        if not hasattr(module, name):
            yield f"{name} is missing"
    for name in PROPERTIES:
        if not hasattr(module.ndarray, name):
            yield f"ndarray.{name} is missing"
    for name, ours in FUNCTIONS.items():
        yield from _differences(name, ours, module)
    for name, ours in METHODS.items():
        yield from _differences(name, ours, module.ndarray)


def _differences(name: str, ours: Arguments, owner: Any) -> Iterator[str]:
    try:
        theirs = arguments_of(attrgetter(name)(owner))
    except AttributeError:
        yield f"{name} is missing"
        return
    if theirs is None:
        yield f"{name} does not say what it takes"
        return
    if name in ELEMENTWISE and owner.__name__ != "ndarray" and len(theirs.by_position) != len(ours.by_position):
        yield f"{name} takes {theirs.by_position} by position"
    for keyword in ours.by_name - theirs.by_name:
        yield f"{name} has no {keyword}="
    if ours.any_number and not theirs.any_number:
        yield f"{name} does not take any number of arguments"
    for ours_at, theirs_at in zip(ours.by_position, theirs.by_position, strict=False):
        if ours_at in ours.by_name and ours_at != theirs_at:
            yield f"{name} has {theirs_at} where we have {ours_at}"
    if len(ours.by_position) > len(theirs.by_position) and not theirs.any_number:
        yield f"{name} takes {len(theirs.by_position)} arguments by position, not {len(ours.by_position)}"


if __name__ == "__main__":
    found = sorted(problems(importlib.import_module(sys.argv[1])))
    sys.stdout.write("\n".join(found))
    sys.exit(1 if found else 0)
