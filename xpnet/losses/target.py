"""Targets and their weights: in the form that a loss computes with, and whether they fit the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.arguments import in_float32
from xpnet.backend import Array
from xpnet.data.labels import check_labels


def split_target(target: Any) -> tuple[Array, Array | None]:
    """(target, weights) of either form that a target has; None for no weights."""
    return target if isinstance(target, tuple) else (target, None)


def one_hot_rows(y: Array, target: Array, xp: Any, ignore: int | None = None) -> Array:
    """The target in y's shape and dtype; class numbers (N, ...) for outputs (N, ..., C) become one-hot rows, rows of
    zeros for `ignore`."""
    if are_classes(y.shape, target):
        check_if_on_host(target, y.shape[-1], ignore)
        return (target[..., None] == xp.arange(y.shape[-1])).astype(y.dtype)
    require_shape(y.shape, target)
    return target.astype(y.dtype, copy=False)


def entry_targets(y: Array, target: Array, xp: Any) -> Array:
    """The same for losses of entries, where class numbers of a single output (N, 1) are its targets, 0 or 1."""
    if _of_single_output(y.shape, target):
        check_if_on_host(target, 2)
        return target[:, None].astype(y.dtype)
    return one_hot_rows(y, target, xp)


def checked_targets(y: Array, target: Array) -> Array:
    """The target, of y's very shape, in its dtype: for losses that take no class numbers."""
    require_same_shape(y.shape, target)
    return target.astype(y.dtype, copy=False)


def check_if_on_host(target: Array, n_classes: int, ignore: int | None = None) -> None:
    """`check_class_numbers`, where that costs nothing: on the host. A device would have to wait in every step."""
    if isinstance(target, np.ndarray):
        check_class_numbers(target, n_classes, ignore)


def check_class_numbers(target: np.ndarray, n_classes: int, ignore: int | None) -> None:
    """`check_labels`, but for those that are to be ignored."""
    check_labels(target if ignore is None else np.where(target == ignore, 0, target), n_classes)


def outputs_shape(target: np.ndarray, outputs: tuple[Any, ...]) -> tuple[int, ...]:
    """(N, *outputs), with the lengths of free axes (None) as the target has them."""
    given = target.shape[1:]
    lengths = (given[i] if n is None and i < len(given) else n for i, n in enumerate(outputs))
    return (len(target), *lengths)


def check_target(target: np.ndarray, shape: tuple[int, ...], single: bool, ignore: int | None = None) -> None:
    """`Loss.check` for outputs of this shape; `single`: the class numbers of a single output are 0 and 1."""
    if single and _of_single_output(shape, target):
        _check_yes_or_no(target)
    elif are_classes(shape, target):
        check_class_numbers(target, shape[-1], ignore)
    else:
        require_shape(shape, target)


def _check_yes_or_no(target: np.ndarray) -> None:
    """`check_labels` of a single output. Those that it refuses are most often a regression's, in whole numbers."""
    try:
        check_labels(target, 2)
    except ValueError as error:
        raise ValueError(
            f"{error}: whole numbers are class numbers, of a single output 0 or 1; the targets of a regression are "
            "floating point numbers, y.astype(float)[:, None]"
        ) from None


def are_classes(shape: tuple[int, ...], target: Array) -> bool:
    return target.dtype.kind in "iu" and tuple(target.shape) == tuple(shape[:-1])


def _of_single_output(shape: tuple[int, ...], target: Array) -> bool:
    return len(shape) == 2 and shape[1] == 1 and are_classes(shape, target)


def require_same_shape(shape: tuple[int, ...], target: Array, what: str = "targets") -> None:
    """Raise ValueError for targets of any other shape, class numbers among them."""
    if tuple(target.shape) != tuple(shape):
        raise ValueError(f"outputs of shape {tuple(shape)} need {what} of that shape, not {tuple(target.shape)}")


def require_shape(shape: tuple[int, ...], target: Array) -> None:
    """Raise ValueError for targets of another shape: broadcasting would give a number all the same, a wrong one."""
    if tuple(target.shape) != tuple(shape):
        raise ValueError(
            f"outputs of shape {tuple(shape)} need targets of that shape, or class numbers of an integer type and "
            f"shape {tuple(shape[:-1])}; got {target.dtype} of shape {tuple(target.shape)}{_cure(shape, target)}"
        )


def _cure(shape: tuple[int, ...], target: Array) -> str:
    """What most often is to be done about targets of another shape, for a message."""
    if target.dtype.kind == "f" and tuple(target.shape) == tuple(shape[:-1]):
        return ": y[:, None] has that shape" if shape[-1] == 1 else ": of class numbers, y.astype(int) has that type"
    if target.dtype.kind in "iu" and tuple(target.shape) == (*shape[:-1], 1):
        return ": y[..., 0] has that shape"
    return ""


def require_all(right: np.ndarray, what: str) -> None:
    """Raise ValueError, with the place of the first that is not, unless all targets are right."""
    if not right.all():
        raise ValueError(f"{what}, unlike at index {tuple(np.argwhere(~right)[0].tolist())}")


DISTRIBUTIONS = "the targets are distributions, numbers >= 0 that sum to 1 over the classes"


def are_distributions(target: np.ndarray) -> np.ndarray:
    """Whether each row of the last axis is a distribution, but for rounding."""
    return (target >= 0).all(axis=-1) & (np.abs(target.sum(axis=-1) - 1) <= 1e-3)


def as_terms(weights: Array, terms: tuple[int, ...]) -> Array:
    """The weights with as many axes as the terms."""
    return weights.reshape(*weights.shape, *[1] * (len(terms) - weights.ndim))


def require_weights(weights: Array, terms: tuple[int, ...]) -> None:
    """Raise ValueError unless the weights have the shape of the terms, or of its first axes."""
    if not weights.ndim or tuple(weights.shape) != terms[: weights.ndim]:
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} do not fit a loss of terms {terms}: "
            "they need that shape, or that of its first axes"
        )


def check_weights(weights: np.ndarray, terms: tuple[int, ...]) -> None:
    """Raise ValueError unless they have such a shape, and are all finite and >= 0."""
    require_weights(weights, terms)
    wrong = np.argwhere(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        at = tuple(wrong[0].tolist())
        raise ValueError(f"weights must be finite and >= 0, not {weights[at]} at index {at}")
    largest = float(weights.max(initial=0.0))
    if largest:
        check_largest("weight", largest)


def check_largest(what: str, largest: float) -> None:
    """Raise ValueError where the largest of some weights is so far from 1 that their sum is 0 or infinite."""
    if not in_float32(largest):
        raise ValueError(f"the largest {what} is {largest:g}, too far from 1 for sums in float32: scale all of them")
