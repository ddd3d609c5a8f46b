"""GloVe's table of counts: how often two words stood near each other, each time weighted by 1 / distance.

Both orders of two words are one pair, because windows are symmetric. The table is open addressing in two arrays, made
twice as large when half of it is in use: 16 bytes a row, so 32 to 64 a pair while it is counted, 16 afterwards.

Ref: Pennington et al., GloVe: Global vectors for word representation, 2014, sections 3 and 4.2.
"""

from __future__ import annotations

import numpy as np

from smelt.core.errors import UsageError
from smelt.models.word_vectors.corpus import Corpus
from smelt.models.word_vectors.kernels import EMPTY, Doubles, Keys, count_pairs, move_pairs

FIRST_ROWS = 1 << 20


def pair_counts(corpus: Corpus, window: int, first_rows: int = FIRST_ROWS) -> tuple[Keys, Doubles]:
    """Return the pairs of a corpus as `smaller * V + larger`, ascending, and their weighted counts, both (pairs,).

    Raises UsageError where no two words stand side by side.
    """
    keys, weights = np.full(first_rows, EMPTY), np.zeros(first_rows)  # a power of two
    place = used = 0
    while True:
        place, used = count_pairs(corpus.ids, place, window, len(corpus.vocabulary), keys, weights, used)
        if place == len(corpus.ids):
            break
        larger, larger_weights = np.full(2 * len(keys), EMPTY), np.zeros(2 * len(keys))
        move_pairs(keys, weights, larger, larger_weights)
        keys, weights = larger, larger_weights
    found = np.flatnonzero(keys != EMPTY)
    if not len(found):
        raise UsageError("no two words stand side by side in the text", fix="a lower --min-count, or longer paragraphs")
    found = found[np.argsort(keys[found])]
    return keys[found], weights[found]
