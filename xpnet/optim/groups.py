"""Groups of parameters: factors of the learning rate and the weight decay, by patterns of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xpnet.arguments import number, of_kind
from xpnet.nn import Model

Groups = Mapping[str, Mapping[str, float]]
"""Factors of learning rate and weight decay, by patterns of names: {"*.b": {"lr": 0.1, "weight_decay": 0}}."""

Factors = tuple[tuple[str, float, float], ...]  # (pattern, factor of the rate, factor of the decay)
EXAMPLE = '{"*.b": {"lr": 0.1, "weight_decay": 0}}'


def as_factors(model: Model, groups: Any) -> Factors:
    """The factors of `Groups`, or of another optimizer's `groups`, checked.

    Raises TypeError for anything else, and ValueError for a pattern or a factor that does not exist.
    """
    if isinstance(groups, tuple):
        groups = {pattern: {"lr": lr, "weight_decay": decay} for pattern, lr, decay in groups}
    of_kind(f"groups are factors by patterns of names, such as {EXAMPLE}", groups, Mapping)
    for pattern, factors in groups.items():
        model.names_like(pattern)
        of_kind(f"group {pattern!r} has factors by name, as in {EXAMPLE}", factors, Mapping)
        for name, factor in factors.items():
            if name not in ("lr", "weight_decay"):
                raise ValueError(f"group {pattern!r}: only lr and weight_decay can have a factor, not {name}")
            number(f"group {pattern!r}: the factor of {name}", factor, least=0)
    return tuple((p, float(f.get("lr", 1)), float(f.get("weight_decay", 1))) for p, f in groups.items())
