"""Looking at what happens on a backend, without a word about it in any layer, loss or optimizer."""

from __future__ import annotations

from typing import Any


class Observer:
    """What a backend's one observer is told, in the order of a step. The methods here do nothing.

    Set one with `backend.observed_by(observer)`. A captured step runs eagerly while somebody looks.
    """

    def step_begins(self, model: Any) -> None:
        """`model.zero_grad()` was called."""

    def forward_begins(self, layer: Any, x: Any) -> None:
        """The forward of `layer`, outermost layers first, has been given x."""

    def forward(self, layer: Any, x: Any, y: Any) -> None:
        """The forward of `layer`, outermost layers last, has made y of x (arrays, or tuples of arrays)."""

    def loss(self, value: Any, dy: Any) -> None:
        """A loss has given its value and the gradient of the outputs. Only `train_step` tells of it."""

    def backward_begins(self, layer: Any, dy: Any) -> None:
        """The backward of `layer`, outermost layers first, has been given dy."""

    def backward(self, layer: Any, dy: Any, dx: Any) -> None:
        """The backward of `layer` has made dx of dy, and added to its gradients. dx is None where nobody needs it."""

    def weighed(self, weight: Any) -> None:
        """All gradients of this step, those that were shown too, are still to be divided by this, a number or an array:
        the batch went through in parts. Only `train_step` tells of it."""

    def step_ends(self, optimizer: Any) -> None:
        """`optimizer.step()` has updated the parameters."""

    def transfer(self, what: str) -> None:
        """Something is about to travel between the host and the device: "_upload", "to_host" or "synchronize"."""
