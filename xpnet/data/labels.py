"""Class numbers: checking them, converting them to one-hot rows, and comparing sets of classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xpnet.frames import listed


def one_hot(labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Labels (N,) as rows of zeros with a single one: (N, n_classes) float32. Raises as check_labels does."""
    labels = check_labels(labels, n_classes)
    if labels.ndim != 1:
        raise ValueError(f"labels need shape (N,), not {labels.shape}")
    rows = np.zeros((len(labels), n_classes), dtype=np.float32)
    rows[np.arange(len(labels)), labels] = 1
    return rows


def check_labels(labels: np.ndarray, n_classes: int, name: str = "labels") -> np.ndarray:
    """The labels as int64, of any shape, after checking that they are integers in 0..n_classes-1.

    A GPU does not report an index out of range, so it is checked here. Raises ValueError, naming the first wrong label.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise ValueError(f"{name}: class numbers are integers, not {labels.dtype}")
    if labels.size and (labels.min() < 0 or labels.max() >= n_classes):
        wrong = np.argwhere((labels < 0) | (labels >= n_classes))
        at = tuple(wrong[0].tolist())
        others = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        place = at[0] if len(at) == 1 else at
        raise ValueError(f"{name}: label {labels[at]} at index {place} is outside 0..{n_classes - 1}{others}")
    return labels.astype(np.int64, copy=False)


def are_numbers(classes: Sequence[str]) -> bool:
    """Whether the classes are named "0", "1", .., as they are if nobody named them."""
    return all(name == str(i) for i, name in enumerate(classes))


def check_classes(classes: Sequence[str], wanted: Sequence[str], name: str, where: str) -> None:
    """Raise ValueError if a class number means one thing in the data's `classes` and another in `wanted`.

    `where` is the program's name for `wanted`. Classes without names of their own ("0", "1", ..) take the meaning of
    the other side, unless all of these numbers are also names there. Nothing is checked if one of the two has no
    classes.
    """
    classes, wanted = tuple(classes), tuple(wanted)
    if not classes or not wanted or classes == wanted[: len(classes)]:
        return
    unknown = [one for one in classes if one not in wanted]
    unnamed = are_numbers(classes)  # or folders with these names, sorted as texts in `wanted`: "0", "1", "10", "2"
    if (unnamed and unknown) or (are_numbers(wanted) and not {*classes} & {*wanted}):
        return
    what_to_do = f"{unknown[0]!r} is not one of those" if unknown else f"use the data's .with_classes({where})"
    if unnamed:
        what_to_do += f" if those are names, and classes={where} if they are numbers"
    raise ValueError(f"{name} has the classes {listed(classes)}, and {where} are {listed(wanted)}: {what_to_do}")


def renumbered(y: np.ndarray, classes: Sequence[str], wanted: Sequence[str], name: str) -> np.ndarray:
    """Class numbers in `classes` converted by name to numbers in `wanted`; numbers below 0 belong to no class and stay.

    Raises ValueError for a class that is not in `wanted`, and for data without classes.
    """
    if not classes:
        raise ValueError(f"{name}: the targets have no classes")
    number = {one: i for i, one in enumerate(map(str, wanted))}
    unknown = [one for one in classes if one not in number]
    if unknown:
        raise ValueError(f"{name}: {unknown[0]!r} is not one of the classes {listed(number)}")
    return np.where(y < 0, y, np.array([number[one] for one in classes])[np.maximum(y, 0)])
