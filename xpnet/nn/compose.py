"""Layers side by side. One after the other, and around, are `Sequential` and `Residual` in `layer.py`."""

from __future__ import annotations

import operator
from itertools import accumulate, pairwise

from xpnet.backend import Array, Backend
from xpnet.nn.layer import Backward, Layer, Shape, ShapeError, built

__all__ = ["Parallel"]


class Parallel(Layer):
    """Several layers on the same input, their outputs joined along an axis: y = [f_1(x), f_2(x), ...].

    `axis` is one of a sample's, counted from 0 without the batch; by default the last, the channels. All other axes of
    the outputs must agree. dx = the sum of f_i'(x)^T dy_i, with dy_i the part of dy that f_i gave.
    For a sum of two branches see `Residual(..., shortcut=...)`.
    """

    def __init__(self, *branches: Layer, axis: int = -1):
        for i, branch in enumerate(branches):
            if not isinstance(branch, Layer):
                raise TypeError(f"branches.{i} of Parallel is {branch!r}, not a layer")
        if not branches:
            raise ValueError("Parallel needs at least one branch")
        self.branches, self.axis = list(branches), operator.index(axis)

    def build(self, shape: Shape) -> Shape:
        outputs = []
        for i, branch in enumerate(self.branches):
            try:
                outputs.append(built(branch, shape))
            except ShapeError as error:
                raise error.inside(f"branches.{i}", branch) from None
        first, rank = outputs[0], len(outputs[0])
        if not -rank <= self.axis < rank:
            raise ShapeError(f"cannot join outputs of shape {first} along axis {self.axis}")
        at = self.axis % rank
        if any(len(o) != rank or o[:at] + o[at + 1 :] != first[:at] + first[at + 1 :] for o in outputs):
            raise ShapeError(f"cannot join outputs of shapes {', '.join(map(str, outputs))} along axis {self.axis}")
        ends = list(accumulate((output[at] for output in outputs), initial=0))
        before = (slice(None),) * (at + 1)  # the batch, and the axes before
        self._parts = [(*before, slice(start, end)) for start, end in pairwise(ends)]
        self._output = (*first[:at], ends[-1], *first[at + 1 :])
        return self._output

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        outputs, backwards = zip(*(branch.forward(x, backend) for branch in self.branches), strict=True)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dxs = [back(dy[part], need_dx) for back, part in zip(backwards, self._parts, strict=True)]
            if not need_dx or dxs[0] is None:  # there is none by whole numbers
                return None
            return sum(dxs[1:], start=dxs[0])

        # Not `concatenate`: CuPy's cannot be captured with more than 8 arrays.
        y = backend.xp.empty((len(x), *self._output), outputs[0].dtype)
        for output, part in zip(outputs, self._parts, strict=True):
            y[part] = output
        return y, backward
