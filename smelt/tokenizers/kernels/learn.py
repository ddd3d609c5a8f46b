"""Learn BPE merges from counted words: what `bpe_train.learn_merges` does, some hundred times as fast.

Words lie in one array: a weight (two cells), a length, the symbols. Every pair of neighbours has a row in a table: its
count and the list of words it may stand in. A merge reads those words only; what changes beside it is summed in arrays
indexed by the neighbour, so the table is asked once per neighbour and not once per place. The most frequent pair comes
from queues whose entries may be out of date: counts only fall, so an entry that is too high goes back with its present
count. Pairs come to be only with the newest symbol, so a list is complete when it is made.

Threads share the words of a merge. Then the first enters what changes before the merged pair, the second what changes
after it: each has a queue of its own, and alone writes the new lists of its side. Lists keep the words' order, so a
word is nearly always the same thread's, and stays in its core's cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.bpe import EMPTY
from smelt.tokenizers.kernels.jit import inline, kernel
from smelt.tokenizers.kernels.lay_out import WORD_HEAD
from smelt.tokenizers.kernels.loads import (
    address,
    fetch_add,
    give_way,
    load_acquire,
    load_u32,
    load_u64,
    pause,
    prefetch,
    store_release,
    store_u32,
    store_u64,
    swap_if,
    trailing_zeros,
)
from smelt.tokenizers.kernels.pair_queue import first, first_queue, pop, push, replace_first, room_left

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
# Places on a thread's desk: the job (by its product), its words in `lists`, its symbols; then, in another cache line,
# how far the thread has come (four times the product, plus a step of it) and what it has logged on either side.
DESK = 16
JOB, START, STOP, LEFT, RIGHT, REACHED, LOGGED = 0, 1, 2, 3, 4, 8, 9
MERGED, JOINED, FILLED = 1, 2, 3
STOP_WORK = np.uint64(0xFFFFFFFFFFFFFFFF)
_AHEAD = 8  # words that are fetched while others are merged


class _Memory(NamedTuple):
    """Where the arrays are (addresses), and their sizes."""

    words: int
    pairs: int
    shift: int  # of a hash, to the number of a row of `pairs`
    lists: int
    before: int  # the queue of the pairs (x, product), and of the first pairs
    after: int  # the queue of the pairs (product, x)
    logs: int
    log_bytes: int  # of a thread's side
    sides: int
    symbols: int  # all that there are to be
    touched: int
    desks: int
    state: int
    least: int


@inline
def _memory_of(
    words: Array32, pairs: Array64, lists: Array32, before: Array64, after: Array64, logs: Array32, sides: Array64,
    touched: Array32, desks: Array64, state: Array64, least: int,
) -> _Memory:  # fmt: skip
    return _Memory(
        address(words), address(pairs), 64 - trailing_zeros(np.uint64(pairs.size // 4)), address(lists),
        address(before), address(after), address(logs), 2 * logs.shape[1], address(sides), sides.shape[1] // 8,
        address(touched), address(desks), address(state), least,
    )  # fmt: skip


class _Side(NamedTuple):
    """What a thread notes in a merge of the pairs on one side (addresses)."""

    rows: int
    touched: int
    log: int


@inline
def _side(memory: _Memory, thread: int, side: int) -> _Side:
    """Return where a thread notes what changes on a side: 0 before the merged pair, 1 after it.

    `rows` has 32 bytes for each neighbour x: the count of the new pairs (x, product) or (product, x), the count of the
    lost pairs (x, left) or (right, x), then in four bytes each the last word logged plus one, the words logged, where
    in the list of the new pair the next one goes. `touched` has the neighbours whose rows hold something: how many,
    then which. `log` has the words of the new pairs: the neighbour, the word.
    """
    number = 2 * thread + side
    return _Side(
        memory.sides + 32 * memory.symbols * number,
        memory.touched + 4 * (memory.symbols + 2) * number,
        memory.logs + memory.log_bytes * number,
    )


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


@inline
def _claim_row(key: int, pairs: int, shift: int) -> int:
    """Write a key that the table does not have into a free row, as another thread may at the same time; return it."""
    row = np.int64((key * _SPREAD) >> np.uint64(shift))
    mask = (1 << (64 - shift)) - 1
    while load_u64(pairs + _PAIR_ROW * row) != EMPTY or not swap_if(pairs + _PAIR_ROW * row, EMPTY, key):
        row = (row + 1) & mask
    return pairs + _PAIR_ROW * row


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
def _note(row: int, weight: int, word: int, neighbour: int, touched: int, log: int, logged: int) -> int:
    """Add a new pair to its neighbour's row, and its word to the log unless it is there; return the log's length."""
    count = load_u64(row)
    if count == _ZERO:
        _touch(row, neighbour, touched)
    store_u64(row, count + weight)
    if load_u32(row + 16) != word + 1:
        store_u32(row + 16, word + 1)
        store_u32(row + 20, load_u32(row + 20) + 1)
        store_u32(log + 8 * logged, neighbour)
        store_u32(log + 8 * logged + 4, word)
        logged += 1
    return logged


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
    word: int, cells: int, left: int, right: int, product: int, before: _Side, after: _Side, logged_before: int,
    logged_after: int,
) -> tuple[int, int]:  # fmt: skip
    """Merge a pair wherever a word has it, and sum what changes by neighbour; return the lengths of the logs."""
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
            _lose(before.rows + 32 * lost, weight, lost, before.touched)
            row = before.rows + 32 * previous
            logged_before = _note(row, weight, word, previous, before.touched, before.log, logged_before)
        elif merged_last and not is_match:
            row = after.rows + 32 * symbol
            _lose(row, weight, symbol, after.touched)
            logged_after = _note(row, weight, word, symbol, after.touched, after.log, logged_after)
        store_u32(write, product if is_match else symbol)
        write += 4
        read += 8 if is_match else 4
        merged_last = is_match
    store_u32(at + 8, (write - first) >> 2)
    return logged_before, logged_after


@inline
def _merge_words(memory: _Memory, thread: int, start: int, stop: int, left: int, right: int, product: int) -> None:
    """Merge a pair in some words of its list."""
    lists, words = memory.lists, memory.words
    before, after = _side(memory, thread, 0), _side(memory, thread, 1)
    logged_before, logged_after = 0, 0
    for number in range(start, stop):
        prefetch(words + 4 * load_u32(lists + 4 * min(number + _AHEAD, stop - 1)))
        logged_before, logged_after = _merge_word(
            load_u32(lists + 4 * number), words, left, right, product, before, after, logged_before, logged_after
        )
    store_u64(memory.desks + 8 * (DESK * thread + LOGGED), np.uint64(logged_before))
    store_u64(memory.desks + 8 * (DESK * thread + LOGGED + 1), np.uint64(logged_after))


@inline
def _join(mine: _Side, theirs: _Side) -> None:
    """Add what another thread summed on a side."""
    for number in range(load_u32(theirs.touched)):
        neighbour = load_u32(theirs.touched + 4 + 4 * number)
        row, added = mine.rows + 32 * neighbour, theirs.rows + 32 * neighbour
        _touch(row, neighbour, mine.touched)
        store_u64(row, load_u64(row) + load_u64(added))
        store_u64(row + 8, load_u64(row + 8) + load_u64(added + 8))
        store_u32(row + 20, load_u32(row + 20) + load_u32(added + 20))


@inline
def _settle(memory: _Memory, sums: _Side, side: int, left: int, right: int, product: int) -> None:
    """Carry the sums of a side over to the table of pairs, and give every new pair its place for a list.

    Another thread may do the other side. New pairs are never the same; one that is lost may be, (right, left).
    """
    rows, touched, pairs, to_row = sums.rows, sums.touched, memory.pairs, memory.shift
    shift = np.uint64(32 * (1 - side))  # where the neighbour stands in a key
    lost_key = np.uint64(right) << _HALF if side else np.uint64(left)
    new_key = np.uint64(product) << np.uint64(32 * side)
    cells, least = 0, np.uint64(memory.least)
    for number in range(load_u32(touched)):  # the rows are far apart: ask for all of them, then wait for none
        neighbour = load_u32(touched + 4 + 4 * number)
        shifted = np.uint64(neighbour) << shift
        prefetch(pairs + _PAIR_ROW * np.int64(((lost_key | shifted) * _SPREAD) >> np.uint64(to_row)))
        prefetch(pairs + _PAIR_ROW * np.int64(((new_key | shifted) * _SPREAD) >> np.uint64(to_row)))
        if load_u64(rows + 32 * neighbour) >= least:
            cells += load_u32(rows + 32 * neighbour + 20)
    place, entered = np.int64(fetch_add(memory.state + 8 * LISTS, np.uint64(cells))), _ZERO
    for number in range(load_u32(touched)):
        neighbour = load_u32(touched + 4 + 4 * number)
        row, shifted = rows + 32 * neighbour, np.uint64(neighbour) << shift
        count, lost, size = load_u64(row), load_u64(row + 8), load_u32(row + 20)
        if lost > _ZERO:
            at = _pair_row(lost_key | shifted, pairs, to_row)
            if load_u64(at) != EMPTY:
                fetch_add(at + 8, _ZERO - lost)
        if count >= least:
            at = _claim_row(new_key | shifted, pairs, to_row)
            store_u64(at + 8, count)
            store_u64(at + 16, np.uint64(place))
            store_u64(at + 24, np.uint64(size))
            push(count, new_key | shifted, memory.after if side else memory.before)
            store_u32(row + 24, place)
            place += size
            entered += _ONE
        else:
            store_u32(row + 24, NO_PLACE)
    fetch_add(memory.state + 8 * PAIRS, entered)


@inline
def _fill_lists(memory: _Memory, rows: int, log: int, logged: int) -> None:
    """Write the words that a thread logged on a side into the lists of their pairs."""
    for number in range(logged):
        row = rows + 32 * load_u32(log + 8 * number)
        place = load_u32(row + 24)
        if place != NO_PLACE:
            store_u32(memory.lists + 4 * place, load_u32(log + 8 * number + 4))
            store_u32(row + 24, place + 1)


@inline
def _clear(sums: _Side) -> None:
    """Empty the rows of the neighbours that were touched."""
    for number in range(load_u32(sums.touched)):
        row = sums.rows + 32 * load_u32(sums.touched + 4 + 4 * number)
        store_u64(row, _ZERO)
        store_u64(row + 8, _ZERO)
        store_u64(row + 16, _ZERO)
    store_u32(sums.touched, 0)


@inline
def _wait(asked: int) -> int:
    """Wait a moment, after asking so many times in vain; on a core that others want too, let them go first."""
    if asked & 1023 == 1023:
        give_way()
    else:
        pause()
    return asked + 1


@inline
def _reach(memory: _Memory, thread: int, product: int, step: int) -> None:
    """Tell the other threads that this one has come so far with a merge."""
    store_release(memory.desks + 8 * (DESK * thread + REACHED), np.uint64(4 * product + step))


@inline
def _await(memory: _Memory, first_thread: int, last_thread: int, product: int, step: int) -> None:
    """Wait until some threads have come so far with a merge."""
    for thread in range(first_thread, last_thread + 1):
        asked = 0
        while load_acquire(memory.desks + 8 * (DESK * thread + REACHED)) < np.uint64(4 * product + step):
            asked = _wait(asked)


@inline
def _enter(memory: _Memory, side: int, owner: int, threads: int, left: int, right: int, product: int) -> None:
    """Enter what changes on a side: sum over the threads, settle, fill the new lists."""
    mine = _side(memory, owner, side)
    for thread in range(threads):
        if thread != owner:
            _join(mine, _side(memory, thread, side))
    if threads > 1:
        _reach(memory, owner, product, JOINED)
    _settle(memory, mine, side, left, right, product)
    for thread in range(threads):
        logged = np.int64(load_u64(memory.desks + 8 * (DESK * thread + LOGGED + side)))
        _fill_lists(memory, mine.rows, _side(memory, thread, side).log, logged)


@inline
def _carry_out(
    memory: _Memory, thread: int, threads: int, start: int, stop: int, left: int, right: int, product: int
) -> None:
    """Do a thread's part of a merge: its share of the words, then, if it is one of the first two, a side."""
    size = stop - start
    first, last = start + size * thread // threads, start + size * (thread + 1) // threads
    _merge_words(memory, thread, first, last, left, right, product)
    if threads == 1:
        _enter(memory, 0, 0, 1, left, right, product)
        _enter(memory, 1, 0, 1, left, right, product)
    else:
        _reach(memory, thread, product, MERGED)
        if thread < 2:
            _await(memory, 0, threads - 1, product, MERGED)
            _enter(memory, thread, thread, threads, left, right, product)
        _await(memory, 0, 1, product, JOINED)  # they have read what is emptied now
    _clear(_side(memory, thread, 0))
    _clear(_side(memory, thread, 1))
    if threads > 1:
        _reach(memory, thread, product, FILLED)


@kernel
def assist(
    thread: int, words: Array32, pairs: Array64, lists: Array32, before: Array64, after: Array64, logs: Array32,
    sides: Array64, touched: Array32, desks: Array64, state: Array64, least: int,
) -> None:  # fmt: skip
    """Do a thread's part of the merges that `learn`, on another thread, lays on its desk, until it says `STOP_WORK`.

    Waiting is asking again and again: a merge takes some ten microseconds, which no slower way to wake up is worth.
    """
    memory = _memory_of(words, pairs, lists, before, after, logs, sides, touched, desks, state, least)
    desk = memory.desks + 8 * DESK * thread
    seen, asked = _ZERO, 0
    while True:
        job: int = load_acquire(desk)
        if job == seen:
            asked = _wait(asked)
            continue
        if job == STOP_WORK:
            return
        _carry_out(
            memory, thread, desks.shape[0], np.int64(load_u64(desk + 8 * START)), np.int64(load_u64(desk + 8 * STOP)),
            np.int64(load_u64(desk + 8 * LEFT)), np.int64(load_u64(desk + 8 * RIGHT)), np.int64(job),
        )  # fmt: skip
        seen, asked = job, 0


@inline
def _hand_out(memory: _Memory, threads: int, start: int, stop: int, left: int, right: int, product: int) -> None:
    """Lay a merge on the desks of the other threads."""
    for thread in range(1, threads):
        desk = memory.desks + 8 * DESK * thread
        store_u64(desk + 8 * START, np.uint64(start))
        store_u64(desk + 8 * STOP, np.uint64(stop))
        store_u64(desk + 8 * LEFT, np.uint64(left))
        store_u64(desk + 8 * RIGHT, np.uint64(right))
        store_release(desk, np.uint64(product))


@inline
def _has_room(places: int, memory: _Memory, lists: Array32, pairs: Array64, state: Array64) -> bool:
    """Tell whether the arrays are large enough for what a merge in so many places adds to them."""
    new_pairs = min(places, memory.symbols)  # on either side
    return (
        8 * places <= memory.log_bytes
        and np.int64(state[LISTS]) + 2 * places <= lists.size
        and new_pairs <= room_left(memory.before)
        and new_pairs <= room_left(memory.after)
        and 8 * (np.int64(state[PAIRS]) + 2 * new_pairs) <= pairs.size
    )


@kernel
def learn(
    merges: Array32, first_product: int, until: int, most_words: int, words: Array32, pairs: Array64, lists: Array32,
    before: Array64, after: Array64, logs: Array32, sides: Array64, touched: Array32, desks: Array64, state: Array64,
    least: int,
) -> int:  # fmt: skip
    """Learn merges until there are `until` (returns DONE), none is left that was seen `least` times (NONE_LEFT), or an
    array is too small for the next one (ROOM_WANTED).

    A merge of more than `most_words` words is divided between this thread and those that `assist`; `logs`, `sides`,
    `touched` and `desks` (threads, DESK) have a row for each thread, this one's first.
    """
    memory = _memory_of(words, pairs, lists, before, after, logs, sides, touched, desks, state, least)
    while np.int64(state[MERGES]) < until:
        queue = first_queue(memory.before, memory.after)
        if queue == 0:
            return NONE_LEFT
        count, key = first(queue)
        at = _pair_row(key, memory.pairs, memory.shift)
        present = load_u64(at + 8) if load_u64(at) == key else _ZERO
        if present != count:
            if present >= np.uint64(least):
                replace_first(present, key, queue)
            else:
                pop(queue)
            continue
        start, num_words = np.int64(load_u64(at + 16)), np.int64(load_u64(at + 24))
        # A pair that is seen so often stands in no more places: mostly that shows that there is room.
        if not _has_room(np.int64(count), memory, lists, pairs, state):
            room = 0
            for number in range(start, start + num_words):
                room += load_u32(memory.words + 4 * load_u32(memory.lists + 4 * number) + 8)
            if not _has_room(room, memory, lists, pairs, state):
                state[ROOM] = np.uint64(room)
                return ROOM_WANTED
        number_of_merge = np.int64(state[MERGES])
        left, right, product = np.int64(key >> _HALF), np.int64(key & _LOW_HALF), first_product + number_of_merge
        merges[2 * number_of_merge], merges[2 * number_of_merge + 1] = left, right
        state[MERGES] += _ONE
        pop(queue)
        store_u64(at + 8, _ZERO)
        threads = desks.shape[0] if num_words > most_words else 1
        _hand_out(memory, threads, start, start + num_words, left, right, product)
        _carry_out(memory, 0, threads, start, start + num_words, left, right, product)
        if threads > 1:
            _await(memory, 1, threads - 1, product, FILLED)
    return DONE
