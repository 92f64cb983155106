"""What must hold for every layer, on every backend and in every dtype, whatever it computes.

Each invariant is a plain function of a trial: a subject, its values, and a new backend for every pass. It returns
(got, want), two dicts of arrays that must be equal: bit for bit, or up to rounding for the invariants in `ROUNDED`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.nn import load
from xpnet.nn.shapes import each, in_tuple
from xpnet.verify.passes import Pass, Trial, is_data, named, unnamed
from xpnet.verify.report import Mismatch
from xpnet.verify.tolerances import SETTLED, Arrays

Pair = tuple[Arrays, Arrays]
Invariant = Callable[[Trial], Pair]

SETTLING = 300  # times ten passes at most, until running statistics have converged


def inputs_unmodified(trial: Trial) -> Pair:
    """A pass changes neither x, nor dy, nor any trained parameter."""
    one = trial.begin()
    before = _inputs(one)
    one.run()
    return _inputs(one), before


def second_forward(trial: Trial) -> Pair:
    """A forward on other data between a forward and its backward changes nothing: calls share no cache."""
    one = trial.begin()
    y, backward = one.forward(one.x)
    one.forward(each(lambda a: a[::-1], one.x))
    got, want = one.results(y, backward(one.dy)), trial.result
    names = [name for name in want if not name.startswith("state ")]
    return {name: got[name] for name in names}, {name: want[name] for name in names}


def gradients_accumulate(trial: Trial) -> Pair:
    """Two passes without `zero_grad` give twice the gradients; `zero_grad` and a third pass give those of one."""
    one = trial.begin()
    start = one.backend.rng.state
    one.run()
    once = one.gradients()
    one.backend.rng.state = start  # the same dropout masks again
    one.run()
    twice = one.gradients()
    one.model.zero_grad()
    one.backend.rng.state = start
    one.run()
    cleared = one.gradients()
    got = _labelled("twice", twice) | _labelled("cleared", cleared)
    return got, _labelled("twice", {name: 2 * g for name, g in once.items()}) | _labelled("cleared", once)


def gradients_without_dx(trial: Trial) -> Pair:
    """With need_dx=False the gradients of the parameters are the same."""
    return trial.begin().run(need_dx=False), {k: a for k, a in trial.result.items() if k[:2] != "dx"}


def strided_input(trial: Trial) -> Pair:
    """x and dy may be views with gaps between their elements, or in column-major order."""
    one, transposed = trial.begin(), trial.begin()
    one.x, one.dy = (each(lambda a: a.repeat(2, axis=-1)[..., ::2], a) for a in (one.x, one.dy))
    in_columns = {k: transposed.backend.asarray(v.T.copy()).T for k, v in trial.values.items() if is_data(k)}
    transposed.x, transposed.dy = unnamed("x", in_columns), unnamed("dy", in_columns)
    got = _labelled("gaps", one.run()) | _labelled("transposed", transposed.run())
    return got, _labelled("gaps", trial.result) | _labelled("transposed", trial.result)


def empty_batch(trial: Trial) -> Pair:
    """An empty batch gives empty outputs and input gradients, and changes no parameter gradient and no state."""
    none = {k: a[:0] if is_data(k) else a for k, a in trial.values.items()}
    one = replace(trial, values=none).begin()
    want = one.state()
    got = one.run()
    for name in got.keys() - want.keys():
        want[name] = np.zeros_like(got[name])  # of the right shape: `Model` and `Layer` check those of dy and dx
    return got, want


def dtype_kept(trial: Trial) -> Pair:
    """All results have the backend's dtype."""
    dtype = trial.fresh().dtype
    for name, array in trial.result.items():
        if array.dtype != dtype:
            raise Mismatch(f"{name} is {array.dtype}, expected {dtype}")
    return {}, {}


def deterministic(trial: Trial) -> Pair:
    """The same pass from the same seed gives the same bits; in evaluation it draws no random numbers at all."""
    one = trial.begin()
    got, want = one.run(), trial.result
    if trial.subject.training:
        return got, want
    return got | {"random stream": one.backend.rng.state}, want | {"random stream": trial.fresh().rng.state}


def captured(trial: Trial) -> Pair:
    """The pass works as a captured step (run, recorded, replayed), in which the host may read nothing from a GPU."""
    one = trial.begin()
    start, data = one.backend.rng.state, one.model.data.copy()
    inputs, n_x = (*in_tuple(one.x), *in_tuple(one.dy)), len(in_tuple(one.x))

    def step(*arrays: Array) -> tuple[Any, Any]:
        one.model.zero_grad()
        y, backward = one.forward(arrays[:n_x] if isinstance(one.x, tuple) else arrays[0])
        return y, backward(arrays[n_x:] if isinstance(one.dy, tuple) else arrays[n_x])

    replayed = one.backend.capture(step)
    for _ in range(4):  # on a GPU: two warm-ups, the recording, a replay
        one.backend.rng.state = start
        one.model.data[...] = data
        y, dx = replayed(*inputs)
    return one.results(y, dx), trial.result


def one_by_one(trial: Trial) -> Pair:
    """In evaluation, a sample's output and input gradient do not depend on the other samples of the batch."""
    if trial.subject.training:
        return {}, {}
    alone = []
    for i in range(trial.subject.batch):
        sample = {k: a[i : i + 1] if is_data(k) else a for k, a in trial.values.items()}
        alone.append(replace(trial, values=sample).result)
    names = [name for name in trial.result if name[:1] == "y" or name[:2] == "dx"]
    return {k: np.concatenate([a[k] for a in alone]) for k in names}, {k: trial.result[k] for k in names}


def by_sample(trial: Trial) -> Pair:
    """If all layers set `Layer.by_sample`, a pass over a batch equals passes over its parts, in training too.

    Such a pass draws no random numbers.
    """
    one = trial.begin()
    if trial.subject.batch < 2 or not all(layer.by_sample for _, layer in one.model.network.walk()):
        return {}, {}
    start, parts = one.backend.rng.state, []
    for part in (slice(1), slice(1, None)):  # of different sizes, to see that each part counts by its size
        y, backward = one.forward(each(itemgetter(part), one.x))
        parts.append(one.results(y, backward(each(itemgetter(part), one.dy))))
    if (one.backend.rng.state != start).any():
        raise Mismatch("a layer that draws random numbers needs by_sample = False: masks are drawn for a whole batch")
    first, both = parts  # by now gradients and state are those of both parts
    names = [name for name in both if name[:1] == "y" or name[:2] == "dx"]
    return both | {k: np.concatenate([first[k], both[k]]) for k in names}, trial.result


def by_position(trial: Trial) -> Pair:
    """If all layers set `Layer.by_position`, y at a position of a sequence depends, in evaluation, on x there alone."""
    one, x, want = trial.begin(), trial.values.get("x"), trial.result.get("y")
    says_so = all(layer.by_position for _, layer in one.model.network.walk())
    if trial.subject.training or not says_so or x is None or want is None or x.ndim < 2 or want.ndim < 3:
        return {}, {}
    if x.shape[1] != want.shape[1]:
        raise Mismatch(f"y has {want.shape[1]} positions and x {x.shape[1]}: the layer needs by_position = False")
    got, places = dict[str, np.ndarray](), np.arange(x.shape[1])
    for bit in range((len(places) - 1).bit_length()):  # any two positions differ in one of these
        for side in (0, 1):
            stays = (places >> bit) % 2 == side
            mixed = np.where(_along_positions(stays, x), x, trial.others["x"])
            y = one.backend.to_host(one.forward(one.backend.asarray(mixed))[0])
            got[f"others changed, {bit}{side}, y"] = np.where(_along_positions(stays, want), y, want)
    return got, dict.fromkeys(got, want)


def _along_positions(stays: np.ndarray, array: np.ndarray) -> np.ndarray:
    return stays.reshape(-1, *[1] * (array.ndim - 2))


def saved_and_loaded(trial: Trial) -> Pair:
    """A model that was saved, loaded and moved back to the device gives the same bits."""
    one = trial.begin()
    with tempfile.TemporaryDirectory() as folder:
        one.model.save(Path(folder) / "model.safetensors")
        one.model = load(Path(folder) / "model.safetensors", "cpu").to(one.backend)
    return one.run(), trial.result


def copy_independent(trial: Trial) -> Pair:
    """A copy of the network has the same configuration, and shares neither values nor gradients with it."""
    one = trial.begin()
    copied = one.model.network.copy()
    Pass(replace(trial.subject, make=lambda: copied), trial.others, trial.fresh()).run()
    if repr(copied) != repr(one.model.network):
        raise Mismatch(f"the copy of {one.model.network!r} is {copied!r}")
    return one.run(), trial.result


def other_values(trial: Trial) -> Pair:
    """A layer whose parameters are overwritten behaves as a new layer with these values, in both modes.

    Earlier passes do not matter: the layer keeps nothing computed from the old values, and has no state besides its
    parameters.
    """
    one, start = trial.begin(), trial.fresh().rng.state
    other = replace(trial, values={k: v if is_data(k) else trial.others[k] for k, v in trial.values.items()}).begin()
    one.training = not trial.subject.training
    _, backward = one.forward(each(_twice, one.x))  # a batch of one may be too small to train on
    backward(each(_twice, one.dy))
    one.training = trial.subject.training
    one.run()
    one.backend.rng.state = start  # the same dropout masks as the fresh one
    one.model.data[...] = one.backend.asarray(other.backend.to_host(other.model.data))
    one.model.zero_grad()
    other.model.zero_grad()
    return one.run(), other.run()


def _twice(array: Array) -> Array:
    return array.repeat(2, axis=0)


def settled_state(trial: Trial) -> Pair:
    """Running statistics converge on a batch that is repeated; evaluation then gives the outputs of training.

    This is not checked for layers that draw random numbers, nor in float32, as that is compared with float64.
    """
    one = trial.begin()
    state = {name: p for name, p in one.model.parameters.items() if not p.trained}
    if not trial.subject.training or not state or one.backend.dtype == np.float32:
        return {}, {}
    start, x = one.backend.rng.state, each(lambda a: _many_times(a, one.backend), one.x)
    for _ in range(SETTLING):
        before = one.state()
        for _ in range(10):
            trained, _ = one.forward(x)
        if (one.backend.rng.state != start).any():
            return {}, {}
        now = one.state()
        if all(np.allclose(now[name], before[name], rtol=1e-5, atol=1e-8) for name in now):
            break
    with one.backend.mode(training=False):
        evaluated, _ = one.model.forward(x)
    for a, b in zip(in_tuple(evaluated), in_tuple(trained), strict=True):
        got, want = np.array(one.backend.to_host(a)), np.array(one.backend.to_host(b))
        error = np.abs(got - want).max(initial=0.0)
        if not error <= SETTLED * np.abs(want).max(initial=0.0):
            raise Mismatch(
                f"evaluation and training differ by {error:.1e} on a batch to which the state "
                f"({', '.join(state)}) has converged"
            )
    return {}, {}


def _many_times(array: Array, backend: Backend) -> Array:
    """The samples repeated 64 times, so that dividing a variance by n - 1 or by n makes little difference."""
    return backend.asarray(np.tile(backend.to_host(array), (64, *[1] * (array.ndim - 1))))


def _labelled(label: str, arrays: Arrays) -> Arrays:
    return {f"{label}, {name}": a for name, a in arrays.items()}


def _inputs(one: Pass) -> Arrays:
    arrays = named("x", one.x) | named("dy", one.dy)
    arrays |= {name: p.data for name, p in one.model.parameters.items() if p.trained}
    return {name: np.array(one.backend.to_host(a)) for name, a in arrays.items()}


INVARIANTS: tuple[Invariant, ...] = (
    inputs_unmodified,
    second_forward,
    gradients_accumulate,
    gradients_without_dx,
    strided_input,
    empty_batch,
    dtype_kept,
    deterministic,
    settled_state,
    captured,
    other_values,
    one_by_one,
    by_sample,
    by_position,
    saved_and_loaded,
    copy_independent,
)
# In these, sums may be computed in another order. All others must give the same bits.
ROUNDED = {gradients_accumulate, strided_input, captured, one_by_one, by_sample, by_position}
