"""Figures of classification against numbers worked out by hand."""

import math

import numpy as np
import pytest

from smelt.core.errors import UsageError
from smelt.evals import classification as measure

TRUTH, GIVEN = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 0, 0])


def test_confusion_counts_the_true_class_down_and_the_given_one_across():
    table = measure.confusion(TRUTH, GIVEN, 3)
    assert table.tolist() == [[2, 1, 0], [1, 1, 0], [1, 0, 0]]
    assert measure.accuracy(table) == 0.5
    with pytest.raises(UsageError, match="6 true and 1 given"):
        measure.confusion(TRUTH, GIVEN[:1], 3)


def test_figures_of_each_class_and_their_mean():
    first, second, third = measure.class_scores(measure.confusion(TRUTH, GIVEN, 3))
    assert first == measure.ClassScore(2 / 4, 2 / 3, 2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3), 3)
    assert second == measure.ClassScore(1 / 2, 1 / 2, 1 / 2, 2)
    assert third == measure.ClassScore(0, 0, 0, 1)  # never given: nothing to divide by
    assert measure.macro_f1([first, second, third]) == pytest.approx((4 / 7 + 1 / 2) / 3)


def test_labels_that_come_together_are_scored_one_by_one():
    truth, given = np.array([[1, 1], [1, 0], [0, 0]]), np.array([[1, 0], [0, 0], [1, 0]])
    one, other = measure.label_scores(truth, given)
    assert one == measure.ClassScore(1 / 2, 1 / 2, 1 / 2, 2)
    assert other == measure.ClassScore(0, 0, 0, 1)


def test_probabilities_and_losses():
    logits = np.log([[1.0, 3.0], [4.0, 1.0]])
    np.testing.assert_allclose(measure.softmax(logits), [[0.25, 0.75], [0.8, 0.2]])
    assert measure.class_loss(logits, np.array([1, 1])) == pytest.approx(-(math.log(0.75) + math.log(0.2)) / 2)
    np.testing.assert_allclose(measure.sigmoid(logits), [[0.5, 0.75], [0.8, 0.5]])
    expected = -(math.log(0.5) + math.log(0.25) + math.log(0.8) + math.log(0.5)) / 4
    assert measure.label_loss(logits, np.array([[1, 0], [1, 1]])) == pytest.approx(expected)
    assert measure.class_loss(np.array([[1e4, 0.0]]), np.array([1])) == pytest.approx(1e4)  # nothing overflows
    assert measure.label_loss(np.array([[-1e4]]), np.array([[1]])) == pytest.approx(1e4)


def test_calibration_error_is_the_mean_gap_of_the_bins():
    confidence = np.array([0.9, 0.9, 0.6, 0.6])
    assert measure.calibration_error(confidence, np.array([1, 0, 1, 0], bool)) == pytest.approx((0.4 + 0.1) / 2)
    opposite = np.array([1, 1, 1, 0], bool)  # too careful in one bin, too sure in the other
    assert measure.calibration_error(confidence, opposite) == pytest.approx(0.1)
    assert measure.calibration_error(np.ones(3), np.ones(3, bool)) == 0
    one_bin = measure.calibration_error(confidence, np.array([1, 1, 1, 0], bool), num_bins=1)
    assert one_bin == pytest.approx(0)  # together they are right as often as they say


@pytest.mark.parametrize("factor", [0.25, 1.0, 3.0])
def test_temperature_undoes_a_factor(factor):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (4000, 3))
    truth = np.array([rng.choice(3, p=row) for row in measure.softmax(logits)])
    assert measure.fit_temperature(logits * factor, truth) == pytest.approx(factor, rel=0.1)
    labels = (rng.random((4000, 3)) < measure.sigmoid(logits)).astype(int)
    assert measure.fit_temperature(logits * factor, labels, measure.label_loss) == pytest.approx(factor, rel=0.1)


def test_temperature_stays_in_its_bounds():
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert measure.fit_temperature(logits, np.array([0, 1])) == pytest.approx(measure.COLDEST, rel=0.01)
    assert measure.fit_temperature(logits, np.array([1, 0])) == pytest.approx(measure.HOTTEST, rel=0.01)
