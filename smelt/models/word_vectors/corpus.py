"""Text as rows of word numbers: what word vectors are trained on.

English and other alphabets are split into lower-cased words ("don't" is one), Chinese into single characters, digits
into runs; punctuation and space are dropped. A paragraph ends at an empty line, and no window reaches past its end.
Words that occur fewer than `min_count` times are dropped before windows are laid, as word2vec, fastText and GloVe do.
Anything else that cuts text into strings without spaces (a tokenizer's tokens, say) may take the place of `paragraphs`.

Costs one pass in Python: about half a second a million words, and 4 bytes a word of memory.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import regex
from numpy.typing import NDArray

from smelt.core.errors import DataError

IdArray = NDArray[np.int32]
IntArray = NDArray[np.int64]

BREAK = -1  # stands behind each paragraph
UNKNOWN = -2  # only in `Vocabulary.ids`: the rows of a corpus leave unknown words out

WORD = regex.compile(r"\p{Han}|[\p{L}\p{M}--\p{Han}]+(?:'[\p{L}\p{M}--\p{Han}]+)*|\p{N}+", regex.V1)
EMPTY_LINE = regex.compile(r"\n[^\S\n]*\n")


def split_words(text: str) -> list[str]:
    """Return the words of a text: split_words("The Mill isn’t 磨坊.") -> ["the", "mill", "isn't", "磨", "坊"]."""
    return WORD.findall(text.lower().replace("’", "'"))


def paragraphs(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the words of each paragraph that has any."""
    for text in texts:
        for part in EMPTY_LINE.split(text):
            if words := split_words(part):
                yield words


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The words that occurred often enough, the most frequent first."""

    words: tuple[str, ...]
    counts: IntArray  # (V,)
    num_unknown: int  # occurrences of all other words

    def __len__(self) -> int:
        return len(self.words)

    @cached_property
    def index(self) -> dict[str, int]:
        """Return the number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    @property
    def unknown_share(self) -> float:
        """Return the probability that a word is none of these: its share in training, one more seen of each kind."""
        return (self.num_unknown + 1) / (int(self.counts.sum()) + self.num_unknown + 2)

    def ids(self, words: Sequence[str]) -> IdArray:
        """Return the numbers of some words (N,), `UNKNOWN` for one that is not here."""
        return np.fromiter((self.index.get(word, UNKNOWN) for word in words), np.int32, len(words))


@dataclass(frozen=True, eq=False)
class Corpus:
    """All words of a text by number, rare ones left out, `BREAK` behind each paragraph."""

    vocabulary: Vocabulary
    ids: IdArray  # (N,)

    @property
    def num_words(self) -> int:
        """Return the number of words that vectors are trained on in one epoch."""
        return int(self.vocabulary.counts.sum())


def read_corpus(rows: Iterable[Sequence[str]], *, min_count: int = 5) -> Corpus:
    """Number the words of some rows; no window reaches from one row into the next.

    Raises DataError where no word occurs `min_count` times.
    """
    first_seen: defaultdict[str, int] = defaultdict()
    first_seen.default_factory = first_seen.__len__  # a new word gets the next number
    found = []
    end = np.array([BREAK], np.int32)
    for row in rows:
        found += [np.fromiter(map(first_seen.__getitem__, row), np.int32, len(row)), end]
    ids = np.concatenate(found) if found else end
    counts = np.bincount(ids[ids != BREAK], minlength=len(first_seen))
    words = list(first_seen)
    kept = sorted(np.flatnonzero(counts >= min_count).tolist(), key=lambda number: (-counts[number], words[number]))
    if not kept:
        commonest = f"; the commonest occurs {counts.max()} times" if len(words) else ""
        raise DataError(
            f"the text has {len(words):,} different words, none of them {min_count} times{commonest}",
            fix="give more text, or a lower min_count (--min-count 1 keeps every word)",
        )
    numbers = np.full(len(words) + 1, UNKNOWN, np.int32)
    numbers[BREAK] = BREAK  # the last place, which -1 means
    numbers[kept] = np.arange(len(kept))
    ids = numbers[ids]
    vocabulary = Vocabulary(tuple(words[number] for number in kept), counts[kept], int((ids == UNKNOWN).sum()))
    return Corpus(vocabulary, ids[ids != UNKNOWN])
