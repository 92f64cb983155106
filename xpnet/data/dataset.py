"""`Dataset`: samples and targets in memory."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from xpnet.arguments import class_names, whole
from xpnet.backend import Array, Backend
from xpnet.backend.interchange import to_numpy
from xpnet.data.batches import epoch_order
from xpnet.data.labels import check_labels, renumbered
from xpnet.data.statistics import check_finite

MAX_UNNAMED = 1 << 16  # classes that are named by their number; more are a sign of wrong labels


class Feed(Protocol):
    """Batches on a device. The work of `batch` is part of the training step, and can be captured with it."""

    def begin(self, order: np.ndarray, parts: Sequence[slice]) -> None:
        """Start an epoch that visits the samples in this order; these parts of it will be asked for, one by one."""

    def inputs(self, part: slice) -> tuple[Array, ...]:
        """The arguments of `batch` for this part of the order: arrays on the device."""

    def batch(self, *inputs: Array) -> tuple[Any, Any]:
        """(x, target) on the device; for data with weights, target is a tuple (y, weights)."""

    def close(self) -> None:
        """End the feed: nothing more will be asked for, and work under way may be abandoned."""


class Source(Protocol):
    """What `fit` and `evaluate` take batches from, such as a `Dataset`. x and y may be views or memory maps."""

    @property
    def name(self) -> str: ...
    @property
    def x(self) -> Any: ...
    @property
    def y(self) -> np.ndarray: ...
    def __len__(self) -> int: ...
    def feed(self, backend: Backend, as_input: Callable[[Any], Any]) -> Feed:
        """The batches on this device; `as_input(x)` brings samples into the shape that the model takes."""

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The order in which an epoch visits the samples: a permutation of their numbers, (N,) int64."""

    def digest(self) -> str:
        """A checksum of enough of the content to notice that a run is resumed on other data."""


@dataclass(frozen=True, eq=False, repr=False)
class Dataset:
    """Samples and their targets.

    x: (N, ...) of any real dtype, or a tuple of such arrays for a model of several inputs. y is one of

    - class numbers (N,) of an integer type: they index into `classes`, which are named "0", "1", .. if not given;
    - class names (N,), texts: `classes` are their sorted names, unless given;
    - numbers (N, ...), floating point: the targets of a regression;
    - class numbers (N, ...), such as the next token at each place; `classes` only if they are given. A place that does
      not count has a number below 0: the one that the loss has as `ignore`.

    `weights`: how much each sample, or each of its targets, counts in the loss and the metrics. Numbers >= 0, or a
    mask, of y's shape or the shape of its first axes.

    The arrays may come from any library, but must be in host memory. They are kept, not copied; class numbers become
    int64. Raises ValueError if there is no sample, the lengths differ, a label is out of range, or a value is NaN or
    infinite; the message names the data set, the first wrong entry and its place. Raises TypeError for several arrays
    of targets.
    """

    x: Any
    y: np.ndarray
    classes: tuple[str, ...] = ()
    name: str = "data"
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        arrays = tuple(map(to_numpy, self.x if isinstance(self.x, tuple) else (self.x,)))
        several = isinstance(self.y, (tuple, list)) and any(getattr(part, "ndim", 0) for part in self.y)
        if several and len(self.y) != len(arrays[0]):
            raise TypeError(
                f"{self.name}: y is one array: put the targets of several outputs side by side, "
                "np.column_stack((a, b)), and let the loss take its columns"
            )
        y = to_numpy(self.y)
        for i, x in enumerate(arrays):
            what = f"{self.name}: x[{i}]" if isinstance(self.x, tuple) else f"{self.name}: x"
            if x.dtype.kind not in "buif":
                raise ValueError(f"{what} must hold real numbers, not {x.dtype}")
            if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
                raise ValueError(f"{what} of shape {x.shape} and y of shape {y.shape} need equal lengths")
            if x.size == 0:
                raise ValueError(f"{what} has nothing in it, its shape is {x.shape}")
            check_finite(x, what)
        y, classes = _targets(y, class_names(self.classes), self.name)
        for field, value in {"x": arrays if isinstance(self.x, tuple) else arrays[0], "y": y}.items():
            object.__setattr__(self, field, value)
        object.__setattr__(self, "classes", classes)
        if self.weights is not None:
            object.__setattr__(self, "weights", _weights(self.weights, y, self.name))

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        def shape(array: np.ndarray) -> str:
            return f"{' x '.join(map(str, array.shape[1:])) or '1'} {array.dtype}"

        samples = " and ".join(map(shape, self.x)) if isinstance(self.x, tuple) else shape(self.x)
        targets = f"{len(self.classes)} classes" if self.classes else f"targets of {shape(self.y)}"
        return f"<{self.name}: {len(self)} samples of {samples}, {targets}>"

    def _repr_html_(self) -> str | None:
        """For notebooks: a few images with their labels, or the first rows; None for other samples, which are shown as
        text."""
        from xpnet.data.showing import as_html

        return as_html(self)

    def __getitem__(self, rows: slice) -> Dataset:
        """The samples of a slice, as a view: data[:1000]."""
        if not isinstance(rows, slice):
            raise TypeError(
                f"a data set can be indexed by slices only, not by {rows!r}: use take(indices), or index x and y"
            )
        return self._cut(lambda array: array[rows])

    def take(self, indices: np.ndarray) -> Dataset:
        """A copy of the samples at `indices` (M,) integer, in that order. IndexError if one is out of range."""
        indices = check_indices(indices)
        return self._cut(lambda array: array.take(indices, axis=0))

    def with_classes(self, classes: Sequence[str]) -> Dataset:
        """The same samples, with class numbers that index into `classes`, such as a model's.

        `classes` holds the names of the data's classes, in any order, and may hold others. ValueError if a class of the
        data is not among them.
        """
        classes = class_names(classes)
        return replace(self, y=renumbered(self.y, self.classes, classes, self.name), classes=classes)

    def _cut(self, cut: Callable[[np.ndarray], np.ndarray]) -> Dataset:
        x = tuple(map(cut, self.x)) if isinstance(self.x, tuple) else cut(self.x)
        return replace(self, x=x, y=cut(self.y), weights=None if self.weights is None else cut(self.weights))

    def feed(self, backend: Backend, as_input: Callable[[Any], Any]) -> Feed:
        """A feed that copies all samples to the device and gathers the batches there."""
        x = as_input(self.x)
        on_device = tuple(map(backend.asarray, x)) if isinstance(x, tuple) else backend.asarray(x)
        y, weights = backend.asarray(self.y), self.weights
        return _Resident(on_device, y if weights is None else (y, backend.asarray(weights)), backend)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The order in which an epoch visits the samples, (N,) int64."""
        return epoch_order(len(self), seed, epoch)

    def digest(self) -> str:
        """A checksum of the content, to notice that a run is resumed on other data."""
        x, weights = self.x if isinstance(self.x, tuple) else (self.x,), self.weights
        arrays = (*x, self.y) if weights is None else (*x, self.y, weights)
        return "-".join(f"{zlib.crc32(np.ascontiguousarray(a).data):08x}" for a in arrays)


def check_indices(indices: np.ndarray) -> np.ndarray:
    """The indices (M,) of samples. Raises TypeError for a mask, whose values NumPy would take for indices 0 and 1."""
    indices = np.asarray(indices)
    if indices.ndim != 1 or indices.dtype.kind not in "iu":
        raise TypeError(
            f"indices of samples must be integers of shape (M,), not {indices.dtype} of shape {indices.shape}"
        )
    return indices


class _Resident:
    """All samples on the device: an epoch's order is uploaded once, and each batch is gathered by its indices."""

    def __init__(self, x: Any, y: Any, backend: Backend):
        self._x, self._y, self._backend = x, y, backend
        self._order: Array = None

    def begin(self, order: np.ndarray, parts: Sequence[slice]) -> None:
        self._order = self._backend.asarray(order)

    def inputs(self, part: slice) -> tuple[Array, ...]:
        return (self._order[part],)

    def batch(self, *inputs: Array) -> tuple[Any, Any]:
        (indices,) = inputs
        return _rows(self._x, indices, self._backend), _rows(self._y, indices, self._backend)

    def close(self) -> None:
        pass


def check_source(data: Any) -> None:
    """Raise TypeError for what is not a data set."""
    if not hasattr(data, "feed"):
        such = 'data.Dataset(x, y) or data.load("digits").train'
        raise TypeError(f"data must be a data set, such as {such}, not a {type(data).__name__}")


def _rows(held: Any, indices: Array, backend: Backend) -> Any:
    """The samples at these indices of an array, or of each array in a tuple."""
    return tuple(backend.take(a, indices) for a in held) if isinstance(held, tuple) else backend.take(held, indices)


def _targets(y: np.ndarray, classes: tuple[str, ...], name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """(targets as `Dataset` keeps them, names of the classes or ())."""
    if twice := next((label for i, label in enumerate(classes) if label in classes[:i]), None):
        raise ValueError(f"{name}: two classes are called {twice!r}")
    if y.dtype.kind in "UTO" and all(isinstance(value, str) for value in y.ravel().tolist()):
        classes = classes or tuple(sorted(set(y.ravel().tolist())))
        number = {label: i for i, label in enumerate(classes)}
        unknown = sorted(set(y.ravel().tolist()) - number.keys())
        if unknown:
            raise ValueError(f"{name}: the label {unknown[0]!r} is not one of the classes {', '.join(classes[:20])}")
        return np.array([number[label] for label in y.ravel().tolist()], np.int64).reshape(y.shape), classes
    if y.dtype.kind == "f":
        if classes:
            raise ValueError(f"{name}: {len(classes)} classes need class numbers of an integer type, not {y.dtype}")
        check_finite(y, f"{name}: y")
        return y, ()
    if y.dtype.kind not in "biu":
        raise ValueError(f"{name}: targets are class numbers, class names or floating point numbers, not {y.dtype}")
    y = y.astype(np.int64, copy=False)
    if y.ndim == 1 and not classes and y.min() < 0:
        at = int((y < 0).argmax())
        what_to_do = "count the classes from 0, or name them by strings, as y.astype(str) does"
        raise ValueError(f"{name}: label {y[at]} at index {at} is not a class number: {what_to_do}")
    if y.ndim == 1:
        check_labels(y, len(classes) or MAX_UNNAMED, name)
    elif classes and y.max(initial=0) >= len(classes):
        check_labels(np.maximum(y, 0), len(classes), name)  # numbers below 0 are checked by the loss
    if y.ndim == 1 and not classes:
        classes = tuple(str(label) for label in range(int(y.max()) + 1))
    return y, classes


def _weights(weights: Any, y: np.ndarray, name: str) -> np.ndarray:
    """The weights as floating point numbers, after checking that they fit y."""
    weights = to_numpy(weights)
    if weights.dtype.kind not in "buif" or weights.ndim == 0 or weights.shape != y.shape[: weights.ndim]:
        raise ValueError(
            f"{name}: weights must be numbers of y's shape {y.shape}, or of the shape of its first axes, not "
            f"{weights.dtype} of shape {weights.shape}"
        )
    weights = weights if weights.dtype.kind == "f" else weights.astype(np.float32)
    check_finite(weights, f"{name}: weights")
    if (weights < 0).any():
        at = tuple(np.argwhere(weights < 0)[0].tolist())
        raise ValueError(f"{name}: weights must be >= 0, not {weights[at]} at index {at}")
    return weights


def next_tokens(tokens: np.ndarray, length: int, stride: int | None = None, name: str = "tokens") -> Dataset:
    """Sequences for next-token prediction: x (N, length) and, one place further on, y (N, length).

    tokens: (n,) of an integer type. A sequence begins every `stride` tokens, by default every `length`, so that each
    token is predicted once. Both are views on the host. Raises ValueError if there is no whole sequence.
    """
    tokens, stride = np.asarray(tokens), length if stride is None else stride
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise ValueError(f"{name}: tokens must be integers of shape (n,), not {tokens.dtype} of shape {tokens.shape}")
    length, stride = whole(f"{name}: length", length, least=1), whole(f"{name}: stride", stride, least=1)
    if len(tokens) <= length:
        raise ValueError(f"{name}: {len(tokens)} tokens are too few for a sequence of {length} and the token after it")
    windows = lambda row: np.lib.stride_tricks.sliding_window_view(row, length + 1)[::stride]
    targets = tokens.astype(np.int64, copy=False)  # converted before it is cut: `Dataset` would copy all windows
    return Dataset(windows(tokens)[:, :-1], windows(targets)[:, 1:], name=name)
