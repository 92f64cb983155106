"""`Optimizer`, the base class of all optimizers, and groups of parameters with factors of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import elsewhere
from xpnet.arguments import number, of_kind, plain
from xpnet.backend import Array
from xpnet.nn import Model
from xpnet.optim.groups import Factors, Groups, as_factors
from xpnet.optim.loss_scale import LossScale
from xpnet.parallel import Group
from xpnet.parallel.group import is_in_all
from xpnet.parallel.window import Window

ENOUGH = 4  # pieces for each thread; with fewer, a second thread gains nothing

Decays = tuple[tuple[int, int, float], ...]  # (start, stop, weight decay) of each range that decays


@dataclass(frozen=True)
class Part:
    """Adjacent parameters in the flat buffers that are updated at the same rate."""

    start: int
    stop: int
    lr: float  # factor of the optimizer's rate
    decays: Decays  # of the parameters in it
    shape: tuple[int, ...]  # of the first parameter in it
    index: int  # of the first parameter, in `Model.places`


class Optimizer:
    """The base class: the rate on the device, weight decay, groups, named state in flat buffers.

    `weight_decay` w adds w/2 |x|^2 to the loss, that is w x to the gradient, for weights but not for biases. If the
    class is `decoupled`, the decay is x <- x - lr w x instead, separate from the update.

    `groups` gives factors for parameters by name: with {"layers.0.*": {"lr": 0.1, "weight_decay": 2}}, those whose
    names match have a tenth of the rate and twice the decay. The first pattern that matches a name counts. Frozen
    parameters (`Model.freeze`) and their state are not touched at all.

    Raises ValueError for a setting out of range. A subclass lists its buffers in `state_names` and defines `_update`.
    """

    state_names: tuple[str, ...] = ()
    never_negative: tuple[str, ...] = ()  # state of which no value is negative, such as sums of squares
    decoupled = False
    by_parameter = False  # whether `_update` needs one whole parameter at a time, for its norm
    if not TYPE_CHECKING:
        __getattr__ = elsewhere.names_of_class("Optimizer")

    def __init__(self, model: Model, lr: float, weight_decay: float = 0.0, groups: Groups | None = None):
        of_kind("an optimizer takes the model, such as optim.Adam(model)", model, Model)
        self.model, self.weight_decay = model, weight_decay
        self.groups = {} if groups is None else groups
        backend = model.backend
        self._rate = backend.xp.zeros(1, backend.dtype)
        self.lr = lr
        # float32 counts exactly to 2^24 and then stops; by then every 1 - beta^t is 1.
        self.steps = backend.xp.zeros(1, backend.dtype)
        self.state = {name: backend.xp.zeros(model.n_parameters, backend.dtype) for name in self.state_names}
        self.loss_scale = LossScale(model) if backend.precision == "float16" else None
        if self.loss_scale is not None:
            self.state["loss_scale"] = self.loss_scale.state
        self.window: Window | None = None  # set while several processes share the update
        self._prepared: Sequence[Array] = ()  # what `_prepare` returned in this step
        self._plan()

    @property
    def described(self) -> dict[str, Any]:
        """The class name and the settings other than the rate, as JSON-able values."""
        kinds = (bool, int, float, str, tuple, np.generic)
        own = {k: plain(v) for k, v in vars(self).items() if isinstance(v, kinds) and not k.startswith("_")}
        return {"kind": type(self).__name__, **own, "weight_decay": self.weight_decay, "groups": self.groups}

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        rate = number("the learning rate", lr, least=0)
        if rate > float(np.finfo(self._rate.dtype).max):
            raise ValueError(f"the learning rate must be finite in {self._rate.dtype}, not {lr!r}")
        self._lr: float = rate
        self._rate.fill(self._lr)

    @property
    def weight_decay(self) -> float:
        """The weight decay; another may be set between two steps."""
        return self._weight_decay

    @weight_decay.setter
    def weight_decay(self, weight_decay: float) -> None:
        self._weight_decay = number("weight_decay", weight_decay, least=0)

    @property
    def groups(self) -> Factors:
        """(pattern, factor of the rate, factor of the decay) of each group; others may be set between two steps."""
        return self._groups

    @groups.setter
    def groups(self, groups: Groups | Factors) -> None:
        self._groups = as_factors(self.model, groups)

    def scaled(self, dy: Array) -> Array:
        """The gradient of the loss as the backward pass needs it: times the loss scale if products are float16."""
        return dy if self.loss_scale is None else self.loss_scale.scaled(dy)

    def unscale(self) -> None:
        """Divide the gradients by the loss scale, after a backward pass that began with `scaled`. `step` does this too
        if it is still to be done; call it only to use the gradients before that, for example for `clip_norm`."""
        if self.loss_scale is not None:
            self.loss_scale.unscale()

    def step(self) -> None:
        """Update all parameters by the method's formula. Afterwards `model.grad` no longer holds the gradient.

        If a scaled gradient is not finite, parameters and state stay as they are (`LossScale`).
        """
        if self.loss_scale is None:
            self._step_all()
        else:
            state = (array for name, array in self.state.items() if name != "loss_scale")
            with self.loss_scale.undone([self.model.data[: self.model.n_parameters], self.steps, *state]):
                self._step_all()
        if self.window is not None:
            self.window.exchange(self.model.data[: self.model.n_parameters])
        if self.model.backend.observer is not None:
            self.model.backend.observer.step_ends(self)

    def _step_all(self) -> None:
        model = self.model
        if self._planned_for != (model.frozen, self.weight_decay, self.groups):
            self._plan()
        self.steps += 1
        self._prepared = self._prepare()
        pieces, team = self._pieces, model.backend.team
        if team is None or self.by_parameter or len(pieces) < ENOUGH * len(team.backends):
            self._step_on(pieces)
        else:
            threads = len(team.backends)
            model.grad  # noqa: B018 (reading it writes zeros where no gradient came: once, before the threads read it)
            team.run([partial(self._step_on, pieces[i::threads]) for i in range(threads)])

    def _step_on(self, pieces: Sequence[tuple[Part, slice]]) -> None:
        for part, at in pieces:
            self._step(part, at, self._rate if part.lr == 1 else self._rate * part.lr)

    def _step(self, part: Part, at: slice, lr: Array) -> None:
        """Update the slice `at` of the flat buffers: the whole part, or a piece of it."""
        x, g, fuse = self.model.data[at], self.model.grad[at], self.model.backend.fuse
        for start, stop, decay in part.decays:
            inside = slice(max(start - at.start, 0), min(stop, at.stop) - at.start)
            if inside.start < inside.stop:
                fuse(self._decay)(x[inside], g[inside], lr, decay)
        update = self._update if self.by_parameter else fuse(self._update)
        update(x, g, lr, *(self.state[name][at] for name in self.state_names), *self._prepared_for(part))

    def _prepare(self) -> Sequence[Array]:
        """Compute what is needed once per step: arrays with an entry for each trained parameter, in the order of
        `Model.places`. `_update` gets the entries of its parameter, after the state."""
        return ()

    def _prepared_for(self, part: Part) -> Iterator[Array]:
        return (array[part.index : part.index + 1] for array in self._prepared)

    def _decay(self, x: Array, g: Array, lr: Array, decay: float) -> None:
        if self.decoupled:
            x *= 1 - lr * decay
        else:
            g += decay * x

    def _update(self, x: Array, g: Array, lr: Array, *state: Array) -> None:
        """Change x and the state in place; g may be overwritten. `lr` and the entries from `_prepare` have shape (1,).

        Unless the class is `by_parameter`, x, g and the state are pieces of the flat buffers. Several threads may
        update different pieces at the same time, and a GPU updates a piece in one kernel (`backend.fuse`). So no number
        may depend on another, `backend.scratch` must not be used, and only x, g and the state may be changed.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no _update")

    def _plan(self) -> None:
        """Work out which parts of the flat buffers a step updates, and the pieces (if `by_parameter`, whole ones)."""
        self._planned_for = self.model.frozen, self.weight_decay, self.groups
        self._parts = self._make_parts()
        self._pieces = [
            (part, slice(part.start + piece.start, part.start + piece.stop))
            for part in self._parts
            for size in [part.stop - part.start]
            for piece in ([slice(0, size)] if self.by_parameter else self.model.backend.chunks(size))
        ]

    def _make_parts(self) -> list[Part]:
        """The parameters that are not frozen, as far as they lie in `own`, in as few parts as the groups allow."""
        parts: list[Part] = []
        own = self.own
        for index, (name, whole) in enumerate(self.model.places.items()):
            place = slice(max(whole.start, own.start), min(whole.stop, own.stop))
            if name in self.model.frozen or place.start >= place.stop:
                continue
            lr, factor = next(((lr, w) for pattern, lr, w in self.groups if fnmatchcase(name, pattern)), (1.0, 1.0))
            decay = self.weight_decay * factor if self.model.parameters[name].decay else 0.0
            decays = ((place.start, place.stop, decay),) if decay else ()
            part = Part(place.start, place.stop, lr, decays, self.model.parameters[name].shape, index)
            last = parts[-1] if parts and not self.by_parameter else None
            if last and (last.stop, last.lr) == (part.start, part.lr) and self._alike(last.index, index):
                parts[-1] = replace(last, stop=part.stop, decays=_joined(last.decays, part.decays))
            else:
                parts.append(part)
        return parts

    def _alike(self, one: int, other: int) -> bool:
        """Whether `_prepare` gives the same for these two parameters in every step."""
        return True

    # In a group of processes --------------------------------------------------------------------------------

    @property
    def own(self) -> slice:
        """The range of the flat buffers that this process updates: everything, except inside `shared_by`."""
        return slice(0, self.model.n_parameters) if self.window is None else self.window.own

    @contextmanager
    def shared_by(self, group: Group) -> Iterator[None]:
        """Inside the block the processes of `group` share the update, if they have shared memory: each updates its
        `own` parameters, keeps the state of those alone, and copies the other values from the other processes.

        All of them enter the block, make the same steps (`train_step`) and leave it. Then all have the whole state.
        """
        window = group.window(self.model.grad)
        if window is None:
            yield
            return
        starts = [place.start for place in self.model.places.values()]
        window.divide([*starts, self.model.n_parameters] if self.by_parameter else ())
        self.model.keep_gradients_in(window.grad)
        try:
            self._share(window)
            yield
            self.gather_state()
        except BaseException as error:
            if is_in_all(error):
                self.gather_state()
            raise
        finally:
            self._share(None)

    def _share(self, window: Window | None) -> None:
        self.window = window
        self._plan()

    def gather_state(self) -> None:
        """Bring the whole state up to date in all processes that share the update. All of them must call it."""
        if self.window is not None:
            for name in self.state_names:
                self.window.meet()
                self.window.exchange(self.state[name])

    # For checkpoints ----------------------------------------------------------------------------------------

    def tensors(self) -> dict[str, np.ndarray]:
        """The state on the host, by name, for a checkpoint."""
        to_host = self.model.backend.to_host
        return {name: np.array(to_host(a)) for name, a in {"steps": self.steps, **self.state}.items()}

    def load_tensors(self, tensors: dict[str, np.ndarray]) -> None:
        """Restore what `tensors()` returned. Raises ValueError if names or shapes are not those of this optimizer."""
        mine = {"steps": self.steps, **self.state}
        given = {k: v.shape for k, v in tensors.items()}
        if given != {k: v.shape for k, v in mine.items()}:
            raise ValueError(f"this is not the state of {type(self).__name__} on this model: it has {given}")
        for name, array in mine.items():
            array[...] = self.model.backend.asarray(tensors[name])


def _joined(first: Decays, second: Decays) -> Decays:
    """The ranges of both; two that are adjacent and have the same decay become one."""
    if first and second and first[-1][1:] == (second[0][0], second[0][2]):
        return (*first[:-1], (first[-1][0], *second[0][1:]), *second[1:])
    return first + second


def two_betas(betas: Any) -> tuple[float, float]:
    """The decay factors of two running sums or means. Raises ValueError unless they are two numbers in [0, 1)."""
    try:
        one, other = betas
    except (TypeError, ValueError):
        raise ValueError(f"betas must be two numbers, such as (0.9, 0.999), not {betas!r}") from None
    return number("betas[0]", one, least=0, below=1), number("betas[1]", other, least=0, below=1)
