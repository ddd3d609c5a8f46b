"""The rows of several sets as one set, numbered one set after the other, each still made in its own way.

A batch that a mixture drew holds rows of several sets. Each set makes its own, with its own epochs, and the results
are put in the order that was asked for. Where only some of the sets give an array (an order, token types), the rows of
the others have zeros there, as rows have within one set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from smelt.data.corruption.rows import Corrupted
from smelt.data.packing import Packed
from smelt.train.sources import Rows


@dataclass(frozen=True)
class JoinedRows:
    """Rows of all `sets`, one set after the other; all make rows of one kind and width."""

    sets: tuple[Rows, ...]

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return sum(rows.num_rows for rows in self.sets)

    def take(self, indices: Sequence[int] | NDArray[np.integer], epochs: Sequence[int] = ()) -> Packed | Corrupted:
        """Return the rows with these numbers, in this order, as they are in the epoch of each (0 if none are given)."""
        wanted, passes = np.asarray(indices), np.asarray(epochs if len(epochs) else np.zeros(len(indices), dtype=int))
        ends = list(accumulate(rows.num_rows for rows in self.sets))
        owners = np.searchsorted(ends, wanted, side="right")
        parts, places = [], []
        for number, rows in enumerate(self.sets):
            here = np.flatnonzero(owners == number)
            if len(here):
                start = ends[number] - rows.num_rows
                parts.append(rows.take((wanted[here] - start).tolist(), passes[here].tolist()))
                places.append(here)
        joined: Packed | Corrupted = arranged(parts, np.argsort(np.concatenate(places)))
        return joined


def arranged(parts: Sequence[Any], order: NDArray[np.integer]) -> Any:
    """Return rows of one kind from several parts as one, in this order of all of them."""
    values: dict[str, Any] = {}
    for field in fields(parts[0]):
        given = [getattr(part, field.name) for part in parts]
        present = next((value for value in given if value is not None), None)
        if isinstance(present, Packed):
            values[field.name] = arranged(given, order)
        elif present is not None:
            arrays = [
                zeros_for(part, present) if value is None else value for part, value in zip(parts, given, strict=True)
            ]
            values[field.name] = np.concatenate(arrays)[order]
    return type(parts[0])(**values)


def zeros_for(part: Packed | Corrupted, like: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return zeros of an array's shape and type for the rows of a part."""
    packed = part.packed if isinstance(part, Corrupted) else part
    return np.zeros((len(packed.ids), *like.shape[1:]), dtype=like.dtype)
