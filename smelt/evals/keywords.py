"""Keywords as sets: how many of those written are wanted, and how many of those wanted are written.

A text is cut at commas, semicolons, vertical bars, line ends and their Chinese forms; order, case and repetition do not
count. Counts are summed over all rows before they are divided, so a row with many keywords weighs more, and the three
figures agree with each other.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from smelt.evals.resampling import Score, ratio_score

_SEPARATOR = re.compile(r"[,;|\n，、；｜]")
_AROUND = " \t\r.。:：-*•\"'“”‘’"


def keywords(text: str) -> frozenset[str]:
    """Return the keywords of a text: "Mill, river;  mill" -> {mill, river}."""
    parts = (" ".join(part.strip(_AROUND).lower().split()) for part in _SEPARATOR.split(text))
    return frozenset(part for part in parts if part)


def keyword_scores(written: Sequence[str], wanted: Sequence[str]) -> dict[str, Score]:
    """Score lists of keywords against one list each: precision, recall, and their harmonic mean."""
    pairs = [(keywords(ours), keywords(theirs)) for ours, theirs in zip(written, wanted, strict=True)]
    rows = np.array([(len(ours & theirs), len(ours), len(theirs)) for ours, theirs in pairs], dtype=np.float64)
    hits, claimed, there = rows.reshape(-1, 3).T
    return {
        "keyword_precision": ratio_score(hits, claimed),
        "keyword_recall": ratio_score(hits, there),
        "keyword_f1": ratio_score(2 * hits, claimed + there),
    }
