"""`Observer`: is told what happens on a backend, and no single layer, loss or optimizer needs code for it."""

from __future__ import annotations

from typing import Any


class Observer:
    """The calls that the observer of a backend gets, in the order of a step. The methods here do nothing.

    Set the observer with `backend.observed_by(observer)`. While there is one, a captured step runs eagerly.
    """

    def step_begins(self, model: Any) -> None:
        """`model.zero_grad()` was called."""

    def forward_begins(self, layer: Any, x: Any) -> None:
        """The forward of `layer` begins with input x; outer layers are reported before the layers inside them."""

    def forward(self, layer: Any, x: Any, y: Any) -> None:
        """The forward of `layer` has computed y from x (arrays, or tuples of arrays); outer layers come last."""

    def loss(self, value: Any, dy: Any) -> None:
        """A loss has computed its value and the gradient of the outputs. Only `train_step` reports this."""

    def backward_begins(self, layer: Any, dy: Any) -> None:
        """The backward of `layer` begins with dy; outer layers are reported before the layers inside them."""

    def backward(self, layer: Any, dy: Any, dx: Any) -> None:
        """The backward of `layer` has computed dx from dy (None if not needed) and added to its gradients."""

    def weighed(self, weight: Any) -> None:
        """The batch went through in parts: all gradients of this step, including those already reported, are still to
        be divided by `weight`, a number or an array. Only `train_step` reports this."""

    def step_ends(self, optimizer: Any) -> None:
        """`optimizer.step()` has updated the parameters."""

    def transfer(self, what: str) -> None:
        """A transfer between host and device, or a wait, is about to begin: "_upload", "to_host" or "synchronize"."""
