"""BLEU of a corpus: runs of one to four words that a translation shares with its reference, as sacreBLEU counts them.

The figure is the geometric mean of four precisions over the whole corpus, times exp(1 - wanted / written words) where
too little was written. A precision of 0 counts as 1 / 2 of a hit, the next one as 1 / 4 (sacreBLEU's default, "exp");
a corpus without a run of four words has 0. Shares here, so 0.273 is what sacreBLEU calls 27.3.

Ref: K. Papineni et al., BLEU, ACL 2002. Ref: sacreBLEU, arXiv:1804.08771.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from smelt.evals.resampling import Numbers, Score
from smelt.evals.rouge import ngrams
from smelt.evals.wording import bleu_words, is_chinese

ORDERS = 4


def counts(written: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Return what a row adds: common runs of 1 to 4 words, those written, and the words of both."""
    pairs = [(ngrams(written, size), ngrams(wanted, size)) for size in range(1, ORDERS + 1)]
    common = [(ours & theirs).total() for ours, theirs in pairs]
    return [*common, *(ours.total() for ours, _ in pairs), len(written), len(wanted)]


def figure(sums: Numbers) -> Numbers:
    """Return BLEU, 0 to 1, of summed counts (..., 10)."""
    common, total = sums[..., :ORDERS], sums[..., ORDERS : 2 * ORDERS]
    written, wanted = sums[..., -2], sums[..., -1]
    smaller = 2.0 ** np.cumsum(common == 0, axis=-1)
    hits = np.where(common > 0, common, 1.0 / smaller)
    logs = np.log(hits / np.maximum(total, 1.0)).mean(axis=-1)
    penalty = np.exp(np.minimum(0.0, 1.0 - wanted / np.maximum(written, 1.0)))
    is_some = (total[..., -1] > 0) & (common.sum(axis=-1) > 0)
    return np.where(is_some, penalty * np.exp(logs), 0.0)


def bleu(written: Sequence[str], wanted: Sequence[str]) -> dict[str, Score]:
    """Score texts against one reference each; they are cut as Chinese where the references are."""
    chinese = is_chinese(wanted)
    rows = [
        counts(bleu_words(ours, chinese=chinese), bleu_words(theirs, chinese=chinese))
        for ours, theirs in zip(written, wanted, strict=True)
    ]
    return {"bleu": Score(np.array(rows, dtype=np.float64).reshape(-1, 2 * ORDERS + 2), figure)}
