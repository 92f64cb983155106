"""`Model`: a network built on a backend, with all parameters in one flat buffer and all gradients in another."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.nn.activation import sigmoid, softmax
from xpnet.nn.layer import Backward, Layer, Parameter, Shape, ShapeError, built
from xpnet.nn.shape import Flatten, Reshape, Transpose


class Model:
    """A network, the shape of one input, and the device that holds its values.

    The values of all parameters are views into `data`, their gradients views into `grad`. In both, what weight
    decay applies to comes first (`n_decay` numbers), then what it does not, then (in `data` alone) state that is
    not trained. So clearing the gradients is one fill, an update a handful of operations for the whole network,
    and addresses never change.

    `parameters` maps names ("layers.0.W") to `Parameter`s; `classes` are the names of the outputs, if it has any.

    Raises `ShapeError` where layers do not fit each other or the input, naming the layer.
    """

    def __init__(
        self,
        network: Layer,
        input_shape: Sequence[int],
        backend: Backend,
        classes: Sequence[str] = (),
        tensors: dict[str, np.ndarray] | None = None,
    ):
        """Draws the first values from `backend.seed` on the host, or takes them from `tensors` (by name)."""
        if any(p.data is not None for _, p in network.parameters()):
            raise ValueError("this network is built already: build network.copy(), or use model.to(backend)")
        self.network, self.backend = network, backend
        self.input_shape: Shape = tuple(int(n) for n in input_shape)
        self.output_shape, self.parameters = declare(network, self.input_shape)
        leaves = (layer for _, layer in network.walk() if not any(layer.children()))
        deciding = next((layer for layer in leaves if not isinstance(layer, (Flatten, Reshape, Transpose))), None)
        self.takes_whole_numbers = deciding is not None and deciding.whole_numbers
        self.classes = tuple(str(name) for name in classes)
        if self.classes and len(self.classes) != self.output_shape[-1]:
            raise ShapeError(f"{len(self.classes)} class names for {self.output_shape[-1]} outputs")
        if tensors is None:
            rng = backend.host_rng("weights")
            tensors = {name: p.init(rng, p.shape) for name, p in self.parameters.items()}
        check_tensors(tensors, {name: p.shape for name, p in self.parameters.items()}, backend.dtype)
        self._allocate(tensors)

    def _allocate(self, tensors: dict[str, np.ndarray]) -> None:
        # The sort is stable: within each of the three groups, the order of declaration.
        order = sorted(self.parameters.values(), key=lambda p: (not p.trained, not p.decay))
        self.n_decay = sum(p.size for p in order if p.trained and p.decay)
        n_trained = sum(p.size for p in order if p.trained)
        flat = [np.asarray(tensors[p.name], np.float64).ravel() for p in order]
        self.data: Array = self.backend.asarray(np.concatenate([np.empty(0), *flat]))
        self.grad: Array = self.backend.xp.zeros(n_trained, self.backend.dtype)
        end = 0
        for p in order:
            start, end = end, end + p.size
            grad = self.grad[start:end].reshape(p.shape) if p.trained else None
            p.bind(self.backend, self.data[start:end].reshape(p.shape), grad)

    @property
    def n_parameters(self) -> int:
        """How many numbers are trained."""
        return self.grad.size

    def forward(self, x: Array) -> tuple[Array, Backward]:
        """y (N, *output_shape) and `backward(dy, need_dx=True)`, for x (N, *input_shape) on the model's device."""
        self._check(x)
        result = self.network.forward(x, self.backend)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise TypeError(f"{type(self.network).__name__}.forward must return (y, backward)")
        if result[0].shape[1:] != self.output_shape:
            name, shapes = type(self.network).__name__, f"{self.output_shape}, its forward gave {result[0].shape[1:]}"
            raise ShapeError(f"{name}.build said that an output has shape {shapes}")
        return result

    def _check(self, x: Array) -> None:
        if not isinstance(x, self.backend.array_type):
            raise TypeError(
                f"the model is on {self.backend.device}, its input is a {type(x).__module__}.{type(x).__name__}: "
                "put it there with backend.asarray(x)"
            )
        if x.shape[1:] != self.input_shape:
            raise ShapeError(f"the model takes samples of shape {self.input_shape}, got {x.shape[1:]}")
        if x.dtype.kind == "f":
            if x.dtype != self.backend.dtype:
                raise TypeError(f"the model runs in {self.backend.dtype}, its input is {x.dtype}: use backend.asarray")
        elif not self.takes_whole_numbers:
            raise TypeError(
                f"the model takes {self.backend.dtype}, its input is {x.dtype}: convert it with "
                "x.astype, or let the network begin with nn.Standardize"
            )

    def zero_grad(self) -> None:
        """All gradients to 0: backward passes add to them."""
        self.grad.fill(0)

    def predict(self, x: np.ndarray, batch_size: int = 1000) -> np.ndarray:
        """Outputs (N, *output_shape) on the host for x (N, *input_shape) on the host, without dropout."""
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size}")
        x = np.asarray(x)
        with self.backend.mode(training=False):
            batches = [x[i : i + batch_size] for i in range(0, max(len(x), 1), batch_size)]
            outputs = [self.backend.to_host(self.forward(self.backend.asarray(b))[0]) for b in batches]
        return np.concatenate(outputs)

    def probabilities(self, x: np.ndarray, batch_size: int = 1000) -> np.ndarray:
        """Of each class, for a model that was trained as a classifier: softmax(predict(x)), (N, ..., C).

        A single output, trained with `losses.BinaryCrossEntropy`, gives those of classes 0 and 1.
        """
        outputs = self.predict(x, batch_size)
        if self.output_shape[-1] == 1:
            p = sigmoid(outputs, np)
            return np.concatenate([1 - p, p], axis=-1)
        return softmax(outputs, np)

    def tensors(self) -> dict[str, np.ndarray]:
        """A copy of all values on the host, by name."""
        return {name: np.array(self.backend.to_host(p.data)) for name, p in self.parameters.items()}

    def to(self, backend: Backend) -> Model:
        """The same model, with the same values, on another backend."""
        return Model(self.network.copy(), self.input_shape, backend, self.classes, self.tensors())

    def save(self, path: str | os.PathLike) -> None:
        """One safetensors file that `xpnet.load` opens on any device, without any other code."""
        from xpnet.nn.saving import save

        save(self, path)

    def __repr__(self) -> str:
        shapes = f"{self.input_shape} -> {self.output_shape}"
        return f"<Model {shapes}, {self.n_parameters:,} parameters, on {self.backend.device}>\n{self.network!r}"


def declare(network: Layer, input_shape: Shape) -> tuple[Shape, dict[str, Parameter]]:
    """Build the network on shapes alone; nothing is allocated. Gives its output shape and named parameters."""
    if not all(n > 0 for n in input_shape):
        raise ShapeError(f"every axis of an input must be >= 1, got {input_shape}")
    try:
        output_shape = built(network, input_shape)
    except ShapeError as error:
        raise (error if error.path else ShapeError(error.message, type(network).__name__)) from None
    named: dict[str, Parameter] = {}
    for name, parameter in network.parameters():
        if not any(parameter is known for known in named.values()):  # a layer used twice has one set
            parameter.name, named[name] = name, parameter
    return output_shape, named


def check_tensors(tensors: dict[str, np.ndarray], shapes: dict[str, Shape], dtype: np.dtype) -> None:
    """Raise ValueError unless these are, by name, finite floating point arrays of these shapes, no more and no less."""
    missing, extra = sorted(shapes.keys() - tensors.keys()), sorted(tensors.keys() - shapes.keys())
    if missing or extra:
        raise ValueError(f"tensors are missing ({missing}), or belong to no layer ({extra})")
    for name, shape in shapes.items():
        values = np.asarray(tensors[name])
        if values.shape != shape:
            raise ValueError(f"{name} has shape {values.shape}, the network wants {shape}")
        if values.dtype.kind != "f":
            raise ValueError(f"{name} holds {values.dtype}, not floating point numbers")
        with np.errstate(over="ignore"):
            if not np.isfinite(values.astype(dtype)).all():
                raise ValueError(f"{name} holds values that are not finite in {dtype}")
