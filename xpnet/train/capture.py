"""Captured steps for a run, once they have been tested.

A captured step repeats what it did when it was recorded, whatever has changed since. So before a run relies on one, it
is tested: replayed from the same state, it must give the same bits as an eager step. Otherwise the run continues
eagerly and says why. Batches of another shape, such as a short last one, need their own recording, which is tested too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpnet.backend import Array
from xpnet.train.run import Run

CALLS = 4  # on a GPU: two warm-ups, which run eagerly, the recording, and a replay


def capture(run: Run, say: Callable[[str], None] = lambda reason: None) -> None:
    """Before an epoch: have the run's steps captured from now on, if the device can.

    They are captured again if a callback has changed a setting of the optimizer. If some or all steps cannot be
    captured, the reason is put into `run.eager` and passed to `say`.

    Leaves the run's state as it was. The training mode must be on.
    """
    backend, eager, before = run.model.backend, run.device_step, run.captured
    if backend.capture(eager) is eager or run.position.batch == len(run.slices) or (run.eager and before is None):
        return
    steps = _Steps(run, say)
    if isinstance(before, _Steps) and before.settings == steps.settings:
        return
    run.captured, run.eager = None, ""
    if run.group.size > 1:
        steps.refuse("in a group of processes steps are not captured")
    elif backend.observer is not None:
        steps.refuse("the backend is observed: steps are not captured")
    elif reason := steps.prove(run.next_inputs()):
        steps.refuse(reason)
    else:
        run.captured = steps


class _Steps:
    """Called like the run's step; uses a captured one for each shape of the inputs, once that one has been tested."""

    def __init__(self, run: Run, say: Callable[[str], None]):
        self._run, self._say = run, say
        self.settings = run.optimizer.described  # recorded in the captured steps, whatever is set later
        self._by_shape: dict[tuple, Callable[..., None]] = {}  # captured or eager
        self._once: set[tuple] = set()  # shapes seen once: tested only if they come again

    def __call__(self, *inputs: Array) -> None:
        run, shape = self._run, _shape(inputs)
        if shape in self._once and run.model.backend.observer is None:
            self._once.remove(shape)
            if reason := self.prove(inputs):
                part = run.parts[run.position.batch]
                self.refuse(f"batches of {part.stop - part.start} samples: {reason}")
        elif shape not in self._by_shape:
            self._once.add(shape)
        self._by_shape.get(shape, run.device_step)(*inputs)

    def prove(self, inputs: tuple[Array, ...]) -> str:
        """Have steps on inputs of this shape captured from now on if the captured step passes the test; otherwise
        return the reason why not."""
        run = self._run
        captured, start = run.model.backend.capture(run.device_step), run.snapshot()
        try:
            reason = _difference(run, captured, inputs)
        except Exception as error:  # whatever prevents the capture, the step still trains
            reason = f"capturing the step failed: {type(error).__name__}: {error}"
        finally:
            run.go_back(start)
        self._by_shape[_shape(inputs)] = run.device_step if reason else captured
        return reason

    def refuse(self, reason: str) -> None:
        self._run.eager = f"{self._run.eager}; {reason}" if self._run.eager else reason
        self._say(reason)


def _shape(inputs: tuple[Array, ...]) -> tuple:
    return tuple((a.shape, a.dtype.str) for a in inputs)


def _difference(run: Run, captured: Callable, inputs: tuple[Array, ...]) -> str:
    """What a replayed step leaves different from an eager one, as a sentence; "" if nothing."""
    start, states = run.snapshot(), []
    for call in range(CALLS):
        run.go_back(start)
        captured(*inputs)
        if call in (0, 1, CALLS - 1):  # two eager calls, to find also what differs only every other time
            states.append(_state(run))
    *eager, replayed = states
    differing = [name for name in replayed if any(one[name].tobytes() != replayed[name].tobytes() for one in eager)]
    if differing:
        return f"a replayed step does not repeat an eager one: {', '.join(differing)} differ"
    return ""


def _state(run: Run) -> dict[str, np.ndarray]:
    to_host = run.model.backend.to_host
    state = {name: np.array(to_host(array)) for name, array in run.changing().items()}
    return state | {"the random stream": np.array(run.model.backend.rng.state)}
