"""The scalar engine's training: it learns, it is repeatable, it can be resumed, and it stops at nonsense."""

from __future__ import annotations

import math
import random
import re

import pytest

from xpnet.scalar import BasicNet, Progress, Value, accuracy, cross_entropy, softmax_squared_error, train

XOR = [([0.0, 0.0], 0), ([0.0, 1.0], 1), ([1.0, 0.0], 1), ([1.0, 1.0], 0)]


def silent(line: str) -> None:
    pass


def clusters(n: int) -> list[tuple[list[float], int]]:
    """Points around three centres in the plane."""
    rng = random.Random(7)
    centres = [(0.0, 2.0), (2.0, -1.0), (-2.0, -1.0)]
    return [([c + rng.uniform(-0.5, 0.5) for c in centres[k % 3]], k % 3) for k in range(n)]


def numbers(net: BasicNet) -> list[float]:
    return [p.data for p in net.get_parameters()]


@pytest.mark.parametrize(("loss", "rates"), [(cross_entropy, (0.1, 0.3)), (softmax_squared_error, (0.5, 1.5))])
def test_it_learns_xor(loss, rates):
    net = BasicNet.random([2, 8, 2], ["tanh", "linear"], seed=3)
    progress = train(net, XOR, 1500, rates=rates, loss=loss, log=silent)
    assert accuracy(net, XOR) == 1.0
    assert progress.seen == 1500


def test_one_update_is_plain_gradient_descent():
    net, twin = BasicNet.random([2, 3], seed=1), BasicNet.random([2, 3], seed=1)
    twin.get_parameters()[0].grad = 123.0  # left over from something else: must not matter
    train(twin, [([1.0, 2.0], 1)], 1, rates=(0.25, 0.25), log=silent)
    cross_entropy(net.feed([Value(1.0), Value(2.0)]), 1).backward()
    assert numbers(twin) == [p.data - 0.25 * p.grad for p in net.get_parameters()]


def test_the_seed_decides_the_rates():
    def trained(seed):
        net = BasicNet.random([2, 4, 3], seed=0)
        train(net, clusters(30), 60, seed=seed, log=silent)
        return numbers(net)

    assert trained(1) == trained(1)
    assert trained(1) != trained(2)


@pytest.mark.parametrize("stop", [1, 37, 99])
def test_resumed_is_the_same_as_uninterrupted(tmp_path, stop):
    samples = clusters(30)
    whole = BasicNet.random([2, 4, 3], seed=0)
    train(whole, samples, 100, warm_up=50, log=silent)

    part = BasicNet.random([2, 4, 3], seed=0)
    train(part, samples, stop, warm_up=50, log=silent)
    part.save(tmp_path / "net.json")
    resumed = BasicNet.load(tmp_path / "net.json")
    train(resumed, samples, 100 - stop, start=stop, warm_up=50, log=silent)
    assert numbers(resumed) == numbers(whole)


def test_right_samples_are_skipped_after_the_warm_up_only():
    net = BasicNet.from_lists([[[5.0], [-5.0]]], [[0.0, 0.0]])
    right, wrong = ([1.0], 0), ([1.0], 1)
    before = numbers(net)
    progress = train(net, [right], 5, warm_up=0, log=silent)
    assert (progress.updates, progress.right, progress.accuracy) == (0, 5, 1.0)
    assert numbers(net) == before

    assert train(net, [right], 5, warm_up=3, log=silent).updates == 3
    assert train(net, [right], 5, start=2, warm_up=3, log=silent).updates == 1  # counted from the very first
    assert train(net, [wrong], 1, warm_up=0, log=silent).updates == 1
    assert numbers(net) != before


def test_log_lines_say_when_how_far_and_how_well():
    lines: list[str] = []
    net = BasicNet.random([2, 4, 3], seed=0)
    progress = train(net, clusters(30), 60, log_every=20, log=lines.append)
    assert len(lines) == 3
    pattern = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  sample 60  loss (\d\.\d{4})  accuracy (\d+\.\d)%  updates 60"
    found = re.fullmatch(pattern, lines[-1])
    assert found is not None
    assert float(found[1]) == pytest.approx(progress.loss, abs=1e-4)
    assert float(found[2]) == pytest.approx(100 * progress.accuracy, abs=0.1)


def test_progress_before_the_first_sample():
    assert train(BasicNet.random([2, 3]), XOR, 0) == Progress()
    assert str(Progress()) == "loss 0.0000  accuracy 0.0%  updates 0"


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_bad_loss_stops_and_leaves_the_last_good_weights(bad):
    net, twin = BasicNet.random([2, 4, 3], seed=0), BasicNet.random([2, 4, 3], seed=0)
    samples = [*clusters(5), ([bad, 1.0], 0)]
    with pytest.raises(FloatingPointError, match="the loss is nan at sample 5"):
        train(net, samples, 10, log=silent)
    train(twin, samples, 5, log=silent)
    assert numbers(net) == numbers(twin)


def test_rates_far_too_high_stop_with_an_error():
    net = BasicNet.random([2, 8, 2], seed=0)
    with pytest.raises(FloatingPointError, match="try rates below"):
        train(net, XOR, 500, rates=(1e150, 1e155), log=silent)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"samples": []}, "no samples"),
        ({"count": -1}, "count and start must be >= 0"),
        ({"start": -1}, "count and start must be >= 0"),
        ({"log_every": 0}, "log_every >= 1"),
        ({"rates": (0.2, 0.1)}, "0 < low <= high"),
        ({"rates": (0.0, 0.1)}, "0 < low <= high"),
        ({"rates": (0.1, math.nan)}, "0 < low <= high"),
        ({"rates": 0.1}, "must be a range"),
        ({"samples": [([0.0, 1.0], "1")]}, "label '1' is not one of"),
        ({"samples": [([0.0, 1.0], 9)]}, "label 9 is not one of the 2 classes"),
        ({"samples": [([0.0, 1.0, 2.0], 1)]}, "takes 2 inputs, not 3"),
    ],
)
def test_bad_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        train(BasicNet.random([2, 2]), **{"samples": XOR, "count": 4, **arguments})


def test_accuracy_of_nothing():
    with pytest.raises(ValueError, match="no samples"):
        accuracy(BasicNet.random([2, 2]), [])
