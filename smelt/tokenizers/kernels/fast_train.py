"""Learn BPE merges from text with the kernels: count words on every core, then merge.

Texts are counted in batches of a few MB, each batch by one thread with a table of its own, so memory is the distinct
words and not the text. A merge of many words is divided between the threads. Neither changes what is learned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from smelt.core.runtime import num_threads
from smelt.tokenizers.bytelevel import lone_surrogate
from smelt.tokenizers.kernels.bpe import EMPTY
from smelt.tokenizers.kernels.count import ROW_NUMBERS, count_words, move_rows
from smelt.tokenizers.kernels.lay_out import cells_of, count_pairs, lay_out_words, list_pairs
from smelt.tokenizers.kernels.learn import (
    DESK,
    JOB,
    LISTS,
    MERGES,
    NONE_LEFT,
    PAIRS,
    ROOM,
    ROOM_WANTED,
    STOP_WORK,
    assist,
    enter_pairs,
    learn,
    rehash_pairs,
)  # fmt: skip
from smelt.tokenizers.kernels.loads import aligned_zeros, padded
from smelt.tokenizers.kernels.memo import WORD_BYTES
from smelt.tokenizers.kernels.pair_queue import empty_queue, with_room
from smelt.tokenizers.kernels.scan import WORDS_AT_ONCE
from smelt.tokenizers.kernels.unicode import character_classes

BATCH_BYTES = 4 << 20
MERGES_AT_ONCE = 512
# From so many words on a merge is worth dividing between threads.
LARGE_LIST = 32


class WordCounts:
    """The distinct words of some texts and how often each occurs; grows as it fills."""

    def __init__(self, rows: int = 1 << 16) -> None:
        self.table = aligned_zeros(ROW_NUMBERS * rows)
        self.pool = np.zeros(8 * rows, np.uint8)
        self.used, self.pool_used = 0, 0
        self._classes, self._stops = character_classes(), np.empty(3 * WORDS_AT_ONCE, np.int64)

    def add(self, data: npt.NDArray[np.uint8], ends: npt.NDArray[np.int64], pattern: int) -> None:
        """Count the words of documents laid end to end (`loads.padded`)."""
        document, place = 0, 0
        while True:
            document, place, self.used, self.pool_used = count_words(
                data,
                ends,
                document,
                place,
                self._classes,
                pattern,
                self._stops,
                self.table,
                self.pool,
                self.used,
                self.pool_used,
            )
            if document == len(ends):
                return
            if 2 * self.used >= len(self.table) // ROW_NUMBERS:
                self._grow()
            else:  # the word may be all that is left of its document
                self.pool = _larger(self.pool, 2 * len(self.pool) + int(ends[document]) - place)

    def items(self) -> Iterator[tuple[bytes, int]]:
        """Yield each word, in UTF-8, and how often it occurs."""
        rows = self.table.reshape(-1, ROW_NUMBERS)
        rows = rows[rows[:, 2] > 0]
        short, pool = rows[:, :2].tobytes(), self.pool.tobytes()
        for number, (_, place, size, count) in enumerate(rows.tolist()):
            start, data = (16 * number, short) if size <= WORD_BYTES else (place, pool)
            yield data[start : start + size], count

    def _grow(self) -> None:
        table = aligned_zeros(2 * len(self.table))
        move_rows(self.table, table)
        self.table = table


Item = TypeVar("Item", bound=np.generic)


def _larger(array: npt.NDArray[Item], size: int) -> npt.NDArray[Item]:
    grown = np.empty(size, array.dtype)
    grown[: len(array)] = array
    return grown


def count_texts(texts: Iterable[str], pattern: int) -> list[WordCounts]:
    """Count the words of some texts on every core, each into a table of its own; a word may be in several.

    Raises:
        TokenizerError: a text holds a lone surrogate.
    """
    threads = num_threads()
    tables = [WordCounts() for _ in range(threads)]
    free: SimpleQueue[WordCounts] = SimpleQueue()
    for table in tables:
        free.put(table)

    def count(batch: list[bytes]) -> None:
        table = free.get()
        try:
            table.add(padded(*batch), np.cumsum([len(text) for text in batch], dtype=np.int64), pattern)
        finally:
            free.put(table)

    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[None]] = deque()
        for batch in _batches(texts):
            waiting.append(pool.submit(count, batch))
            if len(waiting) > threads:
                waiting.popleft().result()
        for job in waiting:
            job.result()
    return tables


def _batches(texts: Iterable[str]) -> Iterator[list[bytes]]:
    """Gather texts, as UTF-8, into batches of some MB; a longer text is a batch of its own."""
    batch: list[bytes] = []
    size = 0
    for text in texts:
        try:
            batch.append(text.encode("utf-8"))
        except UnicodeEncodeError as error:
            raise lone_surrogate(text) from error
        size += len(batch[-1])
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def learn_merges(
    counts: Sequence[WordCounts],
    byte_order: Sequence[int],
    num_merges: int,
    least: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.uint32]:
    """Return the merges (merges, 2) as pairs of ids: of the bytes in their order, then of what merges made."""
    symbols = np.empty(256, np.uint32)
    symbols[list(byte_order)] = np.arange(256)
    threads = num_threads()
    with ThreadPoolExecutor(threads) as pool:
        learner = _Learner(counts, symbols, num_merges, least, pool, threads)
        while learner.num_merges < num_merges and learner.advance():
            if on_progress is not None:
                on_progress(learner.num_merges, num_merges)
    return learner.merges[: 2 * learner.num_merges].reshape(-1, 2)


class _Learner:
    """The arrays that merges are learned in, and what makes them larger."""

    def __init__(
        self,
        counts: Sequence[WordCounts],
        symbols: npt.NDArray[np.uint32],
        num_merges: int,
        least: int,
        pool: ThreadPoolExecutor,
        threads: int,
    ) -> None:
        self.least, self.total, self.pool = least, 256 + num_merges, pool
        self.state = np.zeros(4, np.uint64)
        # All pairs of bytes have room. About as many come to be as there are words: a table that need not grow saves
        # moving them all.
        rows = max(1 << 17, 1 << (max(table.used for table in counts) + 4 * self.total).bit_length() + 1)
        self.pairs = aligned_zeros(4 * rows)
        self.queues = [empty_queue(rows), empty_queue(rows)]
        sizes, starts, pair_counts = self._lay_out(counts, symbols, threads)
        self.state[PAIRS] = enter_pairs(256, pair_counts, starts, sizes, self.pairs, self.queues[0], least)
        self.state[LISTS] = sizes.sum()
        self.merges = np.empty(2 * num_merges, np.uint32)
        # Of each thread: what it sums by neighbour in a merge, its log of new pairs, its orders.
        self.sides = np.zeros((threads, 8 * self.total), np.uint64)
        self.touched = np.zeros((threads, 2 * (self.total + 2)), np.uint32)
        self.logs = np.empty((threads, 1 << 20), np.uint32)
        self.desks = np.zeros((threads, DESK), np.uint64)
        # Compiles where an error is raised: `learn` would wait forever for a helper that never came.
        self.desks[:, JOB] = STOP_WORK
        assist(0, *self._arrays())

    @property
    def num_merges(self) -> int:
        """Return how many merges are learned."""
        return int(self.state[MERGES])

    def _lay_out(
        self, counts: Sequence[WordCounts], symbols: npt.NDArray[np.uint32], threads: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Lay out the words, list the first pairs and empty the table of pairs, each thread a part; return the pairs'
        list sizes, where their lists start, and their counts."""
        tables = np.array(
            [(table.table.ctypes.data, len(table.table) // ROW_NUMBERS, table.pool.ctypes.data) for table in counts]
        )
        cells = list(self.pool.map(lambda part: cells_of(tables, part, threads), range(threads)))
        begins = np.cumsum([0, *cells]).tolist()
        self.words = np.empty(begins[-1] + 8, np.uint32)
        pair_counts, sizes = np.zeros((threads, 1 << 16), np.int64), np.zeros((threads, 1 << 16), np.int64)

        def count(part: int) -> int:
            end: int = lay_out_words(tables, part, threads, symbols, self.words, begins[part])
            count_pairs(self.words, begins[part], end, 256, pair_counts[part], sizes[part])
            return end

        def enter(part: int) -> None:
            list_pairs(self.words, begins[part], ends[part], 256, starts + sizes[:part].sum(axis=0), self.lists)
            np.array_split(self.pairs, threads)[part][:] = EMPTY

        ends = list(self.pool.map(count, range(threads)))
        all_sizes: npt.NDArray[np.int64] = sizes.sum(axis=0)
        starts = np.cumsum(all_sizes) - all_sizes
        # Memory that is not written yet costs nothing: room for the lists of pairs to come.
        self.lists = np.empty(4 * int(all_sizes.sum()) + 1024, np.uint32)
        list(self.pool.map(enter, range(threads)))
        return all_sizes, starts, pair_counts.sum(axis=0)

    def advance(self) -> bool:
        """Learn some merges; return whether there may be more."""
        until = min(len(self.merges) // 2, self.num_merges + MERGES_AT_ONCE)
        while self.num_merges < until:
            outcome = self._learn(until)
            if outcome == ROOM_WANTED:
                self._make_room(int(self.state[ROOM]))
            elif outcome == NONE_LEFT:
                return False
        return True

    def _learn(self, until: int) -> int:
        """Learn on this thread, with the help of the others, until there is something to do about it."""
        self.desks[:] = 0
        helpers: list[Future[None]] = []
        try:
            for thread in range(1, len(self.desks)):
                helpers.append(self.pool.submit(assist, thread, *self._arrays()))
            outcome: int = learn(self.merges, 256, until, LARGE_LIST, *self._arrays())
        finally:
            self.desks[:, JOB] = STOP_WORK
            for helper in helpers:
                helper.result()
        return outcome

    def _arrays(self) -> tuple[Any, ...]:
        """Return what `learn` and `assist` work on."""
        return (
            self.words, self.pairs, self.lists, *self.queues, self.logs, self.sides, self.touched, self.desks,
            self.state, self.least,
        )  # fmt: skip

    def _make_room(self, room: int) -> None:
        """Make the arrays large enough for a merge that reads so many symbols."""
        new_pairs = 2 * min(room, self.total)
        if 4 * room > self.logs.shape[1]:
            self.logs = np.empty((len(self.logs), 8 * room), np.uint32)
        if int(self.state[LISTS]) + 2 * room > len(self.lists):
            self.lists = _larger(self.lists, 2 * len(self.lists) + 2 * room)
        self.queues = [with_room(queue, new_pairs) for queue in self.queues]
        if 8 * (int(self.state[PAIRS]) + new_pairs) > len(self.pairs):
            larger = aligned_zeros(2 * len(self.pairs))
            larger[:] = EMPTY
            self.state[PAIRS] = rehash_pairs(self.pairs, larger)
            self.pairs = larger
