"""Processes (here threads) that share an update: each updates its part, and all end with the whole."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest
from thread_group import SharingGroup, ThreadGroup, together

from xpnet import data, losses, nn, optim, train
from xpnet.backend import Backend, Observer
from xpnet.nn.saving import read_tensors
from xpnet.parallel import ALONE, OthersFailed
from xpnet.parallel.window import Window

share = partial(together, kind=SharingGroup)
OPTIMIZERS = [
    partial(optim.SGD, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    partial(optim.RMSProp, lr=0.01, groups={"layers.0.*": {"lr": 0.1}}),
    partial(optim.AdaGrad, lr=0.01),
    partial(optim.AdamW, lr=0.01, weight_decay=0.1, groups={"*.W": {"lr": 0.5, "weight_decay": 2}}),
    partial(optim.NAdam, lr=0.01),
    partial(optim.Lion, lr=0.01, weight_decay=0.1),
    partial(optim.LAMB, lr=0.01, weight_decay=0.1),
    partial(optim.Muon, lr=0.01),
]


def model_of(dtype="float64", layers=()):
    layers = [nn.Linear(8), nn.LeakyReLU(), *(layer.copy() for layer in layers), nn.Linear(3)]
    return nn.Model(nn.Sequential(*layers), (3,), Backend(dtype, 3))


def points():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 48)
    return (np.eye(3)[y] + 0.5 * rng.standard_normal((48, 3))).astype(np.float32), y


def steps(group, kind, n=4, clip=None, freeze=()):
    """So many steps by a part of the same samples: the model, the optimizer."""
    model, (x, y), part = model_of(), points(), group.share(slice(0, 48))
    model.freeze(*freeze)
    optimizer, loss = kind(model), losses.SoftmaxCrossEntropy()
    with optimizer.shared_by(group):
        for _ in range(n):
            train.train_step(model, loss, optimizer, x[part].astype(float), y[part], clip, group=group)
    return model, optimizer


def trained(group, dtype="float64", layers=(), **options):
    model = model_of(dtype, layers)
    optimizer = optim.AdamW(model, 0.01)
    settings = {"epochs": 2, "batch_size": 16, "quiet": True, "group": group, **options}
    train.fit(model, losses.SoftmaxCrossEntropy(), optimizer, data.Dataset(*points()), **settings)
    return model, optimizer


def close(a, b):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


# The same as alone ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [2, 3, 6])  # 6: more processes than parameters
@pytest.mark.parametrize("kind", OPTIMIZERS, ids=lambda kind: kind.func.__name__)
def test_each_optimizer_updates_as_one_process_does(kind, size):
    alone, optimizer = steps(ALONE, kind)
    outcomes = share(size, partial(steps, kind=kind))
    for model, theirs in outcomes:
        close(model.data, alone.data)
        for name, state in optimizer.tensors().items():
            close(theirs.tensors()[name], state)
        assert model.data.tobytes() == outcomes[0][0].data.tobytes()


@pytest.mark.parametrize("kind", [OPTIMIZERS[3], OPTIMIZERS[-2]], ids=["AdamW", "LAMB"])
def test_what_is_frozen_stays_and_does_not_count(kind):
    options = {"kind": kind, "clip": 0.01, "freeze": ("layers.0.*",)}
    alone, first = steps(ALONE, **options)[0], model_of()
    for model, _ in share(2, partial(steps, **options)):
        close(model.data, alone.data)
        place = model.places["layers.0.W"]
        assert (model.data[place] == first.data[place]).all()


def test_the_same_bits_each_time():
    runs = [share(3, partial(trained, dtype="float32", layers=[nn.Dropout(0.3)])) for _ in range(2)]
    assert runs[0][0][0].data.tobytes() == runs[1][2][0].data.tobytes()


def test_statistics_and_averages_are_those_of_processes_that_share_nothing():
    def run(group):
        return trained(group, layers=[nn.BatchNorm()], clip=0.1, epochs=2)

    for (model, _), (other, _) in zip(share(2, run), together(2, run), strict=True):
        close(model.data, other.data)


def test_a_model_of_fewer_numbers_than_processes():
    def run(group):
        model = nn.Model(nn.Linear(2, bias=False), (1,), Backend("float64", 3))
        optimizer, part = optim.SGD(model, 0.1), group.share(slice(0, 48))
        with optimizer.shared_by(group):
            x, y = points()[0][part, :1].astype(float), points()[1][part] // 2
            train.train_step(model, losses.SoftmaxCrossEntropy(), optimizer, x, y, clip=0.01, group=group)
        return model.data

    for values in share(3, run):
        close(values, run(ALONE))


def test_a_gradient_whose_square_overflows_is_clipped():
    def clipped(group):
        model = model_of("float32")
        optimizer = optim.SGD(model, 1.0)
        with optimizer.shared_by(group):
            model.grad[...] = np.linspace(-1e30, 2e30, model.n_parameters)
            if optimizer.window is not None:
                optimizer.window.meet()
            optim.clip_norm(model, 3.0, optimizer.window)
            return model.grad[optimizer.own].copy()

    whole = clipped(ALONE)
    np.testing.assert_allclose(np.linalg.norm(whole), 3, rtol=1e-5)
    np.testing.assert_allclose(np.concatenate(share(2, clipped)), whole, rtol=1e-5)


# Who has what ---------------------------------------------------------------------------------------------------


def test_each_process_has_the_state_of_its_own_part_alone():
    def run(group):
        model, (x, y), part = model_of(), points(), group.share(slice(0, 48))
        optimizer = optim.Adam(model)
        with optimizer.shared_by(group):
            train.train_step(
                model, losses.SoftmaxCrossEntropy(), optimizer, x[part].astype(float), y[part], group=group
            )
            return np.flatnonzero(optimizer.state["squares"]), optimizer.own

    for kept, own in share(2, run):
        assert len(kept)
        assert (own.start <= kept).all()
        assert (kept < own.stop).all()


@pytest.mark.parametrize("edges", [(), (0, 24, 48, 56, 59)])
@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_parts_are_all_numbers_once_and_about_alike(size, edges):
    notes, gradients = np.zeros((size, 3)), [np.zeros(59) for _ in range(size)]
    parts = []
    for rank in range(size):
        window = Window(rank, gradients, np.zeros(59), notes, lambda: None)
        window.divide(edges)
        parts.append(window.own)
    assert [i for part in parts for i in range(59)[part]] == list(range(59))
    lengths = [part.stop - part.start for part in parts]
    if edges:
        assert {part.start for part in parts} | {59} <= {*edges}
        assert max(lengths) <= 59 // size + 24
    else:
        assert max(lengths) - min(lengths) <= 1


class Ends(Observer):
    def __init__(self):
        self.data = []

    def step_ends(self, optimizer):
        self.data.append(optimizer.model.data.copy())


def test_a_step_ends_when_all_parts_are_there():
    def run(group):
        model, (x, y), part = model_of(), points(), group.share(slice(0, 48))
        optimizer, observer = optim.SGD(model, 0.1), Ends()
        with optimizer.shared_by(group), model.backend.observed_by(observer):
            train.train_step(
                model, losses.SoftmaxCrossEntropy(), optimizer, x[part].astype(float), y[part], group=group
            )
        return observer.data, model.data

    for seen, values in share(2, run):
        np.testing.assert_array_equal(seen, [values])


def test_a_step_that_leaves_the_group_out_is_refused():
    def run(group):
        model, (x, y) = model_of(), points()
        optimizer = optim.SGD(model, 0.1)
        with optimizer.shared_by(group), pytest.raises(ValueError, match="train_step needs their group"):
            train.train_step(model, losses.SoftmaxCrossEntropy(), optimizer, x.astype(float), y)

    assert share(2, run) == [None] * 2


# The meetings ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slow", [0, 1])
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_process_that_is_late_reads_and_is_read_all_the_same(slow, when):
    """Whoever it is, and whether it comes late to a meeting or goes on late from it."""

    def run(group):
        window = group.window(np.zeros(10))
        meet, late = window.meet, 0.01 if group.rank == slow else 0.0

        def slowly():
            time.sleep(late * (when == "before"))
            meet()
            time.sleep(late * (when == "after"))

        window.meet = slowly
        values, sums = np.zeros(10), []
        for step in range(4):
            window.grad[...] = 10 * step + group.rank
            weight = window.sum_gradients(window.grad, step + group.rank)
            numbers = window.gather(step, group.rank)
            values[window.own] = window.grad[window.own]
            window.exchange(values)
            sums.append((weight.tolist(), numbers.tolist(), values.tolist()))
        return sums

    expected = [([2.0 * k + 1], [[k, 0], [k, 1]], [20.0 * k + 1] * 10) for k in range(4)]
    assert share(2, run) == [expected] * 2


@pytest.mark.parametrize("slow", [0, 1])
def test_the_whole_state_is_brought_together_one_array_after_the_other(slow):
    def run(group):
        model = model_of()
        optimizer = optim.Adam(model)
        with optimizer.shared_by(group):
            meet = optimizer.window.meet
            optimizer.window.meet = lambda: (meet(), time.sleep(0.01 * (group.rank == slow)))
            for number, name in enumerate(optimizer.state_names, start=1):
                optimizer.state[name][optimizer.own] = number
            optimizer.window.exchange(model.data[: model.n_parameters])
            optimizer.gather_state()
            return [np.unique(optimizer.state[name]).tolist() for name in optimizer.state_names]

    assert share(2, run) == [[[1.0], [2.0]]] * 2


# Between epochs, and afterwards ---------------------------------------------------------------------------------


@pytest.mark.parametrize("then", [ALONE, ThreadGroup, SharingGroup], ids=["alone", "shared nothing", "shared"])
def test_a_checkpoint_has_the_whole_state_and_goes_on_anywhere(then, tmp_path):
    path, (whole, optimizer) = tmp_path / "run", trained(ALONE)
    share(2, partial(trained, checkpoint=path, callbacks=[lambda row, model: row["epoch"] == 1]))
    assert read_tensors(path)[0]["run/optimizer.squares"].all()

    resume = partial(trained, checkpoint=path, resume=True)
    outcomes = [resume(then)] if then is ALONE else together(3, resume, then)
    for model, theirs in outcomes:
        close(model.data, whole.data)
        for name, state in theirs.tensors().items():
            close(state, optimizer.tensors()[name])


def test_a_run_writes_a_whole_checkpoint_in_mid_epoch(tmp_path):
    def begun(group):
        model = model_of()
        return train.Run(
            model, losses.SoftmaxCrossEntropy(), optim.Adam(model), data.Dataset(*points()), 16, group=group
        )

    def go(run, n):
        with run.model.backend.mode(training=True), run.optimizer.shared_by(run.group):
            for _ in range(n):
                run.step()
            return run.tensors()

    alone = go(begun(ALONE), 2)
    for tensors in share(2, lambda group: go(begun(group), 2)):
        close(tensors["optimizer.sum"], alone["optimizer.sum"])
        close(tensors["optimizer.squares"], alone["optimizer.squares"])


def test_a_callback_sees_the_whole_state():
    seen = []

    def run(group):
        model = model_of()
        optimizer = optim.Adam(model)
        train.fit(
            model, losses.SoftmaxCrossEntropy(), optimizer, data.Dataset(*points()), epochs=1, batch_size=16,
            quiet=True, group=group, callbacks=[lambda row, model: seen.append(optimizer.tensors())],
        )  # fmt: skip

    run(ALONE)
    share(2, run)
    alone, shared = seen
    for name, state in alone.items():
        close(shared[name], state)


def test_afterwards_each_process_is_its_own_master():
    def run(group):
        model, optimizer = trained(group)
        assert optimizer.window is None
        assert optimizer.own == slice(0, model.n_parameters)
        before = model.data.copy()
        if group.rank == 0:  # nobody waits
            model.grad[...] = 1
            optimizer.step()
        return (model.data != before).any()

    assert share(2, run) == [True, False]


@pytest.mark.parametrize("in_all", [True, False])
def test_after_an_error_that_all_have_the_state_is_whole_and_one_of_its_own_waits_for_nobody(in_all):
    def run(group):
        model, (x, y), part = model_of(), points(), group.share(slice(0, 48))
        optimizer, loss = optim.Adam(model), losses.SoftmaxCrossEntropy()
        with suppress(OthersFailed, ZeroDivisionError), optimizer.shared_by(group):
            train.train_step(model, loss, optimizer, x[part].astype(float), y[part], group=group)
            if in_all:
                group.first(lambda: 1 // 0)
            raise ZeroDivisionError
        assert optimizer.window is None
        return bool(optimizer.state["squares"].all())

    assert share(2, run) == [in_all] * 2
