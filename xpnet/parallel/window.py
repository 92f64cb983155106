"""`Window`: memory in which the processes of a machine share the update of one model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xpnet.backend import Array

WEIGHT, NOTES = 0, slice(1, 3)  # columns in a process's row of `notes`: of `sum_gradients`, of `gather`


class Window:
    """The gradients of each process, and the values computed from them, of which each process updates a part, `own`.

    A step has two meetings (barriers). When all processes have written their gradients (`grad`) they meet; then each
    sums the gradients of its own part and updates the parameters there. It writes these values (`exchange`), all meet
    again, and each takes the parts of the others. Nobody overwrites what another still reads: gradients are written
    again only after the second meeting, values only after the first meeting of the next step.

    `gradients` are those of all processes, (n,) each, by rank; all share `values` (n,) and `notes` (size, 3 or more).
    `meet()` returns when all processes have called it and see what the others have written. If there are several
    machines, `add_machines(array)` sums an array over the processes with this rank on each of them.

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
        """Set `own` to a range of about the same length in each process; with `edges`, which must include 0 and n, it
        begins and ends at edges."""
        size, n = len(self._notes), self.grad.size
        bounds = [n * rank // size for rank in (self._rank, self._rank + 1)]
        if edges:
            bounds = [min(edges, key=lambda edge: abs(edge - bound)) for bound in bounds]
        self.own = slice(*bounds)

    def sum_gradients(self, grad: Array, weight: Array | float) -> np.ndarray:
        """Like `Group.sum_gradients`, but only the range `own` of `grad`, which is `self.grad`, becomes the sum."""
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
        """Two numbers of each process, (size, 2), by rank, valid until the next step.

        To be called once per step, between `sum_gradients` and `exchange`.
        """
        self._notes[self._rank, NOTES] = numbers
        self.meet()
        return self._notes[:, NOTES]

    def exchange(self, array: np.ndarray) -> None:
        """Fill in array (n,), of which each process has its own part up to date, with the parts of the others.

        Since the previous exchange, all must have met at least once.
        """
        start, stop = self.own.start, self.own.stop
        self._values[self.own] = array[self.own]
        self.meet()
        array[:start] = self._values[:start]
        array[stop:] = self._values[stop:]
