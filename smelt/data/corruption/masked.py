"""Hide some tokens of a text and ask for them back, each in its place (masked language modelling).

A fixed share is chosen, at least one; of the chosen, 80 % become the mask, 10 % another token and 10 % stay, so that
the model must have an idea of every token, also of those that look untouched. With a table of continuations whole
words are chosen: half a word gives the other half away. Special tokens are neither hidden nor drawn as replacements.

    ids    [CLS] the mill ##er sells bread [SEP]          the word "mill ##er" is chosen, and "bread" alone
    input  [CLS] the [MASK] [MASK] sells river [SEP]
    label    -    -   mill   ##er    -   bread   -

Ref: BERT, arXiv:1810.04805, 3.1 and appendix A.1 (and its whole word masking); RoBERTa, arXiv:1907.11692, 4.1 (a new
draw every epoch).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from smelt.data.corruption.words import Flags
from smelt.data.packing import IGNORED, Array

MASK_SHARE, RANDOM_SHARE = 0.8, 0.1  # of the chosen tokens; the rest stays as it is


@dataclass(frozen=True)
class Masking:
    """Say what to hide: `rate` (0 to 1) of the tokens that are not `special` (V,); whole words if `continues` (V,)."""

    mask_id: int
    special: Flags
    rate: float = 0.15
    continues: Flags | None = None

    @cached_property
    def ordinary(self) -> NDArray[np.int64]:
        """Return the ids that may stand in for others."""
        return np.flatnonzero(~self.special)


def mask_tokens(ids: Array, masking: Masking, rng: Generator) -> tuple[Array, Array]:
    """Return inputs and labels (n,) for ids (n,)."""
    chosen = choose(ids, masking, rng)
    labels = np.full(len(ids), IGNORED, dtype=np.int32)
    labels[chosen] = ids[chosen]
    inputs = ids.astype(np.int32)
    fate = rng.random(len(chosen))
    inputs[chosen[fate < MASK_SHARE]] = masking.mask_id
    others = chosen[fate >= 1 - RANDOM_SHARE]
    inputs[others] = rng.choice(masking.ordinary, len(others))
    return inputs, labels


def choose(ids: Array, masking: Masking, rng: Generator) -> NDArray[np.int64]:
    """Return the places to predict: round(rate x candidates), at least one; with whole words, at most that many."""
    candidates = np.flatnonzero(~masking.special[ids])
    if not len(candidates):
        return candidates
    budget = max(1, round(masking.rate * len(candidates)))
    if masking.continues is None:
        return rng.permutation(candidates)[:budget]
    words = np.split(candidates, np.flatnonzero(begins_word(ids, candidates, masking.continues))[1:])
    chosen: list[NDArray[np.int64]] = []
    room = budget
    shuffled = [words[number] for number in rng.permutation(len(words))]
    for word in shuffled:
        if len(word) <= room:
            chosen.append(word)
            room -= len(word)
    return np.concatenate(chosen or shuffled[:1])  # every word too long: one of them, since a row must teach something


def begins_word(ids: Array, candidates: NDArray[np.int64], continues: Flags) -> Flags:
    """Tell of each candidate place whether a word begins there: always behind a place that is none."""
    follows = np.diff(candidates, prepend=candidates[0] - 2) == 1
    begins: Flags = ~(continues[ids[candidates]] & follows)
    return begins
