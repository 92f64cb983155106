"""One step of training: forward, loss, backward, update, in parts and in a group of processes where asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from operator import itemgetter
from typing import Any

from xpnet.backend import Array
from xpnet.losses import Loss
from xpnet.losses.base import inverse, pair
from xpnet.nn import Model
from xpnet.nn.shapes import each, in_tuple, n_samples
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
    """Forward, loss, backward, update. Gives (value of the loss, outputs), both still on the device.

    Call it inside `with backend.mode(training=True):`, or dropout and BatchNorm behave as in prediction.

    Where products are float16 the loss is scaled on the way (`optim.loss_scale`); its value is not.

    With `accumulate` k the batch goes through forward and backward in k parts, equally many samples to one or one more,
    with memory for the activations of a part, and the gradients are those of the whole batch. Statistics that a layer
    takes of its batch are those of a part.

    In a `group` of processes, x and target are this one's part of the batch, and value and outputs are those of the
    part; where it has no sample, they are 0 and None. The update is that of the whole batch, in all processes the same.
    Around a loop of steps, `with optimizer.shared_by(group):` lets each process make a part of it.

    Raises ValueError inside such a block without its group, and for a loss whose batch cannot be cut into these parts.
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
    """(value, y, weight), the gradients being added; with `weigh` both the value and the gradients before they are a
    mean, that is times the weight."""
    backend = model.backend
    y, backward = model.forward(x)
    value, dy = pair("a loss gives (value, dy)", loss(y, target, backend))
    if not isinstance(y, tuple) and (shape := getattr(dy, "shape", ())) != y.shape:
        raise ValueError(f"the dy of a loss needs the shape of the outputs, {y.shape}, not {shape}")
    if backend.observer is not None:
        backend.observer.loss(value, dy)
    weight: Array | float = 1.0
    if weigh and not is_sum(loss):
        weight = loss_weight(loss, y, target, backend)
        value, dy = value * weight, each(lambda d: d * weight, dy)
    backward(optimizer.scaled(dy), need_dx=False)
    return value, y, weight


def _in_parts(
    model: Model, loss: Loss, optimizer: Optimizer, x: Any, target: Any, n_parts: int
) -> tuple[Array | float, Array | None, Array | float]:
    """(value, outputs, weight) of a batch that goes through the model in parts. As the mean of the whole is
    sum_k weight_k mean_k / sum_k weight_k, each part adds weight_k times its gradients: they are still to be divided by
    the sum of the weights, unless the loss is a sum."""
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
    """Inside the block layers change state that is not trained, such as running statistics, each process by its own
    part of the batch; after it all processes have the mean of the changes."""
    state = model.data[model.n_parameters :]
    if group.size == 1 or not state.size:
        yield
        return
    before = state.copy()
    yield
    state -= before
    state[...] = before + group.sum(state) / group.size


def loss_weight(loss: Loss, y: Array, target: Any, backend: Any) -> Array | float:
    """`Loss.weight`, or of a plain function the number of samples."""
    return loss.weight(y, target, backend) if isinstance(loss, Loss) else n_samples(y)


def is_sum(loss: Loss) -> bool:
    """Whether the loss is a sum over the batch, and no mean."""
    return isinstance(loss, Loss) and loss.reduction == "sum"
