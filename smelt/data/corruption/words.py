"""Which tokens continue a word and which end a sentence: two tables by id, read once from a tokenizer.

What a token stands for inside a text says it for every kind of vocabulary: a space before it begins a word, whether
the file writes it as "Ġ", as "▁" or by the absence of "##". Punctuation and each Chinese character begin their own.

    WordPiece    play | ##ing | !       ->  no, yes, no        (is "ing" the rest of a word?)
    byte-level   " play" | "ing" | "!"  ->  no, yes, no
    bytes        E7 | A3 | A8 (磨)      ->  no, yes, yes       (a character is never torn apart)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from smelt.tokenizers.pipeline import Pipeline

Flags = NDArray[np.bool_]

FIRST_IDEOGRAPH = 0x2E80  # from here on come scripts that set no spaces between words (CJK, kana), Hangul aside
SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", "\n")
CLOSING = "\"'”’」』)）]"  # may stand between the end of a sentence and the next


def continues_word(tokenizer: Pipeline) -> Flags:
    """Return a table (V,) that is True for tokens that go on with the word before them; never for special ones."""
    table = np.array([_continues(token) for token in tokenizer.tokens], dtype=np.bool_)
    table[list(tokenizer.special.values())] = False
    return table


def ends_sentence(tokenizer: Pipeline) -> Flags:
    """Return a table (V,) that is True for tokens after which a sentence may begin, special ones included."""
    table = np.array([_ends(token) for token in tokenizer.tokens], dtype=np.bool_)
    table[list(tokenizer.special.values())] = True
    return table


def is_special(tokenizer: Pipeline) -> Flags:
    """Return a table (V,) that is True for special tokens."""
    table = np.zeros(tokenizer.vocab_size, dtype=np.bool_)
    table[list(tokenizer.special.values())] = True
    return table


def _continues(token: bytes) -> bool:
    if token[:1] and 0x80 <= token[0] < 0xC0:
        return True  # the inside of a character
    first = token.decode("utf-8", errors="replace")[:1]
    return first.isalnum() and ord(first) < FIRST_IDEOGRAPH


def _ends(token: bytes) -> bool:
    text = token.decode("utf-8", errors="replace")
    return text.rstrip(" ").rstrip(CLOSING).endswith(SENTENCE_ENDS)
