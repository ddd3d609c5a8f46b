"""Encode words by BPE in one pass from the left, in time linear in their length: exactly what merging by rank gives.

Merging looks for the best pair again and again. But its result can be recognised without it: a row of tokens is the
encoding of its text exactly when every two neighbours are, taken alone, the encoding of theirs. (A merge across a
border is the first thing that can spoil a segment, and whether it happens depends on the two tokens beside the border
only.) So we take the longest token that fits its neighbour, and go back one when none fits.

Whether two tokens fit is asked by undoing their merges, latest first: between the two symbols that met at the border
at any time, no merge may have been due before the merge that took one of them away.

    merges b+c = 0, a+b = 1; the text "abc": the longest token is "ab", then "c". Do they fit? Undo "ab", made at
    rank 1: before that, "b" stood beside "c", and b+c is due at rank 0. They do not. Next shorter: "a", then "bc".

This holds for merges that rank after those which made their parts, as in every trained table; `bpe_tables` tells where
that is not so. Short words of bytes are merged as they always were: the same ids from fewer tables.

Ref: arXiv:1508.07909, algorithm 1; the fitting of neighbours is that of github/rust-gems, crate bpe (README).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.jit import inline
from smelt.tokenizers.kernels.loads import (
    leading_zeros,
    load_u8,
    load_u32,
    load_u64,
    store_u32,
    store_u64,
    trailing_zeros,
)

Array32 = npt.NDArray[np.uint32]
Array64 = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

NONE = 0xFFFFFFFF
EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
# Up to so many bytes of other scripts than Chinese, plain merging looks at fewer tables than fitting neighbours does.
MOST_MERGED = 16
_NEVER = 1 << 40  # a rank later than all
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
# A row of the trie is node << 17 | label, then 24 bits of the node below; that leaves 23 bits for the node. Labels are
# bytes, or characters of three.
NODE_BITS = np.uint64(24)
NODE_MASK = np.uint64((1 << 24) - 1)
MOST_NODES = 1 << 23
CHARACTER = 1 << 16
# Where the nodes of characters, and of single bytes, begin in `roots`.
_CHARACTERS = 4 * (256 + (1 << 16))
_BYTES = 4 * (256 + (2 << 16))
# What is known of a token, four numbers a row (half a cache line): the set of what may be joined to its right end, the
# set of what its left end consists of, its left part and its right part (32 bits each), and a number of three: the rank
# that it was made at plus one (0: never made), its size in bytes, the next shorter token that it begins with.
TOKEN_NUMBERS = 4
_TOKEN_ROW = 8 * TOKEN_NUMBERS
MADE_SHIFT = np.uint64(40)
SIZE_SHIFT = np.uint64(24)
MOST_SIZE = 0xFFFF
NO_SHORTER = 0xFFFFFF


class BpeTables(NamedTuple):
    """What `prepare` makes of a vocabulary and its merges.

    `pairs` maps left << 32 | right to rank << 32 | product, and `trie` maps node << 17 | label to a node: rows of a key
    and a value in open addressing, 2 ** (64 - shift) of them. Behind the rows of `pairs` lies a byte for each: of its
    eight bits, those of the keys that belong there are set, so that most pairs which do not merge are known by one
    look at a table that stays near the core. A step of the trie is a byte, or a character of three bytes where all of
    it stands there. A number of `nodes` holds the longest token that the text up to a node begins with and, above it,
    bits that say which children there may be, so that few are looked for in vain. `roots` holds the token of each
    byte, then the nodes of two bytes, of characters of three, of one byte.
    `byte_ids` is what a byte gives that no token begins with (only models of characters lack tokens for bytes), and
    `fuse` makes one id of several such in a row. `whole` is the token that is all of a word even if no merge makes it
    (by node; empty if the merges decide). `merging` tells that the symbols are the bytes, so that short words may be
    merged and clauses cut (`clauses`: `joins`, `join_shift`, `edges`). `pattern` is how text is cut into words.
    """

    pairs: Array64
    pair_shift: int
    tokens: Array64
    trie: Array64
    trie_shift: int
    nodes: Array64
    roots: Array32
    byte_ids: Array32
    fuse: int
    whole: Array32
    merging: int
    joins: npt.NDArray[np.uint8]
    join_shift: int
    edges: npt.NDArray[np.uint8]
    pattern: int


@inline
def slot(key: int, shift: int) -> int:
    """Return the row of a table at which the search for a key begins."""
    return np.int64((key * _SPREAD) >> np.uint64(shift))


@inline
def filter_bit(key: int, pairs: int, shift: int) -> tuple[int, int]:
    """Return the address of the byte that tells whether a pair may be in the table, and its bit."""
    eighth = slot(key, shift - 3)
    return pairs + (16 << (64 - shift)) + (eighth >> 3), 1 << (eighth & 7)


@inline
def _pair(left: int, right: int, pairs: int, shift: int) -> int:
    """Return rank << 32 | product of a pair, -1 where it does not merge."""
    key = np.uint64(left) << _HALF | np.uint64(right)
    byte, bit = filter_bit(key, pairs, shift)
    if not load_u8(byte) & bit:
        return -1
    mask = (1 << (64 - shift)) - 1
    row = slot(key, shift)
    while True:
        found = load_u64(pairs + 16 * row)
        if found == key:
            return np.int64(load_u64(pairs + 16 * row + 8))
        if found == EMPTY:
            return -1
        row = (row + 1) & mask


@inline
def fit(left: int, right: int, limit: int, pairs: int, shift: int, tokens: int) -> bool:
    """Tell whether no merge across the border of two tokens is due before rank `limit`."""
    while True:
        found = _pair(left, right, pairs, shift)
        if found >= 0 and found >> 32 < limit:
            return False
        left_row, right_row = tokens + _TOKEN_ROW * left, tokens + _TOKEN_ROW * right
        left_made, right_made = _made(left_row), _made(right_row)
        if left_made > right_made:
            limit = left_made - 1  # of equal ranks, the left one goes first
            left = load_u32(left_row + 20)
        elif right_made > 0:
            limit = right_made
            right = load_u32(right_row + 16)
        else:
            return True


@inline
def _made(row: int) -> int:
    return np.int64(load_u64(row + 24) >> MADE_SHIFT)


@inline
def _size(row: int) -> int:
    return np.int64(load_u64(row + 24) >> SIZE_SHIFT) & MOST_SIZE


@inline
def _shorter(row: int) -> int:
    return np.int64(load_u64(row + 24)) & NO_SHORTER


@inline
def _child(node: int, label: int, trie: int, shift: int) -> int:
    """Return the trie's node below a node, -1 where there is none."""
    key = np.uint64(node << 17 | label)
    mask = (1 << (64 - shift)) - 1
    row = slot(key, shift)
    while True:
        found = load_u64(trie + 8 * row)
        if found >> NODE_BITS == key:
            return np.int64(found & NODE_MASK)
        if found == EMPTY:
            return -1
        row = (row + 1) & mask


@inline
def _longest(place: int, end: int, roots: int, trie: int, shift: int, nodes: int) -> int:
    """Return the longest token at a place, `NONE` where no token begins with what stands there."""
    byte = load_u8(place)
    best = load_u32(roots + 4 * byte)
    if place + 1 == end:
        return best
    node, size = 0, 3
    if byte & 0xF0 == 0xE0 and place + 3 <= end:
        node = load_u32(roots + _CHARACTERS + 4 * three_bytes(place))
    if node == 0:
        second = load_u8(place + 1)
        if second & 0xF0 == 0xE0:
            node, size = load_u32(roots + _BYTES + 4 * byte), 1
        else:
            node, size = load_u32(roots + 1024 + 4 * (byte << 8 | second)), 2
    place += size
    while node > 0:
        found = load_u64(nodes + 8 * node)
        best = np.int64(found & _LOW_HALF)
        if place >= end:
            break
        byte = load_u8(place)
        if byte & 0xF0 == 0xE0 and place + 3 <= end:
            # Most Chinese characters: one step for all three bytes, and single bytes only where a token ends between.
            code = three_bytes(place)
            following = -1
            if (found >> np.uint64(32 + (code & 15))) & _ONE:
                following = _child(node, CHARACTER + code, trie, shift)
            if following >= 0:
                node = following
                place += 3
                continue
            if not found >> np.uint64(63):
                break
        elif not (found >> np.uint64(48 + (byte & 7))) & _ONE:
            break
        node = _child(node, byte, trie, shift)
        place += 1
    return best


@inline
def three_bytes(place: int) -> int:
    """Return the code point of a character of three bytes."""
    return (load_u8(place) & 0xF) << 12 | (load_u8(place + 1) & 0x3F) << 6 | (load_u8(place + 2) & 0x3F)


@inline
def label_at(place: int, end: int) -> tuple[int, int]:
    """Return the label of the step that the trie takes at a place, and its bytes."""
    byte = load_u8(place)
    if byte & 0xF0 == 0xE0 and place + 3 <= end:
        return CHARACTER + three_bytes(place), 3
    return byte, 1


@inline
def _surely_fit(left: int, right: int, tokens: int) -> bool:
    """Tell whether no merge at all exists across the border, by two sets of 64 bits; False says nothing."""
    return load_u64(tokens + _TOKEN_ROW * left) & load_u64(tokens + _TOKEN_ROW * right + 8) == np.uint64(0)


@inline
def _whole_word(place: int, end: int, trie: int, shift: int, whole: int) -> int:
    """Return the token that a word is, all of it, or `NONE`."""
    node = 0
    while place < end and node >= 0:
        label, size = label_at(place, end)
        node = _child(node, label, trie, shift)
        place += size
    return load_u32(whole + 4 * node) if node >= 0 else NONE


@inline
def encode_word(
    place: int, end: int, out: int, pairs: int, pair_shift: int, tokens: int, roots: int, trie: int,
    trie_shift: int, nodes: int, byte_ids: int, fuse: int, whole: int,
) -> int:  # fmt: skip
    """Write the ids of a word at address `out`; return the address behind them."""
    first = out
    if whole:
        token = _whole_word(place, end, trie, trie_shift, whole)
        if token != NONE:
            store_u32(out, token)
            return out + 4
    while place < end:
        token = _longest(place, end, roots, trie, trie_shift, nodes)
        if token == NONE:
            known = load_u32(byte_ids + 4 * load_u8(place))
            place += 1
            if known != NONE and not (fuse and out > first and load_u32(out - 4) == known):
                store_u32(out, known)
                out += 4
            continue
        while True:
            if (
                out == first
                or _surely_fit(load_u32(out - 4), token, tokens)
                or fit(load_u32(out - 4), token, _NEVER, pairs, pair_shift, tokens)
            ):
                store_u32(out, token)
                out += 4
                place += _size(tokens + _TOKEN_ROW * token)
                break
            token = _shorter(tokens + _TOKEN_ROW * token)
            while token == NO_SHORTER:  # nothing fits here: take back the token before
                out -= 4
                row = tokens + _TOKEN_ROW * load_u32(out)
                place -= _size(row)
                token = _shorter(row)
    return out


@inline
def merge_word(place: int, end: int, out: int, pairs: int, shift: int, roots: int, work: int) -> int:
    """Write the ids of a word of bytes, at most 16, at address `out` by merging; return the address behind them.

    Of each symbol, the merge with the next one that is left is kept as one number (rank, place, product, the smallest
    is the next to do) in sixteen places at `work`, the symbols behind them.
    """
    symbols, size = work + 8 * MOST_MERGED, end - place
    for number in range(MOST_MERGED):
        store_u64(work + 8 * number, EMPTY)
    left = load_u32(roots + 4 * load_u8(place))
    store_u32(symbols, left)
    for number in range(1, size):
        right = load_u32(roots + 4 * load_u8(place + number))
        store_u32(symbols + 4 * number, right)
        store_u64(work + 8 * number - 8, _merge(left, right, number - 1, pairs, shift))
        left = right
    live = (_ONE << np.uint64(size)) - _ONE  # a bit for each symbol that is left
    while True:
        best = EMPTY
        for number in range(MOST_MERGED):
            best = min(best, load_u64(work + 8 * number))
        if best == EMPTY:
            break
        at = np.int64(best >> np.uint64(24)) & 0xFF
        product = np.int64(best) & 0xFFFFFF
        gone = at + 1 + trailing_zeros(live >> np.uint64(at + 1))
        live &= ~(_ONE << np.uint64(gone))
        store_u64(work + 8 * gone, EMPTY)
        store_u32(symbols + 4 * at, product)
        after, merge = live >> np.uint64(at + 1), EMPTY
        if after:
            right = load_u32(symbols + 4 * (at + 1 + trailing_zeros(after)))
            merge = _merge(product, right, at, pairs, shift)
        store_u64(work + 8 * at, merge)
        before = live & ((_ONE << np.uint64(at)) - _ONE)
        if before:
            number = 63 - leading_zeros(before)
            store_u64(work + 8 * number, _merge(load_u32(symbols + 4 * number), product, number, pairs, shift))
    while live:
        store_u32(out, load_u32(symbols + 4 * trailing_zeros(live)))
        out += 4
        live &= live - _ONE
    return out


@inline
def _merge(left: int, right: int, at: int, pairs: int, shift: int) -> int:
    """Return rank << 32 | place << 24 | product of a pair, `EMPTY` where it does not merge."""
    found = _pair(left, right, pairs, shift)
    if found < 0:
        return EMPTY
    return np.uint64(found >> 32 << 32 | at << 24 | found & 0xFFFFFF)
