"""`Model`: a network built on a backend, with all parameters in one flat buffer and all gradients in another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import elsewhere
from xpnet.arguments import class_names, of_kind, whole
from xpnet.backend import Array, Backend, BackendError, select
from xpnet.frames import is_frame
from xpnet.nn.declared import check_tensors, declare
from xpnet.nn.ending import as_probabilities
from xpnet.nn.inputs import check_dy, check_on_device, in_shape
from xpnet.nn.layer import Backward, Layer, require_unused
from xpnet.nn.saving import description, write_tensors
from xpnet.nn.shapes import LayerFault, Shape, ShapeError, as_shape, each, is_several, n_samples

if TYPE_CHECKING:
    from xpnet.nn.summary import Summary


class Model:
    """A network, the shape of one input, and the device that holds its values.

    The values of all parameters are views into `data`, their gradients views into `grad`. In both, parameters with
    weight decay come first (`n_decay` numbers), then those without, then (in `data` alone) state that is not
    trained. So an update takes a handful of operations for the whole network, a sum over processes takes one call,
    and memory addresses stay the same from step to step.

    `parameters` maps names ("layers.0.W") to `Parameter`s; `classes` are the names of the outputs, if given.
    In `input_shape`, None stands for an axis of free length. For a network of several inputs it is a tuple of shapes,
    and x, wherever it is mentioned here, is a tuple of arrays.

    Raises `ShapeError`, which names the layer, where layers do not fit each other or the input.
    """

    def __init__(
        self,
        network: Layer,
        input_shape: Sequence[Any],
        backend: Backend,
        classes: Sequence[str] = (),
        tensors: dict[str, np.ndarray] | None = None,
    ):
        """Draw the initial values from `backend.seed` on the host, or take them from `tensors` (by name)."""
        if not isinstance(network, Layer):
            raise TypeError(f"a network is a layer, such as nn.Sequential(nn.Linear(10), nn.ReLU()), not {network!r}")
        if any(p.data is not None for _, p in network.parameters()):
            raise ValueError(
                "this network belongs to a model already: use model.to(backend) to keep its values, or network.copy() "
                "to draw new ones"
            )
        of_kind('a backend is what xpnet.select("cpu") gives', backend, Backend)
        self.network, self.backend = network, backend
        self.input_shape: Shape = as_shape(input_shape)
        self.output_shape, self.parameters = declare(network, self.input_shape)
        self._seen: set[Any] = set()  # kinds of x whose pass has been checked, with the mode
        self.classes = class_names(classes)
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
        self._grad: Array = self.backend.xp.zeros(n_trained, self.backend.dtype)
        self._cleared = False  # whether some gradients may count as 0 although their memory is not 0
        self.places: dict[str, slice] = {}  # where each trained parameter lies in the flat buffers, in order
        self.frozen: frozenset[str] = frozenset()  # names of the parameters that are not updated
        end = 0
        for p in order:
            start, end = end, end + p.size
            self.places |= {p.name: slice(start, end)} if p.trained else {}
            grad = self._grad[start:end].reshape(p.shape) if p.trained else None
            p.bind(self.backend, self.data[start:end].reshape(p.shape), grad)

    @property
    def n_parameters(self) -> int:
        """How many numbers are trained."""
        return self._grad.size

    @property
    def grad(self) -> Array:
        """The gradients of all trained parameters, in one array."""
        if self._cleared:
            for name in self.places:
                self.parameters[name].grad  # noqa: B018 (reading it writes the zeros)
            self._cleared = False
        return self._grad

    @grad.setter
    def grad(self, values: Any) -> None:
        if values is not self._grad:  # `grad *= ...` assigns the same array
            self.grad[...] = values

    # What is trained --------------------------------------------------------------------------------------

    def freeze(self, *patterns: str) -> None:
        """Stop optimizers from updating the parameters whose names match one of these patterns, such as "layers.0.*".

        They are neither updated nor decayed, whatever their gradients are. State that is not trained (running
        statistics) still follows the data. Which parameters are frozen is not saved or copied with the model. Raises
        ValueError for a pattern that matches no parameter, and RuntimeError inside `fit`, because a captured step would
        not notice the change.
        """
        self._set_frozen(self.frozen.union(*map(self.names_like, patterns)))

    def unfreeze(self, *patterns: str) -> None:
        """Undo `freeze` for the parameters that match one of these patterns, "*" for all. Raises as `freeze` does."""
        self._set_frozen(self.frozen.difference(*map(self.names_like, patterns)))

    def names_like(self, pattern: str) -> list[str]:
        """The names of the trained parameters that match a pattern (as in `fnmatch`). ValueError if none does."""
        of_kind('parameters are named by texts, such as "layers.0.*"', pattern, str)
        names = [name for name in self.places if fnmatchcase(name, pattern)]
        if not names:
            raise ValueError(f"no trained parameter matches {pattern!r}: there are {', '.join(self.places) or 'none'}")
        return names

    def _set_frozen(self, names: frozenset[str]) -> None:
        if self.backend.training_lock.locked():
            raise RuntimeError("freeze and unfreeze between two runs of fit, not inside one")
        self.frozen = names

    def clear_frozen_gradients(self) -> None:
        """Set the gradients of frozen parameters to 0, for code that looks at all gradients together.

        Frozen parameters are not updated, so their gradients must not count.
        """
        for name in self.frozen:
            self.parameters[name].grad.fill(0)

    def keep_gradients_in(self, grad: Array) -> None:
        """Keep all gradients in this array from now on. Its size and dtype must be those of the present one."""
        self._grad, self._cleared = grad, False
        for name, place in self.places.items():
            p = self.parameters[name]
            p.bind(self.backend, p.data, grad[place].reshape(p.shape))

    # A pass -----------------------------------------------------------------------------------------------

    def forward(self, x: Any) -> tuple[Array, Backward]:
        """y (N, *output_shape) and `backward(dy, need_dx=True)`, for x (N, *input_shape) on the model's device.

        `backward` is called once, so each dy needs a pass of its own: a second call raises RuntimeError. It raises
        ShapeError for a dy of another shape than y.
        """
        backend, kind = self.backend, (self._kind(x), self.backend.training)
        known = kind in self._seen
        if not known:
            check_on_device(x, self.input_shape, self.network, backend)
        backend.use()
        before, backend.trusting = backend.trusting, known and backend.observer is None
        try:
            result = self.network(x, backend)
        except LayerFault as fault:
            raise fault.inside(self.network) from None
        finally:
            backend.trusting = before
        if not known:
            self._seen.add(kind)
        y, *backwards = result
        shapes = each(lambda a: a.shape, y)

        def backward(dy: Any, need_dx: bool = True) -> Any:
            check_dy(dy, shapes)
            require_unused(backwards, 1)
            return backwards.pop()(dy, need_dx)

        return y, backward

    def _kind(self, x: Any) -> tuple:
        if isinstance(x, tuple):
            return tuple(map(self._kind, x))
        return type(x), getattr(x, "dtype", None), getattr(x, "shape", None)

    def zero_grad(self) -> None:
        """Set all gradients to 0. Backward passes add to them."""
        if self.backend.observer is not None:
            self.backend.observer.step_begins(self)
        self._cleared = True
        for name in self.places:
            self.parameters[name].cleared = True

    # Answers on the host ----------------------------------------------------------------------------------

    def as_input(self, x: Any) -> Any:
        """x (N, ...) in the shape that the model takes: images (28, 28) for a model of (784,), or the reverse.

        Raises `ShapeError` unless the shapes agree or one is the other flattened, and ValueError for arrays on the host
        with values that the network cannot take (`Layer.check_input`).
        """
        return in_shape(x, self.input_shape, self.network)

    def predict(self, x: Any, batch_size: int = 1000) -> Any:
        """Outputs (N, *output_shape) on the host for x (N, *input_shape), in evaluation mode.

        x is an array of any library (see `Backend.asarray`), on the host or on the model's own device. For a network
        that begins with `nn.Columns` it may also be a table of columns: a data frame, an Arrow table, a dict of arrays.
        """
        whole("batch_size", batch_size, least=1)
        if hasattr(x, "feed"):
            raise TypeError("predict takes samples, such as data.x, not a data set")
        x = self.as_input(each(self.backend.as_it_lies, self.network.arrays_of(x) if is_frame(x) else x))
        n, outputs = n_samples(x), []
        with self.backend.mode(training=False):
            for start in range(0, max(n, 1), batch_size):
                part = slice(start, start + batch_size)
                batch = each(itemgetter(part), x)
                outputs.append(each(self.backend.to_host, self.forward(each(self.backend.asarray, batch))[0]))
        if isinstance(outputs[0], tuple):
            return tuple(map(np.concatenate, zip(*outputs, strict=True)))
        return np.concatenate(outputs)

    def probabilities(self, x: Any, batch_size: int = 1000) -> np.ndarray:
        """The probability of each class, for a model trained as a classifier: softmax(predict(x)), (N, ..., C).

        A single output, trained with `losses.BinaryCrossEntropy`, gives the probabilities of classes 0 and 1. The
        outputs of a network that ends in `nn.Softmax` or `nn.Sigmoid` are taken as they are. If a network computes
        probabilities in another way, as a scikit-learn model of two classes in an ONNX file does, use `predict`.

        This method cannot know that a model gives several yes-or-no answers at once (C > 1 and `BinaryCrossEntropy`),
        and gives rows that sum to 1. The probability of each yes is then 1 / (1 + np.exp(-model.predict(x))).

        Raises TypeError for a model of several outputs.
        """
        if is_several(self.output_shape):
            raise TypeError("probabilities need a model of one output: compute them from the outputs of `predict`")
        return as_probabilities(self.network, self.predict(x, batch_size))

    # Copies, files, summary -------------------------------------------------------------------------------

    def tensors(self) -> dict[str, np.ndarray]:
        """A copy of all values on the host, by name."""
        return {name: np.array(self.backend.to_host(p.data)) for name, p in self.parameters.items()}

    def to(self, backend: Backend) -> Model:
        """The same model, with the same values, on another backend."""
        return Model(self.network.copy(), self.input_shape, backend, self.classes, self.tensors())

    def __reduce__(self) -> tuple:
        """Copies and pickles hold arrays on the host, and the name of the device."""
        backend = self.backend
        where = (backend.device, str(backend.dtype), backend.seed, backend.threads, backend.precision)
        return _on_device, (self.network.copy(), self.input_shape, where, self.classes, self.tensors())

    def save(self, path: str | os.PathLike) -> None:
        """Write one safetensors file that `xpnet.load` opens on any device, with no other code but layers of your own.

        The folder must exist. A file that is already at `path` stays until the new one is complete.
        """
        write_tensors(path, self.tensors(), description(self))

    def summary(self, batch_size: int = 64, example: Any = None) -> Summary:
        """Parameters, multiply-adds and memory of a training step, layer by layer: `print(model.summary())`.

        It runs a copy of the model on a few samples of zeros, on the CPU; the model itself is not changed. `example`, a
        batch of at least 3 samples on the host, is used in place of zeros; a model with axes of free length needs one.
        """
        from xpnet.nn.summary import summary

        return summary(self, batch_size, example)

    if not TYPE_CHECKING:
        __getattr__ = elsewhere.names_of_class("Model")

        def __call__(self, *args: Any, **options: Any) -> Any:
            raise TypeError("a model is not called: write model.predict(x), or y, backward = model.forward(x)")

    def __repr__(self) -> str:
        shapes = f"{self.input_shape} -> {self.output_shape}"
        return f"<Model {shapes}, {self.n_parameters:,} parameters, on {self.backend.device}>\n{self.network!r}"

    def _repr_html_(self) -> str | None:
        from xpnet.nn.summary import as_html

        return as_html(self)


def _on_device(network: Layer, input_shape: Shape, where: tuple, classes: Sequence[str], tensors: dict) -> Model:
    """The model that was copied or pickled, on its device or, if that cannot be used, on the CPU."""
    try:
        backend = select(*where)
    except (BackendError, ValueError):
        backend = select("cpu", *where[1:4])  # without the precision, a setting that a CPU does not have
    return Model(network, input_shape, backend, classes, tensors)
