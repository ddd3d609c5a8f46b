"""From conversations to rows: read, hold out, render, pack or pad, mix, and count what was drawn.

Every source is rendered and laid out by itself, so that a row belongs to one of them and counts by source are exact.
Packed rows are nearly full, whence a source's weight is its share of the tokens; of rows that are one conversation
each, it is its share of the conversations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from smelt.core.log import say
from smelt.data.bucketing import ByLength, PaddedRows, pad_rows
from smelt.data.formats import read_chats
from smelt.data.mixing import Mixed, Order, Shuffled
from smelt.data.order import split_documents
from smelt.data.packing import IGNORED, OnLong, Packed, StreamRows, pack_rows
from smelt.data.records import ChatRow
from smelt.data.rendering import render
from smelt.tokenizers.chat import ChatTemplate
from smelt.train.joined import JoinedRows
from smelt.train.recipes import DataSource
from smelt.train.sources import ArrayRows, Rows

TALLY_DRAWS = 1 << 14  # counted at a time


@dataclass(frozen=True)
class Layout:
    """How conversations become rows."""

    max_seq_len: int
    packing: bool
    on_long: OnLong
    pad_id: int


@dataclass(frozen=True)
class ChatRows:
    """The rows of all sources, one source after the other.

    `starts` are the first rows of each; `conversations` and `trainable` count each row's conversations and labels (R,).
    """

    rows: Rows
    names: tuple[str, ...]
    starts: tuple[int, ...]
    lengths: NDArray[np.int64]
    conversations: NDArray[np.int64]
    trainable: NDArray[np.int64]

    def order(self, sources: Sequence[DataSource], layout: Layout, batch_rows: int, seed: int) -> Order | None:
        """Return the order of the rows, None where it is all of them once an epoch."""
        sizes = np.diff([*self.starts, self.rows.num_rows]).tolist()
        mixed = Mixed(sizes, [source.weight for source in sources], seed) if len(sizes) > 1 else None
        if layout.packing:
            return mixed
        order = mixed or Shuffled(self.rows.num_rows, seed)
        epoch_rows = 0 if mixed else self.rows.num_rows
        return ByLength(order, self.lengths.tolist(), batch_rows, epoch_rows=epoch_rows, seed=seed)

    def with_texts(self, texts: Sequence[tuple[str, StreamRows]]) -> ChatRows:
        """Return these packed rows and behind them rows of texts, of which every token counts."""
        if not texts:
            return self
        sizes = [rows.num_rows for _, rows in texts]
        width = texts[0][1].max_seq_len
        return ChatRows(
            JoinedRows((self.rows, *(rows for _, rows in texts))),
            (*self.names, *(name for name, _ in texts)),
            (*self.starts, *(int(start) for start in self.rows.num_rows + np.cumsum([0, *sizes])[:-1])),
            lengths=np.concatenate([self.lengths, np.full(sum(sizes), width)]),
            conversations=np.concatenate([self.conversations, np.zeros(sum(sizes), dtype=np.int64)]),
            trainable=np.concatenate([self.trainable, np.full(sum(sizes), width)]),
        )

    def counts(self, order: Order, num_rows: int) -> dict[str, dict[str, int]]:
        """Return for each source what the first `num_rows` draws of an order took from it."""
        times = np.zeros(self.rows.num_rows, dtype=np.int64)
        for start in range(0, num_rows, TALLY_DRAWS):
            drawn = order.draw(range(start, min(start + TALLY_DRAWS, num_rows)))
            times += np.bincount([row for row, _ in drawn], minlength=len(times))
        ends = (*self.starts[1:], len(times))
        return {
            name: {
                "rows": int(times[start:end].sum()),
                "conversations": int(times[start:end] @ self.conversations[start:end]),
                "trainable_tokens": int(times[start:end] @ self.trainable[start:end]),
            }
            for name, start, end in zip(self.names, self.starts, ends, strict=True)
        }


def conversations(path: str, validation_fraction: float | None, seed: int) -> tuple[list[ChatRow], list[ChatRow]]:
    """Return training and held-out conversations of a source; all are for training where no fraction is given."""
    rows = list(read_chats(path))
    if validation_fraction is None or len(rows) < 2:
        return rows, []
    mask = split_documents(len(rows), validation_fraction, seed)
    return [r for r, out in zip(rows, mask, strict=True) if not out], [
        r for r, out in zip(rows, mask, strict=True) if out
    ]


def lay_out(
    parts: Sequence[tuple[str, Sequence[ChatRow]]], template: ChatTemplate, layout: Layout, what: str
) -> ChatRows:
    """Render (source, conversations) and lay them into rows, saying how much of them carries a loss.

    Raises:
        DataError: a source has a conversation that cannot be learned from, or none that fits.
    """
    place, found = pack_rows if layout.packing else pad_rows, []
    for name, rows in parts:
        laid, report = place(
            [render(row, template) for row in rows],
            layout.max_seq_len,
            on_long=layout.on_long,
            where=[row.where for row in rows],
            pad_id=layout.pad_id,
        )
        found.append(laid)
        say(
            f"{what if len(parts) == 1 else f'{what}, {name}'}: {report.num_examples:,} conversations in "
            f"{report.num_rows:,} rows{f', {report.fill:.0%} full' if layout.packing else ''}; "
            f"{report.num_supervised_tokens / max(1, report.num_tokens):.0%} of the tokens carry a loss; "
            f"{report.num_dropped + report.num_emptied} dropped, {report.num_truncated} cut"
        )
    starts = np.cumsum([0, *(rows_in(laid) for laid in found)])[:-1]
    names = tuple(name for name, _ in parts)
    packed = [laid for laid in found if isinstance(laid, Packed)]
    if packed:
        return of_packed(packed, names, tuple(starts.tolist()))
    examples = [example for laid in found if isinstance(laid, PaddedRows) for example in laid.examples]
    return ChatRows(
        PaddedRows(examples, layout.pad_id),
        names,
        tuple(starts.tolist()),
        lengths=np.array([len(ids) for ids, _ in examples]),
        conversations=np.ones(len(examples), dtype=np.int64),
        trainable=np.array([(mask[1:] != 0).sum() for _, mask in examples]),
    )


def rows_in(laid: Packed | PaddedRows) -> int:
    """Return how many rows there are."""
    return len(laid.ids) if isinstance(laid, Packed) else laid.num_rows


def of_packed(parts: Sequence[Packed], names: tuple[str, ...], starts: tuple[int, ...]) -> ChatRows:
    """Return the packed rows of several sources as one set."""
    ids, labels, segments, positions = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("ids", "labels", "segments", "positions")
    )
    return ChatRows(
        ArrayRows(Packed(ids, labels, segments, positions)),
        names,
        starts,
        lengths=np.full(len(ids), ids.shape[1]),
        conversations=segments.max(axis=1).astype(np.int64),
        trainable=(labels != IGNORED).sum(axis=1),
    )
