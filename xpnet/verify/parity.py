"""Do all devices compute the same? Compares the table of cases, or a network of your own, with float64 on the CPU.

The layers of a network are compared one by one. On every device a layer gets the *same* float32 inputs and gradients:
those of the float64 reference, rounded. So errors do not add up from layer to layer, and the first row that differs
names the layer. Then the whole network, a step of an optimizer, and some steps of training are compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from xpnet import probe
from xpnet.arguments import whole
from xpnet.backend import Backend
from xpnet.data import Dataset
from xpnet.nn import Model
from xpnet.nn.shapes import in_tuple, is_several, shape_of
from xpnet.optim import Adam
from xpnet.verify import cases
from xpnet.verify.check import exact, loss_tolerance, run_loss, tolerance
from xpnet.verify.parity_parts import layer_parts
from xpnet.verify.parity_result import Comparison, Device, Parity
from xpnet.verify.parity_training import digits_task, random_samples, task_for, train_everywhere
from xpnet.verify.passes import (
    SEED,
    BackendFactory,
    Float64,
    Pass,
    Subject,
    draw_values,
    in_float32,
    named,
    run,
    run_optimizer,
    spread,
)
from xpnet.verify.report import Mismatch, compare
from xpnet.verify.rows import name
from xpnet.verify.tolerances import Arrays, rounding
from xpnet.verify.witnesses import optimizer_values

Kinds = dict[str, Callable[..., Backend]]
STAND_IN = "strict device"


def parity(
    model: Model | None = None,
    data: Dataset | None = None,
    batch: int = 8,
    steps: int = 50,
    second: BackendFactory | None = None,
    precision: str | None = None,
) -> Parity:
    """Compare float32 on the CPU and on a second device with float64 on the CPU.

    Without a model, all layers, losses and optimizers of the table of cases are compared; with a model, its layers one
    by one (its values are only read). `data` are the samples that it is fed, `batch` of them at once: by default random
    numbers between -2 and 2, or whole numbers from 0 on if the network takes no others. `steps` of training follow.
    The second device is the GPU, if one works. Otherwise the strict device takes its place, which enforces a GPU's
    rules and computes with NumPy. `second(dtype, seed)` makes another backend to compare instead.

    With a `precision` ("float16", "bfloat16"), only the second device is compared, with 16-bit operands of products.
    Results may then differ by what rounding these operands explains. Losses, optimizers and everything else without
    products may differ by no more than in float32.

    Raises ValueError for a model with several outputs, if `data` do not fit the model, or if a number is below 1;
    TypeError if `model` is no Model or `data` no Dataset.
    """
    if not isinstance(model, Model | None):
        raise TypeError(f"parity compares a Model, such as xpnet.load(path), not {model!r}")
    if not isinstance(data, Dataset | None):
        raise TypeError(f"parity feeds a data.Dataset(x, y), not a {type(data).__name__}")
    whole("batch", batch, least=1)
    whole("steps", steps, least=1)
    if model is None and data is not None:
        raise ValueError("data are for a model: give it too, parity(model, data)")
    devices, kinds, notes = _devices(second)
    if precision is not None:
        devices, kinds = _in_16_bits(devices[-1], kinds, precision)
    if model is None:
        task = digits_task(steps)
        rows = list(_table(kinds, precision))
        notes.append("Initialisers and schedules have no rows: they run on the host, the same for every device.")
        title = "every case of the table"
    else:
        if is_several(model.output_shape):
            raise ValueError(
                "the model has several outputs: parity has no loss to train it with. Give it a model that joins them "
                "in one array, or call verify.check(model.network, model.input_shape)"
            )
        inputs = _inputs(model, data, batch)
        task = task_for(model, data, steps, batch)
        try:
            rows = list(_network(model, inputs, kinds, precision))
        except Exception as error:  # most often from a user's own layer that takes whole numbers
            if data is None:
                error.add_note("these samples were drawn at random: parity(model, data) takes yours")
            raise
        title = f"{model.network!r} on {batch} {data.name if data else 'random'} samples of shape {model.input_shape}"
    return Parity(title, devices, tuple(rows), train_everywhere(task, kinds, precision), tuple(notes))


def _devices(second: BackendFactory | None) -> tuple[tuple[Device, ...], Kinds, list[str]]:
    """The devices to compare, their backends by name, and notes on what cannot be compared."""
    cpu = Device("cpu", "cpu", "NumPy in float32")
    if second is not None:
        device = second("float32", SEED).device
        given = Device(device, "gpu" if device.startswith("cuda") else "stand-in", "given by the caller")
        return (cpu, given), {cpu.name: Backend, given.name: second}, []
    finding = probe.cuda(0)
    if finding.ok:
        from xpnet.backend.cuda import CudaBackend

        gpu = Device("cuda:0", "gpu", finding.detail)
        return (cpu, gpu), {cpu.name: Backend, gpu.name: CudaBackend}, []
    from xpnet.verify.strict import StrictBackend

    stand_in = Device(STAND_IN, "stand-in", "keeps a GPU's rules, computes with NumPy in float32")
    missing = (
        f"No GPU was compared. {str(finding)[0].upper()}{str(finding)[1:]}. "
        "The strict device stands in for one: it shows that the same code would run there, "
        "but nothing about how a GPU rounds, its kernels or its library for products."
    )
    return (cpu, stand_in), {cpu.name: Backend, stand_in.name: StrictBackend}, [missing]


def _in_16_bits(device: Device, kinds: Kinds, precision: str) -> tuple[tuple[Device, ...], Kinds]:
    """The device with products of this precision, and its backend by name."""
    kind = partial(kinds[device.name], precision=precision)
    kind("float32", SEED)  # an unknown precision, or one that the device lacks, raises here: it is not a row
    narrow = Device(f"{device.name}, {precision}", device.role, f"{device.detail}; products of {precision}")
    return (narrow,), {narrow.name: kind}


# The table of cases -------------------------------------------------------------------------------------------


def _table(kinds: Kinds, precision: str | None) -> Iterator[Comparison]:
    for layer in cases.LAYERS:
        for size in layer.batches:
            subject = layer.subject(size)
            values = draw_values(subject)
            part = f"{name(layer)}, batch of {size}"
            yield from _whole(part, kinds, *_of_subject(subject, values, precision))
    for loss in cases.LOSSES:
        for size in loss.batches:
            values = loss.values(size)
            compute = partial(run_loss, loss.make(), values)
            want, allowed = compute(Float64()), loss_tolerance(loss.make(), values, "float32")
            yield from _whole(f"{name(loss)}, batch of {size}", kinds, compute, want, allowed)
    values = optimizer_values()
    for optimizer in cases.OPTIMIZERS:
        compute_steps = lambda backend, moved, case=optimizer: run_optimizer(case.make, moved, backend, case.clip)
        yield from _whole(name(optimizer), kinds, *_of_function(compute_steps, values))
    yield from _rows("random numbers", kinds, _random, _random(Backend(seed=SEED)), {})


def _of_subject(
    subject: Subject, values: Arrays, precision: str | None
) -> tuple[Callable[[Backend], Arrays], Arrays, Arrays]:
    """For a pass: (function of a backend, its expected results, their tolerances)."""
    want, allowed = exact(subject, values, "float32"), tolerance(subject, values, "float32", precision)
    return partial(run, subject, values), want, allowed


def _of_function(
    function: Callable[[Backend, Arrays], Arrays], values: Arrays
) -> tuple[Callable[[Backend], Arrays], Arrays, Arrays]:
    """The same as `_of_subject`, for any function of a backend and values."""
    want = function(Float64(), values)
    return lambda backend: function(backend, values), want, rounding(partial(function, Float64()), values, want)


def _random(backend: Backend) -> Arrays:
    """The first numbers of the random stream in both dtypes, which must be the same bits on all devices."""
    return {dtype: np.array(backend.to_host(backend.rng.random((999,), dtype))) for dtype in ("float32", "float64")}


def _whole(
    part: str, kinds: Kinds, compute: Callable[[Backend], Arrays], want: Arrays, allowed: Arrays
) -> Iterator[Comparison]:
    """One row for each device: that of its worst tensor, which `where` names."""
    rows = list(_rows(part, kinds, compute, want, allowed))
    for device in kinds:
        worst = max((row for row in rows if row.device == device), key=lambda row: (row.fraction, row.ulps))
        yield replace(worst, what="all tensors")


# A network ----------------------------------------------------------------------------------------------------


def _network(model: Model, x: Any, kinds: Kinds, precision: str | None) -> Iterator[Comparison]:
    lengths = shape_of(x)
    network = Subject(model.network.copy, lengths, len(in_tuple(x)[0]), True, spread)
    values = in_float32({**draw_values(network), **named("x", x), **model.tensors()})
    for part, subject, own in layer_parts(network, values):
        yield from _rows(part, kinds, *_of_subject(subject, own, precision))
    compute, want, allowed = _of_subject(network, values, precision)
    yield from _rows("the whole network", kinds, compute, want, allowed)
    gradients = in_float32({k: v for k, v in want.items() if k.startswith("d ")})
    update = partial(_adam_step, network)
    yield from _rows("a step of Adam", kinds, *_of_function(update, {**values, **gradients}))


def _adam_step(subject: Subject, backend: Backend, values: Arrays) -> Arrays:
    """The parameters after one step of Adam with the gradients in `values` ("d layers.0.W")."""
    given = {k: v for k, v in values.items() if not k.startswith("d ")}
    one = Pass(subject, given, backend)
    for key, parameter in one.model.parameters.items():
        if parameter.trained:
            parameter.grad[...] = backend.asarray(values[f"d {key}"])
    Adam(one.model).step()
    return one.model.tensors()


def _inputs(model: Model, data: Dataset | None, batch: int) -> Any:
    if data is None:
        return random_samples(model, batch, seed=0)
    if len(data) < batch:
        raise ValueError(f"{data.name} has {len(data)} samples, fewer than a batch of {batch}")
    return model.as_input(data[:batch].x)


# Rows ---------------------------------------------------------------------------------------------------------


def _rows(
    part: str, kinds: Kinds, compute: Callable[[Backend], Arrays], want: Arrays, allowed: Arrays
) -> Iterator[Comparison]:
    """A row for every tensor on every device, tensor by tensor."""
    got = {device: _attempt(compute, kind) for device, kind in kinds.items()}
    for tensor in want:
        for device, result in got.items():
            row = partial(Comparison, part, _in_words(tensor), device)
            yield row(problem=result) if isinstance(result, str) else _row(row, tensor, result, want, allowed)


def _attempt(compute: Callable[[Backend], Arrays], kind: BackendFactory) -> Arrays | str:
    try:
        return compute(kind("float32", SEED))
    except Exception as error:  # the row reports whatever a layer raises on a device
        return f"{type(error).__name__}: {error}"


def _row(row: Callable[..., Comparison], tensor: str, got: Arrays, want: Arrays, allowed: Arrays) -> Comparison:
    if tensor not in got:
        return row(problem=f"it gives no {tensor}")
    try:
        error, limit, where = compare({tensor: got[tensor]}, {tensor: want[tensor]}, lambda: allowed)
    except Mismatch as problem:
        return row(problem=str(problem))
    return row(ulps(got[tensor], want[tensor]), error, limit, where)


def ulps(got: np.ndarray, want: np.ndarray) -> float:
    """The largest difference, in units in the last place of float32 at the size of the largest number of `want`."""
    if not want.size:
        return 0.0
    largest = np.float32(np.abs(want).max())
    error = np.abs(got.astype(np.float64) - want.astype(np.float64)).max()
    return float(error / np.spacing(largest)) if np.isfinite(error) else float("inf")


def _in_words(tensor: str) -> str:
    words = {"y": "forward", "dx": "input gradient", "dy": "gradient", "value": "loss"}
    return words.get(tensor, f"gradient of {tensor[2:]}" if tensor.startswith("d ") else tensor)
