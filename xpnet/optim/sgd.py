"""Steps along the gradient (SGD) or along its signs (Lion), with momentum."""

from __future__ import annotations

from typing import Any

from xpnet.arguments import number, switch
from xpnet.backend import Array
from xpnet.nn import Model
from xpnet.optim.base import Optimizer, two_betas
from xpnet.optim.groups import Groups


class SGD(Optimizer):
    """v <- momentum v + g;  x <- x - lr v, or with Nesterov's momentum x <- x - lr (g + momentum v).

    Without momentum x <- x - lr g.  Polyak (1964); Sutskever, Martens, Dahl and Hinton (2013). As in PyTorch, v does
    not include the rate. The papers' velocity is -lr v; as long as the rate is constant, the steps are the same.
    """

    def __init__(
        self,
        model: Model,
        lr: float,
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        groups: Groups | None = None,
    ):
        self.nesterov = switch("nesterov", nesterov)
        if nesterov and not momentum:
            raise ValueError("nesterov needs a momentum above 0")
        self.state_names = ()
        super().__init__(model, lr, weight_decay, groups)
        self._velocity: Array | None = None
        self.momentum = momentum

    @property
    def momentum(self) -> float:
        """Another may be set between two steps. A momentum of 0 forgets v, which then starts at 0 with the next one."""
        return self._momentum

    @momentum.setter
    def momentum(self, momentum: float) -> None:
        self._momentum = number("momentum", momentum, least=0, below=1)
        if not self._momentum:  # as if made without one: a run with these settings can continue from the checkpoint
            self.state_names = ()
            self.state.pop("velocity", None)
        elif "velocity" not in self.state:
            if self._velocity is None:
                backend = self.model.backend
                self._velocity = backend.xp.empty(self.model.n_parameters, backend.dtype)
            self._velocity[...] = 0  # the same array for good: captured steps write to it
            self.state_names, self.state["velocity"] = ("velocity",), self._velocity

    @property
    def described(self) -> dict[str, Any]:
        return {**super().described, "momentum": self.momentum}

    def _update(self, x: Array, g: Array, lr: Array, *state: Array) -> None:
        for v in state:  # there is none without momentum
            v *= self.momentum
            v += g
            g = g + self.momentum * v if self.nesterov else v
        x -= lr * g


class Lion(Optimizer):
    """x <- x - lr (sign(b1 m + (1 - b1) g) + w x);  m <- b2 m + (1 - b2) g, with decoupled weight decay w.

    Each number moves by the rate, whatever the size of its gradient. So suitable rates are three to ten times lower
    than Adam's, and decays higher by the same factor. Chen et al., "Symbolic discovery of optimization algorithms"
    (2023).
    """

    state_names = ("mean",)
    decoupled = True

    def __init__(
        self,
        model: Model,
        lr: float = 0.0001,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        groups: Groups | None = None,
    ):
        self.betas = betas
        super().__init__(model, lr, weight_decay, groups)

    @property
    def betas(self) -> tuple[float, float]:
        """b1 and b2; others may be set between two steps."""
        return self._betas

    @betas.setter
    def betas(self, betas: tuple[float, float]) -> None:
        self._betas = two_betas(betas)

    @property
    def described(self) -> dict[str, Any]:
        return {**super().described, "betas": self.betas}

    def _update(self, x: Array, g: Array, lr: Array, *state: Array) -> None:
        (m,), (b1, b2) = state, self.betas
        x -= lr * self.model.backend.xp.sign(b1 * m + (1 - b1) * g)
        m *= b2
        m += (1 - b2) * g
