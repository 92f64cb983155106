"""Threads: `Blocked` in several gives what it gives in one, errors and Ctrl-C reach the caller, BLAS has one thread."""

from __future__ import annotations

import os
import signal
import threading
import time
from functools import partial

import numpy as np
import pytest
from test_backend import blas, two_threads  # noqa: F401 (a fixture)

from xpnet import nn, select
from xpnet.backend import threads
from xpnet.backend.observer import Observer

SHAPE = (8, 40, 40, 2)


def layers():
    return nn.Conv2d(128, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(4), nn.Blocked(nn.Conv2d(8, 3), nn.Tanh())


def model_of(n_threads, *inner):
    network = nn.Sequential(nn.Blocked(*(inner or layers())), nn.Flatten(), nn.Linear(3))
    return nn.Model(network, SHAPE[1:], select("cpu", seed=3, threads=n_threads))


def results(model, x, need_dx=True):
    model.zero_grad()
    y, backward = model.forward(x)
    dx = backward(np.cos(np.arange(y.size, dtype=y.dtype)).reshape(y.shape), need_dx)
    return y, dx, model.grad.copy()


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).standard_normal(SHAPE, np.float32)


class Watched(nn.Tanh):
    """Notes who runs it: (samples, thread, BLAS threads)."""

    seen: list = []  # noqa: RUF012

    def forward(self, x, backend):
        y, backward_tanh = super().forward(x, backend)
        self.seen.append((len(x), threading.current_thread(), max(blas())))

        def backward(dy, need_dx=True):
            self.seen.append((len(dy), threading.current_thread(), max(blas())))
            return backward_tanh(dy, need_dx)

        return y, backward


@pytest.fixture
def watched():
    Watched.seen = []
    return Watched


# The results -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_threads", "n"), [(2, 8), (3, 8), (2, 7), (3, 4)])
def test_in_threads_as_in_one_and_the_same_bits_each_time(x, n_threads, n):
    want, model = results(model_of(None), x[:n]), model_of(n_threads)
    for again in (False, True):
        got = results(model, x[:n])
        for a, b, what in zip(got, want, ("y", "dx", "gradients"), strict=True):
            assert np.array_equal(a, b) if again else np.abs(a - b).max() <= 1e-5 * np.abs(b).max(), what
        want = got
    assert all(map(np.array_equal, results(model_of(n_threads), x[:n]), want))


def test_each_thread_has_a_part_of_the_batch_in_blocks(x, watched):
    model = model_of(2, *layers()[:3], watched())
    results(model, x)
    caller = threading.current_thread()
    assert sorted(n for n, thread, _ in watched.seen if thread is caller) == [2, 2, 2, 2]
    assert sorted(n for n, thread, _ in watched.seen if thread is not caller) == [2, 2, 2, 2]


def test_a_small_batch_stays_in_one_thread(x, watched):
    results(model_of(2, watched()), x)
    assert {thread for _, thread, _ in watched.seen} == {threading.current_thread()}


def test_fewer_samples_than_threads(x, watched):
    big = np.concatenate([x, x], axis=1)[:3]
    got, want = (
        results(nn.Model(nn.Blocked(nn.Conv2d(200, 3), inner), big.shape[1:], select("cpu", threads=n)), big)
        for n, inner in ((5, watched()), (1, nn.Tanh()))
    )
    assert [n for n, *_ in watched.seen] == [1] * 6  # forward and backward in three threads, none for the other two
    for a, b in zip(got, want, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


def test_without_dx_no_thread_makes_it_and_integers_have_none(x, watched):
    got, want = (
        results(model_of(2, watched(), *layers()), x, need_dx=False),
        results(model_of(2, nn.Tanh(), *layers()), x),
    )
    assert sorted(n for n, *_ in watched.seen) == [
        2,
        2,
        2,
        2,
    ]  # no backward of the first layer, which has no parameters
    assert got[1] is None
    assert np.array_equal(got[2], want[2])
    words = nn.Model(nn.Blocked(nn.Embedding(9, 300)), (400,), select("cpu", threads=2))
    tokens = np.arange(6 * 400).reshape(6, 400) % 9
    y, backward = words.forward(tokens)
    assert backward(np.ones_like(y)) is None
    assert np.array_equal(words.grad.reshape(9, 300)[:, 0], np.bincount(tokens.ravel()))


def test_two_forwards_before_their_backwards(x):
    model = model_of(2)
    (y1, dx1, grad1), (y2, dx2, grad2) = results(model, x), results(model, -x)
    model.zero_grad()
    (one, backward_one), (two, backward_two) = model.forward(x), model.forward(-x)
    dy = np.cos(np.arange(y1.size, dtype=y1.dtype)).reshape(y1.shape)
    assert np.array_equal(backward_two(dy), dx2)
    assert np.array_equal(backward_one(dy), dx1)
    assert np.array_equal(one, y1)
    assert np.array_equal(two, y2)
    assert np.abs(model.grad - grad1 - grad2).max() <= 1e-5 * np.abs(grad1).max()


def test_a_layer_used_twice_has_the_sum_of_its_gradients(x):
    def model(n_threads):
        twice = nn.Conv2d(16, 3, padding="same", n_in=16)
        inner = nn.Blocked(nn.Conv2d(16, 1), twice, nn.Tanh(), twice)
        network = nn.Sequential(inner, nn.Residual(twice))
        return nn.Model(network, SHAPE[1:], select("cpu", seed=3, threads=n_threads))

    got, want = results(model(2), x), results(model(1), x)
    for a, b in zip(got, want, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


def test_values_and_gradients_may_change_their_place(x):
    """New values are seen by all threads, and gradients go where the model keeps them."""
    model, fresh = model_of(2), model_of(2)
    results(model, x)
    for one in (model, fresh):
        one.data *= 0.5
    model.keep_gradients_in(np.empty_like(model.grad))
    assert all(map(np.array_equal, results(model, x), results(fresh, x)))


def test_a_model_that_ran_in_threads_is_copied_and_shown_as_before(x, tmp_path):
    model, fresh = model_of(2), model_of(2)
    results(model, x)
    assert (repr(model), [*model.parameters]) == (repr(fresh), [*fresh.parameters])
    assert np.array_equal(results(model.to(select("cpu", threads=2)), x)[2], results(fresh, x)[2])


# Who sees what ---------------------------------------------------------------------------------------------------


class Told(Observer):
    """Counts what it is told."""

    count = 0

    def forward_begins(self, layer, x):
        self.count += 1


def test_the_team_does_not_keep_the_observer_under_which_it_was_made(x):
    """A large update asks for the team, under whoever observes that step."""
    model, told = model_of(2), Told()
    with model.backend.observed_by(told):
        results(model, x)
        assert model.backend.team is not None
    assert told.count > 0
    told.count = 0
    results(model, x[:4])
    assert told.count == 0


def test_an_observer_sees_one_thread(x, watched):
    model = model_of(2, watched())
    with model.backend.observed_by(Observer()):
        results(model, x)
    assert {(n, thread) for n, thread, _ in watched.seen} == {(len(x), threading.current_thread())}


@pytest.mark.usefixtures("two_threads")
def test_blas_has_one_thread_inside_and_those_of_before_outside(x, watched):
    results(model_of(2, *layers()[:3], watched()), x)
    assert {n for _, _, n in watched.seen} == {1}
    assert set(blas()) == {2}


@pytest.mark.usefixtures("two_threads")
def test_in_the_block_of_a_step_blas_has_one_thread_once_the_team_has_run(x):
    model = model_of(2)
    for _ in range(2):
        with model.backend.threads_for(1), model.backend.threads_for(1):
            assert set(blas()) == {2}
            results(model, x)
            assert set(blas()) == {1}
        assert set(blas()) == {2}
    with model.backend.threads_for(1):
        with model.backend.threads_for(1):
            assert set(blas()) == {2}
        with pytest.raises(ZeroDivisionError):
            model.backend.team.run([lambda: 1, lambda: 1 / 0])
        assert set(blas()) == {1}
    assert set(blas()) == {2}
    results(model, x)
    assert set(blas()) == {2}


def noted_runs(monkeypatch, team):
    """The numbers of jobs that the team does, one after the other. A job that gives it jobs would wait for ever: for a
    thread that runs this very job."""
    runs, run, at_work = [], team.run, threading.Lock()

    def noted(jobs):
        assert at_work.acquire(blocking=False), "a job gives the team jobs"
        runs.append(len(jobs))
        try:
            return run(jobs)
        finally:
            at_work.release()

    monkeypatch.setattr(team, "run", noted)
    return runs


@pytest.mark.parametrize(("rows", "columns"), [(70, 30), (30, 71), (64, 64), (1, 9), (9, 1)])
@pytest.mark.parametrize("given", [False, True])
def test_a_large_product_is_shared_by_the_team(monkeypatch, rows, columns, given):
    monkeypatch.setattr(threads, "LARGE_PRODUCT", rows * columns * 5)
    backend, rng = select("cpu", threads=3), np.random.default_rng(0)
    a, b = rng.standard_normal((rows, 5)), rng.standard_normal((columns, 5)).T
    runs = noted_runs(monkeypatch, backend.team)

    def product():
        out = np.full((rows, columns), np.nan) if given else None
        c = backend.matmul(a, b, out=out)
        np.testing.assert_allclose(c, np.einsum("ij,jk->ik", a, b), rtol=1e-12, atol=1e-12)
        assert out is None or c is out
        backend.matmul(a[:, :4], b[:4])  # one number less a product: too small
        backend.matmul(np.stack([a, a]), np.stack([b, b]))  # and no pair of matrices
        shares, runs[:] = [*runs], []
        return shares

    assert product() == []
    with backend.threads_for(10**9):
        assert product() == []  # BLAS has the cores yet
        backend.team.run([int, int])
        runs.clear()
        assert product() == [3]
    assert product() == []


def test_products_of_a_batch_of_rows_are_shared_too(monkeypatch):
    monkeypatch.setattr(threads, "LARGE_PRODUCT", 1)
    backend, rng = select("cpu", threads=2), np.random.default_rng(0)
    a, b = rng.standard_normal((3, 4, 5)), rng.standard_normal((5, 6))
    runs = noted_runs(monkeypatch, backend.team)
    with backend.threads_for(10**9):
        backend.team.run([int, int, int])
        np.testing.assert_allclose(backend.matmul(a, b), np.einsum("nij,jk->nik", a, b), rtol=1e-12)
    assert runs == [3, 2]


def test_what_a_team_does_not_share(monkeypatch):
    """Products inside its jobs, of two types, and those that are written over what is still read."""
    monkeypatch.setattr(threads, "LARGE_PRODUCT", 1)
    backend, rng = select("cpu", threads=2), np.random.default_rng(0)
    a, b = rng.standard_normal((6, 6)), rng.standard_normal((6, 6)).astype(np.float32)
    runs = noted_runs(monkeypatch, backend.team)
    with backend.threads_for(10**9):
        inside = backend.team.run([partial(backend.matmul, a, a)] * 2)
        with backend.threads_for(10**9):
            mixed = backend.matmul(a, b)
        over = [a.copy(), a.T.copy()]
        for out in over:
            backend.matmul(out, out.T, out=out)
        assert runs == [2]
        backend.matmul(a, a)
        assert runs == [2, 2]  # the block inside has not taken the cores away
    assert mixed.dtype == np.float64
    for got, expected in (
        (inside[0], a @ a),
        (inside[1], a @ a),
        (mixed, a @ b),
        (over[0], a @ a.T),
        (over[1], a.T @ a),
    ):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


def test_mode_and_errstate_are_those_of_the_caller(x):
    class Moody(nn.Tanh):
        def forward(self, x, backend):
            seen.append((backend.training, np.geterr()["over"]))
            return super().forward(x, backend)

    seen: list = []
    model = model_of(2, *layers()[:3], Moody())
    with model.backend.mode(training=True), np.errstate(over="ignore"):
        model.forward(x)
    assert set(seen) == {(True, "ignore")}
    seen.clear()
    with np.errstate(over="raise"):
        model.forward(x)
    assert set(seen) == {(False, "raise")}


def test_memory_of_all_threads_is_counted_and_freed(x):
    model = model_of(2)
    results(model, x)
    own = sum(a.nbytes for a in model.backend.kept.values())
    assert model.backend.memory().pooled > own + 1000
    model.backend.free_memory()
    assert model.backend.memory().pooled == 0


def test_one_thread_needs_no_team():
    assert select("cpu").team is None
    assert select("cpu", threads=1).team is None
    assert [b.team for b in select("cpu", threads=3).team.backends] == [None, None, None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own(x):
    model = model_of(2)
    want = results(model, x)[2]
    child = os.fork()
    if child == 0:
        signal.alarm(20)  # it would wait for ever for threads that are not there
        os._exit(0 if np.array_equal(results(model, x)[2], want) else 3)
    assert os.waitpid(child, 0)[1] == 0


# Errors ----------------------------------------------------------------------------------------------------------


class Broken(nn.Tanh):
    """Fails where x is that of the last sample."""

    def forward(self, x, backend):
        if (x == 7).any():
            raise RuntimeError("the last sample is broken")
        return super().forward(x, backend)


class Lying(Broken):
    def forward(self, x, backend):
        return (x if not (x == 7).any() else x[..., 1:]), lambda dy, need_dx=True: dy


def seven(x):
    return np.concatenate([x[:-1], np.full_like(x[:1], 7)])


def test_an_error_in_a_thread_reaches_the_caller_and_the_model_goes_on(x):
    model, fresh = (model_of(2, Broken(), *layers()) for _ in range(2))
    with pytest.raises(RuntimeError, match="the last sample is broken"):
        model.forward(seven(x))
    assert all(map(np.array_equal, results(model, x), results(fresh, x)))


def test_an_error_in_a_thread_names_the_layer_of_the_model(x):
    model = model_of(2, Lying(), *layers())
    with pytest.raises(nn.ShapeError, match=r"^layers.0.layers.0 \(Lying\): build said") as caught:
        model.forward(seven(x))
    assert caught.value.layer is model.network.layers[0].layers[0]


def test_the_first_error_in_the_order_of_the_jobs():
    def fail(number):
        time.sleep(0.02 * (3 - number))
        raise ValueError(f"job {number}")

    team = threads.Team(select("cpu"), 3)
    for failing in ([0, 1, 2], [1, 2], [2]):
        jobs = [partial(fail, i) if i in failing else lambda: None for i in range(3)]
        with pytest.raises(ValueError, match=f"job {failing[0]}"):
            team.run(jobs)
    assert team.run([lambda i=i: i for i in range(3)]) == [0, 1, 2]


@pytest.mark.parametrize("where", ["in its own job", "waiting"])
def test_ctrl_c_waits_for_the_others(where, request):
    """They write to arrays of the caller, and must not do so after it has gone on."""
    ended = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def press():
        time.sleep(0.05)
        for _ in range(2):
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.05)
        ended.append(True)

    team = threads.Team(select("cpu"), 2)
    with pytest.raises(KeyboardInterrupt):
        team.run([partial(time.sleep, 5 if where == "in its own job" else 0), press])
    assert ended == [True]
    assert team.run([lambda: 1, lambda: 2]) == [1, 2]


@pytest.mark.usefixtures("two_threads")
def test_blas_threads_are_the_least_that_anyone_asks_for():
    outer, inner = threads.blas_threads(2), threads.blas_threads(1)
    outer.__enter__()
    inner.__enter__()
    assert set(blas()) == {1}
    inner.__exit__(None, None, None)
    assert set(blas()) == {2}
    inner = threads.blas_threads(1)
    inner.__enter__()
    outer.__exit__(None, None, None)
    assert set(blas()) == {1}
    with threads.blas_threads(2):
        assert set(blas()) == {1}
    inner.__exit__(None, None, None)
    assert set(blas()) == {2}
