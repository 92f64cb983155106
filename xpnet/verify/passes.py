"""One forward and backward pass on any backend, from host arrays to host arrays. All checks are built on it.

`values` holds everything that goes in, by name: "x", "dy" and the parameters ("layers.0.W"). The result holds all
that comes out: "y", "dx", the gradients ("d layers.0.W") and state that is not trained ("state layers.0.mean"). With
several inputs or outputs, the names are "x[0]", "dx[0]" and so on. Values are drawn so that float32 holds them exactly:
every backend and every dtype starts from the same numbers.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.backend.random import HostPhilox
from xpnet.nn import Layer, Linear, Model
from xpnet.nn.declared import declare
from xpnet.nn.shapes import Shape, each, is_several
from xpnet.optim import Optimizer, clip_norm
from xpnet.verify.tolerances import SUM, Arrays, moved

SEED = 7  # of the backends' random streams
FREE_LENGTH = 5  # of samples along axes of free length

BackendFactory = Callable[[str, int], Backend]  # kind(dtype, seed): `Backend`, `StrictBackend`, `CudaBackend`
Draw = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


@dataclass(frozen=True)
class Subject:
    """A layer to check: how it is made, the shape of one sample, the number of samples, the mode.

    `draw` makes the inputs; for several inputs it may be a tuple with one function for each.
    """

    make: Callable[[], Layer]
    shape: Shape
    batch: int
    training: bool
    draw: Draw | tuple[Draw, ...]

    @property
    def lengths(self) -> Shape:
        """The shape of the samples that are drawn, in which no axis is free."""
        return concrete(self.shape)


def concrete(shape: Shape) -> Shape:
    """The shape with FREE_LENGTH for every axis of free length."""
    if is_several(shape):
        return tuple(map(concrete, shape))
    return tuple(FREE_LENGTH if n is None else n for n in shape)


def spread(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in (-2, 2) in random order, all different and none of them 0: away from the kinks of ReLU and maxima."""
    size = math.prod(shape)
    places = rng.permutation(size) + 0.25 + rng.uniform(-0.1, 0.1, size)
    return (4 / max(size, 1) * places - 2).reshape(shape)


def spread_samples(rng: np.random.Generator, n: int, shape: Shape) -> Any:
    """n samples of this shape filled by `spread`, or a tuple for several inputs; free axes have length FREE_LENGTH."""
    lengths = concrete(shape)
    return tuple(spread(rng, (n, *s)) for s in lengths) if is_several(lengths) else spread(rng, (n, *lengths))


def pixels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Whole numbers from 0 to 255, as uint8."""
    return rng.integers(0, 256, shape, dtype=np.uint8)


def signs(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of absolute value 0.5 to 1.5 and random sign, so that a missing term always shows."""
    return rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)


def in_float32(values: Arrays) -> Arrays:
    """The values rounded to numbers that float32 holds exactly."""
    return {k: v.astype(np.float32).astype(np.float64) if v.dtype.kind == "f" else v for k, v in values.items()}


def draw_values(subject: Subject, seed: int = 0) -> Arrays:
    """x, dy and parameters for one pass. Parameters differ from their initial values: a bias of 0 hides mistakes."""
    rng = np.random.default_rng([seed, subject.batch])
    declare(subject.make(), subject.shape)  # it must be possible with free axes too
    output_shape, parameters = declare(subject.make(), subject.lengths)
    values = {}
    shapes = named("x", subject.lengths, is_several(subject.lengths))
    draws = subject.draw if isinstance(subject.draw, tuple) else (subject.draw,) * len(shapes)
    for (name, shape), draw in zip(shapes.items(), draws, strict=True):
        one = draw(rng, (subject.batch, *shape))
        if isinstance(one, tuple):
            raise ValueError("draw returned a tuple: for several inputs, give a tuple of functions, one for each input")
        values[name] = drawn = np.asarray(one)
        if drawn.shape != (subject.batch, *shape):
            raise ValueError(
                f"draw returned {name} of shape {drawn.shape}, but was asked for {(subject.batch, *shape)}"
            )
    for name, shape in named("dy", output_shape, is_several(output_shape)).items():
        values[name] = signs(rng, (subject.batch, *shape))
    for name, parameter in parameters.items():
        values[name] = parameter.init(rng, parameter.shape) + rng.uniform(-0.3, 0.3, parameter.shape)
    return in_float32(values)


def loss_values(y: np.ndarray, drawn: Any) -> Arrays:
    """What goes into a loss, by name: "y", "target" and, where a target with weights was drawn, "weights"."""
    target = dict(zip(("target", "weights"), drawn, strict=True)) if isinstance(drawn, tuple) else {"target": drawn}
    return in_float32({"y": y, **target})


def target_of(values: Arrays, put: Callable[[np.ndarray], Any] = np.asarray) -> Any:
    """The target in these values, or the tuple of target and weights."""
    return tuple(put(values[k]) for k in ("target", "weights")) if "weights" in values else put(values["target"])


def named(name: str, values: Any, several: bool | None = None) -> dict[str, Any]:
    """{"x": values}, or {"x[0]": values[0], ...} if there are several: by default, if `values` is a tuple."""
    several = isinstance(values, tuple) if several is None else several
    return {f"{name}[{i}]": value for i, value in enumerate(values)} if several else {name: values}


def unnamed(name: str, values: dict[str, Any]) -> Any:
    """The reverse of `named`: one value, or a tuple of several."""
    several = tuple(value for key, value in values.items() if re.fullmatch(rf"{name}\[\d+\]", key))
    return several or values[name]


def is_data(name: str) -> bool:
    """Whether this is the name of an x or a dy, whose first axis is the batch."""
    return bool(re.fullmatch(r"(x|dy)(\[\d+\])?", name))


class Pass:
    """The subject's network, x and dy on a backend, before any pass."""

    def __init__(self, subject: Subject, values: Arrays, backend: Backend):
        self.backend, self.training = backend, subject.training
        tensors = {name: v for name, v in values.items() if not is_data(name)}
        self.model = Model(subject.make(), subject.shape, backend, tensors=tensors)
        self.x, self.dy = (each(lambda v: backend.asarray(v.copy()), unnamed(key, values)) for key in ("x", "dy"))

    def forward(self, x: Any) -> tuple[Array, Callable[..., Any]]:
        with self.backend.mode(self.training):
            return self.model.forward(x)

    def run(self, need_dx: bool = True) -> Arrays:
        """Forward and backward; returns all results."""
        y, backward = self.forward(self.x)
        dx = backward(self.dy, need_dx)
        return self.results(y, dx if need_dx else None)

    def results(self, y: Any, dx: Any) -> Arrays:
        out = named("y", y) | named("dx", dx)
        arrays = {name: np.array(self.backend.to_host(a)) for name, a in out.items() if a is not None}
        return arrays | self.gradients() | self.state()

    def state(self) -> Arrays:
        """A host copy of the parameters that are not trained, by name."""
        state = {name: p for name, p in self.model.parameters.items() if not p.trained}
        return {f"state {name}": np.array(self.backend.to_host(p.data)) for name, p in state.items()}

    def gradients(self) -> Arrays:
        """A host copy of the gradients, by name."""
        trained = {name: p for name, p in self.model.parameters.items() if p.trained}
        return {f"d {name}": np.array(self.backend.to_host(p.grad)) for name, p in trained.items()}


def run(subject: Subject, values: Arrays, backend: Backend) -> Arrays:
    """One pass, forward and backward, starting from gradients of 0."""
    return Pass(subject, values, backend).run()


@dataclass(frozen=True)
class Trial:
    """A subject with these values, on a new backend for every pass."""

    subject: Subject
    values: Arrays
    fresh: Callable[[], Backend]

    def begin(self) -> Pass:
        return Pass(self.subject, self.values, self.fresh())

    @cached_property
    def result(self) -> Arrays:
        """The results of one pass."""
        return self.begin().run()

    @cached_property
    def others(self) -> Arrays:
        """Other values under the same names, drawn from another seed."""
        return draw_values(self.subject, seed=1)


def run_optimizer(
    make: Callable[[Model], Optimizer], values: Arrays, backend: Backend, clip: float | None = None
) -> Arrays:
    """W and b after a captured step with each of the gradients ("gradients W" and "gradients b", by step)."""
    n_in, n_out = values["W"].shape
    model = Model(Linear(n_out), (n_in,), backend, tensors={"W": values["W"].copy(), "b": values["b"].copy()})
    optimizer = make(model)

    def step(gradient_W: Array, gradient_b: Array) -> None:
        for name, gradient in (("W", gradient_W), ("b", gradient_b)):
            model.parameters[name].grad[...] = gradient
        if clip is not None:
            clip_norm(model, clip)
        optimizer.step()

    replayed = backend.capture(step)
    for gradients in zip(values["gradients W"], values["gradients b"], strict=True):
        replayed(*(backend.asarray(g) for g in gradients))
    return model.tensors()


class Float64(Backend):
    """float64 on the CPU, with random numbers drawn as in another dtype, so that dropout masks are the same."""

    def __init__(self, draws: str = "float32"):
        self._draws = np.dtype(draws)
        super().__init__("float64", SEED)

    def _stream(self, seed: int) -> HostPhilox:
        return _DrawsOf(self._draws, seed)


class _DrawsOf(HostPhilox):
    def __init__(self, dtype: np.dtype, seed: int):
        super().__init__(seed)
        self._dtype = dtype

    def random(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        return super().random(shape, self._dtype).astype(dtype)


class MovedProducts(Float64):
    """`Float64` with all operands of products perturbed by a relative `epsilon`, up or down at random."""

    def __init__(self, epsilon: float, draw: int):
        super().__init__()
        self.precision = "moved"  # so that products call `_rounded`
        self._epsilon, self._chance = epsilon, np.random.default_rng(draw)

    def _rounded(self, a: Array) -> Array:
        return moved(a, self._epsilon, self._chance)


class MovedSums(Float64):
    """`Float64` with every term of a sum over rows perturbed by a relative `epsilon`, up or down by `chance`."""

    def __init__(self, epsilon: float, chance: np.random.Generator, draws: str):
        super().__init__(draws=draws)
        self._epsilon, self._chance = epsilon, chance

    def sum_rows(self, a: Array, out: Array | None = None) -> Array:
        return super().sum_rows(moved(a, self._epsilon, self._chance), out)


class MovedTotals(Float64):
    """`Float64` with every sum of products perturbed, up or down at random, by the rounding error of float32 in it.

    Adding term by term rounds every partial sum S_k, by SUM |S_k| in the root mean square. The error of n additions is
    thus SUM sqrt(S_1^2 + ... + S_n^2): Higham, "Accuracy and Stability of Numerical Algorithms" (2002), sections 3.1
    and 4.2; Higham and Mary, "A new approach to probabilistic rounding error analysis" (2019). Where terms cancel, the
    S_k are large although the sum is not. Of every `EVERY` partial sums, the last is used for all of them.

    `longest` is the largest number of terms of any sum so far.
    """

    EVERY = 16
    longest = 0

    def __init__(self, draw: int, draws: str):
        super().__init__(draws=draws)
        self._chance = np.random.default_rng(draw)

    def chunks(self, size: int, numbers: int = 1) -> Iterator[slice]:
        yield slice(0, size)  # as on a GPU, where sums are longest

    def _product(self, a: Array, b: Array, out: Array | None) -> Array:
        terms = a.shape[-1]
        self.longest = max(self.longest, terms)
        total, squares = super()._product(a[..., :0], b[:0] if b.ndim == 1 else b[..., :0, :], None), 0.0
        for start in range(0, terms, self.EVERY):
            some = slice(start, min(start + self.EVERY, terms))
            total = total + np.matmul(a[..., some], b[some] if b.ndim == 1 else b[..., some, :])
            squares = squares + (some.stop - some.start) * total**2
        total = total + SUM * np.sqrt(squares) * self._chance.choice([-1, 1], total.shape)
        if out is None:
            return total
        out[...] = total
        return out
