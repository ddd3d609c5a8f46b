"""chrF: the F-measure of shared runs of one to six characters, recall counting twice as much as precision.

Precision and recall are averaged over the six lengths for the whole corpus, those left out that one side has not, and
joined then; white space does not count. It needs no words, so it is the same for any language. Shares, as sacreBLEU's
chrF2 divided by 100.

Ref: M. Popović, chrF, WMT 2015. Ref: sacreBLEU, arXiv:1804.08771.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smelt.evals.resampling import Numbers, Score, divided
from smelt.evals.rouge import ngrams

ORDERS, BETA = 6, 2.0


def counts(written: str, wanted: str) -> list[int]:
    """Return what a row adds for each length: runs written, wanted and common; none written where none is wanted."""
    ours, theirs = "".join(written.split()), "".join(wanted.split())
    found = []
    for size in range(1, ORDERS + 1):
        one, other = ngrams(ours, size), ngrams(theirs, size)
        found += [one.total() if other else 0, other.total(), (one & other).total()]
    return found


def figure(sums: Numbers) -> Numbers:
    """Return chrF, 0 to 1, of summed counts (..., 18)."""
    written, wanted, common = (sums[..., first::3] for first in range(3))
    both = (written > 0) & (wanted > 0)
    lengths = both.sum(axis=-1)
    precision = divided((both * divided(common, written)).sum(axis=-1), lengths)
    recall = divided((both * divided(common, wanted)).sum(axis=-1), lengths)
    return divided((1 + BETA**2) * precision * recall, BETA**2 * precision + recall)


def chrf(written: Sequence[str], wanted: Sequence[str]) -> dict[str, Score]:
    """Score texts against one reference each."""
    rows = [counts(ours, theirs) for ours, theirs in zip(written, wanted, strict=True)]
    return {"chrf": Score(np.array(rows, dtype=np.float64).reshape(-1, 3 * ORDERS), figure)}
