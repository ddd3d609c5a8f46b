"""Cut random spans out of a text; an encoder reads what is left, a decoder writes what is missing (span corruption).

How many tokens are hidden and in how many spans is fixed by the length; where they lie is a uniformly random way to cut
the hidden and the kept tokens into as many pieces each, laid out in turn, a kept one first. So every row of inputs and
every row of targets has one length, and nothing is padding.

    ids     thank you for inviting me to your party last week
    source  thank you <X> me to your party <Y> </s>             <X>, <Y>: sentinels in order
    target  <X> for inviting <Y> last week </s>

Ref: T5, arXiv:1910.10683, 3.1.4 and 3.3.4; the arithmetic is that of random_spans_noise_mask in its code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from smelt.core.errors import ConfigError
from smelt.data.corruption.example import as_ids
from smelt.data.packing import Array


@dataclass(frozen=True)
class SpanCorruption:
    """Say what to hide: `rate` (0 to 1) of the tokens, in spans of `mean_span_tokens` on average."""

    sentinels: tuple[int, ...]
    end_id: int
    rate: float = 0.15
    mean_span_tokens: float = 3.0

    def counts(self, num_tokens: int) -> tuple[int, int]:
        """Return how many of `num_tokens` (2 or more) are hidden, and in how many spans."""
        num_hidden = min(max(round(num_tokens * self.rate), 1), num_tokens - 1)
        num_spans = max(round(num_hidden / self.mean_span_tokens), 1)
        return num_hidden, min(num_spans, num_hidden, num_tokens - num_hidden)

    def lengths(self, num_tokens: int) -> tuple[int, int]:
        """Return the lengths of source and target, a sentinel a span and the end token included."""
        num_hidden, num_spans = self.counts(num_tokens)
        return num_tokens - num_hidden + num_spans + 1, num_hidden + num_spans + 1

    def num_tokens_for(self, source_length: int) -> int:
        """Return the most tokens of text whose source has `source_length` tokens or fewer: 512 -> 568.

        Raises:
            ConfigError: the tokenizer has too few sentinels for so long a text, or the source is too short for any.
        """
        if source_length < self.lengths(2)[0]:
            raise ConfigError(
                f"span corruption in rows of {source_length} tokens", accepted=f"{self.lengths(2)[0]} or more"
            )
        num_tokens = 2
        while self.lengths(num_tokens + 1)[0] <= source_length:
            num_tokens += 1
        needed = self.counts(num_tokens)[1]
        if needed > len(self.sentinels):
            raise ConfigError(
                f"{num_tokens} tokens make {needed} spans, but the tokenizer has {len(self.sentinels)} sentinels",
                accepted="a sentinel for every span",
                fix="raise mean_span_tokens, or lower max_seq_len",
            )
        return num_tokens


def corrupt_spans(ids: Array, corruption: SpanCorruption, rng: Generator) -> tuple[Array, Array]:
    """Return source and target for ids (n,), n at least 2; their lengths are those of `lengths`."""
    num_hidden, num_spans = corruption.counts(len(ids))
    kept = random_partition(len(ids) - num_hidden, num_spans, rng)
    hidden = random_partition(num_hidden, num_spans, rng)
    pieces = np.split(ids, np.cumsum(np.stack([kept, hidden], axis=1).ravel())[:-1])  # kept, hidden, kept, ...
    sentinels = corruption.sentinels
    source = [part for number in range(num_spans) for part in (pieces[2 * number], sentinels[number])]
    target = [part for number in range(num_spans) for part in (sentinels[number], pieces[2 * number + 1])]
    return as_ids(*source, corruption.end_id), as_ids(*target, corruption.end_id)


def random_partition(total: int, num_parts: int, rng: Generator) -> NDArray[np.int64]:
    """Cut `total` into `num_parts` positive numbers, every way to do so equally likely: (5, 2) -> [4, 1]."""
    cuts = np.sort(rng.choice(total - 1, num_parts - 1, replace=False)) + 1
    return np.diff(cuts, prepend=0, append=total)


def restore_spans(source: Array, target: Array, sentinels: Sequence[int]) -> Array:
    """Put the spans of a target back into their source: what was corrupted, without its end token."""
    found = np.flatnonzero(np.isin(target[:-1], sentinels))
    spans = {int(target[at]): part[1:] for at, part in zip(found, np.split(target[:-1], found)[1:], strict=True)}
    return as_ids(*(spans.get(token, token) for token in source[:-1].tolist()))
