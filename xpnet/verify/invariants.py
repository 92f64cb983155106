"""What must hold for every layer, on every backend and in every dtype, whatever it computes.

Each is a plain function of a subject, its values and a backend (made anew by `kind(dtype, SEED)` for every pass), and
returns (got, want): arrays by name that must be the same, bit for bit; those in `ROUNDED`, but for rounding.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from xpnet.backend import Array, Backend
from xpnet.nn import load
from xpnet.verify.passes import Pass, Subject, draw_values, run
from xpnet.verify.report import Mismatch
from xpnet.verify.tolerances import Arrays

Fresh = Callable[[], Backend]
Pair = tuple[Arrays, Arrays]
Invariant = Callable[[Subject, Arrays, Fresh], Pair]


def inputs_unmodified(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """A pass changes neither x nor dy nor any parameter that is trained."""
    one = Pass(subject, values, fresh())
    before = _inputs(one)
    one.run()
    return _inputs(one), before


def second_forward(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """A forward of other data between a forward and its backward changes nothing: no cache is shared."""
    one = Pass(subject, values, fresh())
    y, backward = one.forward(one.x)
    one.forward(one.x[::-1])
    return one.results(y, backward(one.dy)), run(subject, values, fresh())


def gradients_accumulate(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """Two passes without clearing give twice the gradients; clearing and a third give the gradients of one."""
    one = Pass(subject, values, fresh())
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


def gradients_without_dx(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """need_dx=False spares the input's gradient and changes no other."""
    want = run(subject, values, fresh())
    want.pop("dx", None)
    return Pass(subject, values, fresh()).run(need_dx=False), want


def strided_input(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """x and dy that are views with gaps between their numbers, and in column-major order."""
    one, transposed = Pass(subject, values, fresh()), Pass(subject, values, fresh())
    one.x, one.dy = (a.repeat(2, axis=-1)[..., ::2] for a in (one.x, one.dy))
    transposed.x, transposed.dy = (transposed.backend.asarray(values[k].T.copy()).T for k in ("x", "dy"))
    want = run(subject, values, fresh())
    got = _labelled("gaps", one.run()) | _labelled("transposed", transposed.run())
    return got, _labelled("gaps", want) | _labelled("transposed", want)


def empty_batch(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """A batch of no samples gives outputs and input gradients of no samples, and adds nothing to the gradients."""
    none = {**values, "x": values["x"][:0], "dy": values["dy"][:0]}
    got = run(subject, none, fresh())
    want = {name: np.zeros_like(g) for name, g in got.items()}
    want["y"] = none["dy"].astype(got["y"].dtype)
    if "dx" in got:
        want["dx"] = none["x"].astype(got["dx"].dtype)
    return got, want


def dtype_kept(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """Everything that comes out is of the backend's dtype."""
    got, dtype = run(subject, values, fresh()), fresh().dtype
    for name, array in got.items():
        if array.dtype != dtype:
            raise Mismatch(f"{name} is {array.dtype}, expected {dtype}")
    return {}, {}


def deterministic(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """The same pass from the same seed gives the same bits; out of training it draws no random numbers at all."""
    one = Pass(subject, values, fresh())
    got, want = one.run(), run(subject, values, fresh())
    if not subject.training:
        got["random stream"], want["random stream"] = one.backend.rng.state, fresh().rng.state
    return got, want


def captured(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """The pass as a captured step, run, recorded and replayed: on a GPU nothing may be read by the host meanwhile."""
    one = Pass(subject, values, fresh())
    start = one.backend.rng.state

    def step(x: Array, dy: Array) -> tuple[Array, Array]:
        one.model.zero_grad()
        y, backward = one.forward(x)
        return y, backward(dy)

    replayed = one.backend.capture(step)
    for _ in range(4):  # on a GPU: two warm-ups, the recording, a replay
        one.backend.rng.state = start
        y, dx = replayed(one.x, one.dy)
    return one.results(y, dx), run(subject, values, fresh())


def one_by_one(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """Out of training, a sample's output and input gradient do not depend on the others of its batch."""
    if subject.training:
        return {}, {}
    whole = run(subject, values, fresh())
    alone = [
        run(subject, {**values, "x": values["x"][i : i + 1], "dy": values["dy"][i : i + 1]}, fresh())
        for i in range(subject.batch)
    ]
    names = [name for name in ("y", "dx") if name in whole]
    return {k: np.concatenate([a[k] for a in alone]) for k in names}, {k: whole[k] for k in names}


def saved_and_loaded(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """A model that was saved, loaded and put back on the device gives the same bits."""
    one = Pass(subject, values, fresh())
    with tempfile.TemporaryDirectory() as folder:
        one.model.save(Path(folder) / "model.safetensors")
        one.model = load(Path(folder) / "model.safetensors", "cpu").to(one.backend)
    return one.run(), run(subject, values, fresh())


def copy_independent(subject: Subject, values: Arrays, fresh: Fresh) -> Pair:
    """A copy of the network has the same configuration, and neither values nor gradients in common."""
    one, other_values = Pass(subject, values, fresh()), draw_values(subject, seed=1)
    copied = one.model.network.copy()
    Pass(replace(subject, make=lambda: copied), other_values, fresh()).run()
    got, want = one.run(), run(subject, values, fresh())
    got["same configuration"] = np.array(repr(copied) == repr(one.model.network))
    want["same configuration"] = np.array(True)
    return got, want


def _labelled(label: str, arrays: Arrays) -> Arrays:
    return {f"{label}, {name}": a for name, a in arrays.items()}


def _inputs(one: Pass) -> Arrays:
    arrays = {"x": one.x, "dy": one.dy} | {name: p.data for name, p in one.model.parameters.items() if p.trained}
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
    captured,
    one_by_one,
    saved_and_loaded,
    copy_independent,
)
# Where sums may run in another order. All others give the same bits.
ROUNDED = {gradients_accumulate, strided_input, captured, one_by_one}
