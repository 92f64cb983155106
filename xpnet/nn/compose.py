"""Putting layers together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import accumulate, pairwise
from typing import Any

from xpnet.arguments import whole
from xpnet.backend import Array, Backend
from xpnet.backend.threads import Team
from xpnet.nn.layer import Backward, Layer, not_a_layer, require_unused
from xpnet.nn.mirror import Mirror
from xpnet.nn.shapes import Shape, ShapeError, is_several, shape_of, size_of

__all__ = ["Blocked", "Parallel", "Residual", "Sequential"]

SHARE = 1 << 18  # outputs, 1 MB in float32, that a thread must compute in a pass to be worth starting


class Sequential(Layer):
    """One layer after the other: y = f_n(... f_2(f_1(x))).

    By the chain rule dx = f_1'^T f_2'^T ... f_n'^T dy: the backwards run in reverse order, each on the dx of the
    layer after it.
    """

    by_position = True

    def __init__(self, *layers: Layer):
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers.{i} of {type(self).__name__} is {not_a_layer(layer)}")
        self.layers = list(layers)

    def build(self, shape: Shape) -> Shape:
        for layer in self.layers:
            shape = layer.built(shape)
        with_parameters = (i for i, layer in enumerate(self.layers) if any(True for _ in layer.parameters()))
        self._first_trained = next(with_parameters, len(self.layers))
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        backwards = []
        for layer in self.layers:
            x, backward_one = layer(x, backend)
            backwards.append(backward_one)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            require_unused(backwards, len(self.layers))
            last = 0 if need_dx else self._first_trained  # no layer before it needs a gradient
            for i in range(len(backwards) - 1, last - 1, -1):
                dy = backwards.pop()(dy, need_dx or i > last)  # popped: what it keeps is freed right after its use
                if dy is None:  # this layer's input has no gradient
                    return None
            return dy if need_dx else None

        return x, backward

    @property
    def accepts_integers(self) -> Any:
        reader = self._reader()
        return None if reader is None else reader.accepts_integers

    def check_input(self, x: Any) -> None:
        reader = self._reader()
        if reader is not None:
            reader.check_input(x)

    def arrays_of(self, frame: Any) -> Any:
        reader = self._reader()
        return super().arrays_of(frame) if reader is None else reader.arrays_of(frame)

    def _reader(self) -> Layer | None:
        """The first layer that does more with its input than move it."""
        return next((layer for layer in self.layers if layer.accepts_integers is not None), None)


class Blocked(Sequential):
    """The layers in sequence, on a CPU a few samples at a time, so that what one passes to the next stays in the cache.

    It pays off where layers turn small inputs into large outputs and back, as a convolution and its pooling do. y and
    dx are those of `Sequential`; the gradients of the parameters are the same sums, added up block by block. A block
    has as many samples as give 4 MB of outputs in float32, all layers taken together. On a GPU, and while there is an
    observer (`backend.observed_by`), the whole batch goes through at once.

    With `select(threads=n)` up to n threads share the batch, as long as each has 1 MB of outputs or more. Each sums the
    gradients of its own samples; then these sums are added in the order of the threads. So n threads give the same bits
    each time, but another n may give others.

    Not for layers that need the whole batch or draw random numbers (`Layer.by_sample`): BatchNorm and Dropout raise
    `ShapeError`.
    """

    def build(self, shape: Shape) -> Shape:
        output = super().build(shape)
        for path, layer in self.walk():  # some layers exist only after build
            if not layer.by_sample:
                raise ShapeError(
                    f"takes the batch in blocks, but {path} ({type(layer).__name__}) needs the whole batch: put that "
                    f"layer outside of {type(self).__name__}"
                )
        if is_several(shape) or is_several(output):
            raise ShapeError(f"needs one input and one output to cut into blocks, not shapes {shape} and {output}")
        self._numbers = sum(size_of(made) for layer in self.layers for made in layer._shapes.values())
        self._mirrors: list[Mirror] = []
        return output

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        if backend.observer is not None:
            return super().forward(x, backend)
        if backend.team is not None:
            n_parts = min(len(backend.team.backends), len(x), len(x) * self._numbers // SHARE)
            if n_parts > 1:
                return self._in_threads(x, n_parts, backend.team, backend.xp)
        blocks = list(backend.chunks(len(x), max(self._numbers // 16, 1)))  # 4 MB of outputs each, in float32
        if len(blocks) < 2:
            return super().forward(x, backend)
        y, backwards = None, []
        for block in blocks:
            part, backward_block = super().forward(x[block], backend)
            y = backend.xp.empty((len(x), *part.shape[1:]), part.dtype) if y is None else y
            y[block] = part
            backwards.append(backward_block)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            require_unused(backwards, len(blocks))
            dx = None
            for block in reversed(blocks):  # the last is still in the cache
                part = backwards.pop()(dy[block], need_dx)
                if part is not None:
                    dx = backend.xp.empty((len(dy), *part.shape[1:]), part.dtype) if dx is None else dx
                    dx[block] = part
            return dx

        return y, backward

    def _in_threads(self, x: Array, n_parts: int, team: Team, xp: Any) -> tuple[Array, Backward]:
        """Run the first part of the batch through the layers themselves, each other part through a mirror of them."""
        self._mirrors = self._mirrors or [Mirror(self, own) for own in team.backends[1:]]
        edges = [len(x) * i // n_parts for i in range(n_parts + 1)]
        parts, mirrors = [slice(*edge) for edge in pairwise(edges)], self._mirrors[: n_parts - 1]
        first = partial(self.forward, x[parts[0]], team.backends[0])
        others = [partial(mirror.forward, x[part]) for mirror, part in zip(mirrors, parts[1:], strict=True)]
        ys, backwards = zip(*team.run([first, *others]), strict=True)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            jobs = [partial(back, dy[part], need_dx) for back, part in zip(backwards, parts, strict=True)]
            dxs = team.run(jobs)
            for mirror in mirrors:
                mirror.give_gradients()
            return xp.concatenate(dxs) if need_dx and dxs[0] is not None else None

        return xp.concatenate(ys), backward


class Residual(Sequential):
    """y = x + f(x), where f is the layers in sequence and keeps the shape; with a shortcut s, y = s(x) + f(x).

    dx = dy + f'(x)^T dy, or s'(x)^T dy + f'(x)^T dy. He, Zhang, Ren and Sun, "Deep residual learning for image
    recognition" (2016). A shortcut, such as a 1 x 1 convolution, is for an f that changes the shape.
    """

    accepts_integers = False

    def __init__(self, *layers: Layer, shortcut: Layer | None = None):
        super().__init__(*layers)
        if not isinstance(shortcut, Layer | None):
            raise TypeError(f"shortcut of Residual is {not_a_layer(shortcut)}")
        self.shortcut = shortcut

    def build(self, shape: Shape) -> Shape:
        inner = super().build(shape)
        around = tuple(shape) if self.shortcut is None else self.shortcut.built(shape)
        if inner != around:
            sides = "x" if self.shortcut is None else f"the shortcut's {around}"
            raise ShapeError(f"turns shape {tuple(shape)} into {inner}, but the sum with {sides} needs equal shapes")
        return inner

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y, backward_inner = super().forward(x, backend)
        around, backward_around = self.shortcut(x, backend) if self.shortcut else (x, None)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dx = backward_inner(dy, need_dx)
            dx_around = backward_around(dy, need_dx) if backward_around else dy
            return _sum([dx, dx_around]) if need_dx else None

        return _sum([around, y]), backward


class Parallel(Layer):
    """Several layers on the same input, their outputs joined along an axis: y = [f_1(x), f_2(x), ...].

    `axis` is an axis of one sample, counted from 0 without the batch; by default the last, the channels. All other axes
    of the outputs must agree. dx = the sum of f_i'(x)^T dy_i, with dy_i the part of dy that belongs to f_i.
    For a sum of two branches see `Residual(..., shortcut=...)`.
    """

    def __init__(self, *branches: Layer, axis: int = -1):
        for i, branch in enumerate(branches):
            if not isinstance(branch, Layer):
                raise TypeError(f"branches.{i} of Parallel is {not_a_layer(branch)}")
        if not branches:
            raise ValueError("Parallel needs at least one branch")
        self.branches, self.axis = list(branches), whole("axis", axis)
        self._known: dict[Shape, tuple[Shape, list[tuple[slice, ...]]]] = {}  # how outputs are joined, by x's shape

    def build(self, shape: Shape) -> Shape:
        joined, parts = self._joined([branch.built(shape) for branch in self.branches])
        if None not in joined:  # the length of a free axis is known only from a batch
            self._known[shape] = joined, parts
        self.by_position = self.axis % len(joined) > 0
        return joined

    def _joined(self, shapes: Sequence[Shape]) -> tuple[Shape, list[tuple[slice, ...]]]:
        """The shape of such outputs joined, and where each of them lies in a joined batch ([] if a length is free)."""
        first, rank, found = shapes[0], len(shapes[0]), ", ".join(map(str, shapes))
        if not -rank <= self.axis < rank:
            raise ShapeError(f"cannot join outputs of shape {first} along axis {self.axis}", self)
        at = self.axis % rank
        if any(is_several(s) or len(s) != rank or s[:at] + s[at + 1 :] != first[:at] + first[at + 1 :] for s in shapes):
            raise ShapeError(f"cannot join outputs of shapes {found} along axis {self.axis}", self)
        lengths = [shape[at] for shape in shapes]
        if None in lengths:
            return (*first[:at], None, *first[at + 1 :]), []
        ends = list(accumulate(lengths, initial=0))
        before = (slice(None),) * (at + 1)  # the batch axis, and the axes before `at`
        parts = [(*before, slice(start, end)) for start, end in pairwise(ends)]
        return (*first[:at], ends[-1], *first[at + 1 :]), parts

    @property
    def accepts_integers(self) -> Any:
        answers = {branch.accepts_integers for branch in self.branches}
        return answers.pop() if len(answers) == 1 else False

    def check_input(self, x: Any) -> None:
        for branch in self.branches:
            branch.check_input(x)

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        outputs, backwards = zip(*(branch(x, backend) for branch in self.branches), strict=True)
        joined, parts = self._known.get(shape_of(x)) or self._joined([y.shape[1:] for y in outputs])

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dxs = [back(dy[part], need_dx) for back, part in zip(backwards, parts, strict=True)]
            return _sum(dxs) if need_dx else None

        # Not `concatenate`: CuPy's cannot be captured in a CUDA graph with more than 8 arrays.
        y = backend.xp.empty((len(outputs[0]), *joined), outputs[0].dtype)
        for output, part in zip(outputs, parts, strict=True):
            y[part] = output
        return y, backward


def _sum(values: Sequence[Any]) -> Any:
    """The sum of arrays, or of tuples of arrays entry by entry. None, which stands for no gradient, is skipped."""
    given = [value for value in values if value is not None]
    if given and isinstance(given[0], tuple):
        return tuple(_sum(entries) for entries in zip(*given, strict=True))
    return sum(given[1:], start=given[0]) if given else None
