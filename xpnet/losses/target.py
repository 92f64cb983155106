"""Targets and their weights: conversion to the form that a loss computes with, and checks against the outputs."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.arguments import in_float32
from xpnet.backend import Array
from xpnet.data.labels import check_labels


def split_target(target: Any) -> tuple[Array, Array | None]:
    """Split a target that may be given as (target, weights); without weights they are None."""
    return target if isinstance(target, tuple) else (target, None)


def one_hot_rows(y: Array, target: Array, xp: Any, ignore: int | None = None) -> Array:
    """The target in y's shape and dtype.

    Class numbers (N, ...) for outputs (N, ..., C) become one-hot rows; the number `ignore` becomes a row of zeros.
    """
    if are_classes(y.shape, target):
        check_if_on_host(target, y.shape[-1], ignore)
        return (target[..., None] == xp.arange(y.shape[-1])).astype(y.dtype)
    require_shape(y.shape, target)
    return target.astype(y.dtype, copy=False)


def entry_targets(y: Array, target: Array, xp: Any) -> Array:
    """`one_hot_rows` for losses of entries: class numbers for a single output (N, 1) are its targets, 0 or 1."""
    if _of_single_output(y.shape, target):
        check_if_on_host(target, 2)
        return target[:, None].astype(y.dtype)
    return one_hot_rows(y, target, xp)


def checked_targets(y: Array, target: Array) -> Array:
    """The target in y's dtype; it must have y's shape. For losses that take no class numbers."""
    require_same_shape(y.shape, target)
    return target.astype(y.dtype, copy=False)


def check_if_on_host(target: Array, n_classes: int, ignore: int | None = None) -> None:
    """`check_class_numbers`, only on the host, where it costs nothing; a device would have to wait in every step."""
    if isinstance(target, np.ndarray):
        check_class_numbers(target, n_classes, ignore)


def check_class_numbers(target: np.ndarray, n_classes: int, ignore: int | None) -> None:
    """`check_labels` for all class numbers except `ignore`."""
    check_labels(target if ignore is None else np.where(target == ignore, 0, target), n_classes)


def outputs_shape(target: np.ndarray, outputs: tuple[Any, ...]) -> tuple[int, ...]:
    """The shape (N, *outputs); an axis of free length (None) gets the length that it has in the target."""
    given = target.shape[1:]
    lengths = (given[i] if n is None and i < len(given) else n for i, n in enumerate(outputs))
    return (len(target), *lengths)


def check_target(target: np.ndarray, shape: tuple[int, ...], single: bool, ignore: int | None = None) -> None:
    """`Loss.check` for outputs of this shape; with `single`, class numbers for a single output are 0 and 1."""
    if single and _of_single_output(shape, target):
        _check_yes_or_no(target)
    elif are_classes(shape, target):
        check_class_numbers(target, shape[-1], ignore)
    else:
        require_shape(shape, target)


def _check_yes_or_no(target: np.ndarray) -> None:
    """`check_labels` for a single output. What it refuses is most often whole numbers that belong to a regression."""
    try:
        check_labels(target, 2)
    except ValueError as error:
        raise ValueError(
            f"{error}: whole numbers are taken as class numbers, 0 or 1 for a single output; for a regression, "
            "use y.astype(float)[:, None]"
        ) from None


def are_classes(shape: tuple[int, ...], target: Array) -> bool:
    return target.dtype.kind in "iu" and tuple(target.shape) == tuple(shape[:-1])


def _of_single_output(shape: tuple[int, ...], target: Array) -> bool:
    return len(shape) == 2 and shape[1] == 1 and are_classes(shape, target)


def require_same_shape(shape: tuple[int, ...], target: Array, what: str = "targets") -> None:
    """Raise ValueError for targets of any other shape, including class numbers."""
    if tuple(target.shape) != tuple(shape):
        raise ValueError(f"outputs of shape {tuple(shape)} need {what} of that shape, not {tuple(target.shape)}")


def require_shape(shape: tuple[int, ...], target: Array) -> None:
    """Raise ValueError for targets of another shape: broadcasting might accept them and give a wrong loss."""
    if tuple(target.shape) != tuple(shape):
        raise ValueError(
            f"outputs of shape {tuple(shape)} need targets of that shape, or class numbers of an integer type and "
            f"shape {tuple(shape[:-1])}; got {target.dtype} of shape {tuple(target.shape)}{_cure(shape, target)}"
        )


def _cure(shape: tuple[int, ...], target: Array) -> str:
    """The most likely remedy for targets of another shape, as the end of an error message."""
    if target.dtype.kind == "f" and tuple(target.shape) == tuple(shape[:-1]):
        return ": use y[:, None]" if shape[-1] == 1 else ": if these are class numbers, use y.astype(int)"
    if target.dtype.kind in "iu" and tuple(target.shape) == (*shape[:-1], 1):
        return ": use y[..., 0]"
    return ""


def require_all(right: np.ndarray, what: str) -> None:
    """Raise ValueError unless all targets are right; the message gives the index of the first wrong one."""
    if not right.all():
        raise ValueError(f"{what}, but those at index {tuple(np.argwhere(~right)[0].tolist())} are not")


DISTRIBUTIONS = "the targets must be distributions, numbers >= 0 that sum to 1 over the classes"


def are_distributions(target: np.ndarray) -> np.ndarray:
    """Whether each row along the last axis is a distribution, up to rounding."""
    return (target >= 0).all(axis=-1) & (np.abs(target.sum(axis=-1) - 1) <= 1e-3)


def as_terms(weights: Array, terms: tuple[int, ...]) -> Array:
    """The weights with as many axes as the terms: axes of length 1 are appended."""
    return weights.reshape(*weights.shape, *[1] * (len(terms) - weights.ndim))


def require_weights(weights: Array, terms: tuple[int, ...]) -> None:
    """Raise ValueError unless the weights have the shape of the terms, or of their first axes."""
    if not weights.ndim or tuple(weights.shape) != terms[: weights.ndim]:
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} do not fit a loss with terms of shape {terms}: "
            "they need this shape, or that of its first axes"
        )


def check_weights(weights: np.ndarray, terms: tuple[int, ...]) -> None:
    """Raise ValueError unless the weights fit the terms, are finite and >= 0, and can be summed in float32."""
    require_weights(weights, terms)
    wrong = np.argwhere(~(np.isfinite(weights) & (weights >= 0)))
    if len(wrong):
        at = tuple(wrong[0].tolist())
        raise ValueError(f"weights must be finite and >= 0, not {weights[at]} at index {at}")
    largest = float(weights.max(initial=0.0))
    if largest:
        check_largest("weight", largest)


def check_largest(what: str, largest: float) -> None:
    """Raise ValueError if the largest weight is so far from 1 that a sum of weights may become 0 or infinite."""
    if not in_float32(largest):
        raise ValueError(f"the largest {what} is {largest:g}, too far from 1 for sums in float32: scale all of them")
