"""Put a changed module into a process that has imported the right one: `graft(module, tree)`.

The changed text is run as a module of its own. Then code, defaults and plain data of its functions, classes, tables and
dataclass objects are copied into those in use. That takes milliseconds; importing and collecting everything again would
take seconds.
"""

from __future__ import annotations

import ast
import functools
import sys
import types
from dataclasses import is_dataclass
from typing import Any

PLAIN = (int, float, str, bytes, bool, type(None))


class NotGrafted(Exception):
    """Nothing in use differs: the change is in an object that was built when the module was imported."""


class FailsOnImport(Exception):
    """The changed module cannot be imported, so no test can run."""


def graft(module: types.ModuleType, tree: ast.Module) -> None:
    """Replace the code of `module` by the changed `tree`, in the objects that are in use."""
    changed = types.ModuleType(module.__name__)
    changed.__dict__.update(__file__=module.__file__, __package__=module.__package__, __spec__=module.__spec__)
    sys.modules[module.__name__] = changed  # dataclasses look themselves up there
    try:
        exec(compile(tree, str(module.__file__), "exec", dont_inherit=True), changed.__dict__)
    except Exception as error:
        raise FailsOnImport from error
    finally:
        sys.modules[module.__name__] = module
    count = 0
    for name, new in vars(changed).items():
        old = vars(module).get(name)
        if _plain(new) and _plain(old) and new != old:
            for user in [m for m in list(sys.modules.values()) if getattr(m, "__dict__", {}).get(name) is old]:
                setattr(user, name, new)
                count += 1
        elif name != "__builtins__" and (isinstance(new, dict) or getattr(new, "__module__", "") == module.__name__):
            count += _graft(old, new)
    if not count:
        raise NotGrafted


def _graft(old: Any, new: Any) -> int:
    """Copy changes into a function, a class and its members, a table or an object of plain data; return how many."""
    if isinstance(old, dict) and isinstance(new, dict):
        return _graft_items(old, new)
    if _is_record(old) and _is_record(new):
        return _graft_items(vars(old), vars(new))
    if type(old) is not type(new) or old is new:
        return 0
    if isinstance(new, types.FunctionType):
        return _graft_function(old, new)
    if isinstance(new, type):
        return sum(_graft_attribute(old, name, value) for name, value in list(vars(new).items()))
    inner = [(_inner(old, name), _inner(new, name)) for name in ("fget", "fset", "func", "__func__", "__wrapped__")]
    return sum(_graft(a, b) for a, b in inner if a is not None and b is not None)


def _graft_items(old: dict, new: dict) -> int:
    if len(old) != len(new):
        return 0
    count = int(old.keys() != new.keys())
    if count:
        values = [*old.values()]
        old.clear()
        old.update(zip(new, values, strict=True))
    for name, value in new.items():
        if not _plain(value) or not _plain(old[name]):
            count += _graft(old[name], value)
        elif value != old[name]:
            old[name] = value
            count += 1
    return count


def _inner(wrapped: Any, name: str) -> Any:
    kinds = (property, functools.cached_property, functools.partial, staticmethod, classmethod)
    cached = isinstance(wrapped, functools._lru_cache_wrapper)
    return getattr(wrapped, name, None) if isinstance(wrapped, kinds) or cached else None


def _graft_attribute(owner: type, name: str, new: Any) -> int:
    old = vars(owner).get(name)
    if name in ("__module__", "__doc__", "__firstlineno__") or not _plain(new) or not _plain(old):
        return _graft(old, new)
    if old == new and type(old) is type(new):
        return 0
    setattr(owner, name, new)
    return 1


def _graft_function(old: types.FunctionType, new: types.FunctionType) -> int:
    count = _graft(old.__wrapped__, new.__wrapped__) if hasattr(old, "__wrapped__") else 0
    if old.__code__.co_freevars == new.__code__.co_freevars:  # what a dataclass sets, among others
        for old_cell, new_cell in zip(old.__closure__ or (), new.__closure__ or (), strict=True):
            value, changed = old_cell.cell_contents, new_cell.cell_contents
            if _plain(value) and _plain(changed) and value != changed:
                old_cell.cell_contents = changed
                count += 1
    before = old.__code__, _shown(old)
    if old.__code__ != new.__code__ and old.__code__.co_freevars == new.__code__.co_freevars:
        old.__code__ = new.__code__
    if _shown(old) != _shown(new):
        old.__defaults__, old.__kwdefaults__ = new.__defaults__, new.__kwdefaults__
    return count + (before != (old.__code__, _shown(old)))


def _shown(function: types.FunctionType) -> list[Any]:
    """The defaults that are plain data; others compare unequal to themselves in another module."""
    defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
    return [value for value in defaults if _plain(value)]


def _is_record(value: Any) -> bool:
    return is_dataclass(value) and hasattr(value, "__dict__") and not isinstance(value, type)


def _plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_plain(k) and _plain(v) for k, v in value.items())
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(_plain, value))
    return isinstance(value, PLAIN)
