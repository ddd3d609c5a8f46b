"""Two parts of a text side by side, and a question about them: does the second follow, or are they in order?

Next sentence: half of the second parts come from another document (label 1). That is easy, the topic gives it away,
so ALBERT asks for order instead: half of the pairs are swapped (label 1). The cut falls behind the end of a sentence
near a random place, or at that place where there is none. Labels are those of published models: 0 is the true pair.

    text         the mill stands . | it turns .
    next (0)     [CLS] the mill stands . [SEP] it turns . [SEP]
    next (1)     [CLS] the mill stands . [SEP] bread is sold . [SEP]
    order (1)    [CLS] it turns . [SEP] the mill stands . [SEP]
    types          0    0   0    0    0   0     1   1   1   1

Ref: BERT, arXiv:1810.04805, 3.1, task 2; ALBERT, arXiv:1909.11942, 3.1.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from smelt.data.corruption.example import as_ids
from smelt.data.corruption.words import Flags
from smelt.data.packing import Array


def cut_in_two(ids: Array, ends: Flags, rng: Generator) -> tuple[Array, Array]:
    """Cut ids (n,), n at least 2, in two parts behind the end of a sentence, ends (n,), nearest to a random place."""
    place = int(rng.integers(1, len(ids)))
    borders = np.flatnonzero(ends[:-1]) + 1
    if len(borders):
        place = int(borders[np.abs(borders - place).argmin()])
    return ids[:place], ids[place:]


def next_sentence(first: Array, second: Array, other: Array, rng: Generator) -> tuple[Array, Array, int]:
    """Return a pair and its label: the true one (0), or, half of the time, `other` in place of the second (1)."""
    return (first, other, 1) if rng.random() < 0.5 else (first, second, 0)


def sentence_order(first: Array, second: Array, rng: Generator) -> tuple[Array, Array, int]:
    """Return a pair and its label: as it was (0), or, half of the time, swapped (1)."""
    return (second, first, 1) if rng.random() < 0.5 else (first, second, 0)


def join_pair(first: Array, second: Array, class_id: int, separator_id: int) -> tuple[Array, Array]:
    """Return ids and token types of [CLS] first [SEP] second [SEP]."""
    ids = as_ids(class_id, first, separator_id, second, separator_id)
    return ids, (np.arange(len(ids)) >= len(first) + 2).astype(np.int32)
