"""Optimizers that adapt the rate of each number to its own gradients: RMSProp, AdaGrad, and Adam with its variants."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from xpnet.arguments import SMALLEST, number
from xpnet.backend import Array
from xpnet.nn import Model
from xpnet.optim.base import Optimizer, two_betas
from xpnet.optim.groups import Groups


class RMSProp(Optimizer):
    """s <- rho s + (1 - rho) g^2;  x <- x - lr g / (sqrt(s) + eps).  Tieleman and Hinton (2012)."""

    state_names = never_negative = ("square",)

    def __init__(
        self,
        model: Model,
        lr: float = 0.001,
        rho: float = 0.9,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        groups: Groups | None = None,
    ):
        self.rho, self.eps = number("rho", rho, least=0, below=1), number("eps", eps, least=SMALLEST)
        super().__init__(model, lr, weight_decay, groups)

    def _update(self, x: Array, g: Array, lr: Array, *state: Array) -> None:
        (s,) = state
        s *= self.rho
        s += (1 - self.rho) * (g * g)
        x -= lr * g / (self.model.backend.xp.sqrt(s) + self.eps)


class AdaGrad(Optimizer):
    """s <- s + g^2;  x <- x - lr g / (sqrt(s) + eps).  Duchi, Hazan and Singer (2011)."""

    state_names = never_negative = ("square",)

    def __init__(
        self,
        model: Model,
        lr: float = 0.01,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
        groups: Groups | None = None,
    ):
        self.eps = number("eps", eps, least=SMALLEST)
        super().__init__(model, lr, weight_decay, groups)

    def _update(self, x: Array, g: Array, lr: Array, *state: Array) -> None:
        (s,) = state
        s += g * g
        x -= lr * g / (self.model.backend.xp.sqrt(s) + self.eps)


class Adam(Optimizer):
    """x <- x - lr m^ / (sqrt(s^) + eps), with weighted means m^ of g and s^ of g^2 over steps 1 .. t.

    The gradient of step i has the weight b1^(t-i) in m^, its square b2^(t-i) in s^.  Kingma and Ba (2015).

    The state holds the sums m <- b1 m + g and s <- b2 s + g^2, which saves two operations for each number (the paper's
    m and v are (1 - b1) m and (1 - b2) s). Then m^ = m / w1 and s^ = s / w2, divided by the sums of the weights,
    w = 1 + b + .. + b^(t-1) = (1 - b^t) / (1 - b). Because s is a sum and not a mean, it overflows in float32 if
    gradients stay above about 6e17 (see `clip_norm`).

    t counts a parameter's own steps, not those during which it was frozen (`Model.freeze`).
    """

    state_names = ("sum", "squares")
    never_negative: tuple[str, ...] = ("squares", "missed")

    def __init__(
        self,
        model: Model,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        groups: Groups | None = None,
    ):
        self._betas = two_betas(betas)
        self.eps = number("eps", eps, least=SMALLEST)
        self._frozen_now: list[int] = []  # indices of the parameters that are frozen
        self._missed_stretches = defaultdict[int, tuple[object, ...]](tuple)  # by index: the stretches it was frozen
        super().__init__(model, lr, weight_decay, groups)
        self.state["missed"] = model.backend.xp.zeros(len(model.places), model.backend.dtype)  # steps while frozen

    @property
    def betas(self) -> tuple[float, float]:
        """b1 and b2; others may be set between two steps.

        The sums m and s are then rescaled, so that Kingma and Ba's means, (1 - b1) m and (1 - b2) s, do not change.
        """
        return self._betas

    @betas.setter
    def betas(self, betas: tuple[float, float]) -> None:
        before, self._betas = self._betas, two_betas(betas)
        for name, old, new in zip(("sum", "squares"), before, self._betas, strict=True):
            for place in self._places_of_sums() if new != old else ():
                self.state[name][place] *= (1 - old) / (1 - new)

    def _places_of_sums(self) -> list[slice]:
        return [slice(0, self.model.n_parameters)]

    @property
    def described(self) -> dict[str, Any]:
        return {**super().described, "betas": self.betas}

    def _prepare(self) -> Sequence[Array]:
        missed = self.state["missed"]
        if self._frozen_now:
            missed += self._is_frozen
        return self.model.backend.fuse(self._corrections)(self.steps, missed)

    def _own_steps(self, steps: Array, missed: Array) -> Array:
        return self.model.backend.xp.maximum(steps - missed, 1)

    def _corrections(self, steps: Array, missed: Array) -> tuple[Array, Array, Array]:
        """Return (size, small, sqrt(w2)), such that m^ / (sqrt(s^) + eps) = size m / (sqrt(s) + small).

        Multiplying numerator and denominator by sqrt(w2) gives size = sqrt(w2) / w1 and small = eps sqrt(w2).
        """
        # 1 - b^t = -expm1(t log b) keeps its digits for b near 1, where 1 - b**t would lose them in float32.
        xp, t = self.model.backend.xp, self._own_steps(steps, missed)
        w1, w2 = (xp.expm1(t * math.log(b)) / (b - 1) if b else 0 * t + 1 for b in self.betas)
        root = xp.sqrt(w2)
        return root / w1, self.eps * root, root

    def _update(self, x: Array, g: Array, lr: Array, *state: Array) -> None:
        m, s, size, small, _ = state
        x -= self._moved(g, m, s, lr * size, small)

    def _moved(self, g: Array, m: Array, s: Array, size: Array, small: Array) -> Array:
        """Update the sums m and s in place; return size m / (sqrt(s) + small)."""
        (b1, b2), xp = self.betas, self.model.backend.xp
        m *= b1
        m += g
        moved = g * g
        s *= b2
        s += moved
        xp.sqrt(s, out=moved)
        moved += small
        xp.divide(m, moved, out=moved)
        moved *= size
        return moved

    # Parameters that are frozen for some of the steps -------------------------------------------------------

    def _plan(self) -> None:
        """Before the plan changes, note which parameters were frozen under the old one. Only parameters that have made
        the same steps have the same t, and so can be updated together (`_alike`)."""
        stretch = object()  # stands for the steps since the last call; only the device knows how many these are
        for index in self._frozen_now:
            self._missed_stretches[index] += (stretch,)
        self._frozen_now = [index for index, name in enumerate(self.model.places) if name in self.model.frozen]
        self._is_frozen.fill(0)
        for index in self._frozen_now:
            self._is_frozen[index : index + 1].fill(1)
        super()._plan()

    @cached_property
    def _is_frozen(self) -> Array:
        """1 for each parameter that is frozen now, 0 for the others.

        It is always the same array, filled on the device, because a captured step goes on reading it.
        """
        return self.model.backend.xp.zeros(len(self.model.places), self.model.backend.dtype)

    def _alike(self, one: int, other: int) -> bool:
        return self._missed_stretches[one] == self._missed_stretches[other]

    def load_tensors(self, tensors: dict[str, np.ndarray]) -> None:
        super().load_tensors(tensors)
        self._missed_stretches.update((index, (float(missed),)) for index, missed in enumerate(tensors["missed"]))
        self._plan()


class AdamW(Adam):
    """Adam with decoupled weight decay: x <- x - lr w x, separate from Adam's update.

    Loshchilov and Hutter, "Decoupled weight decay regularization" (2019).
    """

    decoupled = True

    def __init__(
        self,
        model: Model,
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        groups: Groups | None = None,
    ):
        super().__init__(model, lr, betas, eps, weight_decay, groups)


class NAdam(Adam):
    """Adam with Nesterov's momentum: x <- x - lr (u g + v (1 - b1) m) / (sqrt(s^) + eps), with Adam's m and s^.

    u = (1 - mu_t) / (1 - mu_1 .. mu_t),  v = mu_t+1 / (1 - mu_1 .. mu_t+1),  mu_t = b1 (1 - 0.96^(t d) / 2), where
    mu_1 .. mu_t is a product and d = `momentum_decay`.  Dozat, "Incorporating Nesterov momentum into Adam" (2016).
    """

    never_negative = ("squares", "missed", "product")

    def __init__(
        self,
        model: Model,
        lr: float = 0.002,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        momentum_decay: float = 0.004,
        weight_decay: float = 0.0,
        groups: Groups | None = None,
    ):
        self.momentum_decay = number("momentum_decay", momentum_decay, above=0)
        super().__init__(model, lr, betas, eps, weight_decay, groups)
        self.state["product"] = model.backend.xp.ones(len(model.places), model.backend.dtype)  # mu_1 .. mu_t

    def _prepare(self) -> Sequence[Array]:
        prepared, product, missed = super()._prepare(), self.state["product"], self.state["missed"]
        before = product.copy() if self._frozen_now else None
        parts = self.model.backend.fuse(self._parts_of_step)(self.steps, missed, product)
        if before is not None:  # frozen parameters have made no step
            product[...] = self.model.backend.xp.where(self._is_frozen > 0, before, product)
        return (*prepared, *parts)

    def _parts_of_step(self, steps: Array, missed: Array, product: Array) -> tuple[Array, Array]:
        t = self._own_steps(steps, missed)
        now, later = (self._momentum(t + ahead) for ahead in (0, 1))
        product *= now
        return (1 - now) / (1 - product), later / (1 - product * later) * (1 - self.betas[0])

    def _momentum(self, t: Array) -> Array:
        return self.betas[0] * (1 - 0.5 * self.model.backend.xp.exp(t * (self.momentum_decay * math.log(0.96))))

    def _update(self, x: Array, g: Array, lr: Array, *state: Array) -> None:
        (m, s, _, small, root, of_g, of_m), (b1, b2) = state, self.betas
        m *= b1
        m += g
        s *= b2
        s += g * g
        x -= (lr * root) * (of_g * g + of_m * m) / (self.model.backend.xp.sqrt(s) + small)
