"""Rankings: where among all documents those stand that a question is about.

A document that is as near as the right one counts as before it, so vectors that are all alike find nothing. Recall@k is
the share of a question's documents among the first k, MRR the mean of 1 / the first one's place, nDCG@k the sum of
1 / log2(1 + place) over those within k, divided by the best possible. Each is a mean over questions.

Ref: K. Järvelin, J. Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 20 (2002), gains of 0 and 1.
Ref: E. Voorhees, TREC-8 question answering track report (1999), MRR.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from smelt.evals.resampling import Numbers, Score, mean_score

Places = NDArray[np.int64]
RECALL_AT, NDCG_AT = (1, 5, 10), 10


def places(nearness: Numbers, relevant: Sequence[int]) -> Places:
    """Return the places, from 1 on, of relevant documents in order, given how near each document (D,) is.

    [0.9, 0.5, 0.9], relevant [0] -> [2]
    """
    is_relevant = np.zeros(len(nearness), dtype=bool)
    is_relevant[list(relevant)] = True
    order = np.lexsort((is_relevant, -nearness))  # by nearness, then those that are not relevant
    return np.flatnonzero(is_relevant[order]) + 1


def recall_at(found: Places, k: int) -> float:
    """Return the share of relevant documents among the first k."""
    return float((found <= k).mean())


def reciprocal_rank(found: Places) -> float:
    """Return 1 / the place of the first relevant document."""
    return 1.0 / float(found[0])


def ndcg_at(found: Places, k: int) -> float:
    """Return the discounted gain within k, as a share of that of the best order."""
    best = np.arange(1, min(k, len(found)) + 1)
    return float((1.0 / np.log2(1.0 + found[found <= k])).sum() / (1.0 / np.log2(1.0 + best)).sum())


def ranking_scores(found: Sequence[Places]) -> dict[str, Score]:
    """Score the places of each question's documents."""
    return {
        **{f"recall_at_{k}": mean_score([recall_at(one, k) for one in found]) for k in RECALL_AT},
        "mrr": mean_score([reciprocal_rank(one) for one in found]),
        f"ndcg_at_{NDCG_AT}": mean_score([ndcg_at(one, NDCG_AT) for one in found]),
    }
