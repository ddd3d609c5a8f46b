"""A binary heap of counted pairs in plain memory: the highest count first, of equal ones the smallest key.

An entry is two numbers, the count and the key; the children of entry n are 2n + 1 and 2n + 2.
"""

from __future__ import annotations

from smelt.tokenizers.kernels.jit import inline
from smelt.tokenizers.kernels.loads import load_u64, store_u64


@inline
def _before(count: int, key: int, heap: int, place: int) -> bool:
    """Tell whether an entry goes before that at a place: the higher count, then the smaller pair."""
    other: int = load_u64(heap + 16 * place)
    other_key: int = load_u64(heap + 16 * place + 8)
    return count > other or (count == other and key < other_key)


@inline
def push(count: int, key: int, heap: int, size: int) -> None:
    """Add an entry to a heap of so many entries."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if not _before(count, key, heap, parent):
            break
        store_u64(heap + 16 * place, load_u64(heap + 16 * parent))
        store_u64(heap + 16 * place + 8, load_u64(heap + 16 * parent + 8))
        place = parent
    store_u64(heap + 16 * place, count)
    store_u64(heap + 16 * place + 8, key)


@inline
def replace_top(count: int, key: int, heap: int, size: int) -> None:
    """Put an entry in the place of the first one and let it sink."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and _before(
            load_u64(heap + 16 * child + 16), load_u64(heap + 16 * child + 24), heap, child
        ):
            child += 1
        if _before(count, key, heap, child):
            break
        store_u64(heap + 16 * place, load_u64(heap + 16 * child))
        store_u64(heap + 16 * place + 8, load_u64(heap + 16 * child + 8))
        place = child
    store_u64(heap + 16 * place, count)
    store_u64(heap + 16 * place + 8, key)
