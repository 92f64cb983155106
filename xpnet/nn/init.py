"""Initial values of parameters, drawn on the host in float64, so that they are the same on every device.

Let n_in be the number of inputs that an output sums (fan-in), and n_out the number of outputs that an input goes to
(fan-out). For a kernel, these are its number of positions times the channels in, or out. The variance is 2 / n_in (He:
layers followed by ReLU), 2 / (n_in + n_out) (Glorot: tanh, sigmoid) or 1 / n_in (LeCun), which keeps activations and
gradients at the same size from layer to layer. The uniform forms draw from (-a, a) with a = sqrt(3 variance).

`orthogonal` draws an orthogonal matrix, or as many of its rows or columns as fit, with entries of variance
1 / max(rows, columns). A vector multiplied by it again and again, as in a recurrent layer, keeps its length (Saxe,
McClelland and Ganguli, 2014).

LeCun, Bottou, Orr and Mueller, "Efficient BackProp" (1998); Glorot and Bengio (2010); He, Zhang, Ren and Sun,
"Delving deep into rectifiers" (2015).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xpnet import elsewhere
from xpnet.arguments import number

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Initializer:
    """init(rng, shape) -> float64 array on the host.

    The last axis of a weight is the channels out, the one before it the channels in. Any axes before these are the
    kernel's.
    """

    name: str
    draw: Callable[[np.random.Generator, Shape], np.ndarray]
    value: float | None = None  # the argument of `constant`, `normal` or `uniform`

    def __call__(self, rng: np.random.Generator, shape: Shape) -> np.ndarray:
        return self.draw(rng, shape)

    def __reduce__(self) -> tuple:
        named(self.name, self.value)  # ValueError for an initializer of your own: it could not be read back
        return named, (self.name, self.value)

    def __repr__(self) -> str:
        return self.name if self.value is None else f"{self.name}({self.value})"


def _scaled(name: str, variance: Callable[[int, int], float], normal: bool) -> Initializer:
    """An initializer of variance(n_in, n_out), normal or uniform."""

    def draw(rng: np.random.Generator, shape: Shape) -> np.ndarray:
        n_in, n_out = math.prod(shape[:-1]), math.prod(shape[:-2]) * shape[-1]
        deviation = math.sqrt(variance(max(n_in, 1), n_out))
        if normal:
            return deviation * rng.standard_normal(shape)
        return rng.uniform(-1, 1, shape) * (math.sqrt(3) * deviation)

    return Initializer(name, draw)


he_normal = _scaled("he_normal", lambda n_in, n_out: 2 / n_in, normal=True)
he_uniform = _scaled("he_uniform", lambda n_in, n_out: 2 / n_in, normal=False)
glorot_normal = _scaled("glorot_normal", lambda n_in, n_out: 2 / (n_in + n_out), normal=True)
glorot_uniform = _scaled("glorot_uniform", lambda n_in, n_out: 2 / (n_in + n_out), normal=False)
lecun_normal = _scaled("lecun_normal", lambda n_in, n_out: 1 / n_in, normal=True)
lecun_uniform = _scaled("lecun_uniform", lambda n_in, n_out: 1 / n_in, normal=False)


def _orthogonal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Q of a normal matrix's QR decomposition (or Q^T, if wide); its rows are all axes of `shape` but the last."""
    columns = shape[-1]
    rows = math.prod(shape) // columns
    q, r = np.linalg.qr(rng.standard_normal((max(rows, columns), min(rows, columns))))
    q *= np.copysign(1.0, np.diagonal(r))  # else not every orthogonal matrix is equally likely (Mezzadri, 2007)
    return (q if rows >= columns else q.T).reshape(shape)


orthogonal = Initializer("orthogonal", _orthogonal)
zeros = Initializer("zeros", lambda rng, shape: np.zeros(shape))


def constant(value: float) -> Initializer:
    """Every entry is `value`."""
    value = number("value of constant", value)
    return Initializer("constant", lambda rng, shape: np.full(shape, value), value)


def normal(std: float) -> Initializer:
    """Normal, of mean 0 and standard deviation `std`."""
    std = number("std of normal", std, above=0)
    return Initializer("normal", lambda rng, shape: std * rng.standard_normal(shape), std)


def uniform(a: float) -> Initializer:
    """Uniform in (-a, a)."""
    a = number("a of uniform", a, above=0)
    return Initializer("uniform", lambda rng, shape: rng.uniform(-a, a, shape), a)


PLAIN = {
    init.name: init
    for init in (he_normal, he_uniform, glorot_normal, glorot_uniform, lecun_normal, lecun_uniform, orthogonal, zeros)
}
WITH_VALUE = {"constant": constant, "normal": normal, "uniform": uniform}


def named(name: str, value: float | None = None) -> Initializer:
    """The initializer of this name, as a saved model has it.

    Raises ValueError for an unknown name.
    """
    if value is None and name in PLAIN:
        return PLAIN[name]
    if value is not None and name in WITH_VALUE:
        return WITH_VALUE[name](value)
    raise ValueError(f"unknown initializer {name!r}: choose one of {', '.join([*PLAIN, *WITH_VALUE])}")


if not TYPE_CHECKING:  # which would then take any name for one that exists
    __getattr__ = elsewhere.names_of_module("nn.init", globals())
