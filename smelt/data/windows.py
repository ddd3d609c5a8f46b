"""Cut a token stream into rows of pieces, where a piece costs more slots than it has tokens.

Marks around a text, a mask and an end for every blank: what is done to a piece of a document may make it longer. So
rows are not cut every so many tokens but filled in the order of the stream, each piece at its price, `fixed` slots and
`ratio` slots a token. A document that does not fit goes on in the next row. One pass over the documents when a run
starts, a second for a million of them; then a row is two numbers.

    documents of 3 and 6 tokens, rows of 8, fixed = 2     row 0: tokens 0-3 | 3-4     row 1: tokens 4-9
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.core.errors import DataError
from smelt.data.packing import Array, TokenStream

MIN_PIECE_TOKENS = 8  # less room than this at the end of a row is left empty
MIN_ALONE_TOKENS = 4  # a document with less gets no row of its own: two parts of it would be nothing to learn from


@dataclass(frozen=True)
class Windows:
    """Hold the range of tokens (R,) that each row reads; make it with `cut_windows`."""

    stream: TokenStream
    starts: NDArray[np.int64]
    stops: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def pieces(self, row: int) -> list[Array]:
        """Return the tokens of a row, a piece a document.

        Raises:
            IndexError: there is no such row.
        """
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of {len(self)} rows")
        start, stop = int(self.starts[row]), int(self.stops[row])
        ends = self.stream.ends
        inside = ends[np.searchsorted(ends, start, side="right") : np.searchsorted(ends, stop, side="left")]
        return np.split(np.asarray(self.stream.read(start, stop), dtype=np.int32), inside - start)


def cut_windows(
    stream: TokenStream, capacity: int, *, fixed: int = 0, ratio: float = 0.0, alone: bool = False
) -> Windows:
    """Fill rows of `capacity` slots with pieces of n tokens that cost n + fixed + ratio * n; `alone`, one piece a row.

    Raises:
        DataError: a row is too short for a piece of two tokens, or there are no such pieces.
    """
    if fitting(capacity, fixed, ratio) < 2:
        raise DataError(
            f"max_seq_len={capacity} has no room for two tokens and the {fixed} marks around them",
            accepted=f"{fixed + 2 + math.ceil(2 * ratio)} or more",
        )
    ranges = np.array(list(_ranges(stream.ends, capacity, fixed, ratio, alone)), dtype=np.int64).reshape(-1, 2)
    if alone:
        ranges = ranges[ranges[:, 1] - ranges[:, 0] >= MIN_ALONE_TOKENS]
    if not len(ranges):
        raise DataError("there is not one piece of text to train on", fix="give longer documents")
    return Windows(stream, ranges[:, 0], ranges[:, 1])


def fitting(room: int, fixed: int, ratio: float) -> int:
    """Return the most tokens of a piece that fits into `room` slots."""
    num_tokens = int(max(room - fixed, 0) / (1 + ratio))
    while num_tokens and cost(num_tokens, fixed, ratio) > room:
        num_tokens -= 1
    return num_tokens


def cost(num_tokens: int, fixed: int, ratio: float) -> int:
    """Return the slots of a piece."""
    return num_tokens + fixed + math.ceil(ratio * num_tokens)


def _ranges(ends: NDArray[np.int64], capacity: int, fixed: int, ratio: float, alone: bool) -> Iterator[tuple[int, int]]:
    """Yield where each row starts and stops in the stream."""
    longest = fitting(capacity, fixed, ratio)
    place, begin, room = 0, 0, capacity
    for end in ends.tolist():
        while place < end:
            num_tokens = min(fitting(room, fixed, ratio), end - place)
            if num_tokens < min(MIN_PIECE_TOKENS, longest, end - place) or (alone and place > begin):
                yield begin, place
                begin, room = place, capacity
            else:
                place += num_tokens
                room -= cost(num_tokens, fixed, ratio)
    if place > begin:
        yield begin, place
