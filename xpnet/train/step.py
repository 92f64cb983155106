"""One step of training: forward, loss, backward, update; the batch may be cut into parts or shared by processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

from xpnet.backend import Array
from xpnet.losses import Loss
from xpnet.losses.base import inverse, pair
from xpnet.nn import Model
from xpnet.nn.shapes import each, in_tuple, n_samples, times
from xpnet.optim import Optimizer, clip_norm
from xpnet.parallel import ALONE, Group
from xpnet.train.checks import check_parts


def train_step(
    model: Model,
    loss: Loss,
    optimizer: Optimizer,
    x: Any,
    target: Any,
    clip: float | None = None,
    accumulate: int = 1,
    group: Group = ALONE,
) -> tuple[Array, Array | None]:
    """Forward, loss, backward, update. Returns (value of the loss, outputs), both still on the device.

    Call it inside `with backend.mode(training=True):`; otherwise dropout and BatchNorm behave as in prediction.

    With float16 products the loss is scaled for the backward pass (`optim.loss_scale`); the returned value is not.

    With `accumulate` k the batch goes through forward and backward in k parts, whose sizes differ by at most one
    sample. Only the activations of one part are in memory at a time, and the gradients are those of the whole batch.
    Statistics that a layer takes from its batch, such as BatchNorm's, are those of a part.

    In a `group` of processes, x and target are this process's part of the batch, and the value and the outputs are
    those of the part; if it has no sample, they are 0 and None. The update is that of the whole batch, the same in all
    processes. Around a loop of steps, `with optimizer.shared_by(group):` lets each process compute only its share of
    the update.

    Raises ValueError inside a `shared_by` block if the group is not given, and for a loss whose batch cannot be cut
    into parts.
    """
    if optimizer.window is not None and group.size == 1:
        raise ValueError("processes share this optimizer's update: train_step needs their group, as shared_by got it")
    check_parts(loss, accumulate, group.size)
    model.zero_grad()
    if accumulate == 1 and group.size == 1:
        value, y, _ = _pass(model, loss, optimizer, x, target)
    else:
        with _state_of_all(model, group):
            value, y, weight = _in_parts(model, loss, optimizer, x, target, accumulate)
        weight = (optimizer.window or group).sum_gradients(model.grad, weight)
        if not is_sum(loss):
            if model.backend.observer is not None:
                model.backend.observer.weighed(weight)
            own = model.grad[optimizer.own]
            own *= inverse(weight, model.backend)
    optimizer.unscale()
    if clip is not None:
        clip_norm(model, clip, optimizer.window)
    optimizer.step()
    return value, y


def _pass(
    model: Model, loss: Loss, optimizer: Optimizer, x: Any, target: Any, weigh: bool = False
) -> tuple[Array, Array, Array | float]:
    """Run one batch forward and backward, adding to the gradients; return (value, y, weight).

    With `weigh`, the value and the gradients of a mean are multiplied by the weight of the batch, which makes them
    sums.
    """
    backend = model.backend
    y, backward = model.forward(x)
    value, dy = pair("a loss gives (value, dy)", loss(y, target, backend))
    dy = tuple(dy) if isinstance(dy, list) else dy
    if not isinstance(y, tuple) and (shape := getattr(dy, "shape", ())) != y.shape:
        raise ValueError(f"the dy of a loss needs the shape of the outputs, {y.shape}, not {shape}")
    if backend.observer is not None:
        backend.observer.loss(value, dy)
    weight: Array | float = 1.0
    if weigh and not is_sum(loss):
        weight = loss_weight(loss, y, target, backend)
        value, dy = value * weight, times(weight, dy)
    backward(optimizer.scaled(dy), need_dx=False)
    return value, y, weight


def _in_parts(
    model: Model, loss: Loss, optimizer: Optimizer, x: Any, target: Any, n_parts: int
) -> tuple[Array | float, Array | None, Array | float]:
    """Run a batch through the model in parts; return (value, outputs, weight).

    The mean over the whole batch is sum_k weight_k mean_k / sum_k weight_k. So each part adds weight_k times its
    gradients, and unless the loss is a sum, the caller still has to divide them by the sum of the weights.
    """
    xp, n = model.backend.xp, n_samples(x)
    if n == 0:
        optimizer.scaled(model.grad[:0])  # the sum over the group is to be unscaled here too
        return 0.0, None, 0.0
    value: Any = 0.0
    weight: Any = 0.0
    outputs: Any = None
    n_parts = min(n_parts, n)
    for i in range(n_parts):
        part = slice(n * i // n_parts, n * (i + 1) // n_parts)
        x_part, target_part = (each(itemgetter(part), arrays) for arrays in (x, target))
        part_value, part_y, part_weight = _pass(model, loss, optimizer, x_part, target_part, weigh=True)
        if outputs is None:
            outputs = part_y if n_parts == 1 else each(lambda a: xp.empty((n, *a.shape[1:]), a.dtype), part_y)
        if n_parts > 1:
            for whole, its_part in zip(in_tuple(outputs), in_tuple(part_y), strict=True):
                whole[part] = its_part
        value, weight = value + part_value, weight + part_weight
    return value if is_sum(loss) else value * inverse(weight, model.backend), outputs, weight


@contextmanager
def _state_of_all(model: Model, group: Group) -> Iterator[None]:
    """Give all processes the same untrained state, such as running statistics, after the block.

    Inside the block the layers of each process change it by their own part of the batch; afterwards each process has
    the mean of these changes.
    """
    state = model.data[model.n_parameters :]
    if group.size == 1 or not state.size:
        yield
        return
    before = state.copy()
    yield
    state -= before
    state[...] = before + group.sum(state) / group.size


def loss_weight(loss: Loss, y: Array, target: Any, backend: Any) -> Array | float:
    """`Loss.weight`, or for a plain function the number of samples."""
    return loss.weight(y, target, backend) if isinstance(loss, Loss) else n_samples(y)


def is_sum(loss: Loss) -> bool:
    """Whether the loss is a sum over the batch rather than a mean."""
    return isinstance(loss, Loss) and loss.reduction == "sum"
