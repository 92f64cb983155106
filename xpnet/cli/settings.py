"""The settings of a run: from the command line, before the file, before the recipe of the data set; and as a file.

Their names are those of the options. In the file, a - in a name may also be written as _.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from xpnet import __version__
from xpnet.train.recipes import Recipe, recipe_for

KINDS: dict[str, type] = {"data": str, "seed": int, "device": str, "dtype": str}
KINDS |= {field.name: type(field.default) for field in fields(Recipe)}
IN_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list of numbers"}


@dataclass(frozen=True)
class Settings:
    """All that a run depends on. `device` is None if none was named: what is best there decides."""

    recipe: Recipe
    data: str = "digits"
    seed: int = 0
    dtype: str = "float32"
    device: str | None = None


def settle(given: dict[str, Any], config: dict[str, Any]) -> Settings:
    """The settings that `given` (the command line) and `config` (a file) make together with the recipe.

    Raises ValueError for a value that cannot be.
    """
    both = {**config, **given}
    own = {name: both[name] for name in ("data", "seed", "dtype", "device") if name in both}
    own["data"] = _lasting(own.get("data", Settings.data))
    recipe = recipe_for(own["data"])
    for changes in (config, given):
        recipe = recipe.but(**{name: value for name, value in changes.items() if name not in own})
    return Settings(recipe, **own)


def _lasting(data: str) -> str:
    """A folder by its whole path, so that a config is good wherever it is read."""
    return data if data in ("digits", "mnist") or not Path(data).is_dir() else str(Path(data).absolute())


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML file. Raises OSError if it cannot be read, ValueError for what it should not hold."""
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from None
    try:
        return {name.replace("-", "_"): _checked(name, value) for name, value in table.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _checked(name: str, value: Any) -> Any:
    kind = KINDS.get(name.replace("-", "_"))
    if kind is None:
        raise ValueError(f"unknown setting {name!r}: there is {', '.join(option(known) for known in KINDS)}")
    if kind is tuple and isinstance(value, str):  # as on the command line
        value = [int(size) if size.strip().isdecimal() else size for size in value.split(",") if size]
    if kind is tuple and isinstance(value, list) and all(type(size) is int for size in value):
        return tuple(value)
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{name} must be {IN_WORDS[kind]}, not {value!r}")
    return value


def to_toml(settings: Settings) -> str:
    """A file that repeats the run: `read_config` reads it."""
    import tomli_w

    own = asdict(settings)
    table = {**own.pop("recipe"), **own}
    table = {option(name): table[name] for name in KINDS if table[name] is not None}
    return f"# xpnet {__version__}: xpnet train --config with this file repeats the run\n{tomli_w.dumps(table)}"


def option(name: str) -> str:
    """The name of a setting as it is written on the command line and in files."""
    return name.replace("_", "-")
