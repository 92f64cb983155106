"""The settings of a run, from the command line, a file and the recipe of the data set; and how to write them to a file.

The command line overrides the file, and the file overrides the recipe. The settings are named like the options; in the
file, a - in a name may also be written as _.
"""

from __future__ import annotations

import tomllib
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from xpnet import __version__
from xpnet.cli.tables import is_table
from xpnet.files import DATA_SETS, TABLES, expanded
from xpnet.train.recipes import OPTIMIZERS, RECIPES, Recipe

KINDS: dict[str, type] = {"data": str, "recipe": str, "seed": int, "device": str, "dtype": str, "precision": str}
KINDS |= {"size": str, "threads": int, "workers": int, "tensorboard": bool}
TABLE = ("target", "task", "ignore", "categories", "missing", "unseen")  # settings for tables only
KINDS |= dict.fromkeys(TABLE, str)
KINDS |= {known.name: type(known.default) for known in fields(Recipe)}
LONGEST = 1 << 14  # bytes of a file of settings: the time of tomllib grows with the square of their number
MOST = 1 << 53  # no setting may be so large a whole number: floats cannot represent all of them
IN_WORDS = {str: "a text", int: "a whole number", float: "a number", bool: "true or false", tuple: "a list of numbers"}


@dataclass(frozen=True)
class Settings:
    """All that a run depends on. `device` is None if none was named: then the best device is chosen.

    `recipe` is the recipe called `named` with the user's changes; `changed` are the names of the settings changed, and
    `typed` those on the command line.
    """

    recipe: Recipe
    named: str
    changed: tuple[str, ...] = field(default=(), compare=False)
    typed: tuple[str, ...] = field(default=(), compare=False)
    data: str = "digits"
    size: str | None = None
    seed: int = 0
    dtype: str = "float32"
    precision: str | None = None
    device: str | None = None
    threads: int | None = None
    workers: int = 1
    tensorboard: bool = False
    target: str | None = None
    task: str | None = None
    ignore: str = ""
    categories: str = ""
    missing: str = "refuse"
    unseen: str = "refuse"


def settle(given: dict[str, Any], config: dict[str, Any]) -> Settings:
    """Combine `given` (from the command line), `config` (from a file) and the recipe into the settings of a run.

    Raises ValueError for an impossible value.
    """
    both = {**config, **given}
    for name, value in both.items():
        if isinstance(value, int) and abs(value) >= MOST:
            raise ValueError(f"{option(name)} must be a whole number below {MOST}")
    plain = ("data", "size", "seed", "dtype", "precision", "device", "threads", "workers", "tensorboard", *TABLE)
    own = {name: both[name] for name in plain if name in both}
    own["data"] = _lasting(own.get("data", Settings.data))
    if "size" in own and is_table(own["data"]):
        raise ValueError(f"size is for folders of images, and the data are {own['data']}")
    said = [option(name) for name in TABLE if own.get(name, getattr(Settings, name)) != getattr(Settings, name)]
    if said and not is_table(own["data"]):
        raise ValueError(f"{said[0]} is for tables ({', '.join(TABLES)}), and the data are {own['data']}")
    named = both.get(
        "recipe", "table" if is_table(own["data"]) else own["data"] if own["data"] == "digits" else "mnist"
    )
    if named not in RECIPES:
        raise ValueError(f"unknown recipe {named!r}: choose one of {', '.join(RECIPES)}")
    base = RECIPES[named]
    recipe = base.but(model=both.get("model", base.model))  # the defaults of a model are not changes by the user
    # The file that a run writes has every setting: a default of the recipe, or of the optimizer, is not a change.
    # A validation part counts as asked for even if it is the recipe's default; but 0 may only mean that the run had too
    # few samples for one.
    usual = asdict(recipe) | {"model": base.model, "val": 0.0}
    bare = {"momentum": 0.0, "nesterov": False, "weight_decay": 0.0}  # the defaults of an optimizer that is named
    if (optimizer := config.get("optimizer", recipe.optimizer)) in OPTIMIZERS:
        bare["lr"] = OPTIMIZERS[optimizer][1]
    in_file = {k: v for k, v in config.items() if k in usual and v not in (usual[k], bare.get(k, usual[k]))}
    kept = {name: in_file[name] for name in ("lr", "weight_decay") if name in in_file}  # with another optimizer, too
    for changes in (config, kept | given):
        recipe = recipe.but(**{name: value for name, value in changes.items() if name in usual})
    theirs = {name for name, value in in_file.items() if value == getattr(recipe, name)} | given.keys()
    changed = tuple(name for name in usual if name in theirs)
    return Settings(recipe, named, changed, tuple(given), **own)


def in_words(settings: Settings) -> str:
    """The whole recipe in a line: what the user has set, what the recipe adds, and what is off."""
    values = asdict(settings.recipe)
    # Every run's file has the validation part: if it is the recipe's, nothing says that the user asked for it.
    usual = settings.recipe.val == RECIPES[settings.named].val and "val" not in settings.typed
    changed = {*settings.changed} - ({"val"} if usual else set())
    theirs = [_setting(name, value) for name, value in values.items() if name in changed]
    rest = {name: value for name, value in values.items() if name not in changed}
    kept = [_setting(name, value) for name, value in rest.items() if value]
    off = [option(name) for name, value in rest.items() if not value]
    parts = {"yours": theirs, f"from the recipe {settings.named}": kept, "off": off}
    return "; ".join(f"{title}: {', '.join(listed)}" for title, listed in parts.items() if listed)


def _setting(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return option(name) if value else f"no {option(name)}"
    return f"{option(name)} {','.join(map(str, value)) or 'none' if isinstance(value, tuple) else value}"


def _lasting(data: str) -> str:
    """A folder or a file by its absolute path, so that a config is valid wherever it is read."""
    own = bool(data) and data not in DATA_SETS and expanded(data).exists()
    return str(expanded(data).absolute()) if own else data


def read_config(path: Path) -> dict[str, Any]:
    """The settings in a TOML file. Raises OSError if it cannot be read, ValueError if it holds anything else."""
    with open(path, "rb") as file:
        content = file.read(LONGEST + 1)
    if len(content) > LONGEST:
        raise ValueError(f"{path} is not a settings file: it has more than {LONGEST} bytes")
    try:
        table = tomllib.loads(content.decode("utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from None
    except RecursionError:
        raise ValueError(f"{path} is not a settings file: it is nested too deeply") from None
    try:
        return {name.replace("-", "_"): _checked(name, value) for name, value in table.items()}
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _checked(name: str, value: Any) -> Any:
    kind = KINDS.get(name.replace("-", "_"))
    if kind is None:
        raise ValueError(f"unknown setting {name!r}: choose one of {', '.join(option(known) for known in KINDS)}")
    if kind is tuple and isinstance(value, str):  # as on the command line
        value = [int(size) if size.strip().isdecimal() else size for size in value.split(",") if size]
    if kind is tuple and isinstance(value, list) and all(type(size) is int for size in value):
        return tuple(value)
    if kind is float and type(value) is int and abs(value) < MOST:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{name} must be {IN_WORDS[kind]}, not {value!r}")
    return value


def to_toml(settings: Settings) -> str:
    """The text of a TOML file that repeats the run; `read_config` reads it."""
    import tomli_w

    table = {**asdict(settings), **asdict(settings.recipe), "recipe": settings.named}
    said = KINDS if is_table(settings.data) else KINDS.keys() - {*TABLE}
    table = {option(name): table[name] for name in KINDS if name in said and table[name] is not None}
    return f"# xpnet {__version__}: xpnet train --config with this file repeats the run\n{tomli_w.dumps(table)}"


def option(name: str) -> str:
    """The name of a setting as written on the command line and in files."""
    return name.replace("_", "-")
