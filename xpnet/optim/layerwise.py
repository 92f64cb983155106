"""Optimizers that treat each parameter as a whole: LAMB uses its norm, Muon the singular vectors of a matrix."""

from __future__ import annotations

import math

import numpy as np

from xpnet.arguments import number
from xpnet.backend import Array
from xpnet.nn import Model
from xpnet.optim.adaptive import AdamW
from xpnet.optim.base import Part
from xpnet.optim.groups import Groups

# Coefficients of Jordan et al.: the largest slope at 0 with which five rounds bring singular values to 0.7 .. 1.2. Of X
# divided by its norm that holds for those above 0.003; smaller ones are multiplied by up to 3.4445^5 = 485.
ROUNDS, A, B, C = 5, 3.4445, -4.7750, 2.0315


class LAMB(AdamW):
    """x <- x - lr (|x| / |r|) r for each parameter, with Adam's step and the decay in r = m^ / (sqrt(s^) + eps) + w x.

    So each layer moves by the same fraction of its norm. This is meant for very large batches. |x| / |r| is taken as 1
    if one of the norms is 0, and for parameters that do not decay (biases). You et al., "Large batch optimization for
    deep learning" (2020).
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
            # The largest number of each is divided out first: a square overflows at 1e19, and is 0 at 1e-23. So
            # |x| = x_largest x_norm and |r| = r_largest r_norm. From here on r is already divided by r_largest.
            tiny = float(np.finfo(x.dtype).tiny)
            x_largest, r_largest = (xp.maximum(xp.abs(a).max(), tiny) for a in (x, r))
            x_scaled = x / x_largest
            r /= r_largest
            x_norm, r_norm = xp.sqrt((x_scaled * x_scaled).sum()), xp.sqrt((r * r).sum())
            both = (x_norm > 0) & (r_norm > 0)
            lr = lr * xp.where(both, x_largest * (x_norm / xp.where(both, r_norm, 1.0)), r_largest)
        x -= lr * r


class Muon(AdamW):
    """For matrices x (n, m): v <- mu v + g;  x <- x - lr (0.2 sqrt(max(n, m)) O + w x); AdamW for other parameters.

    O has the singular vectors of g + mu v = U S V^T, and singular values near 1, so that all directions are learnt
    alike: it is near the orthogonal matrix U V^T. It is computed by five rounds of X <- A X + (B P + C P P) X with
    P = X X^T (a Newton-Schulz iteration), which start at X = g + mu v divided by its norm and end at X = O. A round
    replaces each singular value s of X by A s + B s^3 + C s^5 and leaves the singular vectors as they are.
    Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024). They update embeddings and the last
    layer by AdamW, which this class does not; which of the two is better for these depends on the task.

    The factor 0.2 sqrt(max(n, m)) makes the entries of the step as large as those of Adam's steps, so that the same
    rate suits both (Liu et al., "Muon is scalable for LLM training", 2025).

    The state is Adam's, in flat buffers for all parameters. Matrices keep v in "sum"; their places in "squares" stay 0.
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
        return [place for name, place in places if len(parameters[name].shape) != 2]  # v of a matrix does not use b1

    def _orthogonal(self, direction: Array) -> Array:
        """The O of the class docstring, for g + mu v (n, m)."""
        xp, product = self.model.backend.xp, self.model.backend.full_matmul
        tall = direction.shape[0] > direction.shape[1]  # the smaller of X X^T and X^T X
        X = xp.ascontiguousarray(direction.T) if tall else direction
        # The largest number is divided out first, as a square overflows at 1e19. A norm below 1e-7 counts as 1e-7.
        X = X / xp.maximum(xp.abs(X).max(), 1e-7)
        X /= xp.maximum(xp.sqrt((X * X).sum()), 1)
        for _ in range(ROUNDS):
            P = product(X, X.T)
            X = A * X + product(B * P + C * product(P, P), X)
        return X.T if tall else X
