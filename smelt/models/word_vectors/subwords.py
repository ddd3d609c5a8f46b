"""What a word is made of for fastText: itself and its character n-grams, hashed into a fixed number of rows.

    parts of "mill", lengths 3 to 6: <mi mil ill ll> <mil mill ill> <mill mill> <mill>

The hash is FNV-1a over UTF-8 as fastText computes it: bytes from 128 on are extended with their sign, which differs
from the published FNV-1a. Two n-grams that share a row share a vector; with many more rows than n-grams few do.

Ref: Bojanowski et al., Enriching word vectors with subword information, arXiv:1607.04606, section 3.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from smelt.core.errors import UsageError
from smelt.models.word_vectors.corpus import IdArray, IntArray

OFFSET, PRIME = 2166136261, 16777619
MASK = 0xFFFFFFFF


@dataclass(frozen=True)
class Subwords:
    """The lengths of n-grams, in characters, and the rows (`buckets`) that they are hashed into."""

    min_length: int = 3
    max_length: int = 6
    buckets: int = 200_000

    def __post_init__(self) -> None:
        if not 1 <= self.min_length <= self.max_length:
            raise UsageError(
                f"n-grams of {self.min_length} to {self.max_length} characters", accepted="1 or more, the least first"
            )
        if self.buckets < 1:
            raise UsageError(f"buckets={self.buckets} is not possible", accepted="1 or more")

    def rows(self, word: str) -> list[int]:
        """Return the rows of a word's n-grams, from 0 on, in order of place and length."""
        return [ngram_hash(ngram) % self.buckets for ngram in ngrams(word, self.min_length, self.max_length)]

    def tables(self, words: Sequence[str]) -> tuple[IntArray, IdArray]:
        """Return the parts of a vocabulary: those of word w are `parts[starts[w]:starts[w + 1]]`, (V + 1,) and (P,).

        Part w is the word itself; those of n-grams follow after all words.
        """
        parts = [[number, *(len(words) + row for row in self.rows(word))] for number, word in enumerate(words)]
        starts = np.concatenate([[0], np.cumsum([len(row) for row in parts])])
        return starts, np.fromiter((part for row in parts for part in row), np.int32, starts[-1])


def ngrams(word: str, min_length: int, max_length: int) -> list[str]:
    """Return the n-grams of <word>; a mark of its end alone is none."""
    marked = f"<{word}>"
    return [
        marked[begin : begin + length]
        for begin in range(len(marked))
        for length in range(min_length, min(max_length, len(marked) - begin) + 1)
        if length > 1 or 0 < begin < len(marked) - 1
    ]


def ngram_hash(text: str) -> int:
    """Return fastText's 32-bit hash of a text."""
    state = OFFSET
    for byte in text.encode():
        state = ((state ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * PRIME) & MASK
    return state
