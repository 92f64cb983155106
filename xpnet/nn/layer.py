"""The contract of a layer: the base class `Layer`."""

from __future__ import annotations

import inspect
import sys
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from xpnet.backend import Array, Backend, Observer
from xpnet.nn.parameter import Parameter
from xpnet.nn.shapes import ContractError, Shape, ShapeError, fits, in_tuple, is_several, shape_of

__all__ = ["Layer", "Parameter"]


class Backward(Protocol):
    """backward(dy) -> dx. With need_dx=False the result is not used, and need not be computed."""

    def __call__(self, dy: Any, need_dx: bool = True) -> Any: ...


class Layer:
    """Hyper-parameters, `build(shape) -> shape` and `forward(x, backend) -> (y, backward)`.

    - Every argument of `__init__` is kept as an attribute of the same name: this is how a layer is saved and copied.
      The layers of this package raise ValueError or TypeError for an argument that is impossible.
    - `build` gets the shape of one sample (no batch axis), declares the layer's `Parameter`s and returns the shape
      of one output. It raises `ShapeError` where the shapes do not fit.
    - Arrays are on the backend's device, with the batch as first axis, and have its dtype (but see `accepts_integers`).
    - `forward` never changes `x`. `backward(dy, need_dx=True)` never changes `dy`, *adds* to the gradients of the
      parameters and returns dx (not used if `need_dx` is false). What it needs of the forward it keeps in the
      closure, so a layer can run forward twice before its backward; each `backward` is called once.
    - A layer that contains others builds them with `layer.built(shape)` and runs them with `layer(x, backend)`.
    - x, y, dx and dy, and their shapes, may be tuples. In dx, None stands for what has no gradient (integers, masks);
      in dy, for an output that nobody used.
    """

    accepts_integers: Any = False
    """Whether x may hold integers, such as uint8 pixels or token numbers: True, False, or None for a layer that only
    moves its values, so that the next layer decides. A tuple of these if x is a tuple."""

    by_sample: bool = True
    """Whether a pass over a batch gives the same as passes over its samples one by one. False if a sample's output
    depends on the other samples, as in BatchNorm, or on a random number, or if the layer's state differs between the
    two. `verify.check` tests it."""

    by_position: bool = False
    """Whether, when not training, y at a position of a sequence (N, T, ...) depends only on x at that position.
    `decode` needs this of every layer that has no `decode` method. Layers inside this one have a value of their own.
    `verify.check` tests it if a sample of the outputs has more than one axis."""

    known: ClassVar[dict[str, type[Layer]]] = {}  # every class of layers defined so far, by `kind_name`
    _shapes: dict[Shape, Shape] = {}  # noqa: RUF012 (replaced, never changed): output shapes, by input shapes
    _declared: frozenset[str] = frozenset()  # names of the attributes that `build` has set

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        Layer.known[kind_name(cls)] = cls

    def build(self, shape: Shape) -> Shape:
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

    def check_input(self, x: Any) -> None:
        """Raise ValueError if x, an array on the host, holds values that the layer cannot take.

        Called before data go to a device, which would not report such values: an index beyond a table, for example.
        """

    def arrays_of(self, frame: Any) -> Any:
        """A table of named columns (a data frame) as x, on the host.

        Only `nn.Columns` looks columns up by their names. Other layers take a table that NumPy can convert to an array,
        row by row, and raise TypeError for any other.
        """
        if hasattr(frame, "__array__"):
            return frame
        raise TypeError(
            f"the network takes arrays, not a {type(frame).__name__} of columns: let it begin with nn.Columns, or "
            "hand over the values as an array"
        )

    # Building and calling -----------------------------------------------------------------------------------

    def built(self, shape: Shape) -> Shape:
        """`build(shape)`, with its result checked. Raises `ShapeError`, or `ContractError` if that is no shape."""
        if self._shapes and shape not in self._shapes and any(True for _ in self.parameters()):
            raise ShapeError(f"is used twice, on shape {next(iter(self._shapes))} and on {shape}: use two layers", self)
        if not self._shapes:  # drop what is left from a model that could not be built
            for name in self._declared:
                vars(self).pop(name, None)
        before = set(vars(self))
        try:
            output = self.build(shape)
        except ShapeError as error:
            error.layer = error.layer or self
            raise
        except TypeError as error:  # most often from arithmetic with None or a tuple
            if isinstance(error, ContractError) or not (is_several(shape) or None in shape):
                raise
            what = "several inputs, of shapes" if is_several(shape) else "an axis of free length, in shape"
            raise ShapeError(f"cannot be built on {what} {shape}: {error}", self) from error
        finally:
            self._declared |= vars(self).keys() - before
        if not isinstance(output, (tuple, list)):
            raise ContractError(f"build must return the shape of one output, not {output!r}", self)
        self._shapes = {**self._shapes, shape: tuple(output)}
        return tuple(output)

    def __call__(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        """Run `forward`, check what it returns and notify the backend's observer: how a layer is called."""
        if backend.trusting:  # the usual case, kept short: the model has seen x of this shape before
            return self.forward(x, backend)
        if backend.observer is not None:
            backend.observer.forward_begins(self, x)
        try:
            result = self.forward(x, backend)
        except AttributeError as error:
            if self._shapes:
                raise
            raise ContractError(
                "has not been built: a layer that contains others must call their built(shape) in its build, and a "
                "network whose layers were changed needs a new nn.Model",
                self,
            ) from error
        self._check(x, result)
        y, backward = result
        result = y, self._backward_checked(x, backward)
        return result if backend.observer is None else self._observed(x, result, backend, backend.observer)

    def _check(self, x: Array, result: Any) -> None:
        """Raise `ContractError` or `ShapeError` unless forward's result is of the kind and shape that it must be."""
        if not (isinstance(result, tuple) and len(result) == 2 and callable(result[1])):
            raise ContractError("forward must return (y, backward)", self)
        if not self._shapes:  # not built: nothing to compare with
            return
        given, got = shape_of(x), shape_of(result[0])
        outputs = [output for shape, output in self._shapes.items() if fits(given, shape)]
        if not outputs:
            raise ShapeError(f"was built for samples of shape {next(iter(self._shapes))}, got {given}", self)
        if not any(fits(got, output) for output in outputs):
            raise ShapeError(f"build said that an output has shape {outputs[0]}, forward gave {got}", self)

    def _backward_checked(self, x: Any, backward: Backward) -> Backward:
        """The same backward, with the shape of dx compared with that of x."""
        wanted = [array.shape for array in in_tuple(x)]  # only the shapes, so that x itself is not kept

        def checked(dy: Any, need_dx: bool = True) -> Any:
            dx = backward(dy, need_dx)
            if need_dx and dx is not None:
                shapes = [None if d is None else getattr(d, "shape", type(d).__name__) for d in in_tuple(dx)]
                if len(shapes) != len(wanted) or any(s not in (None, w) for s, w in zip(shapes, wanted, strict=True)):
                    right, wrong = (", ".join(map(str, all_of)) for all_of in (wanted, shapes))
                    raise ContractError(
                        f"{type(self).__name__}: backward gave a dx of shape {wrong} for x of shape {right}"
                    )
            return dx

        return checked

    def _observed(
        self, x: Array, result: tuple[Array, Backward], backend: Backend, observer: Observer
    ) -> tuple[Array, Backward]:
        """The same result; the observer is told of this forward, and will be told of its backward."""
        y, backward_inner = result
        observer.forward(self, x, y)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            if backend.observer is not None:
                backend.observer.backward_begins(self, dy)
            dx = backward_inner(dy, need_dx)
            if backend.observer is not None:
                backend.observer.backward(self, dy, dx if need_dx else None)
            return dx

        return y, backward

    # Looking inside -----------------------------------------------------------------------------------------

    def config(self) -> dict[str, Any]:
        """The arguments of `__init__`, by name: together with the class, all there is to know before `build`."""
        try:
            return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        except AttributeError as error:
            raise TypeError(
                f"{type(self).__name__} cannot be saved or copied: {error}. "
                "Keep every argument of __init__ as an attribute of the same name."
            ) from None

    def copy(self, copies: dict[int, Layer] | None = None) -> Layer:
        """A new layer of the same configuration, not built, with no values.

        `copies` maps the id of a layer to its copy, so that a layer that is used twice stays one layer.
        """
        copies = {} if copies is None else copies
        if id(self) not in copies:
            copies[id(self)] = construct(type(self), {k: _copied(v, copies) for k, v in self.config().items()})
        return copies[id(self)]

    def children(self) -> Iterator[tuple[str, Layer]]:
        """The layers directly inside this one, with their names, in order of declaration."""
        yield from _inside(vars(self), Layer)

    def walk(self, name: str = "") -> Iterator[tuple[str, Layer]]:
        """This layer and all those inside it, outermost first, with their paths ("layers.0")."""
        yield name, self
        for key, child in self.children():
            yield from child.walk(f"{name}.{key}" if name else key)

    def parameters(self) -> Iterator[tuple[str, Parameter]]:
        """All parameters with their paths ("layers.0.W"), in order of declaration."""
        for path, layer in self.walk():
            yield from ((f"{path}.{key}" if path else key, p) for key, p in _inside(vars(layer), Parameter))

    def __repr__(self) -> str:
        """The call that makes the layer; large arrays are not written out."""
        shown: list[str] = []
        for name, parameter in inspect.signature(type(self)).parameters.items():
            value = vars(self).get(name)
            if parameter.kind is parameter.VAR_POSITIONAL and isinstance(value, (list, tuple)):
                shown += map(_short, value)
            else:
                shown.append(f"{name}={_short(value)}")
        return f"{type(self).__name__}({', '.join(shown)})"


def require_unused(backwards: list[Backward], n: int) -> None:
    """Raise RuntimeError unless all n backwards are still there: each is removed, with what it keeps, when it runs."""
    if len(backwards) < n:
        raise RuntimeError("this backward has run already, and has freed what it needs: run forward again first")


def kind_name(kind: type[Layer]) -> str:
    """The name of a class of layers in files: its own name, after that of its module unless this is in `xpnet.nn`.

    For a script that is run as a program, the module's name is the one that it would be imported by.
    """
    module = kind.__module__
    if module.startswith("xpnet.nn."):
        return kind.__qualname__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        module = spec.name if spec else Path(file).stem if file else module
    return f"{module}.{kind.__qualname__}"


def construct(kind: type[Layer], config: dict[str, Any]) -> Layer:
    """A layer of this class from its `config()`. Raises TypeError for arguments that it does not take."""
    signature = inspect.signature(kind)
    unknown = config.keys() - signature.parameters.keys()
    if unknown:
        raise TypeError(f"{kind.__name__} takes no {', '.join(sorted(unknown))}")
    arguments = inspect.BoundArguments(signature, OrderedDict(config))
    return kind(*arguments.args, **arguments.kwargs)


def not_a_layer(given: object) -> str:
    """Says what was given in place of a layer and, for common mistakes, what to write instead."""
    if isinstance(given, type) and issubclass(given, Layer):
        return f"the class {given.__name__}, not a layer: make one by {given.__name__}(...)"
    if isinstance(given, list | tuple):
        return f"a {type(given).__name__}, not a layer: give its layers one by one, with a star before it: *layers"
    return f"{given!r}, not a layer"


def _short(value: Any) -> str:
    """`repr`; for an array, a list of its numbers, or its shape if there are many."""
    if not isinstance(value, np.ndarray):
        return repr(value)
    return repr(value.tolist()) if value.size <= 8 else f"<numbers {value.shape}>"


def _copied(value: Any, copies: dict[int, Layer]) -> Any:
    if isinstance(value, Layer):
        return value.copy(copies)
    if isinstance(value, dict):
        return {key: _copied(v, copies) for key, v in value.items()}
    return type(value)(_copied(v, copies) for v in value) if isinstance(value, (list, tuple)) else value


def _inside(held: Any, kind: type, name: str = "") -> Iterator[tuple[str, Any]]:
    """All objects of this kind in an attribute, also inside lists, tuples and dicts, with names ("blocks.0")."""
    if isinstance(held, kind):
        yield name, held
    elif isinstance(held, (dict, list, tuple)):
        for key, value in held.items() if isinstance(held, dict) else enumerate(held):
            yield from _inside(value, kind, f"{name}.{key}" if name else str(key))
