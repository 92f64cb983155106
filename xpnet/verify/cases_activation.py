"""Activations: what each must compute, one number at a time, and the rows of the table of cases."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet import nn
from xpnet.nn import Layer
from xpnet.scalar import Value
from xpnet.verify import reference as ref
from xpnet.verify.passes import Draw, spread
from xpnet.verify.rows import LayerCase, Numbers

Number = Any  # a float, or a `Value`

# From the formulas ----------------------------------------------------------------------------------------------


def erf(v: Number) -> Number:
    if isinstance(v, float):
        return math.erf(v)
    return Value(math.erf(v.data), (v,), (2.0 / math.sqrt(math.pi) * math.exp(-v.data * v.data),))


def exact_gelu(v: Number) -> Number:
    return v * (1.0 + erf(v / math.sqrt(2.0))) / 2.0


def elu(v: Number, alpha: float) -> Number:
    return v if ref.plain(v) > 0 else alpha * (ref.exp(v) - 1.0)


def selu(v: Number) -> Number:
    return 1.0507009873554804934193349852946 * elu(v, 1.6732632423543772848170429916717)


def silu(v: Number) -> Number:
    return v * ref.sigmoid(v)


def softplus(v: Number) -> Number:
    return ref.log(1.0 + ref.exp(v))


def mish(v: Number) -> Number:
    return v * ref.tanh(softplus(v))


def hard_swish(v: Number) -> Number:
    if ref.plain(v) <= -3:
        return v * 0.0
    return v if ref.plain(v) >= 3 else v * (v + 3.0) / 6.0


def log_softmax(x: Numbers) -> Numbers:
    y = np.empty(x.shape, object)
    for row in np.ndindex(*x.shape[:-1]):
        top = max(ref.plain(v) for v in x[row])
        log_sum = ref.log(sum(ref.exp(v - top) for v in x[row])) + top
        for i, v in enumerate(x[row]):
            y[(*row, i)] = v - log_sum
    return y


def prelu(x: Numbers, p: dict[str, Numbers]) -> Numbers:
    y = np.empty(x.shape, object)
    for at in np.ndindex(*x.shape):
        y[at] = x[at] if ref.plain(x[at]) > 0 else x[at] * p["a"][at[-1]]
    return y


# Rows -----------------------------------------------------------------------------------------------------------


def elementwise(
    of: str, make: Callable[[], Layer], formula: Callable, torch: Callable, what: str = "", draw: Draw = spread
) -> list[LayerCase]:
    """An activation on vectors, on images and on one number."""
    reference = lambda x, p: ref.each(formula, x)
    shapes = {"vectors": (7,), "3 x 2 x 5": (3, 2, 5), "one number": (1,)}
    return [LayerCase(of, what + name, make, shape, reference, torch, draw=draw) for name, shape in shapes.items()]


def wide(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in (-6, 6)."""
    return 3 * spread(rng, shape)


def _torch_prelu(torch: Any, x: Any, p: dict[str, Any]) -> Any:
    return torch.nn.functional.prelu(x.movedim(-1, 1), p["a"]).movedim(1, -1)


ACTIVATIONS: tuple[LayerCase, ...] = (
    *elementwise("ELU", nn.ELU, lambda v: elu(v, 1.0), lambda t, x, p: t.nn.functional.elu(x)),
    *elementwise(
        "ELU", lambda: nn.ELU(0.3), lambda v: elu(v, 0.3), lambda t, x, p: t.nn.functional.elu(x, 0.3), "alpha 0.3, "
    ),
    *elementwise("SELU", nn.SELU, selu, lambda t, x, p: t.selu(x)),
    *elementwise("SiLU", nn.SiLU, silu, lambda t, x, p: t.nn.functional.silu(x)),
    *elementwise("Mish", nn.Mish, mish, lambda t, x, p: t.nn.functional.mish(x)),
    *elementwise("Mish", nn.Mish, mish, lambda t, x, p: t.nn.functional.mish(x), "wide, ", wide),
    *elementwise("Softplus", nn.Softplus, softplus, lambda t, x, p: t.nn.functional.softplus(x)),
    *elementwise("HardSwish", nn.HardSwish, hard_swish, lambda t, x, p: t.nn.functional.hardswish(x), "wide, ", wide),
    *elementwise("GELU", lambda: nn.GELU("none"), exact_gelu, lambda t, x, p: t.nn.functional.gelu(x), "exact, "),
    *elementwise(
        "GELU", lambda: nn.GELU("none"), exact_gelu, lambda t, x, p: t.nn.functional.gelu(x), "exact, wide, ", wide
    ),
    LayerCase("PReLU", "vectors", nn.PReLU, (7,), prelu, _torch_prelu),
    LayerCase("PReLU", "images", lambda: nn.PReLU(0.1), (3, 2, 5), prelu, _torch_prelu),
    LayerCase("PReLU", "one number", lambda: nn.PReLU(-0.5), (1,), prelu, _torch_prelu),
    *(
        LayerCase(
            "LogSoftmax", what, nn.LogSoftmax, shape, lambda x, p: log_softmax(x), lambda t, x, p: t.log_softmax(x, -1)
        )
        for what, shape in {"vectors": (7,), "rows": (3, 4), "one number": (1,)}.items()
    ),
)
