"""Deprecated names: each use warns, and says what to write instead and in which version the name will be removed.

    @deprecated(since="0.2.0", removed_in="0.4.0", instead="nn.GELU")
    class OldGELU(Layer): ...

    @renamed_parameter("learning_rate", "lr", since="0.2.0", removed_in="0.4.0")
    def __init__(self, model, lr): ...

Write the versions as string literals: tests/test_deprecation.py looks for `removed_in` in the source, and fails if the
package has reached that version and the name is still there.
"""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")

Named = TypeVar("Named", bound=Callable[..., Any])  # a function or a class


def deprecated(*, since: str, removed_in: str, instead: str) -> Callable[[Named], Named]:
    """A decorator for a function, a method or a class: each call warns, and the docstring begins with the warning.

    A class warns when an instance is made, even one of a subclass, and even if `xpnet.load` makes it from a file.
    """

    def decorate(named: Named) -> Named:
        text = f"is deprecated since xpnet {since} and will be removed in {removed_in}: use {instead}"
        name = _public_name(named)
        if not isinstance(named, type):
            changed = _warning_first(named, f"{name} {text}")
            changed.__doc__ = _marked(named.__doc__, text)
            return changed
        named.__init__ = _warning_first(named.__init__, f"{name} {text}")  # type: ignore[misc]
        named.__doc__ = _marked(named.__doc__, text)
        return named

    return decorate


def renamed_parameter(old: str, new: str, *, since: str, removed_in: str) -> Callable[[Named], Named]:
    """A decorator for a function, a method or an `__init__`, whose parameter `old` is now called `new`.

    A call that gives both names raises TypeError, as Python does for a parameter that is given twice.
    """

    def decorate(function: Named) -> Named:
        name = _public_name(function)
        text = f"the parameter {old!r} of {name} is deprecated since xpnet {since} and will be removed in {removed_in}"

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            if old in kwargs:
                if new in kwargs:
                    raise TypeError(f"{name}() got both {new!r} and its former name {old!r}: leave out {old!r}")
                _warn(f"{text}: use {new!r}")
                kwargs[new] = kwargs.pop(old)
            return function(*args, **kwargs)

        return called  # type: ignore[return-value]

    return decorate


def _warning_first(function: Callable[..., Any], text: str) -> Any:
    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        _warn(text)
        return function(*args, **kwargs)

    return called


def _warn(text: str) -> None:
    """Warn at the line of the user's code that led here: the innermost one outside the package."""
    level = 1
    frame = sys._getframe(level)
    while frame.f_back is not None and os.path.abspath(frame.f_code.co_filename).startswith(PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(text, DeprecationWarning, stacklevel=level + 1)


def _public_name(named: Callable[..., Any]) -> str:
    """ "SGD" for the class and for its `__init__`; "Model.freeze" for a method."""
    return named.__qualname__.rpartition("<locals>.")[2].removesuffix(".__init__")


def _marked(docstring: str | None, text: str) -> str:
    return f"{text[0].upper()}{text[1:]}.\n\n{docstring or ''}".rstrip()
