"""Training knows no task: a regression, next-token prediction and two inputs, through fit, resume, check and parity."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import data, losses, nn, optim, train, verify
from xpnet.backend import Backend
from xpnet.verify.strict import StrictBackend

KINDS = pytest.mark.parametrize("kind", [Backend, StrictBackend])


class Sum(nn.Layer):
    """y = a W + b V for two inputs."""

    def build(self, shape):
        first, second = shape
        self.W = nn.Parameter((first[-1], 4), nn.init.he_normal)
        self.V = nn.Parameter((second[-1], 4), nn.init.he_normal)
        return (4,)

    def forward(self, x, backend):
        a, b = x

        def backward(dy, need_dx=True):
            self.W.add_grad(a.T, dy)
            self.V.add_grad(b.T, dy)
            return (backend.matmul(dy, self.W.data.T), backend.matmul(dy, self.V.data.T)) if need_dx else None

        return backend.matmul(a, self.W.data) + backend.matmul(b, self.V.data), backward


class Token(nn.Layer):
    """One-hot rows of token numbers."""

    accepts_integers = True

    def __init__(self, n):
        self.n = n

    def build(self, shape):
        return (*shape, self.n)

    def check_input(self, x):
        if x.size and (x.min() < 0 or x.max() >= self.n):
            raise ValueError(f"token {x.max()} is outside 0..{self.n - 1}")

    def forward(self, x, backend):
        return (x[..., None] == backend.xp.arange(self.n)).astype(backend.dtype), lambda dy, need_dx=True: None


class Heads(nn.Layer):
    """Two outputs, of 2 numbers and of 1."""

    def build(self, shape):
        self.two, self.one = nn.Linear(2), nn.Linear(1)
        return self.two.built(shape), self.one.built(shape)

    def forward(self, x, backend):
        (two, of_two), (one, of_one) = self.two(x, backend), self.one(x, backend)

        def backward(dy, need_dx=True):
            dx = of_two(dy[0], need_dx), of_one(dy[1], need_dx)
            return dx[0] + dx[1] if need_dx else None

        return (two, one), backward


def squares_of_heads(y, target, backend):
    """The squared errors of both outputs, as a mean over samples."""
    d = y[0] - target[:, :2], y[1] - target[:, 2:]
    return ((d[0] * d[0]).sum() + (d[1] * d[1]).sum()) / len(d[0]), tuple(2 * part / len(part) for part in d)


def regression(kind):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((90, 3))
    y = x @ np.array([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0]]) + 0.05 * rng.standard_normal((90, 2)) + 7
    model = nn.Model(nn.Sequential(nn.Linear(16), nn.Tanh(), nn.Linear(2)), (3,), kind("float32", 1))
    return model, losses.MeanSquaredError(), data.Dataset(x.astype(np.float32), y)


def next_token(kind):
    tokens = np.tile(np.array([0, 1, 2, 3, 4, 2], np.uint8), 60)
    model = nn.Model(nn.Sequential(Token(5), nn.Linear(12), nn.ReLU(), nn.Linear(5)), (None,), kind("float32", 1))
    return model, losses.SoftmaxCrossEntropy(), data.next_tokens(tokens, 8)


def two_inputs(kind):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((60, 3)), rng.standard_normal((60, 2))
    labels = (a[:, 0] + b[:, 1] > 0).astype(int)
    network = nn.Sequential(Sum(), nn.Tanh(), nn.Linear(2))
    return (
        nn.Model(network, ((3,), (2,)), kind("float32", 1)),
        losses.SoftmaxCrossEntropy(),
        data.Dataset((a, b), labels),
    )


TASKS = pytest.mark.parametrize("task", [regression, next_token, two_inputs], ids=lambda task: task.__name__)


@KINDS
@TASKS
def test_every_task_learns_and_is_measured(kind, task):
    model, loss, samples = task(kind)
    rest, held_out = data.split(samples, 0.2, seed=0)
    before = train.evaluate(model, loss, held_out)
    result = train.fit(
        model, loss, optim.Adam(model, 0.03), rest, held_out, epochs=12, batch_size=8, keep_best=True, quiet=True
    )
    after = train.evaluate(model, loss, held_out, batch_size=5)
    assert result.eager == ""
    assert after.loss < 0.5 * before.loss
    assert after.loss == pytest.approx(min(row["validation_loss"] for row in result.history), rel=1e-5)
    assert ("accuracy" in after.metrics) == (task is not regression)
    assert ("train_accuracy" in result.history[0]) == (task is not regression)


@TASKS
def test_every_task_resumes_with_the_same_bits(task, tmp_path):
    def run(epochs, **options):
        model, loss, samples = task(Backend)
        result = train.fit(
            model, loss, optim.Adam(model, 0.01), samples, samples, epochs=epochs, batch_size=8, patience=50,
            quiet=True, **options,
        )  # fmt: skip
        return model.tensors(), [{k: v for k, v in row.items() if k != "seconds"} for row in result.history]

    whole = run(4)
    run(2, checkpoint=tmp_path / "run")
    resumed = run(4, checkpoint=tmp_path / "run", resume=True)
    assert whole[1] == resumed[1]
    assert all(np.array_equal(values, resumed[0][name]) for name, values in whole[0].items())


@TASKS
def test_every_task_passes_check_and_parity(task):
    model, _, samples = task(Backend)
    assert verify.parity(model, samples, batch=4, steps=4).ok
    assert verify.parity(model, samples, batch=4, steps=4, second=StrictBackend).ok
    tokens = lambda rng, shape: rng.integers(0, 5, shape)
    draw = tokens if task is next_token else verify.passes.spread
    assert verify.check(model.network.copy(), model.input_shape, draw=draw).ok


def test_a_regression_has_the_metrics_that_are_asked_for():
    model, loss, samples = regression(Backend)
    train.fit(model, loss, optim.Adam(model, 0.03), samples, epochs=30, quiet=True, batch_size=10)
    measured = train.evaluate(model, loss, samples, batch_size=7, metrics=[train.mae, train.r2])
    outputs = model.predict(samples.x)
    assert measured.metrics["mae"] == pytest.approx(np.abs(outputs - samples.y).mean(), rel=1e-5)
    spread = ((samples.y - samples.y.mean()) ** 2).sum()
    assert measured.metrics["r2"] == pytest.approx(1 - ((outputs - samples.y) ** 2).sum() / spread, rel=1e-5)
    assert measured.metrics["r2"] > 0.9
    assert train.r2(outputs, samples.y) == pytest.approx(measured.metrics["r2"], rel=1e-6)


def test_a_mean_over_batches_is_that_over_samples():
    model, _, samples = regression(Backend)
    for weighted in (losses.SoftmaxCrossEntropy(class_weights=[1.0, 9.0]), losses.SoftmaxCrossEntropy(0.1)):
        labels = data.Dataset(samples.x, (samples.x[:, 0] > 0.5).astype(int))
        whole = train.evaluate(model, weighted, labels, batch_size=90)
        assert train.evaluate(model, weighted, labels, batch_size=7).loss == pytest.approx(whole.loss, rel=1e-5)


@KINDS
@pytest.mark.parametrize("n_classes", [1, 2, 300])
def test_cross_entropy_of_class_numbers_is_that_of_one_hot_rows(kind, n_classes):
    rng, backend = np.random.default_rng(0), kind("float64", 0)
    y, target = rng.standard_normal((3, 4, n_classes)), rng.integers(0, n_classes, (3, 4))
    loss = losses.SoftmaxCrossEntropy()
    value, dy = loss(backend.asarray(y), backend.asarray(target), backend)
    want, want_dy = loss(backend.asarray(y), backend.asarray(np.eye(n_classes)[target]), backend)
    np.testing.assert_allclose(backend.to_host(value), backend.to_host(want), rtol=1e-13)
    np.testing.assert_allclose(backend.to_host(dy), backend.to_host(want_dy), rtol=1e-12, atol=1e-18)


# Data ---------------------------------------------------------------------------------------------------------


def test_class_numbers_in_sequences_are_those_of_the_classes_or_below_0():
    """Those below 0 may be ignored, which the loss knows."""
    x = np.zeros((2, 3))
    assert data.Dataset(x, np.array([[0, 1, -100], [1, 0, 0]]), classes=("a", "b")).y.min() == -100
    with pytest.raises(ValueError, match=r"label 2 at index \(1, 2\) is outside 0\.\.1"):
        data.Dataset(x, np.array([[0, 1, -100], [1, 0, 2]]), classes=("a", "b"))


def test_sequences_for_the_next_token():
    tokens = np.arange(10, dtype=np.uint8)
    sequences = data.next_tokens(tokens, 4)
    assert sequences.x.tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert sequences.y.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert sequences.x.dtype == np.uint8
    windows = data.next_tokens(tokens, 4, stride=1)
    assert len(windows) == 6
    for rows in (windows.x, windows.y):  # as many numbers as there are tokens, however many windows
        assert np.ptp([*np.lib.array_utils.byte_bounds(rows)]) <= 8 * len(tokens)
    assert windows.y.dtype == np.int64
    for wrong, message in (
        (tokens[:4], "4 tokens are too few for a sequence of 4 and"),
        (tokens / 2, r"tokens must be integers of shape \(n,\)"),
        (tokens[None], r"tokens must be integers of shape \(n,\), not .* of shape \(1, "),
    ):
        with pytest.raises(ValueError, match=message):
            data.next_tokens(wrong, 4)


def test_targets_of_every_kind():
    x = np.zeros((3, 2))
    named = data.Dataset(x, np.array(["dog", "cat", "dog"]))
    assert (named.classes, named.y.tolist()) == (("cat", "dog"), [1, 0, 1])
    ordered = data.Dataset(x, ["dog", "cat", "dog"], classes=("dog", "cat"))
    assert ordered.y.tolist() == [0, 1, 0]
    numbers = data.Dataset(x, np.array([0.5, 1.5, 2.5], np.float32))
    assert (numbers.classes, numbers.y.dtype) == ((), np.float32)
    assert "targets of 1 float32" in repr(numbers)
    assert data.Dataset(x, np.array([True, False, True])).y.tolist() == [1, 0, 1]
    both = data.Dataset((x, np.zeros((3, 5, 2), np.uint8)), np.arange(3))
    assert repr(both) == "<data: 3 samples of 2 float64 and 5 x 2 uint8, 3 classes>"
    assert both[1:].x[1].shape == (2, 5, 2)
    for y, classes, message in [
        (["bird", "cat", "dog"], ("dog", "cat"), "label 'bird' is not one of the classes dog, cat"),
        (np.array([0.5, 1.0, 2.0]), ("a", "b"), "2 classes need class numbers"),
        (np.array([0.5, np.nan, 2.0]), (), "y: nan at index"),
        (np.array([1j, 2, 3]), (), "class numbers, class names or floating point numbers"),
        (np.array([0, 1, -1]), (), "label -1 at index 2 is not a class number"),
    ]:
        with pytest.raises(ValueError, match=message):
            data.Dataset(x, y, classes)
    with pytest.raises(ValueError, match=r"x\[1\] of shape \(2, 4\) and y of shape \(3,\) need equal lengths"):
        data.Dataset((x, np.zeros((2, 4))), np.arange(3))


def test_a_regression_is_split_and_folded():
    samples = data.Dataset(np.arange(20.0)[:, None], np.arange(20.0))
    rest, part = data.split(samples, 0.25, seed=1)
    assert (len(rest), len(part)) == (15, 5)
    assert sorted([*rest.y, *part.y]) == list(range(20))
    seen = [validation.y.tolist() for _, validation in data.kfold(samples, 3, seed=0)]
    assert sorted(i for part in seen for i in part) == list(range(20))
    assert seen != [validation.y.tolist() for _, validation in data.kfold(samples, 3, seed=1)]


@KINDS
def test_weights_and_ignored_places_train_like_data_without_them(kind):
    """Places that do not count change nothing, in fit and in evaluate; neither do they in the accuracy."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (6, 4)), rng.integers(0, 5, (6, 4))
    junk = np.concatenate([x, rng.integers(0, 5, (6, 2))], axis=1)
    ignored = np.concatenate([y, np.full((6, 2), -100)], axis=1)
    nonsense = np.concatenate([y, rng.integers(0, 5, (6, 2))], axis=1)
    mask = np.repeat([[True, True, True, True, False, False]], 6, axis=0)

    def trained(samples, loss):
        model = nn.Model(nn.Sequential(Token(5), nn.Linear(5)), (None,), kind("float32", 1))
        result = train.fit(
            model, loss, optim.SGD(model, 0.5), samples, samples, epochs=2, batch_size=4, keep_best=True, quiet=True
        )
        return model.tensors()["layers.1.W"], result.history[-1]

    W, row = trained(data.Dataset(x, y), losses.SoftmaxCrossEntropy())
    for samples in (data.Dataset(junk, ignored), data.Dataset(junk, nonsense, weights=mask)):
        got, got_row = trained(samples, losses.SoftmaxCrossEntropy(ignore=-100))
        assert np.abs(got - W).max() <= 1e-6
        for figure in ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy"):
            assert got_row[figure] == pytest.approx(row[figure], rel=1e-5)


@KINDS
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("accumulate", [2, 3, 7])
def test_parts_of_a_batch_add_up_to_the_whole(kind, accumulate, reduction):
    """The same value, outputs and gradients, where samples differ in weight and parts in length, also captured."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 5, (10, 4)), rng.integers(0, 5, (10, 4))
    y[rng.random(y.shape) < 0.5] = -100
    weights = rng.choice([0.0, 0.25, 1.0], 10)
    loss = losses.SoftmaxCrossEntropy(0.1, [1.0, 2.0, 0.5, 1.0, 3.0], -100, reduction)

    def step_of(parts):
        model = nn.Model(nn.Sequential(Token(5), nn.Linear(5)), (4,), kind("float64", 1))
        put, optimizer = model.backend.asarray, optim.SGD(model, 0.01, momentum=0.5)
        step = model.backend.capture(
            lambda x, *target: train.train_step(model, loss, optimizer, x, target, clip=1e3, accumulate=parts)
        )
        for _ in range(4):
            value, outputs = step(put(x), put(y), put(weights))
        to_host = model.backend.to_host
        return np.array(to_host(value)), np.array(to_host(outputs)), np.array(to_host(model.data))

    for got, want in zip(step_of(accumulate), step_of(1), strict=True):
        assert got.shape == want.shape
        assert np.abs(got - want).max() <= 1e-12


def test_nothing_that_counts_adds_up_to_nothing():
    model = nn.Model(nn.Sequential(Token(5), nn.Linear(5)), (4,), Backend())
    optimizer, before = optim.SGD(model, 0.1), model.tensors()["layers.1.W"]
    x, y = np.zeros((6, 4), int), np.full((6, 4), -100)
    value, _ = train.train_step(model, losses.SoftmaxCrossEntropy(ignore=-100), optimizer, x, y, accumulate=2)
    assert float(value) == 0
    assert np.array_equal(model.tensors()["layers.1.W"], before)


def test_fit_accumulates():
    """The same run, but for rounding; also of a plain function as a loss, and for a last batch of fewer samples."""

    def history(**options):
        model, loss, samples = regression(Backend)
        plain = lambda y, target, backend: loss(y, target, backend)
        result = train.fit(
            model, plain, optim.SGD(model, 0.05), samples, epochs=3, batch_size=32, metrics=[train.mae], quiet=True,
            **options,
        )  # fmt: skip
        return [(row["train_loss"], row["train_mae"]) for row in result.history]

    assert np.allclose(history(accumulate=5), history(), rtol=1e-4)
    assert history(accumulate=5) != history()
    with pytest.raises(ValueError, match="accumulate must be a whole number >= 1, not 0"):
        history(accumulate=0)


@KINDS
@pytest.mark.parametrize("options", [{"batch_size": 3}, {"batch_size": 4}, {"batch_size": 10, "accumulate": 3}])
def test_several_outputs_count_as_many_samples_as_each_of_them_has(kind, options):
    rng = np.random.default_rng(0)
    samples = data.Dataset(rng.standard_normal((10, 3)), rng.integers(0, 9, (10, 3)))

    def trained(lr, **options):
        model = nn.Model(nn.Sequential(nn.Linear(3), Heads()), (3,), kind("float64", 1))
        start = train.evaluate(model, squares_of_heads, samples, options["batch_size"])
        optimizer = optim.SGD(model, lr)
        row = train.fit(model, squares_of_heads, optimizer, samples, epochs=1, quiet=True, **options).history[0]
        return start.loss, row["train_loss"], model.backend.to_host(model.data), start.metrics

    start, mean, _, metrics = trained(0.0, **options)
    expected, _, _, _ = trained(0.0, batch_size=10)
    assert start == pytest.approx(expected)
    assert mean == pytest.approx(expected)
    assert metrics == {}
    if "accumulate" in options:
        _, _, whole, _ = trained(0.1, batch_size=10)
        assert np.abs(trained(0.1, **options)[2] - whole).max() <= 1e-12


@pytest.mark.parametrize("several", [tuple, list])
def test_an_output_that_the_loss_does_not_use_has_no_gradient(several):
    """Its dy is None, also where the gradient of the loss is multiplied: by the weight of a part, by the loss scale."""

    def last_state(y, target, backend):
        value, dh = losses.MeanSquaredError()(y[1][:, 0], target, backend)
        return value, several([None, dh[:, None]])

    rng = np.random.default_rng(0)
    samples = data.Dataset(rng.standard_normal((10, 4, 2)), rng.standard_normal((10, 3)))

    def trained(backend, accumulate=1):
        model = nn.Model(nn.RNN(3, return_state=True), (4, 2), backend)
        train.fit(model, last_state, optim.SGD(model, 0.1), samples, epochs=2, accumulate=accumulate, quiet=True)
        return backend.to_host(model.data)

    whole = trained(Backend("float64", 1))
    np.testing.assert_allclose(trained(Backend("float64", 1), accumulate=3), whole, rtol=1e-10)
    np.testing.assert_allclose(trained(StrictBackend("float32", 1, "float16")), whole, atol=1e-3)


def test_several_outputs_come_out_whole_of_a_step_in_parts():
    x, target, steps = np.random.default_rng(0).standard_normal((5, 3)), np.ones((5, 3)), []
    for parts in (1, 2):
        model = nn.Model(nn.Sequential(Heads()), (3,), Backend("float64", 1))
        value, y = train.train_step(model, squares_of_heads, optim.SGD(model, 0.1), x, target, accumulate=parts)
        steps.append((value, *y))
    for got, want in zip(*steps, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_fit_averages_the_weights(tmp_path):
    """Each row measures the averages, the best of them are kept, and a run that is resumed goes on with them."""

    def run(epochs, averaged=True, **options):
        model, loss, samples = regression(Backend)
        average = optim.WeightAverage(model, 0.9)
        result = train.fit(
            model, loss, optim.SGD(model, 0.3), samples, samples, epochs=epochs, batch_size=30, quiet=True,
            average=average if averaged else None, **options,
        )  # fmt: skip
        return model, average, result, train.evaluate(model, loss, samples).loss

    model, average, result, own = run(4)
    _, _, plain, own_of_plain = run(4, averaged=False)
    assert own == own_of_plain == plain.history[-1]["validation_loss"]  # the averages do not change the training
    assert float(average.steps[0]) == 4 * 3
    with average.applied():
        averages = model.tensors()
        assert train.evaluate(model, *regression(Backend)[1:]).loss == result.history[-1]["validation_loss"] != own
    best, _, kept, measured = run(4, keep_best=True)
    assert measured == min(row["validation_loss"] for row in kept.history)
    assert kept.best_epoch < 4 or all(np.array_equal(best.tensors()[k], averages[k]) for k in averages)
    run(2, checkpoint=tmp_path / "run.safetensors")
    _, again, _, _ = run(4, checkpoint=tmp_path / "run.safetensors", resume=True)
    assert np.array_equal(again.values, average.values)
    with pytest.raises(ValueError, match=r"belongs to another run: its average is 0\.9"):
        run(4, averaged=False, checkpoint=tmp_path / "run.safetensors", resume=True)
    other = regression(Backend)
    with pytest.raises(ValueError, match="average was made for another model"):
        train.fit(other[0], other[1], optim.SGD(other[0], 0.1), other[2], epochs=1, average=average)


def test_a_run_with_frozen_layers_goes_on_with_the_same(tmp_path):
    def run(epochs, frozen, resume):
        model, loss, samples = regression(Backend)
        start = model.tensors()
        if frozen:
            model.freeze("layers.0.*")
        train.fit(
            model,
            loss,
            optim.AdamW(model),
            samples,
            epochs=epochs,
            quiet=True,
            checkpoint=tmp_path / "run",
            resume=resume,
        )
        return {name for name, values in model.tensors().items() if (values != start[name]).any()}

    assert run(1, True, False) == run(2, True, True) == {"layers.2.W", "layers.2.b"}
    with pytest.raises(ValueError, match=r"another run: its frozen is \['layers\.0\.W', 'layers\.0\.b'\]"):
        run(3, False, True)


def test_figures_of_a_sum_are_means_all_the_same():
    model, _, samples = regression(Backend)
    mean, total = (train.evaluate(model, losses.MeanSquaredError(r), samples, 40).loss for r in ("mean", "sum"))
    assert total == pytest.approx(mean)


def test_weights_stay_with_their_samples():
    samples = data.Dataset(np.arange(12.0)[:, None], np.arange(12.0), weights=np.arange(12))
    assert samples.weights.dtype == np.float32
    for part in (*data.split(samples, 0.25, seed=1), samples[3:5], samples.take(np.array([7, 2]))):
        assert part.weights.tolist() == part.y.tolist()
    assert samples.digest() != data.Dataset(samples.x, samples.y).digest()
    assert samples.digest() != data.Dataset(samples.x, samples.y, weights=np.ones(12)).digest()
    for wrong, message in (
        (np.ones(11), r"weights must be numbers of y's shape \(12,\)"),
        (np.full(12, -1.0), "weights must be >= 0, not -1.0 at index"),
        (np.full(12, np.inf), "data: weights: inf at index"),
        (["a"] * 12, "weights must be numbers of y"),
    ):
        with pytest.raises(ValueError, match=message):
            data.Dataset(samples.x, samples.y, weights=wrong)


def test_data_that_does_not_fit_is_named():
    model, loss, _ = next_token(Backend)
    with pytest.raises(ValueError, match=r"odd: token 7 is outside 0\.\.4"):
        train.fit(
            model, loss, optim.SGD(model, 0.1), data.next_tokens(np.full(9, 7), 4, name="odd"),
            epochs=1, batch_size=1, quiet=True,
        )  # fmt: skip
    with pytest.raises(ValueError, match=r"late: outputs of shape .* need targets"):
        train.evaluate(model, loss, data.Dataset(np.zeros((2, 4), int), np.zeros((2, 3)), name="late"))
    rows = np.full((2, 4, 5), 0.2)
    late = data.Dataset(np.zeros((2, 4), int), rows, name="late", weights=np.ones((2, 4, 5)))
    with pytest.raises(ValueError, match=r"late: weights of shape .* do not fit a loss with terms of shape \(2, 4\)"):
        train.evaluate(model, loss, late)
    with pytest.raises(ValueError, match=r"late: .*label -100 at index \(0, 0\) is outside 0\.\.4"):
        train.evaluate(model, loss, data.Dataset(np.zeros((2, 4), int), np.full((2, 4), -100), name="late"))
