"""One example a row: rows as long as the longest of their batch, and examples of like length in one batch.

Packing wastes less, but there are models that cannot keep packed examples apart, and results to be compared with.

Another order's draws are taken a window at a time, some dozens of batches, never across the end of an epoch; those of a
window are sorted by length, cut into batches, and the batches shuffled. So every row still comes once an epoch, chance
still decides who meets whom, since windows differ between epochs, and any place is known without its predecessors.
Where an epoch does not begin with a batch, the draws that complete the batch before it, as those at its end that await
the next, are the shortest of their window.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.data.mixing import Order
from smelt.data.order import mix, shuffled_index
from smelt.data.packing import IGNORED, Array, OnLong, Packed, PackReport, fit_examples

WINDOW_BATCHES = 64


@dataclass(frozen=True)
class PaddedRows:
    """Give (ids, loss mask) examples as rows of their own, padded on the right with `pad_id`."""

    examples: Sequence[tuple[Array, Array]]
    pad_id: int

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return len(self.examples)

    def take(self, indices: Sequence[int] | NDArray[np.integer], epochs: Sequence[int] = ()) -> Packed:
        """Return the rows with these numbers, in this order; token t is a label, at t - 1, where mask[t] is 1."""
        chosen = [self.examples[index] for index in indices]
        shape = (len(chosen), max((len(ids) for ids, _ in chosen), default=0))
        labels, segments = np.full(shape, IGNORED, dtype=np.int32), np.zeros(shape, dtype=np.int32)
        padded = np.full(shape, self.pad_id, dtype=np.int32)
        for row, (ids, mask) in enumerate(chosen):
            padded[row, : len(ids)] = ids
            labels[row, : len(ids) - 1] = np.where(mask[1:] != 0, ids[1:], IGNORED)
            segments[row, : len(ids)] = 1
        return Packed(padded, labels, segments, np.arange(shape[1], dtype=np.int32) * segments)


def pad_rows(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    max_seq_len: int,
    *,
    on_long: OnLong = "error",
    where: Sequence[str] = (),
    pad_id: int = 0,
) -> tuple[PaddedRows, PackReport]:
    """Give each (ids, loss mask) example a row; the arguments, errors and counts are those of `pack_rows`."""
    kept, counts = fit_examples(rows, max_seq_len, on_long, where)
    report = PackReport(
        num_examples=len(rows),
        num_rows=len(kept),
        num_tokens=sum(len(ids) for ids, _ in kept),
        num_supervised_tokens=sum(int((mask[1:] != 0).sum()) for _, mask in kept),
        num_dropped=counts["drop"],
        num_truncated=counts["truncate"],
        num_emptied=counts["emptied"],
        fill=1.0,
    )
    return PaddedRows(kept, pad_id), report


class ByLength:
    """The draws of `order`, rearranged.

    Args:
        order: what decides the rows.
        lengths: tokens of each row.
        batch_rows: rows in a batch; batches begin at its multiples.
        epoch_rows: draws of an epoch, which stay in it; 0 where there are no epochs.
        seed: decides the order of batches.
    """

    def __init__(self, order: Order, lengths: Sequence[int], batch_rows: int, *, epoch_rows: int, seed: int) -> None:
        self.order, self.lengths, self.batch_rows = order, lengths, batch_rows
        self.epoch_rows, self.seed = epoch_rows, seed
        self._window, self._drawn = range(0), list[tuple[int, int]]()  # the last one: neighbours ask for it again

    def draw(self, places: range) -> list[tuple[int, int]]:
        """Return (row, epoch) of each place."""
        found = []
        for place in places:
            if place not in self._window:
                self._window = self._window_of(place)
                self._drawn = self._arrange(self._window)
            found.append(self._drawn[place - self._window.start])
        return found

    def _window_of(self, place: int) -> range:
        """Return the places of a window: between two multiples of its size, or the end of an epoch."""
        size = WINDOW_BATCHES * self.batch_rows
        start = place // size * size
        stop = start + size
        if self.epoch_rows:
            epoch = place // self.epoch_rows * self.epoch_rows
            start, stop = max(start, epoch), min(stop, epoch + self.epoch_rows)
        return range(start, stop)

    def _arrange(self, window: range) -> list[tuple[int, int]]:
        """Return the draws of a window in their new order."""
        batch = self.batch_rows
        drawn = self.order.draw(window)
        drawn.sort(key=lambda pair: self.lengths[pair[0]])
        head = min(-window.start % batch, len(drawn))  # completes a batch that began in the epoch before
        tail = (len(drawn) - head) % batch
        middle = drawn[head + tail :]
        batches = [middle[start : start + batch] for start in range(0, len(middle), batch)]
        key = mix(self.seed) ^ window.start
        numbers = [shuffled_index(number, num_rows=len(batches), seed=key, epoch=0) for number in range(len(batches))]
        return [*drawn[:head], *(pair for number in numbers for pair in batches[number]), *drawn[head : head + tail]]
