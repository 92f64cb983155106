"""The order of the samples in an epoch, and its division into batches. All on the host.

The order depends only on (seed, epoch): it is the same for every device, and a run that resumes in the middle of epoch
7 computes the order of epoch 7 again instead of having to save it.
"""

from __future__ import annotations

import numpy as np

from xpnet.arguments import whole
from xpnet.backend.random import host_generator


def epoch_order(n: int, seed: int, epoch: int) -> np.ndarray:
    """The order in which an epoch visits n samples: (n,) int64, a permutation of 0..n-1.

    Raises ValueError if n < 1, or the seed or the epoch is negative.
    """
    whole("n", n, least=1)
    return permutation(n, seed, "order", epoch)


def batch_slices(n: int, batch_size: int) -> list[slice]:
    """The slices of an epoch's order that are its batches; the last is shorter unless batch_size divides n.

    Raises ValueError unless 1 <= batch_size <= n.
    """
    n, batch_size = whole("n", n, least=1), whole("batch_size", batch_size, least=1)
    if batch_size > n:
        raise ValueError(f"batch_size={batch_size} is more than the {n} samples there are")
    return [slice(start, min(start + batch_size, n)) for start in range(0, n, batch_size)]


def permutation(n: int, seed: int, purpose: str, index: int = 0) -> np.ndarray:
    """A permutation of 0..n-1, (n,) int64, that depends only on (seed, purpose, index).

    It is the order that sorts n raw words of the generator. NumPy guarantees the same raw words in all its versions,
    but not the same results of Generator.permutation.
    """
    whole("seed", seed, least=0)
    whole("epoch" if purpose == "order" else "index", index, least=0)
    words = host_generator(seed, purpose, index).bit_generator.random_raw(n)
    order = np.argsort(words)  # four times as fast as a stable one, and the same unless two words are equal:
    if not np.diff(words[order]).all():
        order = np.argsort(words, kind="stable")
    return order.astype(np.int64, copy=False)
