"""Losses: a reference maps (outputs, target), or (outputs, (target, weights)), to one number."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnet import losses
from xpnet.verify.cases.activation import log_softmax
from xpnet.verify.cases.arithmetic import Number, Numbers, exp, log, plain
from xpnet.verify.passes import Draw, spread
from xpnet.verify.rows import LossCase


def cross_entropy(
    y: Numbers, target: Any, smoothing: float = 0.0, weights: Sequence[float] = (), ignore: int | None = None
) -> Number:
    target, of_terms = target if isinstance(target, tuple) else (target, np.ones(y.shape[:-1]))
    total: Number = 0.0 * y.ravel()[0]  # of the type of y (it may be a `Value`), even if no term counts
    weight_of_all, classes = 0.0, y.shape[-1]
    for n in np.ndindex(*y.shape[:-1]):
        if target.ndim < y.ndim and target[n] == ignore:
            continue
        shares = target[n] if target.ndim == y.ndim else np.arange(classes) == target[n]
        if len(weights) and not np.dot(shares, weights):
            continue  # a target of weight 0 has no loss either, with smoothing or without
        w, log_p = float(of_terms[n[: of_terms.ndim]]), log_softmax(y[n])
        for c in range(classes):
            q = float(shares[c])
            weight = w * (weights[c] if len(weights) else 1.0)
            weight_of_all += weight * q if len(weights) else w / classes
            total = total - weight * ((1.0 - smoothing) * q + smoothing / classes) * log_p[c]
    return total / (weight_of_all or 1.0)


def mean_of(term: Callable[..., Number], rows: bool = False, mean: bool = True) -> Callable[[Numbers, Any], Number]:
    """A reference: the weighted mean (or sum) of `term(y, t)` over all entries of y and t, or over their rows."""

    def reference(y: Numbers, target: Any) -> Number:
        target, weights = target if isinstance(target, tuple) else (target, np.ones(len(y)))
        total: Number = 0.0
        weight_of_all = 0.0
        for at in np.ndindex(*(y.shape[:-1] if rows else y.shape)):
            w = float(weights[at[: weights.ndim]])
            total, weight_of_all = total + w * term(y[at], target[at]), weight_of_all + w
        return total / (weight_of_all or 1.0) if mean else total

    return reference


def squared_error(y: Number, t: float, scale: float = 1.0) -> Number:
    return (y - float(t)) * (y - float(t)) / (scale * scale)


def scaled_rows(y: Numbers, t: Numbers, scales: Sequence[float]) -> Number:
    return sum((squared_error(*pair) for pair in zip(y, t, scales, strict=True)), start=0.0 * y[0]) / len(scales)


def absolute_error(y: Number, t: float) -> Number:
    return y - float(t) if plain(y) > t else float(t) - y


def huber(y: Number, t: float, delta: float) -> Number:
    d = absolute_error(y, t)
    return 0.5 * d * d if plain(d) <= delta else delta * (d - 0.5 * delta)


def binary_cross_entropy(y: Number, t: float) -> Number:
    # With log p = -log(1 + e^-v) and log(1 - p) = -log(1 + e^v); the sign of v is chosen so that exp cannot overflow.
    v, t = (y, float(t)) if plain(y) > 0 else (-y, 1.0 - float(t))
    return log(1.0 + exp(-v)) + (1.0 - t) * v


def focal(y: Number, t: float, gamma: float, alpha: float) -> Number:
    p = 1.0 / (1.0 + exp(-y))
    q, a = (p, alpha) if t == 1 else (1.0 - p, 1.0 - alpha)
    return -a * exp(gamma * log(1.0 - q)) * log(q)


def kl_divergence(y: Numbers, t: np.ndarray) -> Number:
    log_p = log_softmax(y)
    return sum(float(t[c]) * (log(float(t[c])) - log_p[c]) for c in range(len(y)) if t[c] > 0)


def multi_margin(y: Numbers, t: int, margin: float) -> Number:
    hinges = [margin - y[t] + y[c] for c in range(len(y)) if c != t]
    return sum([h for h in hinges if plain(h) > 0], 0.0 * y[0]) / float(len(y))


def cosine_distance(y: Numbers, t: np.ndarray) -> Number:
    def length(row: Any) -> Number:
        return exp(0.5 * log(sum(v * v for v in row)))

    return 1.0 - sum(y[c] * float(t[c]) for c in range(len(y))) / (length(y) * length([float(v) for v in t]))


def labels(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Class numbers for logits of this shape."""
    return rng.integers(0, shape[-1], shape[:-1])


def one_hot(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """The same classes as rows of zeros with a single 1."""
    return np.eye(shape[-1])[labels(rng, shape)]


def distributions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Rows that sum to 1."""
    return rng.dirichlet(np.ones(shape[-1]), shape[:-1])


def fractions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [0, 1], some of them exactly 0 or 1."""
    return rng.choice([0.0, 1.0, 0.25, 0.9], shape)


def yes_or_no(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """0 or 1."""
    return rng.integers(0, 2, shape).astype(np.float64)


def some_ignored(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Class numbers, about a third of them replaced by -100."""
    return np.where(rng.random(shape[:-1]) < 1 / 3, -100, labels(rng, shape))


def none_counted(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape[:-1], -100)


def weighted(target: Draw, axes: int, mask: bool = False) -> Draw:
    """Targets drawn by `target`, with weights for the first `axes` axes (some are 0), or with a boolean mask."""

    def draw(rng: np.random.Generator, shape: tuple[int, ...]) -> Any:
        drawn = target(rng, shape)
        return drawn, rng.random(shape[:axes]) < 0.6 if mask else rng.choice([0.0, 1.0, 0.5, 2.0], shape[:axes])

    return draw


_WEIGHTS = (0.5, 2.0, 1.0, 0.25)


def _cross_entropy(
    what: str, target: Draw, smoothing: float = 0.0, weights: Sequence[float] | None = None, n: int = 4,
    length: tuple[int, ...] = (), ignore: int | None = None, torch: bool = True,
) -> LossCase:  # fmt: skip
    def torch_value(torch: Any, y: Any, target: Any) -> Any:
        weight = None if weights is None else y.new_tensor(weights)
        options = {} if ignore is None else {"ignore_index": ignore}
        return torch.nn.functional.cross_entropy(y.movedim(-1, 1), target, weight, label_smoothing=smoothing, **options)

    # With class weights, PyTorch divides by the number of samples if targets are distributions, and by the sum of their
    # weights if they are labels; xpnet treats both alike. If no sample counts, PyTorch gives NaN. With smoothing, it
    # gives samples of a class of weight 0 a loss.
    return LossCase(
        "SoftmaxCrossEntropy",
        what,
        lambda: losses.SoftmaxCrossEntropy(smoothing, weights, ignore),
        (*length, n),
        target,
        partial(cross_entropy, smoothing=smoothing, weights=weights or (), ignore=ignore),
        torch_value if torch else None,
    )


def _of_entries(
    of: str, kind: Callable[..., losses.Loss], target: Draw, term: Callable[..., Number], torch_name: str,
    what: str = "", **options: float,
) -> Iterator[LossCase]:  # fmt: skip
    def torch_value(torch: Any, y: Any, target: Any) -> Any:
        return getattr(torch.nn.functional, torch_name)(y, target, **options)

    def case(setting: str, shape: tuple[int, ...], draw: Draw, mean: bool = True, torch: bool = False) -> LossCase:
        make = partial(kind, **options, **({} if mean else {"reduction": "sum"}))
        reference = mean_of(partial(term, **options), mean=mean)
        return LossCase(of, what + setting, make, shape, draw, reference, torch_value if torch and torch_name else None)

    for setting, shape in {"vectors": (3,), "images": (2, 3, 2), "numbers": (1,)}.items():
        yield case(setting, shape, target, torch=True)
    yield case("sum", (3,), target, mean=False)
    yield case("weights of samples", (2, 3), weighted(target, 1))
    yield case("mask of entries", (2, 3), weighted(target, 3, mask=True))


def _of_rows(
    of: str, kind: Callable[..., losses.Loss], target: Draw, term: Callable[..., Number], torch: Any,
    what: str = "", **options: float,
) -> Iterator[LossCase]:  # fmt: skip
    make, reference = partial(kind, **options), mean_of(partial(term, **options), rows=True)
    yield LossCase(of, f"{what}vectors", make, (4,), target, reference, torch)
    yield LossCase(of, f"{what}rows of images, weights", make, (2, 4), weighted(target, 2), reference, None)
    summed = mean_of(partial(term, **options), rows=True, mean=False)
    yield LossCase(of, f"{what}sum", partial(make, reduction="sum"), (4,), target, summed, None)


CASES: tuple[LossCase, ...] = (
    _cross_entropy("labels", labels),
    _cross_entropy("labels, ten classes", labels, n=10),
    _cross_entropy("uint8 labels", lambda rng, shape: labels(rng, shape).astype(np.uint8)),
    _cross_entropy("one class", labels, n=1),
    _cross_entropy("one-hot", one_hot),
    _cross_entropy("distributions", distributions),
    _cross_entropy("smoothing", labels, 0.1),
    _cross_entropy("one-hot, smoothing", one_hot, 0.2),
    _cross_entropy("class weights", labels, 0.0, _WEIGHTS),
    _cross_entropy("class weights, smoothing", labels, 0.1, _WEIGHTS),
    _cross_entropy("distributions, class weights, smoothing", distributions, 0.1, _WEIGHTS, torch=False),
    _cross_entropy("a class of weight 0, smoothing", labels, 0.1, (0.5, 0.0, 1.0, 0.25), torch=False),
    _cross_entropy("rows, classes of weight 0, smoothing", distributions, 0.1, (0.0, 0.0, 1.0, 0.0), torch=False),
    _cross_entropy("sequences", labels, length=(3,)),
    _cross_entropy("ignored", some_ignored, length=(6,), ignore=-100),
    _cross_entropy("ignored, class weights, smoothing", some_ignored, 0.1, _WEIGHTS, length=(6,), ignore=-100),
    _cross_entropy("ignored, many classes", some_ignored, n=300, length=(6,), ignore=-100),
    _cross_entropy("all ignored", none_counted, n=300, ignore=-100, torch=False),
    _cross_entropy("all ignored, smoothing", none_counted, 0.1, ignore=-100, torch=False),
    _cross_entropy("weights of samples", weighted(labels, 1), 0.1, length=(2,), torch=False),
    _cross_entropy("weights of samples, class weights", weighted(one_hot, 1), 0.0, _WEIGHTS, torch=False),
    _cross_entropy("weights, some ignored", weighted(some_ignored, 2), length=(6,), ignore=-100, torch=False),
    _cross_entropy("masked sequences, many classes", weighted(labels, 2, mask=True), n=300, length=(3,), torch=False),
    LossCase(
        "SoftmaxCrossEntropy", "sum", lambda: losses.SoftmaxCrossEntropy(reduction="sum"), (4,), labels,
        mean_of(lambda y, t: -log_softmax(y)[t], rows=True, mean=False),
        lambda t, y, target: t.nn.functional.cross_entropy(y, target, reduction="sum"),
    ),
    *_of_entries("MeanSquaredError", losses.MeanSquaredError, spread, squared_error, "mse_loss"),
    *_of_entries("MeanSquaredError", losses.MeanSquaredError, spread, squared_error, "", "scaled, ", scale=0.4),
    LossCase(
        "MeanSquaredError", "a scale for each entry", lambda: losses.MeanSquaredError(scale=_WEIGHTS), (4,), spread,
        mean_of(partial(scaled_rows, scales=_WEIGHTS), rows=True), None,
    ),
    *_of_entries("MeanAbsoluteError", losses.MeanAbsoluteError, spread, absolute_error, "l1_loss"),
    *_of_entries("Huber", losses.Huber, spread, huber, "huber_loss", delta=1.0),
    *_of_entries("Huber", losses.Huber, spread, huber, "huber_loss", "small delta, ", delta=0.3),
    *_of_entries(
        "BinaryCrossEntropy", losses.BinaryCrossEntropy, fractions, binary_cross_entropy,
        "binary_cross_entropy_with_logits",
    ),
    *_of_entries("Focal", losses.Focal, yes_or_no, focal, "", gamma=2.0, alpha=0.25),
    *_of_entries("Focal", losses.Focal, yes_or_no, focal, "", "no gamma, ", gamma=0.0, alpha=0.6),
    *_of_rows(
        "KLDivergence", losses.KLDivergence, distributions, kl_divergence,
        lambda t, y, target: t.nn.functional.kl_div(y.log_softmax(-1), target, reduction="batchmean"),
    ),
    *_of_rows("KLDivergence", losses.KLDivergence, one_hot, kl_divergence, None, "one-hot, "),
    *_of_rows(
        "MultiMargin", losses.MultiMargin, labels, multi_margin,
        lambda t, y, target: t.nn.functional.multi_margin_loss(y, target), margin=1.0,
    ),
    *_of_rows(
        "MultiMargin", losses.MultiMargin, labels, multi_margin,
        lambda t, y, target: t.nn.functional.multi_margin_loss(y, target, margin=0.4), "small margin, ", margin=0.4,
    ),
    *_of_rows(
        "CosineDistance", losses.CosineDistance, spread, cosine_distance,
        lambda t, y, target: (1 - t.nn.functional.cosine_similarity(y, target)).mean(),
    ),
)  # fmt: skip
