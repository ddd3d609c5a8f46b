"""Byte-pair encoding: a word begins as bytes (or characters), and the best-ranked neighbours are joined until none are.

Two kinds are in use. Over bytes (GPT-2), every text has an encoding, because all 256 bytes are tokens: 磨 is three
bytes if no merge has seen it. Over characters (SentencePiece), a character outside the vocabulary becomes its bytes as
tokens "<0xE7>", or the unknown token.

    merges l+o, lo+w, e+r:  "lower" -> l o w e r -> lo w e r -> low e r -> low er

This is the definition, word by word; `kernels.bpe` gives the same a hundred times as fast.

Ref: arXiv:1508.07909, algorithm 1; GPT-2, section 2.2; BPE-dropout, arXiv:1910.13267, algorithm 1.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import pairwise
from random import Random
from typing import Literal

from smelt.core.errors import TokenizerError
from smelt.tokenizers.merging import Merges, Pair, merge_word


class BPE:
    """A BPE model; immutable, and safe to share between threads.

    Args:
        tokens: the bytes of every id; of characters, their UTF-8.
        merges: the pairs of ids to join, best rank first.
        level: whether words begin as bytes or as characters.
        ranks: the rank of each merge; None counts from 0. Equal ranks go from left to right (SentencePiece and
            tiktoken rank a merge by what it makes, so all ways to make a token rank alike).
        unk_id: what a character outside the vocabulary becomes, if its bytes do not.
        fuse_unk: whether unknown characters in a row become one.
        byte_fallback: whether they become the tokens <0x00> to <0xFF> of their bytes.
        ignore_merges: whether a word that is a token is that token, even if no merge makes it.
        end_of_word_suffix: a mark at the end of a word's last character ("</w>" in GPT-1).
        hidden: ids that no text becomes: control tokens in the same vocabulary.

    Raises:
        TokenizerError: two tokens are equal, a symbol is missing, or a merge makes no token or a hidden one.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        merges: Sequence[Pair],
        *,
        level: Literal["bytes", "characters"] = "bytes",
        ranks: Sequence[int] | None = None,
        unk_id: int | None = None,
        fuse_unk: bool = False,
        byte_fallback: bool = False,
        ignore_merges: bool = False,
        end_of_word_suffix: str = "",
        hidden: Sequence[int] = (),
    ) -> None:
        self.tokens, self.merges, self.level = tuple(tokens), tuple(merges), level
        self.ranks = tuple(range(len(self.merges))) if ranks is None else tuple(ranks)
        self.unk_id, self.fuse_unk, self.byte_fallback = unk_id, fuse_unk, byte_fallback
        self.ignore_merges, self.end_of_word_suffix = ignore_merges, end_of_word_suffix
        self.hidden = frozenset(hidden)
        self.id_of = {token: number for number, token in enumerate(self.tokens)}
        self._check_tokens()
        self.products = self._products()
        self.byte_ids = [self._byte_id(byte) for byte in range(256)]

    @functools.cached_property
    def _ranked(self) -> Merges:
        """Return every merge with its rank and product (15 MB for GPT-2, which compiled code does not need)."""
        return {
            pair: (rank, product) for pair, rank, product in zip(self.merges, self.ranks, self.products, strict=True)
        }

    def _check_tokens(self) -> None:
        if len(self.id_of) != len(self.tokens):
            twice = next(token for number, token in enumerate(self.tokens) if self.id_of[token] != number)
            raise TokenizerError(f"the token {twice!r} is in the vocabulary twice", accepted="distinct tokens")
        if self.level == "bytes":
            missing = [f"byte 0x{byte:02X}" for byte in range(256) if bytes([byte]) not in self.id_of]
        else:
            missing = [f"<0x{byte:02X}>" for byte in range(256) if f"<0x{byte:02X}>".encode() not in self.id_of]
        if missing and (self.level == "bytes" or self.byte_fallback):
            raise TokenizerError(
                f"the vocabulary has no token for {missing[0]} ({len(missing)} bytes are missing)",
                accepted=f"a vocabulary with all 256 bytes{'' if self.level == 'bytes' else ' as <0x00> to <0xFF>'}",
            )
        if len(self.ranks) != len(self.merges):
            raise TokenizerError(f"{len(self.ranks)} ranks for {len(self.merges)} merges", accepted="a rank for each")

    def _products(self) -> list[int]:
        """Return what each merge makes."""
        tokens, id_of = self.tokens, self.id_of
        found = [id_of.get(tokens[left] + tokens[right], -1) for left, right in self.merges]
        if wrong := ({-1} | self.hidden).intersection(found):
            number = next(number for number, product in enumerate(found) if product in wrong)
            joined = b"".join(tokens[part] for part in self.merges[number])
            if found[number] == -1:
                raise TokenizerError(f"merge {number} makes {joined!r}, which is not in the vocabulary")
            what = f"merge {number} makes the special token {joined!r}, so plain text could produce it"
            raise TokenizerError(what)
        return found

    def _byte_id(self, byte: int) -> int | None:
        """Return what a byte becomes that begins no token: of a character that the vocabulary lacks."""
        if self.level == "bytes":
            return self.id_of[bytes([byte])]
        if self.byte_fallback:
            return self.id_of[f"<0x{byte:02X}>".encode()]
        return None if 0x80 <= byte < 0xC0 else self.unk_id  # the unknown token once a character: at its first byte

    @property
    def symbol_ids(self) -> list[int]:
        """Return the ids that words are made of before any merge."""
        if self.level == "bytes":
            return [self.id_of[bytes([byte])] for byte in range(256)]
        return [
            number for number, token in enumerate(self.tokens) if self._is_symbol(token) and number not in self.hidden
        ]

    def _known(self, text: str) -> int | None:
        """Return the id of a token that text may become."""
        number = self.id_of.get(text.encode("utf-8"))
        return None if number in self.hidden else number

    def _is_symbol(self, token: bytes) -> bool:
        text = token.decode("utf-8", errors="replace")
        return len(text) == 1 or (len(text.removesuffix(self.end_of_word_suffix)) == 1)

    def encode_word(self, word: str) -> list[int]:
        """Return the ids of a word.

        Raises:
            UnicodeEncodeError: the word holds a lone surrogate.
        """
        if self.ignore_merges and (whole := self._known(word)) is not None:
            return [whole]
        return merge_word(self._symbols(word), self._ranked)

    def sample_word(self, word: str, dropout: float, random: Random) -> list[int]:
        """Return the ids of a word when each merge, each time it is due, is left out with a probability (0 to 1)."""
        ids = self._symbols(word)
        while True:
            places = [place for place, pair in enumerate(pairwise(ids)) if pair in self._ranked]
            kept = [place for place in places if random.random() >= dropout]
            if not kept:
                return ids
            best = min(kept, key=lambda place: (self._ranked[ids[place], ids[place + 1]][0], place))
            ids[best : best + 2] = [self._ranked[ids[best], ids[best + 1]][1]]

    def _symbols(self, word: str) -> list[int]:
        """Return the ids of a word's bytes or characters."""
        if self.level == "bytes":
            return [number for byte in word.encode("utf-8") if (number := self.byte_ids[byte]) is not None]
        ids: list[int] = []
        unknown_before = False
        for place, character in enumerate(word):
            last = place == len(word) - 1
            known = self._known(character + self.end_of_word_suffix * last)
            if known is not None:
                ids.append(known)
            elif not (unknown_before and self.fuse_unk and not self.byte_fallback):
                ids += [found for byte in character.encode() if (found := self.byte_ids[byte]) is not None]
            unknown_before = known is None
        return ids
