"""Inside a step, the strict device keeps the rules of a CUDA graph."""

from __future__ import annotations

import numpy as np
import pytest
from strict_arrays import HOST, same

from xpnet.verify.strict import CaptureError, HostReadError, StrictBackend


@pytest.fixture
def backend():
    return StrictBackend()


@pytest.fixture
def xp(backend):
    return backend.xp


@pytest.fixture
def x(backend):
    return backend.asarray(HOST)


READS = {
    "float": lambda b, x: float(x[0, 0]),
    "int": lambda b, x: int(x[0, 0]),
    "bool": lambda b, x: bool(x[0, 0] > 1),
    "if": lambda b, x: 1 if x.sum() > 3 else 0,
    "item": lambda b, x: x[0, 0].item(),
    "tolist": lambda b, x: x.tolist(),
    "print": lambda b, x: f"{x}",
    "in": lambda b, x: 3 in x,
    "as a number": lambda b, x: x[: x[0, 2].astype("int64")],
    "to_host": lambda b, x: b.to_host(x),
    "synchronize": lambda b, x: b.synchronize(),
    "a mask": lambda b, x: x[x > 3],
    "a mask to assign": lambda b, x: x.__setitem__(x > 3, 0),
    "nonzero": lambda b, x: x.nonzero(),
    "unique": lambda b, x: b.xp.unique(x),
    "bincount": lambda b, x: b.xp.bincount(x[0].astype("int64"), minlength=4),
    "sliding_window_view": lambda b, x: b.xp.lib.stride_tricks.sliding_window_view(x, 2, axis=1),
    "nine arrays": lambda b, x: b.xp.stack([x] * 9),
    "repeats": lambda b, x: b.xp.repeat(x, x[0].astype("int64"), axis=1),
    "repeats, as a method": lambda b, x: x.repeat(x[0].astype("int64"), axis=1),
    "tiles": lambda b, x: b.xp.tile(x, x[0, 2].astype("int64")),
    "a number to fill with": lambda b, x: x.copy().fill(x.max()),
    "where numbers end": lambda b, x: b.xp.arange(x[0, 2]),
    "where a line ends": lambda b, x: b.xp.linspace(0, x[0, 2], 4),
    "a mask of one value": lambda b, x: x[True],
    "the same of NumPy's": lambda b, x: x[np.False_],
}
UPLOADS = {
    "asarray": lambda b, x: b.asarray(HOST),
    "xp.asarray": lambda b, x: b.xp.asarray(HOST),
    "xp.array": lambda b, x: b.xp.array([1.0, 2.0]),
    "xp.array of a range": lambda b, x: b.xp.array(range(3)),
    "repeats of the host": lambda b, x: b.xp.repeat(x, [1, 2, 3], axis=0),
    "repeats of the host, as a method": lambda b, x: x.repeat((1, 2, 3), axis=0),
    "a new stream": lambda b, x: StrictBackend._stream(b, 0),
}


@pytest.mark.parametrize("name", [*READS, *UPLOADS])
def test_traffic_with_the_host_stops_a_step_and_names_the_line(backend, x, name):
    use = (READS | UPLOADS)[name]
    line = use.__code__.co_firstlineno
    use(backend, x)  # outside a step it is allowed
    with backend.step(), pytest.raises(HostReadError, match=rf"test_strict_steps\.py:{line}: "):
        use(backend, x)
    use(backend, x)


def test_a_constant_may_be_sent_in_the_first_call_of_a_captured_step(backend, x):
    kept = {}

    def step(a):
        if "weights" not in kept:
            kept["weights"] = backend.asarray(np.array([1.0, 2, 3, 4]))
        return a * kept["weights"]

    captured = backend.capture(step)
    for _ in range(4):
        assert same(captured(x), HOST * np.array([1, 2, 3, 4], np.float32))

    captured = backend.capture(lambda a: a * backend.asarray(np.array([1.0, 2, 3, 4])))
    captured(x)
    with pytest.raises(HostReadError, match="sent to the device"):
        captured(x)


def test_reading_is_refused_from_the_first_call_on(backend, x):
    with pytest.raises(HostReadError):
        backend.capture(lambda a: a * float(a[0, 1]))(x)
    assert float(x[0, 1]) == 1  # and the step has been left


# Captured steps ---------------------------------------------------------------------------------------------------


def test_results_are_overwritten_by_the_next_call(backend, x):
    captured = backend.capture(lambda a: {"sum": a.sum(), "more": (a + 1, [a.max(), "fixed"])})
    first = captured(x)
    kept = float(first["sum"])
    second = captured(x * 2)
    assert (kept, float(first["sum"]), float(second["sum"])) == (66, 132, 132)
    assert second["sum"] is first["sum"]
    assert second["more"][0] is first["more"][0]
    assert second["more"][1][1] == "fixed"


def test_a_step_works_on_copies_of_its_inputs(backend, x):
    def step(a):
        a += 1
        return a.sum()

    captured = backend.capture(step)
    assert [float(captured(x)) for _ in range(3)] == [78, 78, 78]
    assert same(x, HOST)


def test_each_set_of_shapes_has_its_own_recording(backend, x):
    captured = backend.capture(lambda a: a.sum(axis=0))
    results = [captured(x), captured(x[:2]), captured(x.astype("float64")), captured(x)]
    assert len({id(result) for result in results}) == 3
    assert same(results[1], HOST[:2].sum(axis=0))
    assert results[2].dtype == np.float64


def test_a_captured_step_takes_arrays_of_the_device(backend):
    with pytest.raises(TypeError, match="ndarray"):
        backend.capture(lambda a: a)(HOST)


def test_what_is_updated_in_place_may_change(backend, xp, x):
    rate, total = xp.full(1, 0.5, "float32"), xp.zeros(4, "float32")

    def step(a):
        nonlocal total
        total += rate * a.sum(axis=0) + backend.rng.random((4,), "float32") * 0
        scratch = backend.scratch("s", (4,))
        scratch[...] = total
        return scratch + backend.sum_rows(a)

    captured = backend.capture(step)
    for i in range(4):
        rate.fill(i)
        captured(x)
        backend.scratch("s", (1000 * (i + 1),))  # whoever else needs memory: the step has its own
    assert same(total, 6 * HOST.sum(axis=0))


class Broken:
    """Steps that a graph of them would not repeat."""

    def __init__(self, backend):
        self.calls, self.state = 0, backend.xp.zeros((3, 4), "float32")
        self.other = backend.asarray(HOST)

    def number(self, a):
        """A plain number that varies: a graph keeps the first."""
        self.calls += 1
        return a * self.calls

    def rebinding(self, a):
        """A new array in place of an update: a graph reads the old one for ever."""
        self.state = self.state * 0.9 + a
        return self.state.sum()

    def more(self, a):
        self.calls += 1
        return a + 1 if self.calls > 3 else a

    def branch(self, a):
        self.calls += 1
        return a + 1 if self.calls < 3 else a - 1

    def less(self, a):
        self.calls += 1
        return (a + 1) if self.calls < 3 else a

    def swapping(self, a):
        self.state, self.other = self.other, self.state
        return a + self.state

    def swapping_views(self, a):
        self.state, self.other = self.other, self.state
        return a.T + self.state.T

    def host_random(self, a):
        return a * float(np.random.default_rng().random())


@pytest.mark.parametrize(
    "name", ["number", "rebinding", "more", "branch", "less", "swapping", "swapping_views", "host_random"]
)
def test_what_a_graph_would_not_repeat_is_found(backend, x, name):
    captured = backend.capture(getattr(Broken(backend), name))
    captured(x)
    captured(x)
    with pytest.raises(CaptureError, match="a graph would"):
        assert [captured(x), captured(x)]


def test_an_error_in_a_step_leaves_all_in_order(backend, xp, x):
    fail = [False, True, False, False, True, False]

    def step(a):
        y = a + 1
        if fail.pop(0):
            raise ZeroDivisionError
        return y.sum()

    captured, scratch = backend.capture(step), backend.kept
    for failing in list(fail):
        if failing:
            with pytest.raises(ZeroDivisionError):
                captured(x)
        else:
            assert float(captured(x)) == 78
        assert backend.kept is scratch


def test_steps_do_not_nest(backend, x):
    inner = backend.capture(lambda a: a + 1)
    with pytest.raises(CaptureError, match="inside a step"):
        backend.capture(lambda a: inner(a))(x)
    assert same(inner(x), HOST + 1)
