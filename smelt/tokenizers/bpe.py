"""Byte-level BPE: any text is bytes, and frequent runs of bytes inside a word are one token.

There is no unknown token: what no merge covers stays bytes, so decode(encode(text)) == text for every text. Words
repeat (Zipf), so each distinct word is merged once and remembered: English books encode at several MB/s in plain
Python. The memory is bounded: when full it starts afresh, and very long words never enter it.

Ids: 0..255 the bytes in `bytelevel.BYTE_ORDER`, then the learned tokens in order of learning, special tokens last.

Ref: GPT-2, section 2.2; arXiv:1508.07909.
"""

from __future__ import annotations

import functools
import json
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

import numpy as np
import numpy.typing as npt
import regex

from smelt.core.errors import TokenizerError
from smelt.core.storage import sha256_bytes
from smelt.tokenizers.base import SPECIAL, IdArray
from smelt.tokenizers.bpe_train import Progress, count_words, learn_merges
from smelt.tokenizers.bytelevel import CHARACTER_TO_BYTE, from_visible
from smelt.tokenizers.merging import Pair, merge_word
from smelt.tokenizers.pretokenize import compile_pattern, iterate_words
from smelt.tokenizers.tokenizer_json import to_json

# About 60 MB when full: more distinct words than 40 MB of books have.
CACHED_WORDS = 1 << 18
CACHED_WORD_CHARACTERS = 128


class _WordCache(dict[str, list[int]]):
    """Remember the ids of words; `cache[word]` works them out the first time."""

    def __init__(self, compute: Callable[[str], list[int]]) -> None:
        super().__init__()
        self.compute = compute

    def __missing__(self, word: str) -> list[int]:
        ids = self.compute(word)
        if len(word) <= CACHED_WORD_CHARACTERS:
            if len(self) >= CACHED_WORDS:
                self.clear()
            self[word] = ids
        return ids


class ByteBPE:
    """A byte-level BPE tokenizer; immutable, and safe to share between threads.

    Args:
        tokens: the bytes of every id, special tokens (as UTF-8) included.
        merges: the pairs of ids to join, best rank first.
        pattern: a name in `pretokenize.PATTERNS`, or a regular expression.
        special: control tokens, never produced from plain text.
        literal: added tokens that plain text does produce, found before any splitting (foreign files have them).

    Raises:
        TokenizerError: a byte has no token, two tokens are equal, or a merge makes no token or a special one.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        merges: Sequence[Pair],
        *,
        pattern: str,
        special: Mapping[str, int],
        literal: Mapping[str, int] | None = None,
    ) -> None:
        self.tokens = tuple(tokens)
        self.merges = tuple(merges)
        self.pattern = pattern
        self.special = dict(special)
        self.literal = dict(literal or {})
        id_of = {token: number for number, token in enumerate(self.tokens)}
        self._added = self.special | self.literal
        self._check(id_of)
        self._byte_ids = [id_of[bytes([byte])] for byte in range(256)]
        self._products = [id_of[self.tokens[left] + self.tokens[right]] for left, right in self.merges]
        self._ranks = {pair: rank for rank, pair in enumerate(self.merges)}
        self._cache = _WordCache(self._encode_word)
        self._literal_matcher = _matcher(self.literal)
        self._every_matcher = _matcher(self._added)
        self._special_ids = frozenset(self.special.values())

    def _check(self, id_of: Mapping[bytes, int]) -> None:
        compile_pattern(self.pattern)
        if len(id_of) != len(self.tokens):
            twice = next(token for number, token in enumerate(self.tokens) if id_of[token] != number)
            raise TokenizerError(f"the token {twice!r} is in the vocabulary twice", accepted="distinct tokens")
        if missing := [byte for byte in range(256) if bytes([byte]) not in id_of]:
            raise TokenizerError(
                f"the vocabulary has no token for byte 0x{missing[0]:02X} ({len(missing)} bytes are missing)",
                accepted="a byte-level vocabulary with all 256 bytes",
            )
        for rank, (left, right) in enumerate(self.merges):
            joined = self.tokens[left] + self.tokens[right]
            if joined not in id_of:
                raise TokenizerError(f"merge {rank} makes {joined!r}, which is not in the vocabulary")
            if id_of[joined] in self.special.values():
                raise TokenizerError(f"merge {rank} makes the special token {joined!r}, so plain text could produce it")
        for text, number in self._added.items():
            if not 0 <= number < len(self.tokens) or self.tokens[number] != text.encode("utf-8"):
                raise TokenizerError(f"the added token {text!r} is not what id {number} stands for")
            if id_of.get(_as_written(text), number) != number:
                raise TokenizerError(f"the added token {text!r} is written like another token of the vocabulary")

    @classmethod
    def train(
        cls,
        texts: Iterable[str],
        *,
        vocab_size: int,
        pattern: str = "gpt4",
        special: Sequence[str] = SPECIAL,
        on_progress: Progress | None = None,
    ) -> ByteBPE:
        """Learn a tokenizer from texts.

        `vocab_size` counts everything: 256 bytes, learned tokens and special tokens. The result is smaller when the
        text runs out of pairs that occur twice. `vocab_size == 256 + len(special)` gives bytes as they are.

        Raises:
            TokenizerError: the vocabulary is smaller than the alphabet, there is no text, or a special token repeats.
        """
        compile_pattern(pattern)
        smallest = 256 + len(special)
        if vocab_size < smallest:
            raise TokenizerError(
                f"vocab_size={vocab_size} is smaller than the alphabet: 256 bytes and {len(special)} special tokens",
                accepted=f"{smallest} or more",
                fix=f"vocab_size={smallest} for plain bytes, 4096 to 32768 for text",
            )
        if len(set(special)) != len(special) or "" in special:
            raise TokenizerError(f"special tokens must be distinct and not empty, got {list(special)!r}")
        counts = count_words(texts, pattern) if vocab_size > smallest else {}
        if vocab_size > smallest and not counts:
            raise TokenizerError("no text to train a tokenizer on", fix="check that the files are not empty")
        tokens, merges = learn_merges(counts, vocab_size - smallest, on_progress)
        special_ids = {text: len(tokens) + number for number, text in enumerate(special)}
        return cls([*tokens, *(text.encode("utf-8") for text in special)], merges, pattern=pattern, special=special_ids)

    @property
    def vocab_size(self) -> int:
        """Return the number of ids, special tokens included."""
        return len(self.tokens)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Return the SHA-256 of the canonical tokenizer.json content."""
        return sha256_bytes(json.dumps(to_json(self), sort_keys=True, separators=(",", ":")).encode("utf-8"))

    def encode(self, text: str, *, allow_special: bool = False) -> list[int]:
        """Return the ids of a text; special tokens in it become their ids only if allowed.

        Raises:
            TokenizerError: the text holds a lone surrogate, which no UTF-8 can express.
        """
        ids: list[int] = []
        self._encode_into(ids, text, allow_special)
        return ids

    def encode_batch(self, texts: Sequence[str], *, allow_special: bool = False) -> list[list[int]]:
        """Return the ids of each text."""
        return [self.encode(text, allow_special=allow_special) for text in texts]

    def encode_to_array(self, texts: Iterable[str], *, end_id: int | None) -> tuple[IdArray, npt.NDArray[np.int64]]:
        """Return all ids (N,) in one array and the end offset of each document (documents,), its `end_id` included."""
        small = self.vocab_size < 1 << 16
        ids, ends = array("H" if small else "I"), array("q")
        for text in texts:
            self._encode_into(ids, text, allow_special=False)
            if end_id is not None:
                ids.append(end_id)
            ends.append(len(ids))
        return np.asarray(memoryview(ids)), np.asarray(memoryview(ends))  # views, not copies

    def decode(self, ids: Sequence[int], *, skip_special: bool = False) -> str:
        """Return the text of some ids; bytes that are not UTF-8 become U+FFFD.

        Raises:
            TokenizerError: an id is not in the vocabulary.
        """
        if skip_special:
            ids = [token for token in ids if token not in self._special_ids]
        return self.decode_bytes(ids).decode("utf-8", errors="replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Return the exact bytes of some ids.

        Raises:
            TokenizerError: an id is not in the vocabulary.
        """
        size = len(self.tokens)
        for place, token in enumerate(ids):
            if not 0 <= token < size:
                raise TokenizerError(
                    f"id {token} at position {place} is not in the vocabulary", accepted=f"0 to {size - 1}"
                )
        return b"".join([self.tokens[token] for token in ids])

    def _encode_into(self, ids: list[int] | array[int], text: str, allow_special: bool) -> None:
        matcher = self._every_matcher if allow_special else self._literal_matcher
        try:
            if matcher is None:
                self._encode_plain_into(ids, text)
                return
            start = 0
            for match in matcher.finditer(text):
                self._encode_plain_into(ids, text[start : match.start()])
                ids.append(self._added[match.group()])
                start = match.end()
            self._encode_plain_into(ids, text[start:])
        except UnicodeEncodeError as error:
            place = next(place for place, character in enumerate(text) if "\ud800" <= character <= "\udfff")
            raise TokenizerError(
                f"the text has a lone surrogate (U+{ord(text[place]):04X}) at character {place}",
                fix="decode the file as UTF-8, or replace surrogates before encoding",
            ) from error

    def _encode_plain_into(self, ids: list[int] | array[int], text: str) -> None:
        # map, chain and extend run the loop over words in C: this line is most of the speed.
        for words in iterate_words(text, self.pattern):
            ids.extend(chain.from_iterable(map(self._cache.__getitem__, words)))

    def _encode_word(self, word: str) -> list[int]:
        byte_ids = self._byte_ids
        return merge_word([byte_ids[byte] for byte in word.encode("utf-8")], self._ranks, self._products)


def _as_written(text: str) -> bytes:
    """Return the bytes whose visible form is this text, or none: tokenizer.json could not tell the two apart."""
    return from_visible(text) if all(character in CHARACTER_TO_BYTE for character in text) else b""


def _matcher(added: Mapping[str, int]) -> regex.Pattern[str] | None:
    """Compile a pattern that finds added tokens: the leftmost, and of those the longest."""
    texts = sorted(added, key=len, reverse=True)
    return regex.compile("|".join(regex.escape(text) for text in texts)) if texts else None
