"""The capture of a step: what is called in which order, seen by a CuPy that records and replays Python calls."""

from __future__ import annotations

import gc
import sys
import weakref
from contextlib import contextmanager
from types import SimpleNamespace

import fake_cupy
import numpy as np
import pytest
from fake_cupy import Stream


@pytest.fixture
def cupy():
    return fake_cupy.module()


@pytest.fixture
def graph(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    return fake_cupy.load("graph")


class FakeBackend:
    """A backend as far as `Captured` is concerned."""

    def __init__(self):
        self.gemm, self.kept = None, None
        self.training, self.ordinal = True, 1
        self.observer = None
        self.used = 0
        self.graph_stream = Stream(non_blocking=True)
        self.handle = SimpleNamespace(stream=self.graph_stream)

    def use(self):
        self.used += 1

    def gemm_of(self, stream):
        assert stream is self.graph_stream
        return self.handle

    @contextmanager
    def products_by(self, gemm):
        self.gemm = gemm
        try:
            yield
        finally:
            self.gemm = None

    @contextmanager
    def own_memory(self, memory):
        self.kept = memory
        try:
            yield
        finally:
            self.kept = None


def device(*values: float, dtype: str = "float64") -> fake_cupy.Array:
    return np.array(values, dtype).view(fake_cupy.Array)


class Summing:
    """A step that adds its input to a total, in two kernels; keeps what it saw on the way."""

    def __init__(self, cupy, backend):
        self.cupy, self.backend, self.total = cupy, backend, device(0)
        self.seen, self.fail = [], False

    def __call__(self, x):
        self.seen.append(
            SimpleNamespace(
                x=x,
                gc=gc.isenabled(),
                capturing=Stream.current.capturing is not None,
                allocator=self.cupy.allocator,
                gemm=self.backend.gemm,
                kept=self.backend.kept,
                stream=Stream.current,
            )
        )
        output = self.cupy.empty((1,), x.dtype)
        fake_cupy.launch(lambda: np.add(self.total, x.sum(), out=self.total))
        if self.fail:
            raise ZeroDivisionError("in the step")
        fake_cupy.launch(lambda: np.copyto(output, self.total))
        return output


@pytest.fixture
def backend():
    return FakeBackend()


@pytest.fixture
def step(cupy, backend):
    return Summing(cupy, backend)


@pytest.fixture
def captured(graph, step, backend):
    return graph.Captured(step, backend)


def test_two_calls_warm_up_the_third_is_recorded_and_all_later_ones_replay_it(captured, step):
    results = []
    for i in range(1, 7):
        results.append(float(captured(device(i, 10))[0]))
    assert results == [11, 23, 36, 50, 65, 81]
    assert [seen.capturing for seen in step.seen] == [False, False, True]
    assert Stream.log == ["synchronize", "begin", "end", "launch", "launch", "launch", "launch"]


def test_each_call_is_made_on_the_gpu_of_the_step(captured, backend):
    for i in range(1, 6):
        captured(device(i))
        assert backend.used == i


def test_replays_use_the_same_inputs_and_outputs(captured, step):
    mine = device(1, 2)
    outputs = [captured(mine) for _ in range(5)]
    assert outputs[2] is outputs[3] is outputs[4]
    assert len({id(seen.x) for seen in step.seen}) == 1
    assert step.seen[0].x is not mine
    assert mine.tolist() == [1, 2]


def test_one_graph_for_each_set_of_shapes_and_types(captured, step):
    for _ in range(4):
        captured(device(1))
        captured(device(1, 2))
        captured(device(1, dtype="float32"))
    assert Stream.log.count("begin") == 3
    assert Stream.log.count("launch") == 6
    assert float(step.total[0]) == 4 * (1 + 3 + 1)
    assert len({id(seen.allocator.__self__) for seen in step.seen}) == 3  # each with memory of its own
    assert len({id(seen.kept) for seen in step.seen}) == 3
    assert len({id(seen.stream) for seen in step.seen}) == 1


def test_one_graph_for_each_mode(captured, step, backend):
    """What was recorded in training (dropout, statistics of the batch) is never replayed in evaluation."""
    for i in range(8):
        backend.training = i % 2 == 0
        captured(device(1))
    assert Stream.log.count("begin") == 2
    assert len({id(seen.x) for seen in step.seen}) == 2


def test_the_step_has_a_stream_memory_and_products_of_its_own_and_gives_them_back(captured, step, cupy, backend):
    eager = Stream.current
    for _ in range(4):
        captured(device(1))
        assert (Stream.current, cupy.allocator, backend.gemm, backend.kept) == (eager, None, None, None)
    for seen in step.seen:
        assert seen.stream.non_blocking
        assert seen.stream is seen.gemm.stream
        assert seen.allocator is not None
        assert seen.kept is step.seen[0].kept is not None


def test_the_step_waits_for_its_caller_and_its_caller_for_the_step(captured, step):
    eager = Stream.current
    captured(device(1))
    stream = step.seen[0].stream
    assert (stream.waits, eager.waits) == ([eager], [stream])


def test_a_caller_goes_on_with_the_stream_that_it_uses(captured, step):
    """CuPy's `with stream` goes back to the block around it, and forgets what was used in between."""
    mine = Stream(non_blocking=True).use()
    for _ in range(4):
        captured(device(1))
        assert Stream.current is mine
    own = step.seen[0].stream
    assert (set(own.waits), mine.waits) == ({mine}, [own] * 4)
    step.fail = True
    with pytest.raises(ZeroDivisionError):
        captured(device(1, 2))
    assert Stream.current is mine


def test_no_garbage_is_collected_while_recording(captured, step):
    for _ in range(3):
        captured(device(1))
    assert [seen.gc for seen in step.seen] == [True, True, False]
    assert gc.isenabled()


def test_a_caller_that_has_switched_garbage_collection_off_finds_it_off(captured):
    gc.disable()
    try:
        for _ in range(3):
            captured(device(1))
        assert not gc.isenabled()
    finally:
        gc.enable()


@pytest.mark.parametrize("call", [1, 2, 3])
def test_after_an_error_in_the_step_all_is_in_order(captured, step, cupy, backend, call):
    eager = Stream.current
    for _ in range(call - 1):
        captured(device(1))
    step.fail = True
    with pytest.raises(ZeroDivisionError):
        captured(device(1))
    assert (Stream.current, cupy.allocator, gc.isenabled()) == (eager, None, True)
    assert (backend.gemm, backend.kept) == (None, None)
    assert step.seen[-1].stream.capturing is None
    assert "launch" not in Stream.log  # half a graph is no graph

    step.fail, before = False, float(step.total[0])
    for i in range(1, 5):
        assert float(captured(device(1))[0]) == before + i
    assert Stream.log[-1] == "launch"


def test_an_error_that_breaks_the_capture_is_told_and_not_that_it_was_broken(captured, step, backend):
    for _ in range(2):
        captured(device(1))
    step.fail = backend.graph_stream.broken = True
    with pytest.raises(ZeroDivisionError, match="in the step"):
        captured(device(1))
    step.fail = backend.graph_stream.broken = False
    assert float(captured(device(1))[0]) > 0


def test_what_was_made_in_half_a_graph_was_never_filled_and_is_made_again(graph, backend):
    made = []

    def step(x):
        made.append("ones" not in backend.kept)
        if Stream.current.capturing:
            backend.kept["ones"] = "to be filled by the graph"
            if len(made) == 3:
                raise ZeroDivisionError
        return x

    captured = graph.Captured(step, backend)
    for _ in range(2):
        captured(device(1))
    with pytest.raises(ZeroDivisionError):
        captured(device(1))
    for _ in range(3):
        captured(device(1))
    assert made == [True] * 6


def test_a_step_may_give_several_results_or_none(graph, backend):
    captured = graph.Captured(lambda x: {"x": x, "more": (x, 1)}, backend)
    nothing = graph.Captured(lambda x: None, backend)
    for _ in range(4):
        assert captured(device(3))["more"][0].tolist() == [3]
        assert nothing(device(3)) is None


def test_while_somebody_observes_the_step_runs_as_it_stands(captured, step):
    for i in range(1, 6):
        captured(device(i, 10))
    assert len(step.seen) == 3  # two warm-ups and the recording
    step.backend.observer = object()
    captured(device(7, 10))
    assert len(step.seen) == 4
    assert step.seen[-1].gemm is None


# Memory ---------------------------------------------------------------------------------------------------------------


def test_the_memory_of_each_graph_is_a_part_of_cupys_pool(captured, step, cupy):
    captured(device(1.0))
    captured(device(1.0, 2.0))
    pools = [seen.allocator.__self__ for seen in step.seen]
    assert len(set(pools)) == 2
    assert [pool.allocator for pool in pools] == [cupy.get_default_memory_pool().malloc] * 2


def test_steps_of_one_backend_share_a_workspace(graph, cupy, backend):
    steps = [Summing(cupy, backend) for _ in range(2)]
    for step in steps:
        graph.Captured(step, backend)(device(1))
        assert step.seen[0].gemm is backend.handle
    assert steps[0].seen[0].kept is not steps[1].seen[0].kept


def test_a_graph_that_is_gone_frees_its_memory_on_its_own_gpu(graph, step, backend):
    captured = graph.Captured(step, backend)
    captured(device(1))
    pool = step.seen[0].allocator.__self__
    step.seen.clear()
    del captured
    assert pool.freed_on == [backend.ordinal]
    assert fake_cupy.Device.current == 0


def test_a_graph_that_is_gone_gives_its_memory_back_for_the_next_one(graph, step, backend):
    captured = graph.Captured(step, backend)
    for _ in range(4):
        captured(device(1))
    pool = step.seen[0].allocator.__self__
    held = [weakref.ref(step.seen[0].x), weakref.ref(captured(device(1)))]
    pool.free_all_blocks = lambda: freed.append([array() for array in held])
    freed: list = []
    step.seen.clear()
    del captured
    assert freed == [[None, None]], "once nothing of the graph lies in it"
    del pool.free_all_blocks
    two = [graph.Captured(step, backend) for _ in range(2)]
    for again in two:
        again(device(1))
    assert [seen.allocator.__self__ is pool for seen in step.seen] == [True, False], "two at once have one each"
