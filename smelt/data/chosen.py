"""Some documents of a token stream as a stream of their own, without copying a token.

So a part of token shards is held out by the same rule as a part of a text: the documents that `split_documents` names.
A read goes document by document, and rows of a few hundred tokens seldom touch more than two or three.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from smelt.data.shards import TokenShards


@dataclass(frozen=True)
class ChosenDocuments:
    """Read the documents with these numbers (N,), ascending, of token shards as one stream."""

    shards: TokenShards
    numbers: NDArray[np.int64]

    @cached_property
    def begins(self) -> NDArray[np.int64]:
        """Return where each document begins in the shards."""
        return np.concatenate([[0], self.shards.ends[:-1]]).astype(np.int64)[self.numbers]

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """Return the end offset of each document in this stream."""
        return np.cumsum(self.shards.ends[self.numbers] - self.begins)

    @cached_property
    def text_bytes(self) -> NDArray[np.int64]:
        """Return the size of each document as UTF-8."""
        return np.asarray(self.shards.text_bytes[self.numbers])

    def read(self, start: int, stop: int) -> NDArray[np.unsignedinteger]:
        """Return the tokens from `start` up to `stop`, across documents where needed."""
        first, last = np.searchsorted(self.ends, [start, stop - 1], side="right").tolist()
        pieces = []
        for number in range(first, min(last, len(self.numbers) - 1) + 1):
            offset = self.begins[number] - (self.ends[number - 1] if number else 0)  # from this stream to the shards
            until = min(stop, int(self.ends[number]))
            pieces.append(
                self.shards.read(int(max(start, self.ends[number - 1] if number else 0) + offset), int(until + offset))
            )
        return np.concatenate(pieces)
