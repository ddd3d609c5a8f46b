"""How well labels are given: right answers, precision and recall of each class, and whether probabilities mean it.

Counts come first, in a table of true class by given class, and every figure is made of that table, so they cannot
disagree. A calibrated model is right in 8 of 10 cases where it says 80 %; the expected calibration error is how far it
is off, on average, and one temperature, fitted on rows that were not trained on, mends most of it without changing any
answer.

Ref: On Calibration of Modern Neural Networks, arXiv:1706.04599, eq. 3 and 9.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.core.errors import UsageError

Numbers = NDArray[np.integer]
Scores = NDArray[np.floating]
COLDEST, HOTTEST = 0.05, 20.0
"""Between these a temperature is looked for: a handful of rows that are all right would like 0."""


@dataclass(frozen=True)
class ClassScore:
    """Hold the figures of one class, 0 to 1; what divides by nothing is 0. `rows` have this label."""

    precision: float
    recall: float
    f1: float
    rows: int


def confusion(truth: Numbers, given: Numbers, num_classes: int) -> Numbers:
    """Return how often each class (first axis) was given which label: (N, N).

    truth [0, 0, 1], given [0, 1, 1] -> [[1, 1], [0, 1]]
    """
    if len(truth) != len(given):
        raise UsageError(f"{len(truth)} true and {len(given)} given labels", accepted="as many of both")
    return np.bincount(truth * num_classes + given, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(table: Numbers) -> float:
    """Return the share of right answers of a confusion table."""
    return _share(np.trace(table), table.sum())


def class_scores(table: Numbers) -> list[ClassScore]:
    """Return each class's precision, recall and F1 from a confusion table."""
    return [score_of(int(table[i, i]), int(table[:, i].sum()), int(table[i].sum())) for i in range(len(table))]


def label_scores(truth: Numbers, given: Numbers | NDArray[np.bool_]) -> list[ClassScore]:
    """Return the same for each of several labels, both (R, N) of 0 and 1."""
    hits, claimed, there = (truth & given).sum(0), given.sum(0), truth.sum(0)
    return [score_of(int(hit), int(claim), int(rows)) for hit, claim, rows in zip(hits, claimed, there, strict=True)]


def macro_f1(scores: Sequence[ClassScore]) -> float:
    """Return the mean F1 of the classes, each counting the same however many rows it has."""
    return sum(score.f1 for score in scores) / len(scores)


def score_of(hits: int, claimed: int, rows: int) -> ClassScore:
    """Return the figures of what is there `rows` times, was claimed so often, and was so often right."""
    precision, recall = _share(hits, claimed), _share(hits, rows)
    return ClassScore(precision, recall, _share(2 * precision * recall, precision + recall), rows)


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def softmax(logits: Scores) -> Scores:
    """Return probabilities of classes: (R, N) -> (R, N)."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares: Scores = powers / powers.sum(axis=1, keepdims=True)
    return shares


def sigmoid(logits: Scores) -> Scores:
    """Return the probability of each label by itself."""
    shares: Scores = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return shares


def class_loss(logits: Scores, truth: Numbers) -> float:
    """Return the mean negative log-likelihood, in nats, of classes (R,) under logits (R, N)."""
    highest = logits.max(axis=1)
    total = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
    return float((total - logits[np.arange(len(truth)), truth]).mean())


def label_loss(logits: Scores, truth: Numbers) -> float:
    """Return the same of several labels, truth and logits (R, N)."""
    return float((np.logaddexp(0.0, logits) - truth * logits).mean())


def calibration_error(confidence: Scores, right: NDArray[np.bool_], num_bins: int = 15) -> float:
    """Return the expected calibration error: |share right - mean confidence| over bins of equal width, by rows.

    Confidences (R,) lie in 0 to 1. [0.9, 0.9, 0.6, 0.6] with one right of each two -> 0.25
    """
    bins = np.minimum((confidence * num_bins).astype(int), num_bins - 1)
    gaps = np.bincount(bins, weights=right.astype(float) - confidence, minlength=num_bins)
    return float(np.abs(gaps).sum() / len(confidence))


def fit_temperature(logits: Scores, truth: Numbers, loss: Callable[[Scores, Numbers], float] = class_loss) -> float:
    """Return the temperature in 0.05 to 20 whose division of the logits gives the smallest loss.

    The loss is convex in 1 / T, so narrowing an interval finds it, to a thousandth.
    """
    low, high = 1.0 / HOTTEST, 1.0 / COLDEST
    golden = (math.sqrt(5.0) - 1.0) / 2.0
    while high / low > 1.001:
        one, other = high - golden * (high - low), low + golden * (high - low)
        if loss(logits * one, truth) <= loss(logits * other, truth):
            high = other
        else:
            low = one
    return 2.0 / (low + high)
