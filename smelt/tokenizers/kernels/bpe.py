"""Encode words by BPE in one pass from the left, in time linear in their length: exactly what merging by rank gives.

Merging looks for the best pair again and again. But its result can be recognised without it: a row of tokens is the
encoding of its text exactly when every two neighbours are, taken alone, the encoding of theirs. (A merge across a
border is the first thing that can spoil a segment, and whether it happens depends on the two tokens beside the border
only.) So we take the longest token that fits its neighbour, and go back one when none fits.

Whether two tokens fit is asked by undoing their merges, latest first: between the two symbols that met at the border
at any time, no merge may have been due before the merge that took one of them away.

    merges b+c = 0, a+b = 1; the text "abc": the longest token is "ab", then "c". Do they fit? Undo "ab", made at
    rank 1: before that, "b" stood beside "c", and b+c is due at rank 0. They do not. Next shorter: "a", then "bc".

This holds for merges that rank after those which made their parts, as in every trained table; `prepare` tells where
that is not so. Words of up to 15 bytes are remembered in a memo (`memo`), which begins with the vocabulary itself.

Ref: arXiv:1508.07909, algorithm 1; the fitting of neighbours is that of github/rust-gems, crate bpe (README).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.tokenizers.kernels.loads import address, load_u8, load_u32, load_u64, store_u32, store_u64, trailing_zeros
from smelt.tokenizers.kernels.memo import (
    LONG_WORD_BYTES,
    WORD_BYTES,
    begin_again,
    find_long_row,
    find_row,
    find_rows,
    forget_all,
    name_row,
    recall_all,
    remember,
    word_key,
)
from smelt.tokenizers.kernels.scan import find_words

Array32 = npt.NDArray[np.uint32]
Array64 = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

NONE = 0xFFFFFFFF
EMPTY = np.uint64(0xFFFFFFFFFFFFFFFF)
# Chinese has no spaces: a longer "word" is a clause that will not come again, and would push others out of the memo.
LONGEST_OF_CHINESE = 9
_NEVER = 1 << 40  # a rank later than all
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_ONE = np.uint64(1)
# A row of the trie is node << 17 | label, then 23 bits of the node below; labels are bytes, or characters of three.
NODE_BITS = np.uint64(24)
NODE_MASK = np.uint64((1 << 24) - 1)
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
    it stands there. A number of `nodes` holds the longest token that the
    text up to a node begins with and, above it, bits that say which children there may be, so that few are looked for
    in vain. `roots` holds the token of each byte, then the nodes of two bytes, of characters of three, of one byte.
    `byte_ids` is what a byte gives that no token begins with (only models of characters lack tokens for bytes), and
    `fuse` makes one id of several such in a row. `whole` is the token that is all of a word even if no merge makes it
    (by node; empty if the merges decide). `pattern` is how text is cut into words.
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
def _encode_word(
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
def _fill(
    begin: int, stops: int, count: int, rows: int, missing: int, how_many: int, memo: int, memo_shift: int,
    long_memo: int, long_shift: int, lists: int, used: int, scratch: int, scratch_end: int, pairs: int,
    pair_shift: int, tokens: int, roots: int, trie: int, trie_shift: int, nodes: int, byte_ids: int, fuse: int,
    whole: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Encode the words of a batch that have no row: into the memo or, if they are too long for it, into `scratch`,
    whose address, below zero, takes the place of the row's.

    Returns:
        How many words have all they need, fewer than `count` where the scratch was full; the rows taken for short and
        for long words; how much of the lists is used.
    """
    taken, long_taken = 0, 0
    for miss in range(how_many):
        number = np.int64(load_u64(missing + 8 * miss))
        place = np.int64(load_u64(stops + 8 * number - 8)) if number else begin
        stop = np.int64(load_u64(stops + 8 * number))
        row, size = np.int64(0), stop - place
        if scratch + 4 * size + 4 > scratch_end:
            return number, taken, long_taken, used
        repeats = load_u8(place) < 0xE0 or size <= LONGEST_OF_CHINESE
        if repeats and size <= WORD_BYTES:
            low, high = word_key(place, size)
            row = find_row(low, high, memo, memo_shift)
            name_row(row, low, high)
        elif repeats and size <= LONG_WORD_BYTES:
            row = find_long_row(place, size, long_memo, long_shift)
        if row == 0 or load_u32(row + 16) == 0:
            after = _encode_word(
                place, stop, scratch + 4, pairs, pair_shift, tokens, roots, trie, trie_shift, nodes, byte_ids, fuse,
                whole,
            )  # fmt: skip
            ids = (after - scratch - 4) >> 2
            if row > 0:
                taken += size <= WORD_BYTES
                long_taken += size > WORD_BYTES
            if row > 0 and ids > 0:
                used = remember(row, scratch + 4, ids, lists, used)
            else:
                store_u32(scratch, ids)
                row = -scratch
                scratch = after
        store_u64(rows + 8 * number, np.uint64(row))
    return count, taken, long_taken, used


@kernel
def encode_documents(
    data: npt.NDArray[np.uint8], ends: Places, end_id: int, classes: npt.NDArray[np.uint16], tables: BpeTables,
    seed: Array64, memo: Array64, long_memo: Array64, lists: Array32, filled: Places, stops: Places, scratch: Array32,
    out: Array32, out_ends: Places,
) -> None:  # fmt: skip
    """Encode documents laid end to end; write their ids to `out` and where each one's ids end to `out_ends`.

    `out` needs room for an id a byte, one a document and `MAX_IDS` more. The memo begins as `seed`, the vocabulary; a
    quarter of its rows, half of those of `long_memo`, and `lists` are for other words, then it begins again. `filled`
    counts all three. `stops` is room for three numbers a word of a batch, `scratch` for the ids of its longest ones.
    """
    text, classes_at, memo_at, out_at = address(data), address(classes), address(memo), address(out)
    pairs, tokens, trie = address(tables.pairs), address(tables.tokens), address(tables.trie)
    roots, nodes, byte_ids = address(tables.roots), address(tables.nodes), address(tables.byte_ids)
    stops_at, scratch_at, lists_at = address(stops), address(scratch), address(lists)
    whole = address(tables.whole) if tables.whole.size else np.int64(0)
    batch = stops.size // 3
    rows_at, missing_at = stops_at + 8 * batch, stops_at + 16 * batch
    pair_shift, trie_shift, fuse, pattern = tables.pair_shift, tables.trie_shift, tables.fuse, tables.pattern
    memo_shift = 64 - trailing_zeros(np.uint64(memo.size // 4))
    long_shift = 64 - trailing_zeros(np.uint64(long_memo.size // 8))
    most, most_long, most_used = memo.size // 16 - batch, long_memo.size // 16 - batch, lists.size - 32 * batch
    taken, long_taken, used = filled
    place, write = text, out_at
    for document in range(ends.size):
        end = text + ends[document]
        while place < end:
            # Short loops over a batch of words, each with few values to hold, are faster than one long one.
            if taken > most or used > most_used:
                begin_again(memo_at, address(seed), seed.size)
                taken, used, long_taken = 0, 0, most_long + 1
            if long_taken > most_long:
                forget_all(address(long_memo), long_memo.size)
                long_taken = 0
            count = find_words(place, end, classes_at, pattern, stops_at, batch)
            missing = find_rows(place, stops_at, count, rows_at, missing_at, memo_at, memo_shift)
            if missing:
                count, more, more_long, used = _fill(
                    place, stops_at, count, rows_at, missing_at, missing, memo_at, memo_shift, address(long_memo),
                    long_shift, lists_at, used, scratch_at, scratch_at + 4 * scratch.size, pairs, pair_shift, tokens,
                    roots, trie, trie_shift, nodes, byte_ids, fuse, whole,
                )  # fmt: skip
                taken, long_taken = taken + more, long_taken + more_long
            if count == 0:  # one word that is longer than the scratch
                stop = np.int64(load_u64(stops_at))
                write = _encode_word(
                    place, stop, write, pairs, pair_shift, tokens, roots, trie, trie_shift, nodes, byte_ids, fuse,
                    whole,
                )  # fmt: skip
                place = stop
                continue
            write = recall_all(rows_at, count, lists_at, write)
            place = np.int64(load_u64(stops_at + 8 * count - 8))
        if end_id >= 0:
            store_u32(write, end_id)
            write += 4
        out_ends[document] = (write - out_at) >> 2
    filled[0], filled[1], filled[2] = taken, long_taken, used
