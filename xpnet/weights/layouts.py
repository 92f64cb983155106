"""How PyTorch names the tensors of each layer, and their layouts.

The parameters of a layer of your own keep their names and layouts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn.layer import Layer, Parameter
from xpnet.nn.shapes import Shape
from xpnet.nn.through_time import Recurrent

Arrays = dict[str, np.ndarray]
Convert = Callable[[Arrays], Arrays]
AS_IT_IS = "as it is"


@dataclass(frozen=True)
class Counterpart:
    """A layer of the model, or a part of one, and the module in PyTorch or Keras that corresponds to it.

    `path` is the path of the layer here, `module` the module's usual name there (in PyTorch, its name in a
    `torch.nn.Sequential` of the same structure). `theirs` holds the shapes of the module's tensors by name, `ours` the
    parameters here. `to_ours` converts the values of all tensors, `to_theirs` converts them back; the latter is None
    for Keras. `layout` describes the change of layout.
    """

    path: str
    module: str
    theirs: dict[str, Shape]
    ours: dict[str, Parameter]
    to_ours: Convert
    to_theirs: Convert | None = None
    layout: str = AS_IT_IS
    groups: int = 1  # sets of tensors that belong together, such as the directions and layers of an LSTM


KNOWN = re.compile(  # names of tensors in modules; any other name is a module of one tensor
    r"weight|bias|running_mean|running_var|in_proj_(weight|bias)|[qkv]_proj_weight|(weight|bias)_[ih]h_l\d+(_reverse)?"
)


def role(name: str) -> str:
    """The role of a tensor: one name for tensors that do the same under different names, as in attention."""
    return {"in_proj_weight": "weight", "in_proj_bias": "bias", "": "weight"}.get(name, name)


def joined(module: str, name: str) -> str:
    """The full name of a tensor or a parameter."""
    return ".".join(filter(None, (module, name)))


def parts_of(network: Layer) -> Iterator[Counterpart]:
    """All parts of a built network, in the order of its layers; a layer that is used twice comes once."""
    seen: set[int] = set()
    for path, layer in network.walk():
        if id(layer) not in seen:
            seen.update({id(layer)} | _inner(layer))
            yield from LAYOUTS.get(type(layer), _as_it_is)(layer, path)


def own_parts(parameters: dict[str, Parameter]) -> list[Counterpart]:
    """Each parameter as a part of its own, under its own name and in its own layout, as in `Model.tensors`."""
    return [Counterpart(name, name, {"": p.shape}, {"": p}, dict, dict) for name, p in parameters.items()]


def _inner(layer: Layer) -> set[int]:
    """The inner layers that are not modules of their own in PyTorch."""
    return {id(inner) for _, inner in layer.children()} if isinstance(layer, nn.MultiHeadAttention) else set()


def _module(path: str, *more: str) -> str:
    """The name of a module in PyTorch: the path of the layer here without the key `layers`."""
    return ".".join([key for key in path.split(".") if key not in ("layers", "")] + list(more))


# One parameter for one tensor -------------------------------------------------------------------------------------


def _renamed(names: dict[str, str], turn: tuple[int, ...] = (), layout: str = AS_IT_IS) -> Any:
    """A function for layers whose parameters have other names in PyTorch: `names` maps ours to theirs.

    If `turn` is given, the first parameter has its axes in another order: theirs is ours.transpose(turn).
    """
    first = next(iter(names))
    back = tuple(int(i) for i in np.argsort(turn))

    def parts(layer: Layer, path: str) -> Iterator[Counterpart]:
        ours = {name: vars(layer)[name] for name in names if isinstance(vars(layer).get(name), Parameter)}

        def turned(values: Arrays, axes: tuple[int, ...]) -> Arrays:
            return {k: v.transpose(axes) if turn and k in (first, names[first]) else v for k, v in values.items()}

        def to_theirs(values: Arrays) -> Arrays:
            return turned({names[name]: v for name, v in values.items()}, turn)

        def to_ours(values: Arrays) -> Arrays:
            return turned({name: values[names[name]] for name in ours}, back)

        shapes = {n: v.shape for n, v in to_theirs({n: np.empty(p.shape, np.bool_) for n, p in ours.items()}).items()}
        yield Counterpart(path, _module(path), shapes, ours, to_ours, to_theirs, layout)

    return parts


def _as_it_is(layer: Layer, path: str) -> Iterator[Counterpart]:
    own = {name: p for name, p in vars(layer).items() if isinstance(p, Parameter)}
    together = {name: p for name, p in own.items() if KNOWN.fullmatch(name)}
    if together:
        yield Counterpart(path, _module(path), {n: p.shape for n, p in together.items()}, together, dict, dict)
    for name, p in own.items():
        if name not in together:
            yield Counterpart(joined(path, name), _module(path, name), {"": p.shape}, {"": p}, dict, dict)


# Several ----------------------------------------------------------------------------------------------------------


def _attention(layer: nn.MultiHeadAttention, path: str) -> Iterator[Counterpart]:
    """PyTorch joins q, k and v in one matrix, or has three if the memory has another number of channels."""
    linears = [layer.q, layer.kv] if layer.crossed else [layer.qkv]
    C, widths = layer.out.W.shape[0], {linear.W.shape[0] for linear in linears}
    ours = {f"{name}.{key}": p for name, linear in layer.children() if name != "out" for key, p in linear.parameters()}
    apart = [f"{letter}_proj_weight" for letter in "qkv"] if len(widths) > 1 else []
    ends = np.cumsum([linear.W.shape[1] for linear in linears])[:-1]

    def rows(values: Arrays, key: str) -> list[np.ndarray]:
        """The matrices (outputs first) or biases of q, k and v."""
        found = [v.T for name, v in values.items() if name.endswith(key)]
        return [part for v in found for part in np.split(v, len(v) // C)]

    def to_theirs(values: Arrays) -> Arrays:
        W, b = rows(values, ".W"), rows(values, ".b")
        weights = dict(zip(apart, W, strict=True)) if apart else {"in_proj_weight": np.concatenate(W)}
        return weights | ({"in_proj_bias": np.concatenate(b)} if b else {})

    def to_ours(values: Arrays) -> Arrays:
        q, k, v = [values[name] for name in apart] if apart else np.split(values["in_proj_weight"], 3)
        W = [q, np.concatenate([k, v])] if layer.crossed else [np.concatenate([q, k, v])]
        b = np.split(values["in_proj_bias"], ends) if "in_proj_bias" in values else []
        names = [name for name, _ in layer.children() if name != "out"]
        both = {f"{name}.W": w.T for name, w in zip(names, W, strict=True)}
        return both | ({f"{name}.b": v for name, v in zip(names, b, strict=True)} if b else {})

    shapes = {name: v.shape for name, v in to_theirs({n: np.empty(p.shape, np.bool_) for n, p in ours.items()}).items()}
    layout = "(out, in) -> (in, out)" + (", q apart from k, v" if layer.crossed else "")
    yield Counterpart(path, _module(path), shapes, ours, to_ours, to_theirs, layout)
    yield from (replace(part, module=_module(path, "out_proj")) for part in LINEAR(layer.out, joined(path, "out")))


GATES = {nn.RNN: (0,), nn.LSTM: (0, 1, 3, 2), nn.GRU: (0, 1, 2)}  # our gates in PyTorch's order (LSTM: i f n o)


def _recurrent(layer: Recurrent, path: str) -> Iterator[Counterpart]:
    """PyTorch has two biases, of x W and of h U. Here their sum is one bias, except for a GRU's b_hn, inside gate r."""
    order, u = GATES[type(layer)], layer.units
    columns = np.concatenate([np.arange(gate * u, (gate + 1) * u) for gate in order])
    back = np.argsort(columns)
    ours = {f"cells.{i}.{name}": p for i, cell in enumerate(layer.cells) for name, p in cell.items()}
    ends = [f"l{i // layer.directions}" + "_reverse" * (i % layer.directions) for i in range(len(layer.cells))]

    def to_theirs(values: Arrays) -> Arrays:
        out: Arrays = {}
        for i, end in enumerate(ends):
            W, U, b = (values[f"cells.{i}.{name}"] for name in "WUb")
            of_h = np.zeros_like(b)
            if f"cells.{i}.b_hn" in values:
                of_h[-u:] = values[f"cells.{i}.b_hn"]
            out |= {f"weight_ih_{end}": W.T[columns], f"weight_hh_{end}": U.T[columns]}
            out |= {f"bias_ih_{end}": b[columns], f"bias_hh_{end}": of_h[columns]}
        return out

    def to_ours(values: Arrays) -> Arrays:
        out: Arrays = {}
        for i, end in enumerate(ends):
            W, U = (values[f"weight_{way}_{end}"][back].T for way in ("ih", "hh"))
            of_x, of_h = (values[f"bias_{way}_{end}"][back] for way in ("ih", "hh"))
            if f"cells.{i}.b_hn" in ours:
                out[f"cells.{i}.b_hn"] = of_h[-u:]
                of_h = np.append(of_h[:-u], np.zeros(u))
            out |= {f"cells.{i}.W": W, f"cells.{i}.U": U, f"cells.{i}.b": np.add(of_x, of_h, dtype=np.float64)}
        return out

    shapes = {n: v.shape for n, v in to_theirs({n: np.empty(p.shape) for n, p in ours.items()}).items()}
    gates = ", gates i f n o -> i f o n" if isinstance(layer, nn.LSTM) else ""
    layout = f"(out, in) -> (in, out){gates}, biases added"
    yield Counterpart(path, _module(path), shapes, ours, to_ours, to_theirs, layout, groups=len(ends))


LINEAR = _renamed({"W": "weight", "b": "bias"}, (1, 0), "(out, in) -> (in, out)")
IMAGES = _renamed({"W": "weight", "b": "bias"}, (3, 2, 0, 1), "OIHW -> HWIO")
SCALED = _renamed({"gamma": "weight", "beta": "bias", "running_mean": "running_mean", "running_var": "running_var"})
TABLE = _renamed({"W": "weight"})
LAYOUTS: dict[type[Layer], Any] = {
    nn.Linear: LINEAR,
    nn.Conv1d: _renamed({"W": "weight", "b": "bias"}, (2, 1, 0), "OIW -> WIO"),
    nn.Conv2d: IMAGES,
    nn.ConvTranspose2d: _renamed({"W": "weight", "b": "bias"}, (3, 2, 0, 1), "IOHW -> HWOI"),
    nn.BatchNorm: SCALED,
    nn.LayerNorm: SCALED,
    nn.GroupNorm: SCALED,
    nn.RMSNorm: SCALED,
    nn.PReLU: _renamed({"a": "weight"}),
    nn.Embedding: TABLE,
    nn.LearnedPosition: TABLE,
    nn.MultiHeadAttention: _attention,
    **dict.fromkeys((nn.RNN, nn.LSTM, nn.GRU), _recurrent),
}
