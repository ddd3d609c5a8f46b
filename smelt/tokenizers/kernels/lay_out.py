"""Lay out counted words for learning, and list their first pairs; each thread does a part.

Words lie in one array: a weight (two cells), a length, the symbols. They come from several tables, one for each thread
that counted, and a word may be in all of them: the first table that has it lays it out with the counts of the others.
Rows lie in the order of their hashes, so looking a part of one table up in another reads both from front to back.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.count import ROW_BYTES, row_of
from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.tokenizers.kernels.loads import address, load_u8, load_u64, store_u64, trailing_zeros
from smelt.tokenizers.kernels.memo import WORD_BYTES

Array32 = npt.NDArray[np.uint32]
Places = npt.NDArray[np.int64]

WORD_HEAD = 3  # cells before the symbols: the weight as two, the length
# Places in a row of `tables`: where a table of counts is in memory, its rows, where its pool is.
_TABLE, _ROWS, _POOL = 0, 1, 2
_NONE = np.uint64(0)


@kernel
def cells_of(tables: Places, part: int, parts: int) -> int:
    """Return the cells that a part of the words takes at most (a word of two tables is counted twice)."""
    cells = 0
    for table in range(tables.shape[0]):
        rows = tables[table, _ROWS]
        for row in range(rows * part // parts, rows * (part + 1) // parts):
            size = np.int64(load_u64(tables[table, _TABLE] + ROW_BYTES * row + 16))
            if size >= 2:
                cells += WORD_HEAD + size
    return cells


@inline
def _whole_count(tables: Places, table: int, row: int, size: int) -> int:
    """Return how often a word occurs in all, given its row's address, or 0 if an earlier table has it too."""
    low, high = load_u64(row), load_u64(row + 8)
    count = load_u64(row + 24)
    place = tables[table, _POOL] + np.int64(high) if size > WORD_BYTES else 0
    for other in range(tables.shape[0]):
        if other != table:
            shift = 64 - trailing_zeros(np.uint64(tables[other, _ROWS]))
            found = row_of(low, high, size, place, tables[other, _TABLE], shift, tables[other, _POOL])
            if load_u64(found + 16) != _NONE:
                if other < table:
                    return _NONE
                count += load_u64(found + 24)
    return count


@kernel
def lay_out_words(tables: Places, part: int, parts: int, symbols: Array32, words: Array32, used: int) -> int:
    """Write a part of the words of two bytes and more behind the `used` cells; return the cells used.

    `tables` has a row for each table (tables, 3): its address, its rows, its pool's address.
    """
    cells = address(words)
    for table in range(tables.shape[0]):
        rows = tables[table, _ROWS]
        for number in range(rows * part // parts, rows * (part + 1) // parts):
            row = tables[table, _TABLE] + ROW_BYTES * number
            size = np.int64(load_u64(row + 16))
            if size < 2:
                continue
            count = _whole_count(tables, table, row, size)
            if count == _NONE:
                continue
            store_u64(cells + 4 * used, count)
            words[used + 2] = size
            place = tables[table, _POOL] + np.int64(load_u64(row + 8)) if size > WORD_BYTES else row
            for byte in range(size):
                words[used + WORD_HEAD + byte] = symbols[load_u8(place + byte)]
            used += WORD_HEAD + size
    return used


@kernel
def count_pairs(words: Array32, begin: int, end: int, num_symbols: int, counts: Places, sizes: Places) -> None:
    """Count each pair of neighbouring first symbols (symbols * symbols,), and the words it stands in."""
    cells = address(words)
    last = np.full(num_symbols * num_symbols, -1, np.int64)
    at = begin
    while at < end:
        weight = np.int64(load_u64(cells + 4 * at))
        first = at + WORD_HEAD
        for place in range(first, first + words[at + 2] - 1):
            pair = np.int64(words[place]) * num_symbols + words[place + 1]
            counts[pair] += weight
            if last[pair] != at:
                last[pair] = at
                sizes[pair] += 1
        at = first + words[at + 2]


@kernel
def list_pairs(words: Array32, begin: int, end: int, num_symbols: int, starts: Places, lists: Array32) -> None:
    """Write, from `starts` on, the words that each pair of first symbols stands in; `starts` moves to the ends."""
    last = np.full(num_symbols * num_symbols, -1, np.int64)
    at = begin
    while at < end:
        first = at + WORD_HEAD
        for place in range(first, first + words[at + 2] - 1):
            pair = np.int64(words[place]) * num_symbols + words[place + 1]
            if last[pair] != at:
                last[pair] = at
                lists[starts[pair]] = at
                starts[pair] += 1
        at = first + words[at + 2]
