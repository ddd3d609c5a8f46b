"""Pairs for an encoder that writes: a source that is read both ways, and behind it the target, from left to right.

Whole pairs go into rows by best fit decreasing, each a segment of its own, so that few slots are padding. A new token
sees the source and what was written before it, which is what a cache holds: nothing is masked while it writes.

Ref: UniLM, arXiv:1905.03197, 2.3 and 2.6 (sequence to sequence); the tokens are learned as a decoder learns them, each
one place early, and not as masked ones, so that training and writing see the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from smelt.data.corruption.example import Example
from smelt.data.corruption.rows import Corrupted, Numbers, lay_out
from smelt.data.corruption.similar import shortened, write_after
from smelt.data.packing import OnLong, PackReport, best_fit_decreasing
from smelt.data.pairs import Pair, fitting_pairs, pack_report

MARKS = 3  # one before the source, one behind each side


@dataclass(frozen=True)
class WrittenRows:
    """Give rows of examples by number, laid side by side in `max_seq_len` slots; the same in all epochs."""

    rows: Sequence[Sequence[Example]]
    max_seq_len: int
    pad_id: int

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def take(self, indices: Numbers, epochs: Numbers = ()) -> Corrupted:
        """Return the rows with these numbers, in this order."""
        return lay_out([self.rows[int(index)] for index in indices], self.max_seq_len, self.pad_id)


def pack_written(
    pairs: Sequence[Pair],
    max_seq_len: int,
    *,
    class_id: int,
    separator_id: int,
    has_types: bool,
    on_long: OnLong = "error",
    where: Sequence[str] = (),
    pad_id: int = 0,
) -> tuple[WrittenRows, PackReport]:
    """Pack (source ids, target ids), both without marks, into rows; the same input gives the same rows.

    Token types are left out unless the model `has_types`. Raises DataError like `pack_pairs`.
    """

    def cut(source: Sequence[int], target: Sequence[int], room: int) -> Pair:
        one, other = shortened(np.asarray(source, np.int32), np.asarray(target, np.int32), room - MARKS)
        return one.tolist(), other.tolist()

    kept, counts = fitting_pairs(pairs, max_seq_len, on_long, where, "with its marks", slots, cut)
    examples = [
        write_after(np.asarray(source, np.int32), np.asarray(target, np.int32), class_id, separator_id)
        for source, target in kept
    ]
    if not has_types:
        examples = [replace(example, types=None) for example in examples]
    lengths = [len(example) for example in examples]
    bins = best_fit_decreasing(lengths, max_seq_len)
    rows = [[examples[member] for member in members] for members in bins]
    fill = sum(lengths) / (len(bins) * max_seq_len)
    num_written = sum(len(target) + 1 for _, target in kept)
    report = pack_report(len(pairs), len(bins), sum(lengths), num_written, counts, fill)
    return WrittenRows(rows, max_seq_len, pad_id), report


def slots(source: Sequence[int], target: Sequence[int]) -> int:
    """Return how many slots of a row a pair takes."""
    return len(source) + len(target) + MARKS
