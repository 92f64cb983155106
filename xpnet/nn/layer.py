"""The contract of a layer, and the two ways to put layers together."""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from xpnet.backend import Array, Backend
from xpnet.nn.init import Initializer

Shape = tuple[int, ...]
Backward = Callable[..., Any]  # backward(dy, need_dx=True) -> dx, or None where need_dx is false


class ShapeError(ValueError):
    """Shapes that do not fit; the message names the layer and both shapes."""

    def __init__(self, message: str, path: str = ""):
        super().__init__(f"{path}: {message}" if path else message)
        self.message, self.path = message, path

    def inside(self, name: str, layer: Layer) -> ShapeError:
        """The same error, seen from one level further out."""
        path = f"{name}.{self.path}" if self.path else f"{name} ({type(layer).__name__})"
        return ShapeError(self.message, path)


class Parameter:
    """One named tensor of a model. Once the model is built, `data` and `grad` are views into its flat buffers.

    `decay`: weight decay applies to it (not to biases). `trained`: false for state that is saved but has no
    gradient, such as running statistics.
    """

    def __init__(self, shape: Shape, init: Initializer, decay: bool = True, trained: bool = True):
        self.shape, self.size = tuple(shape), math.prod(shape)
        self.init, self.decay, self.trained = init, decay, trained
        self.name = ""
        self.data: Array = None
        self.grad: Array = None
        self._backend: Backend

    def bind(self, backend: Backend, data: Array, grad: Array | None) -> None:
        """Take these views as the parameter's values and gradient."""
        self._backend, self.data, self.grad = backend, data, grad

    def add_grad(self, a: Array, b: Array) -> None:
        """grad += a @ b."""
        product = self._backend.scratch("add_grad", self.shape)
        self.grad += self._backend.matmul(a, b, out=product)

    def add_grad_sum(self, dy: Array) -> None:
        """grad += dy, summed over all its leading axes."""
        self.grad += self._backend.sum_rows(dy.reshape(-1, self.size)).reshape(self.shape)


class Layer:
    """Hyper-parameters, `build(shape) -> shape` and `forward(x, backend) -> (y, backward)`.

    - Every argument of `__init__` is kept under its own name: that is how a layer is saved and copied.
    - `build` gets the shape of one sample (no batch axis), declares the layer's `Parameter`s and returns the shape
      of one output. It raises `ShapeError` where the shapes do not fit.
    - `forward` never changes `x`. `backward(dy, need_dx=True)` never changes `dy`, *adds* to the gradients of the
      parameters and returns dx (nobody reads it if `need_dx` is false). What it needs of the forward it keeps in
      the closure, so a layer can run forward twice before its backward; each `backward` is called once.

    Models are saved with the class's name and the arguments, so no other layer may bear the name of one of these.
    """

    whole_numbers = False  # whether `x` may be of whole numbers, such as uint8 pixels
    known: ClassVar[dict[str, type[Layer]]] = {}  # every class of layers that has been defined, by name

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        before, ours = Layer.known.get(cls.__name__), "xpnet.nn."
        if before and before.__module__.startswith(ours) and not cls.__module__.startswith(ours):
            raise TypeError(f"xpnet has a layer {cls.__name__}: name yours otherwise, models are saved by these names")
        Layer.known[cls.__name__] = cls

    def build(self, shape: Shape) -> Shape:
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        raise NotImplementedError(f"{type(self).__name__} defines no forward")

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
        """All parameters with their paths ("layers.0.weight"), in order of declaration."""
        for path, layer in self.walk():
            yield from ((f"{path}.{key}" if path else key, p) for key, p in _inside(vars(layer), Parameter))

    def __repr__(self) -> str:
        inside = [repr(layer) for _, layer in self.children()]
        shown = {name: vars(self).get(name) for name in inspect.signature(type(self)).parameters}
        plain = [f"{name}={value!r}" for name, value in shown.items() if not any(_inside(value, Layer))]
        return f"{type(self).__name__}({', '.join(inside + [text for text in plain if text != 'layers=[]'])})"


def construct(kind: type[Layer], config: dict[str, Any]) -> Layer:
    """The layer of this class and `config()`. Raises TypeError for arguments that it does not take."""
    signature = inspect.signature(kind)
    unknown = config.keys() - signature.parameters.keys()
    if unknown:
        raise TypeError(f"{kind.__name__} takes no {', '.join(sorted(unknown))}")
    arguments = inspect.BoundArguments(signature, OrderedDict(config))
    return kind(*arguments.args, **arguments.kwargs)


def _copied(value: Any, copies: dict[int, Layer]) -> Any:
    if isinstance(value, Layer):
        return value.copy(copies)
    return type(value)(_copied(v, copies) for v in value) if isinstance(value, (list, tuple)) else value


def _inside(held: Any, kind: type, name: str = "") -> Iterator[tuple[str, Any]]:
    """What of this kind an attribute holds, also in lists, tuples and dicts, with its name ("blocks.0")."""
    if isinstance(held, kind):
        yield name, held
    elif isinstance(held, (dict, list, tuple)):
        for key, value in held.items() if isinstance(held, dict) else enumerate(held):
            yield from _inside(value, kind, f"{name}.{key}" if name else str(key))


def built(layer: Layer, shape: Shape) -> Shape:
    """`layer.build(shape)`, once it is sure that it returned a shape."""
    output = layer.build(shape)
    if not isinstance(output, (tuple, list)):
        raise TypeError(f"{type(layer).__name__}.build must return the shape of one output, not {output!r}")
    return tuple(output)


class Sequential(Layer):
    """One layer after the other: y = f_n(... f_2(f_1(x)))."""

    def __init__(self, *layers: Layer):
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers.{i} of {type(self).__name__} is {layer!r}, not a layer")
        self.layers = list(layers)

    def build(self, shape: Shape) -> Shape:
        first: dict[int, Shape] = {}
        for i, layer in enumerate(self.layers):
            try:
                if first.setdefault(id(layer), shape) != shape and any(layer.parameters()):
                    raise ShapeError(f"is used twice, on shape {first[id(layer)]} and on {shape}")
                shape = built(layer, shape)
            except ShapeError as error:
                raise error.inside(f"layers.{i}", layer) from None
        return shape

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        backwards = []
        for layer in self.layers:
            x, backward_one = layer.forward(x, backend)
            backwards.append(backward_one)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            last = 0 if need_dx else self._first_with_parameters()  # nothing below it needs a gradient
            for i in range(len(backwards) - 1, last - 1, -1):
                dy = backwards.pop()(dy, need_dx or i > last)  # popped: each cache dies right after its use
            return dy if need_dx else None

        return x, backward

    def _first_with_parameters(self) -> int:
        with_parameters = (i for i, layer in enumerate(self.layers) if any(True for _ in layer.parameters()))
        return next(with_parameters, len(self.layers))


class Residual(Sequential):
    """y = x + f(x), where f is the layers in sequence and keeps the shape; with a shortcut s, y = s(x) + f(x).

    dx = dy + f'(x)^T dy, or s'(x)^T dy + f'(x)^T dy. He, Zhang, Ren and Sun, "Deep residual learning for image
    recognition" (2016). A shortcut, such as a 1 x 1 convolution, is for an f that changes the shape.
    """

    def __init__(self, *layers: Layer, shortcut: Layer | None = None):
        super().__init__(*layers)
        if not isinstance(shortcut, Layer | None):
            raise TypeError(f"shortcut of Residual is {shortcut!r}, not a layer")
        self.shortcut = shortcut

    def build(self, shape: Shape) -> Shape:
        inner, around = super().build(shape), tuple(shape)
        if self.shortcut:
            try:
                around = built(self.shortcut, shape)
            except ShapeError as error:
                raise error.inside("shortcut", self.shortcut) from None
        if inner != around:
            sides = "x" if self.shortcut is None else f"the shortcut's {around}"
            raise ShapeError(f"turns shape {tuple(shape)} into {inner}, but the sum with {sides} needs both alike")
        return inner

    def forward(self, x: Array, backend: Backend) -> tuple[Array, Backward]:
        y, backward_inner = super().forward(x, backend)
        around, backward_around = self.shortcut.forward(x, backend) if self.shortcut else (x, None)

        def backward(dy: Array, need_dx: bool = True) -> Array | None:
            dx = backward_inner(dy, need_dx)
            dx_around = backward_around(dy, need_dx) if backward_around else dy
            return dx + dx_around if need_dx else None

        return around + y, backward
