"""Rates with their uncertainty: a share of 9 in 10 is not the share of 900 in 1,000.

The Wilson score interval is used because it behaves where evaluations live: few rows a kind and rates near 0 or 1,
where the textbook interval leaves [0, 1] or shrinks to nothing. It costs one square root.

Ref: E. B. Wilson, Probable inference, the law of succession, and statistical inference, JASA 22 (1927).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from smelt.core.errors import UsageError


def wilson_interval(correct: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a rate; z = 1.96 is 95 %. Nothing counted -> (0.0, 1.0).

    wilson_interval(9, 10) -> (0.596, 0.982)
    """
    if not 0 <= correct <= total:
        raise UsageError(f"{correct} correct of {total} is not a rate", accepted="0 <= correct <= total")
    if total == 0:
        return 0.0, 1.0
    rate, spread = correct / total, z * z / total
    middle = rate + spread / 2
    half = z * math.sqrt(rate * (1 - rate) / total + spread / (4 * total))
    # At the ends the formula is exactly 0 or 1 and only rounding says otherwise.
    low = 0.0 if correct == 0 else (middle - half) / (1 + spread)
    high = 1.0 if correct == total else (middle + half) / (1 + spread)
    return low, high


@dataclass(frozen=True)
class Rate:
    """A count of hits with its 95 % Wilson interval."""

    correct: int
    total: int
    low: float
    high: float

    @classmethod
    def of(cls, correct: int, total: int) -> Rate:
        """Build the rate `correct` of `total` with its interval."""
        return cls(correct, total, *wilson_interval(correct, total))

    @property
    def value(self) -> float:
        """The share itself, 0.0 to 1.0; 0.0 where nothing was counted."""
        return self.correct / self.total if self.total else 0.0

    def __str__(self) -> str:
        return f"{100 * self.value:.1f} % ({self.correct}/{self.total}, {100 * self.low:.1f}-{100 * self.high:.1f} %)"
