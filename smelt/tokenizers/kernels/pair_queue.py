"""A queue of counted pairs in plain memory: the highest count first, of equal ones the smallest key.

Most pairs are too rare to have their turn soon, so only those with a count of `_LEAST` and more lie in a binary heap,
which stays small enough for the core's cache. The others lie behind it, in no order, until the heap is empty and the
least count is lowered. Memory begins with a head of four numbers; then come the heap, whose entry n has the children
2n + 1 and 2n + 2, free room, and from the end towards it those that wait. An entry is two numbers, the count and the
key.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from smelt.tokenizers.kernels.jit import inline
from smelt.tokenizers.kernels.loads import load_u64, store_u64

# Places in the head: how many entries are in the heap and how many wait, the least count in the heap, where memory ends
# (in bytes from the head).
_HEAPED, _WAITING, _LEAST, _END = 0, 8, 16, 24
HEAD = 4
_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_ANY = 0xFFFFFFFFFFFFFFFF  # every count is lower: the first entries wait until the first is wanted


def empty_queue(entries: int) -> npt.NDArray[np.uint64]:
    """Return memory for a queue of so many entries."""
    queue = np.empty(HEAD + 2 * entries, np.uint64)
    queue[:HEAD] = 0, 0, _ANY, queue.nbytes
    return queue


def with_room(queue: npt.NDArray[np.uint64], entries: int) -> npt.NDArray[np.uint64]:
    """Return a queue, or a larger copy of it, that has room for so many more entries."""
    heaped, waiting = int(queue[0]), int(queue[1])
    if HEAD + 2 * (heaped + waiting + entries) <= len(queue):
        return queue
    larger = empty_queue(2 * (heaped + waiting + entries))
    larger[: HEAD - 1] = queue[: HEAD - 1]
    larger[HEAD : HEAD + 2 * heaped] = queue[HEAD : HEAD + 2 * heaped]
    larger[len(larger) - 2 * waiting :] = queue[len(queue) - 2 * waiting :]
    return larger


@inline
def room_left(queue: int) -> int:
    """Return how many more entries there is room for."""
    used = np.int64(load_u64(queue + _HEAPED)) + np.int64(load_u64(queue + _WAITING))
    end = np.int64(load_u64(queue + _END))
    return (end - 8 * HEAD) // 16 - used


@inline
def first_queue(one: int, other: int) -> int:
    """Return that of two queues whose first entry goes first, or 0 if neither has one."""
    if not _has_entry(other):
        return one if _has_entry(one) else 0
    if _has_entry(one) and _before(load_u64(one + 8 * HEAD), load_u64(one + 8 * HEAD + 8), other + 8 * HEAD):
        return one
    return other


@inline
def _has_entry(queue: int) -> bool:
    """Tell whether there is an entry; if so, one lies in the heap."""
    while load_u64(queue + _HEAPED) == _ZERO:
        if load_u64(queue + _WAITING) == _ZERO:
            return False
        _lower(queue)
    return True


@inline
def first(queue: int) -> tuple[int, int]:
    """Return the count and the key of the first entry."""
    return load_u64(queue + 8 * HEAD), load_u64(queue + 8 * HEAD + 8)


@inline
def push(count: int, key: int, queue: int) -> None:
    """Add an entry."""
    if count < load_u64(queue + _LEAST):
        waiting = load_u64(queue + _WAITING) + _ONE
        place = queue + np.int64(load_u64(queue + _END)) - 16 * np.int64(waiting)
        store_u64(queue + _WAITING, waiting)
        store_u64(place, count)
        store_u64(place + 8, key)
    else:
        _rise(count, key, queue)


@inline
def pop(queue: int) -> None:
    """Remove the first entry."""
    size = np.int64(load_u64(queue + _HEAPED)) - 1
    store_u64(queue + _HEAPED, np.uint64(size))
    last = queue + 8 * HEAD + 16 * size
    _sink(load_u64(last), load_u64(last + 8), queue, size)


@inline
def replace_first(count: int, key: int, queue: int) -> None:
    """Remove the first entry and add another."""
    if count < load_u64(queue + _LEAST):
        pop(queue)
        push(count, key, queue)
    else:
        size = np.int64(load_u64(queue + _HEAPED))
        _sink(count, key, queue, size)


@inline
def _lower(queue: int) -> None:
    """Take the more frequent half of what waits, by count, into the heap, which is empty."""
    end, waiting = queue + np.int64(load_u64(queue + _END)), np.int64(load_u64(queue + _WAITING))
    most = _ZERO
    for number in range(waiting):
        most = max(most, load_u64(end - 16 * number - 16))
    least, kept = (most + _ONE) >> _ONE, 0
    store_u64(queue + _LEAST, least)
    for number in range(waiting):
        count, key = load_u64(end - 16 * number - 16), load_u64(end - 16 * number - 8)
        if count >= least:
            _rise(count, key, queue)
        else:
            kept += 1
            store_u64(end - 16 * kept, count)
            store_u64(end - 16 * kept + 8, key)
    store_u64(queue + _WAITING, np.uint64(kept))


@inline
def _before(count: int, key: int, entry: int) -> bool:
    """Tell whether an entry goes before that at an address: the higher count, then the smaller pair."""
    other: int = load_u64(entry)
    return count > other or (count == other and key < load_u64(entry + 8))


@inline
def _rise(count: int, key: int, queue: int) -> None:
    """Add an entry to the heap."""
    heap = queue + 8 * HEAD
    place = np.int64(load_u64(queue + _HEAPED))
    store_u64(queue + _HEAPED, np.uint64(place + 1))
    while place > 0:
        parent = (place - 1) >> 1
        if not _before(count, key, heap + 16 * parent):
            break
        store_u64(heap + 16 * place, load_u64(heap + 16 * parent))
        store_u64(heap + 16 * place + 8, load_u64(heap + 16 * parent + 8))
        place = parent
    store_u64(heap + 16 * place, count)
    store_u64(heap + 16 * place + 8, key)


@inline
def _sink(count: int, key: int, queue: int, size: int) -> None:
    """Put an entry in the place of the first one and let it sink."""
    heap, place = queue + 8 * HEAD, 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        right = heap + 16 * child + 16
        if child + 1 < size and _before(load_u64(right), load_u64(right + 8), heap + 16 * child):
            child += 1
        if _before(count, key, heap + 16 * child):
            break
        store_u64(heap + 16 * place, load_u64(heap + 16 * child))
        store_u64(heap + 16 * place + 8, load_u64(heap + 16 * child + 8))
        place = child
    store_u64(heap + 16 * place, count)
    store_u64(heap + 16 * place + 8, key)
