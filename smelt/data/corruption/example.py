"""What a corruption returns for a decoder or an encoder: the arrays of one text, all of one length.

`labels` stand where they are predicted: at the hidden place for an encoder, one place earlier for a decoder. `order`
says who sees whom: place t sees place s exactly when order[s] <= order[t], so zeros are a text seen both ways, and
0, 0, 0, 1, 2 is a prefix of three with two tokens that see all before them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from smelt.data.packing import Array


@dataclass(frozen=True)
class Example:
    """Hold ids and labels (n,) int32; positions, order and token types where they are not the model's own."""

    ids: Array
    labels: Array
    positions: Array | None = None
    order: Array | None = None
    types: Array | None = None

    def __len__(self) -> int:
        return len(self.ids)


def as_ids(*parts: object) -> Array:
    """Lay numbers and arrays of ids side by side: (1, [5, 6], 2) -> [1, 5, 6, 2]."""
    return np.concatenate([np.atleast_1d(np.asarray(part, dtype=np.int32)) for part in parts])
