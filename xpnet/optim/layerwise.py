"""Updates that look at each parameter as a whole: at its norm, or at the directions of a matrix."""

from __future__ import annotations

import math

import numpy as np

from xpnet.arguments import number
from xpnet.backend import Array
from xpnet.nn import Model
from xpnet.optim.adaptive import AdamW
from xpnet.optim.base import Groups, Part

# Coefficients of Jordan et al.: the largest slope at 0 for which five rounds bring singular values to 0.7 .. 1.2.
ROUNDS, A, B, C = 5, 3.4445, -4.7750, 2.0315


class LAMB(AdamW):
    """x <- x - lr (|x| / |r|) r with Adam's step and the decay, r = m^ / (sqrt(s^) + eps) + w x, of each parameter.

    So each layer moves by the same fraction of its size: for very large batches. The ratio is 1 where one of the norms
    is 0, and for what does not decay (biases). You et al., "Large batch optimization for deep learning" (2020).
    """

    by_parameter = True

    def __init__(
        self,
        model: Model,
        lr: float = 0.003,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.01,
        groups: Groups | None = None,
    ):
        super().__init__(model, lr, betas, eps, weight_decay, groups)

    def _step(self, part: Part, at: slice, lr: Array) -> None:
        x, xp = self.model.data[at], self.model.backend.xp
        m, s = (self.state[name][at] for name in self.state_names)
        size_of_step, small, _ = self._prepared_for(part)
        r = self.model.backend.fuse(self._moved)(self.model.grad[at], m, s, size_of_step, small)
        for _, _, decay in part.decays:
            r += decay * x
        if at.start < self.model.n_decay:
            # The largest of each is divided out first: a square overflows at 1e19, and is 0 at 1e-23. So |x| is
            # x_largest x_norm, and |r| is r_largest r_norm, of which r itself is divided by the first.
            tiny = float(np.finfo(x.dtype).tiny)
            x_largest, r_largest = (xp.maximum(xp.abs(a).max(), tiny) for a in (x, r))
            x_scaled = x / x_largest
            r /= r_largest
            x_norm, r_norm = xp.sqrt((x_scaled * x_scaled).sum()), xp.sqrt((r * r).sum())
            both = (x_norm > 0) & (r_norm > 0)
            lr = lr * xp.where(both, x_largest * (x_norm / xp.where(both, r_norm, 1.0)), r_largest)
        x -= lr * r


class Muon(AdamW):
    """For matrices x (n, m): v <- mu v + g;  x <- x - lr (0.2 sqrt(max(n, m)) O + w x), O being near the orthogonal
    matrix of the same directions as g + mu v. Other parameters move by AdamW, at the same rate, which the factor makes
    fit: the entries of O become as large as Adam's steps (Liu et al., "Muon is scalable for LLM training", 2025).

    O has the singular vectors of g + mu v = U S V^T, and singular values near 1, so that all directions are learnt
    alike: O = X after five rounds of X <- A X + (B P + C P P) X with P = X X^T (a Newton-Schulz iteration), begun with
    X = g + mu v over its norm. As X = U s V^T gives (A s + B s^3 + C s^5) in place of s, only the singular values move.
    Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). They leave embeddings and the last
    layer to AdamW; for these, what pays depends on the task.

    The state is Adam's, in flat buffers of all parameters: "squares" has places for matrices too, which stay 0.
    """

    by_parameter = True

    def __init__(
        self,
        model: Model,
        lr: float = 0.001,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        groups: Groups | None = None,
    ):
        self.momentum = number("momentum", momentum, least=0, below=1)
        super().__init__(model, lr, betas, eps, weight_decay, groups)

    def _step(self, part: Part, at: slice, lr: Array) -> None:
        if len(part.shape) != 2:
            super()._step(part, at, lr)
            return
        x, g, v = (a[at].reshape(part.shape) for a in (self.model.data, self.model.grad, self.state["sum"]))
        v *= self.momentum
        v += g
        for _, _, decay in part.decays:
            x -= lr * decay * x
        x -= (lr * (0.2 * math.sqrt(max(part.shape)))) * self._orthogonal(g + self.momentum * v)

    def _places_of_sums(self) -> list[slice]:
        places, parameters = self.model.places.items(), self.model.parameters
        return [place for name, place in places if len(parameters[name].shape) != 2]  # a matrix has v there, without b1

    def _orthogonal(self, direction: Array) -> Array:
        xp, product = self.model.backend.xp, self.model.backend.full_matmul
        tall = direction.shape[0] > direction.shape[1]  # the smaller of X X^T and X^T X
        X = xp.ascontiguousarray(direction.T) if tall else direction
        X = X / xp.maximum(xp.sqrt((X * X).sum()), 1e-7)
        for _ in range(ROUNDS):
            P = product(X, X.T)
            X = A * X + product(B * P + C * product(P, P), X)
        return X.T if tall else X
