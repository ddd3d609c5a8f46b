"""Move a random middle of a text to its end, so that a plain decoder learns to fill gaps between two given parts.

The cuts fall between characters, before the parts are tokenized: a writer's cursor stands inside words, and a model
that only ever saw whole tokens at a border fails there. It costs encoding a text each time it is drawn, some
microseconds a token. `arrange` takes tokens, so who wants cuts between tokens calls it with slices. All of it is
predicted, the parts that are given too: the model is to remain a language model.

    text                  def add(a, b): ret|urn a + |b
    prefix first (PSM)    <P> def add(a, b): ret <S> b <M> urn a + <E>
    suffix first (SPM)    <P> <S> b <M> def add(a, b): ret urn a + <E>

Ref: Efficient Training of Language Models to Fill in the Middle, arXiv:2207.14255, 3 (the parts), 3.1 (the second form
of SPM, which shares its marks with PSM) and appendix C.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from smelt.data.corruption.example import Example, as_ids
from smelt.data.packing import Array


@dataclass(frozen=True)
class Middle:
    """Say how to rearrange: the marks, the share of texts that are, and the share of those with the suffix first."""

    prefix_id: int
    suffix_id: int
    middle_id: int
    end_id: int
    encode: Callable[[str], Sequence[int]]
    decode_bytes: Callable[[Sequence[int]], bytes]
    share: float = 0.5
    suffix_first_share: float = 0.5


def cut_text(text: str, rng: Generator) -> tuple[str, str, str]:
    """Cut a text at two places between characters, every pair of places equally likely; any part may be empty."""
    first, second = np.sort(rng.integers(0, len(text) + 1, 2)).tolist()
    return text[:first], text[first:second], text[second:]


def arrange(
    prefix: Sequence[int] | Array,
    middle: Sequence[int] | Array,
    suffix: Sequence[int] | Array,
    marks: Middle,
    suffix_first: bool,
) -> Array:
    """Lay the ids of three parts out in one of the two orders, with four marks."""
    if suffix_first:
        return as_ids(marks.prefix_id, marks.suffix_id, suffix, marks.middle_id, prefix, middle, marks.end_id)
    return as_ids(marks.prefix_id, prefix, marks.suffix_id, suffix, marks.middle_id, middle, marks.end_id)


def fill_in_the_middle(ids: Array, marks: Middle, rng: Generator, max_length: int) -> Example:
    """Return an example for the next token: of a rearranged text, or of the text as it is.

    ids (n,) are those of a text, without its end token. Bytes of a character that was cut off at either end are left
    out. What `max_length` has no room for is cut from the outer ends of prefix and suffix, the longer one first.
    """
    if rng.random() >= marks.share:
        whole = as_ids(marks.end_id, ids, marks.end_id)[: max_length + 1]
        return Example(whole[:-1], whole[1:])
    text = marks.decode_bytes(ids.tolist()).decode("utf-8", errors="ignore")
    prefix, middle, suffix = (np.asarray(marks.encode(part), dtype=np.int32) for part in cut_text(text, rng))
    excess = len(prefix) + len(middle) + len(suffix) + 5 - (max_length + 1)
    while excess > 0 and len(prefix) + len(suffix):
        if len(prefix) >= len(suffix):
            prefix = prefix[1:]
        else:
            suffix = suffix[:-1]
        excess -= 1
    suffix_first = bool(rng.random() < marks.suffix_first_share)
    whole = as_ids(marks.end_id, arrange(prefix, middle, suffix, marks, suffix_first))[: max_length + 1]
    return Example(whole[:-1], whole[1:])
