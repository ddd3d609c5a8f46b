"""How well facts are found in texts: precision, recall and F1 over all of them, with an interval over texts.

A fact counts when it is equal in every part to one that its text states; both sides are sets, so a repeated one counts
once. Facts of one text stand or fall together, whence the interval is a bootstrap that draws texts, not facts.

Ref: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, 13.3 (percentile interval).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.core.errors import UsageError

DRAWS = 2000


@dataclass(frozen=True)
class Found:
    """Hold precision, recall and F1, 0 to 1, F1's 95 % interval, and how many facts were right, claimed and there."""

    precision: float
    recall: float
    f1: float
    f1_interval: tuple[float, float]
    right: int
    claimed: int
    there: int

    def __str__(self) -> str:
        low, high = (100 * end for end in self.f1_interval)
        shares = f"precision {100 * self.precision:.1f} %, recall {100 * self.recall:.1f} %"
        return f"F1 {100 * self.f1:.1f} % ({low:.1f}-{high:.1f} %), {shares}"


def compare_facts(claimed: Sequence[Set[object]], there: Sequence[Set[object]], *, seed: int = 0) -> Found:
    """Compare the facts that were claimed of each text with those that are there; nothing of nothing counts 0.

    [{a, b}, {c}] and [{a}, {d}] -> precision 1/3, recall 1/2, F1 0.4

    Raises:
        UsageError: no texts, or not as many of both.
    """
    if not there or len(claimed) != len(there):
        raise UsageError(f"{len(claimed)} answers for {len(there)} texts", accepted="one for each of some texts")
    rows = [(len(mine & true), len(mine), len(true)) for mine, true in zip(claimed, there, strict=True)]
    counts = np.array(rows, dtype=np.float64)  # (texts, right claimed there)
    right, said, wanted = counts.sum(axis=0)
    low, high = bootstrap(counts, _f1, seed=seed)
    return Found(
        _share(right, said), _share(right, wanted), float(_f1(counts.sum(axis=0)[None])[0]), (low, high),
        int(right), int(said), int(wanted),
    )  # fmt: skip


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else 0.0


def _f1(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return F1 of sums (n, 3) of right, claimed and there: 2 right / (claimed + there)."""
    return 2 * sums[:, 0] / np.maximum(sums[:, 1] + sums[:, 2], 1)


def mean_of(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean from sums (n, 2) of values and of their number."""
    return sums[:, 0] / np.maximum(sums[:, 1], 1)


def bootstrap(
    counts: NDArray[np.float64], figure: Callable[[NDArray[np.float64]], NDArray[np.float64]], *, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % interval of a figure of the summed counts (groups, n), drawing groups with replacement."""
    generator, size = np.random.default_rng(seed), len(counts)
    times = generator.multinomial(size, np.full(size, 1 / size), size=DRAWS)  # (draws, groups)
    low, high = np.quantile(figure(times @ counts), (0.025, 0.975))
    return float(low), float(high)
