"""Rows of corrupted text by number: what is read follows from the row, what is hidden from (seed, epoch, row).

Nothing is prepared or kept. A row that is asked for again in the same epoch is the same row, so a run resumes with one
integer, and validation, which is always epoch 0, measures the same masks each time. A static run takes the draw of
epoch 0 in all of them. Costs some 10 us for the generator and as much as the corruption: 0.1 ms for a masked row of
256 tokens, against a step that takes hundreds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from smelt.core.errors import DataError
from smelt.data.corruption.example import Example
from smelt.data.corruption.masked import Masking, mask_tokens
from smelt.data.corruption.pairs import cut_in_two, join_pair, next_sentence, sentence_order
from smelt.data.corruption.span import SpanCorruption, corrupt_spans
from smelt.data.corruption.words import Flags
from smelt.data.packing import IGNORED, Array, Packed, TokenStream
from smelt.data.windows import Windows

Corrupt = Callable[[Array, Generator], Example]
Numbers = Sequence[int] | NDArray[np.integer]


@dataclass(frozen=True)
class Corrupted:
    """Hold packed rows and what else a model is to know: order, types (R, T), source (R, S), a label a row (R,)."""

    packed: Packed
    order: Array | None = None
    types: Array | None = None
    source: Array | None = None
    row_labels: Array | None = None


@dataclass(frozen=True)
class Draw:
    """Say how rows are drawn: a new draw every epoch if `dynamic`, else the same one in all."""

    seed: int
    dynamic: bool = True

    def generator(self, row: int, epoch: int) -> Generator:
        """Return the generator of one row in one epoch."""
        return np.random.default_rng((self.seed, epoch if self.dynamic else 0, row))


@dataclass(frozen=True)
class PieceRows:
    """Corrupt each piece of a row by itself and lay the results side by side, each a segment of its own.

    Pieces of one token are left out. `end_id` closes documents in the stream; the corruption gets pieces without it if
    `drop_end`.
    """

    windows: Windows
    corrupt: Corrupt
    draw: Draw
    max_seq_len: int
    end_id: int
    drop_end: bool = True

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return len(self.windows)

    def take(self, indices: Numbers, epochs: Numbers = ()) -> Corrupted:
        """Return rows as they are in the epoch of each, the first one if none are given."""
        rows = [self.examples(int(row), epoch) for row, epoch in with_epochs(indices, epochs)]
        return lay_out(rows, self.max_seq_len, self.end_id)

    def examples(self, row: int, epoch: int) -> list[Example]:
        """Return the corrupted pieces of one row."""
        rng = self.draw.generator(row, epoch)
        pieces = self.windows.pieces(row)
        if self.drop_end:
            pieces = [without_end(piece, self.end_id) for piece in pieces]
        return [self.corrupt(piece, rng) for piece in pieces if len(piece) > 1]


@dataclass(frozen=True)
class SpanRows:
    """Cut the stream every so many tokens, documents side by side, and corrupt spans: source and target are full rows.

    `start_id` is the first input of the decoder, whose inputs are the targets one place later.
    """

    stream: TokenStream
    corruption: SpanCorruption
    draw: Draw
    num_tokens: int
    start_id: int

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return int(self.stream.ends[-1]) // self.num_tokens if len(self.stream.ends) else 0

    def take(self, indices: Numbers, epochs: Numbers = ()) -> Corrupted:
        """Return rows as they are in the epoch of each, the first one if none are given."""
        sources, targets = [], []
        for row, epoch in with_epochs(indices, epochs):
            text = np.asarray(self.stream.read(row * self.num_tokens, (row + 1) * self.num_tokens), dtype=np.int32)
            source, target = corrupt_spans(text, self.corruption, self.draw.generator(row, epoch))
            sources.append(source)
            targets.append(target)
        labels = np.stack(targets)
        ids = np.concatenate([np.full_like(labels[:, :1], self.start_id), labels[:, :-1]], axis=1)
        positions = np.tile(np.arange(ids.shape[1], dtype=np.int32), (len(ids), 1))
        return Corrupted(Packed(ids, labels, np.ones_like(ids), positions), source=np.stack(sources))


@dataclass(frozen=True)
class SentencePairRows:
    """Give one pair of texts a row, masked, with its label; each window is a piece of max_seq_len - 3 tokens or less.

    With `is_order` the pair may be swapped, else its second part may come from another document.
    """

    windows: Windows
    masking: Masking
    draw: Draw
    max_seq_len: int
    class_id: int
    separator_id: int
    end_id: int
    sentence_ends: Flags
    is_order: bool

    def __post_init__(self) -> None:
        if not self.is_order and len(self.windows.stream.ends) < 2:
            raise DataError("next sentences need another document, but there is one", accepted="two or more documents")

    @property
    def num_rows(self) -> int:
        """Return the number of rows."""
        return len(self.windows)

    def take(self, indices: Numbers, epochs: Numbers = ()) -> Corrupted:
        """Return rows as they are in the epoch of each, the first one if none are given."""
        found = [self.pair(row, epoch) for row, epoch in with_epochs(indices, epochs)]
        rows = lay_out([[example] for example, _ in found], self.max_seq_len, self.end_id)
        labels = np.array([label for _, label in found], dtype=np.int32)
        return Corrupted(rows.packed, types=rows.types, row_labels=labels)

    def pair(self, row: int, epoch: int) -> tuple[Example, int]:
        """Return the masked pair of one row and its label."""
        rng = self.draw.generator(row, epoch)
        piece = without_end(self.windows.pieces(row)[0], self.end_id)
        first, second = cut_in_two(piece, self.sentence_ends[piece], rng)
        if self.is_order:
            first, second, label = sentence_order(first, second, rng)
        else:
            other = self.elsewhere(row, self.max_seq_len - 3 - len(first), rng)
            first, second, label = next_sentence(first, second, other, rng)
        ids, types = join_pair(first, second, self.class_id, self.separator_id)
        inputs, labels = mask_tokens(ids, self.masking, rng)
        return Example(inputs, labels, types=types), label

    def elsewhere(self, row: int, max_tokens: int, rng: Generator) -> Array:
        """Return up to so many tokens from a random place in another document."""
        ends = self.windows.stream.ends
        own = int(np.searchsorted(ends, self.windows.starts[row], side="right"))
        other = int(rng.integers(len(ends) - 1))
        other += other >= own
        begin, end = int(ends[other - 1]) if other else 0, int(ends[other])
        place = int(rng.integers(begin, end))
        text = self.windows.stream.read(place, min(end, place + max_tokens))
        return without_end(np.asarray(text, dtype=np.int32), self.end_id)


def with_epochs(indices: Numbers, epochs: Numbers) -> list[tuple[int, int]]:
    """Pair rows with their epochs, 0 where none are given."""
    rows = [int(row) for row in indices]
    return list(zip(rows, [int(epoch) for epoch in epochs] if len(epochs) else [0] * len(rows), strict=True))


def without_end(piece: Array, end_id: int) -> Array:
    """Return a piece without the token that closes its document, if it is there."""
    return piece[:-1] if len(piece) and piece[-1] == end_id else piece


def lay_out(rows: Sequence[Sequence[Example]], max_seq_len: int, pad_id: int) -> Corrupted:
    """Lay the examples of each row side by side, segments 1, 2, ..; the rest of a row is padding, segment 0.

    Order and types are left out where no example has any; positions count from 0 where an example has none.
    """
    shape = (len(rows), max_seq_len)
    ids, labels = np.full(shape, pad_id, dtype=np.int32), np.full(shape, IGNORED, dtype=np.int32)
    segments, positions, order, types = (np.zeros(shape, dtype=np.int32) for _ in range(4))
    for row, examples in enumerate(rows):
        start = 0
        for segment, example in enumerate(examples, start=1):
            slots = slice(start, start + len(example))
            ids[row, slots], labels[row, slots], segments[row, slots] = example.ids, example.labels, segment
            positions[row, slots] = np.arange(len(example)) if example.positions is None else example.positions
            order[row, slots] = 0 if example.order is None else example.order
            types[row, slots] = 0 if example.types is None else example.types
            start += len(example)
    every = [example for examples in rows for example in examples]
    return Corrupted(
        Packed(ids, labels, segments, positions),
        order=order if any(example.order is not None for example in every) else None,
        types=types if any(example.types is not None for example in every) else None,
    )
