"""`Window`: memory in which the processes of a machine share the update of one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpnet.backend import Array

WEIGHT, NOTES = 0, slice(1, 3)  # what of a process's line of `notes` is for what


class Window:
    """The gradients of each process, and the values that come of them; each process has a part of these, `own`.

    A step has two meetings. When all have written their gradients (`grad`) they meet; each adds up its own part and
    updates its parameters there. Then they write these (`exchange`), meet, and take the parts of the others. Nobody
    writes what another still reads: gradients are written again after the second meeting, values after the first of
    the next step.

    `gradients` are those of all processes, (n,) each, by rank; `values` (n,) and `notes` (size, 3) are of all together.
    `meet()` returns when all processes are there, and see what the others have written. Where there are several
    machines, `add_machines(array)` adds up an array over the processes of this rank on each of them.

    Rajbhandari et al., "ZeRO: Memory optimizations toward training trillion parameter models" (2020), stage 1.
    """

    def __init__(
        self,
        rank: int,
        gradients: Sequence[np.ndarray],
        values: np.ndarray,
        notes: np.ndarray,
        meet: Callable[[], None],
        add_machines: Callable[[np.ndarray], Any] | None = None,
    ):
        self.grad, self.meet = gradients[rank], meet
        self._rank, self._values, self._notes, self._add_machines = rank, values, notes, add_machines
        self._others = [theirs for other, theirs in enumerate(gradients) if other != rank]
        self.divide()

    def divide(self, edges: Sequence[int] = ()) -> None:
        """Let `own` be consecutive numbers, about equally many in each process; with `edges`, among them 0 and n, they
        begin and end at one of those."""
        size, n = len(self._notes), self.grad.size
        bounds = [n * rank // size for rank in (self._rank, self._rank + 1)]
        if edges:
            bounds = [min(edges, key=lambda edge: abs(edge - bound)) for bound in bounds]
        self.own = slice(*bounds)

    def sum_gradients(self, grad: Array, weight: Array | float) -> np.ndarray:
        """As `Group.sum_gradients`, but of `grad`, which is `self.grad`, only `own` becomes the sum."""
        self._notes[self._rank, WEIGHT] = weight
        self.meet()
        total, weights = grad[self.own], self._notes[:, WEIGHT].sum(keepdims=True)
        for theirs in self._others:
            total += theirs[self.own]
        if self._add_machines is not None:
            self._add_machines(total)
            self._add_machines(weights)
        return weights

    def gather(self, *numbers: Any) -> np.ndarray:
        """Two numbers of each process, (size, 2), by rank, until the next step. Once, between sum and exchange."""
        self._notes[self._rank, NOTES] = numbers
        self.meet()
        return self._notes[:, NOTES]

    def exchange(self, array: np.ndarray) -> None:
        """Of array (n,), which is up to date in each process's part, take the parts of the others. Since the exchange
        before, all must have met once."""
        start, stop = self.own.start, self.own.stop
        self._values[self.own] = array[self.own]
        self.meet()
        array[:start] = self._values[:start]
        array[stop:] = self._values[stop:]
