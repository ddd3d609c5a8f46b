"""Lay pairs of source and target side by side in rows, both of one length, so that few slots are padding.

A pair takes as much of its row as the longer of the two, so what fits on one side fits on the other: whole pairs go
into rows by best fit decreasing, as conversations do. Segment n of the source belongs to segment n of the target. The
decoder reads its first token and then the target, and learns the target, each token one place early:

    source [5, 6, 1], target [7, 8, 1], first token 0    ids [0, 7, 8], labels [7, 8, 1]
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from smelt.core.errors import DataError
from smelt.data.packing import IGNORED, OnLong, Packed, PackReport, best_fit_decreasing

Pair = tuple[Sequence[int], Sequence[int]]


def pack_pairs(
    pairs: Sequence[Pair],
    max_seq_len: int,
    *,
    start_id: int,
    on_long: OnLong = "error",
    where: Sequence[str] = (),
    pad_id: int = 0,
) -> tuple[Packed, PackReport]:
    """Pack (source ids, target ids) into rows of `max_seq_len` on both sides; the same input gives the same rows.

    `where` names each pair in errors. The report's fill counts the slots of both sides.

    Raises:
        DataError: no pairs, one with an empty side, or, with on_long="error", one longer than `max_seq_len`.
    """
    kept, counts = fitting_pairs(pairs, max_seq_len, on_long, where, "on one side", one_side, cut_sides)
    bins = best_fit_decreasing([max(map(len, pair)) for pair in kept], max_seq_len)
    shape = (len(bins), max_seq_len)
    empty = (pad_id, IGNORED, 0, 0, pad_id, 0)
    packed = Packed(*(np.full(shape, value, dtype=np.int32) for value in empty))
    assert packed.source is not None and packed.source_segments is not None
    for row, members in enumerate(bins):
        begin = start = 0  # in the source, in the target
        for segment, member in enumerate(members, start=1):
            source, target = kept[member]
            end, stop = begin + len(source), start + len(target)
            packed.source[row, begin:end] = source
            packed.source_segments[row, begin:end] = segment
            packed.ids[row, start:stop] = [start_id, *target[:-1]]
            packed.labels[row, start:stop] = target
            packed.segments[row, start:stop] = segment
            packed.positions[row, start:stop] = np.arange(len(target))
            begin, start = end, stop
    num_tokens = sum(len(source) + len(target) for source, target in kept)
    fill = num_tokens / (2 * len(bins) * max_seq_len)
    return packed, pack_report(len(pairs), len(bins), num_tokens, sum(len(target) for _, target in kept), counts, fill)


def pack_report(
    num_examples: int, num_rows: int, num_tokens: int, num_supervised_tokens: int, counts: Counter[str], fill: float
) -> PackReport:
    """Return the report of packed pairs; `counts` has how many were dropped and truncated."""
    return PackReport(
        num_examples=num_examples,
        num_rows=num_rows,
        num_tokens=num_tokens,
        num_supervised_tokens=num_supervised_tokens,
        num_dropped=counts["drop"],
        num_truncated=counts["truncate"],
        num_emptied=0,
        fill=fill,
    )


def one_side(source: Sequence[int], target: Sequence[int]) -> int:
    """Return the tokens of the longer side, which is what counts where both have rows of their own."""
    return max(len(source), len(target))


def cut_sides(source: Sequence[int], target: Sequence[int], max_seq_len: int) -> Pair:
    """Cut the end of each side."""
    return source[:max_seq_len], target[:max_seq_len]


def fitting_pairs(
    pairs: Sequence[Pair],
    max_seq_len: int,
    on_long: OnLong,
    where: Sequence[str],
    unit: str,
    size: Callable[[Sequence[int], Sequence[int]], int],
    cut: Callable[[Sequence[int], Sequence[int], int], Pair],
) -> tuple[list[Pair], Counter[str]]:
    """Return the pairs that go into rows, cut where that is asked for, and how many were dropped and cut.

    `size` says how many of a row's slots a pair takes, `unit` says so in words, and `cut` makes it fit. Raises
    DataError like `pack_pairs`.
    """
    kept: list[Pair] = []
    counts = Counter[str]()
    for index, pair in enumerate(pairs):
        name, length = where[index] if where else f"pair {index + 1}", size(*pair)
        if not all(pair):
            side = "target" if pair[0] else "source"
            raise DataError(f"{name}: a {side} without a token", accepted="at least one token on both sides")
        if length > max_seq_len and on_long == "error":
            raise DataError(
                f"{name}: {length:,} tokens {unit}, more than max_seq_len={max_seq_len:,}",
                fix="raise max_seq_len, or set on_long to 'truncate' or 'drop'",
            )
        if length > max_seq_len:
            counts[on_long] += 1
        if length <= max_seq_len or on_long == "truncate":
            kept.append(cut(*pair, max_seq_len))
    if not kept:
        raise DataError(
            f"no pair left of {len(pairs)}: {counts['drop']} dropped as too long",
            accepted=f"pairs of at most {max_seq_len:,} tokens {unit}",
            fix="raise max_seq_len, or add rows",
        )
    return kept, counts
