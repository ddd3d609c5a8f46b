"""Remember the ids of short words: text is the same few thousand words over and over (Zipf's law).

A row has 32 bytes, half a cache line: the word's bytes (up to 15, filled with zeros) and in the sixteenth its length;
the number of its ids and up to three ids, or where more are in a list beside the rows. Finding a word reads one row,
nearly always, and compares two numbers: no loop over letters. Words of up to 31 bytes have a smaller table of their
own, whose rows are another 32 bytes longer; yet longer ones are encoded again each time.
"""

from __future__ import annotations

import numpy as np

from smelt.tokenizers.kernels.jit import inline
from smelt.tokenizers.kernels.loads import load_u32, load_u64, prefetch, store_u32, store_u64

WORD_BYTES = 15
MAX_IDS = 3
ROW_BYTES = 32
LONG_WORD_BYTES = 31
LONG_ROW_BYTES = 64

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_SPREAD_TOO = np.uint64(0xC2B2AE3D27D4EB4F)


@inline
def word_key(place: int, size: int) -> tuple[int, int]:
    """Return the 1 to 15 bytes of a word as two numbers, zeros behind its end, its length in the last byte."""
    low_bits = 8 * min(size, 8)
    high_bits = 8 * max(size - 8, 0)
    low = load_u64(place) & (_ALL >> np.uint64(64 - low_bits))
    high = load_u64(place + 8) & ((_ONE << np.uint64(high_bits)) - _ONE)
    return low, high | np.uint64(size) << np.uint64(56)


@inline
def first_row(low: int, high: int, shift: int) -> int:
    """Return the number of the row at which the search for a word begins."""
    return np.int64((low * _SPREAD + high * _SPREAD_TOO) >> np.uint64(shift))


@inline
def find_row(low: int, high: int, memo: int, shift: int) -> int:
    """Return the address of the row that holds a word, or of the free row where it belongs."""
    row = first_row(low, high, shift)
    mask = (1 << (64 - shift)) - 1
    while True:
        address = memo + ROW_BYTES * row
        found = load_u64(address + 8)
        if (load_u64(address) ^ low) | (found ^ high) == _ZERO or found == _ZERO:
            return address
        row = (row + 1) & mask


@inline
def find_rows(place: int, stops: int, count: int, rows: int, missing: int, memo: int, shift: int) -> int:
    """Write, for words that lie one after another, the address of each one's row, 0 where the memo does not hold it.

    Returns:
        How many it does not hold; their numbers are at address `missing`.
    """
    begin = place
    for number in range(count):  # no branches: the rows, most of them far from the core, are on their way all at once
        stop = np.int64(load_u64(stops + 8 * number))
        low, high = word_key(begin, min(stop - begin, WORD_BYTES))
        prefetch(memo + ROW_BYTES * first_row(low, high, shift))
        begin = stop
    how_many = 0
    for number in range(count):
        stop = np.int64(load_u64(stops + 8 * number))
        row = 0
        if stop - place <= WORD_BYTES:
            low, high = word_key(place, stop - place)
            row = find_row(low, high, memo, shift)
            if load_u32(row + 16) == 0:
                row = 0
        store_u64(rows + 8 * number, np.uint64(row))
        store_u64(missing + 8 * how_many, np.uint64(number))
        how_many += row == 0
        place = stop
    return how_many


@inline
def recall_all(rows: int, count: int, lists: int, out: int) -> int:
    """Write the ids of rows at address `out`; return the address behind them.

    Three ids are written whatever their number: a loop over it would be mispredicted. Below zero is the address of ids
    outside of the memo, their number before them.
    """
    for number in range(count):
        row = np.int64(load_u64(rows + 8 * number))
        if row > 0:
            size = load_u32(row + 16)
            if size <= MAX_IDS:
                store_u64(out, load_u64(row + 20))
                store_u32(out + 8, load_u32(row + 28))
            else:
                copy_ids(lists + 4 * load_u32(row + 20), size, out)
        else:
            size = load_u32(-row)
            copy_ids(4 - row, size, out)
        out += 4 * size
    return out


@inline
def copy_ids(ids: int, count: int, out: int) -> None:
    """Copy so many ids from one address to another."""
    for number in range(count):
        store_u32(out + 4 * number, load_u32(ids + 4 * number))


@inline
def find_long_row(place: int, size: int, table: int, shift: int) -> int:
    """Return where the row of a word of 16 to 31 bytes continues as those of shorter words do; a free row gets its key.

    The key is the first sixteen bytes and the last fifteen, then the length: together they tell words apart.
    """
    one, two, three = load_u64(place), load_u64(place + 8), load_u64(place + size - 15)
    four = load_u64(place + size - 7) & (_ALL >> np.uint64(8)) | np.uint64(size) << np.uint64(56)
    row = np.int64(((one ^ four) * _SPREAD + (two ^ three) * _SPREAD_TOO) >> np.uint64(shift))
    mask = (1 << (64 - shift)) - 1
    while True:
        found = table + LONG_ROW_BYTES * row
        if load_u64(found + 24) == _ZERO:
            store_u64(found, one)
            store_u64(found + 8, two)
            store_u64(found + 16, three)
            store_u64(found + 24, four)
            return found + 16
        ends = (load_u64(found) ^ one) | (load_u64(found + 24) ^ four)
        if ends | (load_u64(found + 8) ^ two) | (load_u64(found + 16) ^ three) == _ZERO:
            return found + 16
        row = (row + 1) & mask


@inline
def name_row(row: int, low: int, high: int) -> None:
    """Write the key of a word to a free row."""
    store_u64(row, low)
    store_u64(row + 8, high)


@inline
def remember(row: int, ids: int, count: int, lists: int, used: int) -> int:
    """Write the `count` ids at address `ids` to a row; return how much of the lists is used then."""
    store_u32(row + 16, count)
    if count <= MAX_IDS:
        copy_ids(ids, count, row + 20)
        return used
    store_u32(row + 20, used)
    copy_ids(ids, count, lists + 4 * used)
    return used + count


@inline
def begin_again(memo: int, seed: int, numbers: int) -> None:
    """Forget every word but those of the seed, a memo of the same size."""
    for number in range(numbers):
        store_u64(memo + 8 * number, load_u64(seed + 8 * number))


@inline
def forget_all(table: int, numbers: int) -> None:
    """Free every row of a table."""
    for number in range(numbers):
        store_u64(table + 8 * number, _ZERO)
