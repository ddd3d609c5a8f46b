"""Labelled texts as rows of ids, padded on the right to the longest of those that are taken together.

Unlike documents, texts with labels of their own are not packed side by side: a head reads one vector a row. Segment 1
is text and 0 padding, which nothing reads, so a row's scores are the same whatever it is padded to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.data.corruption.rows import Corrupted
from smelt.data.packing import IGNORED, Array, Packed

BEGINS, ENDS = 1, 2
"""Where pieces are pointed at, a token's label is the sum of what stands at it, 0 for neither."""


@dataclass(frozen=True)
class LabelledRows:
    """Hold texts as ids with token types, and what they are labelled: a class (R,), or 0 and 1 for each label (R, N).

    Rows are as long as the longest that is taken with them, or `length` if that is given.
    """

    ids: Sequence[Array]
    types: Sequence[Array]
    targets: Array
    pad_id: int
    length: int | None = None

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    def take(self, indices: Sequence[int] | NDArray[np.integer], epochs: Sequence[int] = ()) -> Corrupted:
        """Return the rows with these numbers, in this order; they are the same in all epochs."""
        chosen = [int(index) for index in indices]
        packed, types = padded([self.ids[i] for i in chosen], [self.types[i] for i in chosen], self.pad_id, self.length)
        return Corrupted(packed, types=types, row_labels=self.targets[chosen])


@dataclass(frozen=True)
class TaggedRows:
    """Hold stretches of text, or prompts with them: ids, types, and each token's label, IGNORED where it has none."""

    ids: Sequence[Array]
    types: Sequence[Array]
    labels: Sequence[Array]
    pad_id: int

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return len(self.ids)

    def take(self, indices: Sequence[int] | NDArray[np.integer], epochs: Sequence[int] = ()) -> Corrupted:
        """Return the rows with these numbers, in this order; they are the same in all epochs."""
        chosen = [int(index) for index in indices]
        packed, types = padded([self.ids[i] for i in chosen], [self.types[i] for i in chosen], self.pad_id)
        for row, index in enumerate(chosen):
            packed.labels[row, : len(self.labels[index])] = self.labels[index]
        return Corrupted(packed, types=types)


def padded(
    ids: Sequence[Array], types: Sequence[Array], pad_id: int, length: int | None = None
) -> tuple[Packed, Array]:
    """Return texts as rows without labels, and their types, of the longest's length or the one that is given."""
    shape = (len(ids), length or max(map(len, ids)))
    rows, kinds, segments = np.full(shape, pad_id, np.int32), np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    for number, (row, kind) in enumerate(zip(ids, types, strict=True)):
        rows[number, : len(row)], kinds[number, : len(row)], segments[number, : len(row)] = row, kind, 1
    positions = np.tile(np.arange(shape[1], dtype=np.int32), (shape[0], 1))
    return Packed(rows, np.full(shape, IGNORED, np.int32), segments, positions), kinds


def class_numbers(labels: Sequence[tuple[str, ...]], names: Sequence[str], *, several: bool) -> Array:
    """Return each row's class (R,), or where there may be `several` labels 0 and 1 for each (R, N).

    [("spam",)] of (ham, spam) -> [1], or [[0, 1]]
    """
    numbers = {name: number for number, name in enumerate(names)}
    if not several:
        return np.array([numbers[row[0]] for row in labels], dtype=np.int32)
    found = np.zeros((len(labels), len(names)), dtype=np.int32)
    for row, given in enumerate(labels):
        found[row, [numbers[label] for label in given]] = 1
    return found
