"""Learn BPE merges from counted words: what `bpe_train.learn_merges` does, some hundred times as fast.

Words lie in one array: a weight (two cells), a length, the symbols. Every pair of neighbours has a row in a table: its
count and the list of words it may stand in. A merge reads those words only; what changes beside it is summed in arrays
indexed by the neighbour, so the table is asked once per neighbour and not once per place. The most frequent pair comes
from a queue whose entries may be out of date: counts only fall, so an entry that is too high goes back with its present
count. Pairs come to be only with the newest symbol, so a list is complete when it is made.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.bpe import EMPTY
from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.tokenizers.kernels.lay_out import WORD_HEAD
from smelt.tokenizers.kernels.loads import (
    address,
    give_way,
    load_acquire,
    load_u32,
    load_u64,
    pause,
    prefetch,
    store_release,
    store_u32,
    store_u64,
    trailing_zeros,
)
from smelt.tokenizers.kernels.pair_queue import first, has_entry, pop, push, replace_first, room_left

Array8 = npt.NDArray[np.uint8]
Array32 = npt.NDArray[np.uint32]
Array64 = npt.NDArray[np.uint64]
Places = npt.NDArray[np.int64]

_PAIR_ROW = 32  # bytes: the two symbols, the count, where the list begins, its length
_HALF = np.uint64(32)
_LOW_HALF = np.uint64(0xFFFFFFFF)
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
NO_PLACE = 0xFFFFFFFF
# Places in `state`: what is in use of each array, the symbols that the next merge reads.
MERGES, PAIRS, LISTS, ROOM = 0, 1, 2, 3
DONE, NONE_LEFT, ROOM_WANTED = 0, 1, 2
# Places on a desk: the job (by its product), its words in `lists`, its symbols, the job whose lists may be filled;
# then, in another cache line, the jobs whose words are merged and whose lists are full.
DESK = 16
JOB, START_PART, STOP_PART, LEFT, RIGHT, PRODUCT, PLACED, MERGED, FILLED = 0, 1, 2, 3, 4, 5, 6, 8, 9
STOP_WORK = np.uint64(0xFFFFFFFFFFFFFFFF)
_AHEAD = 8  # words that are fetched while others are merged


@inline
def _pair_row(key: int, pairs: int, shift: int) -> int:
    """Return the address of a pair's row, or of the free row where it belongs."""
    row = np.int64((key * _SPREAD) >> np.uint64(shift))
    mask = (1 << (64 - shift)) - 1
    while True:
        found = load_u64(pairs + _PAIR_ROW * row)
        if found in (key, EMPTY):
            return pairs + _PAIR_ROW * row
        row = (row + 1) & mask


@kernel
def enter_pairs(
    num_symbols: int, counts: Places, starts: Places, sizes: Places, pairs: Array64, queue: Array64, least: int
) -> int:
    """Enter the first pairs that were seen `least` times into the table and the queue; return how many."""
    shift, used = 64 - trailing_zeros(np.uint64(pairs.size // 4)), 0
    for pair in range(counts.size):
        if counts[pair] >= least:
            key = np.uint64(pair // num_symbols) << _HALF | np.uint64(pair % num_symbols)
            row = _pair_row(key, address(pairs), shift)
            store_u64(row, key)
            store_u64(row + 8, np.uint64(counts[pair]))
            store_u64(row + 16, np.uint64(starts[pair]))
            store_u64(row + 24, np.uint64(sizes[pair]))
            push(np.uint64(counts[pair]), key, address(queue))
            used += 1
    return used


@kernel
def rehash_pairs(pairs: Array64, larger: Array64) -> int:
    """Move the pairs that still occur to another table; return how many."""
    shift, used = 64 - trailing_zeros(np.uint64(larger.size // 4)), 0
    for number in range(0, pairs.size, 4):
        if pairs[number] != EMPTY and pairs[number + 1] > np.uint64(0):
            row = _pair_row(pairs[number], address(larger), shift)
            for cell in range(4):
                store_u64(row + 8 * cell, pairs[number + cell])
            used += 1
    return used


@inline
def _note(row: int, weight: int, word: int, neighbour: int, side: int, touched: int, log: int, used: int) -> int:
    """Add a new pair to its neighbour's row, and its word to the log unless it is there; return the log's length."""
    count = load_u64(row)
    if count == _ZERO:
        _touch(row, neighbour, touched)
    store_u64(row, count + weight)
    if load_u32(row + 16) != word + 1:
        store_u32(row + 16, word + 1)
        store_u32(row + 20, load_u32(row + 20) + 1)
        store_u32(log + 8 * used, neighbour << 1 | side)
        store_u32(log + 8 * used + 4, word)
        used += 1
    return used


@inline
def _lose(row: int, weight: int, neighbour: int, touched: int) -> None:
    """Add a pair that is no more to its neighbour's row."""
    lost = load_u64(row + 8)
    if lost == _ZERO:
        _touch(row, neighbour, touched)
    store_u64(row + 8, lost + weight)


@inline
def _touch(row: int, neighbour: int, touched: int) -> None:
    """Enter a neighbour into the list of those whose rows hold something: its length, then its members."""
    if load_u64(row) == _ZERO and load_u64(row + 8) == _ZERO:
        count = load_u32(touched)
        store_u32(touched + 4 + 4 * count, neighbour)
        store_u32(touched, count + 1)


@inline
def _merge_word(
    word: int, cells: int, left: int, right: int, product: int, before: int, after: int, touched_before: int,
    touched_after: int, log: int, logged: int,
) -> int:  # fmt: skip
    """Merge a pair wherever a word has it, and sum what changes by neighbour; return the log's length.

    `before` and `after` have a row of 32 bytes for each symbol x: the count of the new pairs (x, product) or
    (product, x), the count of the lost pairs (x, left) or (right, x), the last word logged plus one, the words logged.
    """
    at = cells + 4 * word
    weight, first = load_u64(at), at + 4 * WORD_HEAD
    stop, read, write = first + 4 * load_u32(at + 8), first, first
    merged_last = False
    while read < stop:
        symbol = load_u32(read)
        is_match = symbol == left and read + 4 < stop and load_u32(read + 4) == right
        if is_match and write > first:
            previous = load_u32(write - 4)
            lost = right if merged_last else previous
            _lose(before + 32 * lost, weight, lost, touched_before)
            logged = _note(before + 32 * previous, weight, word, previous, 0, touched_before, log, logged)
        elif merged_last and not is_match:
            _lose(after + 32 * symbol, weight, symbol, touched_after)
            logged = _note(after + 32 * symbol, weight, word, symbol, 1, touched_after, log, logged)
        store_u32(write, product if is_match else symbol)
        write += 4
        read += 8 if is_match else 4
        merged_last = is_match
    store_u32(at + 8, (write - first) >> 2)
    return logged


@inline
def _settle(
    rows: int, touched: int, new_key: int, new_shift: int, lost_key: int, pairs: int, pair_shift: int, state: int,
    queue: int, least: int,
) -> None:  # fmt: skip
    """Carry the sums of one side over to the table of pairs, and give every new pair its place for a list."""
    for number in range(load_u32(touched)):  # the rows are far apart: ask for all of them, then wait for none
        shifted = np.uint64(load_u32(touched + 4 + 4 * number)) << np.uint64(new_shift)
        prefetch(pairs + _PAIR_ROW * np.int64(((lost_key | shifted) * _SPREAD) >> np.uint64(pair_shift)))
        prefetch(pairs + _PAIR_ROW * np.int64(((new_key | shifted) * _SPREAD) >> np.uint64(pair_shift)))
    for number in range(load_u32(touched)):
        neighbour = load_u32(touched + 4 + 4 * number)
        row = rows + 32 * neighbour
        shifted = np.uint64(neighbour) << np.uint64(new_shift)
        lost, count = load_u64(row + 8), load_u64(row)
        if lost > _ZERO:
            at = _pair_row(lost_key | shifted, pairs, pair_shift)
            if load_u64(at) != EMPTY:
                store_u64(at + 8, load_u64(at + 8) - lost)
        if count >= np.uint64(least):
            key = new_key | shifted
            at = _pair_row(key, pairs, pair_shift)
            store_u64(at, key)
            store_u64(at + 8, count)
            store_u64(at + 16, load_u64(state + 8 * LISTS))
            store_u64(at + 24, np.uint64(load_u32(row + 20)))
            store_u32(row + 24, np.int64(load_u64(state + 8 * LISTS)) & NO_PLACE)
            store_u64(state + 8 * LISTS, load_u64(state + 8 * LISTS) + np.uint64(load_u32(row + 20)))
            store_u64(state + 8 * PAIRS, load_u64(state + 8 * PAIRS) + _ONE)
            push(count, key, queue)
        else:
            store_u32(row + 24, NO_PLACE)


@inline
def _clear(rows: int, touched: int) -> None:
    """Empty the rows of the neighbours that were touched."""
    for number in range(load_u32(touched)):
        row = rows + 32 * load_u32(touched + 4 + 4 * number)
        store_u64(row, _ZERO)
        store_u64(row + 8, _ZERO)
        store_u64(row + 16, _ZERO)
    store_u32(touched, 0)


@inline
def _merge_words(
    lists: int, start: int, stop: int, cells: int, left: int, right: int, product: int, sides: int, symbols: int,
    touched: int, log: int,
) -> int:  # fmt: skip
    """Merge a pair in some words of its list; return the log's length."""
    logged = 0
    for number in range(start, stop):
        prefetch(cells + 4 * load_u32(lists + 4 * min(number + _AHEAD, stop - 1)))
        word = load_u32(lists + 4 * number)
        logged = _merge_word(
            word, cells, left, right, product, sides, sides + 32 * symbols, touched, touched + 4 * (symbols + 2), log,
            logged,
        )  # fmt: skip
    return logged


@inline
def _add_sides(sides: int, touched: int, other: int, other_touched: int, symbols: int) -> None:
    """Add what another thread summed by neighbour, and tell it how many words go before its own in each list."""
    for side in range(2):
        rows, more = sides + 32 * symbols * side, other + 32 * symbols * side
        mine, theirs = touched + 4 * (symbols + 2) * side, other_touched + 4 * (symbols + 2) * side
        for number in range(load_u32(theirs)):
            neighbour = load_u32(theirs + 4 + 4 * number)
            row, added = rows + 32 * neighbour, more + 32 * neighbour
            _touch(row, neighbour, mine)
            store_u64(row, load_u64(row) + load_u64(added))
            store_u64(row + 8, load_u64(row + 8) + load_u64(added + 8))
            store_u32(added + 24, load_u32(row + 20))
            store_u32(row + 20, load_u32(row + 20) + load_u32(added + 20))


@inline
def _place_lists(sides: int, other: int, other_touched: int, symbols: int) -> None:
    """Tell another thread where in each list its words go."""
    for side in range(2):
        rows, more = sides + 32 * symbols * side, other + 32 * symbols * side
        theirs = other_touched + 4 * (symbols + 2) * side
        for number in range(load_u32(theirs)):
            neighbour = load_u32(theirs + 4 + 4 * number)
            place, added = load_u32(rows + 32 * neighbour + 24), more + 32 * neighbour
            store_u32(added + 24, place + load_u32(added + 24) if place != NO_PLACE else NO_PLACE)


@inline
def _settle_both(
    sides: int, symbols: int, touched: int, left: int, right: int, product: int, pairs: int, shift: int, state: int,
    queue: int, least: int,
) -> None:  # fmt: skip
    """Carry the sums of both sides over to the table of pairs."""
    _settle(sides, touched, np.uint64(product), 32, np.uint64(left), pairs, shift, state, queue, least)
    _settle(
        sides + 32 * symbols, touched + 4 * (symbols + 2), np.uint64(product) << _HALF, 0, np.uint64(right) << _HALF,
        pairs, shift, state, queue, least,
    )  # fmt: skip


@inline
def _fill_lists(log: int, logged: int, sides: int, symbols: int, touched: int, lists: int) -> None:
    """Write the logged words into the lists of their pairs, and empty the rows."""
    for number in range(logged):
        entry = load_u32(log + 8 * number)
        row = sides + 32 * (symbols * (entry & 1) + (entry >> 1))
        place = load_u32(row + 24)
        if place != NO_PLACE:
            store_u32(lists + 4 * place, load_u32(log + 8 * number + 4))
            store_u32(row + 24, place + 1)
    _clear(sides, touched)
    _clear(sides + 32 * symbols, touched + 4 * (symbols + 2))


@inline
def _wait_for(value: int, place: int) -> None:
    """Wait until another thread has written a value."""
    asked = 0
    while load_acquire(place) != value:
        asked = _wait(asked)


@inline
def _wait(asked: int) -> int:
    """Wait a moment, after asking so many times in vain; on a core that others want too, let them go first."""
    if asked & 1023 == 1023:
        give_way()
    else:
        pause()
    return asked + 1


@kernel
def assist(words: Array32, lists: Array32, log: Array32, sides: Array64, touched: Array32, desk: Array64) -> None:
    """Merge the parts of words that `learn`, on another thread, lays on the desk, until it says `STOP_WORK`.

    Waiting is asking again and again: a merge takes some ten microseconds, which no slower way to wake up is worth.
    """
    desk_at, lists_at, log_at = address(desk), address(lists), address(log)
    sides_at, touched_at, symbols = address(sides), address(touched), sides.size // 8
    seen, asked = _ZERO, 0
    while True:
        job: int = load_acquire(desk_at)
        if job == seen:
            asked = _wait(asked)
            continue
        asked = 0
        if job == STOP_WORK:
            return
        logged = _merge_words(
            lists_at, np.int64(desk[START_PART]), np.int64(desk[STOP_PART]), address(words), np.int64(desk[LEFT]),
            np.int64(desk[RIGHT]), np.int64(desk[PRODUCT]), sides_at, symbols, touched_at, log_at,
        )  # fmt: skip
        store_release(desk_at + 8 * MERGED, job)
        _wait_for(job, desk_at + 8 * PLACED)
        _fill_lists(log_at, logged, sides_at, symbols, touched_at, lists_at)
        store_release(desk_at + 8 * FILLED, job)
        seen = job


@inline
def _hand_out(desks: int, others: int, start: int, stop: int, left: int, right: int, product: int) -> None:
    """Lay a part of a merge's words on each desk."""
    for other in range(others):
        desk = desks + 8 * DESK * other
        store_u64(desk + 8 * START_PART, np.uint64(start + (stop - start) * (other + 1) // (others + 1)))
        store_u64(desk + 8 * STOP_PART, np.uint64(start + (stop - start) * (other + 2) // (others + 1)))
        store_u64(desk + 8 * LEFT, np.uint64(left))
        store_u64(desk + 8 * RIGHT, np.uint64(right))
        store_u64(desk + 8 * PRODUCT, np.uint64(product))
        store_release(desk, np.uint64(product))


@inline
def _carry_out(
    start: int, stop: int, lists: int, cells: int, left: int, right: int, product: int, sides: int, symbols: int,
    touched: int, log: int, desks: int, others: int, pairs: int, shift: int, state: int, queue: int, least: int,
) -> None:  # fmt: skip
    """Merge a pair in all its words, with the help of so many others, and enter what changes."""
    mine = start + (stop - start) // (others + 1)
    if others:
        _hand_out(desks, others, start, stop, left, right, product)
    logged = _merge_words(lists, start, mine, cells, left, right, product, sides, symbols, touched, log)
    for other in range(1, others + 1):
        _wait_for(np.uint64(product), desks + 8 * (DESK * (other - 1) + MERGED))
        _add_sides(sides, touched, sides + 64 * symbols * other, touched + 8 * (symbols + 2) * other, symbols)
    _settle_both(sides, symbols, touched, left, right, product, pairs, shift, state, queue, least)
    for other in range(1, others + 1):
        _place_lists(sides, sides + 64 * symbols * other, touched + 8 * (symbols + 2) * other, symbols)
        store_release(desks + 8 * (DESK * (other - 1) + PLACED), np.uint64(product))
    _fill_lists(log, logged, sides, symbols, touched, lists)
    for other in range(1, others + 1):
        _wait_for(np.uint64(product), desks + 8 * (DESK * (other - 1) + FILLED))


@inline
def _has_room(
    places: int, logs: Array32, lists: Array32, queue: int, pairs: Array64, symbols: int, state: Array64
) -> bool:
    """Tell whether the arrays are large enough for what a merge in so many places adds to them."""
    new_pairs = 2 * min(places, symbols)
    return (
        4 * places <= logs.shape[1]
        and np.int64(state[LISTS]) + 2 * places <= lists.size
        and new_pairs <= room_left(queue)
        and 8 * (np.int64(state[PAIRS]) + new_pairs) <= pairs.size
    )


@kernel
def learn(
    words: Array32, pairs: Array64, lists: Array32, queue: Array64, logs: Array32, all_sides: Array64,
    all_touched: Array32, desks: Array64, state: Array64, merges: Array32, first_product: int, until: int, least: int,
    most_words: int,
) -> int:  # fmt: skip
    """Learn merges until there are `until` (returns DONE), none is left that was seen `least` times (NONE_LEFT), or an
    array is too small for the next one (ROOM_WANTED).

    A merge of more than `most_words` words is divided between this thread and those that `assist` at `desks`
    (threads - 1, DESK); `logs`, `all_sides` and `all_touched` have a row for each thread.
    """
    cells, pairs_at, lists_at, queue_at, log_at = (
        address(words), address(pairs), address(lists), address(queue), address(logs),
    )  # fmt: skip
    others, symbols = desks.shape[0], all_sides.shape[1] // 8
    sides_at, touched_at, state_at, desks_at = address(all_sides), address(all_touched), address(state), address(desks)
    shift = 64 - trailing_zeros(np.uint64(pairs.size // 4))
    while np.int64(state[MERGES]) < until:
        if not has_entry(queue_at):
            return NONE_LEFT
        count, key = first(queue_at)
        at = _pair_row(key, pairs_at, shift)
        present = load_u64(at + 8) if load_u64(at) == key else _ZERO
        if present != count:
            if present >= np.uint64(least):
                replace_first(present, key, queue_at)
            else:
                pop(queue_at)
            continue
        start, num_words = np.int64(load_u64(at + 16)), np.int64(load_u64(at + 24))
        # A pair that is seen so often stands in no more places: mostly that shows that there is room.
        if not _has_room(np.int64(count), logs, lists, queue_at, pairs, symbols, state):
            room = 0
            for number in range(start, start + num_words):
                room += load_u32(cells + 4 * load_u32(lists_at + 4 * number) + 8)
            if not _has_room(room, logs, lists, queue_at, pairs, symbols, state):
                state[ROOM] = np.uint64(room)
                return ROOM_WANTED
        number_of_merge = np.int64(state[MERGES])
        left, right, product = np.int64(key >> _HALF), np.int64(key & _LOW_HALF), first_product + number_of_merge
        merges[2 * number_of_merge], merges[2 * number_of_merge + 1] = left, right
        state[MERGES] += _ONE
        pop(queue_at)
        store_u64(at + 8, _ZERO)
        _carry_out(
            start, start + num_words, lists_at, cells, left, right, product, sides_at, symbols, touched_at, log_at,
            desks_at, others if num_words > most_words else 0, pairs_at, shift, state_at, queue_at, least,
        )  # fmt: skip
    return DONE
