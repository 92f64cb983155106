"""One named tensor of a model."""

from __future__ import annotations

import math
from typing import Any

from xpnet.arguments import a_function, of_kind
from xpnet.backend import Array, Backend
from xpnet.nn.init import WITH_VALUE, Initializer
from xpnet.nn.shapes import Shape


class Parameter:
    """One named tensor of a model. Once the model is built, `data` and `grad` are views into its flat buffers.

    `decay`: whether weight decay applies to it (not to biases). `trained`: false for state that is saved but has no
    gradient, such as running statistics.

    While `cleared` is true, the gradient counts as 0, whatever its memory holds: the first product is written there
    instead of being added to zeros, and reading `grad` before that writes the zeros.
    """

    def __init__(self, shape: Shape, init: Initializer, decay: bool = True, trained: bool = True):
        if hasattr(shape, "__index__"):
            raise TypeError(f"the shape of a Parameter is a tuple, such as ({shape},), not {shape!r}")
        of_kind("the shape of a Parameter is a tuple, such as (3, 4)", shape, (tuple, list))
        a_function("init of a Parameter is an initializer, such as nn.init.zeros", init)
        if kind := next((name for name, made in WITH_VALUE.items() if made is init), ""):
            raise TypeError(f"nn.init.{kind} makes an initializer of a number: write nn.init.{kind}(0.02)")
        self.shape, self.size = tuple(shape), math.prod(shape)
        self.init, self.decay, self.trained = init, decay, trained
        self.name = ""
        self._data: Array = None
        self._grad: Array = None
        self.cleared = False
        self._backend: Backend

    def bind(self, backend: Backend, data: Array, grad: Array | None) -> None:
        """Take these views as the parameter's values and gradient."""
        self._backend, self._data, self._grad, self.cleared = backend, data, grad, False

    @property
    def data(self) -> Array:
        """The values, to read and to change: a view of what optimizers update and `save` writes."""
        return self._data

    @data.setter
    def data(self, values: Any) -> None:
        if self._data is None:
            raise AttributeError("a parameter has no values before its layer is part of a model: nn.Model gives them")
        if values is not self._data:  # `data += ...` assigns the same array
            self._data[...] = values

    @property
    def grad(self) -> Array:
        """The gradient, to read and to add to."""
        if self.cleared:
            self._grad.fill(0)
            self.cleared = False
        return self._grad

    @grad.setter
    def grad(self, values: Any) -> None:
        if values is not self._grad:  # `grad += ...` assigns the same array
            self._grad[...], self.cleared = values, False

    def __getstate__(self) -> dict[str, Any]:
        if self._data is not None:
            raise TypeError(
                "a layer of a model cannot be copied or pickled alone: use copy.deepcopy(model) for a copy with the "
                "values, model.network.copy() for one without"
            )
        return vars(self)

    def add_grad(self, a: Array, b: Array) -> None:
        """grad += a @ b, for matrices a and b whose product has as many numbers as the parameter."""
        shape = a.shape[0], b.shape[1]
        if self.cleared:
            self._backend.matmul(a, b, out=self._grad.reshape(shape))
            self.cleared = False
        else:
            product = self._backend.scratch("add_grad", shape, self._grad.dtype)
            self._grad += self._backend.matmul(a, b, out=product).reshape(self.shape)

    def add_grad_sum(self, dy: Array) -> None:
        """grad += dy, summed over all its leading axes."""
        rows = dy.reshape(-1, self.size)
        if self.cleared:
            self._backend.sum_rows(rows, out=self._grad.reshape(self.size))
            self.cleared = False
        else:
            self._grad += self._backend.sum_rows(rows).reshape(self.shape)
