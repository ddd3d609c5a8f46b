"""Encode clauses, which are words where no spaces are written: cut each where no token lies across, look the pieces up.

A clause of Chinese is seldom seen twice, but its characters are. BPE never joins two characters that stand side by side
in no token of the vocabulary: whatever the ranks, the text may be cut there. With 32,768 tokens, most of what is left
has one or two characters, and the memo of words holds it.

Worked example, tokens that hold two characters: 天下, 不知.  天下人不知 is cut into 天下 | 人 | 不知.

Tokens may also end or begin within a character: then it is joined with all characters that begin or end so. Pairs are
kept as bits of their hash, so now and then two characters are kept together without need. Only characters of three
bytes are looked at.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.bpe import encode_word, slot, three_bytes
from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.tokenizers.kernels.loads import (
    address,
    load_u8,
    load_u32,
    load_u64,
    store_u8,
    store_u32,
    store_u64,
)
from smelt.tokenizers.kernels.memo import (
    MAX_IDS,
    WORD_BYTES,
    copy_ids,
    find_row,
    name_row,
    remember,
    word_key,
)

Number = Any  # numba gives numbers their types
Array8 = npt.NDArray[np.uint8]
Places = npt.NDArray[np.int64]

# Pieces found before they are looked up.
CUTS_AT_ONCE = 32
# Longer ones are not remembered: they will hardly come again, and would push others out of the memo.
LONGEST_PIECE = 9
# Bits of `edges`: nothing may be cut before a character, or behind it.
_BEFORE, _BEHIND = 1, 2


def joins_of(pool: Array8, offsets: Places) -> tuple[Array8, int, Array8]:
    """Return the hashed pairs of characters that tokens hold side by side, the hash's shift, and the edges (65536,)."""
    bits = max(13, int(32 * np.count_nonzero(pool & 0xF0 == 0xE0)).bit_length())
    joins, edges = np.zeros(1 << (bits - 3), np.uint8), np.zeros(1 << 16, np.uint8)
    _find_joins(pool, offsets, joins, 64 - bits, edges)
    return joins, 64 - bits, edges


@kernel
def _find_joins(pool: Array8, offsets: Places, joins: Array8, shift: int, edges: Array8) -> None:
    text, joins_at = address(pool), address(joins)
    for token in range(offsets.size - 1):
        start, end = text + offsets[token], text + offsets[token + 1]
        for place in range(start + 1, end):
            if load_u8(place) & 0xF0 != 0xE0:
                continue
            # The characters that the token may go on to: one, or all that begin with two bytes, or with one.
            alike = 1 if place + 3 <= end else 64 if place + 2 == end else 4096
            first = three_bytes(place) & -alike
            if place - 3 >= start and load_u8(place - 3) & 0xF0 == 0xE0:
                left = three_bytes(place - 3)
                if alike == 4096:
                    edges[left] |= _BEHIND
                    continue
                for right in range(first, first + alike):
                    bit = _bit(left, right, shift)
                    store_u8(joins_at + (bit >> 3), load_u8(joins_at + (bit >> 3)) | 1 << (bit & 7))
            elif place - 2 <= start and load_u8(start) & 0xC0 == 0x80:  # from the last bytes of any character
                for right in range(first, first + alike):
                    edges[right] |= _BEFORE


@inline
def _bit(left: int, right: int, shift: int) -> int:
    key: Number = np.uint64(left << 16 | right)
    return slot(key, shift)


@inline
def _find_cuts(place: int, end: int, cuts: int, joins: int, shift: int, edges: int) -> int:
    """Write where the next pieces of a clause end at address `cuts`; return how many."""
    count, left, left_edge, left_is_long = 0, 0, 0, False
    while place < end and count < CUTS_AT_ONCE:
        byte = load_u8(place)
        is_long = byte & 0xF0 == 0xE0
        right = three_bytes(place)
        edge = load_u8(edges + right)
        bit = _bit(left, right, shift)
        joined = (load_u8(joins + (bit >> 3)) >> (bit & 7)) & 1 | edge & _BEFORE | left_edge & _BEHIND
        store_u64(cuts + 8 * count, np.uint64(place))
        count += left_is_long & is_long & (joined == 0)
        left, left_edge, left_is_long = right, edge, is_long
        place += 1 + (byte >= 0xC0) + (byte >= 0xE0) + (byte >= 0xF0)
    if count < CUTS_AT_ONCE:
        store_u64(cuts + 8 * count, np.uint64(end))
        count += 1
    return count


@inline
def encode_clause(
    place: int, end: int, out: int, work: int, memo: int, memo_shift: int, room: int, lists: int, used: int,
    most_used: int, joins: int, join_shift: int, edges: int, pairs: int, pair_shift: int, tokens: int, roots: int,
    trie: int, trie_shift: int, nodes: int, byte_ids: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Write the ids of a clause at address `out`; `work` is the address of room for `CUTS_AT_ONCE` numbers.

    Returns:
        The address behind the ids, the rows of the memo taken (up to `room`), how much of the lists is used.
    """
    taken = 0
    while place < end:
        count = _find_cuts(place, end, work, joins, join_shift, edges)
        for number in range(count):
            stop: Number = np.int64(load_u64(work + 8 * number))
            size = stop - place
            low, high = word_key(place, min(size, WORD_BYTES))
            row: Number = find_row(low, high, memo, memo_shift) if size <= WORD_BYTES else np.int64(0)
            ids: Number = load_u32(row + 16) if row else 0
            if ids:
                if ids <= MAX_IDS:
                    store_u64(out, load_u64(row + 20))
                    store_u32(out + 8, load_u32(row + 28))
                else:
                    copy_ids(lists + 4 * load_u32(row + 20), ids, out)
                out += 4 * ids
                place = stop
                continue
            after = encode_word(
                place, stop, out, pairs, pair_shift, tokens, roots, trie, trie_shift, nodes, byte_ids, 0, 0
            )  # fmt: skip
            if size <= LONGEST_PIECE and taken < room and used < most_used:
                name_row(row, low, high)
                used = remember(row, out, (after - out) >> 2, lists, used)
                taken += 1
            out = after
            place = stop
    return out, taken, used
