"""A run's step as a captured one, once it has proved itself.

A captured step repeats what it did when it was recorded, whatever has changed since. So before a run relies on it, it
must do, replayed from the same state, bit for bit what it did eagerly; otherwise the run goes on eagerly, and says why.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xpnet.backend import Array
from xpnet.train.run import Run

CALLS = 4  # on a GPU: two warm-ups, which run eagerly, the recording, and a replay


def capture(run: Run) -> str:
    """Let the run's steps be captured from now on, where the device can. Gives the reason why not, or "".

    Leaves the run as it was. The training mode must be on.
    """
    eager = run.device_step
    captured = run.model.backend.capture(eager)
    if captured is eager or run.position.batch == len(run.slices):
        return ""
    if run.group.size > 1:
        return "in a group of processes steps are not captured"
    if run.model.backend.observer is not None:
        return "the backend is observed: steps are not captured"
    inputs = run.next_inputs()
    start = run.snapshot()
    try:
        difference = _difference(run, captured, inputs)
    except Exception as error:  # whatever a step does that cannot be captured: it still trains
        difference = f"capturing the step failed: {type(error).__name__}: {error}"
    finally:
        run.go_back(start)
    if not difference:
        run.captured = captured
    return difference


def _difference(run: Run, captured: Callable, inputs: tuple[Array, ...]) -> str:
    start, states = run.snapshot(), []
    for call in range(CALLS):
        run.go_back(start)
        captured(*inputs)
        if call in (0, 1, CALLS - 1):  # two eager ones: what is different every other time is seen too
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
