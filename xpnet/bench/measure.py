"""Time a training step: as a whole, layer by layer, and its matrix products alone."""

from __future__ import annotations

import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.arguments import whole
from xpnet.backend import Array, Backend, Observer
from xpnet.data import Dataset
from xpnet.losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from xpnet.nn import Layer, Model
from xpnet.nn.inputs import accepts_integers
from xpnet.nn.shapes import Shape, each, in_tuple, is_several
from xpnet.optim import SGD, Optimizer
from xpnet.train.capture import capture
from xpnet.train.run import Run

FREE = 64  # the length of an axis of free length, if there is no example
N_BATCHES = 4
WARM_UP = 3  # steps before the clock starts
ROUNDS = 7


@dataclass(frozen=True)
class LayerTime:
    """Seconds that a layer takes in a step, without the layers inside it."""

    path: str
    layer: str
    forward: float
    backward: float


@dataclass(frozen=True)
class Bench:
    """Seconds of a step of `batch_size` samples on a device; `str()` of it is a table.

    `step` is the median of some rounds of steps as `fit` runs them, `low` and `high` their extremes; `eager` is why
    the steps were not captured, on a device that could. `layers`, `loss` and `update` are the parts of a step that runs
    layer by layer and waits for the device after each: their sum is more than `step`. `products` is the time of the
    step's matrix products alone, a lower bound for any way to write the layers.
    """

    device: str
    batch_size: int
    step: float
    low: float
    high: float
    layers: tuple[LayerTime, ...]
    loss: float
    update: float
    products: float
    eager: str = ""

    @property
    def parts(self) -> float:
        """The sum of all parts."""
        return sum(row.forward + row.backward for row in self.layers) + self.loss + self.update

    def __str__(self) -> str:
        from xpnet.bench.report import table

        return table(self)


def bench(model: Model, batch_size: int = 64, example: Any = None, seconds: float = 1.0) -> Bench:
    """Time a training step of a copy of the model on its device; the model is left as it is.

    `example` is one or more samples on the host, which are repeated. Without it, samples are drawn at random, or are 0
    if the model takes integers, and an axis of free length has 64. The loss is cross-entropy for a model with class
    names, else the mean squared error; the optimizer is plain gradient descent. `seconds` is about how long the rounds
    take together. Raises ValueError for a model with several outputs, or without parameters.
    """
    whole("batch_size", batch_size, least=1)
    if is_several(model.output_shape):
        raise ValueError("the model has several outputs: there is no loss to time it with")
    if not model.n_parameters:
        raise ValueError("the model has no parameters: there is nothing to train")
    x = _samples(model, batch_size * N_BATCHES, example)
    backend, start = model.backend, model.backend.rng.state  # Dropout draws from it, and a copy of the model shares it
    try:
        run = _run(model.to(backend), x, batch_size)
        with (
            backend.threads_for(batch_size * model.n_parameters),
            backend.mode(training=True),
            np.errstate(all="ignore"),
        ):
            capture(run)
            rounds = list(_rounds(run, seconds))
            clock = _Clock(run, steps=max(3, math.ceil(seconds / 3 / min(rounds))))
            products = _products(run.model, each(lambda a: a[:batch_size], x), clock.steps)
    finally:
        backend.rng.state = start
    return Bench(
        backend.device, batch_size, statistics.median(rounds), min(rounds), max(rounds), clock.layers(),
        clock.seconds("loss"), clock.seconds("update"), products, run.eager,
    )  # fmt: skip


def fastest(backends: Iterable[Backend], make: Callable[[Backend], Run], steps: int = 10) -> dict[str, float]:
    """Seconds of a step of `make(backend)` on each device, the mean of `steps` steps; the fastest device first."""
    found = {}
    for backend in backends:
        run = make(backend)
        with backend.threads_for(_work(run)), backend.mode(training=True), np.errstate(all="ignore"):
            capture(run)
            found[backend.device] = _time(run, steps)
    return dict(sorted(found.items(), key=lambda pair: pair[1]))


# A run to time --------------------------------------------------------------------------------------------------


def _run(model: Model, x: Any, batch_size: int) -> Run:
    shape = tuple(FREE if n is None else n for n in _output_shape(model, x))
    n = len(in_tuple(x)[0])
    loss: Loss = SoftmaxCrossEntropy() if model.classes else MeanSquaredError()
    y = np.zeros((n, *shape[:-1]), np.int64) if model.classes else np.zeros((n, *shape), model.backend.dtype)
    optimizer: Optimizer = SGD(model, lr=1e-9)  # so small that the parameters hardly change
    data = Dataset(x, y, model.classes if y.ndim == 1 else ())
    return Run(model, loss, optimizer, data, batch_size, metrics=())


def _output_shape(model: Model, x: Any) -> Shape:
    with model.backend.mode(training=False):
        return model.forward(each(lambda a: model.backend.asarray(a[:1]), model.as_input(x)))[0].shape[1:]


def _samples(model: Model, n: int, example: Any) -> Any:
    if example is not None:
        return each(lambda a: np.resize(np.asarray(a), (n, *np.asarray(a).shape[1:])), model.as_input(example))
    rng = np.random.default_rng(0)

    def draw(shape: Shape, integers: Any) -> np.ndarray:
        size = (n, *(FREE if axis is None else axis for axis in shape))
        return np.zeros(size, np.uint8) if integers else rng.standard_normal(size, np.float32)

    shapes = model.input_shape if is_several(model.input_shape) else (model.input_shape,)
    drawn = tuple(map(draw, shapes, accepts_integers(model.network, len(shapes))))
    return drawn if is_several(model.input_shape) else drawn[0]


def _work(run: Run) -> int:
    part = run.slices[0]
    return (part.stop - part.start) * run.model.n_parameters


# The clock ------------------------------------------------------------------------------------------------------


def _rounds(run: Run, seconds: float) -> Iterator[float]:
    one = _time(run, 1)
    for _ in range(ROUNDS):
        yield _time(run, max(1, math.ceil(seconds / ROUNDS / one)), warm_up=0)


def _time(run: Run, steps: int, warm_up: int = WARM_UP) -> float:
    """Seconds of a step, the mean of `steps` steps."""
    backend = run.model.backend
    for _ in range(warm_up):
        _step(run)
    backend.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        _step(run)
    backend.synchronize()
    return (time.perf_counter() - start) / steps


def _step(run: Run) -> None:
    if run.position.batch == len(run.slices):
        run.position.batch = 0  # the same epoch again
    run.step()


class _Clock(Observer):
    """Times the parts of some steps. The time between two events counts for the innermost layer then at work."""

    def __init__(self, run: Run, steps: int):
        self._run, self._backend, self.steps = run, run.model.backend, steps
        self._times: dict[tuple[str, Layer | None], list[float]] = defaultdict(list)  # of each step, by part
        self._around: list[Layer] = []
        self._last = 0.0
        run.position.batch = 0
        x, target = run.feed.batch(*run.next_inputs())
        for _ in range(steps):
            self._one(x, target)

    def _one(self, x: Any, target: Any) -> None:
        model, loss = self._run.model, self._run.loss
        for parts in self._times.values():
            parts.append(0.0)
        model.zero_grad()
        self._lap()
        with self._backend.observed_by(self):
            y, backward = model.forward(x)
        _, dy = loss(y, target, self._backend)
        self._credit("loss", None)
        with self._backend.observed_by(self):
            backward(dy, need_dx=False)
        self._run.optimizer.step()
        self._credit("update", None)

    def _lap(self) -> float:
        """Seconds since the last call, after waiting until the device has finished its work."""
        self._backend.synchronize()
        before, self._last = self._last, time.perf_counter()
        return self._last - before

    def _credit(self, part: str, layer: Layer | None) -> None:
        parts = self._times[part, layer] = self._times[part, layer] or [0.0]
        parts[-1] += self._lap()

    def _begins(self, part: str, layer: Layer) -> None:
        if self._around:
            self._credit(part, self._around[-1])
        self._around.append(layer)

    def forward_begins(self, layer: Layer, x: Any) -> None:
        self._begins("forward", layer)

    def forward(self, layer: Layer, x: Any, y: Any) -> None:
        self._credit("forward", self._around.pop())

    def backward_begins(self, layer: Layer, dy: Any) -> None:
        self._begins("backward", layer)

    def backward(self, layer: Layer, dy: Any, dx: Any) -> None:
        self._credit("backward", self._around.pop())

    def seconds(self, part: str, layer: Layer | None = None) -> float:
        """The median over the steps; 0 for a part that did not occur."""
        return statistics.median(self._times.get((part, layer), [0.0]))

    def layers(self) -> tuple[LayerTime, ...]:
        named: dict[Layer, str] = {}  # a layer that is used twice has the time of both uses, under its first path
        for path, layer in self._run.model.network.walk():
            named.setdefault(layer, path)
        return tuple(
            LayerTime(path, type(layer).__name__, self.seconds("forward", layer), self.seconds("backward", layer))
            for layer, path in named.items()
        )


# The floor ------------------------------------------------------------------------------------------------------


class _Products(Backend):
    """A CPU backend that notes the matrix products of a step, in chunks as the backend `like` would compute them."""

    def __init__(self, like: Backend):
        super().__init__(str(like.dtype), like.seed)
        self.noted: list[tuple[tuple, tuple]] = []
        self.chunks = like.chunks  # type: ignore[method-assign]

    def matmul(self, a: Array, b: Array, out: Array | None = None) -> Array:
        self.noted.append((_layout(a), _layout(b)))
        return super().matmul(a, b, out=out)


def _layout(a: Array) -> tuple[tuple[int, ...], bool]:
    """The shape, and whether the array is a transposed matrix."""
    return a.shape, a.ndim > 1 and a.strides[-1] > a.strides[-2]


def _products(model: Model, x: Any, times: int) -> float:
    """Seconds of all products of a step, one after the other, on arrays that already exist."""
    backend, noting = model.backend, _Products(model.backend)
    with noting.mode(training=True):
        y, backward = model.to(noting).forward(each(noting.asarray, x))
        backward(np.zeros_like(y), need_dx=False)
    arrays = {layout: _array(backend, *layout) for pair in noting.noted for layout in pair}
    pairs = [(arrays[a], arrays[b]) for a, b in noting.noted]
    results = [backend.matmul(a, b) for a, b in pairs]
    backend.synchronize()
    rounds = []
    for _ in range(times):
        start = time.perf_counter()
        for (a, b), out in zip(pairs, results, strict=True):
            backend.matmul(a, b, out=out)
        backend.synchronize()
        rounds.append(time.perf_counter() - start)
    return statistics.median(rounds)


def _array(backend: Backend, shape: tuple[int, ...], transposed: bool) -> Array:
    if not transposed:
        return backend.asarray(np.ones(shape, backend.dtype))
    return backend.asarray(np.ones((*shape[:-2], shape[-1], shape[-2]), backend.dtype)).swapaxes(-1, -2)
