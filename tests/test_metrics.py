"""Metrics, against their definitions counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from xpnet.train import accuracy, class_scores, confusion_matrix, top_k
from xpnet.train.metrics import mae, r2

SCORES = np.array([[0.1, 0.7, 0.2], [0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.4, 0.4, 0.2]])
LABELS = np.array([1, 1, 2, 1])


def test_accuracy_and_top_k():
    assert accuracy(SCORES, LABELS) == 0.5  # the tie of the last sample goes to class 0
    assert top_k(SCORES, LABELS, 1) == 0.5
    assert top_k(SCORES, LABELS, 2) == 1.0
    assert top_k(SCORES, LABELS, 3) == 1.0
    with pytest.raises(ValueError, match=r"k must be in 1\.\.3"):
        top_k(SCORES, LABELS, 4)


@pytest.mark.parametrize("wrong", [[np.nan] * 3, [1.0, np.nan, 2.0], [np.inf, 0.0, np.nan]])
@pytest.mark.parametrize("kind_of_target", ["class numbers", "rows", "weighted", "a sequence"])
def test_an_answer_that_is_no_number_is_not_right(wrong, kind_of_target):
    """argmax gives the place of the first NaN."""
    y, target = np.array([wrong] * 3 + [[0.0, 0.0, 1.0]]), np.array([0, 1, 2, 2])
    if kind_of_target == "a sequence":
        y, target = y[None], target[None]
    given = {"rows": np.eye(3)[target], "weighted": (target, np.ones(4))}.get(kind_of_target, target)
    assert accuracy(y, given) == 1 / 4


def test_an_only_answer_that_is_no_number_is_not_right():
    assert accuracy(np.array([[np.nan], [-1.0], [np.nan], [1.0]]), np.array([0, 0, 1, 1])) == 1 / 2


def test_the_confusion_matrix_counts_true_rows_and_predicted_columns():
    matrix = confusion_matrix(SCORES.argmax(axis=1), LABELS, 3)
    np.testing.assert_array_equal(matrix, [[0, 0, 0], [2, 1, 0], [0, 0, 1]])


@pytest.mark.parametrize("shape", [(2, 3), ()])
def test_the_confusion_matrix_of_labels_that_are_no_row(shape):
    labels = np.ones(shape, int)
    with pytest.raises(ValueError, match=r"labels need shape \(N,\), not .* ravel\(\) both"):
        confusion_matrix(labels, labels, 2)


def test_class_scores():
    scores = class_scores(np.array([[0, 0, 0], [2, 1, 0], [0, 0, 1]]))
    np.testing.assert_allclose(scores.precision, [0, 1, 1])
    np.testing.assert_allclose(scores.recall, [0, 1 / 3, 1])
    np.testing.assert_allclose(scores.f1, [0, 0.5, 1])
    np.testing.assert_array_equal(scores.support, [0, 3, 1])


def test_class_scores_agree_with_counting():
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, 5, 300), rng.integers(0, 5, 300)
    scores = class_scores(confusion_matrix(predicted, labels, 5))
    for c in range(5):
        hits = sum(p == c and y == c for p, y in zip(predicted, labels, strict=True))
        assert scores.precision[c] == pytest.approx(hits / sum(p == c for p in predicted))
        assert scores.recall[c] == pytest.approx(hits / sum(y == c for y in labels))
        both = scores.precision[c] + scores.recall[c]
        assert scores.f1[c] == pytest.approx(2 * scores.precision[c] * scores.recall[c] / both)


def test_labels_of_any_integer_type_and_wrong_ones():
    labels, predicted = np.array([25, 3, 25], np.uint8), np.array([25, 3, 2], np.uint8)
    matrix = confusion_matrix(predicted, labels, 26)  # 25 * 26 does not fit into a uint8
    assert matrix.sum() == 3
    assert (matrix[25, 25], matrix[3, 3], matrix[25, 2]) == (1, 1, 1)
    with pytest.raises(ValueError, match="2"):
        confusion_matrix(np.array([2]), np.array([1]), 2)


def test_scores_of_whole_numbers_and_counts_that_differ():
    assert top_k(np.array([[0, 200, 100]], np.uint8), np.array([1]), 1) == 1
    with pytest.raises(ValueError, match="4 outputs for 1 targets"):
        accuracy(SCORES, LABELS[:1])


def test_what_is_outside_is_named():
    with pytest.raises(ValueError, match=r"^predicted: label 2 at index 1 is outside 0\.\.1"):
        confusion_matrix(np.array([0, 2]), np.array([1, 0]), 2)
    with pytest.raises(ValueError, match=r"^labels: label 2 at index 1 is outside 0\.\.1"):
        confusion_matrix(np.array([0, 1]), np.array([1, 2]), 2)


def test_accuracy_is_of_outputs_not_of_answers():
    """Answers (N,) would be one row of scores, and (N, 1) beside (N,) would be compared with each other all."""
    y = np.array([0, 1, 1, 0])
    for outputs, labels in (
        (y, y),
        (np.eye(2)[y], y[:, None]),
        (np.eye(2)[y], y[:3]),
        (np.eye(2)[y], np.eye(3)[:, :2]),
    ):
        with pytest.raises(ValueError, match=r"accuracy takes outputs \(N, ..., C\)|4 outputs for 3 targets"):
            accuracy(outputs, labels)
    assert accuracy(np.eye(2)[y], y) == accuracy(np.eye(2)[y], np.eye(2)[y]) == 1
    assert accuracy(y[:, None] - 0.5, y[:, None]) == accuracy(y[:, None] - 0.5, y) == 1
    with pytest.raises(ValueError, match="labels"):
        top_k(np.eye(2)[y], y[:, None], 1)
    with pytest.raises(ValueError, match=r"predictions of shape \(1,\) for labels of shape \(4,\)"):
        confusion_matrix(np.array([1]), y, 2)


@pytest.mark.parametrize("outputs", [1, 3])
def test_class_numbers_are_the_targets_of_a_regression_as_its_loss_has_them(outputs):
    rng = np.random.default_rng(0)
    y, labels = rng.standard_normal((6, outputs)), np.array([0, 1, 1, 0, outputs - 1, 1])
    rows = labels[:, None].astype(float) if outputs == 1 else np.eye(3)[labels]
    squares = ((y - rows) ** 2).sum(), ((rows - rows.mean()) ** 2).sum()
    assert mae(y, labels) == pytest.approx(np.abs(y - rows).mean())
    assert r2(y, labels) == pytest.approx(1 - squares[0] / squares[1])
    with pytest.raises(ValueError, match=r": use y\[:, None\]$" if outputs == 1 else r"y\.astype\(int\)"):
        mae(y, labels.astype(float))
    with pytest.raises(ValueError, match="need targets of that shape"):
        r2(y, np.zeros((6, 2)))


def test_the_mean_absolute_error_of_bytes_does_not_wrap():
    assert mae(np.array([[1], [3]], np.uint8), np.array([[3], [1]], np.uint8)) == 2


def test_of_many_equal_scores_the_first_classes_are_the_highest():
    scores = np.array([np.arange(100) % 7])
    hits = [label for label in range(100) if top_k(scores, np.array([label]), 5)]
    assert hits == [6, 13, 20, 27, 34]


def test_scores_and_labels_are_as_many():
    """One row of scores would stand for every label."""
    with pytest.raises(ValueError, match="1 rows of scores for 3 labels"):
        top_k(np.ones((1, 4)), np.array([0, 1, 2]), 2)
    for k in (0, 5):
        with pytest.raises(ValueError, match=rf"k must be in 1\.\.4, the number of classes, not {k}"):
            top_k(np.ones((1, 4)), np.array([0]), k)
    assert top_k(np.ones((1, 4)), np.array([3]), 4) == 1


def test_what_is_ignored_or_has_no_weight_counts_for_nothing():
    y, target = np.eye(3)[[[0, 1, 2], [2, 2, 2]]], np.array([[0, 1, -100], [0, -1, 2]])
    assert accuracy(y, target) == 3 / 4
    assert accuracy(y, (target, np.array([[1.0, 3.0, 1.0], [0.0, 1.0, 1.0]]))) == 1
    assert accuracy(y, (target, np.array([0.0, 1.0]))) == 1 / 2
    assert accuracy(np.array([[1.0], [-1.0]]), (np.array([[1.0], [1.0]]), np.array([[3.0], [1.0]]))) == 3 / 4
    values, wanted = np.array([[1.0, 2.0], [5.0, 7.0]]), np.array([[1.0, 1.0], [1.0, 2.0]])
    assert mae(values, (wanted, np.array([[1, 1], [0, 0]]))) == 1 / 2
    assert mae(values, (wanted, np.array([True, False]))) == 1 / 2
    weights = np.array([2.0, 1.0])
    repeated = r2(values[[0, 0, 1]], wanted[[0, 0, 1]])
    assert r2(values, (wanted, weights)) == pytest.approx(repeated)
    with pytest.raises(ValueError, match="2 outputs for 3 targets"):
        mae(values, (wanted, np.ones(3)))


@pytest.mark.parametrize("wrong", [np.inf, np.nan])
def test_what_has_no_weight_is_taken_out_even_if_it_is_no_number(wrong):
    y, target = np.array([[wrong, wrong], [5.0, 7.0]]), (np.array([[1.0, 1.0], [1.0, 2.0]]), np.array([0.0, 2.0]))
    assert mae(y, target) == 9 / 2
    assert r2(y, target) == 1 - (16 + 25) / 0.5


@pytest.mark.parametrize(("output", "predicted"), [(-0.1, 0), (0.0, 0), (0.1, 1), (0.4, 1), (3.0, 1)])
def test_a_single_output_is_class_1_above_0(output, predicted):
    """It is a logit: 0 stands for a probability of 1/2."""
    for target in (0, 1):
        assert accuracy(np.array([[output]]), np.array([target])) == (predicted == target)
        assert accuracy(np.array([[output]]), np.array([[float(target)]])) == (predicted == target)
    for probability, wanted in [(0.4, 0), (0.5, 0), (0.6, 1)]:
        assert accuracy(np.array([[output]]), np.array([[probability]])) == (predicted == wanted)


def test_one_hot_rows_and_every_place_of_a_sequence_count():
    both = np.stack([LABELS, [1, 0, 2, 0]])
    assert accuracy(SCORES, np.eye(3)[LABELS]) == 0.5
    assert accuracy(np.stack([SCORES, SCORES]), both) == 6 / 8
    assert accuracy(np.stack([SCORES, SCORES]), np.eye(3)[both]) == 6 / 8
    y, target = np.array([[[1.0], [1.0]], [[1.0], [-1.0]]]), np.zeros((2, 2, 1))
    weights = np.array([[[1.0], [2.0]], [[3.0], [4.0]]])
    assert accuracy(y, (target, weights)) == 4 / 10


def test_figures_of_a_regression_against_their_formulas():
    rng = np.random.default_rng(0)
    y, t = rng.standard_normal((7, 2)), rng.standard_normal((7, 2))
    assert mae(y, t) == pytest.approx(np.abs(y - t).mean())
    assert r2(y, t) == pytest.approx(1 - ((y - t) ** 2).sum() / ((t - t.mean()) ** 2).sum())
    assert r2(t, t) == 1
    assert r2(1e-3 * y, 1e-3 * t) == pytest.approx(r2(y, t))
    assert np.isnan(r2(y, np.ones((7, 2))))
    halves = [np.array(mae.sums(y[part], t[part], np)) for part in (slice(0, 3), slice(3, 7))]
    assert mae.value(*sum(halves)) == pytest.approx(mae(y, t))


@pytest.mark.parametrize("far", [0.0, 1e6, -1e9, 1e12])
def test_r2_of_numbers_far_from_0_has_its_digits(far):
    rng = np.random.default_rng(0)
    t = far + rng.standard_normal((500, 2))
    y = t + 0.1 * rng.standard_normal((500, 2))
    expected = 1 - ((y - t) ** 2).sum() / ((t - t.mean()) ** 2).sum()
    assert r2(y, t) == pytest.approx(expected, rel=1e-9)
    t[0], weights = -1e20, np.ones((500, 2))
    weights[0] = 0
    rest = 1 - ((y[1:] - t[1:]) ** 2).sum() / ((t[1:] - t[1:].mean()) ** 2).sum()
    assert r2(y, (t, weights)) == pytest.approx(rest, rel=1e-9)
    assert r2(y, (t, weights[:, 0])) == pytest.approx(rest, rel=1e-9)


def test_r2_of_targets_that_are_all_equal_or_none():
    assert np.isnan(r2(np.zeros((7, 1)), np.full((7, 1), 0.1)))
    assert np.isnan(r2(np.zeros((0, 1)), np.zeros((0, 1))))
    assert np.isnan(r2(np.zeros((2, 1)), (np.ones((2, 1)), np.zeros(2))))
