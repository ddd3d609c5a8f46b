"""Cut blanks into a text and let the model write what stood in them, blank by blank, each from left to right.

Part A is the text with one mask a blank, seen both ways. Part B are the spans, shuffled, so that each is written with
some of the others known and some not. A token has two positions: the place of its mask in part A, and its number
inside the span (0 in part A). Models with one position get their sum: it tells the blank and the place in it, and for a
blank at the end of the text it simply counts on.

    ids        x1 x2 x3 x4 x5 x6               blanks x3 | x5 x6, written in the order 5-6, 3
    input      x1 x2 [M] x4 [M] | <S> x5 x6 <S> x3
    label       -  -  -  -   -  |  x5 x6 <E> x3 <E>
    place       0  1  2  3   4  |   4  4  4   2  2
    inside      0  0  0  0   0  |   1  2  3   1  2
    order       0  0  0  0   0  |   1  2  3   4  5

Three ways to choose blanks: short spans ([MASK]), whole sentences ([sMASK]), and the end of the text ([gMASK]).
Ref: GLM, arXiv:2103.10360, 2.1 and 2.2; GLM-130B, arXiv:2210.02414, 2.1 (blanks at the end).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from smelt.data.corruption.example import Example, as_ids
from smelt.data.corruption.words import Flags
from smelt.data.packing import IGNORED, Array

Span = tuple[int, int]  # start and stop


@dataclass(frozen=True)
class Blanking:
    """Say what to cut out: `rate` of the tokens, in spans of `mean_span_tokens` on average or in sentences.

    `tail_share` and `sentence_share` (together at most 1) are the shares of texts of which the end, or sentences, are
    cut out.
    """

    mask_id: int
    sentence_mask_id: int
    tail_mask_id: int
    begin_id: int
    end_id: int
    sentence_ends: Flags  # (V,)
    rate: float = 0.15
    mean_span_tokens: float = 3.0
    sentence_share: float = 0.0
    tail_share: float = 0.5

    def max_spans(self, num_tokens: int) -> int:
        """Return the most blanks that a text of this length gets: half as many again as there are on average."""
        return max(1, math.ceil(num_tokens * self.slots_per_token / 2))

    @property
    def slots_per_token(self) -> float:
        """Return how many slots more than tokens a text may take for each of them, two for a blank; plus two."""
        return 2 * 1.5 * self.rate / self.mean_span_tokens


@dataclass(frozen=True)
class Blanked:
    """Hold input and labels (n,), part B behind part A, and the two positions and the order of every token."""

    ids: Array
    labels: Array
    places: Array
    inside: Array
    order: Array

    def example(self) -> Example:
        """Return it for models that know one position: the sum of both."""
        return Example(self.ids, self.labels, positions=self.places + self.inside, order=self.order)


def blank_out(ids: Array, blanking: Blanking, rng: Generator) -> Blanked:
    """Draw the way, draw the blanks of ids (n,), n at least 2, and lay both parts out."""
    way = rng.random()
    if way < blanking.tail_share:
        return lay_out([tail_span(len(ids), rng)], ids, blanking.tail_mask_id, blanking, rng)
    if way < blanking.tail_share + blanking.sentence_share:
        spans = sentence_spans(blanking.sentence_ends[ids], blanking, rng)
        return lay_out(spans, ids, blanking.sentence_mask_id, blanking, rng)
    return lay_out(short_spans(len(ids), blanking, rng), ids, blanking.mask_id, blanking, rng)


def short_spans(num_tokens: int, blanking: Blanking, rng: Generator) -> list[Span]:
    """Return spans with lengths from a Poisson distribution that hold `rate` of the tokens, none beside another."""
    budget = min(max(1, round(blanking.rate * num_tokens)), num_tokens - 1)
    lengths: list[int] = []
    while (left := budget - sum(lengths)) > 0:
        length = min(max(1, int(rng.poisson(blanking.mean_span_tokens))), left)
        lengths.append(left if len(lengths) + 1 == blanking.max_spans(num_tokens) else length)
    lengths = lengths[: num_tokens - sum(lengths) + 1]  # one kept token between any two
    kept = num_tokens - sum(lengths)
    before = np.sort(rng.choice(kept + 1, len(lengths), replace=False))  # kept tokens in front of each span
    starts = before + np.cumsum([0, *lengths[:-1]])
    return [(int(start), int(start) + length) for start, length in zip(starts, lengths, strict=True)]


def sentence_spans(ends: Flags, blanking: Blanking, rng: Generator) -> list[Span]:
    """Return whole sentences, drawn one by one until they hold `rate` of the tokens; ends (n,) marks their last tokens.

    One sentence always stays.
    """
    stops = np.unique(np.append(np.flatnonzero(ends) + 1, len(ends)))
    sentences = list(zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True))
    if len(sentences) == 1:
        return [tail_span(len(ends), rng)]
    chosen: list[Span] = []
    for number in rng.permutation(len(sentences))[: min(len(sentences) - 1, blanking.max_spans(len(ends)))]:
        chosen.append(sentences[number])
        if sum(stop - start for start, stop in chosen) >= blanking.rate * len(ends):
            break
    return sorted(chosen)


def tail_span(num_tokens: int, rng: Generator) -> Span:
    """Return the last part of a text, between half and all but one of its tokens."""
    length = int(rng.integers((num_tokens + 1) // 2, num_tokens)) if num_tokens > 2 else 1
    return num_tokens - length, num_tokens


def lay_out(spans: Sequence[Span], ids: Array, mask_id: int, blanking: Blanking, rng: Generator) -> Blanked:
    """Return part A with a mask for each span, in rising order, and part B with the spans in a random one."""
    part_a: list[object] = []
    masks, last, length = list[int](), 0, 0
    for start, stop in spans:
        part_a += [ids[last:start], mask_id]
        masks.append(length + start - last)
        length += start - last + 1
        last = stop
    corrupted = as_ids(*part_a, ids[last:])
    inputs, labels = [corrupted], [np.full(len(corrupted), IGNORED, dtype=np.int32)]
    places, inside = [np.arange(len(corrupted))], [np.zeros(len(corrupted), dtype=np.int64)]
    for number in rng.permutation(len(spans)).tolist():
        span = ids[slice(*spans[number])]
        inputs.append(as_ids(blanking.begin_id, span))
        labels.append(as_ids(span, blanking.end_id))
        places.append(np.full(len(span) + 1, masks[number]))
        inside.append(np.arange(1, len(span) + 2))
    num_written = sum(map(len, inputs[1:]))
    order = as_ids(np.zeros(len(corrupted)), np.arange(1, num_written + 1))
    return Blanked(as_ids(*inputs), as_ids(*labels), as_ids(*places), as_ids(*inside), order)


def restore_blanks(blanked: Blanked) -> Array:
    """Write every span back over its mask: the text as it was."""
    written = blanked.order > 0
    spans: dict[int, list[int]] = {}
    for place, label in zip(blanked.places[written].tolist(), blanked.labels[written].tolist(), strict=True):
        spans.setdefault(place, []).append(label)
    corrupted = blanked.ids[~written].tolist()
    return as_ids(*(spans[place][:-1] if place in spans else token for place, token in enumerate(corrupted)))
