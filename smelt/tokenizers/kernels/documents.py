"""Encode documents: find their words, look each up in a memo, and encode those that it does not hold by `bpe`.

Short loops over a batch of words, each with few values to hold, are faster than one long one: where words end, which
rows of the memo they have, the ids of those without, and last the ids of all.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.ascii_words import BYTES_AT_ONCE
from smelt.tokenizers.kernels.bpe import MOST_MERGED, Array32, Array64, BpeTables, Places, encode_word, merge_word
from smelt.tokenizers.kernels.clauses import CUTS_AT_ONCE, LONGEST_PIECE, encode_clause
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

_WORK = max(16 * MOST_MERGED, 8 * CUTS_AT_ONCE)  # bytes, for merging and for cutting


@inline
def _fill(
    begin: int, stops: int, count: int, rows: int, missing: int, how_many: int, memo: int, memo_shift: int,
    long_memo: int, long_shift: int, lists: int, used: int, scratch: int, scratch_end: int, pairs: int,
    pair_shift: int, tokens: int, roots: int, trie: int, trie_shift: int, nodes: int, byte_ids: int, fuse: int,
    whole: int, merging: int, joins: int, join_shift: int, edges: int, room: int, most_used: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Encode the words of a batch that have no row: into the memo or, if they are too long for it, into `scratch`,
    whose address, below zero, takes the place of the row's. Clauses take up to `room` rows, lists to `most_used`.

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
        clause = size > LONGEST_PIECE and max(load_u8(place), load_u8(place + 1)) >= 0xE0
        if not clause and size <= WORD_BYTES:
            low, high = word_key(place, size)
            row = find_row(low, high, memo, memo_shift)
            name_row(row, low, high)
        elif not clause and size <= LONG_WORD_BYTES:
            row = find_long_row(place, size, long_memo, long_shift)
        if row == 0 or load_u32(row + 16) == 0:
            if clause and merging:
                after, more, used = encode_clause(
                    place, stop, scratch + 4, scratch_end, memo, memo_shift, room - taken, lists, used, most_used,
                    joins, join_shift, edges, pairs, pair_shift, tokens, roots, trie, trie_shift, nodes, byte_ids,
                )  # fmt: skip
                taken += more
            elif merging and size <= MOST_MERGED and load_u8(place) < 0xE0:
                after = merge_word(place, stop, scratch + 4, pairs, pair_shift, roots, scratch_end)
            else:
                after = encode_word(
                    place, stop, scratch + 4, pairs, pair_shift, tokens, roots, trie, trie_shift, nodes, byte_ids,
                    fuse, whole,
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
            if taken > most or used > most_used:
                begin_again(memo_at, address(seed), seed.size)
                taken, used, long_taken = 0, 0, most_long + 1
            if long_taken > most_long:
                forget_all(address(long_memo), long_memo.size)
                long_taken = 0
            count = find_words(place, end, classes_at, pattern, stops_at, batch - BYTES_AT_ONCE)
            missing = find_rows(place, stops_at, count, rows_at, missing_at, memo_at, memo_shift)
            if missing:
                count, more, more_long, used = _fill(
                    place, stops_at, count, rows_at, missing_at, missing, memo_at, memo_shift, address(long_memo),
                    long_shift, lists_at, used, scratch_at, scratch_at + 4 * scratch.size - _WORK, pairs, pair_shift,
                    tokens, roots, trie, trie_shift, nodes, byte_ids, fuse, whole, tables.merging,
                    address(tables.joins), tables.join_shift, address(tables.edges), most - taken, most_used,
                )  # fmt: skip
                taken, long_taken = taken + more, long_taken + more_long
            if count == 0:  # one word that is longer than the scratch
                stop = np.int64(load_u64(stops_at))
                write = encode_word(
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
