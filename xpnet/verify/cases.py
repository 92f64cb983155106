"""The table of cases: at least one row for every public layer, loss, optimizer, initialiser and schedule.

The rows of the layers are here, all others in `cases_training.py`.

Whoever adds one of those adds a row here, and every witness looks at it on every device. `reference` is a formula of
`reference.py`, `torch` the same in PyTorch; all other witnesses need neither. `uncovered()` names what has no row.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

from xpnet import losses, nn, optim, schedules
from xpnet.nn import Layer, init
from xpnet.verify import reference as ref
from xpnet.verify.cases_conv import CONV
from xpnet.verify.cases_pool import POOL
from xpnet.verify.cases_training import INITIALISERS, LOSSES, OPTIMIZERS, SCHEDULES
from xpnet.verify.passes import SEED, pixels
from xpnet.verify.rows import Case, LayerCase, Numbers


def _relu_net(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    hidden = ref.each(ref.relu, ref.linear(x, p["layers.0.W"], p["layers.0.b"]))
    return ref.linear(hidden, p["layers.2.W"], p["layers.2.b"])


def _dropout_net(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    stream = ref.Stream(SEED)
    for i in (0, 3):
        x = ref.each(ref.tanh, ref.linear(x, p[f"layers.{i}.W"], p[f"layers.{i}.b"]))
        x = ref.dropout(x, 0.4, stream)
    return ref.linear(x, p["layers.6.W"], p["layers.6.b"])


def _nested_residual(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    inner = ref.linear(x, p["layers.0.W"], p["layers.0.b"])
    inner = ref.residual(inner, ref.each(ref.tanh, ref.linear(inner, p["layers.1.layers.0.W"])))
    return ref.residual(x, inner)


def _twice(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    hidden = ref.each(ref.tanh, ref.linear(x, p["layers.0.W"], p["layers.0.b"]))
    return ref.linear(hidden, p["layers.0.W"], p["layers.0.b"])


def _used_twice() -> Layer:
    layer = nn.Linear(4)
    return nn.Sequential(layer, nn.Tanh(), layer)


def _linear(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    return ref.linear(x, p["W"], p.get("b"))


def _torch_linear(torch: Any, x: Any, p: dict[str, Any]) -> Any:
    return torch.nn.functional.linear(x, p["W"].T, p.get("b"))


def _elementwise(of: str, make: Callable[[], Layer], formula: Callable, torch: Callable) -> list[LayerCase]:
    """An activation on vectors, on pictures and on one number."""
    reference = lambda x, p: ref.each(formula, x)
    shapes = {"vectors": (7,), "3 x 2 x 5": (3, 2, 5), "one number": (1,)}
    return [LayerCase(of, what, make, shape, reference, torch) for what, shape in shapes.items()]


LAYERS: tuple[LayerCase, ...] = (
    LayerCase("Linear", "vectors", lambda: nn.Linear(4), (7,), _linear, _torch_linear),
    LayerCase("Linear", "no bias", lambda: nn.Linear(4, bias=False), (7,), _linear, _torch_linear),
    LayerCase("Linear", "one to one", lambda: nn.Linear(1, n_in=1), (1,), _linear, _torch_linear, (1, 3)),
    LayerCase("Linear", "rows of 3-D inputs", lambda: nn.Linear(5), (4, 3), _linear, _torch_linear),
    LayerCase("Linear", "rows of 4-D inputs", lambda: nn.Linear(2, init=init.glorot_uniform), (2, 3, 5), _linear),
    LayerCase("Linear", "wide", lambda: nn.Linear(64), (129,), None, _torch_linear, (33,)),
    *_elementwise("ReLU", nn.ReLU, ref.relu, lambda t, x, p: t.relu(x)),
    *_elementwise(
        "LeakyReLU",
        lambda: nn.LeakyReLU(0.2),
        partial(ref.leaky_relu, slope=0.2),
        lambda t, x, p: t.nn.functional.leaky_relu(x, 0.2),
    ),
    LayerCase(
        "LeakyReLU", "usual slope", nn.LeakyReLU, (6,), lambda x, p: ref.each(lambda v: ref.leaky_relu(v, 0.01), x)
    ),
    *_elementwise("Sigmoid", nn.Sigmoid, ref.sigmoid, lambda t, x, p: t.sigmoid(x)),
    *_elementwise("Tanh", nn.Tanh, ref.tanh, lambda t, x, p: t.tanh(x)),
    *_elementwise("GELU", nn.GELU, ref.gelu, lambda t, x, p: t.nn.functional.gelu(x, approximate="tanh")),
    LayerCase("Softmax", "vectors", nn.Softmax, (7,), lambda x, p: ref.softmax(x), lambda t, x, p: t.softmax(x, -1)),
    LayerCase("Softmax", "rows", nn.Softmax, (3, 4), lambda x, p: ref.softmax(x), lambda t, x, p: t.softmax(x, -1)),
    LayerCase("Softmax", "one number", nn.Softmax, (1,), lambda x, p: ref.softmax(x)),
    LayerCase("Dropout", "evaluation", nn.Dropout, (9,), lambda x, p: x),
    LayerCase(
        "Dropout",
        "training",
        lambda: nn.Dropout(0.3),
        (9,),
        lambda x, p: ref.dropout(x, 0.3, ref.Stream(SEED)),
        training=True,
    ),
    LayerCase(
        "Dropout",
        "training, 3-D",
        nn.Dropout,
        (3, 5),
        lambda x, p: ref.dropout(x, 0.5, ref.Stream(SEED)),
        training=True,
    ),
    LayerCase("Dropout", "p = 0", lambda: nn.Dropout(0.0), (4,), lambda x, p: x, training=True),
    LayerCase("Flatten", "pictures", nn.Flatten, (3, 4, 2), lambda x, p: ref.flatten(x), lambda t, x, p: x.flatten(1)),
    LayerCase("Flatten", "vectors", nn.Flatten, (5,), lambda x, p: ref.flatten(x)),
    LayerCase(
        "Standardize", "floats", lambda: nn.Standardize(0.4, 2.5), (6,), lambda x, p: ref.standardize(x, 0.4, 2.5)
    ),
    LayerCase(
        "Standardize",
        "pixels",
        lambda: nn.Standardize(33.3, 78.6),
        (4, 4),
        lambda x, p: ref.standardize(x, 33.3, 78.6),
        draw=pixels,
    ),
    LayerCase(
        "Sequential",
        "two layers",
        lambda: nn.Sequential(nn.Linear(6), nn.ReLU(), nn.Linear(3)),
        (5,),
        _relu_net,
        lambda t, x, p: t.relu(x @ p["layers.0.W"] + p["layers.0.b"]) @ p["layers.2.W"] + p["layers.2.b"],
    ),
    LayerCase("Sequential", "no layers", nn.Sequential, (3,), lambda x, p: x),
    LayerCase("Sequential", "one layer used twice", _used_twice, (4,), _twice),
    LayerCase(
        "Sequential",
        "no parameters at the bottom",
        lambda: nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(3)),
        (2, 3),
        lambda x, p: ref.linear(ref.each(ref.tanh, ref.flatten(x)), p["layers.2.W"], p["layers.2.b"]),
    ),
    LayerCase(
        "Residual",
        "nested",
        lambda: nn.Residual(nn.Linear(5), nn.Residual(nn.Linear(5, bias=False), nn.Tanh())),
        (5,),
        _nested_residual,
    ),
    LayerCase("Residual", "of nothing", nn.Residual, (3,), lambda x, p: ref.each(lambda v: v + v, x)),
    LayerCase(
        "Residual",
        "of an activation",
        lambda: nn.Residual(nn.ReLU()),
        (2, 3),
        lambda x, p: ref.residual(x, ref.each(ref.relu, x)),
    ),
    LayerCase("mlp", "ReLU", lambda: nn.mlp([5, 6, 3]), (5,), _relu_net),
    LayerCase(
        "mlp", "dropout, training", lambda: nn.mlp([5, 7, 6, 3], nn.Tanh, 0.4), (5,), _dropout_net, training=True
    ),
    LayerCase("mlp", "of a tutorial, evaluation", lambda: nn.mlp([64, 32, 16, 10], dropout=0.1), (64,), batches=(8,)),
    *CONV,
    *POOL,
)


# The table as a whole -----------------------------------------------------------------------------------------

TABLE: tuple[Case, ...] = (*LAYERS, *LOSSES, *OPTIMIZERS, *INITIALISERS, *SCHEDULES)


def public_names() -> Iterator[str]:
    """Everything that must have a row."""
    layers = {n for n in nn.__all__ if inspect.isclass(kind := getattr(nn, n)) and issubclass(kind, Layer)}
    yield from layers - {"Layer"}
    yield "mlp"
    for module in (losses, optim, schedules):
        yield from (n for n in _defined_in(module) if n != "Optimizer")
    yield from init.PLAIN | init.WITH_VALUE


def _defined_in(module: ModuleType) -> Iterator[str]:
    """Classes and functions that the module itself defines for others; no protocols."""
    for attribute, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__ and callable(value)
        if own and not attribute.startswith("_") and not getattr(value, "_is_protocol", False):
            yield attribute


def uncovered() -> list[str]:
    """What is public and has no row."""
    covered = {case.of for case in TABLE}
    return sorted(set(public_names()) - covered)
