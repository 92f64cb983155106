"""Every public name of the package with its signature, read from the code: the list that a test holds, and a page.

After a change that is meant, `python -m docs.generate.api` writes the list anew.
"""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

import xpnet

PAGE = "api.md"
ROOT = Path(__file__).parents[2]
LIST = ROOT / "docs" / "api.txt"
INSIDE = ("nn.init", "train.plots", "verify.strict")  # public too, besides the parts
PARTS = ("xpnet", *sorted(f"xpnet.{part}" for part in (*xpnet.PARTS, *INSIDE)))
HEAD = """\
Every public name of xpnet: what is here, users' code may rely on (CONTRIBUTING.md, "Public names").
tests/test_api.py holds this file to the code; after a change that is meant: python -m docs.generate.api
"""

INTRODUCTION = """\
# All public names

What is listed here is what your code may rely on: a name goes only after a version that warned of it. Names that begin
with `_` and modules that are not listed may change at any time. What a name does, its docstring says
(`help(train.fit)`), and for a layer [its page](layers/index.md).

Below a class are the methods and properties that it adds to those of its base.
"""


def page() -> str:
    """The manual's page: the list by part, each with what its module says of itself."""
    text = [INTRODUCTION]
    for paragraph in LIST.read_text(encoding="utf-8").split("\n\n")[1:]:
        part, *listed = paragraph.strip("\n").split("\n")
        names = textwrap.dedent("\n".join(listed))
        text.append(f"## {part}\n\n{_about(part)}\n\n```text\n{names}\n```\n")
    return "\n".join(text)


def _about(part: str) -> str:
    """The first sentence of the module's docstring, read without running the module, which may need an extra."""
    path = ROOT.joinpath(*part.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return docstring.split("\n\n")[0].replace("\n", " ")


def listing() -> str:
    """The text of the list: a paragraph for each part. Raises ModuleNotFoundError without the extras of `dev`."""
    return "\n".join([HEAD, *(f"{part}\n{indented(lines(part))}\n" for part in PARTS)])


def lines(part: str) -> list[str]:
    """The lines of one part: a name each, and below a class its own methods."""
    return [line for name, value in public(part) for line in described(part, name, value)]


def public(part: str) -> list[tuple[str, Any]]:
    """What `__all__` names, or, where there is none, what the module itself defines."""
    module = importlib.import_module(part)
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == part and name[0] != "_"]
    return [(name, getattr(module, name)) for name in sorted(getattr(module, "__all__", own), key=str.lower)]


def described(part: str, name: str, value: Any) -> list[str]:
    if part == "xpnet" and (inspect.ismodule(value) or value in _parts_of()):
        return [f"{name}: {value.__name__ if inspect.ismodule(value) else f'{_parts_of()[value]}.{name}'}"]
    if get_origin(value):
        return [f"type {name}"]
    if inspect.isclass(value):
        above = next((base.__name__ for base in value.__mro__[1:-1] if _is_told(base)), "")
        head = f"class {name}{_constructor(value)}{above and f' of {above}'}"
        return [head, *(f"    {line}" for line in members(value))]
    if inspect.isroutine(value):
        return [f"{name}{_plain(inspect.signature(value))}"]
    return [f"{name}: {type(value).__name__}"]


def members(of: type) -> list[str]:
    """The public methods and properties that the class adds to those of its public bases, or has with other
    arguments."""
    bases = [base for base in of.__mro__[1:] if _is_ours(base)]
    known = {line for base in bases if _is_told(base) for line in _own_members(base)}
    hidden = [base for base in bases if not _is_told(base)]
    return sorted({line for kind in (of, *hidden) for line in _own_members(kind)} - known)


@functools.cache
def _parts_of() -> dict[Any, str]:
    """The part in which each public class and function is listed."""
    return {value: part for part in PARTS[1:] for _, value in public(part) if callable(value)}


def _is_told(of: type) -> bool:
    """Whether the class is in the list itself, or one of Python's."""
    return of in _parts_of() if _is_ours(of) else of.__module__ in ("builtins", "typing")


def _own_members(of: type) -> Iterator[str]:
    for name, value in vars(of).items():
        if name.startswith("_"):
            continue
        if isinstance(value, property):
            yield f".{name}"
        elif inspect.isroutine(value):  # functions, class methods and static methods
            function = getattr(of, name)
            if function.__module__.startswith("xpnet"):
                yield f".{name}{_plain(inspect.signature(function)).replace('(self, ', '(').replace('(self)', '()')}"


def _constructor(of: type) -> str:
    """The arguments that make one, where one of the package's own classes says so. Those of Python's classes, such as
    exceptions, are other texts in other versions of Python."""
    says = any(kind in vars(base) for base in of.__mro__ if _is_ours(base) for kind in ("__init__", "__new__"))
    protocol = getattr(of, "_is_protocol", False)
    return _plain(inspect.signature(of)) if says and not protocol else ""


def _is_ours(of: type) -> bool:
    return of.__module__.partition(".")[0] == "xpnet"


def _plain(signature: inspect.Signature) -> str:
    """The signature without annotations; a function or an object as a default by its name."""
    parameters = [
        parameter.replace(annotation=parameter.empty, default=_named(parameter.default))
        for parameter in signature.parameters.values()
    ]
    return str(inspect.Signature(parameters))


def _named(default: Any) -> Any:
    if default is inspect.Parameter.empty:
        return default
    if hasattr(default, "__name__"):
        return _Name(default.__name__)
    return _Name(f"{type(default).__name__}(..)") if " at 0x" in repr(default) else default


class _Name:
    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def indented(listed: list[str]) -> str:
    return "\n".join(f"    {line}" for line in listed)


if __name__ == "__main__":
    LIST.write_text(listing(), encoding="utf-8")
