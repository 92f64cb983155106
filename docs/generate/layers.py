"""A page for each layer, made from the code: docstring, shapes of a run, source, and the rows of its proof.

Nothing of these pages is written by hand: what is public in `xpnet.nn` has one, and it says what the code says now.
"""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from docs.generate.drawing import drawing
from xpnet import nn
from xpnet.backend import Backend
from xpnet.nn import Layer
from xpnet.nn.shapes import is_several
from xpnet.verify.cases import FAMILIES, LAYERS
from xpnet.verify.gradcheck import gradient_error
from xpnet.verify.invariants import INVARIANTS
from xpnet.verify.passes import SEED, Pass, draw_values, named
from xpnet.verify.rows import LayerCase
from xpnet.verify.witnesses import layer_by_formula

INDEX = "layers/index.md"
NETWORKS = ("mlp", "cnn", "resnet")  # functions that put layers together; they have rows of proof, too
# Explained once, not on each page.
COMMON = (
    "xpnet.nn.layer",
    "xpnet.nn.parameter",
    "xpnet.nn.shapes",
    "xpnet.nn.init",
    "xpnet.backend",
    "xpnet.arguments",
)


def names() -> list[str]:
    """Every layer in `nn.__all__`, and the networks."""
    public = [name for name in nn.__all__ if isinstance(kind := getattr(nn, name), type) and issubclass(kind, Layer)]
    return sorted({*public, *NETWORKS} - {"Layer"}, key=str.lower)


def families() -> dict[str, list[str]]:
    """The names by the file they are in, in the order in which `xpnet.nn` names the files."""
    found: dict[str, list[str]] = {}
    for name in names():
        found.setdefault(_file_of(getattr(nn, name)), []).append(name)
    return dict(sorted(found.items()))


def path_of(name: str) -> str:
    return f"layers/{name.lower()}.md"


def pages() -> dict[str, str]:
    """Path and text of each page."""
    return {INDEX: index(), **{path_of(name): page(name) for name in names()}}


def index() -> str:
    """All layers by file, with the first sentence of each."""
    text = ["# Layers\n\nA page for each, made from the code: what it computes, shapes, source, proof.\n"]
    for title, members in families().items():
        text.append(f"\n## {title}\n\n| layer | |\n|---|---|\n")
        for name in members:
            first = (inspect.getdoc(getattr(nn, name)) or "").split("\n\n")[0].replace("\n", " ")
            text.append(f"| [{name}]({name.lower()}.md) | `{first.replace('`', '').replace('|', chr(0x2223))}` |\n")
    return "".join(text)


def page(name: str) -> str:
    """The page of one layer."""
    of, cases = getattr(nn, name), [case for case in LAYERS if case.of == name]
    if not cases:
        raise ValueError(f"{name} has no row in xpnet/verify/cases, so there is nothing to show as its proof")
    lines, start = inspect.getsourcelines(of)
    module = sys.modules[of.__module__]
    signature = f"nn.{name}{_plain(inspect.signature(of))}"
    parts = [
        f"# {name}\n",
        _block("python", signature, ".wrapped"),
        f"In `{_path(of)}`, line {start}.\n",
        "## What it computes\n",
        _block("text", unfilled(inspect.getdoc(of) or ""), ".wrapped"),
        "## Shapes\n",
        shapes(cases[0]),
        "## The code\n",
        _block("python", "".join(lines), linenums=start),
        *_helpers(of),
        "## The proof\n",
        proof(name, cases),
    ]
    about = inspect.getdoc(module) or ""
    if "\n" in about:
        parts += [f"## About the file\n\nThe head of `{_path(of)}`:\n", _block("text", unfilled(about), ".wrapped")]
    return "\n".join(parts)


def shapes(case: LayerCase) -> str:
    """The drawing and the list of shapes of one run, forward and backward."""
    batch = case.batches[-1]
    subject = case.subject(batch)
    values = draw_values(subject)
    one = Pass(subject, values, Backend("float32", SEED))
    y, backward = one.forward(one.x)
    dx = backward(one.dy)
    inputs = {key: array.shape for key, array in named("x", one.x).items()}
    outputs = {key: array.shape for key, array in named("y", y).items()}
    parameters = {key: p.shape for key, p in one.model.parameters.items()}
    gradients = [(f"d{key}", a.shape) for key, a in named("x", dx).items() if a is not None]
    back = ", ".join(f"{key} {shape}" for key, shape in gradients) or "none: the input has no gradient"
    layer = repr(subject.make())
    shown = layer if len(layer) < 400 else layer[:400] + " ..."
    few = parameters if len(parameters) <= 6 else {}
    text = [
        drawing(inputs, case.of, few, outputs),
        f'\n\nThe shapes of a run of the row "{case.what or case.of}" of the table of cases, on {batch} '
        f"sample{'s' if batch > 1 else ''}; the drawing shows one of them.\n",
        _block("text", shown, ".wrapped"),
        f"The backward gives {back}.",
    ]
    if len(parameters) > len(few):
        rows = "\n".join(f"| `{key}` | {shape} |" for key, shape in parameters.items())
        text.append(f"\n\n| parameter | shape |\n|---|---|\n{rows}")
    return "".join(text) + "\n"


def proof(name: str, cases: list[LayerCase]) -> str:
    """The rows, the witnesses that each has, and what two of them measured while this page was made."""
    rows = []
    for case in cases:
        batch = case.batches[-1]
        subject = case.subject(batch)
        gradient = _measured(gradient_error(subject, draw_values(subject)))
        formula = _measured(layer_by_formula(case, batch)) if case.reference else "-"
        scalar, torch = ("yes" if has else "-" for has in (case.reference, case.torch))
        shape = "several inputs" if is_several(case.shape) else case.shape
        mode = "training" if case.training else "evaluation"
        rows.append(f"| {case.what or name} | {shape}, {mode} | {gradient} | {formula} | {scalar} | {torch} |")
    invariants = ", ".join(invariant.__name__.replace("_", " ") for invariant in INVARIANTS)
    table = "\n".join(rows)
    return f"""\
Its rows of the table are in `{_case_file(cases[0])}`. The errors in the columns with numbers were measured in float64
when this page was made; the allowed error stands in brackets. "-" says that the row has no such witness.

| row | shape of a sample, mode | finite differences | formula in plain loops | scalar engine | PyTorch |
|---|---|---|---|---|---|
{table}

Every row is also checked in float32 and float64, on the CPU, the strict device and a GPU where there is one: its
numbers agree with float64 on the CPU, and these invariants hold: {invariants}.
Exported to ONNX, it is compared with onnxruntime (`tests/test_onnx_export.py`).

```sh
pytest tests/test_layers.py tests/test_torch.py -k "{name}"
```
"""


def unfilled(text: str) -> str:
    """A docstring with the lines of a paragraph joined, so that each screen can wrap it; formulas, lists and tables,
    which are indented or begin with a sign, stay as they are."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        lines = paragraph.split("\n")
        kept = any(line.startswith((" ", "|", "- ")) for line in lines)
        paragraphs.append(paragraph if kept else " ".join(lines))
    return "\n\n".join(paragraphs)


def _measured(found: tuple[float, float, str]) -> str:
    error, allowed, _ = found
    if error > allowed:
        raise AssertionError(f"a witness disagrees: error {error:.1e}, allowed {allowed:.1e}")
    return f"{error:.0e} (allowed {allowed:.0e})" if error else "0"


# Source ---------------------------------------------------------------------------------------------------------


def _helpers(of: Any) -> Iterator[str]:
    """What the code above uses from xpnet's own files and is no layer with a page: its source, folded away."""
    seen: dict[str, Any] = {}
    _collect(of, seen)
    in_order = sorted(seen.items(), key=lambda item: (_path(item[1]) != _path(of), _path(item[1]), _line(item[1])))
    for name, used in in_order:
        lines, start = inspect.getsourcelines(used)
        code = textwrap.indent(_block("python", "".join(lines), linenums=start), "    ")
        yield f'??? note "{name}, which it uses: {_path(used)}"\n\n{code}'


def _collect(of: Any, seen: dict[str, Any]) -> None:
    module = sys.modules[of.__module__]
    tree = ast.parse(textwrap.dedent(inspect.getsource(of)))
    for name in sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}):
        used = getattr(module, name, None)
        if used is of or name in seen or not _is_helper(used):
            continue
        seen[name] = used
        _collect(used, seen)


def _is_helper(used: Any) -> bool:
    place = getattr(used, "__module__", None) or ""
    own = place.startswith("xpnet.") and not place.startswith(COMMON)
    has_source = inspect.isfunction(used) or inspect.isclass(used)
    return own and has_source and getattr(used, "__name__", "") not in names()


def _plain(signature: inspect.Signature) -> str:
    """The signature without annotations; a function as a default by its name."""

    def shown(parameter: inspect.Parameter) -> str:
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = parameter.default
        if default is parameter.empty:
            return star + parameter.name
        return f"{parameter.name}={getattr(default, '__name__', repr(default))}"

    return f"({', '.join(map(shown, signature.parameters.values()))})"


def _block(language: str, text: str, kind: str = "", linenums: int | None = None) -> str:
    """A fenced block; its fence is longer than any in the text."""
    fence = "`" * 4
    options = f' linenums="{linenums}"' if linenums else ""
    head = f"{{ .{language} {kind}{options} }}"
    return f"{fence} {head}\n{text.rstrip()}\n{fence}\n"


def _file_of(of: Callable | type) -> str:
    return of.__module__.rpartition(".")[2].capitalize()


def _line(of: Any) -> int:
    return inspect.getsourcelines(of)[1]


def _path(of: Any) -> str:
    return of.__module__.replace(".", "/") + ".py"


def _case_file(case: LayerCase) -> str:
    family = next(family for family in FAMILIES if case in family.CASES)
    return family.__name__.replace(".", "/") + ".py"
