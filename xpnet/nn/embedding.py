"""Trained vectors for whole numbers: words, characters, categories."""

from __future__ import annotations

from functools import partial

import numpy as np

from xpnet.arguments import a_function, whole
from xpnet.backend import Array, Backend
from xpnet.nn import init as initializers
from xpnet.nn.init import Initializer
from xpnet.nn.layer import Backward, Layer, Parameter
from xpnet.nn.shapes import Shape

__all__ = ["Embedding"]

STANDARD_NORMAL = initializers.normal(1)
# Up to this many rows in the table, a product with one-hot rows is used instead of sorting. On one thread of a Xeon,
# for 512 to 4096 numbers and vectors of 64 or 128, the product takes 0.3 to 1.2 times as long as sorting for 128 rows,
# 0.6 to 2.5 times for 256, and 1.2 to 4.5 times for 512.
SMALL = 256


class Embedding(Layer):
    """y = W[x]: row x of a table.  x: (N, ...), whole numbers 0 to n - 1, W: (n, size), y: (N, ..., size).

    dW[i] = the sum of dy wherever x is i, always added in the same order. There is no dx.

    `padding` is a number that stands for "nothing here". Its row of the table starts at 0 and gets no gradient (as in
    PyTorch), so y is 0 there unless someone writes to that row. A difference quotient that changes the row does find a
    gradient, so use `verify.check` on inputs without that number.

    A number out of range raises ValueError on a CPU. A GPU does not check, and would read another row; for a GPU the
    numbers are checked on the host, where data enter (`check_input`).
    """

    accepts_integers = True
    by_position = True

    def __init__(self, n: int, size: int, padding: int | None = None, init: Initializer = STANDARD_NORMAL):
        a_function("init is an initializer, such as nn.init.he_normal", init)
        self.n, self.size = whole("n of Embedding", n, least=1), whole("size of Embedding", size, least=1)
        self.padding = None if padding is None else whole("padding", padding)
        if self.padding is not None and not 0 <= self.padding < self.n:
            raise ValueError(f"padding must be one of 0..{self.n - 1}, not {padding}")
        self.init = init

    def build(self, shape: Shape) -> Shape:
        first = self.init
        if self.padding is not None:
            first = Initializer("padded", partial(_with_zero_row, self.init, self.padding))
        self.W = Parameter((self.n, self.size), first)
        return (*shape, self.size)

    def check_input(self, x: np.ndarray) -> None:
        """Raise ValueError for a number that has no row. `x` is on the host."""
        if x.size and (x.min() < 0 or x.max() >= self.n):
            outside = x[(x < 0) | (x >= self.n)]
            raise ValueError(f"Embedding has rows 0..{self.n - 1}, its input holds {outside.flat[0]}")

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        if x.dtype.kind not in "iu":
            raise TypeError(f"Embedding takes whole numbers 0..{self.n - 1}, not {x.dtype}")
        if isinstance(x, np.ndarray):  # on the host the check costs nothing
            self.check_input(x)
        rows = x.reshape(-1).astype(backend.xp.int64)

        def backward(dy: Array, need_dx: bool = True) -> None:
            dW = summed_by_row(dy.reshape(-1, self.size), rows, self.n, backend)
            if self.padding is not None:
                dW[self.padding] = 0
            self.W.grad += dW

        return backend.take(self.W.data, rows).reshape(*x.shape, self.size), backward


def _with_zero_row(init: Initializer, row: int, rng: np.random.Generator, shape: Shape) -> np.ndarray:
    W = init(rng, shape)
    W[row] = 0
    return W


def summed_by_row(a: Array, rows: Array, n: int, backend: Backend) -> Array:
    """(n, k): row i is the sum of all a[j] with rows[j] = i.  a: (m, k), rows: (m,).

    With atomic additions, the threads of a GPU would add to one place in no fixed order, and so give different bits
    each time. Here no two threads add to the same place. The a[j] are sorted by row; then, in rounds, each adds the one
    1, 2, 4, ... places before it, if that belongs to the same row. In the end the last one of each row holds the sum.
    This is the scan by doubling of Hillis and Steele, "Data parallel algorithms" (1986), within each row.
    """
    xp, m = backend.xp, len(a)
    if n <= SMALL or not m:
        return backend.full_matmul((xp.arange(n)[:, None] == rows).astype(a.dtype), a)
    ordered = xp.sort(rows * m + xp.arange(m))  # keys that all differ, so that every sort gives the same order
    rows, sums = ordered // m, xp.take(a, ordered % m, axis=0)
    step = 1
    while step < m:
        same = (rows[step:] == rows[:-step]).astype(a.dtype)
        if isinstance(same, np.ndarray) and not same.any():
            break  # no row occurs that often; on a GPU, finding out would mean waiting for the answer
        sums[step:] += sums[:-step] * same[:, None]
        step *= 2
    last = xp.maximum(xp.searchsorted(rows, xp.arange(n), side="right") - 1, 0)
    of_rows = xp.take(sums, last, axis=0)
    of_rows *= (xp.take(rows, last) == xp.arange(n)).astype(a.dtype)[:, None]  # 0 for a row that does not occur
    return of_rows
