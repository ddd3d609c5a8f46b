"""Pairs of texts that mean the same, each in both directions, to be written one from the other.

The first text is seen both ways, the second is predicted from left to right with the closing mark. Rows of a pair stand
side by side, so that a loss over the batch finds the partner of row i at i ^ 1.

    pair    good morning / hello
    input   [CLS] good morning [SEP] hello [SEP]        [CLS] hello [SEP] good morning [SEP]
    label     -    -     -     hello [SEP]   -             -    -    good morning [SEP]  -
    order     0    0     0       0     1     2             0    0      0    1      2     3

Ref: SimBERT, github.com/ZhuiyiTechnology/simbert; UniLM, arXiv:1905.03197, 2.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from smelt.data.corruption.example import Example, as_ids
from smelt.data.corruption.rows import Corrupted, Numbers, lay_out
from smelt.data.packing import IGNORED, Array


def write_after(first: Array, second: Array, class_id: int, separator_id: int) -> Example:
    """Return the example of one direction."""
    ids = as_ids(class_id, first, separator_id, second, separator_id)
    seen = len(first) + 2
    slots = np.arange(len(ids))
    following = np.append(ids[1:], IGNORED)
    labels = np.where(slots >= seen - 1, following, IGNORED).astype(np.int32)
    order = np.maximum(slots - seen + 1, 0).astype(np.int32)
    return Example(ids, labels, order=order, types=(slots >= seen).astype(np.int32))


def shortened(first: Array, second: Array, max_tokens: int) -> tuple[Array, Array]:
    """Cut the end of the longer text, then of both, until they have `max_tokens` together."""
    excess = max(0, len(first) + len(second) - max_tokens)
    from_longer = min(excess, abs(len(first) - len(second)))
    rest = excess - from_longer
    cut_first = rest // 2 + (from_longer if len(first) > len(second) else 0)
    cut_second = excess - cut_first
    return first[: len(first) - cut_first], second[: len(second) - cut_second]


@dataclass(frozen=True)
class SimilarRows:
    """Give a pair by number as two rows of `max_seq_len`; pairs that are too long are shortened.

    Token types are left out unless the model `has_types`.
    """

    pairs: Sequence[tuple[Array, Array]]
    max_seq_len: int
    class_id: int
    separator_id: int
    pad_id: int
    has_types: bool

    @property
    def num_rows(self) -> int:
        """Return the number of pairs."""
        return len(self.pairs)

    def take(self, indices: Numbers, epochs: Sequence[int] = ()) -> Corrupted:
        """Return two rows for each of these pairs, in this order; they are the same in all epochs."""
        rows: list[list[Example]] = []
        for index in indices:
            one, other = shortened(*self.pairs[int(index)], self.max_seq_len - 3)
            for first, second in ((one, other), (other, one)):
                rows.append([write_after(first, second, self.class_id, self.separator_id)])
        found = lay_out(rows, self.max_seq_len, self.pad_id)
        return found if self.has_types else replace(found, types=None)
