"""The two draws that negative sampling needs, as tables that cost one random number and one look each.

A frequent word is skipped with probability 1 - sqrt(t / f). A negative is drawn in proportion to count ** 0.75 from an
alias table: every column holds one word and the rest of one other, so a draw picks a column and one of its two words.

    shares 1/2 1/4 1/4, three columns of 1/3: [0: 1/3]  [1: 1/4, 0: 1/12]  [2: 1/4, 0: 1/12]

Random numbers come from SplitMix64: a counter that is mixed, so that any block of work can start its own stream.

Ref: Mikolov et al., Distributed representations of words and phrases, 2013, eq. 5 and section 2.2; Vose, A linear
algorithm for generating random numbers with a given distribution, 1991; Steele et al., Fast splittable pseudorandom
number generators, 2014.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.models.word_vectors.corpus import IntArray

NOISE_POWER = 0.75
ALWAYS = 1 << 32  # thresholds are compared with the 32 bits of a draw
MASK = (1 << 64) - 1
GOLDEN = 0x9E3779B97F4A7C15
MIX_ONE, MIX_TWO = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
Thresholds = NDArray[np.int64]
AliasTable = NDArray[np.int64]


def mixed(state: int) -> int:
    """Return the random number of 64 bits that belongs to a state; the next state is `GOLDEN` more."""
    state = (state ^ (state >> 30)) * MIX_ONE & MASK
    state = (state ^ (state >> 27)) * MIX_TWO & MASK
    return state ^ (state >> 31)


def stream_of(seed: int, *numbers: int) -> int:
    """Return the state at which the stream of one block begins: stream_of(seed, epoch, block)."""
    state = mixed(seed & MASK)
    for number in numbers:
        state = mixed((state + GOLDEN * (number + 1)) & MASK)
    return state


def keep_thresholds(counts: IntArray, sample: float) -> Thresholds:
    """Return for each word how many of 2 ** 32 draws keep it (V,); a `sample` of 0 keeps all words."""
    if sample == 0:
        return np.full(len(counts), ALWAYS)
    share = counts / counts.sum()
    thresholds: Thresholds = np.floor(np.minimum(1.0, np.sqrt(sample / share)) * ALWAYS).astype(np.int64)
    return thresholds


def alias_table(counts: IntArray, power: float = NOISE_POWER) -> AliasTable:
    """Return the table to draw words from in proportion to count ** power (V, 2): a threshold, and the other word."""
    shares = counts.astype(np.float64) ** power
    heights = (shares / shares.sum() * len(counts)).tolist()  # 1 is a full column
    table = np.empty((len(counts), 2), np.int64)
    table[:, 0], table[:, 1] = ALWAYS, np.arange(len(counts))
    low = [word for word, height in enumerate(heights) if height < 1]
    high = [word for word, height in enumerate(heights) if height >= 1]
    while low and high:
        small, large = low.pop(), high[-1]
        table[small] = int(heights[small] * ALWAYS), large
        heights[large] -= 1 - heights[small]
        if heights[large] < 1:
            low.append(high.pop())
    return table
