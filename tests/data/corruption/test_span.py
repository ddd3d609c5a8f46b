"""Span corruption: the published arithmetic, the example of the paper, and the way back."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from smelt.core.errors import ConfigError
from smelt.data.corruption.span import SpanCorruption, corrupt_spans, random_partition, restore_spans

SENTINELS = tuple(range(999, 899, -1))
CORRUPTION = SpanCorruption(SENTINELS, end_id=1)


def test_lengths_are_the_published_ones() -> None:
    """T5: rows of 512 read 568 tokens and have targets of 114."""
    assert CORRUPTION.num_tokens_for(512) == 568
    assert CORRUPTION.lengths(568) == (512, 114)
    assert CORRUPTION.counts(568) == (85, 28)


def reference_noise_mask(length: int, rng: np.random.Generator, density: float, mean: float) -> np.ndarray:
    """The procedure of the published code, as it is described there: shuffle marks of first items of segments."""
    num_noise = min(max(int(np.round(length * density)), 1), length - 1)
    num_spans = max(int(np.round(num_noise / mean)), 1)

    def segments(num_items: int) -> np.ndarray:
        marks = np.arange(num_items - 1) < num_spans - 1
        rng.shuffle(marks)
        return np.bincount(np.cumsum(np.concatenate([[False], marks])), minlength=num_spans)

    noise, kept = segments(num_noise), segments(length - num_noise)
    return np.repeat(np.tile([False, True], num_spans), np.stack([kept, noise], axis=1).ravel())


def hidden_mask(ids: np.ndarray, source: np.ndarray) -> np.ndarray:
    return ~np.isin(ids, source)


def test_masks_are_distributed_as_in_the_reference() -> None:
    ids = np.arange(2, 42, dtype=np.int32)
    ours = [hidden_mask(ids, corrupt_spans(ids, CORRUPTION, np.random.default_rng(i))[0]) for i in range(4000)]
    theirs = [reference_noise_mask(40, np.random.default_rng(10_000 + i), 0.15, 3.0) for i in range(4000)]
    share, expected = np.mean(ours, axis=0), np.mean(theirs, axis=0)
    assert {mask.sum() for mask in ours} == {mask.sum() for mask in theirs} == {6}
    assert abs(share - expected).max() < 5 * np.sqrt(2 * 0.5 * 0.5 / 4000)
    assert not any(mask[0] for mask in ours) and all(mask[-1] for mask in ours)


def test_partitions_are_equally_likely() -> None:
    found = [tuple(random_partition(5, 3, np.random.default_rng(i)).tolist()) for i in range(3000)]
    assert set(found) == {(1, 1, 3), (1, 3, 1), (3, 1, 1), (1, 2, 2), (2, 1, 2), (2, 2, 1)}
    assert all(abs(found.count(parts) - 500) < 120 for parts in set(found))


def test_the_example_of_the_paper() -> None:
    # thank you for inviting me to your party last week: 10 tokens, spans "for inviting" and "last week"
    corruption = SpanCorruption(SENTINELS, end_id=1, rate=0.4, mean_span_tokens=2.0)
    ids = np.arange(10, 20, dtype=np.int32)
    expected = ([10, 11, 999, 14, 15, 16, 17, 998, 1], [999, 12, 13, 998, 18, 19, 1])
    draws = (corrupt_spans(ids, corruption, np.random.default_rng(i)) for i in range(300))
    assert expected in [(source.tolist(), target.tolist()) for source, target in draws]


@given(st.integers(2, 300), st.floats(0.01, 0.9), st.floats(1.0, 10.0), st.integers(0, 2**32))
def test_nothing_is_lost(num_tokens: int, rate: float, mean: float, seed: int) -> None:
    corruption = SpanCorruption(tuple(range(9999, 9699, -1)), 1, rate, mean)
    ids = np.random.default_rng(seed).integers(2, 900, num_tokens).astype(np.int32)
    source, target = corrupt_spans(ids, corruption, np.random.default_rng(seed))
    assert (len(source), len(target)) == corruption.lengths(num_tokens)
    assert restore_spans(source, target, corruption.sentinels).tolist() == ids.tolist()


@given(st.integers(3, 600))
def test_num_tokens_is_the_most_that_fits(source_length: int) -> None:
    num_tokens = CORRUPTION.num_tokens_for(source_length)
    assert CORRUPTION.lengths(num_tokens)[0] <= source_length < CORRUPTION.lengths(num_tokens + 1)[0]


def test_too_few_sentinels_are_named() -> None:
    with pytest.raises(
        ConfigError,
        match=r"568 tokens make 28 spans, .* has 3 sentinels\n.*\ntry: raise mean_span_",
    ):
        SpanCorruption((9, 8, 7), 1).num_tokens_for(512)
    with pytest.raises(ConfigError, match="in rows of 2 tokens"):
        CORRUPTION.num_tokens_for(2)
