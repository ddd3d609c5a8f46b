"""Distinct-1 and -2: how many different words and pairs of words replies have, of all that they have.

A model that says the same to everybody has few. It is a figure of the whole, not a sum over rows: a row drawn twice
adds nothing new, so intervals of drawn rows would lie too low. What a row adds is taken from the figure without that
row instead (its pseudo-value), and those are drawn. Texts that are longer have fewer different words, so compare models
on the same questions only.

Ref: J. Li et al., A diversity-promoting objective function, arXiv:1510.03055, 4.4. Ref: J. Tukey, Bias and
confidence in not-quite large samples (1958), pseudo-values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from smelt.evals.resampling import Score, divided, mean_score
from smelt.evals.rouge import ngrams
from smelt.evals.wording import words


def distinct_score(texts: Sequence[str], size: int) -> Score:
    """Return the share of different runs of `size` words among all: "a b", "a c" -> 3/4."""
    rows = [ngrams(words(text), size) for text in texts]
    every = Counter[tuple[str, ...]]()
    for row in rows:
        every.update(row)
    total = np.array([row.total() for row in rows], dtype=np.float64)
    alone = np.array([sum(every[gram] == times for gram, times in row.items()) for row in rows], dtype=np.float64)
    whole = divided(np.array(float(len(every))), total.sum())
    without = divided(len(every) - alone, total.sum() - total)  # (R,) the figure when a row is left out
    pseudo = len(rows) * whole - (len(rows) - 1) * without
    return mean_score(pseudo - pseudo.mean() + whole)


def distinct(written: Sequence[str], wanted: Sequence[str]) -> dict[str, Score]:
    """Score replies; what is wanted is not looked at."""
    return {f"distinct_{size}": distinct_score(written, size) for size in (1, 2)}
