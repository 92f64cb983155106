"""Which module of a source goes into which layer.

Modules are matched by name if the source has all the names that a `torch.nn.Sequential` of the same structure would
have. Otherwise they are matched by the names and shapes of their tensors. A module that fits only one layer goes there.
Of several alike, the first goes to the first layer, as PyTorch keeps modules in the order in which a network defines
them. A safetensors file does not keep that order (`reading.has_order`): modules alike are then matched only if their
names differ in numbers alone ("blocks.2.fc", "blocks.10.fc"), in the order of these numbers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import zip_longest

from xpnet.nn.shapes import Shape
from xpnet.weights.layouts import AS_IT_IS, KNOWN, Arrays, Counterpart, joined, role
from xpnet.weights.reading import IGNORED, numbers, unnumbered

HEAD = ("source", "shape", "model", "shape", "layout")
Kind = frozenset[tuple[str, Shape]]
Modules = dict[str, dict[str, Shape]]


@dataclass(frozen=True)
class Pair:
    """A part, the module that goes into it, and the full name in the source of each of its tensors."""

    part: Counterpart
    module: str
    names: dict[str, str]


@dataclass(frozen=True)
class Match:
    """Which tensor of a source goes where; `print(match)` shows a table."""

    pairs: tuple[Pair, ...]

    def rows(self) -> list[tuple[str, str, str, str, str]]:
        """(name in the source, shape, name in the model, shape, change of layout) for each line of the table."""
        rows = []
        for pair in self.pairs:
            theirs = [(pair.names[name], str(shape)) for name, shape in pair.part.theirs.items()]
            ours = [(joined(pair.part.path, name), str(p.shape)) for name, p in pair.part.ours.items()]
            for there, here in zip(_cut(theirs, pair.part.groups), _cut(ours, pair.part.groups), strict=True):
                lines = zip_longest(there, here, [(pair.part.layout,)], fillvalue=("", ""))
                rows += [(*one, *other, layout[0]) for one, other, layout in lines]
        return rows

    def _repr_html_(self) -> str:
        """For notebooks."""
        from xpnet import html

        return html.table(HEAD, self.rows(), left=len(HEAD))

    def __str__(self) -> str:
        rows = [HEAD, *self.rows()]
        widths = [max(len(row[column]) for row in rows) for column in range(5)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)


def paired(parts: list[Counterpart], modules: Modules, names: Mapping[str, str] | None, in_order: bool) -> Match:
    """Which module goes into which part; `names` maps layers here to modules of the source.

    `in_order` says that the source has its modules in the order of its network. Raises ValueError, which lists all that
    does not fit.
    """
    chosen, problems = _said(parts, modules, names or {})
    left = [part for part in parts if part.path not in chosen]
    free = [module for module in modules if module not in chosen.values()]
    if all(part.module in free for part in left):
        chosen |= {part.path: part.module for part in left}
    else:
        by_kind: dict[Kind, tuple[list[Counterpart], list[str]]] = defaultdict(lambda: ([], []))
        for part in left:
            by_kind[_kind(part.theirs)][0].append(part)
        for module in free:
            by_kind[_kind(modules[module])][1].append(module)
        for kind, (ours, theirs) in by_kind.items():
            problems += _doubts(kind, ours, theirs, in_order)
            theirs = theirs if in_order else sorted(theirs, key=numbers)
            chosen |= {part.path: module for part, module in zip(ours, theirs, strict=False)}
    fitting = [part for part in parts if part.path in chosen]
    problems += [line for part in fitting for line in _misfit(part, chosen[part.path], modules[chosen[part.path]])]
    problems += [f"{module}: no layer takes it" for module in modules if module not in chosen.values() and not problems]
    if problems:
        raise ValueError("the weights do not fit the model:\n  " + "\n  ".join(problems))
    return Match(tuple(_pair(part, chosen[part.path], modules[chosen[part.path]]) for part in parts))


def _said(parts: list[Counterpart], modules: Modules, names: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The valid entries of `names`, and what is wrong with the others."""
    paths = [part.path for part in parts]
    wrong = [
        f"names: the model has no layer {path!r}: choose from {', '.join(paths)}" for path in names if path not in paths
    ]
    wrong += [
        f"names: the source has no module {m!r}: choose from {', '.join(modules)}"
        for m in names.values()
        if m not in modules
    ]
    return {path: m for path, m in names.items() if path in paths and m in modules}, wrong


def _pair(part: Counterpart, module: str, held: Mapping[str, Shape]) -> Pair:
    by_role = {role(name): joined(module, name) for name in held}
    return Pair(part, module, {name: by_role[role(name)] for name in part.theirs})


def _cut(rows: list[tuple[str, str]], groups: int) -> list[list[tuple[str, str]]]:
    n = len(rows) // groups
    return [rows[i * n : (i + 1) * n] for i in range(groups)]


def modules_of(tensors: Arrays) -> Modules:
    """Shapes by module: "conv1" -> {"weight": .., "bias": ..}. A tensor of any other name is a module of its own."""
    modules: Modules = {}
    for name, values in tensors.items():
        module, _, last = name.rpartition(".")
        if last == IGNORED:
            continue
        module, last = (module, last) if KNOWN.fullmatch(last) else (name, "")
        modules.setdefault(module, {})[last] = values.shape
    return modules


def _kind(held: Mapping[str, Shape]) -> Kind:
    """What modules are compared by: the roles and shapes of their tensors."""
    return frozenset((role(name), shape) for name, shape in held.items())


def _misfit(part: Counterpart, module: str, held: Mapping[str, Shape]) -> list[str]:
    if "" in held and part.layout != AS_IT_IS:  # its name does not show whether it has PyTorch's layout
        to = joined(module, "weight")
        return [
            f"{module}: its name does not tell its layout; call it {to} to convert it for {part.path}, {part.layout}"
        ]
    if _kind(held) == _kind(part.theirs):
        return []
    there, here = _words(held.items()), _words(part.theirs.items())
    return [f"{module or 'the source'} holds {there}; {part.path or 'the model'} needs {here}"]


def _doubts(kind: Kind, ours: list[Counterpart], theirs: list[str], in_order: bool) -> list[str]:
    """Why these modules, which are all alike, cannot be matched with these layers."""
    held = f"modules with {_words(sorted(kind))}"
    if len(ours) != len(theirs):
        here, there = ", ".join(part.path or "the model" for part in ours), ", ".join(theirs)
        return [f"{held}: the model has {len(ours)} ({here or 'none'}), the source {len(theirs)} ({there or 'none'})"]
    alike = len({unnumbered(module) for module in theirs}) == 1
    if in_order or alike or len(ours) == 1:
        return []
    here = ", ".join(part.path for part in ours)
    return [f"{held}: {', '.join(theirs)} could each be any of {here}; choose with names={{layer: module}}"]


def _words(held: Iterable[tuple[str, Shape]]) -> str:
    return ", ".join(f"{name or 'values'} {shape}" for name, shape in held) or "nothing"
