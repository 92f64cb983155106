"""The one-line check must notice what it is there for: layers and losses with one mistake each."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet import losses, nn, verify
from xpnet.nn import Parameter, ShapeError, init


class Square(nn.Layer):
    """y = x^2, right."""

    def forward(self, x, backend):
        return x * x, lambda dy, need_dx=True: dy * 2 * x


class WrongSlope(nn.Layer):
    def forward(self, x, backend):
        return x * x, lambda dy, need_dx=True: dy * x


class ChangesInput(nn.Layer):
    def forward(self, x, backend):
        x *= 2
        return x, lambda dy, need_dx=True: dy * 2


class ChangesGradient(nn.Layer):
    def forward(self, x, backend):
        def backward(dy, need_dx=True):
            dy *= 2
            return dy

        return x * 2, backward


class SharesCache(nn.Layer):
    def forward(self, x, backend):
        self.x = x
        return x * x, lambda dy, need_dx=True: dy * 2 * self.x


class InDouble(nn.Layer):
    def forward(self, x, backend):
        return x * np.float64(2), lambda dy, need_dx=True: dy * 2


class OnTheHost(nn.Layer):
    def forward(self, x, backend):
        return np.sin(x), lambda dy, need_dx=True: dy * np.cos(x)


class Asks(nn.Layer):
    def forward(self, x, backend):
        return (x if x.sum() > 1e9 else x * 2), lambda dy, need_dx=True: dy * 2


class NoGradient(nn.Layer):
    def forward(self, x, backend):
        return x * x, lambda dy, need_dx=True: None


class MixesSamples(nn.Layer):
    def forward(self, x, backend):
        return x - x.mean(axis=0), lambda dy, need_dx=True: dy - dy.mean(axis=0)


class DrawsInEvaluation(nn.Layer):
    def forward(self, x, backend):
        return x + 0 * backend.rng.random(x.shape, x.dtype), lambda dy, need_dx=True: dy


class KeepsAnother(nn.Layer):
    """Not what it was given: a copy, or a loaded model, is another layer."""

    def __init__(self, scale=1.0):
        self.scale = 2 * scale

    def forward(self, x, backend):
        return x * self.scale, lambda dy, need_dx=True: dy * self.scale


class Overwrites(nn.Layer):
    def build(self, shape):
        self.W = Parameter(shape, init.constant(1.0))
        return shape

    def forward(self, x, backend):
        def backward(dy, need_dx=True):
            self.W.grad[...] = (dy * x).sum(axis=0)
            return dy * self.W.data

        return x * self.W.data, backward


class NothingWithoutDx(Overwrites):
    def forward(self, x, backend):
        def backward(dy, need_dx=True):
            if not need_dx:
                return None
            self.W.add_grad_sum(dy * x)
            return dy * self.W.data

        return x * self.W.data, backward


class InOrderOfMemory(nn.Layer):
    def forward(self, x, backend):
        rows = x.T.reshape(-1).reshape(x.shape) if x.strides[0] < x.strides[-1] else x
        return rows * 2, lambda dy, need_dx=True: dy * 2


class DividesByTheBatch(nn.Layer):
    def forward(self, x, backend):
        n = len(x)
        return x * (1 / n) * n, lambda dy, need_dx=True: dy


class GivesASampleOfItsOwn(nn.Layer):
    def forward(self, x, backend):
        y = x * 2 if len(x) else backend.xp.zeros((1, *x.shape[1:]), x.dtype)
        return y, lambda dy, need_dx=True: 2 * dy[: len(x)]


class TheLatest(nn.Layer):
    """State of the class: only the layer that was built last does what it should."""

    latest = None

    def build(self, shape):
        TheLatest.latest = self
        return shape

    def forward(self, x, backend):
        factor = 1 if TheLatest.latest is self else 2
        return x * factor, lambda dy, need_dx=True: dy * factor


class OffInFloat64(nn.Layer):
    """By less than float32 could show, on a device other than the CPU."""

    def forward(self, x, backend):
        factor = 1 + 1e-9 * (backend.device != "cpu" and backend.dtype == np.float64)
        return x * factor, lambda dy, need_dx=True: dy * factor


class NeverSettles(nn.Layer):
    def build(self, shape):
        self.mean = Parameter(shape, init.zeros, trained=False)
        return shape

    def forward(self, x, backend):
        if backend.training and len(x):
            self.mean.data *= 0.5
            self.mean.data += 0.5 * x.mean(axis=0)
            mean = x.mean(axis=0)
        else:
            mean = 0.5 * self.mean.data  # a forgotten factor
        return x - mean, lambda dy, need_dx=True: dy - dy.mean(axis=0) if backend.training else dy


class KeepsWhatItMade(nn.Layer):
    """What was made of the parameter in the first pass is used ever after."""

    made = None

    def build(self, shape):
        self.a = Parameter(shape, init.constant(1.0))
        return shape

    def doubled(self, backend):
        if self.made is None:
            self.made = 2 * self.a.data
        return self.made

    def forward(self, x, backend):
        doubled = self.doubled(backend)

        def backward(dy, need_dx=True):
            self.a.add_grad_sum(2 * x * dy)
            return dy * doubled

        return x * doubled, backward


class KeepsItForTheBackward(KeepsWhatItMade):
    def forward(self, x, backend):
        _, backward = super().forward(x, backend)
        return x * (2 * self.a.data), backward


class KeepsItInTraining(KeepsWhatItMade):
    """An evaluation uses what the last step of training made, before the update."""

    def doubled(self, backend):
        if backend.training:
            self.made = None
            return super().doubled(backend)
        return 2 * self.a.data if self.made is None else self.made


class KeepsStateOfItsOwn(nn.Layer):
    """A mean that no parameter holds, so that no file does."""

    mean = 0.0

    def forward(self, x, backend):
        if backend.training and len(x):
            self.mean = 0.9 * self.mean + 0.1 * x.mean(axis=0)
            return x * 1, lambda dy, need_dx=True: dy
        return x - self.mean, lambda dy, need_dx=True: dy


class MixesInTraining(nn.Layer):
    """Statistics of the batch, and `by_sample` as it was."""

    def forward(self, x, backend):
        if not (backend.training and len(x)):
            return x * 1, lambda dy, need_dx=True: dy
        return x - x.mean(axis=0), lambda dy, need_dx=True: dy - dy.mean(axis=0)


class FollowsTheBatch(nn.Layer):
    """Samples in a row would leave another mean than the batch does."""

    def build(self, shape):
        self.mean = Parameter(shape, init.zeros, trained=False)
        return shape

    def forward(self, x, backend):
        if backend.training and len(x):
            self.mean.data += 0.1 * (x.mean(axis=0) - self.mean.data)
        return x * 2, lambda dy, need_dx=True: dy * 2


class Draws(nn.Layer):
    def forward(self, x, backend):
        mask = (backend.rng.random(x.shape, x.dtype) > 0.5).astype(x.dtype) if backend.training else 1
        return x * mask, lambda dy, need_dx=True: dy * mask


@pytest.mark.parametrize(
    ("layer", "failing"),
    [
        (WrongSlope, "gradients"),
        (ChangesInput, "inputs unmodified"),
        (ChangesGradient, "inputs unmodified"),
        (SharesCache, "second forward"),
        (InDouble, "dtype kept"),
        (OnTheHost, "agrees with float64 on the CPU"),
        (Asks, "captured"),
        (NoGradient, "gradients"),
        (MixesSamples, "one by one"),
        (DrawsInEvaluation, "deterministic"),
        (KeepsAnother, "saved and loaded"),
        (KeepsAnother, "copy independent"),
        (Overwrites, "gradients accumulate"),
        (NothingWithoutDx, "gradients without dx"),
        (InOrderOfMemory, "strided input"),
        (DividesByTheBatch, "empty batch"),
        (GivesASampleOfItsOwn, "empty batch"),
        (TheLatest, "copy independent"),
        (OffInFloat64, "agrees with float64 on the CPU"),
        (NeverSettles, "settled state"),
        (KeepsWhatItMade, "other values"),
        (KeepsItForTheBackward, "other values"),
        (KeepsItInTraining, "other values"),
        (KeepsStateOfItsOwn, "other values"),
        (MixesInTraining, "by sample"),
        (lambda: nn.Blocked(MixesInTraining(), nn.Linear(3)), "by sample"),
        (FollowsTheBatch, "by sample"),
        (Draws, "by sample"),
    ],
)
def test_a_layer_with_a_mistake_is_caught(layer, failing):
    report = verify.check(layer(), (5,), raises=False)
    assert not report.ok
    assert failing in {f.name for f in report.failed}
    assert f"FAILED  {failing} " in str(report)


def test_a_layer_that_draws_random_numbers_needs_by_sample_false():
    with pytest.raises(verify.CheckFailed, match="a layer that draws random numbers needs by_sample = False"):
        verify.check(Draws(), (5,))


def test_a_layer_that_says_that_it_needs_the_whole_batch_may_mix_and_draw():
    for kind in (MixesInTraining, FollowsTheBatch, Draws):
        layer = type(f"Says{kind.__name__}", (kind,), {"by_sample": False})()
        assert not [f for f in verify.check(layer, (5,), raises=False).failed if f.name == "by sample"]


class RunningSum(nn.Layer):
    by_position = True

    def forward(self, x, backend):
        return x.cumsum(axis=1), lambda dy, need_dx=True: dy[:, ::-1].cumsum(axis=1)[:, ::-1]


class Swaps(nn.Layer):
    """Positions 0 and 2, and no others."""

    by_position = True

    def forward(self, x, backend):
        def swapped(a):
            return backend.xp.concatenate([a[:, 2:3], a[:, 1:2], a[:, :1], a[:, 3:]], axis=1)

        return swapped(x), lambda dy, need_dx=True: swapped(dy)


class EveryOther(nn.Layer):
    by_position = True

    def build(self, shape):
        return (shape[0] // 2, *shape[1:])

    def forward(self, x, backend):
        n = x.shape[1] // 2

        def backward(dy, need_dx=True):
            dx = backend.xp.zeros(x.shape, dy.dtype)
            dx[:, :n] = dy
            return dx

        return x[:, :n] * 1, backward


@pytest.mark.parametrize("kind", [RunningSum, Swaps, EveryOther])
def test_a_layer_that_sees_positions_together_and_says_otherwise_is_caught(kind):
    assert {f.name for f in verify.check(kind(), (5, 2), raises=False).failed} == {"by position"}
    if kind is EveryOther:
        with pytest.raises(verify.CheckFailed, match="y has 2 positions and x 5: the layer needs by_position = False"):
            verify.check(kind(), (5, 2))
    honest = type(f"Honest{kind.__name__}", (kind,), {"by_position": False})
    assert verify.check(honest(), (5, 2)).ok


def tied():
    shared = nn.Linear(3)
    return nn.Sequential(shared, nn.Tanh(), shared)


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Sequential(nn.BatchNorm(), nn.Dropout(0.4)), (3,)),
        (nn.LSTM(2), (3, 2)),
        (nn.MultiHeadAttention(1, causal=True, rotary=True), (3, 2)),
        (nn.TransformerBlock(1, dropout=0.3), (3, 2)),
        (nn.Blocked(nn.Linear(3), nn.LayerNorm(), nn.ReLU()), (4, 2)),
        (tied(), (3,)),
    ],
    ids=["BatchNorm and Dropout", "LSTM", "attention", "TransformerBlock", "Blocked", "tied"],
)
def test_layers_that_keep_state_draw_or_share_are_not_accused(layer, shape):
    verify.check(layer, shape, batch=3)


def test_a_table_of_tokens_is_not_accused():
    tokens = lambda rng, shape: rng.integers(0, 7, shape)
    verify.check(nn.Sequential(nn.Embedding(7, 3), nn.LayerNorm()), (4,), draw=tokens)


def test_what_fails_raises_and_the_message_says_what():
    with pytest.raises(verify.CheckFailed, match="FAILED  gradients ") as caught:
        verify.check(WrongSlope(), (5,))
    assert "gradients" in {f.name for f in caught.value.report.failed}


@pytest.mark.parametrize(
    ("layer", "shape"),
    [
        (nn.Sequential(nn.Linear(3), nn.BatchNorm()), (5,)),
        (nn.Sequential(nn.Conv2d(3, 3), nn.BatchNorm()), (5, 5, 2)),
        (nn.Sequential(nn.LayerNorm(), nn.BatchNorm()), (4,)),
    ],
    ids=["Linear", "Conv2d", "LayerNorm"],
)
def test_a_bias_before_a_batchnorm_has_a_gradient_of_rounding_alone(layer, shape):
    """It is 0 whatever goes in, so that what may be left of its terms is for their own size to say."""
    verify.check(layer, shape)


class ForgetsTheMean(nn.BatchNorm):
    """Its backward leaves out the part that goes through the mean: biases before it get a gradient."""

    def forward(self, x, backend):
        y, _ = super().forward(x, backend)
        return y, lambda dy, need_dx=True: dy * (self.gamma.data / x.std(axis=0))


def test_a_wrong_gradient_before_a_batchnorm_is_not_taken_for_rounding():
    report = verify.check(nn.Sequential(nn.Linear(3), ForgetsTheMean()), (5,), raises=False)
    assert "gradients" in {f.name for f in report.failed}


def test_a_right_layer_passes_and_the_report_can_be_read():
    report = verify.check(Square(), (3, 2), batch=2)
    assert report.ok
    assert not report.failed
    text = str(report)
    assert text.startswith("Square() on 2 samples of shape (3, 2)\n")
    assert "  ok      gradients (4 settings): largest error" in text
    assert text.endswith("checks ok, 0 failed")
    assert len(text.splitlines()) < 25


def test_inputs_of_another_kind():
    report = verify.check(nn.Standardize(3.0, 2.0), (4,), draw=lambda rng, shape: rng.integers(0, 9, shape))
    assert report.ok


def labels(rng, shape):
    return rng.integers(0, shape[1], shape[0])


class WrongMean:
    def __call__(self, y, target, backend):
        value, dy = losses.MeanSquaredError()(y, target, backend)
        return value, dy * y.size / len(y)


class Reads:
    def __call__(self, y, target, backend):
        value, dy = losses.MeanSquaredError()(y, target, backend)
        return float(value), dy


def test_losses():
    assert verify.check_loss(losses.SoftmaxCrossEntropy(0.1), (3,), labels).ok
    spread = lambda rng, shape: rng.standard_normal(shape)
    assert verify.check_loss(losses.MeanSquaredError(), (2, 3), spread).ok
    with pytest.raises(verify.CheckFailed, match="FAILED  gradient "):
        verify.check_loss(WrongMean(), (3,), spread)
    with pytest.raises(verify.CheckFailed, match="FAILED  dtype kept"):
        verify.check_loss(Reads(), (3,), spread)
    with pytest.raises(
        TypeError, match=r"target must be a function that draws targets, .*lambda rng, shape: .* not a ndarray"
    ):
        verify.check_loss(losses.MeanSquaredError(), (3,), np.zeros((4, 3)))
    with pytest.raises(TypeError, match=r"check_loss takes a loss, such as losses\.Huber\(\), not the class Huber"):
        verify.check_loss(losses.Huber, (3,), spread)
    for batch in (0, -1, 2.5):
        with pytest.raises(ValueError, match=f"batch must be a whole number >= 1, not {batch}"):
            verify.check_loss(losses.Huber(), (3,), spread, batch=batch)
        with pytest.raises(ValueError, match=f"batch must be a whole number >= 1, not {batch}"):
            verify.check(nn.ReLU(), (3,), batch=batch)
    with pytest.raises(ShapeError, match="the shape of a sample is a tuple"):
        verify.check_loss(losses.Huber(), 3, spread)


def test_a_loss_that_is_a_function_has_its_name():
    def squares(y, target, backend):
        return losses.MeanSquaredError()(y, target, backend)

    report = verify.check_loss(squares, (2,), lambda rng, shape: rng.standard_normal(shape))
    assert report.title == "squares on 4 outputs of shape (2,)"


def test_a_draw_of_another_shape():
    with pytest.raises(ValueError, match=r"draw returned x of shape \(4, 2\), but was asked for \(4, 3\)"):
        verify.check(nn.ReLU(), (3,), draw=lambda rng, shape: rng.standard_normal((4, 2)))


class ChangesOutputs:
    def __call__(self, y, target, backend):
        y *= 1.5
        return losses.MeanSquaredError()(y, target, backend)


class ChangesTarget:
    def __call__(self, y, target, backend):
        target += 1
        return losses.MeanSquaredError()(y, target, backend)


class Looks:
    def __call__(self, y, target, backend):
        factor = 2 if y.sum() > 1e9 else 1
        value, dy = losses.MeanSquaredError()(y, target, backend)
        return value * factor, dy * factor


class Uploads:
    def __call__(self, y, target, backend):
        return losses.MeanSquaredError()(y, target + backend.asarray(np.ones(1)), backend)


class InOrderOfMemoryToo:
    def __call__(self, y, target, backend):
        value, dy = losses.MeanSquaredError()(y, target, backend)
        flat = dy.reshape(-1)
        flat *= 2  # lost where that is a copy
        return value * 2, dy


class InOneBlock:
    def __call__(self, y, target, backend):
        strides = y.shape[1] * y.itemsize, y.itemsize  # as without gaps
        y = backend.xp.lib.stride_tricks.as_strided(y, y.shape, strides if y.strides[0] > y.strides[1] else y.strides)
        return losses.MeanSquaredError()(y, target, backend)


class NoFloat32:
    def __call__(self, y, target, backend):
        value, dy = losses.MeanSquaredError()(y, target, backend)
        return value, dy * (1 + 1e-4 * (backend.dtype == np.float32))


@pytest.mark.parametrize(
    ("loss", "failing"),
    [
        (ChangesOutputs, "inputs unmodified"),
        (ChangesTarget, "inputs unmodified"),
        (Looks, "captured"),
        (Uploads, "captured"),
        (NoFloat32, "agrees with float64 on the CPU"),
        (InOrderOfMemoryToo, "strided input"),
        (InOneBlock, "strided input"),
    ],
)
def test_a_loss_with_a_mistake_is_caught(loss, failing):
    spread = lambda rng, shape: rng.standard_normal(shape)
    report = verify.check_loss(loss(), (3,), spread, raises=False)
    assert failing in {f.name for f in report.failed}


class OverSome(losses.Loss):
    """The mean over the targets that are not negative, but weighed as if it were over all."""

    def __call__(self, y, target, backend):
        counts = (target >= 0).astype(y.dtype)
        n, d = backend.xp.maximum(counts.sum(), 1), (y - target) * counts
        return (d * d).sum() / n, 2 * d / n


class OverSomeWeighed(OverSome):
    def weight(self, y, target, backend):
        return (target >= 0).sum()


class SumWeighed(losses.MeanSquaredError):
    """A sum, whose mean `evaluate` would take over batches."""

    def __init__(self):
        super().__init__(reduction="sum")

    def weight(self, y, target, backend):
        return 1.0


class MeanWeighed(losses.MeanSquaredError):
    def weight(self, y, target, backend):
        return 1.0


def of_samples(y, target, backend):
    d = y - target
    return (d * d).sum() / len(y), 2 * d / len(y)


def of_all_samples(y, target, backend):
    d = y - target
    return (d * d).sum(), 2 * d


def some_negative(rng, shape):
    targets = rng.uniform(0.1, 2, shape)
    targets[0] = -1
    targets[1:, 0] = -1
    return targets


def test_a_loss_that_compares_samples_is_not_cut():
    def spread(y, target, backend):
        d = y - y.mean(axis=0)
        return -(d * d).sum() / len(y), -2 * d / len(y)

    def draw(rng, shape):
        return rng.standard_normal(shape)

    report = verify.check_loss(spread, (3,), draw, raises=False)
    assert {f.name for f in report.failed} == {"parts of a batch"}
    spread.by_sample = False
    assert verify.check_loss(spread, (3,), draw)


@pytest.mark.parametrize("loss", [OverSome(), MeanWeighed(), SumWeighed(), of_all_samples])
def test_a_loss_whose_parts_do_not_make_the_whole_is_caught(loss):
    report = verify.check_loss(loss, (3,), some_negative, raises=False)
    assert {f.name for f in report.failed} == {"parts of a batch"}


@pytest.mark.parametrize(
    "loss",
    [OverSomeWeighed(), of_samples, losses.MeanSquaredError(), losses.MeanSquaredError(reduction="sum")],
)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_a_loss_whose_parts_make_the_whole_is_not_accused(loss, batch):
    verify.check_loss(loss, (3,), some_negative, batch)


def test_what_cannot_be_checked():
    with pytest.raises(ShapeError, match=r"connects \(4,\)"):
        verify.check(nn.Linear(3, n_in=4), (5,))
    with pytest.raises(ShapeError, match="a tuple, such as"):
        verify.check(nn.Linear(3), 5)
    with pytest.raises(TypeError, match="check takes a layer, such as"):
        verify.check(nn.Linear, (5,))
    with pytest.raises(ValueError, match="batch must be a whole number >= 1, not 0"):
        verify.check(nn.ReLU(), (5,), batch=0)
