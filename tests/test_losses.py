"""Every loss of the table of cases, against all its witnesses; large logits; targets that do not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xpnet import losses
from xpnet.backend import Backend
from xpnet.verify.cases import LOSSES
from xpnet.verify.cases import loss as ref
from xpnet.verify.check import loss_findings
from xpnet.verify.passes import target_of
from xpnet.verify.report import finding
from xpnet.verify.rows import name
from xpnet.verify.tolerances import FLOAT32
from xpnet.verify.witnesses import loss_by_formula, loss_by_scalars

numbers = st.floats(-1e4, 1e4, width=32)


@pytest.mark.parametrize("case", LOSSES, ids=name)
def test_invariants_gradient_and_agreement(case, kind):
    for batch in case.batches:
        failed = [f for f in loss_findings(case.make(), case.values(batch), kind, f"batch of {batch}") if not f.ok]
        assert not failed, "\n".join(map(str, failed))


@pytest.mark.parametrize("case", LOSSES, ids=name)
@pytest.mark.parametrize("witness", [loss_by_formula, loss_by_scalars], ids=lambda witness: witness.__name__)
def test_formula_and_scalar_engine(case, witness, kind):
    for batch in case.batches:
        found = finding(witness.__name__, f"batch of {batch}", witness, case, batch, kind)
        assert found.ok, str(found)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(rows=st.lists(st.tuples(numbers, numbers, numbers), min_size=1, max_size=3), label=st.integers(0, 2))
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_of_any_logits(dtype, smoothing, rows, label):
    backend, target = Backend(dtype), np.full(len(rows), label)
    y = backend.asarray(np.array(rows))
    value, dy = losses.SoftmaxCrossEntropy(smoothing)(y, target, backend)
    expected = ref.cross_entropy(y.astype(np.float64), target, smoothing)
    assert abs(float(value) - expected) <= 4 * FLOAT32 * max(1.0, abs(expected), np.abs(y).max())
    assert np.isfinite(dy).all()
    assert np.abs(dy.sum(axis=1)).max() <= 4 * FLOAT32  # adding a number to all logits changes nothing


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@given(logits=st.lists(numbers, min_size=1, max_size=6), target=st.floats(0, 1, width=32))
def test_binary_cross_entropy_of_any_logits(dtype, logits, target):
    backend = Backend(dtype)
    y = backend.asarray(np.array([logits]))
    t = np.full_like(y, target)
    value, dy = losses.BinaryCrossEntropy()(y, t, backend)
    expected = ref.mean_of(ref.binary_cross_entropy)(y.astype(np.float64), t.astype(np.float64))
    assert abs(float(value) - expected) <= 4 * FLOAT32 * max(1.0, np.abs(logits).max())
    assert np.isfinite(dy).all()
    assert np.abs(dy).max() <= 1 / len(logits)


def test_known_values():
    backend = Backend("float64")
    value, dy = losses.SoftmaxCrossEntropy()(np.zeros((2, 4)), np.array([0, 3]), backend)
    assert float(value) == pytest.approx(math.log(4))
    assert dy.tolist() == [[-0.375, 0.125, 0.125, 0.125], [0.125, 0.125, 0.125, -0.375]]
    value, dy = losses.MeanSquaredError()(np.array([[1.0, 3.0]]), np.array([[0.0, 5.0]]), backend)
    assert float(value) == 2.5
    assert dy.tolist() == [[1.0, -2.0]]
    value, dy = losses.BinaryCrossEntropy()(np.array([[0.0]]), np.array([[1.0]]), backend)
    assert float(value) == pytest.approx(math.log(2))
    assert dy.tolist() == [[-0.5]]


def test_one_hot_and_labels_are_the_same_loss(kind):
    backend, rng = kind("float32", 0), np.random.default_rng(0)
    y, labels = rng.standard_normal((5, 3)).astype(np.float32), rng.integers(0, 3, 5)
    loss = losses.SoftmaxCrossEntropy(0.1, [1.0, 2.0, 0.5])
    results = [loss(backend.asarray(y), backend.asarray(t), backend) for t in (labels, np.eye(3)[labels])]
    by_label, by_one_hot = ([np.array(backend.to_host(a)) for a in result] for result in results)
    assert all(np.array_equal(a, b) for a, b in zip(by_label, by_one_hot, strict=True))


@pytest.mark.parametrize("n_classes", [3, 400])
@pytest.mark.parametrize("size", [1.0, 1e4])
def test_class_numbers_and_one_hot_rows_of_any_length_are_the_same_loss(kind, n_classes, size):
    backend, rng = kind("float64", 0), np.random.default_rng(0)
    y, labels = size * rng.standard_normal((5, n_classes)), rng.integers(0, n_classes, 5)
    results = [
        losses.SoftmaxCrossEntropy()(backend.asarray(y), backend.asarray(t), backend)
        for t in (labels, np.eye(n_classes)[labels])
    ]
    by_label, by_one_hot = ([np.array(backend.to_host(a)) for a in result] for result in results)
    for got, want in zip(by_label, by_one_hot, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("loss", "shape", "target", "message"),
    [
        (losses.SoftmaxCrossEntropy(), (2, 3), np.array([0, 3]), r"label 3 at index 1 is outside 0\.\.2"),
        (losses.SoftmaxCrossEntropy(), (2, 3), np.array([-1, 0]), r"label -1 at index 0 is outside 0\.\.2"),
        (
            losses.SoftmaxCrossEntropy(),
            (2, 3),
            np.array([0, 1, 2]),
            r"class numbers of .* shape \(2,\); got int64 of shape \(3,\)",
        ),
        (losses.SoftmaxCrossEntropy(), (2, 3), np.array([0.0, 1.0]), "got float64 of shape"),
        (losses.SoftmaxCrossEntropy(), (2, 3), np.zeros((2, 4)), r"outputs of shape \(2, 3\).* got .*\(2, 4\)"),
        (
            losses.SoftmaxCrossEntropy(0, [1, 2]),
            (2, 3),
            np.array([0, 1]),
            "class_weights has 2 numbers, but there are 3 classes",
        ),
        (losses.MeanSquaredError(), (2, 3), np.zeros((2, 1)), r"outputs of shape \(2, 3\).*got .*\(2, 1\)"),
        (
            losses.MeanSquaredError(),
            (2, 1),
            np.zeros(2),
            r"outputs of shape \(2, 1\).*got float64 of shape \(2,\): use y\[:, None\]$",
        ),
        (losses.SoftmaxCrossEntropy(), (2, 3), np.zeros(2), r": if these are class numbers, use y\.astype\(int\)$"),
        (
            losses.SoftmaxCrossEntropy(),
            (2, 3),
            np.zeros((2, 1), int),
            r"of shape \(2, 1\): use y\[\.\.\., 0\]$",
        ),
        (losses.BinaryCrossEntropy(), (2, 3), np.zeros((3,)), r"outputs of shape \(2, 3\)"),
        (losses.SoftmaxCrossEntropy(), (3,), np.zeros(3), r"needs logits of shape \(N, \.\.\., C\), not \(3,\)"),
        (losses.MeanSquaredError(), (2, 3), (np.zeros((2, 3)), np.ones(3)), r"weights of shape \(3,\) do not fit"),
    ],
)
def test_targets_that_do_not_fit(loss, shape, target, message):
    with pytest.raises(ValueError, match=message):
        loss(np.zeros(shape), target, Backend("float64"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, "label_smoothing must be a finite number >= 0 and below 1"),
        ({"label_smoothing": -0.1}, "label_smoothing must be a finite number >= 0 and below 1"),
        ({"class_weights": [1.0, -1.0]}, "class_weights must be finite, >= 0"),
        (
            {"class_weights": [1e-40, 0.0]},
            "the largest class weight is 1e-40, too far from 1 for sums in float32: scale",
        ),
        ({"class_weights": [1e31, 1.0]}, r"the largest class weight is 1e\+31, too far from 1"),
        ({"class_weights": [0.0, 0.0]}, "not all 0"),
        ({"class_weights": [1.0, math.inf]}, "must be finite"),
        ({"ignore": 0}, "ignore must be negative, not 0: to leave out a class, give it the class weight 0"),
        ({"ignore": -1.5}, "ignore must be a whole number, not -1.5"),
        ({"ignore": "a"}, "ignore must be a whole number, not 'a'"),
        ({"reduction": "none"}, "reduction must be one of mean, sum, not 'none'"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        losses.SoftmaxCrossEntropy(**options)


@pytest.mark.parametrize("wrong", [{0: 10, 1: 1, 2: 1}, {1.0, 2.0}, "balanced", "123", 5, [1, None]])
def test_weights_and_scales_without_an_order_are_refused(wrong):
    """The keys of a dict are numbers too, and others."""
    with pytest.raises(TypeError, match="class_weights are one number for each class, in their order, not "):
        losses.SoftmaxCrossEntropy(class_weights=wrong)
    if wrong != 5:
        with pytest.raises(TypeError, match="scale is a number, or one for each entry of the last axis, in their"):
            losses.MeanSquaredError(scale=wrong)


def test_weights_and_scales_are_lists_tuples_or_arrays():
    for numbered in ([1, 2], (1, 2), np.array([1.0, 2.0], np.float32)):
        assert losses.SoftmaxCrossEntropy(class_weights=numbered).class_weights == (1.0, 2.0)
        assert losses.MeanSquaredError(scale=numbered).scale == (1.0, 2.0)
    assert losses.MeanSquaredError(scale=np.float32(2)).scale == (2.0,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: losses.Huber(0.0), "delta must be a finite number above 0"),
        (lambda: losses.MeanSquaredError(scale=[1.0, 0.0]), r"scale must be finite and above 0, not \[1.0, 0.0\]"),
        (lambda: losses.MeanSquaredError(scale=()), "scale must be finite and above 0"),
        (lambda: losses.MeanSquaredError(scale=1e-31), "scale must be from 1e-30 to 1e30, for float32, not 1e-31: "),
        (lambda: losses.MeanSquaredError(scale=[1.0, 1e31]), r"scale must be from 1e-30 to 1e30, .*, not \[1.0, 1e"),
        (lambda: losses.Huber(math.inf), "delta must be a finite number above 0"),
        (lambda: losses.Focal(gamma=math.inf), "gamma must be a finite number >= 0"),
        (lambda: losses.Focal(gamma=-1.0), "gamma must be a finite number >= 0"),
        (lambda: losses.Focal(alpha=1.0), "alpha must be a finite number above 0 and below 1"),
        (lambda: losses.MultiMargin(math.inf), "margin must be a finite number above 0"),
    ],
)
def test_bad_options_of_the_others(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("loss", "target", "outputs", "message"),
    [
        (losses.SoftmaxCrossEntropy(), np.array([0, -100]), (3,), r"label -100 at index 1 is outside 0\.\.2"),
        (losses.SoftmaxCrossEntropy(ignore=-1), np.array([0, -100]), (3,), r"label -100 at index 1"),
        (losses.SoftmaxCrossEntropy(), (np.array([0, 1]), np.ones(3)), (3,), r"weights of shape \(3,\) do not fit"),
        (losses.SoftmaxCrossEntropy(), (np.array([0, 1]), np.ones((2, 3))), (3,), r"a loss with terms of shape \(2,\)"),
        (losses.SoftmaxCrossEntropy(), (np.array([0, 1]), np.array(1.0)), (3,), r"weights of shape \(\) do not fit"),
        (losses.MeanSquaredError(), (np.zeros((2, 3)), np.array([1, -1])), (3,), r">= 0, not -1 at index \(1,\)"),
        (losses.MeanSquaredError(), (np.zeros((2, 3)), np.full((2, 3), np.nan)), (3,), r"finite and >= 0, not nan"),
        (
            losses.MeanSquaredError(scale=(1.0, 2.0)),
            np.zeros((2, 3)),
            (3,),
            "scale has 2 numbers, but the outputs have 3 entries",
        ),
        (losses.KLDivergence(), np.array([[0.5, 0.6]]), (2,), "targets must be distributions"),
        (losses.KLDivergence(), np.array([[1.5, -0.5]]), (2,), "targets must be distributions"),
        (losses.KLDivergence(), np.array([[0.5, 0.5], [0.5, 0.6]]), (2,), "targets must be distributions"),
        (losses.KLDivergence(), np.array([0]), (2,), r"need distributions of that shape, not \(1,\)"),
        (
            losses.KLDivergence(),
            np.array([[0.5, 0.5], [np.nan, 1.0]]),
            (2,),
            r"targets must be distributions.* index \(1,\)",
        ),
        (
            losses.SoftmaxCrossEntropy(),
            np.array([[0.5, 0.5], [-3.0, 9.0]]),
            (2,),
            r"targets must be distributions.* index \(1,\)",
        ),
        (losses.SoftmaxCrossEntropy(), np.array([[1.5, -0.5]]), (2,), "targets must be distributions"),
        (losses.SoftmaxCrossEntropy(), np.array([[1, 1]]), (2,), "targets must be distributions"),
        (
            losses.SoftmaxCrossEntropy(),
            np.array([[[0, 0], [0, 1]]]),
            (None, 2),
            r"targets must be distributions.* index \(0, 0\)",
        ),
        (
            losses.BinaryCrossEntropy(),
            np.array([[1.0], [7.0]]),
            (1,),
            r"must be numbers from 0 to 1, but those at index \(1, 0\) are not",
        ),
        (
            losses.BinaryCrossEntropy(),
            np.array([[0, -1]]),
            (2,),
            r"must be numbers from 0 to 1, but those at index \(0, 1\) are not",
        ),
        (losses.BinaryCrossEntropy(), np.array([[0.5, np.nan]]), (2,), "numbers from 0 to 1"),
        (
            losses.MultiMargin(),
            np.array([[0.0, 1.0], [0.5, 0.5]]),
            (2,),
            r"with a single 1, but those at index \(1,\) are not",
        ),
        (losses.MultiMargin(), np.array([[1, 1]]), (2,), "rows of zeros with a single 1"),
        (losses.MultiMargin(), np.array([[2, -1]]), (2,), "rows of zeros with a single 1"),
        (losses.MultiMargin(), np.array([[0, 0]]), (2,), "rows of zeros with a single 1"),
        (losses.Focal(), np.array([[0.5, 1.0]]), (2,), "the targets of Focal must be 0 or 1, but"),
        (
            losses.SoftmaxCrossEntropy(),
            (np.eye(2)[None] * [[[0], [2]]], np.array([[0.0, 1.0]])),
            (None, 2),
            r"\(0, 1\)",
        ),
        (losses.BinaryCrossEntropy(), (np.array([[7.0, 7.0]]), np.array([[1.0, 0.0]])), (2,), r"index \(0, 0\)"),
        (losses.CosineDistance(), np.array([0]), (2,), r"\(1, 2\) need targets of that shape, not \(1,\)"),
        (losses.MultiMargin(), np.array([2]), (2,), r"label 2 at index 0 is outside 0\.\.1"),
    ],
)
def test_targets_and_weights_are_checked_where_data_enter(loss, target, outputs, message):
    with pytest.raises(ValueError, match=message):
        loss.check(target, outputs)


@pytest.mark.parametrize(
    ("loss", "target", "outputs"),
    [
        (losses.SoftmaxCrossEntropy(ignore=-100), np.array([[0, -100]]), (None, 3)),
        (losses.SoftmaxCrossEntropy(ignore=-1), np.array([0, -1]), (1,)),
        (losses.SoftmaxCrossEntropy(), (np.array([[0, 1]]), np.array([[True, False]])), (None, 3)),
        (losses.BinaryCrossEntropy(), (np.array([0, 1]), np.array([0.0, 2.0])), (1,)),
        (losses.SoftmaxCrossEntropy(), (np.array([[[0.0, 0.0], [0.0, 1.0]]]), np.array([[0.0, 1.0]])), (None, 2)),
        (losses.SoftmaxCrossEntropy(), (np.array([[[0.0, 0.0], [0.0, 0.0]]]), np.array([0.0])), (None, 2)),
        (losses.BinaryCrossEntropy(), (np.array([[1.0, 7.0]]), np.array([[1.0, 0.0]])), (2,)),
        (losses.SoftmaxCrossEntropy(), np.array([[0, 2]]), (None, 3)),
        (losses.Focal(), np.array([0, 1]), (1,)),
        (losses.Focal(), np.array([[0.0, 1.0]]), (2,)),
        (losses.KLDivergence(), np.array([[0.0, 1.0]]), (2,)),
        (losses.KLDivergence(), np.array([[0.25, 0.75]], np.float32), (2,)),
        (losses.KLDivergence(), np.full((1, 3, 4), 0.25), (3, 4)),
        (losses.SoftmaxCrossEntropy(), np.array([[0.0, 1.0]]), (2,)),
        (losses.SoftmaxCrossEntropy(), np.array([[1, 0]], np.uint8), (2,)),
        (losses.SoftmaxCrossEntropy(0.1), np.full((1, 5, 11), 1 / 11, np.float16), (None, 11)),
        (losses.BinaryCrossEntropy(), np.array([[0.0, 0.3], [1.0, 1e-9]]), (2,)),
        (losses.BinaryCrossEntropy(), np.array([[True, False]]), (2,)),
        (losses.MultiMargin(), np.array([[0.0, 1.0], [1.0, 0.0]], np.float32), (2,)),
        (losses.MultiMargin(), np.array([[True, False]]), (2,)),
    ],
)
def test_targets_and_weights_that_fit(loss, target, outputs):
    loss.check(target, outputs)


def test_a_loss_of_ones_own_weighs_a_batch_by_its_samples():
    one, two = np.ones((5, 3)), np.ones((5, 4))
    assert losses.Loss().weight(one, None, Backend()) == losses.Loss().weight((one, two), None, Backend()) == 5


@pytest.mark.parametrize("case", LOSSES, ids=name)
def test_parts_of_a_batch_give_the_mean_of_the_whole(case):
    """However a batch is cut: by `weight`, a mean over all of it. A sum is that of its parts."""
    loss, values, backend = case.make(), case.values(6), Backend("float64")

    def part(rows):
        cut = {key: array[rows] for key, array in values.items()}
        value, dy = loss(cut["y"], target_of(cut), backend)
        return float(value), dy, float(loss.weight(cut["y"], target_of(cut), backend))

    (value, dy, weight), parts = part(slice(None)), [part(slice(0, 1)), part(slice(1, 3)), part(slice(3, 6))]
    factors = [1.0 if loss.reduction == "sum" else w / (weight or 1.0) for _, _, w in parts]
    assert weight == pytest.approx(sum(w for _, _, w in parts))
    assert value == pytest.approx(sum(f * v for f, (v, _, _) in zip(factors, parts, strict=True)), rel=1e-12)
    together = np.concatenate([f * d for f, (_, d, _) in zip(factors, parts, strict=True)])
    assert np.abs(together - dy).max() <= 1e-12


@pytest.mark.parametrize("case", LOSSES, ids=name)
def test_a_weight_of_0_takes_a_sample_out(case):
    """Value, dy and weight are those of the others alone, whatever the sample's outputs are."""
    loss, values, backend = case.make(), case.values(6), Backend("float64")
    cut = {key: array[:4] for key, array in values.items()}
    there = np.array([1.0, 1.0, 1.0, 1.0, 0.0, 0.0])
    weights = np.ones((6, *values["weights"].shape[1:])) * values["weights"] if "weights" in values else np.ones(6)
    masked = {**values, "y": values["y"].copy(), "weights": weights * there.reshape(6, *[1] * (weights.ndim - 1))}
    masked["y"][4:] *= 1e4
    value, dy = loss(masked["y"], target_of(masked), backend)
    expected, dy_expected = loss(cut["y"], target_of(cut), backend)
    assert float(value) == pytest.approx(float(expected), rel=1e-12, abs=1e-300)
    assert np.abs(dy[:4] - dy_expected).max() <= 1e-15
    assert not dy[4:].any()
    assert float(loss.weight(masked["y"], target_of(masked), backend)) == pytest.approx(
        float(loss.weight(cut["y"], target_of(cut), backend))
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.uint64])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_numbers_of_any_integer_type(kind, dtype, smoothing):
    backend, rng = kind("float32", 0), np.random.default_rng(0)
    y, labels, loss = rng.standard_normal((5, 300)), rng.integers(0, 200, 5), losses.SoftmaxCrossEntropy(smoothing)
    results = [loss(backend.asarray(y), backend.asarray(t), backend) for t in (labels, labels.astype(dtype))]
    (value, dy), (same, same_dy) = ([np.array(backend.to_host(a)) for a in result] for result in results)
    assert value == same
    assert np.array_equal(dy, same_dy)


@pytest.mark.parametrize("scale", [2, np.float32(2), np.int64(2), [2.0], np.array([2, 2])])
def test_a_scale_of_any_kind_of_number(scale):
    value, dy = losses.MeanSquaredError(scale=scale)(np.array([[1.0, 3.0]]), np.array([[0.0, 5.0]]), Backend("float64"))
    assert float(value) == 2.5 / 4
    assert dy.tolist() == [[0.25, -0.5]]


@pytest.mark.parametrize("case", LOSSES, ids=name)
def test_large_outputs_stay_finite(case):
    for size in (1e4, -1e4):
        values, backend = case.values(6), Backend("float32")
        y = np.float32(size) * values["y"].astype(np.float32)
        value, dy = case.make()(y, target_of(values), backend)
        assert np.isfinite(value)
        assert np.isfinite(dy).all()


def test_a_row_of_zeros_has_no_direction():
    y, t = np.array([[0.0, 0.0], [3.0, 4.0], [1e-30, 0.0]]), np.array([[1.0, 2.0], [0.0, 0.0], [1e25, 0.0]])
    value, dy = losses.CosineDistance("sum")(y.astype(np.float32), t.astype(np.float32), Backend("float32"))
    assert float(value) == 2.0
    assert not dy.any()


def test_known_values_of_other_losses():
    backend = Backend("float64")
    y, t = np.array([[0.0, 3.0]]), np.array([[0.5, 0.0]])
    assert [float(losses.MeanAbsoluteError()(y, t, backend)[0]), float(losses.Huber()(y, t, backend)[0])] == [
        1.75,
        (0.125 + 2.5) / 2,
    ]
    assert losses.Huber(2.0, "sum")(y, t, backend)[1].tolist() == [[-0.5, 2.0]]
    value, dy = losses.MultiMargin()(np.array([[0.0, 3.0, -2.0]]), np.array([0]), backend)
    assert (float(value), dy.tolist()) == (pytest.approx(4 / 3), [[pytest.approx(-1 / 3), pytest.approx(1 / 3), 0.0]])
    value, _ = losses.Focal()(np.zeros((1, 1)), np.ones((1, 1)), backend)
    assert float(value) == pytest.approx(0.25 * 0.25 * math.log(2))
    assert float(losses.KLDivergence()(np.zeros((1, 2)), np.array([[1.0, 0.0]]), backend)[0]) == pytest.approx(
        math.log(2)
    )


@pytest.mark.parametrize("target", [np.array([0, 2]), np.eye(3)[[0, 2]]], ids=["class numbers", "rows"])
def test_classes_that_are_ruled_out_are_no_part_of_the_loss(kind, target):
    """By logits of -inf, as masks set them: 0 times -inf is NaN."""
    backend = kind("float32", 0)
    y, target = backend.asarray(np.array([[1, -math.inf, 2], [1, -math.inf, 2]])), backend.asarray(target)
    for loss in (losses.SoftmaxCrossEntropy(), losses.SoftmaxCrossEntropy(class_weights=[1.0, 1.0, 1.0])):
        value, dy = loss(y, target, backend)
        log = math.log(math.e + math.e**2)
        assert float(value) == pytest.approx((log - 1 + log - 2) / 2, rel=1e-6)
        assert np.isfinite(np.array(backend.to_host(dy))).all()
    assert float(losses.SoftmaxCrossEntropy(label_smoothing=0.1)(y, target, backend)[0]) == math.inf


def test_the_divergence_from_a_distribution_without_the_classes_that_are_ruled_out(kind):
    backend = kind("float64", 0)
    y, t = backend.asarray(np.array([[1, -math.inf, 2]])), backend.asarray(np.array([[0.25, 0, 0.75]]))
    value, dy = losses.KLDivergence()(y, t, backend)
    p = 1 / (1 + math.e)  # of the first class
    assert float(value) == pytest.approx(0.25 * math.log(0.25 / p) + 0.75 * math.log(0.75 / (1 - p)), rel=1e-12)
    np.testing.assert_allclose(backend.to_host(dy), [[p - 0.25, 0, 0.25 - p]], rtol=1e-12)


@pytest.mark.parametrize("size", [1e-40, 1e35, 5e-31])
def test_weights_too_far_from_1_for_float32_are_refused(size):
    """Their sum would be 0 or infinite there."""
    loss, target = losses.SoftmaxCrossEntropy(), np.array([0, 1, 1])
    with pytest.raises(ValueError, match=r"the largest weight is .*, too far from 1 for sums in float32: scale all"):
        loss.check((target, np.full(3, size)), (2,))
    loss.check((target, np.array([1e-40, 1.0, 0.0])), (2,))
    for right in (1e-29, 1e29, 0):
        loss.check((target, np.full(3, right)), (2,))


def test_a_batch_in_which_no_sample_counts_has_no_loss_and_no_gradient(kind):
    backend, loss = kind("float32", 0), losses.SoftmaxCrossEntropy(class_weights=[0.0, 0.0, 1.0])
    y, target = backend.asarray(np.array([[1.0, 2.0, 3.0], [0.5, -1.0, 0.0]])), backend.asarray(np.array([0, 1]))
    value, dy = loss(y, target, backend)
    assert float(value) == 0
    assert (np.array(backend.to_host(dy)) == 0).all()
    assert 0 <= float(loss.weight(y, target, backend)) < 1e-30


@pytest.mark.parametrize("target", [np.array([2, 2]), np.eye(4)[[2, 2]]], ids=["class numbers", "rows"])
@pytest.mark.parametrize("least", [0.0, 1e-50], ids=["0", "0 in float32"])
def test_smoothing_gives_a_class_of_weight_0_no_loss(kind, target, least):
    """There the sum of the weights is 0, and what smoothing adds would be divided by it."""
    backend = kind("float32", 0)
    loss = losses.SoftmaxCrossEntropy(label_smoothing=0.1, class_weights=[1, 2, least, 0.5])
    y, target = backend.asarray(np.array([[1.0, 2, 0, 1], [0, 1, 0, 0]])), backend.asarray(target)
    value, dy = loss(y, target, backend)
    assert (float(value), np.abs(backend.to_host(dy)).max(), float(loss.weight(y, target, backend))) == (0, 0, 0)


def test_what_has_no_weight_is_taken_out_even_if_it_is_infinite_or_no_number(kind):
    backend = kind("float32", 0)

    def taken(loss, y, target):
        target = tuple(map(backend.asarray, target)) if isinstance(target, tuple) else backend.asarray(target)
        value, dy = loss(backend.asarray(np.array(y)), target, backend)
        return float(value), np.array(backend.to_host(dy)).tolist()

    p, rows = 1 / (1 + math.e), [[-math.inf, 1, 2], [-math.inf, 1, 2]]
    for loss in (losses.SoftmaxCrossEntropy(ignore=-100), losses.SoftmaxCrossEntropy(class_weights=[0.0, 3.0, 1.0])):
        value, dy = taken(loss, rows, np.array([1, 0 if loss.ignore is None else -100]))
        assert value == pytest.approx(1.3132617, rel=1e-6)  # log(1 + e)
        np.testing.assert_allclose(dy, [[0, p - 1, 1 - p], [0, 0, 0]], rtol=1e-6)
    zero_one, numbers = np.array([0.0, 1.0]), np.array([[0.0], [1.0]])
    with np.errstate(over="ignore", invalid="ignore"):
        for wrong in (1e25, math.inf, math.nan):
            assert taken(losses.MeanSquaredError(), [[wrong], [2]], (numbers, zero_one)) == (1, [[0], [2]])
            assert taken(losses.MeanSquaredError("sum"), [[wrong], [2]], (numbers, zero_one)) == (1, [[0], [2]])


def test_large_weights_of_large_terms_do_not_overflow(kind):
    """Their product is 1e39."""
    backend = kind("float32", 0)
    target = tuple(map(backend.asarray, (np.zeros((2, 1)), np.array([1e29, 1e29]))))
    value, dy = losses.MeanSquaredError()(backend.asarray(np.array([[1e5], [1.0]])), target, backend)
    assert float(value) == pytest.approx((1e10 + 1) / 2, rel=1e-6)
    np.testing.assert_allclose(backend.to_host(dy), [[1e5], [1.0]], rtol=1e-6)


def test_the_margin_of_a_class_that_is_ruled_out(kind):
    backend = kind("float32", 0)
    y, target = backend.asarray(np.array([[-math.inf, 1, 2]])), backend.asarray(np.array([1]))
    value, dy = losses.MultiMargin()(y, target, backend)
    assert float(value) == pytest.approx(2 / 3, rel=1e-6)  # (1 - 1 + 2) / 3
    np.testing.assert_allclose(backend.to_host(dy), [[0, -1 / 3, 1 / 3]], rtol=1e-6)


@pytest.mark.parametrize(("y", "t"), [(64.1, 1 - 2**-24), (30.0, 1 - 2**-22), (-64.1, 2**-24), (20.0, 0.25)])
def test_binary_cross_entropy_of_soft_targets_keeps_its_digits(kind, y, t):
    backend = kind("float32", 0)
    given = [np.float32(y), np.float32(t)]
    value, _ = losses.BinaryCrossEntropy()(*(backend.asarray(np.array([[v]])) for v in given), backend)
    y, t = map(float, given)
    expected = (1 - t) * max(y, 0) + t * max(-y, 0) + math.log1p(math.exp(-abs(y)))
    assert float(value) == pytest.approx(expected, rel=3e-7)


@pytest.mark.parametrize("loss", [losses.BinaryCrossEntropy(), losses.MeanSquaredError()])
@pytest.mark.parametrize("label", [2, -1])
def test_a_single_output_has_two_classes(loss, label):
    target = np.array([0, label, 1])
    how = r": whole numbers are taken as class numbers.*a regression, use y\.astype\(float\)\[:, None\]"
    with pytest.raises(ValueError, match=rf"label {label} at index 1 is outside 0\.\.1{how}"):
        loss.check(target, (1,))
    with pytest.raises(ValueError, match=rf"label {label} at index 1 is outside 0\.\.1"):
        loss(np.zeros((3, 1)), target, Backend("float64"))
    loss.check(np.array([0, 1, 1]), (1,))


@pytest.mark.parametrize(
    ("loss", "target", "outputs"),
    [
        (losses.SoftmaxCrossEntropy(), np.array([0, 3]), (3,)),
        (losses.SoftmaxCrossEntropy(), np.array([[0, 1], [2, 3]]), (None, 3)),
        (losses.BinaryCrossEntropy(), np.array([0, 3]), (3,)),
        (losses.MeanSquaredError(), np.array([0, 3]), (3,)),
        (losses.MeanSquaredError(), np.zeros((2, 2)), (3,)),
        (losses.SoftmaxCrossEntropy(), np.zeros((2, 4, 2)), (None, 3)),
        (losses.SoftmaxCrossEntropy(), np.zeros(2), (3,)),
    ],
)
def test_targets_are_checked_before_any_step(loss, target, outputs):
    with pytest.raises(ValueError, match=r"outside|need targets of that shape"):
        loss.check(target, outputs)


class RowError(losses.TermLoss):
    """(|y|^2 - t)^2 with a number t for each row."""

    of_rows = True

    def terms(self, y, target, backend):
        d = (y * y).sum(axis=-1) - target
        return d * d, 4 * d[..., None] * y


def test_the_targets_of_a_loss_of_rows_may_be_numbers_for_each_row():
    """`fit` took them for class numbers of a wrong type."""
    target = np.array([0.5, 2.0, 1.0])
    RowError().check(target, (2,))
    RowError().check((target, np.ones(3)), (2,))
    with pytest.raises(ValueError, match="need targets of that shape"):
        RowError().check(target[:, None], (2,))
    RowError().check(np.ones((3, 4)), (4, 2))
    RowError().check(np.ones((3, 4)), (None, 2))  # an axis of free length has the target's
    with pytest.raises(ValueError, match="need targets of that shape"):
        RowError().check(np.ones((3, 1)), (4, 2))
    for loss in (losses.MultiMargin(), losses.SoftmaxCrossEntropy()):
        with pytest.raises(ValueError, match=r": if these are class numbers, use y.astype\(int\)$"):
            loss.check(target, (2,))
