"""Spearman's rank correlation: whether pairs that people call more alike are nearer for a model, -1 to 1.

Ranks, equal values sharing the mean of their places, and Pearson's correlation of those. Rows drawn for the interval
keep the ranks that they have among all rows, which makes the figure one of sums. It is 0 where one side is constant.

Ref: C. Spearman, The proof and measurement of association between two things, American Journal of Psychology 15 (1904).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smelt.evals.resampling import Numbers, Score, divided


def ranks(values: Sequence[float] | Numbers) -> Numbers:
    """Return ranks from 0 on, equal values sharing their mean: [3, 1, 3] -> [1.5, 0, 1.5]."""
    _, places, times = np.unique(np.asarray(values, np.float64), return_inverse=True, return_counts=True)
    last = times.cumsum()
    return (last - (times + 1) / 2.0)[places]


def spearman(one: Sequence[float] | Numbers, other: Sequence[float] | Numbers) -> Score:
    """Return the rank correlation of two columns as a score."""
    x, y = (column - column.mean() for column in (ranks(one), ranks(other)))
    return Score(np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=1), _correlation)


def _correlation(sums: Numbers) -> Numbers:
    num, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    spread = np.sqrt(np.maximum(num * xx - x * x, 0.0) * np.maximum(num * yy - y * y, 0.0))
    return divided(num * xy - x * y, spread)
