"""Lay token lists side by side in rows of one length, so that no step is spent on padding.

Two ways, because two needs. Pretraining reads one endless stream cut every `max_seq_len` tokens: nothing is wasted and
a long document simply goes on in the next row. The end token of a document is its last label and the first token that
the next document reads, so that a document begins as a prompt does at inference: after an end of text. Instruction
tuning must not cut an example, so whole examples go into rows by best fit decreasing: each, longest first, into the
fullest row that still takes it. That leaves about one per cent of the slots empty and costs O(n log n). In both,
segment ids keep documents apart (1, 2, ... in a row; 0 is padding), positions restart with each document, and labels
are the next token, or IGNORED where there is nothing to learn.
Ref: fewer truncations by best-fit packing, arXiv:2404.10830.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from smelt.core.errors import DataError

IGNORED = -100

Array = NDArray[np.int32]
OnLong = Literal["error", "drop", "truncate"]


@dataclass(frozen=True)
class Packed:
    """Hold rows ready for a model: ids, labels, segments and positions, each (R, T) int32.

    Rows of pairs have a `source` (R, S) and its segments, of which a target of segment n reads those of segment n.
    """

    ids: Array
    labels: Array
    segments: Array
    positions: Array
    source: Array | None = None
    source_segments: Array | None = None


@dataclass(frozen=True)
class PackReport:
    """Count what packing did; `fill` is the share of slots that hold a token, 0 to 1.

    `num_emptied` examples are left out because truncation took every token there was to learn.
    """

    num_examples: int
    num_rows: int
    num_tokens: int
    num_supervised_tokens: int
    num_dropped: int
    num_truncated: int
    num_emptied: int
    fill: float


class TokenStream(Protocol):
    """A long run of tokens made of documents; `ends` holds the end offset of each, ascending, the last = all tokens."""

    @property
    def ends(self) -> NDArray[np.int64]:
        """Return the end offset of each document."""

    def read(self, start: int, stop: int) -> NDArray[np.unsignedinteger]:
        """Return the tokens from `start` up to `stop`."""


@dataclass(frozen=True)
class MemoryStream:
    """A token stream held in memory: ids (N,) and the end offset of each document."""

    ids: NDArray[np.unsignedinteger]
    ends: NDArray[np.int64]

    def read(self, start: int, stop: int) -> NDArray[np.unsignedinteger]:
        """Return the tokens from `start` up to `stop`."""
        return self.ids[start:stop]


@dataclass(frozen=True)
class StreamRows:
    """Give the rows of a token stream by number; make it with `pack_stream`.

    Row i reads the max_seq_len + 1 tokens from i * max_seq_len, so that every token but the first is a label once.
    """

    stream: TokenStream
    max_seq_len: int
    num_rows: int

    def __len__(self) -> int:
        return self.num_rows

    def take(self, indices: Sequence[int] | NDArray[np.integer], epochs: Sequence[int] = ()) -> Packed:
        """Return the rows with these numbers, in this order; they are the same in all epochs.

        Raises:
            IndexError: a number is outside 0 .. num_rows - 1.
        """
        length = self.max_seq_len
        rows = np.asarray(indices, dtype=np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < self.num_rows):
            raise IndexError(f"row numbers {rows.min()} .. {rows.max()} of {self.num_rows} rows")
        tokens = np.empty((len(rows), length + 1), dtype=np.int32)
        for slot, row in enumerate(rows.tolist()):
            tokens[slot] = self.stream.read(row * length, row * length + length + 1)
        starts = rows[:, None] * length
        places = starts + np.arange(length)  # (R, T) offsets in the stream
        marks = self.stream.ends - 1  # where the end tokens stand, each the first token that the next document reads
        documents = np.searchsorted(marks, places, side="right")
        begins = np.where(documents > 0, marks[np.maximum(documents, 1) - 1], 0)
        return Packed(
            ids=tokens[:, :-1],
            labels=tokens[:, 1:],
            segments=(documents - documents[:, :1] + 1).astype(np.int32),
            positions=(places - np.maximum(begins, starts)).astype(np.int32),
        )


def pack_stream(stream: TokenStream, max_seq_len: int) -> StreamRows:
    """Cut a token stream into full rows of `max_seq_len`; up to max_seq_len - 1 tokens at its end are left out.

    Raises:
        DataError: the stream is too short for one row.
    """
    num_tokens = int(stream.ends[-1]) if len(stream.ends) else 0
    num_rows = max(num_tokens - 1, 0) // max_seq_len
    if num_rows == 0:
        raise DataError(
            f"text too short: {num_tokens:,} tokens do not fill one row of {max_seq_len:,}",
            accepted=f"at least {max_seq_len + 1:,} tokens",
            fix="add text, or lower max_seq_len",
        )
    return StreamRows(stream, max_seq_len, num_rows)


def pack_rows(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]],
    max_seq_len: int,
    *,
    on_long: OnLong = "error",
    where: Sequence[str] = (),
    pad_id: int = 0,
) -> tuple[Packed, PackReport]:
    """Pack whole (ids, loss mask) examples into rows of `max_seq_len`; the same input gives the same rows.

    Token t of an example is a label, at t - 1, where mask[t] is 1; nothing predicts token 0. `where` names each example
    in errors. The examples of a row stand in the order of the input.

    Raises:
        DataError: no examples, one without a token to learn, or, with on_long="error", one longer than `max_seq_len`.
    """
    kept, counts = fit_examples(rows, max_seq_len, on_long, where)
    bins = best_fit_decreasing([len(ids) for ids, _ in kept], max_seq_len)
    shape = (len(bins), max_seq_len)
    packed = Packed(
        ids=np.full(shape, pad_id, dtype=np.int32),
        labels=np.full(shape, IGNORED, dtype=np.int32),
        segments=np.zeros(shape, dtype=np.int32),
        positions=np.zeros(shape, dtype=np.int32),
    )
    for row, members in enumerate(bins):
        start = 0
        for segment, member in enumerate(members, start=1):
            ids, mask = kept[member]
            stop = start + len(ids)
            packed.ids[row, start:stop] = ids
            packed.labels[row, start : stop - 1] = np.where(mask[1:] != 0, ids[1:], IGNORED)
            packed.segments[row, start:stop] = segment
            packed.positions[row, start:stop] = np.arange(len(ids))
            start = stop
    num_tokens = sum(len(ids) for ids, _ in kept)
    return packed, PackReport(
        num_examples=len(rows),
        num_rows=len(bins),
        num_tokens=num_tokens,
        num_supervised_tokens=int((packed.labels != IGNORED).sum()),
        num_dropped=counts["drop"],
        num_truncated=counts["truncate"],
        num_emptied=counts["emptied"],
        fill=num_tokens / (len(bins) * max_seq_len),
    )


def fit_examples(
    rows: Sequence[tuple[Sequence[int], Sequence[int]]], max_seq_len: int, on_long: OnLong, where: Sequence[str]
) -> tuple[list[tuple[Array, Array]], dict[str, int]]:
    """Return the examples that go into rows, cut where that is asked for, and how many were dropped, cut and emptied.

    Raises:
        DataError: see `pack_rows`.
    """
    kept: list[tuple[Array, Array]] = []
    counts = {"drop": 0, "truncate": 0, "emptied": 0}
    for index, (ids, mask) in enumerate(rows):
        name = where[index] if where else f"example {index + 1}"
        if len(ids) != len(mask):
            raise ValueError(f"{name}: {len(ids)} ids but {len(mask)} mask values")
        if not any(mask[1:]):
            raise DataError(
                f"{name}: all labels are masked: none of its {len(ids)} tokens is to be learned",
                accepted="at least one reply token after the first token",
                fix="check that the row ends with an assistant turn and that the chat template marks it",
            )
        if len(ids) > max_seq_len:
            if on_long == "error":
                raise DataError(
                    f"{name}: {len(ids):,} tokens, more than max_seq_len={max_seq_len:,}",
                    fix="raise max_seq_len, or set on_long to 'truncate' or 'drop'",
                )
            if on_long == "drop":
                counts["drop"] += 1
                continue
            if not any(mask[1:max_seq_len]):
                counts["emptied"] += 1
                continue
            counts["truncate"] += 1
        kept.append((np.array(ids[:max_seq_len], dtype=np.int32), np.array(mask[:max_seq_len], dtype=np.int32)))
    if not kept:
        raise DataError(
            f"no example left of {len(rows)}: {counts['drop']} dropped and {counts['emptied']} emptied as too long",
            accepted=f"examples of at most {max_seq_len:,} tokens",
            fix="raise max_seq_len, or add rows",
        )
    return kept, counts


def best_fit_decreasing(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Return bins of indices whose lengths sum to at most `capacity`; every length must fit.

    Longest first, ties by index; among bins of equal room the one that came to that room first is taken.

    best_fit_decreasing([3, 5, 2, 4], 8) -> [[0, 1], [2, 3]]
    """
    bins: list[list[int]] = []
    open_bins: defaultdict[int, deque[int]] = defaultdict(deque)  # room left -> bins with exactly that room
    rooms: list[int] = []  # the rooms that occur, ascending: at most `capacity` of them however many bins there are
    for index in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        found = bisect_left(rooms, lengths[index])
        if found < len(rooms):
            room = rooms[found]
            chosen = open_bins[room].popleft()
            if not open_bins[room]:
                rooms.pop(found)
        else:
            room, chosen = capacity, len(bins)
            bins.append([])
        bins[chosen].append(index)
        room -= lengths[index]
        if room > 0:
            if not open_bins[room]:
                insort(rooms, room)
            open_bins[room].append(chosen)
    return [sorted(members) for members in bins]
