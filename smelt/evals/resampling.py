"""Figures that are sums over rows, with intervals from resampled rows, and differences between two models' figures.

A mean is a sum of values over a sum of ones, BLEU a function of counted n-grams: so every metric here is a table (R, S)
of what each row adds, and a function from sums to the figure. Drawing rows anew is then a product of how often each row
was drawn with that table, a thousand times in some milliseconds, and two models that answered the same rows are drawn
alike, so that hard rows do not count as a difference between them.

Ref: B. Efron, Bootstrap methods, Annals of Statistics 7 (1979), percentile intervals. Ref: P. Koehn, Statistical
significance tests for machine translation evaluation, EMNLP 2004 (paired).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.core.errors import UsageError

Numbers = NDArray[np.float64]
NUM_DRAWS = 1000
LEVELS = (2.5, 97.5)
DRAWN_AT_ONCE = 2_000_000
"""Counts of rows in memory: draws times rows."""


@dataclass(frozen=True)
class Score:
    """What each row adds (R, S), and the figure of sums (..., S) -> (...)."""

    rows: Numbers
    figure: Callable[[Numbers], Numbers]

    def __post_init__(self) -> None:
        if not len(self.rows):
            raise UsageError("a figure of no row", accepted="one row at least")

    @property
    def value(self) -> float:
        """The figure of all rows."""
        return float(self.figure(self.rows.sum(axis=0)))

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """Return the 95 % interval of the figure over rows drawn anew; the same seed gives the same interval."""
        return _between(self._drawn(seed))

    def gain(self, before: Score, seed: int = 0) -> tuple[float, float]:
        """Return the 95 % interval of this figure less another's on the same rows.

        Raises UsageError where the rows are not as many.
        """
        if len(before.rows) != len(self.rows):
            raise UsageError(f"{len(self.rows)} rows against {len(before.rows)}", accepted="the same rows of both")
        return _between(self._drawn(seed) - before._drawn(seed))

    def _drawn(self, seed: int) -> Numbers:
        """Return the figures of NUM_DRAWS draws of as many rows, with repetition."""
        return np.concatenate([self.figure(sums) for sums in resampled(self.rows, seed)])


def resampled(rows: Numbers, seed: int) -> Iterator[Numbers]:
    """Yield the sums (draws, S) of as many rows (R, S) drawn anew, with repetition, NUM_DRAWS in all."""
    generator, num_rows = np.random.default_rng(seed), len(rows)
    step = max(1, DRAWN_AT_ONCE // num_rows)
    for start in range(0, NUM_DRAWS, step):
        draws = min(step, NUM_DRAWS - start)
        times = generator.multinomial(num_rows, np.full(num_rows, 1.0 / num_rows), size=draws)  # (draws, R)
        yield times.astype(np.float64) @ rows


def _between(figures: Numbers) -> tuple[float, float]:
    low, high = np.percentile(figures, LEVELS)
    return float(low), float(high)


def mean_score(values: Sequence[float] | Numbers) -> Score:
    """Return the mean of one value a row as a score: [1, 0, 0.5] -> 0.5."""
    column = np.asarray(values, dtype=np.float64)
    return ratio_score(column, np.ones_like(column))


def ratio_score(parts: Sequence[float] | Numbers, wholes: Sequence[float] | Numbers) -> Score:
    """Return the sum of parts over the sum of wholes, 0 where there is no whole: [1, 1] of [2, 3] -> 0.4."""
    return Score(np.stack([np.asarray(parts, np.float64), np.asarray(wholes, np.float64)], axis=1), _ratio)


def _ratio(sums: Numbers) -> Numbers:
    return divided(sums[..., 0], sums[..., 1])


def divided(part: Numbers, whole: Numbers) -> Numbers:
    """Divide numbers, with 0 for what divides by 0."""
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=whole != 0)
