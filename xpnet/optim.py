"""Optimizers: each updates a model's flat buffer in place, the whole network in a handful of operations.

Whatever changes from step to step (rate, step count) is an array on the device, so that a step can be captured
and replayed. `lr` is set and read as a plain number.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xpnet.backend import Array
from xpnet.nn.model import Model


class Optimizer:
    """What all have in common: the rate on the device, weight decay, named state in flat buffers.

    `weight_decay` w adds w/2 |x|^2 to the loss, that is w x to the gradient, for weights and not for biases.
    A subclass lists its buffers in `state_names` and defines `_update`.
    """

    state_names: tuple[str, ...] = ()
    never_negative: tuple[str, ...] = ()  # those of them that hold sums of squares

    def __init__(self, model: Model, lr: float, weight_decay: float = 0.0):
        if not (math.isfinite(weight_decay) and weight_decay >= 0):
            raise ValueError(f"weight_decay must be >= 0, not {weight_decay!r}")
        self.model, self.weight_decay = model, float(weight_decay)
        backend = model.backend
        self._rate = backend.xp.zeros(1, backend.dtype)
        self.lr = lr
        # float32 counts exactly to 2^24 and then stands still: by then every 1 - beta^t is 1.
        self.steps = backend.xp.zeros(1, backend.dtype)
        self.state = {name: backend.xp.zeros(model.n_parameters, backend.dtype) for name in self.state_names}

    @property
    def lr(self) -> float:
        """The learning rate of the next step."""
        return self._lr

    @lr.setter
    def lr(self, lr: float) -> None:
        if not 0 <= lr <= float(np.finfo(self._rate.dtype).max):
            raise ValueError(f"the learning rate must be a finite number >= 0 in {self._rate.dtype}, not {lr!r}")
        self._lr = float(lr)
        self._rate.fill(self._lr)

    def step(self) -> None:
        """Update all parameters by the method's formula. Afterwards `grad` holds no gradient."""
        model = self.model
        self.steps += 1
        self._begin()
        for part in model.backend.chunks(model.n_parameters):
            x, g = model.data[part], model.grad[part]
            decayed = min(part.stop, model.n_decay) - part.start
            self._decay(x[: max(decayed, 0)], g[: max(decayed, 0)])
            self._update(x, g, *(self.state[name][part] for name in self.state_names))
        if model.backend.observer is not None:
            model.backend.observer.step_ends(self)

    def _begin(self) -> None:
        """What is computed once a step, for all chunks."""

    def _decay(self, x: Array, g: Array) -> None:
        if self.weight_decay:
            g += self.weight_decay * x

    def _update(self, x: Array, g: Array, *state: Array) -> None:
        raise NotImplementedError(f"{type(self).__name__} defines no _update")

    def tensors(self) -> dict[str, np.ndarray]:
        """Its state on the host, by name, for a checkpoint."""
        to_host = self.model.backend.to_host
        return {name: np.array(to_host(a)) for name, a in {"steps": self.steps, **self.state}.items()}

    def load_tensors(self, tensors: dict[str, np.ndarray]) -> None:
        """Take back what `tensors()` gave. Raises ValueError if it is another optimizer's, or another model's."""
        mine = {"steps": self.steps, **self.state}
        if {k: v.shape for k, v in tensors.items()} != {k: v.shape for k, v in mine.items()}:
            raise ValueError(
                f"this is not the state of {type(self).__name__} on this model: it has "
                f"{ {k: v.shape for k, v in tensors.items()} }"
            )
        for name, array in mine.items():
            array[...] = self.model.backend.asarray(tensors[name])


class SGD(Optimizer):
    """v <- momentum v + g;  x <- x - lr v, or with Nesterov's momentum x <- x - lr (g + momentum v).

    Without momentum x <- x - lr g.  Polyak (1964); Sutskever, Martens, Dahl and Hinton (2013).
    """

    def __init__(
        self, model: Model, lr: float, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ):
        self.momentum, self.nesterov = _fraction("momentum", momentum), nesterov
        if nesterov and not momentum:
            raise ValueError("nesterov needs a momentum above 0")
        self.state_names = ("velocity",) if momentum else ()
        super().__init__(model, lr, weight_decay)

    def _update(self, x: Array, g: Array, *state: Array) -> None:
        for v in state:  # none without momentum
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        x -= self._rate * g


class RMSProp(Optimizer):
    """s <- rho s + (1 - rho) g^2;  x <- x - lr g / (sqrt(s) + eps).  Tieleman and Hinton (2012)."""

    state_names = never_negative = ("square",)

    def __init__(self, model: Model, lr: float = 0.001, rho: float = 0.9, eps: float = 1e-8, weight_decay: float = 0.0):
        self.rho, self.eps = _fraction("rho", rho), _positive("eps", eps)
        super().__init__(model, lr, weight_decay)

    def _update(self, x: Array, g: Array, *state: Array) -> None:
        (s,) = state
        s *= self.rho
        s += (1 - self.rho) * (g * g)
        x -= self._rate * g / (self.model.backend.xp.sqrt(s) + self.eps)


class AdaGrad(Optimizer):
    """s <- s + g^2;  x <- x - lr g / (sqrt(s) + eps).  Duchi, Hazan and Singer (2011)."""

    state_names = never_negative = ("square",)

    def __init__(self, model: Model, lr: float = 0.01, eps: float = 1e-10, weight_decay: float = 0.0):
        self.eps = _positive("eps", eps)
        super().__init__(model, lr, weight_decay)

    def _update(self, x: Array, g: Array, *state: Array) -> None:
        (s,) = state
        s += g * g
        x -= self._rate * g / (self.model.backend.xp.sqrt(s) + self.eps)


class Adam(Optimizer):
    """m <- b1 m + (1 - b1) g;  s <- b2 s + (1 - b2) g^2;  x <- x - lr m^ / (sqrt(s^) + eps),
    with m^ = m / (1 - b1^t), s^ = s / (1 - b2^t) at step t.  Kingma and Ba (2015).
    """

    state_names, never_negative = ("mean", "square"), ("square",)

    def __init__(
        self,
        model: Model,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ):
        self.betas = (_fraction("betas[0]", betas[0]), _fraction("betas[1]", betas[1]))
        self.eps = _positive("eps", eps)
        super().__init__(model, lr, weight_decay)

    def _begin(self) -> None:
        # 1 - b^t = -expm1(t log b) keeps its digits for b near 1, where 1 - b**t would lose them in float32.
        expm1 = self.model.backend.xp.expm1
        correction1, correction2 = (-expm1(self.steps * math.log(b)) if b else 1.0 for b in self.betas)
        # x -= lr m^ / (sqrt(s^) + eps) = size m / (sqrt(s) + small), multiplied through by sqrt(1 - b2^t)
        root = correction2**0.5
        self._size, self._small = self._rate * root / correction1, self.eps * root

    def _update(self, x: Array, g: Array, *state: Array) -> None:
        (m, s), (b1, b2) = state, self.betas
        m *= b1
        m += (1 - b1) * g
        s *= b2
        s += (1 - b2) * (g * g)
        x -= self._size * m / (self.model.backend.xp.sqrt(s) + self._small)


class AdamW(Adam):
    """Adam with the decay taken from the weights themselves: x <- x - lr w x, apart from Adam's update.

    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
    """

    def __init__(
        self,
        model: Model,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
    ):
        super().__init__(model, lr, betas, eps, weight_decay)

    def _decay(self, x: Array, g: Array) -> None:
        if self.weight_decay:
            x -= self._rate * self.weight_decay * x


def clip_norm(model: Model, limit: float) -> None:
    """Scale all gradients by the same factor, so that their norm together is at most `limit`.

    Between the backward pass and the update. Pascanu, Mikolov and Bengio (2013).
    """
    _positive("limit", limit)
    if model.n_parameters:
        xp = model.backend.xp
        largest = xp.maximum(xp.abs(model.grad).max(), limit)  # divided out first: a square overflows at 1e19
        scaled = model.grad / largest
        model.grad *= limit / largest / xp.maximum(xp.sqrt((scaled * scaled).sum()), limit / largest)


def _fraction(name: str, value: Any) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be in [0, 1), not {value!r}")
    return float(value)


def _positive(name: str, value: Any) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a finite number above 0, not {value!r}")
    return float(value)
