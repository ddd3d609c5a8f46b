"""Texts in which places are pointed at, as rows of ids: at each slot whether a piece begins there, ends there, or both.

A label is the sum of 1 for a beginning and 2 for an end, 0 for neither, and IGNORED where nothing can be pointed at:
the prompt, the tokens around it, padding. Rows are padded on the right, as those of texts with labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from smelt.data.corruption.rows import Corrupted
from smelt.data.label_rows import padded
from smelt.data.packing import IGNORED, Array

BEGINS, ENDS = 1, 2


@dataclass(frozen=True)
class PointedRows:
    """Hold prompts with their texts as ids, with token types and labels, each (n,) int32."""

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
        labels = np.full(packed.ids.shape, IGNORED, np.int32)
        for number, index in enumerate(chosen):
            labels[number, : len(self.labels[index])] = self.labels[index]
        return Corrupted(replace(packed, labels=labels), types=types)
