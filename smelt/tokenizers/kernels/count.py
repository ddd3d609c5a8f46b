"""Count the distinct words of a text: the hash table that BPE training begins with.

A row has four numbers: of a word of up to 15 bytes its bytes (two numbers), its size, its count; of a longer one a
hash, where its bytes are kept in a pool, its size, its count. The caller makes the table larger when it is half full.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.ascii_words import BYTES_AT_ONCE
from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.tokenizers.kernels.loads import address, load_u8, load_u64, prefetch, store_u64, trailing_zeros
from smelt.tokenizers.kernels.memo import WORD_BYTES, word_key
from smelt.tokenizers.kernels.scan import find_words

Array8 = npt.NDArray[np.uint8]
Array64 = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

ROW_NUMBERS = 4
ROW_BYTES = 8 * ROW_NUMBERS
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_SPREAD_TOO = np.uint64(0xC2B2AE3D27D4EB4F)
_HALF = np.uint64(32)
_ONE = np.uint64(1)


@inline
def _hash_long(place: int, size: int) -> int:
    """Return a 64-bit hash of 16 bytes or more."""
    mixed = np.uint64(size)
    stop = place + size - 8
    while place < stop:
        mixed = (mixed ^ load_u64(place)) * _SPREAD
        mixed ^= mixed >> _HALF
        place += 8
    mixed = (mixed ^ load_u64(stop)) * _SPREAD_TOO
    return mixed ^ (mixed >> _HALF)


@inline
def _key_of(place: int, size: int) -> tuple[int, int]:
    """Return what the row of a word begins with: its bytes, or of a longer one a hash (and where the pool has it)."""
    if size <= WORD_BYTES:
        return word_key(place, size)
    return _hash_long(place, size), np.uint64(0)


@inline
def _equal(one: int, two: int, size: int) -> bool:
    """Tell whether two stretches of 8 bytes or more are the same."""
    for place in range(0, size - 8, 8):
        if load_u64(one + place) != load_u64(two + place):
            return False
    return load_u64(one + size - 8) == load_u64(two + size - 8)


@inline
def _first_row(low: int, high: int, size: int, shift: int) -> int:
    """Return the number of the row at which the search for a word begins."""
    mixed = low * _SPREAD + (high * _SPREAD_TOO if size <= WORD_BYTES else np.uint64(0))
    return np.int64(((mixed ^ (mixed >> _HALF)) * _SPREAD) >> np.uint64(shift))


@inline
def row_of(low: int, high: int, size: int, place: int, table: int, shift: int, pool: int) -> int:
    """Return the address of the row that counts a word, or of the free row where it belongs."""
    row = _first_row(low, high, size, shift)
    mask = (1 << (64 - shift)) - 1
    while True:
        at = table + ROW_BYTES * row
        found = np.int64(load_u64(at + 16))
        if found == 0:
            return at
        if found == size and load_u64(at) == low:
            if size <= WORD_BYTES:
                if load_u64(at + 8) == high:
                    return at
            elif _equal(pool + np.int64(load_u64(at + 8)), place, size):
                return at
        row = (row + 1) & mask


@kernel
def count_words(
    data: Array8, ends: Places, document: int, start: int, classes: npt.NDArray[np.uint16], pattern: int,
    stops: Places, table: Array64, pool: Array8, used: int, pool_used: int,
) -> tuple[int, int, int, int]:  # fmt: skip
    """Count words from a document and byte on, until all are counted or the table or the pool is full.

    `stops` is room for three numbers a word of a batch.

    Returns:
        The document and the byte to go on with, the rows used, the bytes of the pool used.
    """
    text, classes_at, table_at, pool_at = address(data), address(classes), address(table), address(pool)
    batch = stops.size // 3
    stops_at, keys_at = address(stops), address(stops) + 8 * batch
    shift = 64 - trailing_zeros(np.uint64(table.size // ROW_NUMBERS))
    most = table.size // ROW_NUMBERS // 2
    place = text + start
    while document < ends.size:
        end = text + ends[document]
        while place < end:
            count = find_words(place, end, classes_at, pattern, stops_at, batch - BYTES_AT_ONCE)
            begin = place
            for number in range(count):  # most rows are far from the core: all of a batch are on their way at once
                stop = np.int64(load_u64(stops_at + 8 * number))
                low, high = _key_of(begin, stop - begin)
                store_u64(keys_at + 16 * number, low)
                store_u64(keys_at + 16 * number + 8, high)
                prefetch(table_at + ROW_BYTES * _first_row(low, high, stop - begin, shift))
                begin = stop
            for number in range(count):
                stop = np.int64(load_u64(stops_at + 8 * number))
                size = stop - place
                low, high = load_u64(keys_at + 16 * number), load_u64(keys_at + 16 * number + 8)
                if size > WORD_BYTES:
                    high = np.uint64(pool_used)
                row = row_of(low, high, size, place, table_at, shift, pool_at)
                if load_u64(row + 16) == np.uint64(0):
                    if used >= most or pool_used + size + 8 > pool.size:
                        return document, place - text, used, pool_used
                    used += 1
                    store_u64(row, low)
                    store_u64(row + 8, high)
                    store_u64(row + 16, np.uint64(size))
                    if size > WORD_BYTES:
                        for byte in range(size):
                            pool[pool_used + byte] = load_u8(place + byte)
                        pool_used += size
                store_u64(row + 24, load_u64(row + 24) + _ONE)
                place = stop
        document += 1
    return document, place - text, used, pool_used


@kernel
def move_rows(table: Array64, larger: Array64) -> None:
    """Write the rows of a table into a larger one that is empty."""
    to, mask = address(larger), larger.size // ROW_NUMBERS - 1
    shift = 64 - trailing_zeros(np.uint64(larger.size // ROW_NUMBERS))
    for number in range(0, table.size, ROW_NUMBERS):
        if table[number + 2] == 0:
            continue
        row = _first_row(table[number], table[number + 1], np.int64(table[number + 2]), shift)
        while load_u64(to + ROW_BYTES * row + 16) != np.uint64(0):
            row = (row + 1) & mask
        for cell in range(ROW_NUMBERS):
            store_u64(to + ROW_BYTES * row + 8 * cell, table[number + cell])
