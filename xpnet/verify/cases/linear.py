"""Linear, the fully connected layer; and Standardize."""

from __future__ import annotations

from typing import Any

from xpnet import nn
from xpnet.nn import init
from xpnet.verify.cases.arithmetic import Number, Numbers, Parameters, Reference, each, filled
from xpnet.verify.passes import pixels
from xpnet.verify.rows import LayerCase


def linear(x: Numbers, p: Parameters) -> Numbers:
    W, b = p["W"], p.get("b")

    def number(*at: int) -> Number:
        *row, j = at
        products = (x[(*row, i)] * W[i, j] for i in range(len(W)))
        return sum(products, start=0.0 if b is None else b[j])

    return filled((*x.shape[:-1], W.shape[1]), number)


def standardize(mean: float, std: float) -> Reference:
    return each(lambda v: (v - mean) / std)


def standardize_columns(mean: tuple[float, ...], std: tuple[float, ...]) -> Reference:
    """Each place of the last axis has its own mean and standard deviation."""
    return lambda x, p: filled(x.shape, lambda *at: (x[at] - mean[at[-1]]) / std[at[-1]])


def _torch_linear(torch: Any, x: Any, p: dict[str, Any]) -> Any:
    return torch.nn.functional.linear(x, p["W"].T, p.get("b"))


CASES: tuple[LayerCase, ...] = (
    LayerCase("Linear", "vectors", lambda: nn.Linear(4), (7,), linear, _torch_linear),
    LayerCase("Linear", "no bias", lambda: nn.Linear(4, bias=False), (7,), linear, _torch_linear),
    LayerCase("Linear", "one to one", lambda: nn.Linear(1, n_in=1), (1,), linear, _torch_linear, (1, 3)),
    LayerCase("Linear", "rows of 3-D inputs", lambda: nn.Linear(5), (4, 3), linear, _torch_linear),
    LayerCase("Linear", "rows of 4-D inputs", lambda: nn.Linear(2, init=init.glorot_uniform), (2, 3, 5), linear),
    LayerCase("Linear", "wide", lambda: nn.Linear(64), (129,), None, _torch_linear, (33,)),
    LayerCase("Standardize", "floats", lambda: nn.Standardize(0.4, 2.5), (6,), standardize(0.4, 2.5)),
    LayerCase("Standardize", "pixels", lambda: nn.Standardize(33.3, 7.6), (4, 4), standardize(33.3, 7.6), draw=pixels),
    LayerCase(
        "Standardize", "columns", lambda: nn.Standardize((0.5, -2.0, 30.0), (0.1, 1.0, 20.0)), (2, 3),
        standardize_columns((0.5, -2.0, 30.0), (0.1, 1.0, 20.0)),
    ),
)  # fmt: skip
