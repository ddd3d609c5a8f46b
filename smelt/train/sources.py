"""Where batches come from: rows in an order that is a pure function of (seed, epoch, index).

A source holds nothing but a cursor, the number of rows taken so far; its state is that one integer, and
resuming costs nothing because nothing has to be replayed. Rows are gathered from arrays that are memory-mapped
or packed beforehand, so a batch is one numpy gather and four `torch.from_numpy` calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from smelt.core.errors import CheckpointError, TrainingError
from smelt.data.corruption.rows import Corrupted
from smelt.data.mixing import Order, Shuffled
from smelt.data.packing import Packed


@dataclass(frozen=True)
class TokenBatch:
    """Token rows `(B, T)`: ids, labels (-100 = no loss); segments and positions where rows hold several documents.

    Where an objective needs them: who sees whom (`order`) and token types (B, T), an encoder's source (B, S) with its
    segments where it is packed or padded, and a label a row (B,). `place` counts the rows that a source gave before it.
    """

    ids: Tensor
    labels: Tensor
    segments: Tensor | None
    positions: Tensor | None
    order: Tensor | None = None
    types: Tensor | None = None
    source: Tensor | None = None
    source_segments: Tensor | None = None
    row_labels: Tensor | None = None
    place: int = 0

    def context(self) -> dict[str, Tensor]:
        """Return what a model is told beside the ids, by the name of its argument."""
        names = ("segments", "positions", "order", "types", "source", "source_segments")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Rows(Protocol):
    """Packed rows that can be taken by number."""

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        ...

    def take(self, indices: Sequence[int] | NDArray[np.integer], epochs: Sequence[int] = ()) -> Packed | Corrupted:
        """Return the rows with these numbers, in this order, as they are in the epoch of each (0 if none are given)."""
        ...


@dataclass(frozen=True)
class ArrayRows:
    """Rows that were packed beforehand and lie in memory."""

    packed: Packed

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return len(self.packed.ids)

    def take(self, indices: Sequence[int] | NDArray[np.integer], epochs: Sequence[int] = ()) -> Packed:
        """Return the rows with these numbers, in this order; they are the same in all epochs."""
        packed = self.packed
        source = None if packed.source is None else packed.source[indices]
        source_segments = None if packed.source_segments is None else packed.source_segments[indices]
        ids, labels, segments = packed.ids[indices], packed.labels[indices], packed.segments[indices]
        return Packed(ids, labels, segments, packed.positions[indices], source, source_segments)


def to_batch(rows: Packed | Corrupted, device: str = "cpu") -> TokenBatch:
    """Turn packed rows into tensors, without segments where each row is one document; pairs keep theirs."""
    if isinstance(rows, Corrupted):
        return corrupted_batch(rows, device)
    packed = rows
    arrays = (packed.ids, packed.labels, packed.segments, packed.positions)
    ids, labels, segments, positions = (torch.from_numpy(array).to(device, torch.int64) for array in arrays)
    if packed.source is not None and packed.source_segments is not None:
        both = (packed.source, packed.source_segments)
        source = [torch.from_numpy(array).to(device, torch.int64) for array in both]
        return TokenBatch(ids, labels, segments, positions, source=source[0], source_segments=source[1])
    if bool((segments == 1).all()):
        return TokenBatch(ids, labels, None, None)
    return TokenBatch(ids, labels, segments, positions)


def corrupted_batch(rows: Corrupted, device: str) -> TokenBatch:
    """Turn corrupted rows into tensors; their positions need not be those of the slots, so they always go along."""

    def tensor(array: NDArray[np.integer] | None) -> Tensor | None:
        return None if array is None else torch.from_numpy(np.ascontiguousarray(array)).to(device, torch.int64)

    return replace(
        to_batch(rows.packed, device),
        positions=tensor(rows.packed.positions),
        order=tensor(rows.order),
        types=tensor(rows.types),
        source=tensor(rows.source),
        row_labels=tensor(rows.row_labels),
    )


class RowSource:
    """An endless shuffled stream over packed rows.

    Args:
        rows: what to draw from.
        seed: decides the order of every epoch.
        device: where batches are put.
        order: another order than all rows once an epoch.
    """

    def __init__(self, rows: Rows, *, seed: int, device: str = "cpu", order: Order | None = None) -> None:
        if rows.num_rows == 0:
            raise TrainingError("there is not one full row to train on", fix="give more text, or a smaller max_seq_len")
        self.rows, self.seed, self.device = rows, seed, device
        self.order = order or Shuffled(rows.num_rows, seed)
        self.cursor = 0

    def take(self, num_rows: int) -> TokenBatch:
        """Return the next `num_rows` rows and move the cursor."""
        place = self.cursor
        drawn = self.order.draw(range(place, place + num_rows))
        self.cursor += num_rows
        rows = self.rows.take([row for row, _ in drawn], [epoch for _, epoch in drawn])
        return replace(to_batch(rows, self.device), place=place)

    def state_dict(self) -> dict[str, int]:
        """Return what a resumed run needs to go on with the very next row."""
        return {"cursor": self.cursor, "seed": self.seed, "num_rows": self.rows.num_rows}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Move to a saved place.

        Raises:
            CheckpointError: the saved place belongs to other data or another order.
        """
        for key, mine in (("seed", self.seed), ("num_rows", self.rows.num_rows)):
            if state[key] != mine:
                raise CheckpointError(
                    f"the checkpoint was trained with {key}={state[key]}, this run has {key}={mine}",
                    fix="resume with the recipe and the data of the run, or start a new run from the checkpoint",
                )
        self.cursor = state["cursor"]
