"""The compiled encoder of a BPE tokenizer: its tables, and a memo for each call that runs at the same time.

Documents come as UTF-8 laid end to end, so a call costs microseconds whatever their number.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.bpe import (
    EMPTY,
    MADE_SHIFT,
    MOST_NODES,
    MOST_SIZE,
    NO_SHORTER,
    NONE,
    TOKEN_NUMBERS,
    BpeTables,
)
from smelt.tokenizers.kernels.bpe_tables import (
    build_trie,
    find_makings,
    find_spines,
    pair_table,
    rehash,
    seed_memo,
    shift_for,
)
from smelt.tokenizers.kernels.clauses import joins_of
from smelt.tokenizers.kernels.documents import encode_documents
from smelt.tokenizers.kernels.loads import aligned_zeros, padded
from smelt.tokenizers.kernels.memo import LONG_ROW_BYTES, MAX_IDS, ROW_BYTES
from smelt.tokenizers.kernels.scan import WORDS_AT_ONCE
from smelt.tokenizers.kernels.unicode import character_classes

# Words that a memo takes beside the vocabulary: 8 MB for 32,768 tokens. 10 MB of English has 60,000 distinct words.
MEMO_WORDS = 1 << 16
LONG_ROWS, LISTED_IDS, LONG_WORDS = 1 << 14, 1 << 17, 1 << 13


def find_merges(num_tokens: int, ways: npt.NDArray[np.int64], symbols: Sequence[int]) -> list[tuple[int, int]] | None:
    """Return, of all ways to make tokens, the merges that can come up, best first.

    `ways` has rows of left id, right id, rank, product, in order of rank (ways, 4). None where a rank is lower than
    that of a part: then it takes merging step by step to know.
    """
    left, right, rank, product = (np.ascontiguousarray(column) for column in ways.T)
    pairs, shift = pair_table(left, right, rank, product)
    rows, made = np.zeros(TOKEN_NUMBERS * num_tokens, np.uint64), np.zeros(num_tokens, np.uint8)
    made[list(symbols)] = 1
    if not find_makings(left, right, rank, product, pairs, shift, rows, made):
        return None
    table = rows.reshape(-1, TOKEN_NUMBERS)
    products = np.flatnonzero(table[:, 3])
    ordered = products[np.argsort(table[products, 3] >> MADE_SHIFT, kind="stable")]
    return [(parts & NONE, parts >> 32) for parts in table[ordered, 2].tolist()]


class MergesOutOfOrder(Exception):
    """A merge ranks before one that makes its parts, or the tokens are too large for the tables."""


class FastBpe:
    """Encode documents of UTF-8; safe to share between threads.

    Args:
        tokens: the bytes of every id.
        merges: rows of left id, right id, rank, product, in order of rank (merges, 4); equal ranks go by place.
        symbols: the ids that words are made of before any merge.
        pattern: a number of `scan.PATTERN_NUMBER`.
        byte_ids: what each of the 256 bytes gives where no token begins with it, `NONE` for nothing.
        fuse: whether equal ids of `byte_ids` in a row become one.
        whole: ids that stand for a word that is exactly their text, whether merges make them or not.

    Raises:
        MergesOutOfOrder: such a table needs merging step by step.
    """

    def __init__(
        self,
        tokens: Sequence[bytes],
        merges: npt.NDArray[np.int64],
        *,
        symbols: Sequence[int],
        pattern: int,
        byte_ids: npt.NDArray[np.uint32],
        fuse: bool = False,
        whole: Sequence[int] = (),
    ) -> None:
        pool = padded(*tokens)
        offsets = np.concatenate([[0], np.cumsum([len(token) for token in tokens])]).astype(np.int64)
        left, right, rank, product = (np.ascontiguousarray(column) for column in merges.T)
        pairs, pair_shift = pair_table(left, right, rank, product)
        rows = aligned_zeros(TOKEN_NUMBERS * len(tokens))
        made, listed = np.zeros(len(tokens), np.uint8), np.zeros(len(tokens), np.uint8)
        made[list(symbols)] = 1
        listed[list(whole)] = 1
        if not find_makings(left, right, rank, product, pairs, pair_shift, rows, made):
            raise MergesOutOfOrder
        find_spines(left, right, product, np.array(symbols, np.int64), rows, made)
        most_nodes = int(offsets[-1]) + 1
        if most_nodes > MOST_NODES or rank.max(initial=0) >= NO_SHORTER or max(map(len, tokens)) > MOST_SIZE:
            raise MergesOutOfOrder  # a row has no bits for such numbers
        trie_shift = shift_for(most_nodes)
        trie = np.full(1 << (64 - trie_shift), EMPTY, np.uint64)
        nodes, exact = np.full(most_nodes, NONE, np.uint64), np.full(most_nodes, NONE, np.uint32)
        roots = np.zeros(512 + (2 << 16), np.uint32)
        roots[:256] = NONE
        node_whole = np.full(most_nodes if len(whole) else 0, NONE, np.uint32)
        count = build_trie(pool, offsets, made, listed, rows, trie, trie_shift, nodes, exact, roots, node_whole)
        tight_shift = shift_for(count)
        tight = np.full(1 << (64 - tight_shift), EMPTY, np.uint64)
        rehash(trie, tight, tight_shift)
        bytewise = not len(whole) and set(symbols) == set(roots[:256].tolist())
        self._tables = BpeTables(
            pairs, pair_shift, rows, tight, tight_shift, nodes[:count].copy(), roots, byte_ids, int(fuse),
            node_whole[:count].copy(), int(bytewise), *joins_of(pool, offsets), pattern,
        )  # fmt: skip
        memo_shift = shift_for(len(tokens) + MEMO_WORDS)
        self._seed = aligned_zeros(ROW_BYTES // 8 << (64 - memo_shift))
        seed_memo(pool, offsets, made | listed, self._seed, memo_shift)
        self._classes = character_classes()
        self._free: list[_Memo] = []
        self._lock = threading.Lock()

    def encode(
        self, data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64], *, end_id: int = -1
    ) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.int64]]:
        """Return the ids (N,) of documents and where each document's ids end; `end_id` from 0 on follows each.

        `data` is padded text (`loads.padded`), `ends` the byte offsets at which the documents end.
        """
        with self._lock:
            # The one that this thread had last is in its core's cache.
            mine = next((memo for memo in self._free if memo.thread == threading.get_ident()), None)
            memo = mine or (self._free[0] if self._free else _Memo(self._seed))
            memo.thread = threading.get_ident()
            if self._free:
                self._free.remove(memo)
        out_ends = np.empty(len(ends), np.int64)
        # Memory that is never written is never given: this costs what the ids need, whatever the text.
        out = np.empty((int(ends[-1]) if len(ends) else 0) + len(ends) + MAX_IDS, np.uint32)
        encode_documents(
            data, ends, end_id, self._classes, self._tables, self._seed, memo.rows, memo.long_rows,
            memo.lists, memo.filled,
            memo.stops, memo.scratch, out, out_ends,
        )  # fmt: skip
        with self._lock:
            self._free.append(memo)
        out.resize(int(out_ends[-1]) if len(ends) else 0, refcheck=False)
        return out, out_ends


class _Memo:
    """What one call at a time may write to: the words remembered, and room for a batch of them."""

    def __init__(self, seed: npt.NDArray[np.uint64]) -> None:
        self.thread = 0
        self.rows = aligned_zeros(len(seed))
        self.rows[:] = seed
        self.long_rows = aligned_zeros(LONG_ROW_BYTES // 8 * LONG_ROWS)
        self.lists = np.empty(LISTED_IDS, np.uint32)
        self.filled = np.zeros(3, np.int64)  # rows beside the seed's, long rows, ids in lists
        self.stops = np.empty(3 * WORDS_AT_ONCE, np.int64)  # where words end, their rows, the numbers of those without
        self.scratch = np.empty(LONG_WORDS, np.uint32)  # the ids of words that the memo does not take
